"""What an experiment is, and what comes out of one."""

import dataclasses
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from typing import Any

from mgt_np.data import load_corpus


@dataclass(frozen=True, kw_only=True)
class Where:
    """The part of an experiment's settings that says what computes it."""

    array_library: str = "numpy"
    device: str | None = None
    dtype: str = "float64"

    def where(self):
        """These settings as a dict, for a task."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Where)}


@dataclass(frozen=True)
class Claim:
    """A sentence that somebody states, and what we found when we measured it.

    `verdict` begins with "holds", "does not hold" or "holds only if …", and follows from the rows.
    """

    claim: str
    source: str
    measured: str
    verdict: str


@dataclass(frozen=True)
class Result:
    """The rows an experiment measured, arrays made of them, and where they come from."""

    name: str
    settings: Any
    rows: list[dict]
    arrays: dict = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)

    def column(self, name, **where):
        """The values of one column in the rows that match, in the order of the rows."""
        return [
            row[name] for row in self.rows if all(row[key] == value for key, value in where.items())
        ]


@dataclass(frozen=True)
class Experiment:
    """One claim of a paper, made measurable.

    `quick` and `full` are settings: frozen dataclasses, a `Where` with a `seed`. `tasks(settings)`
    lists independent pieces of work as dicts of plain values, `work(**task)` returns the rows of
    one of them, wherever it runs. `arrays(rows)` gives what is worth keeping beside the rows,
    `claims(result)` what they say, `plot(result)` the figure. A data set is named by the settings'
    `data`, where they have one.
    """

    name: str
    question: str
    quick: Any
    full: Any
    tasks: Callable[[Any], list[dict]]
    work: Callable[..., list[dict]]
    claims: Callable[[Result], list[Claim]]
    plot: Callable[[Result], Any]
    arrays: Callable[[list[dict]], dict] = lambda rows: {}


def only_if(found, tried, words="{}"):
    """The verdict on a claim that was found true at `found` of the values or names `tried`."""
    if not found:
        return "does not hold"
    if len(found) == len(tried):
        return "holds"
    listed = " or ".join(x if isinstance(x, str) else f"{x:g}" for x in found)
    return f"holds only if {words.format(listed)}"


def extent(values):
    """The least and the largest of some integers, in words."""
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} … {high}"


def short(x):
    """A number in few characters: 0.12, 22, 1e8 for 1e+08."""
    digits, _, power = f"{x:.0e}".partition("e")
    return f"{digits}e{int(power)}" if power and abs(int(power)) > 2 else f"{x:.2g}"


def versions(array_library="numpy"):
    """The versions that a result depends on."""
    packages = ("mgt-np", "numpy", "autograd", "array-api-compat", "matplotlib")
    found = {"python": platform.python_version()} | {name: version(name) for name in packages}
    return found | {array_library: import_module(array_library).__version__}


def provenance(experiment, settings, command=None):
    """Where a result comes from: enough to make it again."""
    record = {"experiment": experiment.name, "settings": dataclasses.asdict(settings)}
    if hasattr(settings, "data"):
        text = load_corpus(settings.data).provenance
        record["text"] = {key: value for key, value in text.items() if key != "path"}
    return {
        **record,
        "versions": versions(settings.array_library),
        "platform": f"{sys.platform} {platform.machine()}",
        "command": command,
    }
