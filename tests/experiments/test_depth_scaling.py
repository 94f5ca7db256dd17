"""Depth scaling: the better learning rate, pairs of seeds, and verdicts that follow the rows."""

import math

import numpy as np
import pytest
from small_settings import check_boundaries, small, small_run, verdicts

from mgt_np import plotting
from mgt_np.arrays.libraries import There, place
from mgt_np.experiments import EXPERIMENTS, Rows, depth_scaling, judged
from mgt_np.experiments.experiment import Result, generator
from mgt_np.models import TransformerConfig
from mgt_np.training import TrainingError, TrainingSettings, loop, train

NAN = float("nan")


@pytest.fixture
def result():
    return small_run("depth-scaling")


def made(*rows, depths=(1, 2)):
    """A result of rows (model, layers, lr, seed, valid_loss), the unigram's loss always 3."""
    names = ("model", "layers", "lr", "seed", "valid_loss")
    rows = Rows(dict(zip(names, row, strict=True)) | {"unigram": 3.0} for row in rows)
    return Result("depth-scaling", depth_scaling.Settings(depths=depths), rows)


def test_boundaries():
    learns = ([-1e-9, -1.0], [0.0, 0.1, NAN])
    grows = [(0.05, 0.0, -1.0), (0.0, 0.03, -1.0), (-1.0, 0.0, 0.0), (NAN, 0.0, -1.0)]
    lower = ([(-0.21, 0.1), (-1.0, 0.0)], [(-0.2, 0.1), (0.0, 0.0), (NAN, 0.1), (0.5, 0.1)])
    flat = ([(0.049, 0.0, -1.0), (-0.5, 0.2, -0.1), (0.01, 0.019, -1.0)], grows)
    check_boundaries("depth-scaling", learns, learns, flat, lower)


def test_one_row_a_model_a_depth_a_rate_and_a_seed(result):
    found = [[row[n] for n in ("model", "layers", "lr", "seed", "step")] for row in result.rows]
    assert found == [
        [model, layers, lr, seed, 4]
        for model in ("MGT", "Pre-LN")
        for layers in (1, 2)
        for lr in (3e-3, 1e-2)
        for seed in (0, 1)
    ]


def test_rows_are_those_of_the_training_loop(result):
    row = result.rows.where(model="Pre-LN", layers=2, lr=1e-2, seed=1)[0]
    how = {"data": "python-docs", "n_tokens": 8, "batch": 4, "n_steps": 4, "log_every": 4}
    settings = TrainingSettings(
        **how, lr=1e-2, warmup=5, n_valid=2, seed=int(generator([0, 1]).integers(2**62))
    )
    config = TransformerConfig(
        **{"vocab_size": 256, "d_model": 8, "d_ff": 32, "n_heads": 2, "n_layers": 2},
        **{"max_tokens": 8, "residual": "pre_ln"},
    )
    _, log = train(config, settings, threads=1)
    assert row["valid_loss"] == pytest.approx(log[-1]["valid_loss"], rel=1e-9)  # kept: ten digits


def test_a_run_that_breaks_off_is_nan(tmp_path, monkeypatch):
    step = loop._Run.step

    def breaks(run, state):
        if state.step == 3:
            raise TrainingError("no finite loss")
        step(run, state)

    monkeypatch.setattr(loop._Run, "step", breaks)
    cell = EXPERIMENTS["depth-scaling"].tasks(small("depth-scaling"))[0]
    cell.pop("array_library"), cell.pop("device"), cell.pop("dtype")
    cell["log_every"] = 2  # a row is logged before
    (row,) = depth_scaling.work(There(place("numpy"), "float64"), folder=tmp_path, **cell)
    assert math.isnan(row["valid_loss"])


def test_each_model_and_depth_is_judged_at_its_better_rate():
    found = depth_scaling.at_better_rate(
        made(
            *(("MGT", 1, 0.1, seed, 2.0 + seed) for seed in (0, 1)),
            *(("MGT", 1, 0.2, seed, loss) for seed, loss in enumerate((0.0, 4.0))),  # mean 2
            *(("MGT", 2, 0.1, seed, loss) for seed, loss in enumerate((1.0, NAN))),
            *(("MGT", 2, 0.2, seed, 9.0) for seed in (0, 1)),
            *(("Pre-LN", 1, 0.1, seed, 1.0) for seed in (0, 1)),
            *(("Pre-LN", 1, 0.2, seed, 2.0) for seed in (0, 1)),
            *(("Pre-LN", 2, lr, seed, lr) for lr in (0.2, 0.1) for seed in (0, 1)),
        )
    )
    assert [(row["model"], row["layers"], row["lr"]) for row in found] == [
        *[("MGT", 1, 0.2)] * 2,
        *[("MGT", 2, 0.2)] * 2,  # a seed broke off at the other
        *[("Pre-LN", 1, 0.1)] * 2,
        *[("Pre-LN", 2, 0.1)] * 2,
    ]


