"""What an experiment is: settings, claims, cells, a measurement, a figure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Any

import numpy as np

from mgt_np.settings import check_whole_numbers

from .claims import Claim
from .rows import Rows


@dataclass(frozen=True, kw_only=True)
class Where:
    """The part of an experiment's settings that says what computes it.

    Settings are frozen dataclasses on this one, of whole numbers, floats, texts and tuples of
    these. Raises ValueError for a negative `seed`, for another whole number below one, and for a
    tuple without values.
    """

    array_library: str = "numpy"
    device: str | None = None
    dtype: str = "float64"

    def __post_init__(self):
        check_whole_numbers(self, "seed")
        for each in fields(self):
            if getattr(self, each.name) == ():
                raise ValueError(f"expected at least one value of {each.name}, got none")


def cells(settings, **axes):
    """One cell for each combination of the axes' values, the last axis fastest.

    A cell is a dict of plain values: those of the axes, and every other setting that is no tuple.
    `seed` and `n_seeds` are left out: name `seed=seeds(settings)` among the axes.
    """
    fixed = {each.name: getattr(settings, each.name) for each in fields(settings)}
    fixed = {
        name: value
        for name, value in fixed.items()
        if name not in ("seed", "n_seeds") and not isinstance(value, tuple)
    }
    return [fixed | dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def seeds(settings):
    """The seeds of an experiment's repetitions: [seed, 0], [seed, 1], …, for `generator`."""
    return [[settings.seed, number] for number in range(settings.n_seeds)]


APART = 2**32 - 1  # the branch of the tree of seeds that no generator spawns by itself


def generator(seed, *more):
    """A random generator for a seed, or for [seed, number, …]: a leaf of the tree of spawned seeds.

    No two share a draw, nor do those that they spawn. `more` whole numbers tell generators within
    one cell apart.
    """
    first, *path = seed if isinstance(seed, list) else [seed]
    branch = (APART, *more) if more else ()
    return np.random.default_rng(np.random.SeedSequence(first, spawn_key=(*path, *branch)))


@dataclass(frozen=True)
class Result:
    """The rows that an experiment measured under its settings, and where they come from."""

    name: str
    settings: Any
    rows: Rows
    provenance: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """A family of claims, made measurable.

    `quick` and `full` are settings. `tasks(settings)` lists independent pieces of work as dicts of
    plain values (see the function `cells`), `work(there, **cell)` returns or yields the rows of
    one of them, dicts of numbers and texts under the same names, wherever it runs.
    `claims(settings)` are the claims, `plot(result, judged)` draws the figure, of which `alt` says
    in words what is seen in it. An experiment that `resumes` is given `folder` too: what it keeps
    there is still there when an interrupted cell is begun again.
    """

    name: str
    question: str
    quick: Any
    full: Any
    claims: Callable[[Any], list[Claim]]
    tasks: Callable[[Any], list[dict]]
    work: Callable[..., Iterable[dict]]
    plot: Callable[[Result, list], Any]
    alt: str = ""
    resumes: bool = False

    @classmethod
    def of(cls, module):
        """The experiment that a module is: its name, its first line, and its public names."""
        return cls(
            name=module.__name__.rpartition(".")[2].replace("_", "-"),
            question=(module.__doc__ or "").partition("\n")[0],
            quick=module.QUICK,
            full=module.FULL,
            claims=module.claims,
            tasks=module.tasks,
            work=module.work,
            plot=module.plot,
            alt=module.ALT,
            resumes=getattr(module, "RESUMES", False),
        )
