"""Layers and measures read as their equations: everything else stands at the door."""

import ast
import inspect
from pathlib import Path

import pytest

import mgt_np
from mgt_np import analysis, layers

PACKAGE = Path(mgt_np.__file__).parent
FILES = sorted([*(PACKAGE / "layers").glob("*.py"), *(PACKAGE / "analysis").glob("*.py")])
each_file = pytest.mark.parametrize(
    "file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}"
)

FUNCTIONS = [
    getattr(room, name)
    for room in (layers, analysis)
    for name in room.__all__
    if inspect.isfunction(getattr(room, name))
]


def functions(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def n_lines(node):
    """The lines of a function, its docstring apart."""
    docstring = ast.get_docstring(node, clean=False)
    return node.end_lineno - node.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_public_function_stands_behind_the_door(function):
    assert hasattr(function, "composed"), "expected the decorator `layer`"
    parameters = inspect.signature(function).parameters.values()
    assert [p.name for p in parameters if p.annotation is p.empty] == []


@each_file
def test_no_check_is_left_in_a_body(file):
    raising = [
        node.name
        for node in functions(file)
        if any(isinstance(part, ast.Raise) for part in ast.walk(node))
    ]
    assert raising == []


@each_file
def test_no_function_is_long(file):
    assert [node.name for node in functions(file) if n_lines(node) > 25] == []
