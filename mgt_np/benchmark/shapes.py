"""What is timed: a decoder of three shapes, with weights and tokens that all are given."""

from dataclasses import dataclass

import numpy as np

from mgt_np.arrays import tree_map
from mgt_np.models import TransformerConfig, init_transformer


@dataclass(frozen=True)
class Shape:
    """The sizes of a model and of the batch that it is trained on."""

    batch: int
    n_tokens: int
    d_model: int
    n_heads: int
    n_layers: int
    d_ff: int
    vocab_size: int


SHAPES = {
    "wide": Shape(8, 128, 128, 4, 12, 512, 2000),  # matrix products dominate
    "deep": Shape(4, 64, 64, 4, 100, 256, 500),
    "tiny": Shape(1, 16, 32, 2, 100, 64, 100),  # what a call costs dominates
}


def problem(shape, rule):
    """Return the config, the parameters (NumPy, float32) and the tokens (batch, n_tokens + 1).

    The same in every process. The initial zeros and ones are moved a little, so that every
    gradient says something.
    """
    config = TransformerConfig(
        vocab_size=shape.vocab_size,
        d_model=shape.d_model,
        n_heads=shape.n_heads,
        n_layers=shape.n_layers,
        d_ff=shape.d_ff,
        max_tokens=shape.n_tokens,
        residual=rule,
        dtype="float32",
    )
    rng = np.random.default_rng(0)
    params = init_transformer(rng, config)
    params = tree_map(lambda x: x + (0.02 * rng.standard_normal(x.shape)).astype(x.dtype), params)
    tokens = rng.integers(0, shape.vocab_size, (shape.batch, shape.n_tokens + 1))
    return config, params, tokens
