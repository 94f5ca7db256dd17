"""The language model: pairs of seeds, equal arithmetic, and verdicts that follow the rows."""

import math

import pytest
from small_settings import changed, check_boundaries, small_run, verdicts

from mgt_np.experiments import EXPERIMENTS, Rows, language_model
from mgt_np.experiments.experiment import Result

NAN = float("nan")


@pytest.fixture
def result():
    return small_run("language-model")


def made(*rows, n_steps=4):
    """A result of rows (model, seed, step, loss, weights)."""
    names = ("model", "seed", "step", "valid_loss", "weights")
    settings = language_model.Settings(n_steps=n_steps)
    return Result("language-model", settings, Rows(dict(zip(names, r, strict=True)) for r in rows))


def test_boundaries():
    lower = ([(-0.21, 0.1), (-1.0, 0.0)], [(-0.2, 0.1), (0.0, 0.0), (NAN, 0.1), (0.5, 0.1)])
    check_boundaries(
        "language-model", lower, lower, ([-1e-9], [0.0, 1.0, NAN]), ([0.501], [0.5, 0.1, NAN])
    )


def test_one_row_a_model_a_seed_and_a_logged_step(result):
    places = [(row["model"], row["seed"], row["step"]) for row in result.rows]
    models = ("MGT", "Post-LN", "Pre-LN")
    assert places == [(m, seed, step) for m in models for seed in (0, 1) for step in (2, 4, 6)]


def test_losses_are_compared_seed_by_seed():
    found = made(
        ("MGT", 0, 4, 1.0, 1),
        ("MGT", 1, 4, 2.0, 1),
        ("Pre-LN", 0, 4, 2.0, 1),
        ("Pre-LN", 1, 4, 3.5, 1),
        ("Pre-LN", 1, 2, 99.0, 1),  # an earlier step decides nothing
    )
    assert language_model.at_equal_steps(found) == {"Pre-LN": pytest.approx((-1.25, 0.25))}


def test_equal_arithmetic_gives_the_cheaper_model_more_steps():
    found = made(
        *(("MGT", seed, step, 10.0 - step, 2) for seed in (0, 1) for step in (1, 2, 3, 4)),
        *(("Pre-LN", seed, step, 5.0 - step**2, 1) for seed in (0, 1) for step in (1, 2, 3, 4)),
    )
    # MGT's step 2 costs exactly what Pre-LN's step 4 costs: losses 8 and −11.
    assert language_model.at_equal_arithmetic(found)["Pre-LN"] == (19.0, 0.0)


def test_a_seed_that_broke_off_is_nan_in_a_row_of_its_own():
    """MGT is cut at step 2, which its second seed did not reach."""
    found = made(
        ("MGT", 0, 2, 1.0, 2),
        ("MGT", 0, 4, 1.0, 2),
        ("MGT", 1, 4, NAN, 2),
        *(("Pre-LN", seed, step, 1.0, 1) for seed in (0, 1) for step in (2, 4)),
    )
    assert math.isnan(language_model.at_equal_arithmetic(found)["Pre-LN"][0])
    assert math.isnan(language_model.at_equal_steps(found)["Pre-LN"][0])


def test_more_seeds_than_two_may_find_no_step():
    found = made(
        *(("MGT", seed, 4, 1.0, 9) for seed in (0, 1, 2)),
        *(("Pre-LN", seed, 4, 1.0, 1) for seed in (0, 1, 2)),
    )
    assert math.isnan(language_model.at_equal_arithmetic(found)["Pre-LN"][0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": ("MGT", "Pre-NL")}, "did you mean 'Pre-LN'"),
        ({"models": ("Pre-LN", "Post-LN")}, "expected MGT and another of the models"),
        ({"models": ("MGT",)}, "expected MGT and another of the models"),
        ({"models": ("MGT", "Pre-LN", "MGT")}, "each once"),
        ({"n_seeds": 1}, "n_seeds of at least 2, got 1"),
        ({"n_steps": 0}, "n_steps of at least 1, got 0"),
    ],
)
def test_settings_that_could_not_be_judged_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        language_model.Settings(**changes)


def test_arithmetic_that_pays_for_no_step_is_nan():
    found = made(
        *(("MGT", seed, 4, 1.0, 9) for seed in (0, 1)),
        *(("Pre-LN", seed, 4, 1.0, 1) for seed in (0, 1)),
    )
    assert math.isnan(language_model.at_equal_arithmetic(found)["Pre-LN"][0])


def test_verdicts_follow_the_rows(result):
    best = verdicts(result, valid_loss=lambda row: float(row["model"] != "MGT"))
    assert best[:2] == ["holds", "holds"]
    equal = verdicts(result, valid_loss=1.0)
    assert equal[:2] == ["does not hold"] * 2
    beyond = verdicts(
        result, valid_loss=lambda row: {"MGT": 1.0, "Post-LN": 2.0}.get(row["model"]) or 0.5
    )
    assert beyond[0] == "holds only if the other is Post-LN"
    learned = verdicts(result, unigram=3.0, valid_loss=lambda row: 3.0 - (row["model"] == "MGT"))
    assert learned[2] == "holds only if the rule is MGT"
    assert verdicts(result, rank=lambda row: 0.4 + 0.2 * (row["model"] == "Pre-LN"))[3] == (
        "holds only if the rule is Pre-LN"
    )


def test_one_seed_decides_on_rank_and_on_what_was_learned(result):
    one = changed(result, rank=lambda row: 0.6 - 0.2 * (row["seed"] == 1), valid_loss=1.0)
    one = changed(one, unigram=lambda row: 2.0 - 1.5 * (row["seed"] == 1))
    claims = EXPERIMENTS["language-model"].claims(result.settings)
    assert list(claims[3].measure(one).values()) == pytest.approx([0.4] * 3)
    assert set(claims[2].measure(one).values()) == {0.5}


def test_a_run_that_broke_off_is_no_better(result):
    def broke(row):
        return math.nan if (row["model"], row["seed"]) == ("MGT", 1) else 1.0

    assert verdicts(result, valid_loss=broke, rank=broke)[:2] == ["does not hold"] * 2


def test_curves_have_gaps_where_a_run_broke_off():
    found = made(("MGT", 0, 2, 1.0, 1), ("MGT", 0, 4, 2.0, 1), ("MGT", 1, 4, NAN, 1))
    steps, values = language_model.curves(found, "MGT", "valid_loss")
    assert steps == [2, 4]
    assert values[0].tolist() == [1.0, 2.0]
    assert math.isnan(values[1][0])
