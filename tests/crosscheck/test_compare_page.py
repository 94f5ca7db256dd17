"""What docs/compare.md shows is what comes out, run as written."""

import ast
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mgt_np.cli import main
from mgt_np.crosscheck import vectors
from mgt_np.crosscheck.adapters import ADAPTERS
from mgt_np.crosscheck.cases import cases_of
from mgt_np.crosscheck.compare import VERDICTS
from mgt_np.crosscheck.readings import predict
from mgt_np.crosscheck.steps import Reading
from mgt_np.data import safetensors

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compare.md"
EXAMPLES = ROOT / "docs" / "examples"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks():
    """The fenced blocks of the page, (language, text)."""
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def shown_after(index):
    """The output shown behind a block, None if there is none."""
    found = blocks()
    language, text = found[index + 1] if index + 1 < len(found) else ("", "")
    return text if language in ("text", "json") else None


def without_sizes(text):
    """A report without the sizes of errors, which differ a little from machine to machine."""
    text = re.sub(r"worst [\d.e+-]+ × rounding +", "worst # × rounding ", text)
    text = re.sub(r'("float(?:64|32)": )[\d.e+-]+', r"\1#", text)
    return text.strip()


COMMANDS = [i for i, (language, _) in enumerate(blocks()) if language == "sh"]


@pytest.mark.parametrize("index", COMMANDS)
def test_its_commands_print_what_it_shows(index, capsys, monkeypatch):
    program, *arguments = shlex.split(blocks()[index][1])
    assert program == "mgt-np"
    monkeypatch.chdir(ROOT)
    code = main(arguments)
    assert code == (0 if "my_mhc_right" in arguments[1] else 1)
    assert without_sizes(capsys.readouterr().out) == without_sizes(shown_after(index))


def test_its_python_prints_what_it_shows(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    names, compared = {}, 0
    for index, (language, code) in enumerate(blocks()):
        if language != "python":
            continue
        exec(compile(code, f"compare.md, block {index}", "exec"), names)
        printed, shown = capsys.readouterr().out, shown_after(index)
        assert without_sizes(printed) == without_sizes(shown or "")
        compared += shown is not None
    assert compared >= 4


def test_its_test_file_runs_as_one_test_a_case(tmp_path):
    (code,) = [text for _, text in blocks() if text.startswith("# test_my_mhc.py")]
    (tmp_path / "test_my_mhc.py").write_text(code, encoding="utf-8")
    for example in EXAMPLES.glob("*.py"):
        (tmp_path / example.name).write_text(example.read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_mhc.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed, 1 skipped" in done.stdout


def test_the_examples_differ_in_the_two_lines_that_it_shows():
    wrong, right = (
        (EXAMPLES / name).read_text(encoding="utf-8").splitlines()[1:]
        for name in ("my_mhc.py", "my_mhc_right.py")
    )
    changed = [(a, b) for a, b in zip(wrong, right, strict=True) if a != b]
    ((_, diff),) = [block for block in blocks() if block[0] == "diff"]
    assert diff.splitlines() == [line for a, b in changed for line in (f"-{a}", f"+{b}")]


def test_the_function_that_it_shows_is_the_example_s():
    ((_, shown),) = [block for block in blocks() if block[0] == "py"]
    source = (EXAMPLES / "my_mhc.py").read_text(encoding="utf-8")
    function = ast.parse(source).body[-1]
    function.body = function.body[1:]  # without its docstring
    assert ast.dump(ast.parse(shown)) == ast.dump(ast.Module([function], []))


def test_its_adapters_are_all_that_there_are_and_take_what_it_gives_them():
    rows = re.findall(r"^\| `(\w+)` \|.*\| `(compare\(.*\))` \|$", PAGE.read_text("utf-8"), re.M)
    assert [name for name, _ in rows] == list(ADAPTERS)
    for name, call in rows:
        given = {k.arg: k.value for k in ast.parse(call, mode="eval").body.keywords}
        assert ast.literal_eval(given.pop("adapter")) == name
        adapter = ADAPTERS[name]
        known = {*inspect.signature(adapter.check).parameters, *adapter.DEFAULTS}
        known |= set(getattr(adapter, "ARRAYS", ()))
        assert given.keys() <= known


def test_its_verdicts_are_all_that_there_are():
    text = PAGE.read_text("utf-8")
    table = text.partition("## Verdicts")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([a-z0-9, -]+) \|", table, re.MULTILINE)
    named = [name for cell in cells for name in cell.split(", ")]
    assert sorted(named[1:]) == sorted(VERDICTS)  # the first is the head, "verdict"


def test_its_json_is_of_the_form_that_it_names():
    ((_, text),) = [block for block in blocks() if block[0] == "json"]
    shown = json.loads(text)
    assert (shown["format"], shown["version"]) == ("mgt-np-compare", 1)
    assert {row["verdict"] for row in shown["rows"]} <= set(VERDICTS)


@pytest.mark.parametrize(
    ("function", "one", "other"),
    [
        ("sinkhorn", {"start": "softmax"}, {"order": "rows_columns", "half_steps": 1}),
        (
            "sinkhorn",
            {"argument logits": "transposed"},
            {"order": "rows_columns", "output y": "transposed"},
        ),
        ("unit_direction", {"eps": 1e-6}, {"placement": "not_squared", "eps": 1e-12}),
    ],
)
def test_what_it_says_is_one_function_is_one_in_every_case(function, one, other):
    def results(case, choices):
        readings = (Reading(axis, value, "INPUT", "", "") for axis, value in choices.items())
        return predict(case, case.arrays, tuple(readings))["y"]

    contract = [predict(case, case.arrays)["y"] for case in cases_of(function)]
    ones, others = ([results(c, choices) for c in cases_of(function)] for choices in (one, other))
    for y, z in zip(ones, others, strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-12, atol=1e-300)
    assert any(not np.allclose(y, z) for y, z in zip(ones, contract, strict=True))


def test_nine_mistakes_in_ten_are_as_large_as_it_says():
    _, metadata = safetensors.read(vectors.frozen())
    largest = {}
    for case in json.loads(metadata["manifest"])["cases"]:
        for reading, moved in case["separates"].items():
            key = case["function"], reading
            largest[key] = max(moved, largest.get(key, 0.0))
    assert np.mean(np.array(list(largest.values())) > 1e5) >= 0.9


def test_its_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE.read_text(encoding="utf-8"))
    assert len(targets) >= 4
    assert [target for target in targets if not (PAGE.parent / target).exists()] == []
