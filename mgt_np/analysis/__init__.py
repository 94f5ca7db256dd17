"""What we measure on hidden states and attention maps."""

from .attention import attention_entropy
from .gain import amax_gain, amin_gain, composite_mixing
from .rank import effective_rank, participation_ratio, stable_rank
from .tokens import (
    composite_norm,
    mean_cosine_similarity,
    relative_residual,
    state_norm,
    token_residual,
)

__all__ = [
    "amax_gain",
    "amin_gain",
    "attention_entropy",
    "composite_mixing",
    "composite_norm",
    "effective_rank",
    "mean_cosine_similarity",
    "participation_ratio",
    "relative_residual",
    "stable_rank",
    "state_norm",
    "token_residual",
]
