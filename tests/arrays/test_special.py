"""The normal distribution function, held to the C library's erfc."""

import math
from decimal import Decimal

import numpy as np
import pytest
from gradcheck import check_gradient

from mgt_np import array_namespace, grad
from mgt_np.arrays import device, normal_cdf, to_host

POINTS = np.concatenate([np.linspace(-38.0, 38.0, 4001), np.linspace(-1e-3, 1e-3, 101)])


def reference(x):
    """½ erfc(s), s = −x/√2, with a first-order correction for the rounding of s."""

    def one(x):
        s = -x / math.sqrt(2.0)
        rest = float(Decimal(-x) / Decimal(2).sqrt() - Decimal(s))
        return 0.5 * math.erfc(s) - rest * math.exp(-s * s) / math.sqrt(math.pi)

    return np.array([one(t) for t in x.tolist()])


def density(x):
    return np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def test_absolute_error(library):
    error = np.abs(to_host(normal_cdf(library.asarray(POINTS))) - reference(POINTS))
    assert np.max(error) <= 4e-16


def test_relative_error(library):
    x = POINTS[POINTS >= -10.0]
    error = np.abs(to_host(normal_cdf(library.asarray(x))) / reference(x) - 1.0)
    assert np.max(error) <= 2e-14


def test_relative_error_of_float32(library):
    """Rounding of x²/2 grows with |x|, and that is all there is."""
    x = np.linspace(-10.0, 10.0, 2001, dtype=np.float32)
    y = normal_cdf(library.asarray(x))
    assert y.dtype == library.xp.float32
    expected = reference(x.astype(np.float64))
    error = np.abs(to_host(y) / expected - 1.0)
    assert np.all(error <= np.finfo(np.float32).eps * (4.0 + x * x))


def test_far_out(library):
    x = np.array([-np.inf, -40.0, -0.0, 0.0, 40.0, np.inf, np.nan])
    y = to_host(normal_cdf(library.asarray(x)))
    assert y[:-1] == pytest.approx([0.0, 0.0, 0.5, 0.5, 1.0, 1.0], abs=2e-16)
    assert np.isnan(y[-1])


def test_reflection(library):
    x = np.linspace(0.0, 9.0, 301)
    there = library.asarray(x)
    total = normal_cdf(there) + normal_cdf(-there)
    assert np.max(np.abs(to_host(total) - 1.0)) <= 2.3e-16


def test_it_never_decreases_by_more_than_rounding():
    assert np.min(np.diff(normal_cdf(np.linspace(-9.0, 9.0, 20001)))) >= -2.3e-16


def test_shape_and_device_are_those_of_x(library):
    for shape in ((), (0,), (2, 1, 3)):
        x = library.asarray(np.zeros(shape))
        y = normal_cdf(x)
        assert tuple(y.shape) == shape
        assert device(y) == device(x)


def test_gradient(rng):
    x = rng.standard_normal((3, 4))
    check_gradient(normal_cdf, x, rng=rng)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_derivatives_on_every_library(library, dtype):
    x = np.array([-40.0, -2.0, -0.5, 0.0, 1.5, 40.0], dtype=dtype)

    def total(x):
        return array_namespace(x).sum(normal_cdf(x))

    def slope(x):
        return array_namespace(x).sum(grad(total)(x))

    first, second = grad(total)(library.asarray(x)), grad(slope)(library.asarray(x))
    assert first.dtype == second.dtype == library.asarray(x).dtype
    tolerance = 1e-15 if dtype is np.float64 else 1e-6
    wide = x.astype(np.float64)
    assert np.max(np.abs(to_host(first) - density(wide))) <= tolerance
    assert np.max(np.abs(to_host(second) + wide * density(wide))) <= tolerance
