"""The official Deep Delta layers, for states that are vectors (vdim1) and matrices (expanded).

Weights are stored (out, in). The direction is the sub-layer's output k_in, and the gate reads the
context. The value reads the state x itself, or, for an expanded state, an input of its own, v_in.
"""

from functools import partial

from mgt_np.arrays import array_namespace
from mgt_np.layers import deep_delta_expanded, deep_delta_residual

from .running import beside_live, beside_recorded, generator, random_copy
from .sources import as_float64, expect, is_live, options_of, size, state_of

NAME = "ddl"
DEFAULTS = {"ddl_k_eps": 1e-5, "ddl_v_sigmoid": True, "ddl_v_constant": False}
WEIGHTS = {
    "v_proj.weight": "W_v",
    "v_proj.bias": "b_v",
    "beta.weight": "W_beta",
    "beta.bias": "b_beta",
    "beta_out.weight": "W_beta",
    "beta_out.bias": "b_beta",
    "beta_in.weight": "W_hidden",
}


def parameters(source, **options):
    """Return the kind, "deep_delta_residual" or "deep_delta_expanded", its options and weights.

    options: ddl_k_eps, ddl_v_sigmoid and ddl_v_constant (the value 2), for a state_dict. A value
    of one channel is that of a state of vectors, as the authors' expanded layer has two or more.
    """
    options = _options(source, options)
    state = state_of(NAME, source)
    _, d_v = _refuse(state)
    kind = "deep_delta_residual" if d_v == 1 else "deep_delta_expanded"
    return kind, _ours(options), params_of(state)


def reference(source, x, *, k_in, context, v_in=None, **options):
    """Return the state after the update: x (…, d), or x (…, d, d_v) with v_in."""
    options = _options(source, options)
    state = state_of(NAME, source)
    d, d_v = _refuse(state)
    inputs = _inputs({"x": x, "k_in": k_in, "context": context, "v_in": v_in}, d, d_v)
    return _forward(state | inputs, options)["y"]


def check(
    source,
    rng=None,
    *,
    x=None,
    k_in=None,
    context=None,
    v_in=None,
    recorded=None,
    R=None,
    **options,
):
    """Return an `Adapted`: the state y, and all gradients.

    A live module is called with random weights in a copy; of a state_dict, `recorded` holds y and
    "grad.x", "grad.beta.weight", … of Σ R · y. Inputs that are not given are drawn.
    """
    rng = generator(rng)
    live = is_live(source)
    options = _options(source, options)
    source = random_copy(NAME, source, rng) if live else source
    state = state_of(NAME, source)
    d, d_v = _refuse(state)
    given = {"x": x, "k_in": k_in, "context": context, "v_in": v_in}
    for name, shape in _shapes((2, 5), d, d_v).items():
        if given[name] is None:
            given[name] = rng.standard_normal(shape)
    inputs = _inputs(given, d, d_v)
    forward = partial(_forward, options=options)
    if live:
        return beside_live(forward, source, _call, inputs, rng)
    return beside_recorded(NAME, forward, state, inputs, recorded, R)


def params_of(w):
    """Return the weights of `deep_delta_residual` or `deep_delta_expanded` of a state_dict."""
    xp = array_namespace(*w.values())
    return {
        WEIGHTS[name]: xp.matrix_transpose(x) if name.endswith("weight") else x
        for name, x in w.items()
    }


def _ours(options):
    form = "sigmoid4" if options["ddl_v_sigmoid"] else "linear"
    form = "constant" if options["ddl_v_constant"] else form
    return {"v_form": form, "eps": options["ddl_k_eps"]}


def _options(source, given):
    found = {}
    if is_live(source):
        fixed = {"v_sigmoid_scale": 4.0, "v_constant_value": 2.0, "residual_branch_mult": 1.0}
        for name, value in fixed.items():
            got = getattr(source, name, value)
            if got != value:
                raise ValueError(f"{NAME}: expected a module with {name}={value}, got {got}")
        found = {
            f"ddl_{name}": getattr(source, name)
            for name in ("k_eps", "v_sigmoid", "v_constant")
            if hasattr(source, name)
        }
    return options_of(NAME, DEFAULTS, found, given)


def _refuse(state):
    """Refuse wrong entries; return the numbers of features and of value channels."""
    d_v, d = (size(NAME, state, "v_proj.weight", 2, axis) for axis in (0, 1))
    shapes = {"v_proj.weight": (d_v, d), "v_proj.bias": (d_v,)}
    if "beta_in.weight" in state:
        h = size(NAME, state, "beta_in.weight", 2, 0)
        shapes |= {"beta_in.weight": (h, d), "beta_out.weight": (1, h), "beta_out.bias": (1,)}
    else:
        shapes |= {"beta.weight": (1, d), "beta.bias": (1,)}
    expect(NAME, state, shapes)
    return d, d_v


def _shapes(leading, d, d_v):
    names = ("k_in", "context") if d_v == 1 else ("k_in", "context", "v_in")
    state = (*leading, d) if d_v == 1 else (*leading, d, d_v)
    return {"x": state} | dict.fromkeys(names, (*leading, d))


def _inputs(given, d, d_v):
    inputs = {name: as_float64(NAME, name, x) for name, x in given.items() if x is not None}
    x = inputs["x"]
    shapes = _shapes(x.shape[: -1 if d_v == 1 else -2], d, d_v)
    wrong = [name for name in shapes.keys() ^ inputs.keys()]
    wrong += [n for n in shapes if n in inputs and inputs[n].shape != shapes[n]]
    if wrong:
        got = ", ".join(f"{name} {x.shape}" for name, x in inputs.items())
        expected = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{NAME}: expected {expected}, got {got}")
    return inputs


def _forward(arrays, options):
    params = params_of({name: x for name, x in arrays.items() if name in WEIGHTS})
    reads = _ours(options) | {"context": arrays["context"], "v_input": arrays.get("v_in")}
    layer = deep_delta_expanded if "v_in" in arrays else deep_delta_residual
    return {"y": layer(arrays["x"], arrays["k_in"], **params, **reads)}


def _call(module, tensors):
    rest = {name: x for name, x in tensors.items() if name != "x"}
    return {"y": module(tensors["x"], **rest)}