def test_a_model_that_breaks_off_at_each_rate_stays_and_is_not_a_number():
    found = made(*(("MGT", 2, lr, seed, NAN) for lr in (0.1, 0.2) for seed in (0, 1)))
    assert np.isnan(depth_scaling.deepest(found).column("valid_loss")).tolist() == [True, True]


def test_growth_is_between_the_deepest_and_the_shallowest_seed_by_seed():
    result = made(
        *(("MGT", 1, 0.1, seed, loss) for seed, loss in enumerate((1.0, 2.0))),
        *(("MGT", 4, 0.1, seed, 99.0) for seed in (0, 1)),
        *(("MGT", 8, 0.1, seed, loss) for seed, loss in enumerate((2.0, 2.5))),
        depths=(1, 4, 8),
    )
    assert depth_scaling.growth(result) == {"MGT": pytest.approx((0.75, 0.25, -0.5))}


def test_mgt_is_compared_seed_by_seed_at_the_deepest():
    result = made(
        *(("MGT", 1, 0.1, seed, 0.0) for seed in (0, 1)),
        *(("MGT", 2, 0.1, seed, loss) for seed, loss in enumerate((1.0, 2.0))),
        *(("Pre-LN", 1, 0.1, seed, 0.0) for seed in (0, 1)),
        *(("Pre-LN", 2, 0.1, seed, loss) for seed, loss in enumerate((2.0, 3.5))),
    )
    assert depth_scaling.against_the_others(result) == {"Pre-LN": pytest.approx((-1.25, 0.25))}


def test_verdicts_follow_the_rows(result):
    assert verdicts(result, valid_loss=1.0, unigram=2.0) == [*["holds"] * 3, "does not hold"]
    assert verdicts(result, valid_loss=2.0, unigram=2.0) == ["does not hold"] * 4
    assert verdicts(result, valid_loss=NAN) == ["does not hold"] * 4
    mgt = verdicts(result, valid_loss=lambda row: float(row["model"] != "MGT"), unigram=0.5)
    assert mgt == [
        "holds only if the rule is MGT",
        "holds",
        "holds only if the rule is MGT",
        "holds",
    ]
    deep = verdicts(result, valid_loss=lambda row: float(row["layers"]), unigram=1.5)
    assert deep[:3] == ["does not hold", "holds only if it has 1 layers", "does not hold"]


def test_one_seed_decides_whether_something_was_learned(result):
    one = verdicts(result, valid_loss=1.0, unigram=lambda row: 2.0 - 1.5 * (row["seed"] == 1))
    assert one[:3] == ["does not hold"] * 3


def test_the_rate_at_which_a_rule_fails_decides_nothing(result):
    def one_rate(row):
        return NAN if row["lr"] == 1e-2 else 1.0

    assert verdicts(result, valid_loss=one_rate, unigram=2.0)[:3] == ["holds"] * 3


def test_a_run_that_broke_off_is_seen_in_the_figure(result):
    def texts(valid_loss):
        rows = Rows(row | {"valid_loss": valid_loss(row)} for row in result.rows)
        broken = Result(result.name, result.settings, rows)
        figure = depth_scaling.plot(broken, judged(EXPERIMENTS["depth-scaling"], broken))
        assert plotting.as_png(figure)
        return [text.get_text() for ax in figure.axes for text in ax.texts]

    assert texts(lambda row: 1.0).count("broke off") == 0
    assert texts(lambda row: NAN).count("broke off") == 2
    assert texts(lambda row: NAN if row["layers"] == 2 else 1.0).count("broke off") == 2


@pytest.mark.parametrize("models", [("MGT",), ("Pre-LN", "Post-LN"), ("MGT", "Pre-LM")])
def test_models_are_known_ones_and_mgt_is_compared_with_another(models):
    with pytest.raises(ValueError, match="model"):
        small("depth-scaling", models=models)


@pytest.mark.parametrize("depths", [(4, 2), (2, 2), (2,)])
def test_depths_increase_from_one_to_another(depths):
    with pytest.raises(ValueError, match="expected depths that increase"):
        small("depth-scaling", depths=depths)


def test_each_rate_is_there_once():
    with pytest.raises(ValueError, match="each lr once"):
        small("depth-scaling", lr=(1e-2, 1e-2))
