"""The baselines: what each becomes at its limits, and its initial values beside its paper's."""

import dataclasses
import math

import numpy as np
import pytest

from mgt_np import (
    TransformerConfig,
    feed_forward,
    hidden_states,
    init_transformer,
    layer_norm,
    multi_head_attention,
    transformer,
)
from mgt_np.arrays import tree_map
from mgt_np.models.rules import deepnorm, layerscale, scaled_residual, sub_ln

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
CONFIG = TransformerConfig(vocab_size=11, d_model=8, n_heads=2, n_layers=3, d_ff=12, max_tokens=6)
SUBLAYERS = ("attention", "feed_forward")


def of_rule(residual, **settings):
    return dataclasses.replace(CONFIG, residual=residual, **settings)


def moved_params(rng, config):
    params = init_transformer(rng, config)
    return tree_map(lambda x: x + 0.3 * rng.standard_normal(x.shape), params)


def replaced(params, name, value):
    """The parameters with one of every residual connection's filled with a constant."""
    blocks = [
        block
        | {
            f"{sublayer}_residual": block[f"{sublayer}_residual"]
            | {name: np.full_like(block[f"{sublayer}_residual"][name], value)}
            for sublayer in SUBLAYERS
        }
        for block in params["blocks"]
    ]
    return params | {"blocks": blocks}


def norms_alone(params):
    """The parameters of a rule whose connections have a norm and nothing else."""
    blocks = [
        block | {f"{sub}_residual": {"norm": block[f"{sub}_residual"]["norm"]} for sub in SUBLAYERS}
        for block in params["blocks"]
    ]
    return params | {"blocks": blocks}


def residuals(params, name):
    return [block[f"{sub}_residual"][name] for block in params["blocks"] for sub in SUBLAYERS]


@pytest.mark.parametrize(
    ("residual", "limit", "options", "filled"),
    [
        ("deepnorm", "post_ln", {"deepnorm_alpha": 1.0, "deepnorm_gain": 1.0}, {}),
        ("branchnorm", "post_ln", {"branchnorm_alpha": 1.0}, {}),
        ("admin", "post_ln", {}, {"omega": 1.0}),
        ("scaled_residual", "pre_ln", {"scaled_residual_factor": 1.0}, {}),
        ("layerscale", "pre_ln", {}, {"lam": 1.0}),
    ],
)
def test_limits_that_are_another_rule_exactly(residual, limit, options, filled, rng):
    config = of_rule(residual, **options)
    params = moved_params(rng, config)
    for name, value in filled.items():
        params = replaced(params, name, value)
    for f in (hidden_states, transformer):
        got, expected = f(params, TOKENS, config), f(norms_alone(params), TOKENS, of_rule(limit))
        assert np.array_equal(got, expected)
    default = init_transformer(np.random.default_rng(0), of_rule(residual))
    started = hidden_states(default, TOKENS, of_rule(residual))[-1]
    expected = hidden_states(norms_alone(default), TOKENS, of_rule(limit))[-1]
    assert (residual == "admin") == np.array_equal(started, expected)  # ω = 1 until profiled


def test_rezero_starts_as_the_identity(rng):
    config = of_rule("rezero")
    states = hidden_states(init_transformer(rng, config), TOKENS, config)
    assert np.array_equal(states, np.broadcast_to(states[0], states.shape))
    started = init_transformer(rng, of_rule("rezero", rezero_alpha=0.4))
    assert [block["residual"]["alpha"] for block in started["blocks"]] == [0.4] * 3
    started = init_transformer(rng, of_rule("rezero", rezero_alpha=0.4, rezero_shared=False))
    assert residuals(started, "alpha") == [0.4] * 6


def test_branchnorm_starts_as_a_norm(rng):
    config = of_rule("branchnorm", branchnorm_alpha=0.0)
    states = hidden_states(init_transformer(rng, config), TOKENS, config)
    np.testing.assert_allclose(states[1:], [layer_norm(states[0])] * 3, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_layers", [1, 3, 100])
def test_deepnorm_has_the_constants_of_its_paper(n_layers, rng):
    config = of_rule("deepnorm", n_layers=n_layers)
    assert deepnorm.alpha(config) ** 4 == pytest.approx(2 * n_layers, rel=1e-14)
    gains = deepnorm.gains(config)
    assert gains.keys() == {"W_v", "W_o", "W_1", "W_2"}
    assert [gain**-4 for gain in gains.values()] == pytest.approx([8 * n_layers] * 4, rel=1e-14)
    assert deepnorm.gains(of_rule("deepnorm", deepnorm_gain=0.5))["W_o"] == 0.5
    assert deepnorm.alpha(of_rule("deepnorm", deepnorm_alpha=2.0)) == 2.0


@pytest.mark.parametrize("residual", ["deepnorm", "sub_ln"])
def test_gains_reach_the_weights_they_name_and_no_others(residual):
    config = of_rule(residual)
    ours, plain = (
        init_transformer(np.random.default_rng(3), c) for c in (config, of_rule("pre_ln"))
    )
    gain = {"deepnorm": 24.0**-0.25, "sub_ln": math.sqrt(math.log(6.0))}[residual]
    for block, other in zip(ours["blocks"], plain["blocks"], strict=True):
        for sublayer in SUBLAYERS:
            for name, weights in block[sublayer].items():
                factor = gain if name in ("W_v", "W_o", "W_1", "W_2") else 1.0
                np.testing.assert_allclose(weights, factor * other[sublayer][name], rtol=1e-15)
    assert sub_ln.gains(of_rule("sub_ln", sub_ln_gain=0.5))["W_1"] == 0.5


@pytest.mark.parametrize(
    ("n_layers", "lam"), [(1, 0.1), (18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6), (200, 1e-6)]
)
def test_layerscale_starts_at_its_papers_steps(n_layers, lam, rng):
    config = of_rule("layerscale", n_layers=n_layers)
    assert layerscale.initial_lam(config) == lam
    params = init_transformer(rng, dataclasses.replace(config, n_layers=2, layerscale_lam=lam))
    assert [x.tolist() for x in residuals(params, "lam")] == [[lam] * 8] * 4


def test_scaled_residual_is_one_over_the_root_of_the_depth():
    assert scaled_residual.factor(of_rule("scaled_residual", n_layers=16)) == 0.25
    assert scaled_residual.factor(of_rule("scaled_residual", scaled_residual_factor=0.3)) == 0.3


def test_branches_of_one_over_root_depth_add_up_alike_at_every_depth():
    """Noci et al.: the state's growth does not depend on the depth; without the factor it does."""
    growth = {}
    for residual in ("scaled_residual", "pre_ln"):
        for n_layers in (8, 32):
            config = of_rule(residual, n_layers=n_layers, d_model=32, d_ff=64)
            states = hidden_states(
                init_transformer(np.random.default_rng(0), config), TOKENS, config
            )
            growth[residual, n_layers] = np.linalg.norm(states[-1]) / np.linalg.norm(states[0])
    assert growth["scaled_residual", 32] == pytest.approx(growth["scaled_residual", 8], rel=0.1)
    assert growth["pre_ln", 32] > 1.5 * growth["pre_ln", 8]


def numpy_norm(x, gain, bias):
    x = x - np.mean(x, axis=-1, keepdims=True)
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-5) * gain + bias


