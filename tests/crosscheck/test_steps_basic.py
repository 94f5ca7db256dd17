"""Softmax, layer norm, feed-forward and effective rank: with first choices the layer, else not."""

import itertools
import math

import numpy as np
import pytest
from parameter_ids import said

from mgt_np.crosscheck.cases import cases_of
from mgt_np.crosscheck.contract import CONTRACT, arguments
from mgt_np.crosscheck.noise import Noisy, noisy, rounding
from mgt_np.crosscheck.steps import BUGS
from mgt_np.crosscheck.steps.basic import (
    STEPS,
    effective_rank,
    feed_forward,
    layer_norm,
    normal_cdf,
    softmax,
)


def numbers(*shape, seed=0, scale=1.0, shift=0.0):
    return shift + scale * np.random.default_rng([seed, *shape]).standard_normal(shape)


def tokens(*shape, **how):
    x, d = numbers(*shape, **how), shape[-1]
    return {"x": x, "gain": 1.4 + numbers(d, seed=1), "bias": numbers(d, seed=2)}


def hidden(d, d_ff, **how):
    made = {"W_1": numbers(d, d_ff, seed=3), "W_2": numbers(d_ff, d, seed=4)}
    made |= {"b_1": numbers(d_ff, seed=5), "b_2": numbers(d, seed=6)}
    return {"x": numbers(2, 3, d, **how)} | made


# For each function: arrays and options, beside those of the cases.
INPUTS = {
    "softmax": [
        ({"x": numbers(2, 3, 4, scale=3.0)}, {}),
        ({"x": numbers(2, 3, 4, shift=900.0)}, {}),
        ({"x": numbers(2, 3, 4, shift=-25.0)}, {}),
        ({"x": numbers(2, 3, 4) + np.array([[0.0], [900.0], [-900.0]])}, {}),
        ({"x": numbers(5, scale=60.0)}, {}),
        ({"x": numbers(4, 3)}, {"axis": 0}),
    ],
    "layer_norm": [
        (tokens(2, 3, 4), {}),
        (tokens(3, 3, 3), {}),
        (tokens(2, 3, 4, scale=3e-3), {}),
        (tokens(2, 3, 4, scale=1e-5), {}),
        (tokens(2, 3, 4, shift=300.0), {}),
        (tokens(5, 7), {"eps": 0.1}),
        ({"x": numbers(2, 7)}, {}),
        ({"x": numbers(6), "gain": numbers(6, seed=1)}, {}),
        ({"x": numbers(2, 6), "bias": numbers(6, seed=1)}, {}),
    ],
    "feed_forward": [
        (hidden(4, 6), {}),
        (hidden(4, 4), {}),
        (hidden(4, 4, scale=40.0), {}),
        (hidden(3, 5), {"activation": "relu"}),
        (hidden(3, 5), {"activation": "silu"}),
        (hidden(3, 5), {"activation": "sigmoid", "inner": np.tanh}),
        ({"x": numbers(3), "W_1": numbers(3, 5), "W_2": numbers(5, 2)}, {}),
    ],
    "effective_rank": [
        ({"X": numbers(2, 6, 4, shift=2.0)}, {}),
        ({"X": numbers(2, 4, 6)}, {}),
        ({"X": 1e-6 * numbers(4, 6)}, {}),
        ({"X": numbers(2, 6, 2) @ numbers(2, 2, 4)}, {}),
        ({"X": numbers(5, 3)}, {"center": True, "power": 2}),
        ({"X": numbers(3, 5)}, {"center": True, "normalize": True, "eps": 1e-3}),
        ({"X": np.stack([np.zeros((4, 3)), numbers(4, 3)])}, {}),
    ],
}
EVERY = [(name, reading) for name in STEPS for reading in STEPS[name].readings]


def every_input(name):
    return INPUTS[name] + [(case.arrays, case.options) for case in cases_of(name)]


def distance(y, other):
    """The largest difference, relative to the largest value; ∞ where one is not finite alone."""
    y, other = np.asarray(y), np.asarray(other)
    if y.shape != other.shape or not np.array_equal(np.isfinite(y), np.isfinite(other)):
        return math.inf
    finite = np.isfinite(y)
    largest = np.max(np.abs(other[finite]), initial=1e-300)
    return float(np.max(np.abs(y[finite] - other[finite]), initial=0.0) / largest)


def chosen(name, arrays, options, reading):
    """What a reading makes of an input; None where it does not fit the shapes."""
    try:
        return STEPS[name].compute(**arrays, **(options | {reading.axis: reading.value}))
    except ValueError:
        return None


@pytest.mark.parametrize("name", STEPS)
def test_the_first_choices_are_the_layer(name):
    checked = CONTRACT[name]
    for arrays, options in every_input(name):
        expected = checked.function(**arguments(checked, arrays, options))
        assert distance(STEPS[name].compute(**arrays, **options), expected) <= 1e-13


