"""Cross entropy: its formula, limits, ignored targets, and errors."""

import math

import numpy as np
import pytest
from recorded import agree

from mgt_np import array_namespace, cross_entropy, grad, value_and_grad
from mgt_np.arrays import to_host

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def one_token(logits, target, s):
    """The formula for one token, in plain Python."""
    log_total = math.log(sum(math.exp(x) for x in logits))
    log_p = [x - log_total for x in logits]
    return -(1.0 - s) * log_p[target] - s * sum(log_p) / len(log_p)


@pytest.mark.parametrize("s", [0.0, 0.1, 1.0])
def test_every_reduction_is_the_formula(s, rng):
    logits, targets = 2.0 * rng.standard_normal((2, 5, 7)), rng.integers(0, 7, (2, 5))
    expected = np.array(
        [[one_token(logits[b, t], targets[b, t], s) for t in range(5)] for b in range(2)]
    )
    none, total, mean = (
        cross_entropy(logits, targets, reduction=reduction, label_smoothing=s)
        for reduction in ("none", "sum", "mean")
    )
    np.testing.assert_allclose(none, expected, rtol=1e-13)
    np.testing.assert_allclose(total, np.sum(expected), rtol=1e-13)
    np.testing.assert_allclose(mean, np.mean(expected), rtol=1e-13)
    assert cross_entropy(logits, targets, label_smoothing=s) == mean
    assert cross_entropy(logits, targets) == cross_entropy(logits, targets, label_smoothing=0.0)


@pytest.mark.parametrize("shape", [(), (4,), (2, 1, 3)])
def test_targets_may_have_any_shape(shape, rng):
    logits, targets = rng.standard_normal((*shape, 7)), rng.integers(0, 7, shape)
    loss = cross_entropy(logits, targets, reduction="none")
    assert np.shape(loss) == shape
    flat = cross_entropy(logits.reshape(-1, 7), targets.reshape(-1))
    assert cross_entropy(logits, targets) == pytest.approx(flat, rel=1e-14)


@pytest.mark.parametrize("s", [0.0, 0.3])
def test_equal_logits_give_log_C(s):
    loss = cross_entropy(np.full((4, 7), -3.0), np.array([0, 1, 2, 6]), label_smoothing=s)
    assert loss == pytest.approx(math.log(7), rel=1e-15)


def test_the_gradient_is_probabilities_minus_one_hot(rng):
    logits, targets = rng.standard_normal((5, 7)), rng.integers(0, 7, 5)
    p = np.exp(logits) / np.sum(np.exp(logits), axis=-1, keepdims=True)
    gradient = grad(lambda logits: cross_entropy(logits, targets))(logits)
    np.testing.assert_allclose(gradient, (p - np.eye(7)[targets]) / 5, atol=1e-15)


@pytest.mark.parametrize("s", [0.0, 0.1])
@pytest.mark.parametrize("ignore_index", [-100, 3])
def test_ignored_targets_count_nowhere(ignore_index, s, rng):
    logits, targets = rng.standard_normal((6, 7)), np.array([0, 3, 5, 3, 1, 2])
    kept = targets != 3
    targets[~kept] = ignore_index
    options = {"ignore_index": ignore_index, "label_smoothing": s}
    for reduction in ("mean", "sum"):
        expected = cross_entropy(
            logits[kept], targets[kept], reduction=reduction, label_smoothing=s
        )
        got = cross_entropy(logits, targets, reduction=reduction, **options)
        assert got == pytest.approx(expected, rel=1e-14)
    assert not np.any(cross_entropy(logits, targets, reduction="none", **options)[~kept])
    gradient = grad(lambda logits: cross_entropy(logits, targets, **options))(logits)
    assert not np.any(gradient[~kept])
    assert np.all(gradient[kept])


