"""The scale that is taken out before squares are taken."""

import numpy as np
import pytest
from array_libraries import on_numpy_and_strict

from mgt_np import array_namespace, grad
from mgt_np.arrays import held, magnitude, squares_are_finite


def test_it_is_the_largest_magnitude_or_one():
    x = np.array([[3.0, -4.0], [0.0, 0.0], [1e300, np.inf]])
    assert magnitude(x, axis=-1).tolist() == [[4.0], [1.0], [np.inf]]
    assert magnitude(x[:1], axis=(-2, -1)).tolist() == [[4.0]]


def test_no_gradient_flows_through_it():
    slope = grad(lambda x: array_namespace(x).sum(x / magnitude(x, axis=-1)))(np.array([1.0, 4.0]))
    assert slope.tolist() == [0.25, 0.25]


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_nor_does_that_of_a_library_with_derivatives_of_its_own(name):
    library = pytest.importorskip(name, reason=f"{name} is not installed")
    if name == "torch":
        x = library.tensor([1.0, 4.0], requires_grad=True)
        (x * held(x)).sum().backward()
        assert x.grad.tolist() == [1.0, 4.0]
        return
    slope = library.grad(lambda x: (x * held(x)).sum())(library.numpy.asarray([1.0, 4.0]))
    assert slope.tolist() == [1.0, 4.0]


@on_numpy_and_strict
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_squares_are_known_to_be_finite_or_not(library, dtype):
    """What fused forms ask before they leave out the care that infinities need."""
    array = lambda *values: library.asarray(np.asarray(values, dtype=dtype))  # noqa: E731
    assert squares_are_finite(array(1.0, -2.0e6, 0.0))
    assert squares_are_finite(array())
    for odd in (np.inf, -np.inf, np.nan, np.finfo(dtype).max):
        assert not squares_are_finite(array(1.0, odd))
