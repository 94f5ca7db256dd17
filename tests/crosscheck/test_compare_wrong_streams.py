"""Layers of several streams as others write them: right ones equal ours, wrong ones show."""

import numpy as np
import pytest

from mgt_np.crosscheck.contract import CONTRACT, arguments, results

torch = pytest.importorskip("torch")

from .wrong.streams import RIGHT, WRONG  # noqa: E402

IN_VALUE = [each for each in WRONG if not each.gradient_only]
IN_GRADIENT = [each for each in WRONG if each.gradient_only]
TORCH = [each for each in WRONG + RIGHT if each.library == "torch"]


def name(each):
    return f"{each.function}-{each.call.__name__}"


def sinkhorn_calls(rng):
    """Converged, few iterations, none to speak of in common between rows, and sums below ε."""
    Z = rng.standard_normal((2, 3, 4, 4))
    for n_iters in (1, 2, 3, 20):
        yield {"logits": Z}, {"n_iters": n_iters}
    for shift in (0, -14, -20, -30):
        yield {"logits": 4 * Z + shift}, {}
    yield {"logits": Z[0, 0, :1, :1]}, {}
    yield {"logits": Z[0, 0]}, {}


def mhc_update_calls(rng):
    for leading, n, d in (((2, 3), 4, 5), ((2, 3), 4, 4), ((2,), 1, 5), ((), 3, 2)):
        shapes = {"X": (n, d), "y": (d,), "H_post": (n,), "H_res": (n, n)}
        yield {key: rng.standard_normal((*leading, *end)) for key, end in shapes.items()}, {}


def mhc_params(rng, n, d):
    ends = {"pre": (n,), "post": (n,), "res": (n, n)}
    made = {f"b_{part}": rng.standard_normal(end) for part, end in ends.items()}
    for part, width in (("pre", n), ("post", n), ("res", n * n)):
        made[f"phi_{part}"] = rng.standard_normal((n * d, width)) / 3
        made[f"alpha_{part}"] = np.asarray(rng.uniform(0.5, 1.5))
    return made | {"gain": rng.uniform(0.5, 1.5, n * d)}


def mhc_coefficients_calls(rng):
    for leading, n, d in (((2, 3), 4, 5), ((2,), 3, 3), ((), 1, 4)):
        made = {"X": rng.standard_normal((*leading, n, d))} | mhc_params(rng, n, d)
        yield made, {}
        yield made | {"gain": None}, {"convention": "paper"}
        yield made | {"X": 1e-3 * made["X"]}, {"n_iters": 1}
        yield made | {"alpha_res": np.full(1, 2.0)}, {"n_iters": 3}


def hyper_connection_calls(rng):
    for leading, n, d in (((2, 3), 4, 5), ((2,), 3, 3), ((), 1, 4)):
        made = {"X": rng.standard_normal((*leading, n, d))}
        shapes = {"A_m": (n,), "B": (n,), "A_r": (n, n)}
        shapes |= {"W_m": (d, 1), "W_beta": (d, 1), "W_r": (d, n), "gain": (d,), "bias": (d,)}
        shapes |= {"s_alpha": (), "s_beta": ()}
        made |= {key: np.asarray(rng.standard_normal(end)) for key, end in shapes.items()}
        yield made, {}
        yield made | {"X": 1e-3 * made["X"]}, {}
        yield made | {"gain": None, "bias": None}, {"norm": "rms", "tanh": False}
        yield made, {"dynamic": False}


CALLS = {
    "sinkhorn": sinkhorn_calls,
    "mhc_update": mhc_update_calls,
    "mhc_coefficients": mhc_coefficients_calls,
    "mhc_connection": mhc_coefficients_calls,
    "hyper_connection": hyper_connection_calls,
}


def calls(function):
    return list(CALLS[function](np.random.default_rng(20251224)))


def as_torch(arrays, dtype=torch.float64):
    return {
        key: None if value is None else torch.tensor(value, dtype=dtype)
        for key, value in arrays.items()
    }


def made_by(call, checked, arrays, options):
    return list(results(checked, call(**arguments(checked, arrays, options))).values())


