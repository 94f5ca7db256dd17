"""Other implementations' recorded outputs: where they are, and how near ours must come."""

from pathlib import Path

import numpy as np
import pytest

from mgt_np import grad
from mgt_np.arrays import array_namespace, to_host

SHARED = Path(__file__).parents[3] / "shared"
GOLDEN = SHARED / "golden"


def load(name):
    """The arrays of a recorded file by their names there."""
    if not GOLDEN.is_dir():
        pytest.skip("the recorded outputs of other implementations (../shared/golden) are not here")
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def agree(got, expected, tolerance=1e-12):
    got = to_host(got)
    assert got.shape == expected.shape
    error = np.max(np.abs(got - expected))
    assert error <= tolerance
    size = np.max(np.abs(expected))
    if size > tolerance:  # the gradient of b_k is zero, recorded as rounding
        assert error <= tolerance * size


def check(library, function, arrays, y, R, gradients):
    *arrays, R = library.asarray([*arrays, R])
    agree(function(*arrays), y)

    def scalar(arrays):
        y = function(*arrays)
        xp = array_namespace(y)
        return xp.sum(xp.multiply(y, R))

    found = grad(scalar)(arrays)
    for got, expected in zip(found, gradients, strict=True):
        agree(got, expected)
