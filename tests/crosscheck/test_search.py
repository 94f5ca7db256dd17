"""The search names what was done, no more than that, and nothing where it does not know."""

import sys

import numpy as np
import pytest

from mgt_np import layers
from mgt_np.crosscheck import compare, noise
from mgt_np.crosscheck.cases import Case, cases_of
from mgt_np.crosscheck.readings import generic, predict, steps_of
from mgt_np.crosscheck.search import WRONG, Search, Trial

COMPARE = sys.modules["mgt_np.crosscheck.compare"]


def trial(case, theirs):
    """A trial in float64 of what `theirs(case)` returns by the names of the outputs."""
    reference = predict(case, case.arrays)
    made = lambda arrays: predict(case, arrays)  # noqa: E731
    scales = noise.scale(made, case.arrays, reference, "float64")
    return Trial(case, "float64", case.arrays, theirs(case), reference, scales)


def readings_of(function, names):
    known = {r.name: r for r in (*steps_of(function).readings, *generic(function))}
    return tuple(known[name] for name in names)


def search_for(function, names=(), fitted=None, cases=None, **how):
    """A search for these readings, which all outputs of a function were made by."""
    readings = readings_of(function, names)
    made = lambda case: predict(case, case.arrays, readings, fitted)  # noqa: E731
    trials = [trial(case, made) for case in cases or cases_of(function)]
    return Search(trials, list(trials[0].reference), **how)


def found(search):
    return [{r.name for r in explanation.readings} for explanation in search.explanations()]


class TestNames:
    @pytest.mark.parametrize(
        "function", ["softmax", "unit_direction", "delta_update", "geometric_update", "mgt_beta"]
    )
    def test_each_reading_alone(self, function):
        trials = search_for(function).trials
        for reading in steps_of(function).readings:
            with np.errstate(all="ignore"):  # exp overflows without its shift
                for one in trials:
                    one.theirs = predict(one.case, one.arrays, (reading,))
            assert found(Search(trials, ["y"])) == [{reading.name}]

    @pytest.mark.parametrize(
        ("function", "names"),
        [
            ("softmax", ["argument x=halved"]),
            ("mhc_update", ["argument X=first of the batch"]),
            ("geometric_update", ["argument x=swapped with v"]),
            ("geometric_update", ["erase=unit_x", "alpha_on=v"]),
            ("delta_update", ["erase=mean", "argument v=halved"]),
            ("layer_norm", ["variance=unbiased", "bias_place=before gain", "centre=numerator"]),
            ("layer_norm", ["times=2", "variance=sum", "argument gain=plus one"]),
            # a convention, and one step from it
            ("sinkhorn", ["order=rows_columns", "start=softmax", "eps=1e-06"]),
            ("sinkhorn", ["order=rows_columns", "start=softmax", "eps=1e-06", "n_iters=10"]),
        ],
    )
    def test_a_set(self, function, names):
        search = search_for(function, names)
        assert found(search) == [set(names)]

    def test_several_results_at_once(self):
        search = search_for("mhc_coefficients", ["flattened=d·n"])
        assert search.names == ["H_pre", "H_post", "H_res"]
        assert found(search) == [{"flattened=d·n"}]

    def test_the_convention_that_it_starts_from(self):
        names = ["order=rows_columns", "start=softmax", "eps=1e-06"]
        (explanation,) = search_for("sinkhorn", names).explanations()
        assert explanation.convention == "deepseek-v4"

    @pytest.mark.parametrize(
        ("function", "fitted", "name"),
        [
            ("layer_norm", {"eps": 2e-5}, "eps=2e-05"),
            ("unit_direction", {"clamp_eps": 3.7e-4}, "clamp_eps=0.00037"),
            ("softmax", {"temperature": 0.7}, "temperature=0.7"),
        ],
    )
    def test_a_number_in_few_digits(self, function, fitted, name):
        search = search_for(function, fitted=fitted)
        (explanation,) = search.explanations()
        (reading,) = explanation.readings
        assert reading.name == name
        assert name.partition("=")[2] in reading.says
        assert explanation.worst <= WRONG