def test_the_inner_norm_of_sub_ln_stands_before_the_last_weights(rng):
    """Both sub-layers of Magneto in plain NumPy, one head and one query at a time."""
    config = of_rule("sub_ln", n_layers=1, activation="relu")
    params = moved_params(rng, config)
    block, x = params["blocks"][0], params["tokens"][TOKENS[0]] + params["positions"][:5]

    W, residual = block["attention"], block["attention_residual"]
    z = numpy_norm(x, **residual["norm"])
    heads = np.zeros((5, 8))
    for h in (slice(0, 4), slice(4, 8)):
        q, k, v = (z @ W[f"W_{a}"][:, h] + W[f"b_{a}"][h] for a in "qkv")
        for i in range(5):
            p = np.exp(k[: i + 1] @ q[i] / 2.0)
            heads[i, h] = p @ v[: i + 1] / p.sum()
    x = x + numpy_norm(heads, **residual["inner_norm"]) @ W["W_o"] + W["b_o"]

    W, residual = block["feed_forward"], block["feed_forward_residual"]
    hidden = np.maximum(numpy_norm(x, **residual["norm"]) @ W["W_1"] + W["b_1"], 0.0)
    x = x + numpy_norm(hidden, **residual["inner_norm"]) @ W["W_2"] + W["b_2"]
    np.testing.assert_allclose(hidden_states(params, TOKENS[0], config)[1], x, atol=1e-12)


def test_sub_ln_takes_no_notice_of_the_scale_of_W_v_and_W_1(rng):
    config = of_rule("sub_ln", n_layers=1, activation="relu")
    params = init_transformer(rng, config)
    block = params["blocks"][0]
    scaled = block | {
        "attention": block["attention"] | {"W_v": 3.0 * block["attention"]["W_v"]},
        "feed_forward": block["feed_forward"] | {"W_1": 3.0 * block["feed_forward"]["W_1"]},
    }
    before, after = (
        hidden_states(params | {"blocks": [b]}, TOKENS, config)[1] for b in (block, scaled)
    )
    np.testing.assert_allclose(after, before, atol=1e-3)  # not 0, by the ε within the norm
    assert np.max(np.abs(after - before)) > 0.0


def test_an_inner_function_that_does_nothing_changes_nothing(rng):
    block = moved_params(rng, CONFIG)["blocks"][0]
    x = rng.standard_normal((2, 5, 8))
    seen = []

    def inner(z):
        seen.append(z.shape)
        return z

    for layer, name, options in (
        (multi_head_attention, "attention", {"n_heads": 2, "causal": True}),
        (feed_forward, "feed_forward", {}),
    ):
        plain = layer(x, **block[name], **options)
        np.testing.assert_allclose(
            layer(x, **block[name], **options, inner=inner), plain, atol=1e-13
        )
        doubled = layer(x, **block[name], **options, inner=lambda z: 2.0 * z)
        bias = block[name]["b_o" if name == "attention" else "b_2"]
        np.testing.assert_allclose(doubled - bias, 2.0 * (plain - bias), atol=1e-12)
    assert seen == [(2, 5, 8), (2, 5, 12)]


@pytest.mark.parametrize(
    "name",
    ["deepnorm_alpha", "deepnorm_gain", "sub_ln_gain", "scaled_residual_factor", "layerscale_lam"],
)
def test_options_out_of_range_are_refused(name):
    for value in (-1.0, "big", math.nan):
        with pytest.raises(ValueError, match=f"expected {name} to be None or a finite number ≥ 0"):
            of_rule("deepnorm", **{name: value})
    assert getattr(of_rule("deepnorm", **{name: 0}), name) == 0


@pytest.mark.parametrize("value", [-0.1, 1.1, None, math.nan])
def test_the_stage_of_branchnorm_is_in_0_to_1(value):
    with pytest.raises(ValueError, match=r"branchnorm_alpha to be a finite number in \[0, 1\]"):
        of_rule("branchnorm", branchnorm_alpha=value)