@pytest.mark.parametrize(("name", "reading"), EVERY, ids=lambda x: getattr(x, "name", x))
def test_a_reading_changes_the_result(name, reading):
    assert reading.bug in BUGS
    compute = STEPS[name].compute
    made = [(chosen(name, *given, reading), given) for given in INPUTS[name]]
    off = [distance(y, compute(**given[0], **given[1])) for y, given in made if y is not None]
    assert max(off) > 3e-13


@pytest.mark.parametrize("name", STEPS)
def test_some_input_tells_each_two_readings_apart(name):
    readings = STEPS[name].readings
    made = {r.name: [chosen(name, *given, r) for given in INPUTS[name]] for r in readings}
    assert len(made) == len(readings)  # names are unique
    for a, b in itertools.combinations(made, 2):
        pairs = zip(made[a], made[b], strict=True)
        assert any(
            (y is None) != (z is None) or (y is not None and distance(y, z) > 3e-13)
            for y, z in pairs
        ), f"{name}: {a} and {b}"


@pytest.mark.parametrize("name", STEPS)
def test_fits_and_centres_are_choices_of_the_equation(name):
    arrays, options = INPUTS[name][0]
    compute, expected = STEPS[name].compute, STEPS[name].compute(**arrays, **options)
    for fit in STEPS[name].fits:
        y = compute(**arrays, **(options | {fit.axis: fit.high}))
        assert distance(y, expected) > 1e-6
        assert "0.25" in fit.says.format(value=0.25)
    for choices in STEPS[name].centres.values():
        assert distance(compute(**arrays, **(options | choices)), expected) > 1e-9


@pytest.mark.parametrize("name", STEPS)
def test_noisy_arrays_run_through_and_differ_by_their_rounding(name):
    for case in cases_of(name):
        expected = STEPS[name].compute(**case.arrays, **case.options)
        with rounding("float32", 0):
            y = STEPS[name].compute(**noisy(case.arrays), **case.options)
        assert isinstance(y, Noisy)
        assert 1e-12 < distance(y.view(np.ndarray), expected) < 1e-2 or case.tags == ("one",)


def exp(x):
    return np.exp(x - np.max(x))


def log_softmax(x):
    return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))


@pytest.mark.parametrize(
    ("choice", "formula"),
    [
        ({"axis": -2}, lambda x: np.swapaxes(softmax(np.swapaxes(x, -1, -2)), -1, -2)),
        ({"axis": None}, lambda x: exp(x) / exp(x).sum()),
        ({"base": 2.0}, lambda x: 2.0**x / (2.0**x).sum(-1, keepdims=True)),
        ({"temperature": 0.3}, lambda x: softmax(x / 0.3)),
        ({"shift": "nothing"}, softmax),
        ({"shift": "maximum of all"}, softmax),
        ({"shift": "clipped to 50"}, softmax),
        ({"below": "1 + sum"}, lambda x: np.exp(x) / (1.0 + np.exp(x).sum(-1, keepdims=True))),
        ({"below": "largest"}, lambda x: np.exp(x - np.max(x, axis=-1, keepdims=True))),
        ({"below": "norm"}, lambda x: np.exp(x) / np.linalg.norm(np.exp(x), axis=-1)[..., None]),
        ({"result": "log"}, log_softmax),
        ({"result": "one-hot"}, lambda x: np.eye(4)[np.argmax(x, axis=-1)]),
        ({"times": 2}, lambda x: softmax(softmax(x))),
        ({"scaled": "by 1/√n"}, lambda x: softmax(x / 2.0)),
        ({"scaled": "by 1/√n", "axis": 1}, lambda x: softmax(x / math.sqrt(3.0), axis=1)),
    ],
    ids=said,
)
def test_choices_of_softmax_are_their_formulas(choice, formula):
    x = numbers(2, 3, 4, scale=2.0)
    assert distance(softmax(x, **choice), formula(x)) < 1e-14


def torch_like_rms(x, eps):
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps)


def batch_norm(x, axis):
    mean, variance = np.mean(x, axis=axis, keepdims=True), np.var(x, axis=axis, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5)


def centred(x):
    return x - np.mean(x, axis=-1, keepdims=True)


def deviation(x, ddof=0):
    return np.std(x, axis=-1, keepdims=True, ddof=ddof)


