"""What the site's pages are made of: links, docstrings, the index of equations, worked examples."""

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import equations, names, staging
from pages.docstrings import Equation, Line, Paragraph, blocks, with_source
from pages.links import Site, links_of, outside_fences
from pages.repository import ROOT, listing_of, page_of, pages

import mgt_np
from mgt_np import analysis, layers
from mgt_np.experiments import EXPERIMENTS
from mgt_np.models import RESIDUAL_RULES

INDEX = equations.index()
ROWS = [row for family in INDEX for row in family.rows]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.function.name)


# ---- the index of equations


def test_every_layer_and_measure_is_in_the_index():
    functions = {
        name
        for room in (layers, analysis)
        for name in room.__all__
        if inspect.isfunction(getattr(room, name)) and not name.startswith("init_")
    }
    assert {row.function.name for row in ROWS} == functions
    assert [rule.name for rule in equations.rules()] == list(RESIDUAL_RULES)


@each_row
def test_a_row_has_the_equation_as_it_stands_in_the_code(row):
    line = (ROOT / row.function.path).read_text("utf-8").split("\n")[row.function.line - 1 :]
    assert f"def {row.function.name}(" in "\n".join(line[:3])
    docstring = " ".join(inspect.getdoc(getattr(mgt_np, row.function.name)).split())
    assert row.lines
    for line in row.lines:
        assert " ".join(line.text.split()) in docstring
    found = blocks(inspect.getdoc(getattr(mgt_np, row.function.name)))
    equation = [line.text for block in found if isinstance(block, Equation) for line in block.lines]
    assert [line.text for line in row.lines] == (equation or [row.lines[0].text])


@each_row
def test_a_row_s_fused_form_is_that_of_the_layer(row):
    forms = getattr(mgt_np, row.function.name).forms
    assert (row.fused is not None) == bool(forms)
    if row.fused:
        assert row.fused.path.startswith("mgt_np/layers/fused/")
        assert f"def {row.fused.name}(" in line_of(row.fused)


def line_of(place):
    return (ROOT / place.path).read_text("utf-8").split("\n")[place.line - 1]


@each_row
def test_a_row_s_tests_exist_and_use_the_function(row):
    assert row.tests
    for test in row.tests:
        assert line_of(test).startswith(f"def {test.name}(")
        tree = ast.parse((ROOT / test.path).read_text("utf-8"))
        defined = {n.name: ast.unparse(n) for n in tree.body if isinstance(n, ast.FunctionDef)}
        called = [text for name, text in defined.items() if name in defined[test.name]]
        assert any(re.search(rf"\b{row.function.name}\b", text) for text in called)


@each_row
def test_an_equation_with_a_number_has_a_test_that_names_it(row):
    """As CONTRIBUTING asks: "The test that holds an equation names it in its docstring"."""
    sources = [line.source for line in row.lines if equations.NUMBERED.search(line.source)]
    for test in row.tests if sources else ():
        words, _ = equations.with_helpers(test.name, equations.functions_in(test.path))
        assert re.search("eq|theorem|corollary|§", words, re.IGNORECASE)
        assert numbers_in(words) & set().union(*map(numbers_in, sources))


def numbers_in(words):
    """ "3.1", "§2", and for "7–9" all three."""
    found = set(re.findall(r"(?<![\d.])\d[\d.]*(?<!\.)", re.sub(r"\d{4}\.\d{5}", "", words)))
    for first, last in re.findall(r"(?<![\d.])(\d+)–(\d+)", words):
        found |= {str(number) for number in range(int(first), int(last) + 1)}
    return found


@each_row
def test_a_row_s_lessons_and_figures_exist(row):
    for lesson in row.lessons:
        assert re.search(rf"\b{row.function.name}\b", (ROOT / lesson).read_text("utf-8"))
    assert set(row.experiments) <= EXPERIMENTS.keys()
    for name in row.experiments:
        assert (ROOT / "figures" / f"{name}.png").exists()


def test_lessons_and_figures_are_found():
    of = {row.function.name: row for row in ROWS}
    assert [path[8:10] for path in of["sinkhorn"].lessons] == ["06", "13"]
    assert of["delta_eigenvalues"].experiments == ("delta-spectrum",)
    assert "headline" in of["mgt_residual"].experiments  # by the rule that it is the update of
    assert of["mgt_residual"].fused.path == "mgt_np/layers/fused/mgt.py"
    assert [line.source for line in of["mhc_coefficients"].lines] == ["mHC, eq. 7", "mHC, eqs 8, 9"]
    assert {test.path for test in of["delta_product"].tests} == {
        "tests/layers/test_delta_spectrum.py"
    }
    assert of["attention_weights"].lines[0].source == "Vaswani et al., 1706.03762, eq. 1"


# ---- docstrings


def test_a_docstring_is_paragraphs_and_equations():
    docstring = (
        "Return y of `x`.\n\n    y = x *\n      = |x| `z`         (MGT, eq. 3)\n\n"
        "in (0, 1),\nx' too.\n- `a`: one,\n  and more"
    )
    assert blocks(docstring) == [
        Paragraph((("Return y of ", False), ("x", True), (".", False))),
        Equation((Line("y = x *", ""), Line("  = |x| `z`", "MGT, eq. 3"))),
        Paragraph((("in (0, 1), x' too.", False),)),
        Paragraph((("a", True), (": one, and more", False)), item=True),
    ]


@pytest.mark.parametrize(
    ("line", "parted"),
    [
        ("a = b            (eq. 1).", ("a = b", "eq. 1")),
        ("a = b (c + d)", ("a = b (c + d)", "")),
        ("a,    b = f(x)", ("a,    b = f(x)", "")),
        ("a    (A & B, 2001 (reprint))", ("a", "A & B, 2001 (reprint)")),
    ],
)
def test_a_source_is_the_bracket_behind_a_gap(line, parted):
    assert with_source(line) == parted