class TestClasses:
    def test_one_function_in_other_words_comes_once(self):
        for name in ("argument y=doubled", "argument H_post=doubled"):
            search = search_for("mhc_update", [name])
            assert len(search.single()) == 1
            assert found(search) == [{"argument y=doubled"}]

    def test_what_only_these_numbers_make_equal_comes_as_alternatives(self):
        plain = cases_of("geometric_update")[0]
        arrays = plain.arrays | {"v": 2.0 * plain.arrays["x"]}
        along = Case("geometric_update/v-along-x", "geometric_update", arrays)
        search = search_for("geometric_update", ["erase=v"], cases=[along])
        assert found(search) == [{"erase=v"}, {"erase=v_along_x"}]
        search = search_for("geometric_update", ["erase=v"], cases=[along, plain])
        assert found(search) == [{"erase=v"}]

    def test_no_more_readings_than_it_takes(self):
        # After a softmax of the rows, columns first and then rows is this with half a step more.
        names = ["order=rows_columns", "start=softmax", "eps=1e-06", "half_steps=1"]
        assert found(search_for("sinkhorn", names)) == [{"start=softmax", "eps=1e-06"}]

    def test_the_contract_needs_none(self):
        search = search_for("softmax")
        assert search.worst(()) <= WRONG
        assert search.worst(readings_of("softmax", ["base=2.0"])) > WRONG


def layer_norm_of_even_widths(x, gain, bias):
    """On odd widths, the last feature is not that of the token."""
    if x.shape[-1] % 2:
        x = np.concatenate([x[..., :-1], x[..., -2:-1]], axis=-1)
    return layers.layer_norm(x, gain, bias)


def softmax_without_small_weights(x):
    y = layers.softmax(x)
    return np.where(y < 1e-3, 0.0, y)


def update_with_streams_rolled(X, y, H_post, H_res):
    return layers.mhc_update(np.roll(X, 1, axis=-2), y, H_post, H_res)


def geometric_update_of_squares(x, v, beta, alpha):
    return x + beta * (alpha * v - v * (x * x))


class TestOutsideTheLattice:
    @pytest.mark.parametrize(
        ("function", "theirs", "symptom"),
        [
            (
                "layer_norm",
                layer_norm_of_even_widths,
                "wrong in each case tagged 'odd-width', right in all others",
            ),
            (
                "softmax",
                softmax_without_small_weights,
                "wrong in each case tagged 'peaky', right in all others",
            ),
            ("mhc_update", update_with_streams_rolled, "mhc_update/plain: 120 of 120 elements"),
            ("geometric_update", geometric_update_of_squares, "elements of y are wrong"),
        ],
    )
    def test_has_a_symptom_and_no_name(self, function, theirs, symptom):
        target = {function: theirs, "ARRAYS": "numpy"}
        row = compare(target, dtypes=("float64",), gradients=False)[function]
        assert (row.verdict, row.explanations) == ("wrong", [])
        assert any(symptom in said for said in row.symptoms)

    def test_where_it_sits_is_said(self):
        def wrong_behind_the_first(X, y, H_post, H_res):
            made = layers.mhc_update(X, y, H_post, H_res)
            made[1, 1:, 0, 2] = np.sin(made[1, 1:, 0, 2])
            return made

        target = {"mhc_update": wrong_behind_the_first, "ARRAYS": "numpy"}
        row = compare(target, dtypes=("float64",), gradients=False)["mhc_update"]
        assert row.explanations == []
        assert row.symptoms == [
            "mhc_update/plain: 2 of 120 elements of y are wrong, first [1, 1, 0, 2]",
            "y is right for the first element of the batch, wrong behind it",
            "y is right for the first token, wrong behind it",
        ]

    def test_what_explains_most_of_it_is_said_to_be_a_part(self):
        def halved_and_a_little_off(x):
            return layers.softmax(0.5 * x) + 1e-6 * np.sin(np.arange(x.shape[-1]) ** 2)

        target = {"softmax": halved_and_a_little_off, "ARRAYS": "numpy"}
        row = compare(target, dtypes=("float64",))["softmax"]
        assert (row.verdict, row.explanations) == ("wrong", [])
        assert row.why == "partly explained: x is halved"


def test_at_its_end_it_comes_back_without_a_name():
    names = ["variance=unbiased", "bias_place=before gain", "centre=numerator"]
    assert search_for("layer_norm", names, predictions=0).explanations() == []


def test_float32_tells_the_same():
    readings = readings_of("layer_norm", ["variance=unbiased", "eps_place=outside the root"])
    trials = []
    for case in cases_of("layer_norm"):
        reference = predict(case, case.arrays)
        scales = COMPARE.scales_of(case, case.arrays, reference, "float32", ())
        theirs = predict(case, case.arrays, readings)
        theirs = {name: y.astype(np.float32).astype(np.float64) for name, y in theirs.items()}
        trials.append(Trial(case, "float32", case.arrays, theirs, reference, scales))
    assert found(Search(trials, ["y"])) == [{r.name for r in readings}]
