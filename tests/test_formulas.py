"""KaTeX and MathJax render every formula of the lessons: by `make formulas`, which brings both."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from formulas import formulas_in, formulas_of

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


WRONG = [(r"\undefined", True), (r"\frac{1", False)]


@pytest.fixture(scope="module")
def failures():
    """The formulas that do not render, with the reason: of all lessons, and of `WRONG`."""
    if shutil.which("node") is None or "NODE_PATH" not in os.environ:
        pytest.skip("node, or NODE_PATH with katex and mathjax-full, is not there: make formulas")
    formulas = [formula for path in TEXTS for formula in formulas_in(path)] + WRONG
    done = subprocess.run(
        ["node", "-e", RENDER],
        input=json.dumps(formulas),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_formula_renders(path, failures):
    assert {f: failures[f] for f, _ in formulas_in(path) if f in failures} == {}


def test_those_that_do_not_are_seen(failures):
    assert failures.keys() >= {formula for formula, _ in WRONG}


def test_formulas_are_found():
    text = "`$a$` and $x$ and $y$\n\n$$\nz\n$$\n\n```sh\necho $HOME $b$\n```"
    assert formulas_of(text) == [("\nz\n", True), ("x", False), ("y", False)]
