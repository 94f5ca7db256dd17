"""The wrong and right layers of `wrong.attention` and `wrong.mgt` are what they say."""

import zlib

import numpy as np
import pytest

from mgt_np.crosscheck.contract import CONTRACT, arguments

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from .wrong import attention, mgt  # noqa: E402

RIGHT = attention.RIGHT + mgt.RIGHT
WRONG = attention.WRONG + mgt.WRONG
IN_GRADIENT = [one for one in WRONG if one.gradient_only]
B, N, M, D, D_V = 2, 4, 5, 6, 3
TOKENS, NONE = (B, N, D), {}


def normals(rng, **shapes):
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def masks(rng):
    """A mask for all, and one for each batch element, which leaves a query without keys."""
    shared, each = rng.random((N, M)) < 0.6, rng.random((B, N, M)) < 0.6
    shared[:, 1] = each[..., 0] = True
    each[1, 2] = False
    return shared, each


def softmax(rng):
    x = rng.standard_normal((B, 3, N))
    for scale, offset in ((1.0, 0.0), (4.0, 1000.0), (1.0, -30.0)):
        yield {"x": scale * x + offset}, NONE
    yield {"x": x[0, 0]}, NONE
    yield {"x": x}, {"axis": 1}


def layer_norm(rng):
    for shape in (TOKENS, (3, 3, 3), (B, 2, 33), (D,)):
        yield normals(rng, x=shape, gain=shape[-1], bias=shape[-1]), NONE
    for scale in (3e-3, 1e-5):
        yield {"x": scale * rng.standard_normal(TOKENS)}, NONE


def scaled_dot_product_attention(rng):
    shared, each = masks(rng)
    options = [NONE, {"mask": shared}, {"mask": each}, {"mask": each[0, 0]}, {"causal": True}]
    options += [{"mask": each, "causal": True}, {"scale": 0.7}]
    for one in options:
        yield normals(rng, q=(B, N, D), k=(B, M, D), v=(B, M, D_V)), one
    yield normals(rng, q=(B, N, D), k=(B, N, D), v=(B, N, D)), NONE
    yield normals(rng, q=(N, D), k=(M, D), v=(M, D)), {"causal": True}


def multi_head_attention(rng):
    shared, each = masks(rng)
    square = {"mask": each[..., :N]}
    for one in (NONE, square, {"causal": True}, {"mask": np.stack([square["mask"]] * 3, axis=1)}):
        yield normals(rng, x=TOKENS, **attention_weights(D)), one | {"n_heads": 3}
    for d_c, keys, mask in ((D, N, None), (4, M, each), (4, M, shared)):
        arrays = normals(rng, x=TOKENS, context=(B, keys, d_c), **attention_weights(d_c))
        yield arrays, {"n_heads": 2, "mask": mask}
    yield normals(rng, x=(N, D), W_q=(D, 8), W_k=(D, 8), W_v=(D, 4), W_o=(4, 5)), {"n_heads": 2}


def attention_weights(d_c):
    shapes = {"W_q": (D, D), "W_k": (d_c, D), "W_v": (d_c, D), "W_o": (D, D)}
    return shapes | {"b_q": D, "b_k": D, "b_v": D, "b_o": D}


def feed_forward(rng):
    for d, d_ff in ((D, 9), (D, D), (3, 3)):
        yield normals(rng, x=(B, N, d), W_1=(d, d_ff), W_2=(d_ff, d), b_1=d_ff, b_2=d), NONE
    yield normals(rng, x=TOKENS, W_1=(D, 4), W_2=(4, 3)), {"activation": "silu"}
    yield {"x": rng.uniform(-5.5, 5.5, TOKENS), "W_1": np.eye(D), "W_2": np.eye(D)}, NONE


def effective_rank(rng):
    X = rng.standard_normal((B, N, D))
    for Y in (X, X + 3.0, 100.0 * X, X[..., :2] @ rng.standard_normal((2, D)), X[0]):
        yield {"X": Y}, NONE
    options = {"center": True}, {"normalize": True}, {"power": 2}, {"eps": 1e-5}
    for one in options:
        yield {"X": X}, one


