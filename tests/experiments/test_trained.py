"""Trained decoders: rows that are the log's, what a model weighs, and what counts as lower."""

import dataclasses
import math
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_settings import SMALL, small

from mgt_np.arrays.libraries import There, place
from mgt_np.data import load_corpus
from mgt_np.experiments import EXPERIMENTS, run, trained
from mgt_np.experiments.experiment import generator
from mgt_np.experiments.writing import as_csv
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


@pytest.mark.parametrize("depths", [(2,), (4, 2), (2, 2), (1, 3, 2)])
def test_depths_that_do_not_increase_are_refused(depths):
    trained.check_depths((1, 2, 5))
    with pytest.raises(ValueError, match="expected depths that increase, at least two"):
        trained.check_depths(depths)


def test_the_controls_steps_are_of_the_size_of_mgts_first():
    factor = trained.MODELS[trained.SMALL]["scaled_residual_factor"]
    assert factor == pytest.approx(math.tanh(TransformerConfig.mgt_b_beta) * 0.5, rel=1e-15)


def test_every_model_has_a_style():
    assert list(trained.STYLES) == list(trained.MODELS)


NAME = "language-model"
LONGER = {"n_steps": 30, "log_every": 2, "models": ("MGT", "Pre-LN")}


def csv(runs, **where):
    """The CSV of an experiment that trains, computed in the store `runs`."""
    report = run([(EXPERIMENTS[NAME], small(NAME, **LONGER))], runs=runs, **where)
    assert report.failures == []
    return as_csv(report.results[0].rows)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    return csv(tmp_path_factory.mktemp("calm"))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Dask's sockets, as in test_cluster
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_any_number_of_workers_trains_to_the_same_csv(calm, tmp_path):
    assert csv(tmp_path / "one", jobs=1) == calm
    assert csv(tmp_path / "four", jobs=4) == calm
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as local:
        assert csv(tmp_path / "dask", scheduler=local.scheduler_address) == calm


@pytest.mark.skipif(os.name == "nt", reason="processes are killed otherwise there")
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_experiment_trains_on_to_the_same_csv(calm, tmp_path, kills):
    settings = SMALL[NAME] | LONGER
    texts = {n: ",".join(v) if type(v) is tuple else v for n, v in settings.items() if n != "dtype"}
    command = [sys.executable, "-m", "mgt_np", "reproduce", NAME, "--runs", "runs", "--out", "out"]
    command += ["--jobs", "2", "--dtype", settings["dtype"]]
    command += [word for n, value in texts.items() for word in ("--set", f"{n}={value}")]
    rng, environment = random.Random(kills), os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    how = {"cwd": tmp_path, "env": environment, "start_new_session": True}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def written():
        return [path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*/checkpoint.npz")]

    unfinished = 0
    for _ in range(kills):
        before = written()
        process = subprocess.Popen(command, **how, **quiet)
        while process.poll() is None and written() == before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.1))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            unfinished += 1
        process.wait()
    assert unfinished > 0
    assert subprocess.run(command, **how, **quiet, check=False).returncode == 0
    assert (tmp_path / "out" / f"{NAME}.csv").read_bytes() == calm
