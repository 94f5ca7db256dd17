"""What we measure on hidden states and attention maps."""

from .attention import attention_entropy
from .collapse_bounds import (
    attention_entropy_bound,
    collapse_beta,
    log_collapse_bound,
    spectral_gap,
)
from .collapses import COLLAPSES, Collapse
from .gain import amax_gain, amin_gain, composite_mixing
from .linear_span import (
    distance_from_span,
    head_ambiguity,
    head_null_space,
    matrix_rank,
    path_tokens,
)
from .paths import head_maps, path_bias, path_count, path_length_terms, path_terms
from .rank import effective_rank, participation_ratio, stable_rank
from .separated_attention import separated_attention
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
    "amax_gain",
    "amin_gain",
    "attention_entropy",
    "attention_entropy_bound",
    "collapse_beta",
    "composite_mixing",
    "composite_norm",
    "distance_from_span",
    "effective_rank",
    "head_ambiguity",
    "head_maps",
    "head_null_space",
    "local_tangent_basis",
    "log_collapse_bound",
    "matrix_rank",
    "mean_cosine_similarity",
    "participation_ratio",
    "path_bias",
    "path_count",
    "path_length_terms",
    "path_terms",
    "path_tokens",
    "relative_residual",
    "separated_attention",
    "spectral_gap",
    "stable_rank",
    "state_norm",
    "token_residual",
]