@pytest.mark.parametrize(
    ("choice", "formula"),
    [
        ({"centre": "neither", "eps": 1e-6}, lambda x: torch_like_rms(x, 1e-6)),
        ({"centre": "variance"}, lambda x: x / np.sqrt(deviation(x) ** 2 + 1e-5)),
        (
            {"centre": "numerator"},
            lambda x: centred(x) / np.sqrt(np.mean(x * x, axis=-1)[..., None] + 1e-5),
        ),
        ({"eps_place": "outside the root"}, lambda x: centred(x) / (deviation(x) + 1e-5)),
        ({"eps_place": "not at all"}, lambda x: centred(x) / deviation(x)),
        ({"eps_place": "least variance", "eps": 0.5}, lambda x: centred(x) / least(x, 0.5**0.5)),
        ({"eps_place": "least deviation", "eps": 0.5}, lambda x: centred(x) / least(x, 0.5)),
        ({"variance": "unbiased"}, lambda x: centred(x) / np.sqrt(deviation(x, 1) ** 2 + 1e-5)),
        ({"variance": "sum", "eps": 0.0}, lambda x: centred(x) / norms(centred(x))),
        ({"passes": 1}, layer_norm),
        ({"spread": "square", "eps": 0.0}, lambda x: centred(x) / deviation(x) ** 2),
        (
            {"spread": "absolute", "eps": 0.0},
            lambda x: centred(x) / np.mean(np.abs(centred(x)), axis=-1)[..., None],
        ),
        ({"over": "tokens"}, lambda x: batch_norm(x, 1)),
        ({"over": "batch"}, lambda x: batch_norm(x, 0)),
        ({"over": "all but features"}, lambda x: batch_norm(x, (0, 1))),
        ({"over": "all but batch"}, lambda x: batch_norm(x, (1, 2))),
        ({"over": "all"}, lambda x: batch_norm(x, None)),
        ({"times": 2}, lambda x: layer_norm(layer_norm(x))),
        (
            {"statistics": "the first's of the batch"},
            lambda x: (
                (x - np.mean(x[:1], axis=-1, keepdims=True)) / np.sqrt(deviation(x[:1]) ** 2 + 1e-5)
            ),
        ),
    ],
    ids=said,
)
def test_choices_of_layer_norm_are_their_formulas(choice, formula):
    x = numbers(2, 3, 4, shift=0.4)
    assert distance(layer_norm(x, **choice), formula(x)) < 1e-13


def least(x, bound):
    return np.maximum(deviation(x), bound)


def norms(x):
    return np.linalg.norm(x, axis=-1, keepdims=True)


def test_gain_and_bias_of_layer_norm_go_where_the_choice_says():
    x, gain, bias = tokens(3, 3, 3).values()
    plain = layer_norm(x)
    deviations = np.sqrt(np.var(x, axis=-1, keepdims=True) + 1e-5)
    for choice, expected in (
        ({"bias_place": "before gain"}, (plain + bias) * gain),
        ({"bias_place": "before the division"}, (plain + bias / deviations) * gain),
        ({"affine_axis": "tokens"}, plain * gain[:, None] + bias[:, None]),
    ):
        assert distance(layer_norm(x, gain, bias, **choice), expected) < 1e-13
    with pytest.raises(ValueError, match="expected 3 tokens"):
        layer_norm(x[:, :2], gain, bias, affine_axis="tokens")
    with pytest.raises(ValueError, match="no axes"):
        layer_norm(x[0, 0], over="tokens")


def test_one_feature_has_no_unbiased_variance():
    assert np.all(np.isnan(layer_norm(numbers(3, 1), variance="unbiased")))


def test_one_pass_loses_digits_far_from_zero():
    x = numbers(2, 3, 4, shift=1e4)
    assert 1e-12 < distance(layer_norm(x, passes=1), layer_norm(x)) < 1e-5


def test_the_normal_distribution_function_is_exact_in_the_tail():
    # Φ(−1), Φ(−5), Φ(−8), Φ(0), Φ(2)
    expected = [0.15865525393145705, 2.866515718791939e-07, 6.220960574271785e-16, 0.5]
    expected += [0.9772498680518208]
    x = np.array([-1.0, -5.0, -8.0, 0.0, 2.0])
    np.testing.assert_allclose(normal_cdf(x), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("gelu_tanh", lambda x: x / (1.0 + np.exp(-1.5957691216057308 * (x + 0.044715 * x**3)))),
        ("gelu_quick", lambda x: x / (1.0 + np.exp(-1.702 * x))),
        ("gelu_erf_of_x", lambda x: 0.5 * x * (1.0 + np.vectorize(math.erf)(x))),
        ("silu", lambda x: x / (1.0 + np.exp(-x))),
        ("leaky_relu", lambda x: np.maximum(x, 0.01 * x)),
        ("elu", lambda x: np.maximum(x, 0.0) + np.minimum(np.expm1(x), 0.0)),
        ("squared_relu", lambda x: np.maximum(x, 0.0) ** 2),
        ("softplus", lambda x: np.logaddexp(x, 0.0)),
        ("mish", lambda x: x * np.tanh(np.logaddexp(x, 0.0))),
    ],
)
def test_activations_are_their_formulas(activation, formula):
    x = numbers(2, 3, 4, scale=2.0)
    one = np.eye(4)
    assert distance(feed_forward(x, one, one, activation=activation), formula(x)) < 1e-13


