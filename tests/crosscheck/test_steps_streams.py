"""Sinkhorn's iteration and the update of streams, step by step: what each choice computes."""

import itertools

import numpy as np
import pytest
from parameter_ids import said

from mgt_np import layers
from mgt_np.crosscheck import noise
from mgt_np.crosscheck.cases import cases_of
from mgt_np.crosscheck.contract import CONTRACT, arguments, results
from mgt_np.crosscheck.steps import BUGS
from mgt_np.crosscheck.steps.streams import STEPS, mhc_update, sinkhorn

CASES = [case for name in STEPS for case in cases_of(name)]
RNG_SEED = 20240617
OPTIONS = [
    {"order": order, "start": start, "eps": eps, "eps_form": form, "shift": shift}
    for order, start, eps, form, shift in itertools.product(
        ("columns_rows", "rows_columns"),
        ("exp", "softmax"),
        (0.0, 1e-6),
        ("add", "clamp"),
        (None, "rows", "columns"),
    )
]


def error(got, expected):
    """The largest error of several results, each relative to its largest entry."""
    return max(
        float(np.max(np.abs(got[name] - expected[name])) / np.max(np.abs(expected[name])))
        for name in expected
    )


def composed(name, arrays, options):
    return results(CONTRACT[name], STEPS[name].compute(**arrays, **options))


def logits(shift=0.0, scale=1.5):
    return shift + scale * np.random.default_rng(RNG_SEED).standard_normal((2, 3, 4, 4))


def inputs(name):
    """Calls of a function on which its readings show: arrays and options."""
    calls = [(case.arrays, case.options) for case in cases_of(name)]
    if name == "sinkhorn":
        calls += [({"logits": logits(-16.0)}, {"n_iters": 2} | options) for options in OPTIONS]
        calls.append(({"logits": logits(1000.0)}, {"n_iters": 2}))
    return calls


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_first_choices_are_the_layer(case):
    checked = CONTRACT[case.function]
    layer = checked.function(**arguments(checked, case.arrays, case.options))
    made = composed(case.function, case.arrays, case.options)
    assert error(made, results(checked, layer)) <= 1e-13


@pytest.mark.parametrize("n_iters", [0, 1, 3, 20])
@pytest.mark.parametrize("shift", [0.0, -16.0])
def test_options_of_sinkhorn_are_the_layer_s(shift, n_iters):
    Z = logits(shift)
    for options in OPTIONS:
        given = options | {"n_iters": n_iters, "temperature": 0.7}
        np.testing.assert_allclose(
            sinkhorn(Z, **given), layers.sinkhorn(Z, **given), rtol=1e-12, err_msg=str(given)
        )


def test_logits_far_from_zero_do_not_overflow():
    Z = logits(1000.0)
    np.testing.assert_allclose(sinkhorn(Z), layers.sinkhorn(Z), rtol=1e-12)
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isnan(sinkhorn(Z, exponent="as it is")).all()
    np.testing.assert_allclose(
        sinkhorn(Z - 1000.0, exponent="as it is"), layers.sinkhorn(Z), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("name", "reading"),
    [(name, reading) for name, steps in STEPS.items() for reading in steps.readings],
    ids=lambda x: getattr(x, "name", x),
)
def test_a_reading_shows_on_some_input(name, reading):
    assert reading.bug in BUGS
    for arrays, options in inputs(name):
        with np.errstate(over="ignore", invalid="ignore"):
            made = composed(name, arrays, options | {reading.axis: reading.value})
        if not error(made, composed(name, arrays, options)) <= 1e-9:  # or not a number
            return
    pytest.fail("it changes nothing")


@pytest.mark.parametrize("name", STEPS)
def test_no_two_readings_are_the_same_choice(name):
    names = [reading.name for reading in STEPS[name].readings]
    assert len(set(names)) == len(names)


def test_half_steps_divide_once_more_or_less():
    Z = logits()
    two, three = layers.sinkhorn(Z, n_iters=2), layers.sinkhorn(Z, n_iters=3)
    half = two / np.sum(two, axis=-2, keepdims=True)
    for given, expected in (((3, -2), two), ((2, 2), three), ((2, 1), half), ((3, -1), half)):
        n_iters, half_steps = given
        got = sinkhorn(Z, n_iters=n_iters, half_steps=half_steps)
        np.testing.assert_allclose(got, expected, rtol=1e-13)
    np.testing.assert_allclose(sinkhorn(Z, n_iters=0, half_steps=-2), np.exp(Z), rtol=1e-13)


