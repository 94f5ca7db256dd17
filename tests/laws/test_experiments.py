"""What holds for every experiment: plain cells and rows, seeds, libraries, claims, figures."""

import dataclasses
import json
import pickle
import re
from numbers import Real
from pathlib import Path

import pytest
from small_settings import small, small_run

from mgt_np.experiments import EXPERIMENTS, Judged, judged, recorded
from mgt_np.experiments.recorded import claims_page
from mgt_np.experiments.writing import as_csv, read_csv, read_result

FIGURES = Path(__file__).parents[2] / "figures"
each_name = pytest.mark.parametrize("name", EXPERIMENTS)


def numbers_of(row):
    return {name: value for name, value in row.items() if not isinstance(value, str)}


@each_name
def test_cells_and_rows_travel_between_processes_and_files(name, tmp_path):
    experiment, result = EXPERIMENTS[name], small_run(name)
    tasks = experiment.tasks(small(name))
    assert len({json.dumps(task) for task in tasks}) == len(tasks)
    assert json.loads(json.dumps(tasks)) == tasks
    assert pickle.loads(pickle.dumps(experiment.work)) is experiment.work
    assert len(result.rows) >= len(tasks)
    for row in result.rows:
        assert row.keys() == result.rows[0].keys()
        assert all(type(value) in (int, float, str) for value in row.values()), row
    (tmp_path / "rows.csv").write_bytes(as_csv(result.rows))
    assert as_csv(read_csv(tmp_path / "rows.csv")) == as_csv(result.rows)


@each_name
def test_another_seed_gives_other_rows(name):
    if not hasattr(small(name), "seed"):
        pytest.skip("nothing is drawn in it")
    assert small_run(name, seed=7).rows != small_run(name).rows


@each_name
def test_every_claim_has_a_source_a_criterion_a_number_and_a_verdict(name):
    verdicts = judged(EXPERIMENTS[name], small_run(name))
    assert verdicts
    for each in verdicts:
        assert each.source
        assert each.criterion
        assert any(character.isdigit() for character in each.measured)
        assert re.fullmatch(r"holds|does not hold|holds only if \S.*", each.verdict)


@each_name
def test_every_condition_of_a_verdict_has_its_number(name):
    """What stands after "only if" is made of conditions that the measurement names."""
    experiment, result = EXPERIMENTS[name], small_run(name)
    for claim in experiment.claims(result.settings):
        numbers = claim.measure(result)
        assert numbers
        for condition, number in numbers.items():
            assert type(condition) is str
            parts = number if isinstance(number, tuple) else (number,)
            assert all(isinstance(part, Real) for part in parts), (claim.says, number)
        nan = float("nan")
        first = next(iter(numbers.values()))
        unknown = (nan,) * len(first) if isinstance(first, tuple) else nan
        assert not claim.passes(unknown), f"{claim.says}: what is not a number proves nothing"


def texts_of(figure):
    titles = [ax.get_title(loc) for ax in figure.axes for loc in ("left", "center", "right")]
    return [figure.get_suptitle(), *titles]


@each_name
def test_its_figure_is_drawn_and_its_findings_are_the_judges_words(name):
    experiment, result = EXPERIMENTS[name], small_run(name)
    verdicts = judged(experiment, result)
    figure = experiment.plot(result, verdicts)
    figure.draw_without_rendering()
    assert all(ax.has_data() or ax.texts or ax.tables for ax in figure.axes if ax.axison)
    marked = [
        dataclasses.replace(each, title=f"<{i}>", verdict="?") for i, each in enumerate(verdicts)
    ]
    assert all(isinstance(each, Judged) for each in marked)
    texts = texts_of(experiment.plot(result, marked))
    assert any(re.search(r"<\d+>", text) for text in texts), "no title is a judged claim's"
    assert not any(re.search(r"\bholds?\b", text) for text in texts), texts


@each_name
def test_its_figure_is_told_in_words(name):
    assert len(EXPERIMENTS[name].alt.split()) >= 15
    assert EXPERIMENTS[name].question.endswith("?")


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


# JAX compiles each operation for each shape: a decoder takes it most of a minute.
FEW_SHAPES = ("collapse-rate", "delta-spectrum", "layer-norm-and-rank", "span", "width-collapse")


@pytest.mark.parametrize(
    ("name", "library"),
    [*((name, "torch") for name in EXPERIMENTS), *((name, "jax") for name in FEW_SHAPES)],
)
def test_every_library_computes_the_same_rows(name, library):
    pytest.importorskip(library)
    result = small_run(name, array_library=library)
    assert library in result.provenance["versions"]
    for row, other in zip(result.rows, small_run(name).rows, strict=True):
        got, expected = numbers_of(row), numbers_of(other)
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


@each_name
def test_float32_is_computed_with(name):
    result, exact = small_run(name, dtype="float32"), small_run(name)
    assert {tuple(row) for row in result.rows} == {tuple(row) for row in exact.rows}
    assert result.rows != exact.rows
    assert len(judged(EXPERIMENTS[name], result)) == len(judged(EXPERIMENTS[name], exact))


@pytest.mark.parametrize("name", ["head-identifiability", "layer-norm-and-rank", "span"])
def test_float32_counts_the_same(name):
    exact, rounded = small_run(name), small_run(name, dtype="float32")
    for row, other in zip(exact.rows, rounded.rows, strict=True):
        counts = [{k: v for k, v in r.items() if isinstance(v, int)} for r in (row, other)]
        assert counts[0] == counts[1]
    verdicts = [[each.verdict for each in judged(EXPERIMENTS[name], r)] for r in (exact, rounded)]
    assert verdicts[0] == verdicts[1]


COMMITTED = [
    *((name, "quick", FIGURES) for name in EXPERIMENTS),
    *((path.stem, "full", FIGURES / "full") for path in (FIGURES / "full").glob("*.json")),
]


@pytest.mark.parametrize(
    ("name", "preset", "folder"), [pytest.param(*each, id="-".join(each[:2])) for each in COMMITTED]
)
def test_the_committed_verdicts_follow_from_the_committed_rows(name, preset, folder):
    experiment = EXPERIMENTS[name]
    result = read_result(experiment, getattr(experiment, preset), folder)
    assert result, f"{folder} has other settings: run `make reproduce`, or with --full"
    record = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert [dataclasses.asdict(each) for each in judged(experiment, result)] == record["claims"]
    picture = (folder / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 500_000


def test_figures_are_those_of_the_experiments():
    files = {path.stem for path in FIGURES.iterdir() if path.suffix in (".csv", ".json", ".png")}
    assert files == set(EXPERIMENTS)


def test_the_page_of_claims_is_that_of_the_committed_records():
    page = (FIGURES / "claims.md").read_text(encoding="utf-8")
    assert page == claims_page(recorded(EXPERIMENTS, FIGURES))
