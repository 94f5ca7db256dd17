"""The entropy floor: what an excess is, what is compared with what, and verdicts of the rows."""

import math

import numpy as np
import pytest
from small_settings import check_boundaries, small, small_run, verdicts

from mgt_np.arrays.libraries import There, place
from mgt_np.experiments import EXPERIMENTS, Rows
from mgt_np.experiments import entropy_floor as module
from mgt_np.experiments.experiment import Result, generator
from mgt_np.experiments.trained import Trained
from mgt_np.models import TransformerConfig
from mgt_np.settings import plans
from mgt_np.training import TrainingSettings, load_task, train
from mgt_np.training.tasks import generated_language

NAME, NAN = "entropy-floor", float("nan")
HERE = There(place("numpy"), "float64")
SIZES = {"data": "known-entropy", "n_tokens": 8, "batch": 2, "n_steps": 4, "log_every": 2}
HOW = SIZES | {"lr": 1e-2, "warmup": 2, "n_valid": 2}
WIDTHS = {"n_layers": 2, "d_model": 8, "n_heads": 2}


@pytest.fixture
def result():
    return small_run(NAME)


def made(*rows, depths=(1, 3)):
    """A result of rows (model, layers, seed, step, excess), of four steps."""
    names = ("model", "layers", "seed", "step", "excess")
    settings = module.Settings(n_steps=4, depths=depths)
    return Result(NAME, settings, Rows(dict(zip(names, row, strict=True)) for row in rows))


def test_boundaries():
    check_boundaries(
        NAME,
        ([0.0, -0.2, 0.0999], [0.1, 2.0, NAN]),
        ([(-0.21, 0.1), (-1.0, 0.0)], [(-0.2, 0.1), (0.0, 0.0), (NAN, 0.1), (-1.0, NAN)]),
        (
            [(0.0, 0.0, -1.0), (0.03, 0.0099, -1e-9), (-1.0, 0.5, -1.0)],
            [(0.03, 0.01, -1.0), (0.05, 0.0, -1.0), (-1.0, 0.0, 0.0), (NAN, 0.0, -1.0)],
        ),
        ([0.0, -0.0099], [-0.01, -1.0, NAN]),
    )


def test_a_row_is_the_loss_of_the_training_loop_and_its_excess_over_the_languages_own(tmp_path):
    rows = list(module.work(HERE, "Pre-LN", [0, 1], tmp_path, **HOW, **WIDTHS))
    config = TransformerConfig(
        **{"vocab_size": 32, "d_ff": 32, "max_tokens": 8, "residual": "pre_ln"}, **WIDTHS
    )
    seed = int(generator([0, 1]).integers(2**62))
    _, log = train(config, TrainingSettings(seed=seed, **HOW), threads=1)
    assert [row["valid_loss"] for row in rows] == [row["valid_loss"] for row in log]
    assert [(row["step"], row["layers"], row["seed"]) for row in rows] == [(2, 2, 1), (4, 2, 1)]
    P = generated_language().transition
    valid = load_task("known-entropy", batch=2, n_tokens=8, n_valid=2).valid
    true = np.mean([-np.log(P[inputs, targets]) for inputs, targets in valid])
    for row in rows:
        assert row["excess"] == pytest.approx(row["valid_loss"] - true, rel=1e-12)


def test_a_run_that_broke_off_ends_in_nan(monkeypatch, tmp_path):
    task = load_task("known-entropy", batch=2, n_tokens=8)
    config = TransformerConfig(vocab_size=32, d_ff=32, max_tokens=8, residual="pre_ln", **WIDTHS)
    log = Rows([{"step": 2, "valid_loss": 3.0}])
    run = Trained(config, task, log, Rows([]), broke=True)
    monkeypatch.setattr(module, "trained", lambda *_, **__: run)
    rows = list(module.work(HERE, "MGT", [0, 0], tmp_path, **HOW, **WIDTHS))
    assert [row["step"] for row in rows] == [2, 4]
    assert rows[0]["excess"] == 3.0 - task.valid_floor
    assert math.isnan(rows[1]["excess"])
    assert rows[0].keys() == rows[1].keys()


def test_an_experiment_on_this_language_takes_no_other():
    experiment = EXPERIMENTS[NAME]
    with pytest.raises(ValueError, match="'data'"):
        plans([experiment], given={"data": "wikitext-2"})
    chosen = [experiment, EXPERIMENTS["language-model"]]
    (_, mine), (_, other) = plans(chosen, given={"data": "wikitext-2"})
    assert (mine.data, other.data) == ("known-entropy", "wikitext-2")


