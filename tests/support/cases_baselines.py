"""Rows of the contract tests for what the baselines ask of the sub-layers: a norm within them."""

import numpy as np
from cases import Case

from mgt_np import feed_forward, layer_norm, multi_head_attention

_RNG = np.random.default_rng(2)


def normal(*shape):
    return _RNG.standard_normal(shape)


def attention_with_norm(x, W_q, W_k, W_v, W_o, gain, bias):
    def inner(heads):
        return layer_norm(heads, gain, bias)

    return multi_head_attention(x, W_q, W_k, W_v, W_o, n_heads=2, causal=True, inner=inner)


def feed_forward_with_norm(x, W_1, W_2, gain, bias):
    return feed_forward(x, W_1, W_2, inner=lambda hidden: layer_norm(hidden, gain, bias))


LAYER_CASES = (
    Case(
        "multi_head_attention inner",
        attention_with_norm,
        (normal(2, 3, 8), normal(8, 4), normal(8, 4), normal(8, 6), normal(6, 5), *normal(2, 6)),
    ),
    Case(
        "feed_forward inner",
        feed_forward_with_norm,
        (normal(2, 3, 4), normal(4, 6), normal(6, 5), *normal(2, 6)),
    ),
)
