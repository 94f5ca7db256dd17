"""What is written of a result: whole files that can be read back, and the tables of its claims."""

import dataclasses
import json
import math
import os
import shutil
from pathlib import Path

import pytest
from toy_experiment import QUICK, TOY

from mgt_np import experiments
from mgt_np.experiments import Judged, Rows, result_of
from mgt_np.experiments.writing import (
    BEGIN,
    END,
    as_csv,
    findings,
    judged,
    read_csv,
    read_result,
    write_findings,
)

NAMES = ("toy.csv", "toy.json", "toy.png")


@pytest.fixture(scope="module")
def result():
    return result_of(TOY, jobs=1)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_written_files_hold_rows_claims_and_provenance(result, tmp_path):
    folder = tmp_path / "deep" / "new"
    verdicts = experiments.write(TOY, result, folder)
    files = contents(folder)
    assert tuple(sorted(files)) == NAMES
    assert read_csv(folder / "toy.csv") == result.rows
    record = json.loads(files["toy.json"])
    assert record["settings"] == json.loads(json.dumps(dataclasses.asdict(QUICK)))
    assert record["experiment"] == "toy"
    assert {"python", "numpy", "autograd", "mgt-np"} <= record["versions"].keys()
    assert [Judged(**claim) for claim in record["claims"]] == verdicts == judged(TOY, result)
    assert files["toy.png"].startswith(b"\x89PNG")


def test_what_was_written_is_read_back(result, tmp_path):
    experiments.write(TOY, result, tmp_path)
    found = read_result(TOY, QUICK, tmp_path)
    assert (found.name, found.settings, found.rows) == ("toy", QUICK, result.rows)
    assert read_result(TOY, dataclasses.replace(QUICK, seed=1), tmp_path) is None
    assert read_result(TOY, QUICK, tmp_path / "nowhere") is None
    (tmp_path / "toy.csv").unlink()
    assert read_result(TOY, QUICK, tmp_path) is None


def test_csv_gives_each_value_back_exactly(tmp_path):
    values = [0.1, 1e-300, -0.0, 1e22, 1.0, 0.1 + 0.2, math.pi, math.inf, 5e-324]
    rows = Rows(
        {"name": text, "n": n, "value": value, "β|γ": f'{text}, "quoted"\nand broken'}
        for n, (text, value) in enumerate(zip("αβγδεζηθι", values, strict=True), -3)
    )
    path = tmp_path / "rows.csv"
    path.write_bytes(as_csv(rows))
    found = read_csv(path)
    assert found == rows
    for got, row in zip(found, rows, strict=True):
        assert [type(x) for x in got.values()] == [str, int, float, str]
        assert math.copysign(1.0, got["value"]) == math.copysign(1.0, row["value"])
    path.write_bytes(as_csv(Rows([{"value": math.nan}])))
    assert math.isnan(read_csv(path)[0]["value"])
    assert b"\r" not in as_csv(rows)


def fail_at(n, function):
    """The function, but the n-th call finds no space left."""
    calls = []

    def failing(*args, **kwargs):
        calls.append(args)
        if len(calls) == n:
            raise OSError(28, "No space left on device", str(args[0]))
        return function(*args, **kwargs)

    return failing


def test_a_write_that_fails_leaves_the_old_files_and_no_others(result, tmp_path, monkeypatch):
    experiments.write(TOY, result, tmp_path)
    old = contents(tmp_path)
    other = dataclasses.replace(result, rows=Rows(result.rows[:-1]))
    for n in (1, 2, 3):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", fail_at(n, Path.write_bytes))
            with pytest.raises(OSError, match="No space left") as caught:
                experiments.write(TOY, other, tmp_path)
        assert caught.value.filename == str(tmp_path)
        assert contents(tmp_path) == old


def test_files_take_their_names_only_when_all_are_there(result, tmp_path, monkeypatch):
    seen = []

    def replace(source, target):
        seen.append(len(list(tmp_path.glob(".*.part"))))
        shutil.move(source, target)

    monkeypatch.setattr(os, "replace", replace)
    experiments.write(TOY, result, tmp_path)
    assert seen == [3, 2, 1]
    assert tuple(sorted(contents(tmp_path))) == NAMES


def test_a_figure_that_cannot_be_drawn_leaves_the_old_files(result, tmp_path):
    experiments.write(TOY, result, tmp_path)
    old = contents(tmp_path)
    broken = dataclasses.replace(TOY, plot=lambda result, judged: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        experiments.write(broken, result, tmp_path)
    assert contents(tmp_path) == old


def test_a_file_in_the_place_of_the_folder_is_named(result, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match="taken"):
        experiments.write(TOY, result, tmp_path / "taken")


def verdict(**changes):
    words = {
        "claim": "a claim " * 12,
        "source": "a source",
        "criterion": "below 3 " * 9,
        "measured": "0.1 " * 30,
        "verdict": "holds only if it rains",
        "title": "",
        "readme": True,
    }
    return Judged(**words | changes)


@pytest.mark.parametrize("width", [80, 120, 160])
def test_the_claims_table_keeps_its_width_and_its_words(width):
    table = experiments.claims_table([("figure.png", verdict()), ("figure.png", verdict())], width)
    lines = table.splitlines()
    assert max(map(len, lines)) <= width
    assert (table.count("0.1"), table.count("claim"), table.count("below")) == (60, 25, 18)
    assert [title.strip() for title in lines[0].split("│")] == [
        *("claim", "source", "criterion", "measured", "figure", "verdict"),
    ]
    columns = {place for line in lines for place, sign in enumerate(line) if sign in "│┼"}
    assert len(columns) == 5, "the columns stand below each other"
    assert sum("┼" in line for line in lines) == 2
    assert all(line == line.rstrip() for line in lines[1:])


@pytest.mark.parametrize("width", [80, 120, 160])
def test_a_long_word_is_broken_rather_than_the_table(width):
    table = experiments.claims_table([("f" * 200 + ".png", verdict(measured="x" * 500))], width)
    assert max(map(len, table.splitlines())) <= width
    assert table.count("x") == 500


def test_findings_are_those_marked_for_the_readme():
    table = findings(
        [
            ("a.png", verdict(claim="|A| = 1", source="b|c", measured="2|3", verdict="if |x|")),
            ("b.png", verdict(readme=False)),
        ]
    )
    assert table.splitlines() == [
        "| claim | source | measured | verdict |",
        "| --- | --- | --- | --- |",
        r"| \|A\| = 1 | b\|c | 2\|3 | [if \|x\|](figures/a.png) |",
    ]


def test_findings_are_renewed_between_their_marks(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n\n{BEGIN}\n| old |\n{END}\n\nafter\n", encoding="utf-8")
    claims = [("a.png", verdict(claim=r"β \1"))]
    for _ in range(2):
        write_findings(path, claims)
        assert path.read_text(encoding="utf-8") == (
            f"before\n\n{BEGIN}\n{findings(claims)}\n{END}\n\nafter\n"
        )


@pytest.mark.parametrize("text", ["", BEGIN, END])
def test_a_readme_without_its_marks_is_left_alone(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected <!-- findings: begin --> .* got 0 such pairs"):
        write_findings(path, [("a.png", verdict())])
    assert path.read_text(encoding="utf-8") == text
