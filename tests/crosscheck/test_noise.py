"""The scale of rounding bounds what rounding does, and is no larger than it need be."""

import sys
import threading
import warnings

import numpy as np
import pytest

from mgt_np.crosscheck import noise
from mgt_np.crosscheck.cases import CASES, cases_of
from mgt_np.crosscheck.contract import CONTRACT, arguments, results
from mgt_np.crosscheck.other_side import rounded

COMPARE = sys.modules["mgt_np.crosscheck.compare"]


def layer(case):
    """The layer's results by name, as a function of the arrays of a case."""
    checked = CONTRACT[case.function]
    return lambda a: results(checked, checked.function(**arguments(checked, a, case.options)))


def in_dtype(arrays, dtype):
    return {name: None if x is None else x.astype(dtype) for name, x in arrays.items()}


def ratios(found, reference, scales):
    """The largest error of each result in units of its scale."""
    for name, y in reference.items():
        off = float(np.max(np.abs(np.asarray(found[name], float) - y)))
        yield off / scales[name] if off else 0.0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_scale_bounds_what_our_own_layers_lose(dtype):
    worst = {}
    for case in CASES.values():
        arrays = rounded(case, dtype)
        reference = layer(case)(arrays)
        scales = noise.scale(layer(case), arrays, reference, dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # float16 ends at 65504
            found = layer(case)(in_dtype(arrays, dtype))
        worst[case.id] = max(ratios(found, reference, scales))
    assert max(worst.values()) < 2.0, max(worst, key=worst.get)
    assert np.median(list(worst.values())) > 0.05


@pytest.mark.parametrize(
    "function", ["layer_norm", "scaled_dot_product_attention", "unit_direction", "mgt_residual"]
)
def test_the_scale_bounds_what_our_own_gradients_lose(function):
    for case in cases_of(function):
        arrays = rounded(case, "float32")
        reference, scales = COMPARE.gradient_of(case, arrays, "float32")
        found = COMPARE._pulled(CONTRACT[function].function, case, in_dtype(arrays, "float32"))
        assert {x.dtype.name for x in found.values()} == {"float32"}
        assert max(ratios(found, reference, scales)) < 2.0, case.id
        assert set(found) == {name for name, x in case.arrays.items() if x is not None}


EXACT = {
    "negative": lambda x: -x,
    "absolute": np.abs,
    "maximum": lambda x: np.maximum(x, 0.0),
    "largest": lambda x: np.max(x, axis=-1),
    "comparison": lambda x: x > 0.0,
    "transposed": lambda x: np.swapaxes(x, -1, -2),
    "part": lambda x: x[..., 1:],
    "joined": lambda x: np.concatenate([x, x], axis=-1),
    "chosen": lambda x: np.where(x > 0.0, x, 0.0),
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
}
INEXACT = {
    "sum": lambda x: np.sum(x, axis=-1),
    "product": lambda x: x * x,
    "quotient": lambda x: x / 3.0,
    "matrix product": lambda x: x @ x,
    "exponential": np.exp,
    "mean": lambda x: np.mean(x, axis=-1),
    "norm": lambda x: np.linalg.norm(x, axis=-1),
    "singular values": lambda x: np.linalg.svd(x, compute_uv=False),
    "in place": lambda x: np.multiply(x, 1.5, out=x.copy()),
}


def in_a_noisy_run(function, x, dtype="float32", seed=0):
    with noise.rounding(dtype, seed):
        return function(x.view(noise.Noisy))


class TestNoisy:
    @pytest.mark.parametrize("name", EXACT)
    def test_what_is_exact_does_not_round(self, rng, name):
        x = rng.normal(size=(2, 3, 3))
        assert np.array_equal(in_a_noisy_run(EXACT[name], x), EXACT[name](x))

    @pytest.mark.parametrize("name", INEXACT)
    @pytest.mark.parametrize("dtype", noise.UNIT)
    def test_what_is_not_exact_rounds_as_that_dtype_does(self, rng, name, dtype):
        x, unit = rng.normal(size=(2, 3, 3)), noise.UNIT[dtype]
        found, plain = in_a_noisy_run(INEXACT[name], x, dtype), INEXACT[name](x)
        assert isinstance(found, noise.Noisy)
        off = np.max(np.abs(np.asarray(found) - plain))
        assert 0.01 * unit < off < 20.0 * unit
        assert np.array_equal(plain, INEXACT[name](x))  # not in place

    def test_a_sum_errs_with_the_size_of_what_it_adds(self, rng):
        x = np.array([1e4, -1e4, 1.0])
        off = [float(in_a_noisy_run(np.sum, x, seed=seed)) - 1.0 for seed in range(8)]
        assert 1e3 * noise.UNIT["float32"] < max(map(abs, off)) < 1e4 * noise.UNIT["float32"]

    def test_whole_numbers_and_truth_values_stay(self):
        given = {"n": np.arange(3), "mask": np.array([True, False]), "none": None, "word": "inside"}
        with noise.rounding("bfloat16", 0):
            found = noise.noisy(given)
        assert found["n"] is given["n"]
        assert found["mask"] is given["mask"]
        assert (found["none"], found["word"]) == (None, "inside")


class TestScale:
    def scale(self, function, x, dtype="float32", **how):
        def made(arrays):
            return {"y": function(arrays["x"])}

        return noise.scale(made, {"x": x}, made({"x": x}), dtype, **how)["y"]

    def test_of_a_constant_is_its_unit_roundoff(self):
        scale = self.scale(lambda x: np.array([0.0, -3.0]), np.ones(2))
        assert scale == 3.0 * noise.UNIT["float32"]

    def test_of_zeros_is_zero(self):
        assert self.scale(lambda x: 0.0 * x, np.ones(3)) == 0.0
        assert self.scale(lambda x: x, np.zeros(0)) == 0.0

    def test_the_input_is_rounded_too(self, rng):
        x = 1.0 + rng.random(5)
        scale = self.scale(lambda x: x, x)
        assert 1.5 < scale / (noise.UNIT["float32"] * np.max(x)) <= 2.0

    def test_the_same_seed_has_the_same_scale(self, rng):
        x = rng.normal(size=(2, 5))
        np.random.default_rng(1).random()
        scales = [self.scale(np.exp, x, seed=seed) for seed in (0, 0, 1)]
        assert scales[0] == scales[1] != scales[2]

    def test_more_runs_find_no_less(self, rng):
        x = rng.normal(size=5)
        scales = [self.scale(np.exp, x, runs=runs) for runs in (1, 4, 16)]
        assert sorted(scales) == scales
        assert scales[0] < scales[2]

    def test_goes_with_the_unit_roundoff(self, rng):
        x = rng.normal(size=5)
        scales = {dtype: self.scale(np.tanh, x, dtype) for dtype in noise.UNIT}
        for dtype, unit in noise.UNIT.items():
            # float64 cannot be noisier than it is in steps of its own
            assert scales[dtype] / unit == pytest.approx(scales["float16"] * 2.0**11, rel=0.3)

    def test_what_is_not_finite_has_no_part_in_it(self):
        x = np.array([1.0, np.inf, np.nan])
        assert 0.0 < self.scale(lambda x: x * 2.0, x) < 1e-6


class TestContexts:
    def test_outside_nothing_rounds(self, rng):
        x = rng.normal(size=(3, 3)).view(noise.Noisy)
        assert np.array_equal(np.exp(x) @ x / 3.0, np.exp(np.asarray(x)) @ np.asarray(x) / 3.0)

    def test_an_error_inside_ends_the_context(self):
        with pytest.raises(KeyError), noise.rounding("float32", 0):
            raise KeyError
        assert noise._ROUNDING.get() is None

    def test_an_inner_context_hides_the_outer_one(self, rng):
        x = rng.normal(size=5).view(noise.Noisy)

        def errors(nested):
            with noise.rounding("float64", 0):
                before = np.exp(x)
                if nested:
                    with noise.rounding("bfloat16", 0):
                        assert np.max(np.abs(np.exp(x) - np.exp(np.asarray(x)))) > 1e-5
                return before, np.exp(x)

        for y, z in zip(errors(False), errors(True), strict=True):
            assert np.array_equal(y, z)

    def test_another_thread_is_no_part_of_it(self, rng):
        x, found = rng.normal(size=5).view(noise.Noisy), []
        with noise.rounding("bfloat16", 0):
            thread = threading.Thread(target=lambda: found.append(np.exp(x)))
            thread.start()
            thread.join()
        assert np.array_equal(found[0], np.exp(np.asarray(x)))