@pytest.mark.parametrize("n_iters", [1, 3])
def test_a_softmax_start_is_rows_first_and_half_a_step_more(n_iters):
    Z = logits()
    np.testing.assert_allclose(
        sinkhorn(Z, n_iters=n_iters, start="softmax"),
        sinkhorn(Z, n_iters=n_iters, order="rows_columns", half_steps=1),
        rtol=1e-13,
    )


@pytest.mark.parametrize(("shift", "same"), [("columns", True), ("all", True), ("rows", False)])
def test_a_shift_that_the_first_division_takes_back_changes_nothing(shift, same):
    Z = logits()
    shifted, plain = sinkhorn(Z, n_iters=2, shift=shift), sinkhorn(Z, n_iters=2)
    assert np.allclose(shifted, plain, rtol=1e-12, atol=0.0) == same


def test_epsilon_of_the_softmax_start():
    Z, eps = logits(), 0.1
    M = layers.softmax(Z)
    for start_eps, start in (("added", M + eps), ("left out", M)):
        expected = start / (np.sum(start, axis=-2, keepdims=True) + eps)
        got = sinkhorn(
            Z,
            n_iters=1,
            order="rows_columns",
            start="softmax",
            eps=eps,
            start_eps=start_eps,
        )
        np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_the_least_sum_is_a_clamp():
    Z = logits(-16.0)
    np.testing.assert_allclose(
        sinkhorn(Z, least=1e-6), layers.sinkhorn(Z, eps=1e-6, eps_form="clamp"), rtol=1e-12
    )


def test_the_centres_are_the_iterations_that_differ():
    names = ["deepseek-v4", "lucidrains", "megatron", "tokenbender", "marco", "edelta"]
    assert list(STEPS["sinkhorn"].centres) == names


@pytest.mark.parametrize("name", STEPS["sinkhorn"].centres)
def test_a_centre_is_the_convention_s_iteration(name):
    Z, given = logits(-16.0), layers.MHC_CONVENTIONS[name].iteration() | {"n_iters": 3}
    got = sinkhorn(Z, n_iters=3, **STEPS["sinkhorn"].centres[name])
    np.testing.assert_allclose(got, layers.sinkhorn(Z, **given), rtol=1e-12)


@pytest.mark.parametrize("fit", STEPS["sinkhorn"].fits, ids=lambda fit: fit.axis)
def test_a_fit_s_number_matters_all_the_way(fit):
    Z = logits(-16.0)
    steps = np.geomspace(fit.low, fit.high, 12)
    made = [sinkhorn(Z, n_iters=1, **{fit.axis: value}) for value in steps]
    for a, b in itertools.pairwise(made):
        assert error({"y": a}, {"y": b}) > 1e-9
    assert "{value}" in fit.says


def alone(Z, axis):
    M = np.exp(Z)
    return M / np.sum(M, axis=axis, keepdims=True)


def at_once(M, power):
    r, c = np.sum(M, axis=-1, keepdims=True), np.sum(M, axis=-2, keepdims=True)
    return M / r**power / c**power


def by_means(M):
    M = M / np.mean(M, axis=-2, keepdims=True)
    return M / np.mean(M, axis=-1, keepdims=True)


