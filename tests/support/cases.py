"""What is asked of every differentiable function: a row of a room's table, and the questions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from array_libraries import NUMPY, STRICT, STRICT_DEVICE1
from gradcheck import check_gradient, weighted

from mgt_np import grad
from mgt_np.arrays import device, to_host


@dataclass(frozen=True)
class Case:
    """A function at a point where it has derivatives; its name begins with the public name.

    `constants` (tokens, masks) are passed after the arrays and never differentiated; `order` is
    that of the highest derivative.
    """

    name: str
    function: Callable
    arrays: tuple
    constants: tuple = ()
    order: int = 2

    def __str__(self):
        return self.name

    def on(self, library, dtype=np.float64):
        """The function of its arrays alone, and the arrays, with everything on that device."""
        constants = library.asarray(self.constants)
        arrays = [library.asarray(np.asarray(x, dtype=dtype)) for x in self.arrays]
        return lambda *arrays: self.function(*arrays, *constants), arrays


def check_slopes(case, rng):
    """Hold first and second derivatives to central differences."""
    function, arrays = case.on(NUMPY)
    check_gradient(function, *arrays, rng=rng, order=case.order)


def check_on(library, case, rng, dtype=np.float64, tolerance=1e-13):
    """Hold a case on that device to NumPy in float64: value and gradients, dtype and device.

    Differentiated in all arguments at once, and in each alone while the others are not traced.
    """
    function, arrays = case.on(NUMPY)
    expected = function(*arrays)
    R = rng.standard_normal(expected.shape)
    expected_gradients = grad(weighted(function, R))(arrays)

    function, arrays = case.on(library, dtype)
    _check_array(function(*arrays), expected, arrays[0], tolerance)
    scalar = weighted(function, library.asarray(R.astype(dtype)))
    gradients = grad(scalar)(arrays)
    for i, (x, g) in enumerate(zip(arrays, expected_gradients, strict=True)):
        _check_array(gradients[i], g, x, tolerance)
        alone = grad(lambda x, i=i: scalar([*arrays[:i], x, *arrays[i + 1 :]]))(x)
        _check_array(alone, g, x, tolerance)


def _check_array(got, expected, like, tolerance):
    """`got` has the dtype and device of `like`, and equals `expected` relative to its size."""
    assert (got.dtype, device(got)) == (like.dtype, device(like))
    assert got.shape == expected.shape
    size = np.max(np.abs(expected), initial=1.0)
    np.testing.assert_allclose(to_host(got), expected, rtol=0.0, atol=tolerance * size)


def check_mixed_libraries(case):
    message = r"expected arrays of one library, got .+ from \w+ and .+ from \w+"
    _check_mixed(case, NUMPY, STRICT, TypeError, message)


def check_mixed_devices(case):
    message = r"expected arrays on one device, got .+ on .+ and .+ on .+"
    _check_mixed(case, STRICT, STRICT_DEVICE1, ValueError, message)


def _check_mixed(case, library, other, error, message):
    """Move each argument elsewhere: one clear error, while the arrays are traced or not."""
    here, there = (
        [*lib.asarray(case.arrays), *lib.asarray(case.constants)] for lib in (library, other)
    )
    n = len(case.arrays)
    for i in range(len(here)):
        mixed = [*here[:i], there[i], *here[i + 1 :]]
        with pytest.raises(error, match=message):
            case.function(*mixed)
        with pytest.raises(error, match=message):
            grad(lambda arrays, constants=mixed[n:]: case.function(*arrays, *constants))(mixed[:n])


def check_integers_are_refused(case, library):
    """Put integers in the place of each array: an error that says what was expected."""
    function, arrays = case.on(library)
    for i, x in enumerate(arrays):
        integers = library.asarray(np.ones(x.shape, dtype=np.int64))
        with pytest.raises(TypeError, match=r"expected .* to be floating, got .*int64"):
            function(*arrays[:i], integers, *arrays[i + 1 :])