def test_mgt_is_compared_seed_by_seed_at_the_end_of_the_deepest():
    found = made(
        *(("MGT", layers, seed, 4, layers + seed) for layers in (1, 3) for seed in (0, 1)),
        ("Pre-LN", 3, 0, 4, 4.0),
        ("Pre-LN", 3, 1, 4, 5.5),
        ("Pre-LN", 1, 1, 4, 99.0),  # shallower
        ("Pre-LN", 3, 1, 2, 99.0),  # earlier
    )
    assert module.against_others(found) == {"Pre-LN": pytest.approx((-1.25, 0.25))}


def test_growth_is_from_the_shallowest_to_the_deepest():
    excess = {1: (1.0, 2.0), 2: (9.0, 9.0), 3: (1.5, 3.0)}
    rows = [("MGT", n, seed, 4, x) for n, xs in excess.items() for seed, x in enumerate(xs)]
    found = made(*rows, ("MGT", 3, 0, 2, 99.0), depths=(1, 2, 3))
    π, P = generated_language().stationary, generated_language().transition
    best = -np.sum(π * np.log(π)) + np.sum(π[:, None] * P * np.log(P))
    assert module.growths(found) == {"MGT": pytest.approx((0.75, 0.25, 3.0 - best))}


def test_what_learns_nothing_at_any_depth_does_not_learn_as_well_with_more(result):
    assert verdicts(result, excess=2.5)[2] == "does not hold"
    one = verdicts(result, excess=lambda row: 2.5 if row["seed"] == 1 else 0.05)
    assert one[2] == "does not hold"
    deeper = verdicts(result, excess=lambda row: 2.5 if row["layers"] == 1 else 0.05)
    assert deeper[2] == "holds"  # and the shallow ones need not


def test_the_worst_depth_and_seed_decide_on_the_threshold(result):
    def far(row):
        worst = (row["model"], row["layers"], row["seed"], row["step"]) == ("MGT", 1, 1, 6)
        return 0.2 if worst else 0.05 if row["step"] == 6 else 5.0

    assert verdicts(result, excess=far)[0] == "holds only if the rule is Post-LN or Pre-LN"


def test_any_loss_below_the_floor_is_found(result):
    def leaks(row):
        where = (row["model"], row["layers"], row["seed"], row["step"])
        return -0.02 if where == ("Pre-LN", 2, 0, 2) else 0.05

    assert verdicts(result, excess=leaks)[3] == "holds only if the rule is MGT or Post-LN"


def test_verdicts_follow_the_rows(result):
    equal = verdicts(result, excess=0.05)
    assert equal == ["holds", "does not hold", "holds", "holds"]
    best = verdicts(result, excess=lambda row: 0.01 + 0.1 * (row["model"] != "MGT"))
    assert best == ["holds only if the rule is MGT", "holds", "holds", "holds"]
    deeper = verdicts(
        result, excess=lambda row: 0.06 * row["layers"] * (row["model"] == "Post-LN") - 0.005
    )
    assert deeper[1:] == [
        "holds only if the other is Post-LN",
        "holds only if the rule is MGT or Pre-LN",
        "holds",
    ]


def test_what_broke_off_is_near_nothing(result):
    def broke(row):
        return NAN if (row["model"], row["layers"], row["step"]) == ("MGT", 2, 6) else 0.05

    assert verdicts(result, excess=broke) == [
        "holds only if the rule is Post-LN or Pre-LN",
        "does not hold",
        "holds only if the rule is Post-LN or Pre-LN",
        "holds",
    ]


def test_what_broke_off_leaks_nothing_and_hides_no_leak(result):
    def broke(row):
        return NAN if (row["model"], row["seed"]) == ("MGT", 0) else -0.02

    assert verdicts(result, excess=broke)[3] == "does not hold"
    assert verdicts(result, excess=lambda row: abs(broke(row)))[3] == "holds"
    none = verdicts(result, excess=lambda row: NAN if row["model"] == "MGT" else 0.05)
    assert none[3] == "holds only if the rule is Post-LN or Pre-LN"


def test_the_figures_curve_is_over_depths():
    rows = [("MGT", n, seed, 4, 10.0 * n + seed) for n in (1, 3) for seed in (0, 1)]
    depths, values = module.over_depths(made(*rows, ("MGT", 1, 0, 2, 9.0)), "MGT")
    assert depths == (1, 3)
    assert values.tolist() == [[10.0, 30.0], [11.0, 31.0]]


@pytest.mark.parametrize("models", [("MGT",), ("Pre-LN", "Post-LN"), ("MGT", "Pre-LM")])
def test_models_are_known_ones_and_mgt_is_compared_with_another(models):
    with pytest.raises(ValueError, match="model"):
        small(NAME, models=models)


@pytest.mark.parametrize("depths", [(4, 2), (2, 2), (2,)])
def test_depths_increase_from_one_to_another(depths):
    with pytest.raises(ValueError, match="expected depths that increase"):
        small(NAME, depths=depths)
