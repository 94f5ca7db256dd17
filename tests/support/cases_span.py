"""Rows for the contract tests: spans, heads told from their sum, the position-gated projection."""

from functools import partial

import numpy as np
from cases import Case

from mgt_np import analysis, layers

_RNG = np.random.default_rng(23681)


def normal(*shape):
    return _RNG.standard_normal(shape)


LAYER_CASES = (
    Case(
        "position_gated_projection",
        layers.position_gated_projection,
        (normal(2, 3, 6), normal(3, 5), normal(6, 4), normal(5, 2), normal(4)),
    ),
    Case(
        "position_gated_projection bare",
        layers.position_gated_projection,
        (normal(2, 3, 6), normal(2, 3, 5), normal(6, 4), normal(5, 3)),
    ),
)
MEASURE_CASES = (
    Case("distance_from_span", analysis.distance_from_span, (normal(2, 5, 6), normal(2, 3, 6))),
    Case("path_tokens", analysis.path_tokens, (normal(2, 3, 4), normal(2, 2, 4, 4))),
    Case(
        "path_tokens skips",
        partial(analysis.path_tokens, skips=True),
        (normal(3, 4), normal(2, 2, 4, 4)),
    ),
)
NOT_OF_STATES = {"distance_from_span", "head_ambiguity", "head_null_space", "path_tokens"}
MEASURES_NOT_DIFFERENTIATED = {"head_ambiguity", "head_null_space", "matrix_rank"}


def parameters(rng):
    """What `layer(x, **init_layer(...))` leaves out stands second."""
    return {
        "position_gated_projection": (
            layers.init_position_gated_projection(rng, 4, 2),
            ["z", "positions"],
        )
    }
