"""Run an experiment's tasks, here or in many processes, and go on where it was interrupted."""

import dataclasses
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tqdm import tqdm

from .experiment import Result, provenance, versions

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def run(experiment, settings=None, *, jobs=None, scheduler=None, partial_path=None, command=None):
    """Run an experiment and return its `Result`.

    `settings` defaults to the quick preset. `jobs=None` works in this process, with as many threads
    for linear algebra as it has; a number starts that many processes, each with one thread, which
    is faster for matrices this small, and gives the same rows for any number;
    `scheduler` is the address of a Dask scheduler instead. Rows come in the order of the tasks.
    Finished tasks are kept in the file `partial_path`, if given, until the caller removes it: the
    same call then goes on where it was interrupted.
    """
    settings = experiment.quick if settings is None else settings
    tasks = experiment.tasks(settings)
    header = {
        "experiment": experiment.name,
        "settings": dataclasses.asdict(settings),
        "versions": versions(settings.array_library),
    }
    done = _Done(partial_path, header)
    todo = [i for i in range(len(tasks)) if i not in done.rows]
    with (
        _executor(jobs, scheduler, len(todo)) as executor,
        tqdm(total=len(tasks), initial=len(done.rows), desc=experiment.name, unit="task") as bar,
    ):
        for i, rows in _finished(executor, experiment.work, tasks, todo):
            done.add(i, rows)
            bar.update()
    rows = [row for i in range(len(tasks)) for row in done.rows[i]]
    return Result(
        experiment.name,
        settings,
        rows,
        experiment.arrays(rows),
        provenance(experiment, settings, command),
    )


def _finished(executor, work, tasks, todo):
    """Yield (number, rows) of each task as it is done."""
    if executor is None:
        for i in todo:
            yield i, work(**tasks[i])
        return
    futures = {executor.submit(partial(work, **tasks[i])): i for i in todo}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def _executor(jobs, scheduler, n_tasks):
    if n_tasks == 0 or (jobs is None and scheduler is None):
        yield None
    elif scheduler is not None:
        from distributed import Client

        with Client(scheduler) as client:
            yield client.get_executor()
    else:
        # Spawned workers read these when they load NumPy; this process has loaded it already.
        before = {name: os.environ.get(name) for name in _THREADS}
        os.environ.update(dict.fromkeys(_THREADS, "1"))
        context = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(min(jobs, n_tasks), mp_context=context) as pool:
                yield pool
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


class _Done:
    """The rows of finished tasks, also in a file: one header, then a line for each task."""

    def __init__(self, path, header):
        self.rows = {}
        self.path = None if path is None else Path(path)
        if self.path is None:
            return
        header = json.loads(json.dumps(header))
        if self.path.exists():
            self._read(header)
        if not self.rows:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(header) + "\n", encoding="utf-8")

    def _read(self, header):
        lines = self.path.read_text(encoding="utf-8").split("\n")
        whole = lines[:-1]  # what an interruption cut short has no line end
        if not whole or json.loads(whole[0]) != header:
            return
        for line in whole[1:]:
            entry = json.loads(line)
            self.rows[entry["task"]] = entry["rows"]
        self.path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")

    def add(self, i, rows):
        self.rows[i] = rows
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"task": i, "rows": rows}) + "\n")
