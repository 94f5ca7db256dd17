"""Compute cells that are not yet in the store: here, in worker processes, or on a cluster."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mgt_np.arrays.threads import watched

from .cluster import on_cluster
from .store import compute, is_done


@dataclass(frozen=True)
class Task:
    """A cell of the experiment `name`, the function that computes its rows, and its folder."""

    name: str
    work: Callable
    cell: dict
    folder: Path
    resumes: bool = False

    def arguments(self):
        """The arguments of `compute`."""
        return self.work, self.name, self.cell, self.folder


def compute_all(tasks, *, jobs=None, scheduler=None):
    """Compute the tasks that are not done, and return those that failed, each with a line of why.

    `jobs=None` computes in this process, a number in that many others; `scheduler` is the address
    of a Dask scheduler instead (see `on_cluster` for what it raises). A task that fails costs the
    others nothing. In a browser, where there are no processes, a line says so and `jobs` is None.
    """
    todo = [task for task in tasks if not is_done(task.folder)]
    if not todo:
        return []
    if jobs is not None and sys.platform == "emscripten":
        print("no other processes here: cells are computed one by one", file=sys.stderr)
        jobs = None
    failures = []
    begun = len(tasks) - len(todo)
    with watched(tqdm)(
        total=len(tasks), initial=begun, unit="cell", file=_Quiet(), disable=None
    ) as bar:
        for task, said in _outcomes(todo, jobs, scheduler):
            if said:
                failures.append((task, said))
            bar.set_description(task.name, refresh=False)
            bar.update()
    return failures


def _outcomes(todo, jobs, scheduler):
    """Yield each task with what became of it."""
    if scheduler is not None:
        yield from on_cluster(scheduler, todo)
    elif jobs is None:
        for task in todo:
            yield task, compute(*task.arguments(), resumes=task.resumes)
    else:
        busy = []
        for task, said in _in_processes(todo, jobs, wait=False):
            if said == "busy":
                busy.append(task)
            else:
                yield task, said
        yield from _in_processes(busy, jobs, wait=True)


def _in_processes(todo, jobs, *, wait):
    """Yield outcomes of worker processes, of which any may be killed.

    Where one is, the pool is lost, and nobody says which cell it was. So those that had been begun
    are set aside, and tried again at the end, each by a process of its own.
    """
    left, suspects = list(todo), []
    while left:
        finished = set()
        for task, said in _in_pool(left, jobs, wait=wait):
            finished.add(task.folder)
            yield task, said
        left = [task for task in left if task.folder not in finished]
        begun = [task for task in left if (task.folder / "task.json").exists()]
        if left and not begun and not finished:
            yield from ((task, "the worker process died as it started") for task in left)
            break
        suspects += begun
        left = [task for task in left if task not in begun]
    for task in suspects:
        outcomes = list(_in_pool([task], 1, wait=wait))
        yield outcomes[0] if outcomes else (task, "the worker process was killed: out of memory?")


def _in_pool(tasks, jobs, *, wait):
    """Yield outcomes as they come, and none for what a broken pool leaves."""
    context = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(min(jobs, len(tasks)), context, initializer=_start_worker) as pool:
        futures = {}
        try:
            with _interrupts_held(), suppress(BrokenProcessPool, OSError):
                for task in tasks:
                    options = {"resumes": task.resumes, "wait": wait}
                    futures[pool.submit(compute, *task.arguments(), **options)] = task
            for future in as_completed(futures):
                try:
                    said = future.result()
                except BrokenProcessPool:
                    continue
                except Exception as error:  # work that cannot be sent to another process
                    said = f"{type(error).__name__}: {error}".partition("\n")[0]
                yield futures[future], said
        except BaseException:  # an interruption: what runs would be waited for
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                if worker not in others:
                    worker.terminate()
            raise


@contextmanager
def _interrupts_held():
    """Deliver Ctrl-C after the block; what is spawned in it never gets one."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker():
    """Let a worker end with its parent, however that ends, and say nothing on Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Quiet:
    """Standard error for the progress bar: one that is closed or full stops no run."""

    encoding = getattr(sys.stderr, "encoding", None)

    def write(self, text):
        with suppress(AttributeError, OSError, ValueError):
            sys.stderr.write(text)

    def flush(self):
        with suppress(AttributeError, OSError, ValueError):
            sys.stderr.flush()

    def isatty(self):
        with suppress(AttributeError, OSError, ValueError):
            return sys.stderr.isatty()
        return False

    def fileno(self):
        return sys.stderr.fileno()
