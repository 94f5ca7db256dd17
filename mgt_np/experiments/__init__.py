"""The papers' claims, each measured: a registry of experiments. A new one is a file and a line."""

from types import MappingProxyType

from .attention_collapse import ATTENTION_COLLAPSE
from .delta_dynamics import DELTA_DYNAMICS
from .delta_spectrum import DELTA_SPECTRUM
from .entropy_collapse import ENTROPY_COLLAPSE
from .experiment import Claim, Experiment, Result
from .head_identifiability import HEAD_IDENTIFIABILITY
from .layer_norm_and_rank import LAYER_NORM_AND_RANK
from .mixing_gain import MIXING_GAIN
from .phase_diagram import PHASE_DIAGRAM
from .rank_evolution import RANK_EVOLUTION
from .running import run
from .span import SPAN
from .tangency import TANGENCY
from .width_collapse import WIDTH_COLLAPSE
from .writing import claims_table, write

EXPERIMENTS = MappingProxyType(
    {
        experiment.name: experiment
        for experiment in (
            RANK_EVOLUTION,
            PHASE_DIAGRAM,
            DELTA_SPECTRUM,
            LAYER_NORM_AND_RANK,
            SPAN,
            HEAD_IDENTIFIABILITY,
            TANGENCY,
            DELTA_DYNAMICS,
            ATTENTION_COLLAPSE,
            WIDTH_COLLAPSE,
            ENTROPY_COLLAPSE,
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
