"""An experiment of milliseconds, to test what runs experiments and what writes their results."""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.experiments import Claim, Experiment
from mgt_np.experiments.experiment import Where


@dataclass(frozen=True)
class Settings(Where):
    n_draws: int = 2
    data: str = "python-docs"
    seed: int = 0


def tasks(settings):
    return [{"seed": settings.seed, "draw": draw} for draw in range(settings.n_draws)]


def work(seed, draw):
    values = np.random.default_rng([seed, draw]).random(3)
    return [{"draw": draw, "place": i, "value": float(x)} for i, x in enumerate(values)]


def claims(result):
    largest = max(result.column("value"))
    verdict = "holds" if largest < 1.0 else "does not hold"
    return [Claim("a random number is below one", "NumPy", f"largest {largest:.3f}", verdict)]


def plot(result):
    figure, ax = plotting.new_figure(size=(2.0, 2.0))
    ax.plot(result.column("value"))
    return figure


TOY = Experiment(
    name="toy",
    question="Is a random number below one?",
    quick=Settings(),
    full=Settings(n_draws=4),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
    arrays=lambda rows: {"values": np.asarray([row["value"] for row in rows])},
)