def over_the_first_axes(M):
    M = M / np.sum(M, axis=0, keepdims=True)
    return M / np.sum(M, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("choice", "formula"),
    [
        ({"n_iters": 0}, np.exp),
        ({"divided": "rows alone"}, lambda Z: alone(Z, -1)),
        ({"divided": "columns alone"}, lambda Z: alone(Z, -2)),
        ({"divided": "at once"}, lambda Z: at_once(at_once(np.exp(Z), 1.0), 1.0)),
        ({"divided": "roots at once"}, lambda Z: at_once(at_once(np.exp(Z), 0.5), 0.5)),
        (
            {"divided": "first two axes"},
            lambda Z: over_the_first_axes(over_the_first_axes(np.exp(Z))),
        ),
        ({"by": "means"}, lambda Z: by_means(by_means(np.exp(Z)))),
        ({"count": "divisions"}, lambda Z: layers.sinkhorn(Z, n_iters=1)),
        ({"count": "one too few, shifted"}, lambda Z: layers.sinkhorn(Z, n_iters=1)),
        (
            {"count": "one too few, shifted", "n_iters": 1},
            lambda Z: np.exp(Z - np.max(Z, axis=(-2, -1), keepdims=True)),
        ),
        (
            {"start": "sigmoid"},
            lambda Z: layers.sinkhorn(-np.log(1.0 + np.exp(-Z)), n_iters=2),
        ),
        ({"base": 2.0}, lambda Z: layers.sinkhorn(Z, n_iters=2, temperature=1.0 / np.log(2.0))),
        ({"clip": 1.5}, lambda Z: layers.sinkhorn(np.clip(Z, -1.5, 1.5), n_iters=2)),
        (
            {"matrices": "first"},
            lambda Z: layers.sinkhorn(Z[0, 0], n_iters=2) + np.zeros(Z.shape),
        ),
        ({"result": "logarithm"}, lambda Z: np.log(layers.sinkhorn(Z, n_iters=2))),
        (
            {"result": "mean with its transpose"},
            lambda Z: (layers.sinkhorn(Z, n_iters=2) + layers.sinkhorn(Z, n_iters=2).mT) / 2.0,
        ),
    ],
    ids=said,
)
def test_choices_of_the_iteration_are_their_formulas(choice, formula):
    Z = logits()
    np.testing.assert_allclose(sinkhorn(Z, **({"n_iters": 2} | choice)), formula(Z), rtol=1e-12)


def test_an_iteration_that_ends_early_ends_at_its_tolerance():
    Z = logits()
    off = [
        np.max(np.abs(np.sum(layers.sinkhorn(Z, n_iters=n), axis=-2) - 1.0)) for n in range(1, 21)
    ]
    n = 1 + int(np.argmax(np.array(off) < 0.03))
    assert 1 < n < 20
    np.testing.assert_allclose(
        sinkhorn(Z, tolerance=0.03), layers.sinkhorn(Z, n_iters=n), rtol=1e-13
    )


def test_choices_of_the_update():
    rng = np.random.default_rng(RNG_SEED)
    X, y = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((2, 3, 5))
    H_post, H_res = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 4, 4))
    written = np.einsum("bti,btd->btid", H_post, y)
    expected = {
        ("mixing", "not"): X + written,
        ("mixing", "after"): np.einsum("btij,btjd->btid", H_res, X + written),
        ("writing", "as it is"): np.einsum("btij,btjd->btid", H_res, X) + y[:, :, None],
        ("writing", "divided"): np.einsum("btij,btjd->btid", H_res, X) + written / 4.0,
        ("writing", "first stream"): np.einsum("btij,btjd->btid", H_res, X)
        + written * np.array([1.0, 0.0, 0.0, 0.0])[:, None],
        ("writing", "reshaped"): np.einsum("btij,btjd->btid", H_res, X)
        + written.mT.reshape(written.shape),
        ("features", "d·n"): (
            np.einsum("btij,btdj->btdi", H_res, X.reshape(2, 3, 5, 4)) + written.mT
        ).reshape(X.shape),
        ("tokens", "first"): np.einsum("bij,btjd->btid", H_res[:, 0], X)
        + np.einsum("bi,btd->btid", H_post[:, 0], y),
    }
    for (axis, value), made in expected.items():
        np.testing.assert_allclose(
            mhc_update(X, y, H_post, H_res, **{axis: value}), made, rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_rounding_moves_the_steps_as_much_as_the_layer(case):
    checked = CONTRACT[case.function]

    def layer(arrays):
        return results(checked, checked.function(**arguments(checked, arrays, case.options)))

    reference = layer(case.arrays)
    ours = noise.scale(
        lambda arrays: composed(case.function, arrays, case.options),
        case.arrays,
        reference,
        "float32",
    )
    for name, scale in noise.scale(layer, case.arrays, reference, "float32").items():
        assert scale / 3.0 < ours[name] < 3.0 * scale
