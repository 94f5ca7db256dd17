"""What we measure on hidden states and attention maps."""

from .attention import attention_entropy
from .collapse_bounds import (
    attention_entropy_bound,
    collapse_beta,
    log_collapse_bound,
    spectral_gap,
)
from .paths import head_maps, path_bias, path_count, path_length_terms, path_terms
from .rank import effective_rank, participation_ratio, stable_rank
from .tokens import (
    composite_norm,
    mean_cosine_similarity,
    relative_residual,
    state_norm,
    token_residual,
)

__all__ = [
    "attention_entropy",
    "attention_entropy_bound",
    "collapse_beta",
    "composite_norm",
    "effective_rank",
    "head_maps",
    "log_collapse_bound",
    "mean_cosine_similarity",
    "participation_ratio",
    "path_bias",
    "path_count",
    "path_length_terms",
    "path_terms",
    "relative_residual",
    "spectral_gap",
    "stable_rank",
    "state_norm",
    "token_residual",
]
