"""What holds for every layer: gradients, array libraries, dtypes, and errors of mixed arrays."""

import inspect
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from cases import (
    Case,
    check_integers_are_refused,
    check_mixed_devices,
    check_mixed_libraries,
    check_on,
    check_slopes,
)

import mgt_np
from mgt_np import layers
from mgt_np.arrays import composed

_RNG = np.random.default_rng(0)


def normal(*shape):
    return _RNG.standard_normal(shape)


def unit(*shape):
    k = normal(*shape)
    return k / np.linalg.norm(k, axis=-1, keepdims=True)


TOKENS = np.array([[1, 0, 6, 1], [3, 3, 2, 1]])
TARGETS = np.array([[1, 0, 6, -100], [3, 3, -100, 1]])
MASK = np.array([[True, False, True, True], [False] * 4, [True] * 4])
PER_SEQUENCE = np.stack([MASK, ~MASK])

X, CONTEXT = normal(2, 3, 8), normal(2, 4, 6)
W_Q, W_O = normal(8, 4), normal(6, 5)
W_K, W_V = normal(6, 4), normal(6, 6)
BIASES = normal(4), normal(4), normal(6), normal(5)
GATE = normal(8, 8), normal(8, 1), normal(1), np.asarray(0.3), normal(8), normal(8)


def masked(function, **options):
    return lambda *arrays: function(*arrays[:-1], mask=arrays[-1], **options)


def cross_attention(x, context, *weights):
    return layers.multi_head_attention(x, *weights, n_heads=2, context=context)


def masked_cross_attention(x, context, W_q, W_k, W_v, W_o, mask):
    return layers.multi_head_attention(x, W_q, W_k, W_v, W_o, n_heads=2, context=context, mask=mask)


CASES = (
    Case("sigmoid", layers.sigmoid, (3.0 * normal(4, 5),)),
    Case("relu", layers.relu, (normal(4, 5),)),
    Case("silu", layers.silu, (3.0 * normal(4, 5),)),
    Case("gelu", layers.gelu, (3.0 * normal(4, 5),)),
    Case("gelu tanh", partial(layers.gelu, approximate="tanh"), (normal(4, 5),)),
    Case("softmax", layers.softmax, (normal(4, 5),)),
    Case("softmax axis 0", partial(layers.softmax, axis=0), (normal(4, 5),)),
    Case("layer_norm", layers.layer_norm, (normal(3, 4, 5), normal(5), normal(5))),
    Case("layer_norm bare", layers.layer_norm, (normal(3, 4, 5),)),
    Case("rms_norm", layers.rms_norm, (normal(3, 4, 5), normal(5))),
    Case("linear", layers.linear, (normal(2, 3, 4), normal(4, 5), normal(5))),
    Case("embedding", lambda E, t: layers.embedding(t, E), (normal(7, 3),), (TOKENS,)),
    Case("cross_entropy", layers.cross_entropy, (normal(2, 4, 7),), (TARGETS,)),
    *(
        Case(
            f"cross_entropy {reduction} smoothed",
            partial(layers.cross_entropy, reduction=reduction, label_smoothing=0.1),
            (normal(2, 4, 7),),
            (TARGETS,),
        )
        for reduction in ("sum", "none")
    ),
    *(
        Case(
            f"feed_forward {activation}",
            partial(layers.feed_forward, activation=activation),
            (normal(2, 3, 4), normal(4, 6), normal(6, 5), normal(6), normal(5)),
        )
        for activation in ("gelu", "relu", "silu", "sigmoid")
    ),
    Case("attention_weights", layers.attention_weights, (normal(2, 3, 5), normal(2, 4, 5))),
    Case(
        "attention_weights masked causal",
        masked(layers.attention_weights, causal=True, scale=0.7),
        (normal(2, 3, 5), normal(2, 4, 5)),
        (MASK,),
    ),
    Case(
        "scaled_dot_product_attention",
        layers.scaled_dot_product_attention,
        (normal(2, 3, 5), normal(2, 4, 5), normal(2, 4, 6)),
    ),
    Case(
        "scaled_dot_product_attention masked",
        masked(layers.scaled_dot_product_attention),
        (normal(2, 3, 5), normal(2, 4, 5), normal(2, 4, 6)),
        (PER_SEQUENCE,),
    ),
    Case(
        "multi_head_attention causal",
        partial(layers.multi_head_attention, n_heads=2, causal=True),
        (X, normal(8, 4), normal(8, 4), normal(8, 6), W_O),
    ),
    Case("multi_head_attention cross", cross_attention, (X, CONTEXT, W_Q, W_K, W_V, W_O, *BIASES)),
    Case(
        "multi_head_attention masked",
        masked_cross_attention,
        (X, CONTEXT, W_Q, W_K, W_V, W_O),
        (PER_SEQUENCE,),
    ),
    Case("unit_direction", partial(layers.unit_direction, eps=0.3), (normal(3, 5),)),
    Case(
        "unit_direction outside",
        partial(layers.unit_direction, eps=0.3, placement="outside"),
        (normal(3, 5),),
    ),
    Case("delta_operator", layers.delta_operator, (unit(3, 5), normal(3))),
    Case("delta_apply", layers.delta_apply, (normal(3, 5, 2), unit(3, 5), normal(3))),
    Case("delta_apply number", lambda X, k: layers.delta_apply(X, k, 1.5), (normal(5, 2), unit(5))),
    Case(
        "delta_update", layers.delta_update, (normal(3, 5, 2), unit(3, 5), normal(3, 2), normal(3))
    ),
    Case("delta_eigenvalues", partial(layers.delta_eigenvalues, d=4), (normal(3),)),
    Case(
        "delta_singular_values",
        partial(layers.delta_singular_values, d=4),
        (normal(3) + 3.0,),
    ),
    Case("delta_determinant", layers.delta_determinant, (normal(3),)),
    Case("delta_product", layers.delta_product, (unit(2, 6, 4), normal(2, 6))),
    Case("delta_product number", lambda K: layers.delta_product(K, 1.5), (unit(3, 4),)),
    Case(
        "tangent_gate", layers.tangent_gate, (normal(2, 3, 8), normal(8, 8), normal(8), normal(8))
    ),
    Case("tangent_gate bare", layers.tangent_gate, (normal(2, 3, 8), normal(8, 8))),
    Case(
        "mgt_beta per token",
        partial(layers.mgt_beta, lam=0.8, eps=0.1),
        (normal(2, 3, 8), normal(8, 1), normal(1)),
    ),
    Case(
        "mgt_beta per channel",
        lambda x, W, b, lam, eps: layers.mgt_beta(x, W, b, lam=lam, eps=eps),
        (normal(2, 3, 8), normal(8, 8), normal(8), np.asarray(0.8), np.asarray(0.1)),
    ),
    Case(
        "geometric_update",
        layers.geometric_update,
        (X, normal(2, 3, 8), normal(2, 3, 1), normal(8)),
    ),
    Case(
        "geometric_update numbers",
        lambda x, v: layers.geometric_update(x, v, 0.5, 0.1),
        (X, normal(2, 3, 8)),
    ),
    Case(
        "mgt_residual",
        partial(layers.mgt_residual, lam=0.8, eps=0.1),
        (X, normal(2, 3, 8), *GATE),
    ),
)
# Later families of layers have their rows in tests/cases_<family>.py.
FAMILIES = [import_module(path.stem) for path in sorted(Path(__file__).parent.glob("cases_*.py"))]
CASES += tuple(case for family in FAMILIES for case in getattr(family, "LAYER_CASES", ()))
MIXABLE = [case for case in CASES if len(case.arrays) + len(case.constants) > 1]

