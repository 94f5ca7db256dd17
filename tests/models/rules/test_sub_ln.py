"""Sub-LN: which of its gains change the function, and by how much."""

import math

import numpy as np
import pytest

from mgt_np import (
    TransformerConfig,
    gelu,
    hidden_states,
    init_transformer,
    layer_norm,
    relu,
)

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
SIZES = {"vocab_size": 11, "d_model": 8, "n_heads": 2, "d_ff": 12, "max_tokens": 6}


@pytest.mark.parametrize(("activation", "share"), [(gelu, 0.071), (relu, 1e-5)])
def test_the_gain_on_W_1_at_12_blocks_changes_a_gelu(activation, share, rng):
    """LN(gelu(1.78 z)) is 7 % away from LN(gelu(z)); LN(relu(1.78 z)) only by the norm's ε."""
    z, gain = rng.standard_normal((2000, 64)), math.sqrt(math.log(24.0))
    plain, scaled = (layer_norm(activation(factor * z)) for factor in (1.0, gain))
    apart = np.linalg.norm(scaled - plain) / np.linalg.norm(plain)
    assert 0.5 * share < apart < 1.5 * share


@pytest.mark.parametrize(
    ("name", "activation", "free"),
    [("W_v", "gelu", True), ("W_v", "relu", True), ("W_1", "relu", True), ("W_1", "gelu", False)],
)
def test_weights_whose_scale_changes_gradients_only(name, activation, free, rng):
    config = TransformerConfig(**SIZES, n_layers=1, residual="sub_ln", activation=activation)
    params = init_transformer(rng, config)
    block = params["blocks"][0]
    sublayer = "attention" if name == "W_v" else "feed_forward"
    gain = math.sqrt(math.log(24.0))
    scaled = block | {sublayer: block[sublayer] | {name: gain * block[sublayer][name]}}
    before, after = (
        hidden_states(params | {"blocks": [b]}, TOKENS, config)[1] for b in (block, scaled)
    )
    apart = np.max(np.abs(after - before))
    assert apart < 1e-3 if free else apart > 0.05
