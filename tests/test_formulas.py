"""KaTeX and MathJax render every formula of the lessons: by `make formulas`, which brings both."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
TEXTS = sorted([*(ROOT / "lessons").rglob("*.ipynb"), *(ROOT / "lessons").rglob("*.md")])

# Reads [[formula, whether it stands on lines of its own], …]; prints [[formula, error], …].
RENDER = """
const katex = require('katex');
const {mathjax} = require('mathjax-full/js/mathjax.js');
const {TeX} = require('mathjax-full/js/input/tex.js');
const {SVG} = require('mathjax-full/js/output/svg.js');
const {liteAdaptor} = require('mathjax-full/js/adaptors/liteAdaptor.js');
const {RegisterHTMLHandler} = require('mathjax-full/js/handlers/html.js');
require('mathjax-full/js/input/tex/AllPackages.js');
RegisterHTMLHandler(liteAdaptor());
const input = new TeX({packages: ['base', 'ams'], formatError: (jax, error) => { throw error; }});
const page = mathjax.document('', {InputJax: input, OutputJax: new SVG({fontCache: 'none'})});
const failed = [];
for (const [formula, display] of JSON.parse(require('fs').readFileSync(0, 'utf8'))) {
  try {
    page.convert(formula, {display});
    katex.renderToString(formula, {displayMode: display, throwOnError: true, strict: 'ignore'});
  } catch (error) { failed.push([formula, error.message]); }
}
console.log(JSON.stringify(failed));
"""


def formulas_of(text):
    """Each formula, and whether it stands on lines of its own."""
    text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    displayed = re.findall(r"\$\$(.*?)\$\$", text, flags=re.DOTALL)
    rest = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    inline = re.findall(r"\$([^$]+)\$", rest)
    return [(f, True) for f in displayed] + [(f, False) for f in inline]


def texts_of(path):
    if path.suffix == ".md":
        return [path.read_text(encoding="utf-8")]
    cells = nbformat.read(path, as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "markdown"]


@pytest.fixture(scope="module")
def failures():
    """A function of formulas: those that do not render, with the reason."""
    if shutil.which("node") is None or "NODE_PATH" not in os.environ:
        pytest.skip("node, or NODE_PATH with katex and mathjax-full, is not there: make formulas")

    def render(formulas):
        done = subprocess.run(
            ["node", "-e", RENDER],
            input=json.dumps(formulas),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return render


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_formula_renders(path, failures):
    assert failures([f for text in texts_of(path) for f in formulas_of(text)]) == []


def test_those_that_do_not_are_seen(failures):
    found = failures(formulas_of("$x$ and $\\frac{1$ and\n\n$$\n\\undefined\n$$\n"))
    assert [formula.strip() for formula, _ in found] == ["\\undefined", "\\frac{1"]
