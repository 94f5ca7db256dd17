"""The command line, as its user meets it."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from small_settings import SMALL
from toy_experiment import TOY

from mgt_np import cli, experiments
from mgt_np.experiments import EXPERIMENTS


@pytest.fixture
def registry(monkeypatch, tmp_path):
    """Two experiments instead of all, with settings of milliseconds, in an empty folder."""
    spectrum = EXPERIMENTS["delta-spectrum"]
    settings = dataclasses.replace(spectrum.quick, **SMALL["delta-spectrum"])
    spectrum = dataclasses.replace(spectrum, quick=settings, full=settings)
    experiments_here = {"toy": TOY, "delta-spectrum": spectrum}
    monkeypatch.setattr(experiments, "EXPERIMENTS", experiments_here)
    monkeypatch.chdir(tmp_path)
    return experiments_here


def reproduce(*arguments):
    return cli.main(["reproduce", "--out", "out", "--jobs", "1", *arguments])


def test_reproduce_runs_all_writes_their_files_and_prints_their_claims(
    registry, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "130")
    assert reproduce() == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}.{suffix}" for name in registry for suffix in ("png", "csv", "json")
    }
    claims = [
        (f"{name}.png", each)
        for name, experiment in registry.items()
        for each in experiments.judged(experiment, experiments.result_of(experiment))
    ]
    assert len(claims) >= 3
    assert experiments.claims_table(claims, width=130) in capsys.readouterr().out
    assert len(list((tmp_path / "runs" / "toy").iterdir())) == 2


def test_reproduce_one_by_name_with_another_seed_and_the_full_settings(registry, tmp_path):
    assert reproduce("toy", "--seed", "3", "--full", "--set", "scales=0.5,0.25") == 0
    record = json.loads((tmp_path / "out" / "toy.json").read_text())
    assert (record["settings"]["seed"], record["settings"]["n_seeds"]) == (3, 4)
    assert record["settings"]["scales"] == [0.5, 0.25]
    assert record["command"].startswith("mgt-np reproduce --out out --jobs 1 toy --seed 3")
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"toy", "claims"}


def test_another_dtype_is_computed_with_and_recorded(registry, tmp_path, capsys):
    assert reproduce("delta-spectrum", "--dtype", "float32", "--array-library", "auto") == 0
    assert "computing with" in capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "delta-spectrum.json").read_text())
    assert record["settings"]["dtype"] == "float32"
    rows = experiments.writing.read_csv(tmp_path / "out" / "delta-spectrum.csv")
    assert 1e-9 < max(rows.column("error")) < 1e-4  # float32 was really used


def test_redraw_computes_nothing_and_draws_the_same(registry, tmp_path, capsys):
    assert reproduce("toy", "--redraw") == 2
    assert "leave out --redraw" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert reproduce("toy") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert reproduce("toy", "--redraw") == 0
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert after == before


def test_the_findings_of_a_page_are_renewed(registry, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- findings: begin -->\nold\n<!-- findings: end -->\nb\n")
    assert reproduce("--findings", "page.md") == 0
    text = page.read_text()
    assert "\nold\n" not in text
    assert text.startswith("a\n")
    assert text.endswith("b\n")
    assert "| a random number is below one | NumPy | scale 1: 0." in text


def test_findings_are_never_lost(registry, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_bytes(b"<!-- findings: begin -->\r\nold\r\n<!-- findings: end -->\r\n")
    before = page.read_bytes()
    assert reproduce("--set", "fate=raise", "--findings", "page.md") == 2
    assert reproduce("--redraw", "--seed", "9", "--findings", "page.md") == 2
    assert reproduce("toy", "--findings", "page.md") == 2
    assert "expected no names" in capsys.readouterr().err
    assert page.read_bytes() == before
    (tmp_path / "link.md").symlink_to(page)
    assert reproduce("--findings", "link.md") == 0
    assert (tmp_path / "link.md").is_symlink()
    assert page.read_bytes().count(b"\r\n") == page.read_bytes().count(b"\n") >= 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"\xff", "expected UTF-8"),
        (b"<!-- findings: begin -->\n", "got 0 such pairs"),
        (b"<!-- findings: end -->\n<!-- findings: begin -->\n", "got 0 such pairs"),
    ],
)
def test_a_page_without_its_marks_is_refused_at_once(registry, tmp_path, capsys, content, words):
    if content is not None:
        (tmp_path / "page.md").write_bytes(content)
    assert reproduce("--findings", "page.md") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert "page.md" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", ["--runs", "--out"])
def test_a_file_where_a_folder_belongs_is_one_line(registry, tmp_path, capsys, option):
    (tmp_path / "file").touch()
    assert cli.main(["reproduce", "--jobs", "1", option, "file"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "file" in line


def test_a_cell_that_fails_is_named_and_the_others_are_written(registry, tmp_path, capsys):
    assert reproduce("--set", "fate=raise") == 2
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"delta-spectrum"}
    said = capsys.readouterr().err
    assert 'mgt-np: toy {"array_library": "numpy"' in said
    assert '"seed": [0, 1]}: ArithmeticError: the second cell' in said
    assert "cells that are missing: 1; the same command goes on from here" in said


def test_a_figure_that_cannot_be_drawn_costs_no_other_anything(registry, tmp_path, capsys):
    def fail(result, judged):
        raise ZeroDivisionError("no scale")

    registry["toy"] = dataclasses.replace(TOY, plot=fail)
    assert reproduce() == 2
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"delta-spectrum"}
    assert "toy is not written: ZeroDivisionError: no scale" in capsys.readouterr().err


def test_list_names_every_experiment(capsys):
    assert cli.main(["reproduce", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in EXPERIMENTS)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["reproduce", "rank-evolutoin"], "did you mean 'rank-evolution'?"),
        (["reproduce", "--jobs", "0"], "--jobs"),
        (["reproduce", "--seed", "-1"], "seed of at least 0"),
        (["reproduce", "--set", "dept=3"], "did you mean 'depth'?"),
        (["reproduce", "delta-spectrum", "--data", "nonsense"], "'data'"),
        (["reproduce", "delta-spectrum", "--set", "widths=2,4"], "as many counts as widths"),
        (["reproduce", "--dtype", "float32", "--set", "dtype=float32"], "--dtype instead"),
        (["reproduce", "--redraw", "--seed", "12345"], "cells that are missing"),
        (["reproduce", "--array-library", "numpyy"], "did you mean 'numpy'?"),
        (["reproduce", "--array-library", "cupy"], "pip install"),
        (["reproduce", "--device", "cuda:7"], "one of cpu"),
        (["reproduce", "rank-evolution", "--data", "wikitext2"], "wikitext-2"),
    ],
)
def test_unusable_arguments_give_one_line_and_exit_code_2(command, words, tmp_path, capsys):
    folders = ["--out", str(tmp_path), "--runs", str(tmp_path / "runs")]
    assert cli.main([*command, *folders]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert all(line.startswith("mgt-np: ") for line in lines)
    assert len(lines) == 1 or "--redraw" in command  # which names each cell
    assert words in lines[-1]


def test_a_scheduler_without_dask_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert cli.main(["reproduce", "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert "pip install" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["reproduce", "--seed", "x"], ["unknown"]])
def test_argparse_refuses_with_exit_code_2(command):
    with pytest.raises(SystemExit) as stopped:
        cli.main(command)
    assert stopped.value.code == 2


def test_an_interruption_says_how_to_go_on(monkeypatch, capsys, registry):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "run", interrupt)
    assert reproduce() == 130
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


def command(*arguments, **options):
    """The command as its user calls it, in another process."""
    line = [sys.executable, "-m", "mgt_np", *arguments]
    return subprocess.run(line, capture_output=True, **options)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_an_encoding_without_greek_letters_stops_nothing(encoding):
    done = command("reproduce", "--list", env=os.environ | {"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"rank-evolution" in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_standard_output_is_said_in_one_line():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mgt_np", "reproduce", "--list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr == "mgt-np: [Errno 28] No space left on device: 'standard output'\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes of another kind")
def test_nobody_reading_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "mgt_np", "reproduce", "--list"], stdout=write, stderr=-1, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_closed_standard_error_stops_nothing(tmp_path):
    done = subprocess.run(
        f"{sys.executable} -m mgt_np reproduce delta-spectrum --jobs 1 --out out 2>&- "
        "--set counts=20,10 --set widths=2,5 --set n_factors=7",
        shell=True,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0
    assert "verdict" in done.stdout
    assert (tmp_path / "out" / "delta-spectrum.csv").exists()
