"""The page of claims: from what was written, the full settings' before the quick ones'."""

import dataclasses
import json

import pytest
from toy_experiment import FULL, QUICK, TOY

from mgt_np import cli, experiments
from mgt_np.experiments import recorded, result_of, verdicts_of, write
from mgt_np.experiments.recorded import claims_page

REGISTRY = {"toy": TOY, "other": dataclasses.replace(TOY, name="other", question="Why | not?")}


def test_full_results_come_before_quick_ones(tmp_path):
    write(TOY, result_of(TOY), tmp_path)
    write(REGISTRY["other"], result_of(REGISTRY["other"]), tmp_path)
    assert [(each.name, each.figure, each.preset) for each in recorded(REGISTRY, tmp_path)] == [
        ("toy", "toy.png", "quick"),
        ("other", "other.png", "quick"),
    ]
    write(TOY, result_of(TOY, FULL), tmp_path / "full")
    first, second = recorded(REGISTRY, tmp_path)
    assert (first.figure, first.preset) == ("full/toy.png", "full")
    assert second.figure == "other.png"
    assert verdicts_of([first, second]) == [
        ("full/toy.png", first.claims[0]),
        ("other.png", second.claims[0]),
    ]


def test_other_settings_are_called_so(tmp_path):
    write(TOY, result_of(TOY, dataclasses.replace(QUICK, seed=5)), tmp_path)
    assert [each.preset for each in recorded(REGISTRY, tmp_path)] == ["other"]


@pytest.mark.parametrize("damage", ["{", "{}", '{"settings": {}, "claims": [{"claim": "a"}]}'])
def test_a_damaged_record_is_named(tmp_path, damage):
    write(TOY, result_of(TOY), tmp_path)
    (tmp_path / "toy.json").write_text(damage)
    with pytest.raises(ValueError, match=r"expected the record of a result in .*toy\.json"):
        recorded(REGISTRY, tmp_path)


@pytest.mark.parametrize("change", [{"core_hours": "3"}, {"claims": [{"claim": 3}]}])
def test_a_record_of_other_kinds_is_named(tmp_path, change):
    write(TOY, result_of(TOY), tmp_path)
    record = json.loads((tmp_path / "toy.json").read_text())
    if "claims" in change:
        change = {"claims": [record["claims"][0] | change["claims"][0]]}
    (tmp_path / "toy.json").write_text(json.dumps(record | change))
    with pytest.raises(ValueError, match=r"expected the record of a result in .*toy\.json"):
        recorded(REGISTRY, tmp_path)


def test_the_page_has_each_claim_with_its_cost(tmp_path):
    for name, settings in (("toy", dataclasses.replace(QUICK, scales=(0.5, 9.0))), ("other", None)):
        write(REGISTRY[name], result_of(REGISTRY[name], settings), tmp_path)
    for name, hours in (("toy", 1.25), ("other", 0.01)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"core_hours": hours}))
    page = claims_page(recorded(REGISTRY, tmp_path))
    assert "2 claims: 1 × holds, 0 × does not hold" in page
    assert "in 1.3 core-hours" in page
    head = "Is a random number below one? (other settings; 1.2 core-hours; [figure](toy.png), "
    assert f"{head}[rows](toy.csv))" in page
    assert "Why | not? (quick settings; 36 core-seconds" in page
    lines = [line for line in page.splitlines() if line.startswith("| a random number")]
    assert len(lines) == 2
    assert lines[0].endswith("| holds only if scale 0.5 |")
    assert lines[1].endswith("| holds |")


@pytest.mark.parametrize(
    ("settings", "words"), [(QUICK, "quick settings, which train too briefly"), (FULL, "full sett")]
)
def test_quick_settings_of_what_trains_judge_no_model(tmp_path, settings, words):
    training = dataclasses.replace(TOY, resumes=True)
    write(training, result_of(TOY, settings), tmp_path)
    page = claims_page(recorded({"toy": training}, tmp_path))
    assert words in page
    counted = ("0 claims: 0 × holds", "and 1 claims on models that were trained too briefly")
    assert all((text in page) is (settings is QUICK) for text in counted)


def test_a_full_run_writes_the_page_and_keeps_the_quick_results(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"toy": TOY})
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", "--jobs", "1"]) == 0
    figures = tmp_path / "figures"
    quick = (figures / "toy.csv").read_bytes()
    assert not (figures / "claims.md").exists()
    assert cli.main(["reproduce", "--jobs", "1", "--full"]) == 0
    assert (figures / "toy.csv").read_bytes() == quick
    assert (figures / "full" / "toy.csv").read_bytes() != quick
    page = (figures / "claims.md").read_text()
    assert page == claims_page(recorded({"toy": TOY}, figures))
    assert "(full settings; " in page
    (tmp_path / "page.md").write_text("<!-- findings: begin -->\n<!-- findings: end -->\n")
    assert cli.main(["reproduce", "--redraw", "--findings", "page.md"]) == 0
    assert "(figures/full/toy.png)" in (tmp_path / "page.md").read_text()


def test_a_page_that_is_there_is_renewed_with_quick_results(tmp_path, monkeypatch):
    """Whoever runs `make reproduce` and then the tests has other costs than those committed."""
    monkeypatch.setattr(experiments, "EXPERIMENTS", REGISTRY)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", "toy", "--jobs", "1", "--full"]) == 0
    page = tmp_path / "figures" / "claims.md"
    assert "## other" not in page.read_text()
    assert cli.main(["reproduce", "other", "--jobs", "1"]) == 0
    assert "## other" in page.read_text()
    assert page.read_text() == claims_page(recorded(REGISTRY, tmp_path / "figures"))


def test_a_full_run_into_a_named_folder_writes_there(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"toy": TOY})
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", "--jobs", "1", "--full", "--out", "out"]) == 0
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"toy.csv", "toy.json", "toy.png", "claims.md"}


def test_a_full_run_does_not_hide_behind_another(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"toy": TOY})
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", "--jobs", "1", "--full"]) == 0
    assert cli.main(["reproduce", "--jobs", "1", "--full", "--seed", "7", "--out", "figures"]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert "expected --out without a folder full/ in it, got figures" in line


def test_a_record_knows_what_its_cells_cost(tmp_path):
    result = result_of(TOY, runs=tmp_path)
    seconds = [0.0, 7200.0]
    for path, each in zip(sorted(tmp_path.glob("toy/*/done")), seconds, strict=True):
        done = json.loads(path.read_text())
        path.write_text(json.dumps(done | {"core_seconds": each}))
    again = result_of(TOY, runs=tmp_path)
    assert again.provenance["core_hours"] == 2.0
    assert result.rows == again.rows


@pytest.mark.parametrize("missing", ["core_seconds", "seconds"])
def test_a_cell_of_an_older_store_costs_its_elapsed_time_or_nothing(tmp_path, missing):
    result_of(TOY, runs=tmp_path)
    for path in tmp_path.glob("toy/*/done"):
        done = json.loads(path.read_text()) | {"seconds": 1800.0}
        del done["core_seconds"]
        done.pop(missing, None)
        path.write_text(json.dumps(done))
    hours = result_of(TOY, runs=tmp_path).provenance["core_hours"]
    assert hours == (1.0 if missing == "core_seconds" else 0.0)
