"""Rules with several streams: HC starts as pre-LN exactly, mHC close to it; options."""

import dataclasses

import numpy as np
import pytest
from array_libraries import host

from mgt_np import (
    MHC_CONVENTIONS,
    TransformerConfig,
    cross_entropy,
    hidden_states,
    init_transformer,
    transformer,
    value_and_grad,
)
from mgt_np.arrays import leaves_with_paths, tree_map

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
CONFIG = TransformerConfig(vocab_size=11, d_model=8, n_heads=2, n_layers=6, d_ff=12, max_tokens=6)


def of_rule(residual, **settings):
    return dataclasses.replace(CONFIG, residual=residual, **settings)


def both(config, seed=3):
    params = init_transformer(np.random.default_rng(seed), config)
    return hidden_states(params, TOKENS, config), transformer(params, TOKENS, config)


@pytest.mark.parametrize("n_streams", [1, 2, 3, 4])
@pytest.mark.parametrize("dynamic", [True, False])
def test_hyper_connections_start_as_pre_ln(n_streams, dynamic):
    config = of_rule("hc", n_streams=n_streams, hc_dynamic=dynamic)
    for got, expected in zip(both(config), both(of_rule("pre_ln")), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_hyper_connections_start_as_pre_ln_on_every_library(library):
    config, pre_ln = of_rule("hc"), of_rule("pre_ln")
    params, theirs = (init_transformer(np.random.default_rng(3), c) for c in (config, pre_ln))
    got = hidden_states(library.asarray(params), library.asarray(TOKENS), config)
    np.testing.assert_allclose(host(got), hidden_states(theirs, TOKENS, pre_ln), atol=1e-12)


def test_mhc_starts_near_pre_ln_and_with_alpha_0_at_it():
    config = of_rule("mhc")
    expected = both(of_rule("pre_ln"))[0]
    near = both(config)[0]
    # α = 0.01 times logits of order one, 12 times: apart, by less than an eighth of a feature.
    assert 1e-6 < np.max(np.abs(near - expected)) < 0.125
    params = init_transformer(np.random.default_rng(3), config)
    for block in params["blocks"]:
        for name in ("attention_residual", "feed_forward_residual"):
            connection = block[name]["connection"]
            block[name]["connection"] = connection | {
                f"alpha_{part}": np.zeros(()) for part in ("pre", "post", "res")
            }
    np.testing.assert_allclose(hidden_states(params, TOKENS, config), expected, atol=1e-12)


@pytest.mark.parametrize("convention", MHC_CONVENTIONS)
def test_every_convention_makes_a_model(convention):
    config = of_rule("mhc", mhc_convention=convention, n_streams=3)
    params = init_transformer(np.random.default_rng(3), config)

    def loss(params):
        return cross_entropy(transformer(params, TOKENS[:, :-1], config), TOKENS[:, 1:])

    value, gradients = value_and_grad(loss)(params)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(g)) for _, g in leaves_with_paths(gradients))
    last = gradients["blocks"][-1]["feed_forward_residual"]["connection"]
    assert all(np.any(last[name]) for name in last)


def test_the_options_reach_the_parameters_and_the_equations(rng):
    config = of_rule("mhc", n_streams=3)
    params = init_transformer(rng, config)
    params = tree_map(lambda x: x + 0.3 * rng.standard_normal(x.shape), params)
    assert params["blocks"][0]["attention_residual"]["connection"]["phi_res"].shape == (24, 9)
    logits = transformer(params, TOKENS, config)
    for other in ({"mhc_iters": 1}, {"mhc_convention": "marco", "mhc_iters": 1}):
        changed = transformer(params, TOKENS, dataclasses.replace(config, **other))
        assert np.max(np.abs(changed - logits)) > 1e-4
    twenty = transformer(params, TOKENS, dataclasses.replace(config, mhc_iters=20))
    assert np.array_equal(twenty, logits)


def test_hc_output_gain_scales_the_output_projections():
    plain, doubled = (
        init_transformer(np.random.default_rng(3), of_rule("hc", hc_output_gain=gain))
        for gain in (1.0, 2.0)
    )
    for block, other in zip(plain["blocks"], doubled["blocks"], strict=True):
        assert np.array_equal(2.0 * block["attention"]["W_o"], other["attention"]["W_o"])
        assert np.array_equal(2.0 * block["feed_forward"]["W_2"], other["feed_forward"]["W_2"])
        assert np.array_equal(block["attention"]["W_q"], other["attention"]["W_q"])
