"""Run experiments: compute what the store lacks, and make results of its rows."""

import dataclasses
import json
import math
import platform
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

from mgt_np.data import TEXT_SOURCES, load_corpus
from mgt_np.runs import Task, compute_all, core_seconds, folder_of, is_done, read, versions
from mgt_np.settings import FIXED

from .experiment import Result
from .rows import Rows
from .writing import read_result


@dataclass(frozen=True)
class Report:
    """What came of a run: the results that are complete, and what went wrong, cell by cell.

    `failures` are pairs of a `Task` and a line; `warnings` are lines.
    """

    results: list[Result]
    failures: list[tuple[Task, str]]
    warnings: list[str]


def result_of(experiment, settings=None, *, jobs=None, scheduler=None, runs=None):
    """Run one experiment, by default at its quick settings, and return its `Result`.

    Without `runs` nothing is kept. Raises RuntimeError where a cell could not be computed.
    """
    with _folder(runs) as folder:
        plan = [(experiment, experiment.quick if settings is None else settings)]
        report = run(plan, jobs=jobs, scheduler=scheduler, runs=folder)
    for task, said in report.failures:
        raise RuntimeError(f"{experiment.name}: {task.cell}: {said}")
    return report.results[0]


@contextmanager
def _folder(runs):
    if runs is not None:
        yield runs
        return
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def run(plans, *, jobs=None, scheduler=None, runs="runs", command=None, saved=None):
    """Compute what is missing of experiments, and return a `Report`.

    `plans` are pairs of an experiment and settings. All their cells are in one queue; `jobs` and
    `scheduler` are those of `compute_all`. Rows come from the folder `runs`, whoever wrote them and
    when, in the order of the cells: they are the same for any number of workers. What is finished
    there is never computed again. With `saved`, a folder of written results, nothing is computed:
    what `runs` lacks is read from there, if it was made under the same settings.
    Raises ValueError for a text that cannot be had, before anything is computed.
    """
    for text in {text for _, settings in plans if (text := _text(settings))}:
        load_corpus(text)
    lists = [_tasks(experiment, settings, runs) for experiment, settings in plans]
    together = [task for tasks in lists for task in tasks]
    failures = []
    if saved is None:
        failures = compute_all(together, jobs=jobs, scheduler=scheduler)
    results, differences = [], {}
    for (experiment, settings), tasks in zip(plans, lists, strict=True):
        if all(is_done(task.folder) for task in tasks):
            rows, computed_with = _read(tasks)
            differing = _difference(versions(settings.array_library), computed_with)
            differences.setdefault(differing, []).append(experiment.name)
            hours = math.fsum(core_seconds(task.folder) for task in tasks) / 3600.0
            record = provenance(experiment, settings, computed_with, command, hours)
            results.append(Result(experiment.name, settings, rows, record))
        elif saved is not None:
            result = read_result(experiment, settings, saved)
            results += [result] if result else []
            missing = [task for task in tasks if result is None and not is_done(task.folder)]
            failures += [(task, "is not computed yet") for task in missing]
    warnings = [
        f"{', '.join(names)}: kept cells were computed with {differing}; to compute them again, "
        f"remove their folders in {runs}"
        for differing, names in differences.items()
        if differing
    ]
    return Report(results, failures, warnings)


def _text(settings):
    """The text that settings name, if they do; a source that is fixed may be generated."""
    data = getattr(settings, "data", None)
    fixed = any(x.name == "data" and x.metadata == FIXED for x in dataclasses.fields(settings))
    return None if fixed and data not in TEXT_SOURCES else data


def _tasks(experiment, settings, runs):
    name, work, resumes = experiment.name, experiment.work, experiment.resumes
    return [
        Task(name, work, cell, folder_of(runs, name, cell), resumes)
        for cell in experiment.tasks(settings)
    ]


def _read(tasks):
    """The rows of all cells, and what computed them, "1.0 and 2.0" where versions differ."""
    rows, computed_with = [], []
    for task in tasks:
        of_cell, by = read(task.folder)
        rows += of_cell
        computed_with += [by] if by not in computed_with else []
    names = dict.fromkeys(name for by in computed_with for name in by)
    return Rows(rows), {
        name: " and ".join(sorted({by.get(name, "?") for by in computed_with})) for name in names
    }


def _difference(now, computed_with):
    """The versions of kept cells that are not those of today, in words."""
    return ", ".join(
        f"{name} {computed_with.get(name, '?')} (now {now.get(name, 'none')})"
        for name in sorted(now | computed_with)
        if computed_with.get(name) != now.get(name)
    )


def provenance(experiment, settings, computed_with, command, core_hours):
    """Enough to make a result again, and what that costs."""
    plain = json.loads(json.dumps(dataclasses.asdict(settings)))
    record = {"experiment": experiment.name, "settings": plain}
    if name := _text(settings):
        text = load_corpus(name).provenance
        record["text"] = {key: value for key, value in text.items() if key != "path"}
    return {
        **record,
        "versions": computed_with | {"matplotlib": version("matplotlib")},
        "platform": f"{sys.platform} {platform.machine()}",
        "command": command,
        "core_hours": float(f"{core_hours:.3g}"),
    }
