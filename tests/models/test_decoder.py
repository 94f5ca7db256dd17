"""The decoder: its blocks written out, MGT's limits and ablations, initial scales, errors."""

import dataclasses
import re

import numpy as np
import pytest
from array_libraries import LIBRARIES

from mgt_np import (
    RESIDUAL_RULES,
    ResidualRule,
    TransformerConfig,
    cross_entropy,
    feed_forward,
    geometric_update,
    hidden_states,
    init_transformer,
    layer_norm,
    mgt_beta,
    multi_head_attention,
    tangent_gate,
    transformer,
    value_and_grad,
)
from mgt_np.arrays import leaves_with_paths, tree_map

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
CONFIG = TransformerConfig(
    vocab_size=11, d_model=8, n_heads=2, n_layers=3, d_ff=12, max_tokens=6, mgt_eps=0.1
)
_, STRICT, STRICT_DEVICE1, *_ = LIBRARIES


def of_rule(residual, **settings):
    return dataclasses.replace(CONFIG, residual=residual, **settings)


def moved_params(rng, config):
    params = init_transformer(rng, config)
    return tree_map(lambda x: x + 0.3 * rng.standard_normal(x.shape), params)


def norm(x, params):
    return layer_norm(x, **params["norm"])


def mgt_step(x, v_raw, update, config):
    names = ("W_gate", "gain", "bias")
    gate = tangent_gate(x, **{name: update[name] for name in names}) if "W_gate" in update else 1.0
    if "W_beta" not in update:
        return x + gate * v_raw
    beta = mgt_beta(x, update["W_beta"], update["b_beta"], lam=config.mgt_lam, eps=config.mgt_eps)
    return geometric_update(x, gate * v_raw, beta, update["alpha"])


WRITTEN_OUT = {
    "none": lambda x, F, p, config: F(norm(x, p)),
    "post_ln": lambda x, F, p, config: norm(x + F(x), p),
    "pre_ln": lambda x, F, p, config: x + F(norm(x, p)),
    "mgt": lambda x, F, p, config: mgt_step(x, F(norm(x, p)), p["update"], config),
}
WRITTEN_OUT |= {
    "deepnorm": lambda x, F, p, config: norm(6.0**0.25 * x + F(x), p),
    "branchnorm": lambda x, F, p, config: norm(x + 0.1 * F(x), p),
    "admin": lambda x, F, p, config: norm(p["omega"] * x + F(x), p),
    "sub_ln": lambda x, F, p, config: x + F(norm(x, p), lambda z: layer_norm(z, **p["inner_norm"])),
    "scaled_residual": lambda x, F, p, config: x + F(norm(x, p)) / np.sqrt(3.0),
    "layerscale": lambda x, F, p, config: x + F(norm(x, p)) @ np.diag(p["lam"]),
    "rezero": lambda x, F, p, config: x + p["alpha"] * F(x),
}


def hc_step(X, F, p, config):
    c = p["connection"]
    normed = layer_norm(X, c["gain"], c["bias"])
    A_m = c["A_m"] + c["s_alpha"] * np.tanh(normed @ c["W_m"])[..., 0]
    B = c["B"] + c["s_beta"] * np.tanh(normed @ c["W_beta"])[..., 0]
    A_r = c["A_r"] + c["s_alpha"] * np.tanh(normed @ c["W_r"])
    y = F(norm(np.einsum("...j,...jd->...d", A_m, X), p))
    return np.einsum("...ji,...jd->...id", A_r, X) + np.einsum("...i,...d->...id", B, y)


def mhc_step(X, F, p, config):
    c, n = p["connection"], config.n_streams
    flat = X.reshape(*X.shape[:-2], -1)
    normed = flat / np.sqrt(np.mean(flat**2, axis=-1, keepdims=True))
    pre, post, res = (
        c[f"alpha_{part}"] * (normed @ c[f"phi_{part}"]) + c[f"b_{part}"].ravel()
        for part in ("pre", "post", "res")
    )
    M = np.exp(res.reshape(*res.shape[:-1], n, n))
    for _ in range(20):
        M = M / np.sum(M, axis=-2, keepdims=True)
        M = M / np.sum(M, axis=-1, keepdims=True)
    y = F(norm(np.einsum("...j,...jd->...d", 1.0 / (1.0 + np.exp(-pre)), X), p))
    written = np.einsum("...i,...d->...id", 2.0 / (1.0 + np.exp(-post)), y)
    return np.einsum("...ij,...jd->...id", M, X) + written


WRITTEN_OUT |= {"hc": hc_step, "mhc": mhc_step}
WRITTEN_OUT |= dict.fromkeys(("mgt_mhc_only", "mgt_ddl_only"), WRITTEN_OUT["mgt"])