NOT_DIFFERENTIATED = {
    "delta_regime": "gives words",
    **{name: "gives parameters" for name in layers.__all__ if name.startswith("init_")},
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_slopes(case, rng):
    check_slopes(case, rng)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_library_agrees_with_numpy(case, library, rng):
    check_on(library, case, rng)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_stays_float32(case, library, rng):
    check_on(library, case, rng, dtype=np.float32, tolerance=2e-5)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_integers_are_refused(case, library):
    check_integers_are_refused(case, library)


@pytest.mark.parametrize("case", MIXABLE, ids=str)
def test_arrays_of_two_libraries_are_refused(case):
    check_mixed_libraries(case)


@pytest.mark.parametrize("case", MIXABLE, ids=str)
def test_arrays_on_two_devices_are_refused(case):
    check_mixed_devices(case)


FUNCTIONS = {name for name in layers.__all__ if inspect.isfunction(getattr(layers, name))}


def test_the_table_is_complete():
    assert {case.name.split()[0] for case in CASES} | NOT_DIFFERENTIATED.keys() == FUNCTIONS
    assert FUNCTIONS.issubset(mgt_np.__all__)


def test_parameters_are_named_like_arguments(rng):
    """`layer(x, **init_layer(...))`: what the keys leave out stands first."""
    params = {
        "linear": (layers.init_linear(rng, 3, 4), ["x"]),
        "layer_norm": (layers.init_layer_norm(4), ["x"]),
        "rms_norm": (layers.init_rms_norm(4), ["x"]),
        "feed_forward": (layers.init_feed_forward(rng, 4, 6), ["x"]),
        "multi_head_attention": (layers.init_multi_head_attention(rng, 4), ["x"]),
        "mgt_residual": (layers.init_mgt_residual(rng, 4), ["x", "v_raw"]),
    }
    for family in FAMILIES:
        params |= getattr(family, "parameters", lambda rng: {})(rng)
    assert {f"init_{name}" for name in params} == {n for n in FUNCTIONS if n.startswith("init_")}
    for name, (keys, inputs) in params.items():
        arguments = inspect.signature(getattr(layers, name)).parameters.values()
        arrays = [a.name for a in arguments if a.kind is a.POSITIONAL_OR_KEYWORD]
        assert arrays[: len(inputs)] == inputs
        assert set(arrays[len(inputs) :]) == keys.keys()


NUMPY_S_NUMBERS = {
    "attention_weights": lambda x, n: layers.attention_weights(x, x, scale=n),
    "cross_entropy": lambda x, n: layers.cross_entropy(x, np.asarray([0, 1]), label_smoothing=n),
    "layer_norm": lambda x, n: layers.layer_norm(x, eps=n),
    "mgt_beta": lambda x, n: layers.mgt_beta(x, x, x[0, :], lam=n, eps=n),
    "mgt_residual": lambda x, n: layers.mgt_residual(x, x, x, x, x[0, :], x[0, :], lam=n, eps=n),
    "rms_norm": lambda x, n: layers.rms_norm(x, eps=n),
    "sinkhorn": lambda x, n: layers.sinkhorn(x, temperature=n, eps=n),
    "unit_direction": lambda x, n: layers.unit_direction(x, eps=n),
}


@pytest.mark.parametrize("in_composed_form", [False, True])
@pytest.mark.parametrize("name", NUMPY_S_NUMBERS)
def test_numpy_s_numbers_leave_float32_alone(name, in_composed_form):
    """As in scale=1/np.sqrt(d), which NumPy counts as an array of float64."""
    x = np.asarray([[1.0, 2.0], [3.0, 5.0]], dtype="float32")
    with composed() if in_composed_form else nullcontext():
        y = NUMPY_S_NUMBERS[name](x, np.float64(0.5))
        expected = NUMPY_S_NUMBERS[name](x, 0.5)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, expected)
