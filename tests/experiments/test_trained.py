"""Trained decoders: rows that are the log's, what a model weighs, and what counts as lower."""

import dataclasses
import math

import numpy as np
import pytest

from mgt_np.arrays.libraries import There, place
from mgt_np.data import load_corpus
from mgt_np.experiments import language_model, trained
from mgt_np.experiments.experiment import generator
from mgt_np.models import TransformerConfig
from mgt_np.training import Task, TrainingError, TrainingSettings, loop, train

HERE = There(place("numpy"), "float64")
SIZES = {
    **{"n_layers": 2, "d_model": 8, "n_heads": 2, "data": "python-docs"},
    **{"n_tokens": 8, "batch": 2, "n_steps": 6, "log_every": 2, "n_valid": 2},
    **{"lr": 1e-2, "warmup": 2},
}


def rows(folder, **changes):
    return trained.trained_rows(HERE, "Pre-LN", [0, 1], folder, **SIZES | changes)


def test_rows_are_those_of_the_training_loop(tmp_path):
    how = {name: SIZES[name] for name in SIZES if name not in ("n_layers", "d_model", "n_heads")}
    settings = TrainingSettings(seed=int(generator([0, 1]).integers(2**62)), **how)
    config = TransformerConfig(
        **{"vocab_size": 256, "d_model": 8, "d_ff": 32, "n_heads": 2, "n_layers": 2},
        **{"max_tokens": 8, "residual": "pre_ln"},
    )
    _, log = train(config, settings, threads=1)
    found = rows(tmp_path)
    assert [row["step"] for row in found] == [2, 4, 6]
    assert [row["valid_loss"] for row in found] == [row["valid_loss"] for row in log]
    assert {row["seed"] for row in found} == {1}
    assert all(0.0 < row["rank"] <= 1.0 for row in found)


def test_an_interrupted_run_goes_on_to_the_same_rows(tmp_path, monkeypatch):
    whole, step = rows(tmp_path / "whole"), loop._Run.step

    def stops(run, state):
        if state.step == 4:
            raise KeyboardInterrupt
        step(run, state)

    monkeypatch.setattr(loop._Run, "step", stops)
    with pytest.raises(KeyboardInterrupt):
        rows(tmp_path / "parts")
    taken = []
    monkeypatch.setattr(
        loop._Run, "step", lambda run, state: (taken.append(state.step), step(run, state))
    )
    assert rows(tmp_path / "parts") == whole
    assert taken == [4, 5]


def test_a_run_that_breaks_off_ends_in_a_row_of_nan(tmp_path, monkeypatch):
    step = loop._Run.step

    def breaks(run, state):
        if state.step == 3:
            raise TrainingError("no finite loss")
        step(run, state)

    monkeypatch.setattr(loop._Run, "step", breaks)
    first, last = rows(tmp_path)
    assert first["step"] == 2
    assert last["step"] == 6
    assert math.isnan(last["valid_loss"])
    assert math.isnan(last["rank"])


def test_weights_are_the_entries_of_the_matrices_but_the_embeddings():
    config = TransformerConfig(
        vocab_size=11, d_model=4, d_ff=16, n_heads=2, n_layers=3, max_tokens=5, residual="pre_ln"
    )
    assert trained.n_weights(config) == 3 * 12 * 4 * 4 + 4 * 11
    mgt = dataclasses.replace(config, residual="mgt")  # W_gate and W_beta of each sub-layer
    assert trained.n_weights(mgt) == trained.n_weights(config) + 3 * 2 * (4 * 4 + 4)


def test_the_unigram_loss_by_hand():
    text = load_corpus("python-docs").tokens
    there, never = np.bincount(text, minlength=256)[[97, 255]]
    assert never == 0
    kinds = len(set(text.tolist()))
    p = (np.array([there, never]) + kinds / 256) / (text.size + kinds)
    task = Task(
        "two bytes", 256, None, [(np.array([[0]]), np.array([[byte]])) for byte in (97, 255)]
    )
    expected = -np.mean(np.log(p))
    assert trained.unigram_loss(task, "python-docs") == pytest.approx(expected, rel=1e-14)


def test_a_difference_counts_beyond_two_standard_errors():
    mean, error = trained.lower_by([1.0, 2.0, 4.0], [2.0, 2.0, 5.0])
    assert (mean, error) == pytest.approx((-2 / 3, 1 / 3), rel=1e-15)
    assert not trained.is_lower((-0.2, 0.1))
    assert trained.is_lower((-0.21, 0.1))
    assert not trained.is_lower((math.nan, 0.1))
    assert not trained.is_lower((0.21, 0.1))


def test_the_controls_steps_are_of_the_size_of_mgts_first():
    factor = trained.MODELS[trained.SMALL]["scaled_residual_factor"]
    assert factor == pytest.approx(math.tanh(TransformerConfig.mgt_b_beta) * 0.5, rel=1e-15)


def test_every_model_has_a_style():
    assert list(language_model.STYLES) == list(trained.MODELS)
