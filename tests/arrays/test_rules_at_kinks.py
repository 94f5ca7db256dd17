"""Where a function has a kink or a limit, its rule takes the mean slope, and nothing is NaN."""

import numpy as np
import pytest

from mgt_np import grad, value_and_grad
from mgt_np.arrays import to_host
from mgt_np.arrays.namespace import library_of


def slopes(library, function, *arrays):
    """The gradients of Σ function(xp, *arrays), as lists."""

    def total(arrays):
        xp = library_of(arrays[0]).traced_xp
        return xp.sum(function(xp, *arrays))

    gradients = grad(total)([library.asarray(np.asarray(x, dtype=np.float64)) for x in arrays])
    return [to_host(g).tolist() for g in gradients]


def curvatures(library, function, x):
    """The gradient of Σ wᵢ gᵢ, w = 1, 2, …, where g is that of Σ function(xp, x), as a list."""
    w = library.asarray(np.arange(1.0, np.size(x) + 1.0).reshape(np.shape(x)))

    def total(x):
        xp = library_of(x).traced_xp
        g = grad(lambda x: xp.sum(function(xp, x)))(x)
        return xp.sum(xp.multiply(g, xp.add(xp.multiply(x, 0.0), w)))

    return to_host(grad(total)(library.asarray(np.asarray(x, dtype=np.float64)))).tolist()


def test_abs_at_zero(library):
    assert slopes(library, lambda xp, x: xp.abs(x), [-2.0, 0.0, 3.0]) == [[-1.0, 0.0, 1.0]]


def test_sign_is_flat(library):
    assert slopes(library, lambda xp, x: xp.sign(x), [-2.0, 0.0, 3.0]) == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_equals_share(library, name):
    x, y = [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]
    g_x, g_y = slopes(library, lambda xp, x, y: getattr(xp, name)(x, y), x, y)
    assert g_x == ([0.5, 0.0, 1.0] if name == "maximum" else [0.5, 1.0, 0.0])
    assert g_y == ([0.5, 1.0, 0.0] if name == "maximum" else [0.5, 0.0, 1.0])


@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_share(library, name):
    x = [[1.0, 1.0, 1.0], [2.0, 2.0, 5.0]] if name == "min" else [[3.0, 3.0, 3.0], [5.0, 5.0, 2.0]]
    expected = [[1 / 3] * 3, [0.5, 0.5, 0.0]]
    assert slopes(library, lambda xp, x: getattr(xp, name)(x, axis=1), x) == [expected]


def test_clip_on_its_bounds(library):
    x = [-1.0, 0.0, 0.5, 1.0, 2.0]
    low, high = [0.0] * 5, [1.0] * 5
    g_x, g_low, g_high = slopes(library, lambda xp, x, a, b: xp.clip(x, a, b), x, low, high)
    assert g_x == [0.0, 0.5, 1.0, 0.5, 0.0]
    assert g_low == [1.0, 0.5, 0.0, 0.0, 0.0]
    assert g_high == [0.0, 0.0, 0.0, 0.5, 1.0]


def test_std_of_equals(library):
    x = [[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]]
    deviation = lambda xp, x: xp.std(x, axis=1)  # noqa: E731
    g = slopes(library, deviation, x)[0]
    assert g[0] == [0.0, 0.0, 0.0]
    assert g[1] == pytest.approx([-(6**-0.5), 0.0, 6**-0.5])
    assert curvatures(library, deviation, x[:1]) == [[0.0, 0.0, 0.0]]


def test_var_over_no_axis(library):
    assert slopes(library, lambda xp, x: xp.var(x, axis=()), [1.0, 2.0]) == [[0.0, 0.0]]


@pytest.mark.parametrize("order", [1, 2, 3, 1.5, np.inf, -np.inf])
def test_vector_norm_of_zero(library, order):
    norm = lambda xp, x: xp.linalg.vector_norm(x, axis=1, ord=order)  # noqa: E731
    assert slopes(library, norm, [[0.0, 0.0], [3.0, 3.0]])[0][0] == [0.0, 0.0]


def test_vector_norm_of_zero_has_no_curvature(library):
    norm = lambda xp, x: xp.linalg.vector_norm(x)  # noqa: E731
    assert curvatures(library, norm, [0.0, 0.0]) == [0.0, 0.0]


def test_largest_entries_share_the_slope_of_their_norm(library):
    norm = lambda xp, x: xp.linalg.vector_norm(x, ord=np.inf)  # noqa: E731
    assert slopes(library, norm, [-3.0, 1.0, 3.0]) == [[-0.5, 0.0, 0.5]]


def test_counting_norm_is_refused(library):
    with pytest.raises(ValueError, match="ord=0"):
        slopes(library, lambda xp, x: xp.linalg.vector_norm(x, ord=0), [1.0, 2.0])


def test_zero_to_the_zero(library):
    g_x, g_y = slopes(library, lambda xp, x, y: xp.pow(x, y), [0.0, 0.0, 2.0], [0.0, 2.0, 0.0])
    assert g_x == [0.0, 0.0, 0.0]
    assert g_y == pytest.approx([0.0, 0.0, np.log(2.0)])


@pytest.mark.parametrize("exponent", [0, 1, 2, 2.0])
def test_powers_of_zero(library, exponent):
    expected = [1.0] if exponent == 1 else [0.0]
    assert slopes(library, lambda xp, x: xp.pow(x, exponent), [0.0]) == [expected]
    expected = [2.0] if exponent == 2 else [0.0]
    assert curvatures(library, lambda xp, x: xp.pow(x, exponent), [0.0]) == expected


def test_prod_with_zeros(library):
    x = [[2.0, 0.0, 3.0], [0.0, 0.0, 3.0]]
    expected = [[0.0, 6.0, 0.0], [0.0, 0.0, 0.0]]
    assert slopes(library, lambda xp, x: xp.prod(x, axis=-1), x) == [expected]


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([-np.inf, -np.inf, 1.0], [0.0, -np.inf, -np.inf], [0.0, 0.5, 1.0]),
        ([np.inf, np.inf, 2.0], [2.0, np.inf, np.inf], [1.0, 0.5, 0.0]),
    ],
)
def test_logaddexp_of_infinities(library, x, y, expected):
    g_x, g_y = slopes(library, lambda xp, x, y: xp.logaddexp(x, y), x, y)
    assert g_x == expected
    assert g_y == [1.0 - share for share in expected]


def test_where_hides_what_it_does_not_choose(library):
    """The branch not taken may be infinite; its slope must not leak as NaN."""

    def safe_log(xp, x):
        positive = xp.greater(x, 0.0)
        return xp.where(positive, xp.log(xp.where(positive, x, 1.0)), -1.0)

    assert slopes(library, safe_log, [0.0, 2.0]) == [[0.0, 0.5]]


def test_a_number_of_one_element_counts_as_a_number(library):
    value, g = value_and_grad(lambda x: x * x)(library.asarray(np.array([3.0])))
    assert to_host(value).tolist() == [9.0]
    assert to_host(g).tolist() == [6.0]
