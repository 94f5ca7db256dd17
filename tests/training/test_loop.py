"""The loop: what it logs, how it goes on, what ends it, on any array library."""

import csv
import dataclasses
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from mgt_np import RESIDUAL_RULES, TransformerConfig
from mgt_np.arrays import leaves_with_paths, to_host
from mgt_np.training import TrainingError, TrainingSettings, load_checkpoint, load_task, loop, train

SMALL = TrainingSettings(
    data="known-entropy", n_steps=12, batch=2, n_tokens=8, warmup=3, log_every=4, n_valid=1, lr=0.01
)


def config_of(residual="mgt", **options):
    sizes = {"vocab_size": 32, "d_model": 8, "n_heads": 2, "n_layers": 2, "d_ff": 16}
    return TransformerConfig(**sizes | {"max_tokens": 8, "residual": residual} | options)


def same(a, b):
    pairs = zip(leaves_with_paths(a), leaves_with_paths(b), strict=True)
    return all(np.array_equal(to_host(x), to_host(y)) for (_, x), (_, y) in pairs)


def test_it_learns_the_language_down_to_its_entropy():
    settings = dataclasses.replace(SMALL, n_steps=400, batch=8, log_every=400, n_valid=8, lr=0.03)
    _, log = train(config_of("pre_ln", d_model=16, n_layers=1), settings, threads=1)
    floor = load_task("known-entropy", batch=8, n_tokens=8, n_valid=8).floor
    assert floor < log[-1]["valid_loss"] < floor + 0.35
    assert log[-1]["perplexity"] == pytest.approx(math.exp(log[-1]["valid_loss"]))
    assert log[-1]["accuracy"] > 0.4


def test_the_log_and_the_layers_are_written(tmp_path):
    params, log = train(config_of(), SMALL, folder=tmp_path, threads=1)
    assert {path.name for path in tmp_path.iterdir()} == {"log.csv", "layers.csv", "checkpoint.npz"}
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:3] == ["step", "train_loss", "valid_loss"]
    assert [int(row["step"]) for row in rows] == [4, 8, 12]
    assert [float(row["valid_loss"]) for row in rows] == [row["valid_loss"] for row in log]
    with (tmp_path / "layers.csv").open(newline="") as file:
        layers = list(csv.DictReader(file))
    assert [(int(r["step"]), int(r["layer"])) for r in layers] == [
        (step, layer) for step in (4, 8, 12) for layer in range(3)
    ]
    assert all(0.0 < float(r["gate"]) < 1.0 for r in layers if r["layer"] != "2")
    assert all(math.isnan(float(r["beta"])) == (r["layer"] == "2") for r in layers)
    trees, record = load_checkpoint(tmp_path / "checkpoint.npz", {"params": params})
    assert same(trees["params"], params)
    assert record["step"] == 12


def test_the_bar_says_the_loss_and_the_tokens_a_second(capsys):
    train(config_of(), SMALL, threads=1, progress=True)
    said = capsys.readouterr().err
    assert "12/12" in said
    assert re.search(r"loss=\d+\.\d{3}, tokens/s=[\d,]+", said)
    train(config_of(), SMALL, threads=1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("rate", "tokens"), [(250.0, "4,000"), (None, "640")])
def test_tokens_a_second_are_the_bars_steps_a_second_times_the_batch(rate, tokens):
    shown = {"rate": rate, "n": 22, "initial": 2, "elapsed": 0.5}  # 40 steps a second
    bar = types.SimpleNamespace(disable=False, format_dict=shown)
    assert loop._beside(bar, 1.23456, SMALL) == {"loss": "1.235", "tokens/s": tokens}


def interrupt_at(monkeypatch, number):
    """Let Ctrl-C come in the middle of a step."""
    step = loop._Run.step

    def interrupted(run, state):
        if state.step + 1 == number:
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)
        step(run, state)

    monkeypatch.setattr(loop._Run, "step", interrupted)