def ddl_step(X, F, p, config):
    """Each channel of the state by itself: x + β (v − k̂ᵀx) k̂."""
    x = np.sum(X * p["compressor"]["C"], axis=-1) if "compressor" in p else X[..., 0]
    mean_square = np.mean(x**2, axis=-1, keepdims=True)
    c = x / np.sqrt(mean_square + 1e-6) * p["norm"]["gain"]
    k = F(c)
    k = k / np.sqrt(np.sum(k**2, axis=-1, keepdims=True) + 1e-10)
    update = p["update"]
    beta = 2.0 / (1.0 + np.exp(-(c @ update["W_beta"] + update["b_beta"])))
    v = c @ update["W_v"] + update["b_v"]
    return np.stack(
        [
            X[..., j] + beta * (v[..., j : j + 1] - np.sum(k * X[..., j], -1, keepdims=True)) * k
            for j in range(X.shape[-1])
        ],
        axis=-1,
    )


WRITTEN_OUT |= dict.fromkeys(("ddl", "ddl_expanded"), ddl_step)
# How a state of several streams begins, and how it is read.
STREAMS = dict.fromkeys(
    ("hc", "mhc"), (lambda x: np.stack([x] * 4, axis=-2), lambda X, p: np.mean(X, axis=-2))
) | {
    "ddl": (lambda x: x[..., None], lambda X, p: X[..., 0]),
    "ddl_expanded": (
        lambda x: np.stack([x] * 4, axis=-1),
        lambda X, p: np.sum(X * p["compressor"]["C"], axis=-1),
    ),
}
ONE_STREAM = (lambda x: x, lambda x, p: x)


@pytest.mark.parametrize("residual", WRITTEN_OUT)
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_the_blocks_written_out(residual, activation, rng):
    config, step = of_rule(residual, activation=activation), WRITTEN_OUT[residual]
    params = moved_params(rng, config)
    expand, read = STREAMS.get(residual, ONE_STREAM)
    x = params["tokens"][TOKENS] + params["positions"][:5]
    expected, x = [x], expand(x)
    for block in params["blocks"]:

        def attend(x, inner=None, block=block):
            options = {"n_heads": 2, "causal": True, "inner": inner}
            return multi_head_attention(x, **block["attention"], **options)

        def hidden(x, inner=None, block=block):
            return feed_forward(x, **block["feed_forward"], activation=activation, inner=inner)

        shared = block.get("residual", {})
        x = step(x, attend, shared | block["attention_residual"], config)
        x = step(x, hidden, shared | block["feed_forward_residual"], config)
        expected.append(read(x, params.get("read_out")))
    np.testing.assert_allclose(hidden_states(params, TOKENS, config), expected, atol=1e-12)


def with_update(params, **values):
    """The parameters with some of MGT's filled with a constant, in every sub-layer."""

    def changed(residual):
        update = residual["update"]
        filled = {name: np.full_like(update[name], value) for name, value in values.items()}
        return residual | {"update": update | filled}

    blocks = [
        block | {name: changed(block[name]) for name in block if name.endswith("_residual")}
        for block in params["blocks"]
    ]
    return params | {"blocks": blocks}


def restricted(params, names):
    """The parameters that a rule with fewer of MGT's parts has, or with none."""

    def of_part(part):
        if "update" not in part:
            return part
        update = {key: part["update"][key] for key in names}
        return part | {"update": update} if update else {"norm": part["norm"]}

    blocks = [{name: of_part(part) for name, part in block.items()} for block in params["blocks"]]
    return params | {"blocks": blocks}


# σ(40) and tanh(40) are 1 in float64.
GATE_1 = {"gain": 0.0, "bias": 40.0}
BETA_1_ALPHA_0 = {"W_beta": 0.0, "b_beta": 40.0, "alpha": 0.0}


@pytest.mark.parametrize("beta_per", ["token", "channel"])
def test_mgt_with_gate_1_beta_1_alpha_0_is_pre_ln_exactly(beta_per, rng):
    mgt = of_rule("mgt", mgt_beta_per=beta_per, mgt_lam=1.0, mgt_eps=0.0)
    params = with_update(moved_params(rng, mgt), **GATE_1, **BETA_1_ALPHA_0)
    plain = restricted(params, ())
    for f in (hidden_states, transformer):
        assert np.array_equal(f(params, TOKENS, mgt), f(plain, TOKENS, of_rule("pre_ln")))


@pytest.mark.parametrize("residual", ["mgt", "mgt_ddl_only"])
def test_mgt_with_beta_0_is_the_identity_exactly(residual, rng):
    config = of_rule(residual, mgt_eps=0.0)
    params = with_update(moved_params(rng, config), W_beta=0.0, b_beta=0.0)
    states = hidden_states(params, TOKENS, config)
    assert np.array_equal(states, np.broadcast_to(states[0], states.shape))


