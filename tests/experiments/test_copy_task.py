"""Copying: rows that are the log's, verdicts that follow them, and pairs of seeds."""

import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small, small_run, verdicts

from mgt_np.arrays.libraries import There, place
from mgt_np.data import copy_task as examples
from mgt_np.experiments import EXPERIMENTS, Rows, copy_task
from mgt_np.experiments.experiment import Result, generator
from mgt_np.models import TransformerConfig
from mgt_np.training import TrainingError, TrainingSettings, loop, train

NAN = float("nan")


@pytest.fixture
def result():
    return small_run("copy-task")


def made(*rows):
    """A result of rows (model, layers, distance, seed, accuracy)."""
    names = ("model", "layers", "distance", "seed", "accuracy")
    rows = Rows(dict(zip(names, row, strict=True)) for row in rows)
    return Result("copy-task", copy_task.Settings(), rows)


def test_boundaries():
    copies = ([0.9, 1.0], [0.899, 0.0, NAN])
    lower = ([(-0.21, 0.1), (-1.0, 0.0)], [(-0.2, 0.1), (0.0, 0.0), (0.5, 0.1), (NAN, 0.1)])
    deeper = [(0.9, -0.05), (1.0, 0.0), (0.95, 0.05)]
    falls = [(0.9, -0.051), (0.899, 0.0), (0.03, 0.9), (NAN, 0.0), (1.0, NAN)]
    check_boundaries("copy-task", copies, copies, lower, (deeper, falls))


def test_a_distance_is_how_far_back_the_copied_symbol_stands():
    inputs, targets, mask = examples(np.random.default_rng(0), 2, length=4, n_symbols=32)
    distance = copy_task.distance_of(inputs.shape[1])
    back = [(i, t) for i, t in np.argwhere(mask)]
    assert len(back) == 2 * 4
    assert [targets[i, t] for i, t in back] == [inputs[i, t - distance] for i, t in back]


def test_rows_are_those_of_the_training_loop(result):
    row = result.rows.where(model="Pre-LN", layers=2, distance=3, seed=1)[0]
    how = {"data": "copy", "n_tokens": 5, "batch": 8, "n_steps": 6, "log_every": 2}
    settings = TrainingSettings(
        **how, lr=3e-3, warmup=5, n_valid=2, seed=int(generator([0, 1]).integers(2**62))
    )
    config = TransformerConfig(
        **{"vocab_size": 34, "d_model": 8, "d_ff": 32, "n_heads": 2, "n_layers": 2},
        **{"max_tokens": 5, "residual": "pre_ln"},
    )
    _, log = train(config, settings, threads=1)
    for name in ("accuracy", "valid_loss"):
        assert row[name] == pytest.approx(log[-1][name], rel=1e-9)  # rows are kept in ten digits


def test_one_row_a_model_a_depth_a_distance_and_a_seed(result):
    found = [[row[n] for n in ("model", "layers", "distance", "seed")] for row in result.rows]
    assert found == [
        [model, layers, distance, seed]
        for model in ("MGT", "Pre-LN")
        for layers in (1, 2)
        for distance in (2, 3)
        for seed in (0, 1)
    ]


def test_a_run_that_breaks_off_is_nan(tmp_path, monkeypatch):
    step = loop._Run.step

    def breaks(run, state):
        if state.step == 3:
            raise TrainingError("no finite loss")
        step(run, state)

    monkeypatch.setattr(loop._Run, "step", breaks)
    cell = EXPERIMENTS["copy-task"].tasks(small("copy-task"))[0]
    cell.pop("array_library"), cell.pop("device"), cell.pop("dtype")
    (row,) = copy_task.work(There(place("numpy"), "float64"), folder=tmp_path, **cell)
    assert math.isnan(row["accuracy"])
    assert math.isnan(row["valid_loss"])


def test_errors_are_compared_seed_by_seed_at_the_deepest_and_the_farthest():
    found = made(
        ("MGT", 2, 3, 0, 0.9),
        ("MGT", 2, 3, 1, 0.8),
        ("Pre-LN", 2, 3, 0, 0.7),
        ("Pre-LN", 2, 3, 1, 0.5),
        ("Pre-LN", 1, 3, 1, 1.0),  # shallower
        ("Pre-LN", 2, 2, 1, 1.0),  # nearer
    )
    assert copy_task.fewer_errors(found) == {"Pre-LN": pytest.approx((-0.25, 0.05))}


def test_the_worst_depth_and_seed_decide_what_was_gained():
    found = made(
        *(("MGT", layers, 3, 0, 0.95) for layers in (1, 2, 4)),
        *(("MGT", layers, 3, 1, accuracy) for layers, accuracy in ((1, 0.9), (2, 0.3), (4, 1.0))),
        ("MGT", 1, 2, 0, 0.5),
        ("MGT", 2, 2, 0, 0.0),  # nearer
    )
    assert copy_task.gained(found) == {"MGT": pytest.approx((0.9, -0.6))}


def test_verdicts_follow_the_rows(result):
    assert verdicts(result, accuracy=1.0) == ["holds", "holds", "does not hold", "holds"]
    assert verdicts(result, accuracy=NAN) == ["does not hold"] * 4

    def one_fails(row):
        return 0.0 if (row["layers"], row["distance"], row["seed"]) == (2, 3, 1) else 1.0

    fails = verdicts(result, accuracy=lambda row: one_fails(row) if row["model"] == "MGT" else 1.0)
    assert fails[0] == (
        "holds only if it has 1 layer over 2 tokens or 1 layer over 3 tokens or "
        "2 layers over 2 tokens"
    )
    assert fails[1] == fails[3] == "holds only if the rule is Pre-LN"
    assert verdicts(result, accuracy=lambda row: 0.9 * (row["model"] == "MGT"))[1:] == [
        "holds only if the rule is MGT",
        "holds",
        "holds only if the rule is MGT",
    ]


def test_what_copies_at_no_depth_does_not_copy_as_well_with_more(result):
    assert verdicts(result, accuracy=1 / 32)[3] == "does not hold"
    late = verdicts(result, accuracy=lambda row: 0.5 + 0.5 * (row["layers"] == 2))
    assert late[3] == "does not hold"


def test_what_other_depths_and_distances_do_decides_nothing(result):
    def near(row):
        return 1.0 if row["distance"] == 3 else NAN

    found = verdicts(changed(result, accuracy=near))
    assert found[1:] == ["holds", "does not hold", "holds"]
    shallow = verdicts(result, accuracy=lambda row: 0.95 if row["layers"] == 2 else 0.0)
    assert shallow[1] == "holds"


def test_words():
    assert copy_task.listed((2,)) == "2"
    assert copy_task.listed((2, 6, 12)) == "2, 6 and 12"
    assert [copy_task.layers(n) for n in (1, 2)] == ["1 layer", "2 layers"]


@pytest.mark.parametrize("models", [("MGT",), ("Pre-LN", "Post-LN"), ("MGT", "Pre-LM")])
def test_models_are_known_ones_and_mgt_is_compared_with_another(models):
    with pytest.raises(ValueError, match="model"):
        small("copy-task", models=models)


@pytest.mark.parametrize("depths", [(4, 2), (2, 2), (2,)])
def test_depths_increase_from_one_to_another(depths):
    with pytest.raises(ValueError, match="expected depths that increase"):
        small("copy-task", depths=depths)


@pytest.mark.parametrize("n_tokens", [(5, 3), (3, 3)])
def test_the_last_distance_is_the_longest(n_tokens):
    with pytest.raises(ValueError, match="n_tokens that increase"):
        small("copy-task", n_tokens=n_tokens)
