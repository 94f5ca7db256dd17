"""What we measure on hidden states and attention maps."""

from .attention import attention_entropy
from .collapses import COLLAPSES, Collapse
from .linear_span import (
    distance_from_span,
    head_ambiguity,
    head_null_space,
    matrix_rank,
    path_tokens,
)
from .rank import effective_rank, participation_ratio, stable_rank
from .tangent import local_tangent_basis
from .tokens import (
    composite_norm,
    mean_cosine_similarity,
    relative_residual,
    state_norm,
    token_residual,
)

__all__ = [
    "COLLAPSES",
    "Collapse",
    "attention_entropy",
    "composite_norm",
    "distance_from_span",
    "effective_rank",
    "head_ambiguity",
    "head_null_space",
    "local_tangent_basis",
    "matrix_rank",
    "mean_cosine_similarity",
    "participation_ratio",
    "path_tokens",
    "relative_residual",
    "stable_rank",
    "state_norm",
    "token_residual",
]
