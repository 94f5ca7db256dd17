"""The scale that is taken out before squares are taken."""

import numpy as np

from mgt_np import array_namespace, grad
from mgt_np.layers.scale import magnitude


def test_it_is_the_largest_magnitude_or_one():
    x = np.array([[3.0, -4.0], [0.0, 0.0], [1e300, np.inf]])
    assert magnitude(x, axis=-1).tolist() == [[4.0], [1.0], [np.inf]]
    assert magnitude(x[:1], axis=(-2, -1)).tolist() == [[4.0]]


def test_no_gradient_flows_through_it():
    slope = grad(lambda x: array_namespace(x).sum(x / magnitude(x, axis=-1)))(np.array([1.0, 4.0]))
    assert slope.tolist() == [0.25, 0.25]
