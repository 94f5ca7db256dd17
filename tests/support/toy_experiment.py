"""Is a random number below one? An experiment of milliseconds, to test what runs experiments.

Its `fate` makes one cell misbehave, and its `log` is a file that counts the cells computed.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mgt_np import plotting
from mgt_np.experiments import Claim, Experiment
from mgt_np.experiments.experiment import Where, cells, generator, seeds
from mgt_np.runs import Task, folder_of


@dataclass(frozen=True)
class Settings(Where):
    seed: int = 0
    n_seeds: int = 2
    data: str = "python-docs"
    scales: tuple[float, ...] = (1.0,)
    fate: str = ""
    log: str = ""
    nap: float = 0.0
    span: tuple[float, float] = (0.0, 1.0)


QUICK = Settings()
FULL = Settings(n_seeds=4)


def claims(settings):
    return [
        Claim(
            says="a random number is below one",
            source="NumPy",
            criterion="all < 1",
            measure=lambda result: {
                f"scale {scale:g}": max(result.rows.where(scale=scale).column("value"))
                for scale in settings.scales
            },
            passes=lambda largest: largest < 1.0,
            readme=True,
        )
    ]


def tasks(settings):
    return cells(settings, scale=settings.scales, seed=seeds(settings))


def work(there, scale, seed, data, fate, log, nap):
    """Three rows; the second seed's cell meets its fate before the first."""
    _log(log, f"begin {scale} {seed[-1]}")
    time.sleep(nap)
    if seed[-1] == 1:
        _meet(fate, log)
    values = scale * generator(seed).random(3)
    for place, value in enumerate(values):
        yield {"scale": scale, "seed": seed[-1], "place": place, "value": float(value)}
    _log(log, f"end {scale} {seed[-1]}")


def _log(log, line):
    if log:
        with Path(log).open("a") as file:
            file.write(f"{line}\n")


def _meet(fate, log):
    if fate == "raise":
        raise ArithmeticError("the second cell\nfails")
    if fate == "interrupt":
        raise KeyboardInterrupt
    killed = Path(f"{log}.killed")
    if fate == "kill" or (fate == "kill once" and not killed.exists()):
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)


ALT = "Three points."


def plot(result, judged):
    figure, ax = plotting.new_figure(size=(2.0, 2.0))
    ax.plot(result.rows.column("value"))
    ax.set_title(judged[0].headline)
    return figure


TOY = Experiment(
    name="toy",
    question="Is a random number below one?",
    quick=QUICK,
    full=FULL,
    claims=claims,
    tasks=tasks,
    work=work,
    plot=plot,
    alt=ALT,
)


def toy_tasks(runs, settings=QUICK):
    """The toy's cells as tasks in the store `runs`."""
    return [Task("toy", work, cell, folder_of(runs, "toy", cell)) for cell in tasks(settings)]


def stored(runs):
    """The rows in the store by the names of their folders: what all runs must agree on."""
    return {path.parent.name: path.read_bytes() for path in Path(runs).glob("toy/*/rows.jsonl")}


def lines_of(log):
    """What the log says was begun and ended."""
    return Path(log).read_text().splitlines() if Path(log).exists() else []


def count_to(there, n_steps, stop, folder):
    """Rows of a sum that keeps a checkpoint at each step, and is interrupted once at `stop`."""
    path = folder / "checkpoint.npz"
    kept = np.load(path) if path.exists() else {"sums": np.zeros(0)}
    sums = list(kept["sums"])
    while len(sums) < n_steps:
        if len(sums) == stop and not (folder / "stopped").exists():
            (folder / "stopped").touch()
            raise KeyboardInterrupt
        sums.append((sums[-1] if sums else 0.0) * 0.3 + np.sin(len(sums) + 1.0))
        np.savez(path, sums=sums)
    for step, value in enumerate(sums):
        yield {"step": step, "value": float(value)}


def version_of_process():
    """Another version in processes that are started as workers of a cluster."""
    return f"of {os.environ.get('TOY', 'here')}"
