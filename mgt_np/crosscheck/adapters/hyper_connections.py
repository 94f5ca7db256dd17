"""The package hyper-connections 0.4: its HC, mHC and mHCv2, each with the branch put in.

HC and mHC keep the streams in the batch axis, ((batch · streams), …, features); mHCv2 has them
before the features. All store the gain of their norm less 1, and have the matrix that mixes the
streams as (from, to). mHC and mHCv2 compute their coefficients in float32, whatever they are given.
"""

import dataclasses
from functools import partial

from mgt_np.arrays import array_namespace
from mgt_np.crosscheck.contract import SUBLAYER
from mgt_np.layers import (
    MHC_CONVENTIONS,
    hyper_connection_coefficients,
    mhc_coefficients,
    mhc_read,
    mhc_update,
)

from .running import beside_live, beside_recorded, generator, random_copy
from .sources import as_float64, expect, is_live, options_of, size, state_of

NAME = "hyper_connections"
DEFAULTS = {"tanh": True, "sinkhorn_iters": 20, "log_domain_sinkhorn": False}
OF_LOGARITHMS = "log_domain_sinkhorn_knopps"  # the package's other iteration
BRANCH = "branch."  # the sub-layer's own weights


def parameters(source, **options):
    """Return the kind, "hyper_connection" or "mhc_connection", its options, and its weights.

    options: tanh (HC), sinkhorn_iters and log_domain_sinkhorn (mHC), for a state_dict. Of a module
    whose mix is another function than the package's, sinkhorn_iters is 20 unless given.
    """
    options = _options(source, options)
    state = _state(source)
    which, _, _ = _refuse(state)
    if which == "HC":
        return "hyper_connection", {"norm": "rms", "tanh": options["tanh"]}, params_of(state)
    return "mhc_connection", {"convention": _convention(options)}, params_of(state)


def reference(source, residuals, branch=SUBLAYER, **options):
    """Return the streams after a branch, a function of NumPy arrays, in the module's own layout."""
    options = _options(source, options)
    state = _state(source)
    which, n, _ = _refuse(state)
    residuals = _residuals(residuals, which, n)
    arrays = state | {"residuals": residuals}
    return _forward(arrays, options, which, n, branch)["y"]


def check(source, rng=None, *, residuals=None, branch=SUBLAYER, recorded=None, R=None, **options):
    """Return an `Adapted`: the streams y, what the branch reads (branch_input), all gradients.

    A live module is called with random weights in a copy, where a function that is not linear
    stands for its branch; of a state_dict, `recorded` holds y and "grad.residuals", … of Σ R · y
    for that `branch`. Streams that are not given are drawn.
    """
    rng = generator(rng)
    live = is_live(source)
    options = _options(source, options)
    if live:
        source, branch = _copy(source, rng), SUBLAYER
    state = _state(source)
    which, n, d = _refuse(state)
    if residuals is None:
        residuals = rng.standard_normal((2, 5, n, d) if which == "mHCv2" else (2 * n, 5, d))
    inputs = {"residuals": _residuals(residuals, which, n)}
    forward = partial(_forward, options=options, which=which, n=n, branch=branch)
    if live:
        return beside_live(forward, source, _call, inputs, rng)
    return beside_recorded(NAME, forward, state, inputs, recorded, R)


def params_of(w):
    """Return the weights of `hyper_connection` or of `mhc_coefficients` of a state_dict."""
    xp = array_namespace(w["static_alpha"])
    n, d = w["static_alpha"].shape[0], w["norm.gamma"].shape[0]
    fn = xp.reshape(w["dynamic_alpha_fn"], (d, n + 1))
    to_beta = xp.reshape(w["dynamic_beta_fn"], (d, 1))
    static = w["static_alpha"][:, 0], w["static_alpha"][:, 1:]
    b_post = xp.reshape(w["static_beta"], (n,))
    gain = w["norm.gamma"] + 1.0
    if "dynamic_alpha_scale" in w:
        return {
            "A_m": static[0],
            "A_r": static[1],
            "B": b_post,
            "W_m": fn[:, :1],
            "W_r": fn[:, 1:],
            "W_beta": to_beta,
            "s_alpha": w["dynamic_alpha_scale"],
            "s_beta": w["dynamic_beta_scale"],
            "gain": gain,
        }
    return {
        "phi_pre": fn[:, :1],
        "phi_post": to_beta,
        "phi_res": fn[:, 1:],
        "b_pre": static[0],
        "b_post": b_post,
        "b_res": static[1],
        "alpha_pre": w["pre_branch_scale"],
        "alpha_post": w["h_post_scale"],
        "alpha_res": w["residual_scale"],
        "gain": gain,
    }


def _state(source):
    state = state_of(NAME, source)
    return {name: x for name, x in state.items() if not name.startswith(BRANCH)}


