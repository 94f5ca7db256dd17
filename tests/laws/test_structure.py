"""The house keeps its rules: who imports whom, what is public, what is loaded."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import mgt_np

PACKAGE = Path(mgt_np.__file__).parent
TESTS = Path(__file__).parents[1]

# Each room, and those it may import beside itself.
BELOW = {
    "arrays": set(),
    "layers": {"arrays"},
    "models": {"arrays", "layers"},
    "analysis": {"arrays"},
    "data": {"arrays"},
    "training": {"analysis", "arrays", "data", "layers", "models", "settings"},
    "crosscheck": {"analysis", "arrays", "data", "layers"},
    "benchmark": {"arrays", "layers", "models", "training"},
    "plotting": {"arrays", "analysis"},
    "runs": {"arrays", "data"},
    "settings": {"arrays"},
    "experiments": {
        *("arrays", "layers", "models", "analysis", "data", "training", "plotting", "runs"),
        "settings",
    },
}
BELOW["__init__"] = BELOW.keys() - {"plotting", "benchmark"}
BELOW["lessons"] = {*BELOW, "__init__"} - {"benchmark"}  # judges call what readers call
BELOW["cli"] = BELOW["__main__"] = {*BELOW, "cli"}

FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize(
    "file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix()
)


def room_of(file):
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file):
    """The full names of the modules that a file imports, wherever in it, with their lines."""
    here = ("mgt_np", *file.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            if module == "mgt_np":  # `from mgt_np import layers` or `from . import layers`
                for alias in node.names:
                    yield node.lineno, f"mgt_np.{alias.name}"
            else:
                yield node.lineno, module


def test_rooms_are_found():
    assert {room_of(file) for file in FILES} >= {"__init__", "arrays", "layers", "models"}


def test_every_room_has_its_rule():
    assert {room_of(file) for file in FILES} <= BELOW.keys()


@each_file
def test_imports_run_one_way(file):
    room = room_of(file)
    allowed = BELOW.get(room, set()) | {room}
    wrong = []
    for line, module in imports(file):
        top, _, rest = module.partition(".")
        if top == "mgt_np":
            imported = rest.partition(".")[0]
            if imported in BELOW:
                if imported not in allowed:
                    wrong.append(f"line {line}: {module}")
            elif room != "__init__" and _home_of(imported) not in allowed:
                wrong.append(f"line {line}: {imported}, which lives in {_home_of(imported)}")
    assert not wrong, f"{room} may import {sorted(allowed)} only"


def _home_of(name):
    """The room of a public name that is imported from the package itself."""
    module = getattr(getattr(mgt_np, name, None), "__module__", "mgt_np.__init__")
    return module.split(".")[1]


@pytest.mark.parametrize("room", ["layers", "models", "analysis"])
def test_equations_know_no_array_library(room):
    libraries = {"numpy", "array_api_compat", "cupy", "torch", "jax", "scipy"}
    found = [
        f"{file.relative_to(PACKAGE)}, line {line}: {module}"
        for file in FILES
        if room_of(file) == room
        for line, module in imports(file)
        if module.partition(".")[0] in libraries
    ]
    assert not found


@each_file
def test_only_arrays_asks_which_library_it_is(file):
    if room_of(file) == "arrays":
        return
    libraries = {"numpy", "array_api_strict", "cupy", "torch", "jax"}
    compared = [
        part.value
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare | ast.MatchValue)
        for part in ast.walk(node)
        if isinstance(part, ast.Constant)
    ]
    assert not libraries.intersection(compared)


@each_file
def test_no_assert_statement(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)] == []


@each_file
def test_every_module_says_what_it_is(file):
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


def _loaded(statement):
    """The modules that a new interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    return {module.partition(".")[0] for module in done.stdout.split()}


HEAVY = {"cupy", "torch", "jax", "array_api_strict", "distributed", "matplotlib", "tqdm"}
HEAVY |= {"jupyter_core", "IPython", "ipykernel", "nbclient"}