def test_steps_of_feed_forward_go_where_the_choice_says():
    x, W_1, W_2, b_1, b_2 = hidden(4, 4).values()

    def phi(x):
        return x * normal_cdf(x)

    for choice, expected in (
        ({"activation_place": "between and after"}, phi(phi(x @ W_1 + b_1) @ W_2 + b_2)),
        ({"activation_place": "before and between"}, phi(phi(x) @ W_1 + b_1) @ W_2 + b_2),
        ({"activation_place": "after"}, phi((x @ W_1 + b_1) @ W_2 + b_2)),
        ({"activation_place": "before"}, (phi(x) @ W_1 + b_1) @ W_2 + b_2),
        ({"layout": "both transposed"}, phi(x @ W_1.T + b_1) @ W_2.T + b_2),
        ({"layout": "W_2ᵀ first"}, phi(x @ W_2.T + b_1) @ W_1.T + b_2),
        ({"layout": "W_1ᵀ"}, phi(x @ W_1.T + b_1) @ W_2 + b_2),
        ({"layout": "W_2ᵀ"}, phi(x @ W_1 + b_1) @ W_2.T + b_2),
        ({"biases": "none"}, phi(x @ W_1) @ W_2),
        ({"b_1_place": "after the activation"}, (phi(x @ W_1) + b_1) @ W_2 + b_2),
        ({"norm": "of x"}, phi(layer_norm(x) @ W_1 + b_1) @ W_2 + b_2),
        ({"norm": "of the hidden features"}, layer_norm(phi(x @ W_1 + b_1)) @ W_2 + b_2),
    ):
        assert distance(feed_forward(x, W_1, W_2, b_1, b_2, **choice), expected) < 1e-13, choice


@pytest.mark.parametrize(
    ("choice", "formula"),
    [
        ({"measure": "entropy"}, lambda p: -np.sum(p * np.log(p))),
        ({"measure": "entropy in bits"}, lambda p: -np.sum(p * np.log2(p))),
        ({"measure": "log₂, then exp"}, lambda p: np.exp(-np.sum(p * np.log2(p)))),
        (
            {"measure": "entropy over its largest"},
            lambda p: -np.sum(p * np.log(p)) / math.log(3.0),
        ),
        ({"measure": "1/Σp²"}, lambda p: 1.0 / np.sum(p**2)),
        ({"measure": "participation ratio"}, lambda p: np.sum(p**2) ** 2 / np.sum(p**4)),
        ({"measure": "stable rank"}, lambda p: np.sum(p**2) / np.max(p) ** 2),
        ({"measure": "sum over largest"}, lambda p: 1.0 / np.max(p)),
        ({"measure": "count above 1 %"}, lambda p: np.sum(p > 0.01 * np.max(p))),
        ({"divide_by": "largest"}, lambda p: of_entropy(p / np.max(p))),
        ({"divide_by": "norm"}, lambda p: of_entropy(p / np.sqrt(np.sum(p**2)))),
        ({"log_eps": 0.1}, lambda p: np.exp(-np.sum(p * np.log(p + 0.1)))),
        ({"eps": 0.1}, lambda p: of_entropy(p + 0.1)),
        ({"power": 2}, lambda p: of_entropy(p**2 / np.sum(p**2))),
        ({"keep": "all but the first"}, lambda p: of_entropy(p[1:] / np.sum(p[1:]))),
        ({"over": "d"}, lambda p: of_entropy(p) / 3.0),
        ({"over": "N"}, lambda p: of_entropy(p) / 5.0),
    ],
    ids=said,
)
def test_choices_of_effective_rank_are_their_formulas(choice, formula):
    X = numbers(5, 3)
    sigma = np.sqrt(np.linalg.eigvalsh(X.T @ X)[::-1])
    assert distance(effective_rank(X, **choice), formula(sigma / np.sum(sigma))) < 1e-12


def of_entropy(p):
    return np.exp(-np.sum(p * np.log(p)))


def test_what_is_done_to_the_tokens_before_the_effective_rank():
    X = numbers(5, 3, shift=1.0)
    for choice, other in (
        ({"center": "each token"}, X - np.mean(X, axis=1, keepdims=True)),
        ({"tokens": "unit"}, X / np.linalg.norm(X, axis=1, keepdims=True)),
        ({"tokens": "standardised features"}, (X - np.mean(X, axis=0)) / np.std(X, axis=0)),
        ({"center": True}, X - np.mean(X, axis=0)),
    ):
        assert distance(effective_rank(X, **choice), effective_rank(other)) < 1e-13
