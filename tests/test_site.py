"""The site is built of the tree: no link is broken, nothing is loaded from elsewhere, all is there.

By `make docs-test`, which brings Sphinx and MathJax.
"""

import html
import importlib.util
import inspect
import json
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import make_site
import pytest
from formulas import formulas_in
from pages import equations, names
from pages.docstrings import Equation, blocks

ROOT = Path(__file__).parents[1]
LESSONS = sorted((ROOT / "lessons").glob("*.ipynb"))
SHEETS = sorted((ROOT / "lessons" / "sheets").glob("*.md"))

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("sphinx", "myst_nb", "furo")),
    reason="Sphinx, myst-nb or furo is not installed: make docs-test",
)

LOADS = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}


class Page(HTMLParser):
    """What a page links to, what it loads, its anchors, pictures, formulas and text."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.ids, self.alts = [], [], set(), []
        self.formulas, self.text, self.inside = [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag in LOADS and attributes.get(LOADS[tag]):
            self.loads.append(attributes[LOADS[tag]])
        if tag == "img":
            self.alts.append(attributes.get("alt", ""))
        if tag in ("div", "span", "script", "style"):
            is_formula = "math" in attributes.get("class", "").split()
            self.inside.append("formula" if is_formula else tag)
            if is_formula:
                self.formulas.append("")

    def handle_endtag(self, tag):
        if tag in ("div", "span", "script", "style"):
            self.inside.pop()

    def handle_data(self, text):
        if "formula" in self.inside:
            self.formulas[-1] += text
        if not {"script", "style"} & set(self.inside):
            self.text.append(text)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site, and its pages by their paths in it."""
    folder = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, str(ROOT / "docs" / "make_site.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    assert done.stderr == ""
    pages = {path.relative_to(folder).as_posix(): Page(path) for path in folder.rglob("*.html")}
    return folder, pages


def inside(page, address):
    """The path in the site that an address on a page leads to, and its anchor; None if outside."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    base = Path("/site") / page
    path = base if not parts.path else Path("/site", page).parent / unquote(parts.path)
    return Path(*_resolved(path.parts)).as_posix().removeprefix("/site/"), unquote(parts.fragment)


def _resolved(parts):
    found = []
    for part in parts:
        if part == "..":
            found.pop()
        else:
            found.append(part)
    return found


def test_no_link_and_no_anchor_is_broken(site):
    folder, pages = site
    broken = []
    for name, page in pages.items():
        for address in page.links:
            there = inside(name, address)
            if there is None:
                continue
            path, anchor = there
            if not (folder / path).is_file() or (
                anchor and path in pages and anchor not in pages[path].ids
            ):
                broken.append((name, address))
    assert broken == []
    assert sum(len(page.links) for page in pages.values()) > 1000


def test_nothing_is_loaded_from_elsewhere(site):
    folder, pages = site
    loads = {(name, address) for name, page in pages.items() for address in page.loads}
    assert len(loads) > 100
    assert [load for load in loads if urlsplit(load[1]).netloc] == []
    missing = {
        address for name, address in loads if not (folder / inside(name, address)[0]).is_file()
    }
    if not make_site.MATHJAX.exists():
        missing = {address for address in missing if "mathjax" not in address}
    assert missing == set()
    styles = [path.read_text("utf-8") for path in folder.rglob("*.css")]
    assert not [style for style in styles if "url(http" in style or "@import" in style]


def test_the_tables_of_contents_lead_to_all_that_is_no_listing(site):
    _, pages = site
    linked = {inside("index.html", address) for address in pages["index.html"].links}
    paths = {there[0] for there in linked if there}
    paths |= {
        inside("lessons/index.html", a)[0]
        for a in pages["lessons/index.html"].links
        if "://" not in a
    }
    for name in ("claims", "equations", "compare", "vectors", "arrays", "residual-rule"):
        assert f"{name}.html" in paths
    assert {f"lessons/{path.stem}.html" for path in LESSONS} <= paths


def test_every_picture_is_told_in_words(site):
    for name, page in site[1].items():
        assert [alt for alt in page.alts if len(alt.split()) < 5] == [], name
    assert sum(len(page.alts) for page in site[1].values()) > 60


@pytest.mark.parametrize("text", [*LESSONS, *SHEETS], ids=lambda path: path.name)
def test_every_formula_of_the_course_is_there(text, site):
    """As input for MathJax; those of headings stand in tables of contents too."""
    page = site[1][text.relative_to(ROOT).with_suffix(".html").as_posix()]
    shown = Counter(_bare(formula) for formula in page.formulas)
    written = Counter(_bare(formula) for formula, _ in formulas_in(text))
    assert written - shown == Counter()
    assert shown.keys() == written.keys()
    assert text in SHEETS or written.total() >= 10


def _bare(formula):
    """A formula without its marks, as Sphinx writes them, and without white space."""
    formula = html.unescape(formula).strip()
    for begin, end in ((r"\(", r"\)"), (r"\[", r"\]")):
        if formula.startswith(begin) and formula.endswith(end):
            formula = formula[2:-2]
    formula = formula.replace(r"\begin{split}", "").replace(r"\end{split}", "")
    return "".join(formula.split())


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_shown_with_its_stored_outputs(lesson, site):
    page = site[1][f"lessons/{lesson.stem}.html"]
    cells = json.loads(lesson.read_text("utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(page.alts) == len(pictures)
    text = _joined(page)
    for output in outputs:
        assert _plain("".join(output.get("text", ""))) in text


def _joined(page):
    return _plain("".join(page.text))


def _plain(text):
    return "".join(text.split())


@pytest.mark.parametrize("room", names.ROOMS)
def test_the_reference_has_every_name_and_loses_no_character(room, site):
    page = site[1][f"api/{room}.html"]
    module, text = names.room_named(room), _joined(page)
    for name in module.__all__:
        assert f"mgt_np.{room}.{name}" in page.ids
        value = getattr(module, name)
        if inspect.isroutine(value):
            for block in blocks(inspect.getdoc(value)):
                for part in parts_of(block):
                    assert _plain(part) in text, name


def parts_of(block):
    if isinstance(block, Equation):
        return [f"{text}({source})" if source else text for text, source in block.lines]
    return ["".join(text for text, _ in block.parts)]


def test_the_reference_shows_shapes_as_help_does(site):
    text = _joined(site[1]["api/layers.html"])
    shown = "tangent_gate(x:'...d≥1',W_gate:'dd',gain:'d'=None,bias:'d'=None,*,eps:'float≥0'=1e-05)"
    assert shown in text


def test_the_index_of_equations_has_every_row(site):
    page = site[1]["equations.html"]
    text = _joined(page)
    for family in equations.index():
        for row in family.rows:
            assert _plain(row.function.name + row.lines[0].text) in text
            for test in row.tests:
                assert f"source/{test.path}.html#L-{test.line}" in page.links
            for lesson in row.lessons:
                assert lesson.replace(".ipynb", ".html") in page.links


def test_the_site_names_no_machine(site):
    folder, _ = site
    for path in folder.rglob("*.html"):
        text = path.read_text("utf-8")
        assert str(folder.parent) not in text
        assert str(ROOT) not in text
        assert " at 0x" not in text or "/source/" in path.as_posix()