def test_every_public_name_has_a_file():
    assert {name for name in mgt_np.__all__} <= names.full_names().keys()
    assert all((ROOT / file).is_file() for file in names.files())
    found = names.families_of(mgt_np.models)
    assert "RESIDUAL_RULES" in found["mgt_np.models.rules"]


# ---- links


def test_links_lead_to_pages_listings_and_copies():
    site = Site()
    text = "[a](../mgt_np/layers/mgt.py) [b](README.md#the-map) ![c](../figures/span.png) [d](#e)"
    assert site.rewritten(text, "lessons/x.md", "lessons/x.md") == (
        "[a](../source/mgt_np/layers/mgt.py.md) [b](index.md#the-map) "
        "![c](../figures/span.png) [d](#e)"
    )
    assert (site.listings, site.copies) == ({"mgt_np/layers/mgt.py"}, {"figures/span.png"})
    raw = site.rewritten('<a href="harness/harness.jl">', "docs/vectors.md", "vectors.md")
    assert raw == '<a href="source/docs/harness/harness.jl.html">'
    away = "[f](https://arxiv.org/abs/2601.01014)\n```\n[g](nowhere)\n```\n"
    assert site.rewritten(away, "README.md", "index.md") == away
    with pytest.raises(ValueError, match="nowhere"):
        site.rewritten("[g](nowhere)", "README.md", "index.md")


def test_code_in_fences_is_left_alone():
    text = "a\n````md\n```\nb\n```\n````\nc\n~~~\nd\n"
    assert outside_fences(text, str.upper) == "A\n````md\n```\nb\n```\n````\nC\n~~~\nd\n"


MARKDOWN = ["README.md", *(path for path in pages() if path.endswith(".md"))]


@pytest.mark.parametrize("path", MARKDOWN)
def test_every_link_of_the_repository_leads_to_a_file(path):
    Site().rewritten((ROOT / path).read_text("utf-8"), path, page_of(path))


def test_places_of_files():
    assert page_of("docs/compare.md") == "compare.md"
    assert page_of("lessons/sheets/04-delta-operator.md") == "lessons/sheets/04-delta-operator.md"
    assert page_of("mgt_np/layers/mgt.py") is None
    assert listing_of("mgt_np/layers") == "source/mgt_np/layers/index.md"
    assert listing_of("figures/span.csv") is None


# ---- staged pages


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "pages"
    staging.stage(folder)
    return folder


def test_sections_are_those_of_their_files(staged):
    page = (staged / "what-did-not-work.md").read_text("utf-8")
    assert "A second Python thread for the blocks" in page
    assert "DDL overwrites exactly" in page
    assert "<!--" not in page
    assert "](claims.md#tangency)" in page
    table = (staged / "arrays.md").read_text("utf-8")
    assert "| array functions and their gradients |" in table
    with pytest.raises(ValueError, match="No such heading"):
        staging.section(Site(), "README.md", "No such heading", "x.md")


def test_every_experiment_has_its_figure_on_the_page_of_claims(staged):
    page = (staged / "claims.md").read_text("utf-8")
    for name, experiment in EXPERIMENTS.items():
        figure = re.search(rf"^## {name}\n\n.*\n\n!\[(.+)\]\((.+)\)\n\nMade by", page, re.MULTILINE)
        assert figure, name
        assert figure[1] == experiment.alt.replace("[", "(").replace("]", ")")
        assert (staged / figure[2]).is_file()


def test_every_link_of_a_staged_page_leads_to_a_staged_file(staged):
    for page in staged.rglob("*.md"):
        targets = [t.partition("#")[0] for t in links_of(page.read_text("utf-8")) if "://" not in t]
        assert [t for t in targets if t and not (page.parent / t).exists()] == [], page


# ---- examples


def examples(page, language):
    text = (ROOT / "docs" / page).read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_example_of_arrays_prints_what_it_says(capsys):
    (code,) = examples("arrays.md", "python")
    exec(compile(code, "arrays.md", "exec"), {})
    assert capsys.readouterr().out.strip() == re.search(r"# (\w+):", code)[1]


@pytest.mark.parametrize("library", ["jax", "torch"])
def test_the_examples_of_compilers_print_what_they_say(library, capsys):
    pytest.importorskip(library)
    (code,) = (code for code in examples("compilers.md", "python") if f"import {library}" in code)
    exec(compile(code, "compilers.md", "exec"), {})
    assert capsys.readouterr().out.strip() == re.search(r"# (\(.*)", code)[1]


def test_a_residual_rule_is_added_as_the_page_says(tmp_path):
    """In a copy of the repository: the file, the line, and then each command of the page."""
    for folder in ("mgt_np", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__py*"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "docs").mkdir()
    file, line = examples("residual-rule.md", "python")
    rules = tmp_path / "mgt_np" / "models" / "rules"
    (rules / "highway.py").write_text(file, "utf-8")
    registry = (rules / "__init__.py").read_text("utf-8")
    registry = registry.replace(
        "from .layerscale", "from .highway import HIGHWAY\nfrom .layerscale"
    )
    (rules / "__init__.py").write_text(registry.replace("    }\n)", f"{line}    }}\n)"), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    for command in "".join(examples("residual-rule.md", "sh")).splitlines():
        program, *arguments = command.split()
        module = {"mgt-np": "mgt_np", "pytest": "pytest"}[program]
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert (tmp_path / "figures" / "mine" / "rank-evolution.png").exists()
    assert Path(tmp_path, "trained", "highway", "log.csv").exists()