def test_logits_of_ten_thousand(rng):
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    loss, gradient = (
        f(logits)
        for f in (
            lambda logits: cross_entropy(logits, np.array([0, 0]), reduction="none"),
            grad(lambda logits: cross_entropy(logits, np.array([0, 0]), reduction="sum")),
        )
    )
    assert loss.tolist() == [0.0, 2e4]
    assert gradient.tolist() == [[0.0, 0.0, 0.0], [-1.0, 1.0, 0.0]]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_targets_may_have_any_integer_dtype(dtype, library, rng):
    logits, targets = rng.standard_normal((3, 300)), np.array([1, 100, 1])
    there = library.asarray(targets.astype(dtype))

    def loss(logits):
        return cross_entropy(logits, there)

    expected = cross_entropy(logits, targets)
    assert float(loss(library.asarray(logits))) == pytest.approx(expected, rel=1e-14)
    expected = grad(lambda logits: cross_entropy(logits, targets))(logits)
    got = to_host(grad(loss)(library.asarray(logits)))
    np.testing.assert_allclose(got, expected, atol=1e-15)


def test_an_unsigned_padding_token_can_be_ignored(rng):
    logits, targets = rng.standard_normal((3, 7)), np.array([255, 1, 255], dtype="uint8")
    loss = cross_entropy(logits, targets, ignore_index=255)
    assert loss == pytest.approx(cross_entropy(logits[1], np.array(1)), rel=1e-14)


def test_no_targets_at_all():
    none = np.empty((0, 7)), np.empty(0, dtype=int)
    assert cross_entropy(*none, reduction="sum") == 0.0
    assert cross_entropy(*none, reduction="none").shape == (0,)
    with pytest.raises(ValueError, match="at least one target to take the mean over, got none"):
        cross_entropy(*none)
    with pytest.raises(ValueError, match="at least one target to take the mean over, got none"):
        cross_entropy(np.ones((2, 7)), np.array([-100, -100]))


def test_what_is_no_target_is_refused():
    logits = np.ones((2, 7))
    for target in (7, -1):
        with pytest.raises(ValueError, match=rf"expected targets in \[0, 7\), got {target}"):
            cross_entropy(logits, np.array([0, target]))
    with pytest.raises(TypeError, match="expected targets to be integers, got float64"):
        cross_entropy(logits, np.ones(2))
    with pytest.raises(TypeError, match="expected targets to be an array, got list"):
        cross_entropy(logits, [0, 1])
    with pytest.raises(ValueError, match=r"expected targets of shape \(2,\), got \(2, 1\)"):
        cross_entropy(logits, np.zeros((2, 1), dtype=int))
    with pytest.raises(ValueError, match=r"logits to have at least 1 axes, got shape \(\)"):
        cross_entropy(np.ones(()), np.array(0))


def test_unknown_options_are_refused():
    logits, targets = np.ones((2, 7)), np.array([0, 1])
    with pytest.raises(ValueError, match="got 'meen'; did you mean 'mean'"):
        cross_entropy(logits, targets, reduction="meen")
    for s in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"expected label_smoothing in \[0, 1\], got"):
            cross_entropy(logits, targets, label_smoothing=s)


def test_the_loss_lies_where_the_logits_lie(library, rng):
    logits = library.asarray(rng.standard_normal((2, 7)).astype("float32"))
    loss = cross_entropy(logits, library.asarray(np.array([1, -100])))
    assert loss.dtype == logits.dtype
    assert array_namespace(loss) is array_namespace(logits)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_recorded_cross_entropy(reduction, label_smoothing, golden, library):
    f = golden("torch_cross_entropy")
    name = f"{reduction}_ls{label_smoothing}"
    logits, targets = library.asarray((f["in.logits"], f["in.targets"]))

    def loss(logits):
        return cross_entropy(logits, targets, reduction=reduction, label_smoothing=label_smoothing)

    if reduction == "none":
        return agree(to_host(loss(logits)).reshape(-1), f[f"out.loss_{name}"])
    value, gradient = value_and_grad(loss)(logits)
    agree(value, f[f"out.loss_{name}"])
    return agree(gradient, f[f"gin.logits_{name}"])
