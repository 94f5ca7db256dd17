"""The public names of the package, room by room, and the files that define them."""

import importlib
import inspect
import re
from functools import cache

from . import equations

ROOMS = ("layers", "models", "analysis", "arrays", "training", "data", "crosscheck")
ROOMS += ("experiments", "runs", "lessons", "benchmark")


def room_named(name):
    return importlib.import_module(f"mgt_np.{name}")


def full_names():
    """{a public name: the name under which the reference has it}; layers before later rooms."""
    found = {}
    for room in ROOMS:
        for name in room_named(room).__all__:
            found.setdefault(name, f"mgt_np.{room}.{name}")
    return found


def module_of(room, name):
    """The module that defines a public name of a room."""
    value = getattr(room, name)
    if inspect.isroutine(value) or inspect.isclass(value):
        return value.__module__
    assigned = re.compile(rf"^{name}\b.*=", re.MULTILINE)
    for module in _modules_within(room):
        if assigned.search(inspect.getsource(importlib.import_module(module))):
            return module
    return room.__name__


@cache
def _modules_within(room):
    """The modules of a room from which something is in its namespace, itself or by a name of it."""
    values = vars(room).values()
    names = {value.__name__ for value in values if inspect.ismodule(value)}
    names |= {getattr(value, "__module__", None) or "" for value in values}
    return sorted(name for name in names if name.startswith(f"{room.__name__}."))


def families_of(room):
    """{module: the public names that it defines}; modules in alphabetical order."""
    families = {}
    for name in room.__all__:
        families.setdefault(module_of(room, name), []).append(name)
    return dict(sorted(families.items()))


def files():
    """The files of the package that define a public name."""
    modules = {module for room in ROOMS for module in families_of(room_named(room))}
    return {file_of(module) for module in modules}


def file_of(module):
    """The file of a module, as a path in the repository."""
    folder = hasattr(importlib.import_module(module), "__path__")
    return module.replace(".", "/") + "/__init__.py" if folder else equations.module_path(module)
