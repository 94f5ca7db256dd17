"""Choosing a library by name, and moving parameters there."""

import numpy as np
import pytest
from array_libraries import host

from mgt_np.arrays import device, libraries
from mgt_np.arrays.libraries import Place, move, place


@pytest.fixture
def there(library):
    """The fixture's library as a `Place`."""
    default = device(library.xp.zeros(1))
    return Place(library.name, library.xp, library.device or default)


def tree(rng):
    return {"W": rng.standard_normal((2, 3)), "b": [rng.standard_normal(3)], "n": np.arange(3)}


def test_a_tree_moves_there_and_back(there, rng):
    original = tree(rng)
    moved = move(original, there)
    assert device(moved["W"]) == there.device
    back = move(moved, place("numpy"))
    assert type(back["W"]) is np.ndarray
    for name in ("W", "n"):
        assert np.array_equal(back[name], original[name])
    assert np.array_equal(back["b"][0], original["b"][0])


def test_nothing_shares_memory(there, rng):
    original = tree(rng)
    moved = move(original, there)
    again = move(moved, there)
    assert again["W"] is not moved["W"]
    before = host(moved["W"]).copy()
    original["W"][...] = 0.0
    assert np.array_equal(host(moved["W"]), before)


def test_a_read_only_array_moves(there):
    x = np.arange(3.0)
    x.flags.writeable = False
    assert np.array_equal(host(move(x, there)), x)


def test_a_dtype_is_given_to_floating_arrays_alone(there, rng):
    moved = move(tree(rng), there, dtype="float32")
    assert moved["W"].dtype == there.xp.float32
    assert there.xp.isdtype(moved["n"].dtype, "integral")


def test_the_default_place_is_numpy_on_the_processor():
    here = place()
    assert (here.name, str(here)) == ("numpy", "numpy on cpu")


def test_auto_takes_cupy_where_a_device_answers_and_numpy_elsewhere(monkeypatch):
    asked = place

    def with_cupy(name, device_name=None, **options):
        return "cupy" if name == "cupy" else asked(name, device_name, **options)

    monkeypatch.setattr(libraries, "place", with_cupy)
    assert asked("auto") == "cupy"

    def without_cupy(name, device_name=None, **options):
        if name == "cupy":
            raise ValueError("no device of cupy answers")
        return asked(name, device_name, **options)

    monkeypatch.setattr(libraries, "place", without_cupy)
    assert asked("auto").name == "numpy"


def test_an_unknown_library_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'torch'"):
        place("troch")


@pytest.mark.parametrize("name", ["cupy", "torch", "jax"])
def test_a_library_that_is_not_installed_says_what_to_install(name, monkeypatch):
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"{name} is not installed: pip install"):
        place(name)


def test_a_device_that_is_not_there_names_those_that_are():
    with pytest.raises(ValueError, match="one of cpu, got 'cuda:0'"):
        place("numpy", "cuda:0")


def test_a_library_without_a_device_says_so(monkeypatch):
    class Broken:
        @staticmethod
        def zeros(n):
            raise RuntimeError("no driver")

    monkeypatch.setattr(libraries, "find_spec", lambda name: True)
    monkeypatch.setattr(libraries, "import_module", lambda name: Broken)
    with pytest.raises(ValueError, match="no device of cupy answers: no driver"):
        place("cupy")