def worst_difference(each, arrays, options):
    """The largest difference from the layer, relative to the largest value of that output."""
    checked = CONTRACT[each.function]
    ours = made_by(checked.function, checked, arrays, options)
    given = as_torch(arrays) if each.library == "torch" else arrays
    theirs = made_by(each.call, checked, given, options)
    pairs = [(np.asarray(y), np.asarray(x)) for x, y in zip(ours, theirs, strict=True)]
    for y, x in pairs:
        assert y.shape == x.shape
        assert y.dtype == np.float64
    return max(float(np.max(np.abs(y - x)) / np.max(np.abs(x))) for y, x in pairs)


def gradients(call, checked, arrays, options):
    """Gradients of a weighted sum of all outputs, in PyTorch."""
    given = {
        key: value if value is None else value.requires_grad_()
        for key, value in as_torch(arrays).items()
    }
    leaves = [value for value in given.values() if value is not None]
    outputs = made_by(call, checked, given, options)
    total = sum((y * torch.cos(torch.arange(y.numel())).reshape(y.shape)).sum() for y in outputs)
    made = torch.autograd.grad(total, leaves, allow_unused=True)
    return [
        torch.zeros_like(leaf) if g is None else g for g, leaf in zip(made, leaves, strict=True)
    ]


def same_gradients(each):
    checked, same = CONTRACT[each.function], True
    for arrays, options in calls(each.function):
        ours = gradients(checked.function, checked, arrays, options)
        theirs = gradients(each.call, checked, arrays, options)
        scale = max(g.abs().max() for g in ours)
        for x, y in zip(ours, theirs, strict=True):
            same = same and bool((x - y).abs().max() <= 1e-9 * scale)
    return same


@pytest.mark.parametrize("each", RIGHT, ids=name)
def test_right_ones_equal_the_layer(each):
    for arrays, options in calls(each.function):
        assert worst_difference(each, arrays, options) < 1e-12


@pytest.mark.parametrize("each", [each for each in RIGHT if each.library == "torch"], ids=name)
def test_right_ones_have_the_gradients_of_the_layer(each):
    assert same_gradients(each)


@pytest.mark.parametrize("each", IN_VALUE, ids=name)
def test_wrong_ones_differ_from_the_layer(each):
    assert max(worst_difference(each, *call) for call in calls(each.function)) > 1e-9


@pytest.mark.parametrize("each", IN_GRADIENT, ids=name)
def test_those_wrong_in_gradient_alone_differ_there_alone(each):
    assert max(worst_difference(each, *call) for call in calls(each.function)) < 1e-12
    assert not same_gradients(each)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("each", TORCH, ids=name)
def test_dtypes_are_kept(each, dtype):
    checked, (arrays, options) = CONTRACT[each.function], calls(each.function)[0]
    given = as_torch(arrays, getattr(torch, dtype))
    for y in made_by(each.call, checked, given, options):
        assert y.dtype == getattr(torch, dtype)
        assert bool(torch.isfinite(y).all())


@pytest.mark.parametrize(
    "each", [each for each in WRONG + RIGHT if each.library == "numpy"], ids=name
)
def test_float32_is_kept_in_numpy(each):
    checked, (arrays, options) = CONTRACT[each.function], calls(each.function)[0]
    given = {key: value.astype(np.float32) for key, value in arrays.items()}
    assert {y.dtype for y in made_by(each.call, checked, given, options)} == {np.dtype("float32")}


@pytest.mark.parametrize("each", WRONG + RIGHT, ids=name)
def test_inputs_are_not_changed(each):
    checked = CONTRACT[each.function]
    for arrays, options in calls(each.function):
        as_given = as_torch if each.library == "torch" else dict
        given = as_given({k: None if v is None else v.copy() for k, v in arrays.items()})
        made_by(each.call, checked, given, options)
        for key, value in arrays.items():
            assert (value is None) == (given[key] is None)
            assert value is None or np.array_equal(np.asarray(given[key]), value)


def test_there_are_enough():
    assert len(WRONG) >= 60
    assert len(RIGHT) >= 15
    assert sum(each.parts > 1 for each in WRONG) >= 8
    assert {each.function for each in WRONG} == {each.function for each in RIGHT} == set(CALLS)
    assert all(each.mistake == "" for each in RIGHT)
    assert len({name(each) for each in WRONG + RIGHT}) == len(WRONG + RIGHT)
