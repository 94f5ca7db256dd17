"""What we measure on hidden states and attention maps."""

from .attention import attention_entropy
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
    "attention_entropy",
    "composite_norm",
    "effective_rank",
    "local_tangent_basis",
    "mean_cosine_similarity",
    "participation_ratio",
    "relative_residual",
    "stable_rank",
    "state_norm",
    "token_residual",
]