@pytest.mark.parametrize("stop", [1, 2, 4, 5, 11])
@pytest.mark.parametrize("rule", ["mgt", "branchnorm"])
def test_n_steps_are_k_steps_a_stop_and_the_rest_to_the_bit(tmp_path, monkeypatch, stop, rule):
    config = config_of(rule, dtype="float32")
    params, log = train(config, SMALL, folder=tmp_path / "whole", threads=1)
    interrupt_at(monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        train(config, SMALL, folder=tmp_path / "parts", threads=1)
    assert load_checkpoint(tmp_path / "parts" / "checkpoint.npz")[1]["step"] == stop
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed, again = train(config, SMALL, folder=tmp_path / "parts", resume=True)
    assert same(resumed, params)
    assert str(again) == str(log)
    for name in ("log.csv", "layers.csv"):
        whole, parts = (tmp_path / each / name for each in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.parametrize("rule", RESIDUAL_RULES)
def test_every_rule_trains(rule):
    settings = dataclasses.replace(SMALL, n_steps=30, log_every=15, batch=4)
    _, log = train(config_of(rule, d_model=16), settings, threads=1)
    first, last = (row["train_loss"] for row in log)
    assert last < first
    assert math.isfinite(last)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_every_library_has_the_same_losses(library):
    pytest.importorskip(library)
    settings = dataclasses.replace(SMALL, n_steps=50, log_every=10)
    _, log = train(config_of(), settings, threads=1)
    _, other = train(config_of(), dataclasses.replace(settings, array_library=library), threads=1)
    for row, theirs in zip(log, other, strict=True):
        assert theirs["train_loss"] == pytest.approx(row["train_loss"], rel=1e-9)
        assert theirs["valid_loss"] == pytest.approx(row["valid_loss"], rel=1e-9)


def test_another_seed_is_another_run():
    _, log = train(config_of(), SMALL, threads=1)
    _, other = train(config_of(), dataclasses.replace(SMALL, seed=1), threads=1)
    assert [row["train_loss"] for row in log] != [row["train_loss"] for row in other]


def test_admin_is_profiled_before_the_first_step():
    settings = dataclasses.replace(SMALL, n_steps=0)
    params, _ = train(config_of("admin"), settings, threads=1)
    omegas = [float(block["attention_residual"]["omega"][0]) for block in params["blocks"]]
    assert omegas[0] == 1.0 < omegas[1]


def test_branchnorm_grows_to_post_ln_over_the_warm_up():
    run = loop._Run(
        config_of("branchnorm"), SMALL, load_task("known-entropy", batch=1, n_tokens=8), None
    )
    alphas = [run.config_at(step).branchnorm_alpha for step in range(5)]
    assert alphas == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0, 1.0])


def test_what_is_not_finite_ends_the_run_and_the_checkpoint_stays(tmp_path):
    settings = dataclasses.replace(SMALL, lr=1e30, warmup=0, schedule="constant", clip=1e30)
    with pytest.raises(TrainingError, match=r"step \d+: expected a finite loss") as ended:
        train(config_of("pre_ln", dtype="float32"), settings, folder=tmp_path, threads=1)
    said = str(ended.value)
    assert "\n" not in said
    assert "checkpoint.npz is kept" in said
    _, record = load_checkpoint(tmp_path / "checkpoint.npz")
    assert record["step"] < 12


def test_an_exploding_gradient_ends_the_run_and_names_the_block(monkeypatch):
    monkeypatch.setattr(loop, "EXPLODED", 1e-3)
    with pytest.raises(TrainingError, match=r"step 1: .* norm below 0.001, got .*\['"):
        train(config_of(), SMALL, threads=1)


