"""The papers' claims, each measured: a registry of experiments. A new one is a file and a line."""

from types import MappingProxyType

from .delta_spectrum import DELTA_SPECTRUM
from .experiment import Claim, Experiment, Result
from .mixing_gain import MIXING_GAIN
from .phase_diagram import PHASE_DIAGRAM
from .rank_evolution import RANK_EVOLUTION
from .running import run
from .writing import claims_table, write

EXPERIMENTS = MappingProxyType(
    {
        experiment.name: experiment
        for experiment in (
            RANK_EVOLUTION,
            PHASE_DIAGRAM,
            DELTA_SPECTRUM,
            MIXING_GAIN,
        )
    }
)

__all__ = [
    "EXPERIMENTS",
    "Claim",
    "Experiment",
    "Result",
    "claims_table",
    "run",
    "write",
]