def test_importing_the_package_is_light():
    assert not _loaded("import mgt_np") & HEAVY
    assert _loaded("import mgt_np, matplotlib, tqdm") & HEAVY == {"matplotlib", "tqdm"}


def test_the_optimizers_are_loaded_when_they_are_asked_for():
    code = "import sys, mgt_np; print('mgt_np.training' in sys.modules); mgt_np.adamw_init"
    code += "; print('mgt_np.training' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="adamw_inti"):
        _ = mgt_np.adamw_inti


def test_public_names_are_sorted_and_exist():
    assert mgt_np.__all__ == sorted(set(mgt_np.__all__), key=_as_ruff_sorts)
    assert [name for name in mgt_np.__all__ if not hasattr(mgt_np, name)] == []


def _as_ruff_sorts(name):
    """CONSTANTS, then Classes, then functions."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


@pytest.mark.parametrize(
    "name", [name for name in mgt_np.__all__ if callable(getattr(mgt_np, name, None))]
)
def test_public_functions_are_documented(name):
    docstring = inspect.getdoc(getattr(mgt_np, name)) or ""
    assert len(docstring.partition("\n")[0]) > 10
    assert not docstring.startswith(f"{name}("), "a dataclass makes that one up"


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if file.name == "__init__.py"],
    ids=lambda file: file.parent.name,
)
def test_what_a_room_lists_exists(file):
    module = importlib.import_module(".".join(file.relative_to(PACKAGE.parent).parts[:-1]))
    assert [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)] == []


# Tests mirror the package: `layers/mhc.py` is tested in `tests/layers/test_mhc.py`, and one side
# of it in `test_mhc_<side>.py`. The other folders of tests hold what is asked of many modules.
NOT_MIRRORED = {"laws", "peers", "support"}
TEST_FILES = sorted(
    path.relative_to(TESTS)
    for path in TESTS.rglob("test_*.py")
    if path.relative_to(TESTS).parts[0] not in NOT_MIRRORED and path.parent != TESTS
)
TESTED_ROOMS = ("analysis", "arrays", "experiments", "layers", "models", "runs", "training")
# Modules without a test file of their name, and where what they do is tested instead.
TESTED_ELSEWHERE = {
    "arrays/blocks": "laws/test_fused_layers",
    "arrays/boxes": "arrays/test_gradients",
    "arrays/checks": "laws/test_layer_contract",
    "arrays/differentiable": "arrays/test_rules",
    "arrays/indices": "layers/test_loss",
    "arrays/initial": "layers/test_linear",
    "arrays/layout": "layers/test_sinkhorn",
    "arrays/masks": "layers/test_attention",
    "arrays/sums": "laws/test_fused_layers",
    "layers/fused": "laws/test_fused_layers",
    "models/rules": "laws/test_residual_rules",
}


def modules_of(room):
    """The modules of a room by their path in it; of packages within, their name alone."""
    folder = PACKAGE / room
    return {path.stem for path in folder.glob("[!_]*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }


@pytest.mark.parametrize("file", TEST_FILES, ids=str)
def test_every_test_file_is_of_a_module(file):
    name = file.stem.removeprefix("test_")
    modules = modules_of(file.parent)
    assert any(f"{name}_".startswith(f"{module}_") for module in modules), sorted(modules)


@pytest.mark.parametrize("room", TESTED_ROOMS)
def test_every_module_has_its_test_file(room):
    here = {path.stem.removeprefix("test_") for path in (TESTS / room).glob("test_*.py")}
    elsewhere = {key.partition("/")[2] for key in TESTED_ELSEWHERE if key.startswith(f"{room}/")}
    missing = sorted(modules_of(room) - here - elsewhere)
    assert not missing, f"expected tests/{room}/test_<module>.py for each of these"
    assert not here & elsewhere, "they need not be named in TESTED_ELSEWHERE"


def test_what_is_tested_elsewhere_is_tested_there():
    files = [TESTS / f"{file}.py" for file in TESTED_ELSEWHERE.values()]
    assert [file for file in files if not file.is_file()] == []
