"""DeepSeek-V4's hyper-connection as Hugging Face has it, and the head that reads the streams out.

One matrix `fn`, one `base` and one `scale` hold all three parts, in the order pre, post, res, and
`fn` is stored (out, in). The module returns post, comb and what the sub-layer reads (collapsed);
comb is H_res transposed. DeepSeek's TileKernels have the same weights, and a norm's gain beside.
"""

import dataclasses
import math
from functools import partial

from mgt_np.arrays import array_namespace
from mgt_np.layers import (
    MHC_CONVENTIONS,
    linear,
    mhc_coefficients,
    mhc_read,
    mhc_read_coefficients,
    mhc_update,
)

from .running import beside_live, beside_recorded, generator, only, random_copy
from .sources import as_float64, expect, is_live, options_of, size, state_of

NAME = "deepseek_v4"
DEFAULTS = {
    "hc_sinkhorn_iters": 20,
    "hc_eps": 1e-6,
    "rms_norm_eps": 1e-6,
    "post_mult_value": 2.0,
}


def parameters(source, **options):
    """Return the kind, "mhc_connection" or "mhc_read_coefficients" (a head), options and weights.

    options: hc_sinkhorn_iters, hc_eps, rms_norm_eps and TileKernels' post_mult_value, for a
    state_dict.
    """
    options = _options(source, options)
    state = state_of(NAME, source)
    _refuse(state)
    kind = "mhc_read_coefficients" if _is_head(state) else "mhc_connection"
    return kind, {"convention": convention_of(options)}, params_of(state)


def reference(source, hidden_streams, branch=None, **options):
    """Return post, comb and collapsed, as the module does; of a head, collapsed.

    With a `branch`, a function of NumPy arrays, return the streams after it instead.
    """
    options = _options(source, options)
    state = state_of(NAME, source)
    n, d = _refuse(state)
    arrays = state | {"hidden_streams": _streams(hidden_streams, n, d)}
    made = _forward(arrays, options, branch)
    if _is_head(state):
        return made["collapsed"]
    return made["y"] if "y" in made else (made["post"], made["comb"], made["collapsed"])


def check(source, rng=None, *, hidden_streams=None, branch=None, recorded=None, R=None, **options):
    """Return an `Adapted`: post, comb, collapsed, and all gradients.

    A live module is called with random weights in a copy; of a state_dict, `recorded` holds these
    and y, the streams after the branch, with "grad.hidden_streams", "grad.fn", … of Σ R · y. The
    branch is a function of NumPy arrays, or linear if the state_dict has branch.weight. Of a head,
    y is what it reads out. Streams that are not given are drawn.
    """
    rng = generator(rng)
    live = is_live(source)
    options = _options(source, options)
    source = random_copy(NAME, source, rng) if live else source
    state = state_of(NAME, source)
    n, d = _refuse(state)
    if hidden_streams is None:
        hidden_streams = rng.standard_normal((2, 5, n, d))
    inputs = {"hidden_streams": _streams(hidden_streams, n, d)}
    forward = partial(_forward, options=options, branch=branch)
    if live:
        names = ("collapsed",) if _is_head(state) else ("post", "comb", "collapsed")
        forward = partial(only, names, forward)
        return beside_live(forward, source, partial(_call, names=names), inputs, rng)
    return beside_recorded(NAME, forward, state, inputs, recorded, R)


def params_of(w):
    """Return the weights of `mhc_coefficients`, or of `mhc_read_coefficients`, of a state_dict."""
    xp = array_namespace(*w.values())
    if _is_head(w):
        return {
            "phi_pre": xp.matrix_transpose(w["hc_fn"]),
            "b_pre": w["hc_base"],
            "alpha_pre": w["hc_scale"],
        }
    phi, n = xp.matrix_transpose(w["fn"]), _n_streams(w["base"].shape[0])
    params = {}
    for i, (part, place) in enumerate(
        {"pre": slice(n), "post": slice(n, 2 * n), "res": slice(2 * n, None)}.items()
    ):
        params[f"phi_{part}"] = phi[:, place]
        params[f"b_{part}"] = w["base"][place]
        params[f"alpha_{part}"] = w["scale"][i : i + 1]
    params["b_res"] = xp.reshape(params["b_res"], (n, n))
    return params | ({"gain": w["norm_weight"]} if "norm_weight" in w else {})