@pytest.mark.parametrize(
    ("config", "settings", "words"),
    [
        ({"n_layers": 3}, {}, "config with n_layers = 2, got 3"),
        ({"mgt_alpha": 0.5}, {}, "config with mgt_alpha = 0.1, got 0.5"),
        ({}, {"lr": 0.5}, "settings with lr = 0.01, got 0.5"),
        ({}, {"n_steps": 20}, "settings with n_steps = 12, got 20"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, config, settings, words):
    train(config_of(), SMALL, folder=tmp_path, threads=1)
    other = dataclasses.replace(SMALL, **settings)
    with pytest.raises(ValueError, match=words):
        train(config_of(**config), other, folder=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_steps": -1}, "n_steps of at least 0, got -1"),
        ({"batch": 0}, "batch of at least 1, got 0"),
        ({"lr": float("nan")}, "lr finite"),
        ({"clip": -1.0}, "clip finite and at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMALL, **changes)


@pytest.mark.parametrize("name", ["dropout", "weight_decay", "clip"])
def test_a_float_may_be_written_as_a_whole_number(name):
    assert getattr(dataclasses.replace(SMALL, **{name: 0}), name) == 0


def test_a_column_that_an_older_version_did_not_write_is_nan(tmp_path):
    train(config_of(), dataclasses.replace(SMALL, n_steps=4), folder=tmp_path, threads=1)
    path = tmp_path / "checkpoint.npz"
    with np.load(path) as file:
        arrays = dict(file)
    record = json.loads(str(arrays["record"]))
    for row in record["layers"]:
        del row["beta_negative"]
    np.savez(path, **arrays | {"record": np.asarray(json.dumps(record))})
    train(config_of(), dataclasses.replace(SMALL, n_steps=4), folder=tmp_path, resume=True)
    with (tmp_path / "layers.csv").open(newline="") as file:
        layers = list(csv.DictReader(file))
    assert {row["beta_negative"] for row in layers} == {"nan"}
    assert all(float(row["effective_rank"]) > 0.0 for row in layers)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a config of 32 tokens for known-entropy, got 33"):
        train(config_of(vocab_size=33), SMALL)
    with pytest.raises(ValueError, match="max_tokens of at least 8, got 7"):
        train(config_of(max_tokens=7), SMALL)


def test_the_faster_number_of_threads_is_kept_with_the_run(tmp_path, monkeypatch):
    train(config_of(), SMALL, folder=tmp_path)
    threads = load_checkpoint(tmp_path / "checkpoint.npz")[1]["threads"]
    assert threads >= 1
    params, _ = train(config_of(), SMALL, threads=threads)
    kept, _ = load_checkpoint(tmp_path / "checkpoint.npz", {"params": params})
    assert same(kept["params"], params)  # trying them out has used up no draw


SCRIPT = """
import sys
from test_settings_of_the_script import config, settings
from mgt_np.training import train
train(config, settings, folder=sys.argv[1], resume=sys.argv[2] == "on", threads=1)
"""


@pytest.mark.skipif(os.name == "nt", reason="processes are killed otherwise there")
@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, kills):
    settings = dataclasses.replace(SMALL, n_steps=120, log_every=5)
    (tmp_path / "test_settings_of_the_script.py").write_text(
        "from mgt_np import TransformerConfig\nfrom mgt_np.training import TrainingSettings\n"
        f"config = {config_of()!r}\nsettings = {settings!r}\n"
    )
    (tmp_path / "script.py").write_text(SCRIPT)
    params, _ = train(config_of(), settings, folder=tmp_path / "whole", threads=1)
    folder, rng = tmp_path / "parts", random.Random(kills)
    checkpoint = folder / "checkpoint.npz"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    for _ in range(kills):
        resume = "on" if checkpoint.exists() else "off"
        command = [sys.executable, str(tmp_path / "script.py"), str(folder), resume]
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        run = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        while run.poll() is None and (
            not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before
        ):
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.05))
        run.send_signal(signal.SIGKILL)
        run.wait()
        load_checkpoint(checkpoint)  # whole, whenever it was killed
    resumed, _ = train(config_of(), settings, folder=folder, resume=True)
    assert same(resumed, params)
    assert (folder / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()