def _refuse(state):
    """Refuse wrong entries; return which layer it is, the numbers of streams and of features."""
    n = size(NAME, state, "static_alpha", 2, 0)
    d = size(NAME, state, "norm.gamma", 1, 0)
    shapes = {"static_alpha": (n, n + 1), "static_beta": (n,), "norm.gamma": (d,)}
    scales = {"dynamic_alpha_scale": (), "dynamic_beta_scale": ()}
    if scales.keys() & state.keys():
        which = "HC"
        shapes |= {"dynamic_alpha_fn": (d, n + 1), "dynamic_beta_fn": (d,)}
    else:
        which = "mHC"
        scales = {"pre_branch_scale": (1,), "residual_scale": (1,), "h_post_scale": ()}
        shapes |= {"dynamic_alpha_fn": (1, d, n + 1), "dynamic_beta_fn": (d,)}
        if "static_beta" in state and state["static_beta"].ndim == 3:
            which = "mHCv2"
            shapes |= {"static_beta": (n, 1, 1), "dynamic_beta_fn": (d, 1)}
    expect(NAME, state, shapes | scales)
    return which, n, d


def _options(source, given):
    found = _options_of_module(source) if is_live(source) else {}
    options = options_of(NAME, DEFAULTS, found, given)
    if options["sinkhorn_iters"] < 1:
        raise ValueError(
            f"{NAME}: expected sinkhorn_iters of at least 1, got {options['sinkhorn_iters']}"
        )
    return options


def _options_of_module(module):
    """What a module says of itself; refuse what our layers have not."""
    plain = {
        "num_fracs": 1,
        "num_input_views": 1,
        "num_dynamic_alpha_proposals": 1,
        "channel_first": False,
        "add_branch_out_to_residual": True,
        "maybe_mix_streams": None,
    }
    for name, value in plain.items():
        got = getattr(module, name, value)
        if got != value:
            raise ValueError(f"{NAME}: expected a module with {name}={value}, got {got}")
    transform = type(getattr(module, "residual_transform", None)).__name__
    if transform not in ("Identity", "NoneType"):
        raise ValueError(f"{NAME}: expected no residual_transform, got {transform}")
    if hasattr(module, "act"):
        return {"tanh": type(module.act).__name__ != "Identity"}
    mix = getattr(module, "residual_mix_constraint_fn", None)
    function = getattr(mix, "func", None)  # of a functools.partial
    found = {"log_domain_sinkhorn": getattr(function, "__name__", None) == OF_LOGARITHMS}
    iters = getattr(mix, "keywords", {}).get("iters")
    return found if iters is None else found | {"sinkhorn_iters": iters}


def _convention(options):
    name = "lucidrains-log" if options["log_domain_sinkhorn"] else "lucidrains"
    return dataclasses.replace(MHC_CONVENTIONS[name], n_iters=options["sinkhorn_iters"])


def _residuals(residuals, which, n):
    residuals = as_float64(NAME, "residuals", residuals)
    shape = residuals.shape
    if which == "mHCv2":
        if len(shape) < 2 or shape[-2] != n:
            raise ValueError(f"{NAME}: expected residuals (…, {n}, features), got shape {shape}")
    elif len(shape) < 2 or shape[0] % n:
        raise ValueError(
            f"{NAME}: expected residuals (batch · {n}, …, features), got shape {shape}"
        )
    return residuals


def _forward(arrays, options, which, n, branch):
    params, x = params_of(arrays), arrays["residuals"]
    xp = array_namespace(x)
    X = x
    if which != "mHCv2":
        X = xp.moveaxis(xp.reshape(x, (x.shape[0] // n, n, *x.shape[1:])), 1, -2)
    if which == "HC":
        found = hyper_connection_coefficients(X, params, norm="rms", tanh=options["tanh"])
    else:
        found = mhc_coefficients(X, params, convention=_convention(options))
    H_pre, H_post, H_res = found
    u = mhc_read(X, H_pre)
    y = mhc_update(X, branch(u), H_post, H_res)
    if which != "mHCv2":
        y = xp.reshape(xp.moveaxis(y, -2, 1), x.shape)
    return {"y": y, "branch_input": u}


def _copy(module, rng):
    """A copy with random weights, and `SUBLAYER` for its branch, which keeps what it reads."""
    import torch

    class Branch(torch.nn.Module):
        def forward(self, x):
            self.read = x
            return SUBLAYER(x)

    branch = Branch()
    old = getattr(module, "branch", None)
    module = random_copy(NAME, module, rng, {} if old is None else {id(old): branch})
    module.branch = branch
    return module


def _call(module, tensors):
    y = module(tensors["residuals"])
    return {"y": y, "branch_input": module.branch.read}
