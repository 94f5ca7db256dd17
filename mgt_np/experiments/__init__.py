"""The papers' claims, each measured: a registry of experiments. A new one is a file and a line."""

from types import MappingProxyType

from . import (
    ablation,
    against_counts,
    attention_collapse,
    beta_distribution,
    collapse_rate,
    copy_task,
    delta_dynamics,
    delta_spectrum,
    depth_scaling,
    entropy_collapse,
    entropy_floor,
    head_identifiability,
    headline,
    initialization_sensitivity,
    jacobian_at_start,
    language_model,
    layer_norm_and_rank,
    long_training,
    mixing_gain,
    path_lengths,
    phase_diagram,
    rank_evolution,
    rungs,
    span,
    stream_collapse,
    tangency,
    width_collapse,
)
from .claims import Claim, Judged, judge
from .experiment import Experiment, Result
from .recorded import recorded, verdicts_of, write_claims
from .rows import Rows
from .running import result_of, run
from .writing import claims_table, judged, write, write_findings

EXPERIMENTS = MappingProxyType(
    {
        experiment.name: experiment
        for experiment in map(
            Experiment.of,
            (
                headline,
                rank_evolution,
                phase_diagram,
                delta_spectrum,
                delta_dynamics,
                attention_collapse,
                collapse_rate,
                path_lengths,
                width_collapse,
                entropy_collapse,
                mixing_gain,
                stream_collapse,
                jacobian_at_start,
                tangency,
                layer_norm_and_rank,
                span,
                head_identifiability,
                rungs,
                against_counts,
                language_model,
                initialization_sensitivity,
                entropy_floor,
                ablation,
                beta_distribution,
                copy_task,
                depth_scaling,
                long_training,
            ),
        )
    }
)

__all__ = [
    "EXPERIMENTS",
    "Claim",
    "Experiment",
    "Judged",
    "Result",
    "Rows",
    "claims_table",
    "judge",
    "judged",
    "recorded",
    "result_of",
    "run",
    "verdicts_of",
    "write",
    "write_claims",
    "write_findings",
]
