"""The norms of both DDL rules: ours, and by option those of the authors' code."""

import dataclasses

import numpy as np
import pytest

from mgt_np import TransformerConfig, hidden_states, init_transformer, linear, transformer
from mgt_np.arrays import tree_map

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
CONFIG = TransformerConfig(
    vocab_size=11, d_model=8, n_heads=2, n_layers=2, d_ff=12, max_tokens=6, residual="ddl"
)


def rms(x, eps):
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps)


def layer(x, eps):
    centred = x - np.mean(x, axis=-1, keepdims=True)
    return centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + eps)


@pytest.mark.parametrize(
    ("residual", "settings", "norm", "eps"),
    [
        ("ddl", {}, layer, 1e-5),
        ("ddl", {"ddl_norm_eps": 0.1}, layer, 1e-5),
        ("ddl", {"ddl_final_norm": "rms"}, rms, 1e-6),
        ("ddl", {"ddl_final_norm": "rms", "ddl_norm_eps": 1e-5}, rms, 1e-5),
        ("ddl_expanded", {}, rms, 1e-6),
        ("ddl_expanded", {"ddl_norm_eps": 0.1}, rms, 0.1),
    ],
)
def test_the_last_norm(residual, settings, norm, eps, rng):
    config = dataclasses.replace(CONFIG, residual=residual, **settings)
    params = tree_map(
        lambda x: x + 0.3 * rng.standard_normal(x.shape), init_transformer(rng, config)
    )
    affine = params["final_norm"]
    assert affine.keys() == ({"gain"} if norm is rms else {"gain", "bias"})
    last = norm(hidden_states(params, TOKENS, config)[-1], eps)
    last = last * affine["gain"] + affine.get("bias", 0.0)
    expected = linear(last, params["W_out"])
    np.testing.assert_allclose(transformer(params, TOKENS, config), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("residual", ["ddl", "ddl_expanded"])
def test_the_norms_before_the_sublayers_have_the_epsilon_of_the_config(residual, rng):
    """A huge ε leaves nothing of what they read: k is that of 0, and the gate is at b_β."""
    config = dataclasses.replace(CONFIG, residual=residual, ddl_norm_eps=1e30)
    params = init_transformer(rng, config)
    states = hidden_states(params, TOKENS, config)
    assert np.max(np.abs(states - states[0])) < 1e-9
    small = dataclasses.replace(config, ddl_norm_eps=1e-6)
    assert np.max(np.abs(hidden_states(params, TOKENS, small) - states)) > 0.1
