"""The index of equations: where each stands in the code, what holds it, derives it, measures it.

Everything is read from the repository: equations and sources from docstrings, fused forms from the
layers themselves, and from the syntax of tests, lessons and experiments who uses which function.
"""

import ast
import functools
import inspect
import json
import re
from typing import NamedTuple

from mgt_np import analysis, layers
from mgt_np.experiments import EXPERIMENTS
from mgt_np.models import RESIDUAL_RULES

from .docstrings import Equation, Line, blocks, with_source
from .repository import ROOT, as_path

ROOMS = layers, analysis
PAPER = re.compile(r"\(([^()]*\d{4}\.\d{4,5}[^()]*)\)")
NUMBERED = re.compile(r"\b(?:eqs?|theorem|corollary)\.? ?(?=\d)|§", re.IGNORECASE)
MOST_EXPERIMENTS = 3  # that a row names


class Place(NamedTuple):
    """A line of a file of the repository, and what stands there."""

    path: str
    line: int
    name: str


class Row(NamedTuple):
    """An equation: `lines` with their sources, and where it is met."""

    function: Place
    lines: tuple
    fused: Place | None
    tests: tuple
    lessons: tuple
    experiments: tuple


class Family(NamedTuple):
    """The equations of one module, whose first line is `title`."""

    module: str
    title: str
    rows: tuple


@functools.cache
def index():
    """The equations of all public layers and measures, family by family."""
    families = {}
    for room in ROOMS:
        functions = [getattr(room, name) for name in room.__all__]
        for function in filter(inspect.isfunction, functions):
            if not function.__name__.startswith("init_"):
                families.setdefault(function.__module__, []).append(function)
    return [
        Family(
            module_path(module),
            inspect.getdoc(inspect.getmodule(functions[0])).partition("\n")[0],
            tuple(map(row_of, sorted(functions, key=line_of))),
        )
        for module, functions in sorted(families.items(), key=_layers_first)
    ]


def _layers_first(family):
    return not family[0].startswith("mgt_np.layers"), family[0]


def row_of(function):
    """The row of one function."""
    name = function.__name__
    return Row(
        place_of(function),
        equation_of(function),
        fused_form(function),
        tests_of(function),
        lessons_with(name),
        experiments_with(name),
    )


# ---- the function and its equation


def module_path(module):
    return module.replace(".", "/") + ".py"


def line_of(function):
    return inspect.unwrap(function).__code__.co_firstlineno


def place_of(function):
    return Place(module_path(function.__module__), line_of(function), function.__name__)


def equation_of(function):
    """The lines of a function's equation, each with its source; its first sentence if it has none.

    A source that names an equation's number alone is of the paper that the module names.
    """
    docstring = inspect.getdoc(function)
    equations = [block for block in blocks(docstring) if isinstance(block, Equation)]
    lines = [line for equation in equations for line in equation.lines]
    if not lines:
        line = with_source(docstring.partition("\n")[0])
        sentence = line.text.removeprefix("Return ").partition(". ")[0].rstrip(".")
        lines = [Line(sentence, line.source)]
    paper = paper_of(function)
    if paper and not any(line.source for line in lines):
        lines[0] = Line(lines[0].text, paper)
    return tuple(Line(line.text, _whole(line.source, paper)) for line in lines)


def _whole(source, paper):
    alone = re.match(r"eqs?\b|§", source)
    return f"{paper}, {source}" if alone and paper else source


def paper_of(function):
    """The paper that the first line of a function's module names, or ""."""
    found = PAPER.search(inspect.getdoc(inspect.getmodule(function)).partition("\n")[0])
    return found[1] if found else ""


def fused_form(function):
    """Where the fused form of a layer stands; None if it has none."""
    forward = function.forms.get("forward")
    if forward is None:
        return None
    forward = getattr(forward, "func", forward)
    return Place(module_path(forward.__module__), line_of(forward), forward.__name__)


# ---- the tests


def names_in(tree):
    """The names that a piece of code uses, those behind a dot too."""
    nodes = list(ast.walk(tree))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@functools.cache
def functions_in(path):
    """The functions of a file of tests: {name: (line, docstring, names that it uses)}."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {
        node.name: (node.lineno, ast.get_docstring(node) or "", names_in(node))
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }


def with_helpers(name, functions):
    """The docstrings and names of a test, with those of the helpers of its file that it calls."""
    seen, found = {name}, [name]
    for each in found:
        more = sorted(functions[each][2] & functions.keys() - seen)
        seen.update(more)
        found += more
    texts = [functions[each][1] for each in found]
    return " ".join(filter(None, texts)), set().union(*(functions[each][2] for each in found))


def tests_of(function):
    """The tests that hold a function's equation: those whose words name it, else the nearest one.

    A test that calls the function, itself or by helpers of its file, names the equation if its
    docstring, or that of such a helper, has the source's number. Without such a test it is one
    that is called after a formula, or the first that calls the function.
    """
    room, module = function.__module__.split(".")[1:3]
    sources = {line.source for line in equation_of(function) if NUMBERED.search(line.source)}
    ranked = []
    for file in test_files(room, module):
        functions = functions_in(as_path(file))
        for name, (line, _, names) in functions.items():
            words, all_names = with_helpers(name, functions)
            if name.startswith("test_") and function.__name__ in all_names:
                direct = function.__name__ in names
                rank = _rank(name, words, sources, direct)
                ranked.append((rank, as_path(file), line, name))
    best = min((rank for rank, *_ in ranked), default=None)
    naming = [Place(path, line, name) for rank, path, line, name in ranked if rank == best]
    return tuple(naming[:2] if best == 0 else naming[:1])


def test_files(room, module):
    """The files of a module's tests: for `delta` `test_delta_spectrum`, not `test_delta_rule`."""
    modules = {path.stem for path in (ROOT / "mgt_np" / room).glob("*.py")}
    longer = {f"test_{each}" for each in modules if each.startswith(f"{module}_")}
    files = sorted((ROOT / "tests" / room).glob(f"test_{module}*.py"))
    return [f for f in files if not any(f"{f.stem}_".startswith(f"{each}_") for each in longer)]


