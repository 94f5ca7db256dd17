"""What holds for every experiment: plain tasks and rows, seeds, libraries, figures, verdicts."""

import csv
import dataclasses
import json
import pickle
from pathlib import Path

import pytest
from small_settings import SMALL, small_run

from mgt_np.experiments import EXPERIMENTS, Claim, Result

FIGURES = Path(__file__).parents[2] / "figures"
each_name = pytest.mark.parametrize("name", EXPERIMENTS)
# Their words name what ten digits of a CSV file do not keep: rounding errors, one of equals.
MORE_DIGITS = {"mixing-gain": 2, "phase-diagram": 0}


def numbers_of(row):
    return {name: value for name, value in row.items() if not isinstance(value, str)}


@each_name
def test_tasks_and_rows_travel_between_processes_and_files(name):
    experiment, result = EXPERIMENTS[name], small_run(name)
    tasks = experiment.tasks(SMALL[name])
    assert len({json.dumps(task) for task in tasks}) == len(tasks)
    assert pickle.loads(pickle.dumps(experiment.work)) is experiment.work
    assert len(result.rows) >= len(tasks)
    for row in result.rows:
        assert row.keys() == result.rows[0].keys()
        assert all(type(value) in (int, float, str) for value in row.values()), row


@each_name
def test_another_seed_gives_other_rows(name):
    assert small_run(name, seed=7).rows != small_run(name).rows


@each_name
def test_where_it_comes_from_is_recorded(name):
    provenance, settings = small_run(name).provenance, SMALL[name]
    assert provenance["experiment"] == name
    assert provenance["settings"] == dataclasses.asdict(settings)
    assert ("text" in provenance) == hasattr(settings, "data")
    assert "path" not in provenance.get("text", {})


@each_name
def test_every_claim_has_a_source_a_number_and_a_verdict(name):
    claims = EXPERIMENTS[name].claims(small_run(name))
    assert claims
    for claim in claims:
        assert claim.source
        assert any(character.isdigit() for character in claim.measured)
        assert claim.verdict.startswith(("holds", "does not hold"))


@each_name
def test_it_is_drawn(name):
    figure = EXPERIMENTS[name].plot(small_run(name))
    figure.draw_without_rendering()
    assert all(ax.has_data() or ax.texts or ax.tables for ax in figure.axes)


@each_name
def test_full_settings_ask_for_more(name):
    quick, full = (
        dataclasses.asdict(getattr(EXPERIMENTS[name], kind)) for kind in ("quick", "full")
    )
    assert quick.keys() == full.keys()
    larger = [key for key in quick if quick[key] != full[key]]
    assert larger

    def size(value):
        return (len(value), max(value)) if isinstance(value, tuple) else value

    assert [key for key in larger if not size(full[key]) > size(quick[key])] == []


@pytest.mark.parametrize("library", ["torch", "jax"])
@each_name
def test_every_library_computes_the_same_rows(name, library):
    pytest.importorskip(library)
    result = small_run(name, array_library=library)
    assert library in result.provenance["versions"]
    for row, other in zip(result.rows, small_run(name).rows, strict=True):
        got, expected = numbers_of(row), numbers_of(other)
        if name == "delta-spectrum":  # the worst of many operators is a matter of rounding
            assert row["error"] <= 1e-12
            got, expected = ({key: n[key] for key in ("d", "operators")} for n in (got, expected))
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


@each_name
def test_float32_is_computed_with(name):
    result, exact = small_run(name, dtype="float32"), small_run(name)
    assert {tuple(row) for row in result.rows} == {tuple(row) for row in exact.rows}
    assert result.rows != exact.rows
    assert len(EXPERIMENTS[name].claims(result)) == len(EXPERIMENTS[name].claims(exact))


@pytest.mark.parametrize("name", ["head-identifiability", "layer-norm-and-rank", "span"])
def test_float32_counts_the_same(name):
    exact, rounded = small_run(name), small_run(name, dtype="float32")
    for row, other in zip(exact.rows, rounded.rows, strict=True):
        counts = [{k: v for k, v in r.items() if isinstance(v, int)} for r in (row, other)]
        assert counts[0] == counts[1]
    claims = [EXPERIMENTS[name].claims(result) for result in (exact, rounded)]
    assert len({tuple(claim.verdict for claim in each) for each in claims}) == 1


def number(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


@each_name
def test_the_committed_claims_follow_from_the_committed_rows(name):
    experiment = EXPERIMENTS[name]
    with (FIGURES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = [{key: number(text) for key, text in row.items()} for row in csv.DictReader(file)]
    record = json.loads((FIGURES / f"{name}.json").read_text(encoding="utf-8"))
    settings = json.loads(json.dumps(dataclasses.asdict(experiment.quick)))
    assert record["settings"] == settings
    claims = experiment.claims(Result(name, experiment.quick, rows))
    for i, (got, committed) in enumerate(zip(claims, record["claims"], strict=True)):
        if i == MORE_DIGITS.get(name):
            got = dataclasses.replace(got, measured=committed["measured"])
        assert got == Claim(**committed)
    picture = (FIGURES / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 500_000
