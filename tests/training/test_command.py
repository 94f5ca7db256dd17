"""`mgt-np train`, `mgt-np generate` and `mgt-np export`, as their user meets them."""

import csv
import signal

import numpy as np
import pytest

from mgt_np import cli
from mgt_np.training import load_checkpoint, loop
from mgt_np.training.exporting import kept_settings

SMALL = ["--layers", "1", "--width", "8", "--heads", "2", "--steps", "4", "--batch", "2"]
SMALL += ["--set", "log_every=2", "--set", "warmup=1", "--set", "n_valid=1"]


def train(*arguments):
    return cli.main(["train", *SMALL, *arguments])


def error(capsys):
    """What was said, which must be one line."""
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize("data", ["python-docs", "known-entropy", "copy"])
def test_train_writes_its_log_and_says_where(tmp_path, capsys, data):
    out = tmp_path / "run"
    assert train("--data", data, "--out", str(out), "--tokens", "9") == 0
    assert f"are in {out}" in capsys.readouterr().out
    with (out / "log.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4"]
    config, settings, _ = kept_settings(out)
    assert (config.residual, config.d_ff, config.max_tokens, config.dtype) == (
        "mgt",
        32,
        9,
        "float32",
    )
    assert (settings.data, settings.log_every) == (data, 2)


def test_any_setting_can_be_given(tmp_path):
    out, more = str(tmp_path), ["--rule", "hc", "--set", "n_streams=2", "--set", "beta2=0.9"]
    assert train("--out", out, "--dtype", "float64", "--lr", "0.1", "--seed", "3", *more) == 0
    config, settings, _ = kept_settings(out)
    assert (config.residual, config.n_streams, config.dtype) == ("hc", 2, "float64")
    assert (settings.lr, settings.seed, settings.beta2) == (0.1, 3, 0.9)


def test_an_interrupted_run_says_how_to_go_on_and_does(tmp_path, capsys, monkeypatch):
    step = loop._Run.step

    def interrupted(run, state):
        step(run, state)
        if state.step == 3 and state.threads:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop._Run, "step", interrupted)
    out = str(tmp_path / "run")
    assert train("--out", out) == 130
    assert error(capsys) == f"mgt-np: interrupted; `mgt-np train --resume {out}` goes on from here"
    monkeypatch.undo()
    assert cli.main(["train", "--resume", out]) == 0
    assert load_checkpoint(tmp_path / "run" / "checkpoint.npz")[1]["step"] == 4


def test_a_run_is_never_written_over(tmp_path, capsys):
    assert train("--out", str(tmp_path)) == 0
    before = (tmp_path / "checkpoint.npz").read_bytes()
    assert train("--out", str(tmp_path), "--seed", "1") == 2
    assert f"--resume {tmp_path} goes on with it" in error(capsys)
    assert cli.main(["train", "--resume", str(tmp_path), "--layers", "2"]) == 2
    assert "expected config with n_layers = 1, got 2" in error(capsys)
    assert (tmp_path / "checkpoint.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "wikitext2"], "did you mean 'wikitext-2'"),
        (["--rule", "mgtt"], "did you mean 'mgt'"),
        (["--set", "alpha=1"], "name of a setting"),
        (["--steps", "-1"], "n_steps of at least 0"),
        (["--heads", "3"], "n_heads to divide"),
        (["--array-library", "cupyy"], "did you mean 'cupy'"),
        (["--data", "copy", "--tokens", "8"], "odd number of tokens"),
        (["--resume", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, capsys, arguments, words):
    out = [] if "--resume" in arguments else ["--out", str(tmp_path / "run")]
    assert train(*out, *arguments) == 2
    assert words in error(capsys)
    assert not (tmp_path / "run").exists()


def test_a_missing_data_set_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MGT_NP_DATA", str(tmp_path / "nowhere"))
    assert train("--data", "wikitext-2", "--out", str(tmp_path / "run")) == 2
    assert "MGT_NP_DATA must name a folder" in error(capsys)


def test_a_damaged_checkpoint_is_one_line_and_stays(tmp_path, capsys):
    for content in (b"", b"text"):
        (tmp_path / "checkpoint.npz").write_bytes(content)
        for command in (["train", "--resume"], ["generate"], ["export"]):
            assert cli.main([*command, str(tmp_path)]) == 2
            assert "is no whole checkpoint" in error(capsys)
        assert (tmp_path / "checkpoint.npz").read_bytes() == content
    np.savez(tmp_path / "checkpoint.npz", record=np.asarray("{}"))
    for command in (["train", "--resume"], ["export"]):
        assert cli.main([*command, str(tmp_path)]) == 2
        assert "is no checkpoint of a training run" in error(capsys)
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint.npz"]


def test_generate_goes_on_with_a_text(tmp_path, capsys):
    out = str(tmp_path)
    train("--out", out)
    capsys.readouterr()
    texts = []
    for seed in ("0", "0", "1"):
        line = ["generate", out, "--prompt", "for x", "--tokens", "20", "--seed", seed]
        assert cli.main([*line, "--temperature", "1"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0].startswith("for x")
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("data", ["known-entropy", "copy"])
def test_generate_wants_a_model_of_a_text(tmp_path, capsys, data):
    train("--data", data, "--out", str(tmp_path))
    capsys.readouterr()
    assert cli.main(["generate", str(tmp_path)]) == 2
    assert f"a model of a text, got one of {data}" in error(capsys)


def test_export_writes_beside_the_checkpoint_or_where_it_is_told(tmp_path, capsys):
    train("--out", str(tmp_path))
    capsys.readouterr()
    assert cli.main(["export", str(tmp_path)]) == 0
    assert cli.main(["export", str(tmp_path), "--out", str(tmp_path / "b")]) == 0
    said = capsys.readouterr().out.split()
    assert said == [str(tmp_path / name) for name in ("model.safetensors", "b")]
    assert (tmp_path / "b").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("out", ["no folder/model.safetensors", "."])
def test_a_file_that_cannot_be_written_is_one_line(tmp_path, capsys, out):
    train("--out", str(tmp_path))
    capsys.readouterr()
    before = sorted(tmp_path.iterdir())
    assert cli.main(["export", str(tmp_path), "--out", str(tmp_path / out)]) == 2
    assert str(tmp_path / out) in error(capsys)
    assert sorted(tmp_path.iterdir()) == before


def test_export_of_nothing_is_one_line(tmp_path, capsys):
    assert cli.main(["export", str(tmp_path)]) == 2
    assert "checkpoint.npz" in error(capsys)