def unit_direction(rng):
    for size in (1.0, 1e-3, 1e-5, 1e-7, 1e-9, 1e-12):
        yield {"k": size * rng.standard_normal(TOKENS)}, NONE
    yield {"k": rng.standard_normal((B, 1))}, NONE
    yield {"k": 1e-3 * rng.standard_normal(D)}, {"placement": "outside"}


def delta_update(rng):
    for d, m in ((4, 4), (D, 3)):
        arrays = normals(rng, X=(B, N, d, m), k=(B, N, d), v=(B, N, m), beta=(B, N))
        yield arrays, NONE
        yield arrays | normals(rng, k=d, v=m, beta=()), NONE


def deep_delta_residual(rng):
    weights = {"W_v": (D, 1), "W_beta": (D, 1), "b_v": 1, "b_beta": 1}
    for size in (1.0, 1e-3, 2e-5):
        arrays = normals(rng, x=TOKENS, k=TOKENS, context=TOKENS, v_input=TOKENS, **weights)
        arrays["k"] = size * arrays["k"]
        for one in (NONE, {"v_form": "sigmoid4", "placement": "outside"}, {"erase": False}):
            yield arrays, one
            yield arrays | {"v_input": None, "b_v": None}, one


def tangent_gate(rng):
    for size in (1.0, 3e-3, 1e-5):
        arrays = normals(rng, x=TOKENS, W_gate=(D, D), gain=D, bias=D)
        yield arrays | {"x": size * arrays["x"]}, NONE


def mgt_beta(rng):
    for width in (1, D):
        yield normals(rng, x=TOKENS, W_beta=(D, width), b_beta=width), {"lam": 0.7, "eps": 0.05}


def geometric_update(rng):
    for width in (1, D):
        yield normals(rng, x=TOKENS, v=TOKENS, beta=(B, N, width), alpha=width), NONE
    yield normals(rng, x=TOKENS, v=TOKENS) | {"beta": np.array(-0.6), "alpha": np.array(0.3)}, NONE


def mgt_residual(rng):
    for width, size in ((1, 1.0), (D, 1.0), (1, 3e-3)):
        shapes = {"W_gate": (D, D), "W_beta": (D, width), "b_beta": width, "alpha": width}
        arrays = normals(rng, x=TOKENS, v_raw=TOKENS, gain=D, bias=D, **shapes)
        yield arrays | {"x": size * arrays["x"]}, {"lam": 0.7, "eps": 0.05}


# Inputs on which rounding is too large for a right layer to be right to 1e-12.


def hard_layer_norm(rng):
    yield {"x": rng.standard_normal(TOKENS) + 1e5}, NONE


def hard_scaled_dot_product_attention(rng):
    """All that is allowed scores below −10⁴."""
    arrays = normals(rng, q=(B, N, D), k=(B, M, D), v=(B, M, D_V))
    arrays["q"], arrays["k"] = 300.0 + arrays["q"], arrays["k"] - 300.0
    arrays["k"][:, :2] *= -1.0
    yield arrays, {"mask": np.arange(M) > 1}


def inputs(function, kind=""):
    """Return the inputs (arrays, options) for a function, the same in each call."""
    rng = np.random.default_rng(zlib.crc32(function.encode()))
    make = globals().get(kind + function)
    return [] if make is None else list(make(rng))


def called(one, arrays, options, dtype="float64"):
    """Return the result of a call, in float64, of one that takes its own library's arrays."""
    checked = CONTRACT[one.function]
    if one.library == "torch":
        arrays, options = (as_tensors(given, dtype) for given in (arrays, options))
    else:
        arrays = {name: None if x is None else x.astype(dtype) for name, x in arrays.items()}
    y = one.call(**arguments(checked, arrays, options))
    assert str(y.dtype).endswith(dtype)
    return y.to(torch.float64).numpy() if one.library == "torch" else y.astype("float64")


def as_tensors(given, dtype):
    """Return arrays as tensors of their own memory, floating ones in `dtype`; others as given."""
    made = dict(given)
    for name, x in given.items():
        if isinstance(x, np.ndarray):
            x = torch.from_numpy(x)
            made[name] = x.to(getattr(torch, dtype)) if x.is_floating_point() else x
    return made