def _rank(name, words, sources, direct):
    if direct and any(_cites(words, source) for source in sources):
        return 0
    of_formula = re.search(r"formula|equation|_is_its|theorem", name) is not None
    return 1 + 2 * (not direct) + (not of_formula)


def _cites(words, source):
    """Whether words name an equation by its number, "eqs 7–9" for "eq. 7"."""
    return any(
        re.search(rf"(\beqs?\.?|theorem|corollary|§) ?([\d.]+(, |–| and ))*{number}\b", words, re.I)
        for number in map(re.escape, re.findall(r"\d[\d.]*\d|\d", NUMBERED.split(source, 1)[-1]))
    )


# ---- the lessons and the experiments


@functools.cache
def code_of_lessons():
    """{lesson: the names of the package that its code uses, and the texts between quotes}."""
    found = {}
    for path in sorted((ROOT / "lessons").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        lines = "\n".join(code).split("\n")
        code = "\n".join(line for line in lines if not line.startswith(("%", "!")))
        tree = ast.parse(code)
        found[as_path(path)] = _imported(tree) | _behind_the_package(tree), texts_in(tree)
    return found


def texts_in(tree):
    """The texts that stand between quotes in a piece of code."""
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


def lessons_with(name):
    """The lessons whose code imports a name from the package, or finds it there."""
    return tuple(lesson for lesson, (names, _) in code_of_lessons().items() if name in names)


def lessons_with_text(text):
    """The lessons whose code has a text between quotes."""
    return tuple(lesson for lesson, (_, texts) in code_of_lessons().items() if text in texts)


def _imported(tree):
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mgt_np")
        for alias in node.names
    }


def _behind_the_package(tree):
    """`mgt_np.sinkhorn`, or `mgt.sinkhorn` after `import mgt_np as mgt`."""
    packages = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.startswith("mgt_np")
    }
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in packages
    }


@functools.cache
def words_of_experiment(name):
    """The names that an experiment's module uses, its texts, and the helpers that it imports."""
    path = ROOT / "mgt_np" / "experiments" / f"{name.replace('-', '_')}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    helpers = {
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
    }
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return names_in(tree) | imported, texts_in(tree), helpers


def experiments_with(name):
    """The experiments that use a function, by itself before those that do by a residual rule."""
    rules = {rule for rule in RESIDUAL_RULES if name in names_of_rule(rule)}
    direct = [each for each in EXPERIMENTS if name in words_of_experiment(each)[0]]
    by_rule = [each for each in EXPERIMENTS if rules & rules_in(each)]
    by_helper = [each for each in EXPERIMENTS if name in names_of_helpers(each)]
    return tuple(dict.fromkeys([*direct, *by_rule, *by_helper]))[:MOST_EXPERIMENTS]


@functools.cache
def names_of_helpers(experiment):
    """The names that an experiment's helpers use: modules of the room that are no experiment."""
    helpers = words_of_experiment(experiment)[2] & {"states", "trained"}
    files = [ROOT / "mgt_np" / "experiments" / f"{helper}.py" for helper in sorted(helpers)]
    return {
        name for file in files for name in names_in(ast.parse(file.read_text(encoding="utf-8")))
    }


@functools.cache
def names_of_rule(rule):
    path = ROOT / module_path(RESIDUAL_RULES[rule].update.__module__)
    return names_in(ast.parse(path.read_text(encoding="utf-8")))


def rules_in(experiment):
    """The residual rules that an experiment names, or all where it takes the registry."""
    names, texts, _ = words_of_experiment(experiment)
    if "RESIDUAL_RULES" in names and "states_of_text" in names:
        return set(RESIDUAL_RULES)
    return set(RESIDUAL_RULES) & texts - {"none"}


# ---- the residual rules


class Rule(NamedTuple):
    """A residual rule, its equation, and where it is met."""

    name: str
    equation: str
    source: str
    place: Place
    lessons: tuple
    experiments: tuple


def rules():
    """The residual rules, in the registry's order."""
    return [_rule(name, rule) for name, rule in RESIDUAL_RULES.items()]


def _rule(name, rule):
    module = inspect.getmodule(rule.update)
    experiments = tuple(each for each in EXPERIMENTS if name in rules_in(each))[:MOST_EXPERIMENTS]
    return Rule(
        name,
        rule.equation,
        inspect.getdoc(module).partition(":")[0].partition(".\n")[0],
        Place(module_path(module.__name__), line_of(rule.update), name),
        lessons_with_text(name),
        experiments,
    )
