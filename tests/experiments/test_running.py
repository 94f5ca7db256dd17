"""Running experiments: one queue, rows from the store, and a report of what went wrong."""

import dataclasses
import json
import sys

import pytest
from toy_experiment import FULL, QUICK, TOY, Settings, lines_of

from mgt_np import experiments
from mgt_np.experiments import result_of, run
from mgt_np.settings import FIXED

OTHER = dataclasses.replace(TOY, name="other")


def test_rows_are_those_of_the_cells_in_their_order():
    result = result_of(TOY, Settings(n_seeds=3, scales=(0.5, 1.0)))
    places = [(row["scale"], row["seed"], row["place"]) for row in result.rows]
    assert places == [(s, n, i) for s in (0.5, 1.0) for n in range(3) for i in range(3)]
    assert result.settings.n_seeds == 3
    assert result_of(TOY).settings == QUICK
    assert result_of(TOY, jobs=2).rows == result_of(TOY).rows


def test_all_experiments_are_computed_in_one_queue(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)  # a progress bar is for a terminal
    report = run([(TOY, QUICK), (OTHER, FULL)], runs=tmp_path)
    assert [(result.name, len(result.rows)) for result in report.results] == [
        ("toy", 6),
        ("other", 12),
    ]
    assert (report.failures, report.warnings) == ([], [])
    assert "6/6" in capsys.readouterr().err


def test_more_seeds_and_other_settings_use_what_is_there(tmp_path):
    log = str(tmp_path / "log")
    for n_seeds in (2, 4, 3, 2):
        run([(TOY, Settings(n_seeds=n_seeds, log=log))], runs=tmp_path / "runs")
    assert [line for line in lines_of(log) if line.startswith("begin")] == [
        f"begin 1.0 {number}" for number in range(4)
    ]


def test_a_failure_costs_its_own_experiment_alone(tmp_path):
    broken = Settings(fate="raise")
    report = run([(TOY, broken), (OTHER, QUICK)], runs=tmp_path)
    assert [result.name for result in report.results] == ["other"]
    ((task, said),) = report.failures
    assert (task.name, task.cell["seed"]) == ("toy", [0, 1])
    assert said == "ArithmeticError: the second cell"
    with pytest.raises(RuntimeError, match=r"toy.*the second cell"):
        result_of(TOY, broken)


def test_another_seed_shares_no_row():
    rows = {row["value"] for row in result_of(TOY, Settings(n_seeds=4)).rows}
    others = {row["value"] for row in result_of(TOY, Settings(n_seeds=4, seed=1)).rows}
    assert len(rows | others) == 24


def test_cells_of_other_versions_are_used_and_named(tmp_path):
    plan = [(TOY, QUICK)]
    run(plan, runs=tmp_path)
    (first, _) = sorted(tmp_path.glob("toy/*/task.json"))
    task = json.loads(first.read_text())
    task["versions"]["numpy"] = "1.0"
    first.write_text(json.dumps(task))
    report = run(plan, runs=tmp_path)
    assert report.results[0].rows == result_of(TOY).rows
    (warning,) = report.warnings
    assert "toy" in warning
    assert "numpy 1.0 and " in warning
    assert str(tmp_path) in warning
    assert report.results[0].provenance["versions"]["numpy"].startswith("1.0 and ")
    assert "\n" not in warning


def test_nothing_is_computed_from_saved_rows(tmp_path):
    log = str(tmp_path / "log")
    settings = Settings(log=log)
    report = run([(TOY, settings)], runs=tmp_path / "runs", saved=tmp_path)
    assert report.results == []
    assert {said for _, said in report.failures} == {"is not computed yet"}
    assert lines_of(log) == []
    (result,) = run([(TOY, settings)], runs=tmp_path / "runs").results
    experiments.write(TOY, result, tmp_path / "figures")
    for runs in ("runs", "none"):  # from the cells, and from the written rows
        report = run([(TOY, settings)], runs=tmp_path / runs, saved=tmp_path / "figures")
        assert report.failures == []
        assert report.results[0].rows == result.rows
        assert report.results[0].provenance == result.provenance
    report = run([(TOY, Settings())], runs=tmp_path / "none", saved=tmp_path / "figures")
    assert report.results == []
    rows = tmp_path / "figures" / "toy.csv"
    rows.write_bytes(b"".join(rows.read_bytes().splitlines(keepends=True)[:3]))
    report = run([(TOY, settings)], runs=tmp_path / "none", saved=tmp_path / "figures")
    assert report.results == []  # rows that are not those of the record


def test_a_text_that_cannot_be_had_is_refused_before_anything_is_computed(tmp_path):
    settings = Settings(log=str(tmp_path / "log"))
    with pytest.raises(ValueError, match="wikitext-2"):
        run([(TOY, settings), (OTHER, Settings(data="wikitext2"))], runs=tmp_path / "runs")
    assert lines_of(settings.log) == []


@dataclasses.dataclass(frozen=True)
class Generated(Settings):
    data: str = dataclasses.field(default="copy", metadata=FIXED)


@pytest.mark.parametrize("data", ["known-entropy", "copy"])
def test_a_generated_source_is_no_text(data, tmp_path):
    settings = Settings(data=data, log=str(tmp_path / "log"))
    with pytest.raises(ValueError, match=data):
        run([(TOY, settings)], runs=tmp_path / "runs")
    assert lines_of(settings.log) == []


@pytest.mark.parametrize("data", ["known-entropy", "copy"])
def test_what_is_generated_is_no_text_to_load_or_to_record(data):
    result = result_of(TOY, Generated(data=data))
    assert "text" not in result.provenance
    assert result.provenance["settings"]["data"] == data


def test_where_a_result_comes_from_is_recorded():
    provenance = result_of(TOY).provenance
    assert provenance["experiment"] == "toy"
    assert provenance["settings"] == json.loads(json.dumps(dataclasses.asdict(QUICK)))
    assert {"python", "numpy", "autograd", "matplotlib", "code"} <= provenance["versions"].keys()
    assert provenance["text"]["source"] == "python-docs"
    assert "path" not in provenance["text"]