def layer(function, arrays, options):
    return CONTRACT[function].function(**arguments(CONTRACT[function], arrays, options))


def off(got, want):
    """Return the largest difference, relative to the largest element; NaN for NaN."""
    return np.max(np.abs(got - want)) / np.max(np.abs(want))


def names(ones):
    return [f"{one.function}-{one.call.__name__}" for one in ones]


@pytest.mark.parametrize("one", RIGHT, ids=names(RIGHT))
def test_a_right_one_is_the_layer(one):
    for arrays, options in inputs(one.function):
        want = layer(one.function, arrays, options)
        got = called(one, arrays, options)
        assert got.shape == want.shape
        assert off(got, want) <= 1e-12


@pytest.mark.parametrize("one", IN_GRADIENT, ids=names(IN_GRADIENT))
def test_what_is_wrong_in_its_gradient_alone_has_the_layers_values(one):
    for arrays, options in inputs(one.function):
        want = layer(one.function, arrays, options)
        assert off(called(one, arrays, options), want) <= 1e-12


@pytest.mark.parametrize("one", IN_GRADIENT, ids=names(IN_GRADIENT))
def test_what_is_wrong_in_its_gradient_alone_differs_there(one):
    arrays, options = inputs(one.function)[0]

    def gradients(call):
        given = as_tensors(arrays, "float64")
        leaves = {name: x.clone().requires_grad_() for name, x in given.items()}
        y = call(**arguments(CONTRACT[one.function], leaves, options))
        weight = torch.linspace(-1.0, 2.0, y.numel(), dtype=y.dtype).reshape(y.shape)
        found = torch.autograd.grad((y * weight).sum(), leaves.values(), allow_unused=True)
        return [0.0 if g is None else g.numpy() for g in found]

    theirs, ours = gradients(one.call), gradients(CONTRACT[one.function].function)
    assert max(off(*pair) for pair in zip(theirs, ours, strict=True)) > 1e-3


SHOWN = [one for one in WRONG if not one.gradient_only]


@pytest.mark.parametrize("one", SHOWN, ids=names(SHOWN))
def test_a_wrong_one_differs(one):
    """NaN is a difference too."""
    worst = []
    for arrays, options in inputs(one.function) + inputs(one.function, "hard_"):
        want = layer(one.function, arrays, options)
        got = called(one, arrays, options)
        assert got.shape == want.shape
        worst.append(off(got, want))
    assert not max(worst, key=lambda size: (np.isnan(size), size)) <= 1e-9


@pytest.mark.parametrize("one", RIGHT + WRONG, ids=names(RIGHT + WRONG))
def test_inputs_are_left_as_they_are(one):
    for arrays, options in inputs(one.function):
        before = {name: None if x is None else x.copy() for name, x in arrays.items()}
        called(one, arrays, options)
        for name, x in arrays.items():
            np.testing.assert_array_equal(x, before[name])


@pytest.mark.parametrize("one", RIGHT + WRONG, ids=names(RIGHT + WRONG))
def test_each_dtype_is_kept(one):
    """Asserted by `called`; right ones are near the layer in it, too."""
    arrays, options = inputs(one.function)[0]
    dtypes = {"float32": 1e-5, "float16": 3e-2, "bfloat16": 3e-1}
    for dtype, tolerance in dtypes.items():
        if one.library == "numpy" and dtype == "bfloat16":
            continue
        got = called(one, arrays, options, dtype)
        if not one.mistake:
            assert off(got, layer(one.function, arrays, options)) <= tolerance


def test_there_are_as_many_as_it_takes():
    assert len(WRONG) >= 70
    assert len(RIGHT) >= 25
    assert sum(one.parts >= 2 for one in WRONG) >= 8
    assert len({one.call.__name__ for one in WRONG + RIGHT}) == len(WRONG + RIGHT)
    assert all((one in WRONG) == bool(one.mistake) for one in WRONG + RIGHT)
    assert {one.function for one in WRONG} == {one.function for one in RIGHT}
