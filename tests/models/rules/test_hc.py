"""HC's first stream: sub-layer k reads stream k mod n."""

import dataclasses

import numpy as np
import pytest

from mgt_np import RESIDUAL_RULES, TransformerConfig, init_transformer, layer_norm

CONFIG = TransformerConfig(
    vocab_size=11, d_model=8, n_heads=2, n_layers=5, d_ff=12, max_tokens=6, residual="hc"
)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_sublayer_k_first_reads_stream_k_mod_n(n, rng):
    """HC, eq. 14: A_m = e_{k mod n}."""
    params = init_transformer(rng, dataclasses.replace(CONFIG, n_streams=n))
    first = [
        block[f"{name}_residual"]["connection"]["A_m"]
        for block in params["blocks"]
        for name in ("attention", "feed_forward")
    ]
    assert np.array_equal(first, np.eye(n)[np.arange(10) % n])


def test_the_streams_that_are_read_are_not_drawn():
    streams = [
        [block["attention_residual"]["connection"]["A_m"] for block in params["blocks"]]
        for params in (init_transformer(np.random.default_rng(seed), CONFIG) for seed in range(4))
    ]
    assert all(np.array_equal(each, streams[0]) for each in streams)


def test_what_a_sublayer_reads_first_is_that_stream_alone(rng):
    params, X, seen = init_transformer(rng, CONFIG), rng.standard_normal((2, 5, 4, 8)), []
    for block in params["blocks"]:
        for name in ("attention_residual", "feed_forward_residual"):
            RESIDUAL_RULES["hc"].update(X, lambda x: seen.append(x) or x, block[name], CONFIG)
    expected = [layer_norm(X[..., k % 4, :]) for k in range(10)]
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-14)