def test_mhc_only_is_mgt_with_beta_1_and_alpha_0(rng):
    mgt = of_rule("mgt", mgt_lam=1.0, mgt_eps=0.0)
    params = with_update(moved_params(rng, mgt), **BETA_1_ALPHA_0)
    gate_only = restricted(params, ("W_gate", "gain", "bias"))
    expected = hidden_states(params, TOKENS, mgt)
    got = hidden_states(gate_only, TOKENS, of_rule("mgt_mhc_only"))
    assert np.array_equal(got, expected)


def test_ddl_only_is_mgt_with_gate_1(rng):
    mgt = of_rule("mgt")
    params = with_update(moved_params(rng, mgt), **GATE_1)
    delta_only = restricted(params, ("W_beta", "b_beta", "alpha"))
    expected = hidden_states(params, TOKENS, mgt)
    assert np.array_equal(hidden_states(delta_only, TOKENS, of_rule("mgt_ddl_only")), expected)


def test_the_options_of_mgt_reach_its_parameters(rng):
    config = of_rule("mgt", mgt_alpha=0.4, mgt_b_beta=-0.2, mgt_beta_per="channel")
    for block in init_transformer(rng, config)["blocks"]:
        for name in ("attention_residual", "feed_forward_residual"):
            update = block[name]["update"]
            assert float(update["alpha"]) == 0.4
            assert update["b_beta"].tolist() == [-0.2] * 8
            assert update["W_beta"].shape == (8, 8)
    wide = dataclasses.replace(config, mgt_lam=0.5)
    params = moved_params(rng, config)
    assert not np.array_equal(
        transformer(params, TOKENS, wide), transformer(params, TOKENS, config)
    )


def test_the_scales_of_mgts_matrices_change_them_alone():
    def drawn(**options):
        tree = init_transformer(np.random.default_rng(0), of_rule("mgt", **options))
        return {path: leaf for path, leaf in leaves_with_paths(tree)}

    usual = drawn()
    for option, name in (("mgt_gate_scale", "W_gate"), ("mgt_beta_scale", "W_beta")):
        other = drawn(**{option: 1e-3})
        differing = {path for path in usual if not np.array_equal(usual[path], other[path])}
        assert differing == {path for path in usual if name in path}
        assert all(0.0 < np.std(other[path]) < 3e-3 for path in differing)
    lecun = drawn(mgt_gate_scale=8**-0.5)
    assert all(np.allclose(usual[path], lecun[path], rtol=1e-12) for path in usual)


