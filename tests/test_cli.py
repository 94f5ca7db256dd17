"""The command line, as its user meets it."""

import dataclasses
import json
import subprocess
import sys

import pytest
from small_settings import SMALL

from mgt_np import cli, experiments
from mgt_np.experiments import EXPERIMENTS


@pytest.fixture
def small(monkeypatch):
    """The registry with settings that take a second."""
    registry = {
        name: dataclasses.replace(experiment, quick=SMALL[name], full=SMALL[name])
        for name, experiment in EXPERIMENTS.items()
    }
    monkeypatch.setattr(experiments, "EXPERIMENTS", registry)


def test_reproduce_writes_figures_rows_and_provenance_and_prints_the_claims(
    small, tmp_path, capsys
):
    assert cli.main(["reproduce", "--out", str(tmp_path), "--jobs", "1"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{suffix}" for name in EXPERIMENTS for suffix in ("png", "csv", "json")
    }
    printed = capsys.readouterr().out
    assert "verdict" in printed
    assert "Post-LN" in printed
    assert "delta-" in printed


def test_reproduce_one_by_name_with_another_seed(small, tmp_path):
    command = ["reproduce", "delta-spectrum", "--seed", "3", "--out", str(tmp_path), "--full"]
    assert cli.main(command) == 0
    record = json.loads((tmp_path / "delta-spectrum.json").read_text())
    assert record["settings"]["seed"] == 3
    assert record["command"].startswith("mgt-np reproduce delta-spectrum --seed 3")
    assert not (tmp_path / "rank-evolution.csv").exists()


def test_another_dtype_is_computed_with_and_recorded(small, tmp_path, capsys):
    command = ["reproduce", "--dtype", "float32", "--array-library", "auto", "--out", str(tmp_path)]
    assert cli.main(command) == 0
    assert "computing with" in capsys.readouterr().err
    for name in EXPERIMENTS:
        assert json.loads((tmp_path / f"{name}.json").read_text())["settings"]["dtype"] == "float32"
    rows = (tmp_path / "delta-spectrum.csv").read_text().splitlines()
    errors = [float(row.split(",")[4]) for row in rows[1:]]
    assert 1e-9 < max(errors) < 1e-4  # float32 was really used


def test_list_names_every_experiment(capsys):
    assert cli.main(["reproduce", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in EXPERIMENTS)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["reproduce", "rank-evolutoin"], "did you mean 'rank-evolution'?"),
        (["reproduce", "--jobs", "0"], "--jobs"),
        (["reproduce", "--array-library", "numpyy"], "did you mean 'numpy'?"),
        (["reproduce", "--array-library", "cupy"], "pip install"),
        (["reproduce", "--device", "cuda:7"], "one of cpu"),
        (["reproduce", "rank-evolution", "--data", "wikitext2"], "wikitext-2"),
    ],
)
def test_unusable_arguments_give_one_line_and_exit_code_2(command, words, tmp_path, capsys):
    assert cli.main([*command, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("mgt-np: ")
    assert words in error


def test_a_scheduler_without_dask_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["reproduce", "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert "pip install" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["reproduce", "--seed", "x"], ["unknown"]])
def test_argparse_refuses_with_exit_code_2(command):
    with pytest.raises(SystemExit) as stopped:
        cli.main(command)
    assert stopped.value.code == 2


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys, small, tmp_path):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "run", interrupt)
    assert cli.main(["reproduce", "--out", str(tmp_path)]) == 130
    assert "goes on" in capsys.readouterr().err


def test_info_names_versions_libraries_and_data(capsys):
    assert cli.main(["info"]) == 0
    printed = capsys.readouterr().out
    for words in ("numpy", "autograd", "cupy", "array_api_strict", "python-docs", "wikitext-2"):
        assert words in printed


def test_python_m_mgt_np_is_the_same_command():
    run = subprocess.run(
        [sys.executable, "-m", "mgt_np", "reproduce", "--list"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "rank-evolution" in run.stdout
