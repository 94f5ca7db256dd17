"""flash-linear-attention's delta rules: (batch, tokens, heads, features), queries scaled.

Its functions have no weights, so that the source is a function of tensors, or its arguments as a
dict of arrays: q, k, v, beta, the gate g (the logarithm of the decay), initial_state. Several steps
a token (DeltaProduct) are as many rows of k, v and beta, one after the other.
"""

import inspect
from collections.abc import Mapping
from functools import partial

from mgt_np.arrays import array_namespace
from mgt_np.layers import delta_rule, unit_direction

from .running import beside_live, beside_recorded, generator, only
from .sources import as_float64, expect, options_of, size

NAME = "fla"
DEFAULTS = {"scale": "default", "num_householder": 1, "use_qk_l2norm_in_kernel": False}
ARRAYS = ("q", "k", "v", "beta", "g", "initial_state")
OPTIONAL = ("g", "initial_state")


def parameters(source, **options):
    """Return ("delta_rule", its options, its arrays in our layout) of a dict of arguments.

    options: scale (1/√(features of k) by default, or None), num_householder (steps a token), and
    use_qk_l2norm_in_kernel, which makes unit vectors of q and k.
    """
    options = options_of(NAME, DEFAULTS, {}, _named(options))
    arrays = _arrays(source, options)
    return "delta_rule", {"scale": _scale(arrays, options)}, params_of(arrays, options)


def reference(source, **options):
    """Return the outputs, and the last state, for a dict of arguments in fla's layout."""
    options = options_of(NAME, DEFAULTS, {}, _named(options))
    made = _forward(_arrays(source, options), options)
    return made["y"], made["final_state"]


def check(source, rng=None, *, recorded=None, R=None, **arguments):
    """Return an `Adapted`: the outputs y, the final_state if there is one, and all gradients.

    A function is called with what it has arguments for; of a dict of arguments, `recorded` holds y
    and "grad.q", "grad.beta", … of Σ R · y. Arguments that are not given are drawn.
    """
    rng = generator(rng)
    given = {name: x for name, x in arguments.items() if name in ARRAYS and x is not None}
    options = {name: x for name, x in arguments.items() if name not in ARRAYS}
    options = options_of(NAME, DEFAULTS, {}, _named(options))
    forward = partial(_forward, options=options)
    if isinstance(source, Mapping):
        arrays = _arrays(source, options)
        return beside_recorded(NAME, forward, {}, arrays, recorded, R)
    if not callable(source):
        kind = type(source).__name__
        raise ValueError(f"{NAME}: expected a function or a dict of its arguments, got {kind}")
    accepted = inspect.signature(source).parameters
    arrays = _arrays(given or _drawn(rng, accepted, options["num_householder"]), options)
    function = partial(source, **_settings(accepted, options))
    names = tuple(_call(function, {name: _tensor(x) for name, x in arrays.items()}))
    return beside_live(partial(only, names, forward), function, _call, arrays, rng)


def params_of(arrays, options):
    """Return the arrays of `delta_rule`: heads before tokens, steps behind them."""
    xp, n = array_namespace(*arrays.values()), options["num_householder"]

    def heads_first(x):
        return xp.moveaxis(x, 2, 1)

    def with_steps(x):
        if n > 1:
            x = xp.reshape(x, (x.shape[0], x.shape[1] // n, n, *x.shape[2:]))
            return xp.moveaxis(x, 3, 1)
        return heads_first(x)

    q, k = arrays["q"], arrays["k"]
    if options["use_qk_l2norm_in_kernel"]:  # x/√(‖x‖² + 1e-6)
        q, k = unit_direction(q, eps=1e-3), unit_direction(k, eps=1e-3)
    params = {"q": heads_first(q), "k": with_steps(k)}
    params |= {name: with_steps(arrays[name]) for name in ("v", "beta")}
    if "g" in arrays:
        params["log_alpha"] = heads_first(arrays["g"])
    if "initial_state" in arrays:
        params["initial_state"] = arrays["initial_state"]
    return params


def _named(options):
    """Options with fla's own word for its default scale."""
    return options | ({"scale": "default"} if options.get("scale", "") is None else {})


def _scale(arrays, options):
    scale = options["scale"]
    return arrays["q"].shape[-1] ** -0.5 if scale == "default" else float(scale)


def _arrays(source, options):
    """The arguments as float64, refused where a shape does not fit."""
    if not isinstance(source, Mapping):
        kind = type(source).__name__
        raise ValueError(f"{NAME}: expected a dict of arguments, got {kind}")
    arrays = {name: as_float64(NAME, name, x) for name, x in source.items() if x is not None}
    B, T, H, K = (size(NAME, arrays, "q", 4, axis) for axis in range(4))
    V, rows = size(NAME, arrays, "v", 4, 3), T * options["num_householder"]
    shapes = {"q": (B, T, H, K), "k": (B, rows, H, K), "v": (B, rows, H, V), "beta": (B, rows, H)}
    shapes |= {"g": (B, T, H), "initial_state": (B, H, K, V)}
    expect(NAME, arrays, shapes, OPTIONAL)
    return arrays


def _drawn(rng, accepted, n):
    """Unit keys, β in (0, 1), decays between e⁻¹ and 1; those arguments that a function has."""
    B, T, H, K, V = 2, 7, 3, 4, 5
    arrays = {
        "q": rng.standard_normal((B, T, H, K)),
        "k": rng.standard_normal((B, T * n, H, K)),
        "v": rng.standard_normal((B, T * n, H, V)),
        "beta": rng.uniform(0.0, 1.0, (B, T * n, H)),
        "g": -rng.uniform(0.0, 1.0, (B, T, H)),
        "initial_state": rng.standard_normal((B, H, K, V)),
    }
    arrays["k"] = unit_direction(arrays["k"], eps=0.0)
    return {name: x for name, x in arrays.items() if name in accepted or name not in OPTIONAL}


def _forward(arrays, options):
    params, xp = params_of(arrays, options), array_namespace(*arrays.values())
    o, S = delta_rule(**params, scale=_scale(arrays, options), with_state=True)
    return {"y": xp.moveaxis(o, 1, 2), "final_state": S}


def _settings(accepted, options):
    """The options that a function has arguments for; refuse one that it has not."""
    unheard = [n for n, x in options.items() if n not in accepted and x != DEFAULTS[n]]
    if unheard:
        raise ValueError(f"{NAME}: expected a function with the argument {unheard[0]}, got none")
    settings = options | {"output_final_state": True, "cu_seqlens": None}
    if settings["scale"] == "default":
        settings["scale"] = None
    return {name: x for name, x in settings.items() if name in accepted}


def _call(function, tensors):
    """The outputs by name, and the last state if there is one."""
    made = function(**tensors)
    made = made if isinstance(made, tuple) else (made,)
    named = zip(("y", "final_state"), made, strict=False)
    return {name: y for name, y in named if y is not None}


def _tensor(x):
    import torch

    return torch.tensor(x)