@pytest.mark.parametrize(
    "setting",
    [
        {"ddl_beta_init": 0.5},
        {"ddl_beta_hidden": 3},
        {"ddl_v_form": "sigmoid4"},
        {"ddl_v_from": "state"},
        {"ddl_erase": False},
        {"ddl_value_channels": 2},
        {"ddl_compressor": "tokens"},
        {"ddl_compressor": "tokens", "ddl_kernel_size": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("residual", ["ddl", "ddl_expanded"])
def test_every_option_of_ddl_changes_the_model_it_belongs_to(residual, setting):
    def states(**settings):
        config = of_rule(residual, **settings)
        return hidden_states(moved_params(np.random.default_rng(3), config), TOKENS, config)

    alike = np.array_equal(states(), states(**setting))
    of_expanded = {"ddl_value_channels", "ddl_compressor"} & setting.keys()
    assert alike == bool(of_expanded and residual == "ddl")
    if "ddl_kernel_size" in setting and residual == "ddl_expanded":
        assert not np.array_equal(states(ddl_compressor="tokens"), states(**setting))


def test_ddl_of_one_value_channel_is_ddl(rng):
    config = of_rule("ddl_expanded", ddl_value_channels=1)
    expanded = init_transformer(rng, config)
    plain = {name: part for name, part in expanded.items() if name != "read_out"}
    plain["blocks"] = [
        {name: part for name, part in block.items() if name != "residual"}
        for block in expanded["blocks"]
    ]
    ddl = of_rule("ddl", ddl_final_norm="rms")
    for f in (hidden_states, transformer):
        np.testing.assert_allclose(
            f(expanded, TOKENS, config), f(plain, TOKENS, ddl), rtol=0, atol=1e-13
        )


@pytest.mark.parametrize("compressor", ["channels", "tokens"])
def test_the_compressors_of_ddl_start_alike(compressor, rng):
    config = of_rule("ddl_expanded", ddl_compressor=compressor, weight_scale=0.3)
    params = init_transformer(np.random.default_rng(3), config)
    for part in (params["read_out"], *(block["residual"] for block in params["blocks"])):
        shapes = {key: x.shape for key, x in part["compressor"].items()}
        tokens = {"kernel": (8, 4, 4), "w": (4,)}
        assert shapes == ({"C": (8, 4)} if compressor == "channels" else tokens)
        read = part["compressor"]["C" if compressor == "channels" else "w"]
        assert np.all(read == 0.25)


@pytest.mark.parametrize("residual", ["ddl", "ddl_expanded"])
def test_ddl_runs_200_layers_forth_and_back(residual, rng):
    config = of_rule(residual, n_layers=200)
    params = init_transformer(rng, config)

    def loss(params):
        return cross_entropy(transformer(params, TOKENS[:, :-1], config), TOKENS[:, 1:])

    value, gradients = value_and_grad(loss)(params)
    leaves = [value, *(leaf for _, leaf in leaves_with_paths(gradients))]
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
    first = gradients["blocks"][0]["attention"]["W_o"]
    assert np.linalg.norm(first) > 1e-3  # it grows towards the first layer: delta-dynamics


def test_initial_scales(rng):
    sizes = {"vocab_size": 200, "d_model": 64, "d_ff": 256, "max_tokens": 200, "n_layers": 1}
    params = init_transformer(rng, dataclasses.replace(CONFIG, **sizes, embedding_scale=0.3))
    block = params["blocks"][0]
    stds = {
        "tokens": (params["tokens"], 0.3),
        "positions": (params["positions"], 0.3),
        "W_out": (params["W_out"], 1 / 8),
        "W_q": (block["attention"]["W_q"], 1 / 8),
        "W_1": (block["feed_forward"]["W_1"], 1 / 8),
        "W_2": (block["feed_forward"]["W_2"], 1 / 16),
    }
    for name, (weights, std) in stds.items():
        assert np.std(weights) == pytest.approx(std, rel=0.05), name
    params = init_transformer(rng, dataclasses.replace(CONFIG, **sizes, weight_scale=0.02))
    block = params["blocks"][0]
    for weights in (params["W_out"], block["attention"]["W_o"], block["feed_forward"]["W_2"]):
        assert np.std(weights) == pytest.approx(0.02, rel=0.05)
    assert not np.any(block["attention"]["b_q"])
    assert not np.any(block["feed_forward"]["b_1"])


def test_what_is_no_sequence_of_tokens_is_refused(rng):
    params = init_transformer(rng, CONFIG)
    for f in (transformer, hidden_states):
        for token in (11, -1):
            with pytest.raises(ValueError, match=rf"expected tokens in \[0, 11\), got {token}"):
                f(params, np.array([0, token]), CONFIG)
        for shape in ((2, 7), (2, 0), ()):
            message = f"{f.__name__}: expected tokens (..., N) with 1 ≤ N ≤ 6, got {shape}"
            with pytest.raises(ValueError, match=re.escape(message)):
                f(params, np.zeros(shape, dtype=int), CONFIG)
        with pytest.raises(TypeError, match="expected tokens to be integers, got float64"):
            f(params, np.ones(3), CONFIG)
        with pytest.raises(TypeError, match=r"expected tokens to be an array .*, got list"):
            f(params, [1, 2, 3], CONFIG)


def test_tokens_from_elsewhere_are_refused(rng):
    params = init_transformer(rng, CONFIG)
    with pytest.raises(TypeError, match="one library, got tokens from array_api_strict and E from"):
        transformer(params, STRICT.asarray(TOKENS), CONFIG)
    with pytest.raises(ValueError, match=r"got tokens on .*CPU.* and E on .*device1"):
        transformer(STRICT_DEVICE1.asarray(params), STRICT.asarray(TOKENS), CONFIG)


def test_the_rules_cannot_be_changed_in_place():
    with pytest.raises(TypeError, match="does not support item assignment"):
        RESIDUAL_RULES["mine"] = RESIDUAL_RULES["pre_ln"]
    assert all(isinstance(rule, ResidualRule) for rule in RESIDUAL_RULES.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        RESIDUAL_RULES["pre_ln"].final_norm = False


NO_FINAL_NORM = {"post_ln", "deepnorm", "branchnorm", "admin", "rezero"}


@pytest.mark.parametrize("residual", WRITTEN_OUT)
def test_what_is_not_normed_after_the_sum_ends_in_a_norm(residual):
    """Every rule but those that norm the sum, and ReZero, which has no norm at all."""
    assert RESIDUAL_RULES[residual].final_norm == (residual not in NO_FINAL_NORM)


def test_every_rule_is_written_out():
    assert WRITTEN_OUT.keys() == RESIDUAL_RULES.keys()


def test_one_token_is_a_sequence(rng):
    params = moved_params(rng, CONFIG)
    first = transformer(params, TOKENS[:, :1], CONFIG)
    np.testing.assert_allclose(first, transformer(params, TOKENS, CONFIG)[:, :1], atol=1e-13)