def convention_of(options):
    """Return the row of `MHC_CONVENTIONS` that the options make."""
    return dataclasses.replace(
        MHC_CONVENTIONS["deepseek-v4"],
        n_iters=options["hc_sinkhorn_iters"],
        eps=options["hc_eps"],
        pre_eps=options["hc_eps"],
        norm_eps=options["rms_norm_eps"],
        post_scale=options["post_mult_value"],
    )


def _is_head(w):
    return "hc_fn" in w


def _n_streams(length):
    """n of the (2 + n) n entries of `base`."""
    return math.isqrt(length + 1) - 1


def _refuse(state):
    """Refuse wrong entries; return the numbers of streams and of features."""
    if _is_head(state):
        n, rows = (size(NAME, state, "hc_fn", 2, axis) for axis in (0, 1))
        shapes, optional = {"hc_fn": (n, rows), "hc_base": (n,), "hc_scale": (1,)}, ()
    else:
        length, rows = size(NAME, state, "base", 1, 0), size(NAME, state, "fn", 2, 1)
        n = _n_streams(length)
        if length < 3 or (2 + n) * n != length:
            raise ValueError(
                f"{NAME}: expected base of (2 + n) n entries for n streams, got {length}"
            )
        shapes = {"fn": (length, rows), "base": (length,), "scale": (3,), "norm_weight": (rows,)}
        optional = ["norm_weight"]
        if "branch.weight" in state:
            shapes["branch.weight"] = (rows // n, rows // n)
            shapes["branch.bias"] = (rows // n,)
            optional.append("branch.bias")
    if rows % n:
        raise ValueError(f"{NAME}: expected fn with n·d columns for n = {n} streams, got {rows}")
    expect(NAME, state, shapes, optional)
    return n, rows // n


def _options(source, given):
    found = {}
    if is_live(source):
        norm = getattr(source, "input_norm", None)
        for name, value in (
            ("hc_sinkhorn_iters", getattr(source, "hc_sinkhorn_iters", None)),
            ("hc_eps", getattr(source, "hc_eps", getattr(source, "eps", None))),
            ("rms_norm_eps", getattr(norm, "eps", None)),
        ):
            if value is not None:
                found[name] = value
    return options_of(NAME, DEFAULTS, found, given)


def _streams(hidden_streams, n, d):
    hidden_streams = as_float64(NAME, "hidden_streams", hidden_streams)
    if hidden_streams.shape[-2:] != (n, d):
        raise ValueError(
            f"{NAME}: expected hidden_streams (…, {n}, {d}), got shape {hidden_streams.shape}"
        )
    return hidden_streams


def _forward(arrays, options, branch):
    X, row = arrays["hidden_streams"], convention_of(options)
    weights = {name: x for name, x in arrays.items() if name != "hidden_streams"}
    params = params_of(weights)
    if _is_head(weights):
        u = mhc_read(X, mhc_read_coefficients(X, params, convention=row))
        return {"collapsed": u, "y": u}
    H_pre, H_post, H_res = mhc_coefficients(X, params, convention=row)
    u, xp = mhc_read(X, H_pre), array_namespace(X)
    made = {"post": H_post, "comb": xp.matrix_transpose(H_res), "collapsed": u}
    if branch is None and "branch.weight" in weights:
        W = xp.matrix_transpose(weights["branch.weight"])
        branch = partial(linear, W=W, b=weights.get("branch.bias"))
    return made if branch is None else made | {"y": mhc_update(X, branch(u), H_post, H_res)}


def _call(module, tensors, names):
    made = module(tensors["hidden_streams"])
    return dict(zip(names, made if isinstance(made, tuple) else (made,), strict=True))
