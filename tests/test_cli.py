"""The command line, as its user meets it."""

import dataclasses
import json
import subprocess
import sys

import pytest
from small_settings import SMALL
from toy_experiment import TOY

from mgt_np import cli, experiments
from mgt_np.experiments import EXPERIMENTS


@pytest.fixture
def registry(monkeypatch):
    """Two experiments instead of all, with settings of milliseconds."""
    spectrum = dataclasses.replace(
        EXPERIMENTS["delta-spectrum"], quick=SMALL["delta-spectrum"], full=SMALL["delta-spectrum"]
    )
    experiments_here = {"toy": TOY, "delta-spectrum": spectrum}
    monkeypatch.setattr(experiments, "EXPERIMENTS", experiments_here)
    return experiments_here


def test_reproduce_runs_all_writes_their_files_and_prints_their_claims(
    registry, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "130")
    assert cli.main(["reproduce", "--out", str(tmp_path), "--jobs", "1"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{suffix}" for name in registry for suffix in ("png", "csv", "json")
    }
    claims = [
        (f"{name}.png", claim)
        for name, experiment in registry.items()
        for claim in experiment.claims(experiments.run(experiment))
    ]
    assert len(claims) == 3
    assert experiments.claims_table(claims, width=130) in capsys.readouterr().out


def test_reproduce_one_by_name_with_another_seed_and_the_full_settings(registry, tmp_path):
    command = ["reproduce", "toy", "--seed", "3", "--out", str(tmp_path), "--full", "--jobs", "1"]
    assert cli.main(command) == 0
    record = json.loads((tmp_path / "toy.json").read_text())
    assert (record["settings"]["seed"], record["settings"]["n_draws"]) == (3, 4)
    assert record["command"].startswith("mgt-np reproduce toy --seed 3")
    assert {path.stem for path in tmp_path.iterdir()} == {"toy"}


def test_another_dtype_is_computed_with_and_recorded(registry, tmp_path, capsys):
    command = ["reproduce", "delta-spectrum", "--out", str(tmp_path), "--jobs", "1"]
    assert cli.main([*command, "--dtype", "float32", "--array-library", "auto"]) == 0
    assert "computing with" in capsys.readouterr().err
    record = json.loads((tmp_path / "delta-spectrum.json").read_text())
    assert record["settings"]["dtype"] == "float32"
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


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys, registry, tmp_path):
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
