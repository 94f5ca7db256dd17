"""Whole layers of other people's code beside ours: states and every gradient, as recorded."""

import numpy as np
import pytest

from mgt_np import (
    TransformerConfig,
    hidden_states,
    init_transformer,
    profile_admin,
    value_and_grad,
)
from mgt_np.models.rules import deepnorm, sub_ln

# Every recorded input x (2, 5, 8) is the embedding of ten different tokens, in order.
TOKENS = np.arange(10).reshape(2, 5)


def config_of(f, residual, **settings):
    hidden = int(f.get("cfg.ffn_dim", f.get("cfg.dim_feedforward")))
    sizes = {"vocab_size": 10, "d_model": 8, "n_heads": 2, "max_tokens": 5, "d_ff": hidden}
    options = {"n_layers": 1, "activation": str(f["cfg.activation"])}
    return TransformerConfig(**sizes, **options | settings, residual=residual)


def loaded(f, config, theirs):
    """Our parameters, with the recorded ones where `theirs` says that they stand."""
    params = init_transformer(np.random.default_rng(0), config)
    params["tokens"] = f["in.x"].reshape(10, 8)
    params["positions"] = np.zeros((5, 8))
    for path, (name, to_ours) in theirs.items():
        *way, last = path
        part = params["blocks"]
        for key in way:
            part = part[key]
        assert last in part
        part[last] = to_ours(f[f"w.{name}"])
    return params


def transposed(x):
    return x.T


def same(x):
    return x


def third(i):
    """Queries', keys' or values' part of torch's packed projection."""
    return lambda W: np.split(W, 3)[i].T


def entry(x):
    return x[0]


def packed_attention(layer, prefix):
    """torch.nn.MultiheadAttention: where ours stands, its name there, and theirs to ours."""
    found = {}
    for i, name in enumerate("qkv"):
        found[layer, "attention", f"W_{name}"] = f"{prefix}in_proj_weight", third(i)
        found[layer, "attention", f"b_{name}"] = f"{prefix}in_proj_bias", third(i)
    return found | linear(layer, "attention", "o", f"{prefix}out_proj")


def linear(layer, sublayer, ours, theirs):
    return {
        (layer, sublayer, f"W_{ours}"): (f"{theirs}.weight", transposed),
        (layer, sublayer, f"b_{ours}"): (f"{theirs}.bias", same),
    }


def norm(layer, residual, ours, theirs):
    return {
        (layer, residual, ours, "gain"): (f"{theirs}.weight", same),
        (layer, residual, ours, "bias"): (f"{theirs}.bias", same),
    }


def torchscale(layer, prefix=""):
    found = {}
    for name in "qkv":
        found |= linear(layer, "attention", name, f"{prefix}self_attn.{name}_proj")
    return (
        found
        | linear(layer, "attention", "o", f"{prefix}self_attn.out_proj")
        | linear(layer, "feed_forward", "1", f"{prefix}ffn.fc1")
        | linear(layer, "feed_forward", "2", f"{prefix}ffn.fc2")
        | norm(layer, "attention_residual", "norm", f"{prefix}self_attn_layer_norm")
        | norm(layer, "feed_forward_residual", "norm", f"{prefix}final_layer_norm")
    )


def check(f, config, theirs):
    """Hold last state and all gradients of its product with R to the recorded ones."""
    params = loaded(f, config, theirs)

    def scalar(params):
        return (hidden_states(params, TOKENS, config)[-1, ...] * f["R"]).sum()

    np.testing.assert_allclose(
        hidden_states(params, TOKENS, config)[-1], f["out.y"], rtol=0, atol=1e-12
    )
    _, gradients = value_and_grad(scalar)(params)
    of_x = gradients["tokens"].reshape(2, 5, 8)
    np.testing.assert_allclose(of_x, f["gin.x"], rtol=1e-12, atol=1e-12)
    for path, (name, to_ours) in theirs.items():
        got = gradients["blocks"]
        for key in path:
            got = got[key]
        expected = to_ours(f[f"gw.{name}"])
        scale = max(1.0, np.max(np.abs(expected)))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * scale, err_msg=name)
    assert {f"gw.{name}" for name, _ in theirs.values()} == {
        key for key in f if key.startswith("gw.")
    }


REZERO = (
    packed_attention(0, "self_attn.")
    | linear(0, "feed_forward", "1", "linear1")
    | linear(0, "feed_forward", "2", "linear2")
    | {(0, "residual", "alpha"): ("resweight", entry)}
)


@pytest.mark.parametrize("name", ["shared_relu", "shared_gelu_causal", "start"])
def test_rezero_of_its_authors(name, golden):
    """majumderb/rezero: h = x + αF₁(x), y = h + αF₂(h) with one α for both."""
    f = golden(f"rezero_encoder_layer_{name}")
    check(f, config_of(f, "rezero", causal="causal" in name), REZERO)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_deepnorm_of_torchscale(activation, golden):
    """DeepNorm: x' = LN(αx + F(x)), with α and gains of M blocks, here in one of them."""
    f = golden(f"torchscale_deepnorm_decoder_layer_{activation}")
    check(f, config_of(f, "deepnorm", deepnorm_alpha=f["out.alpha"][()]), torchscale(0))
    constants = config_of(f, "deepnorm", n_layers=f["cfg.num_layers"][()])
    assert deepnorm.alpha(constants) == pytest.approx(float(f["out.alpha"]), rel=1e-14)
    check_gains(deepnorm.gains(constants), f)


def check_gains(gains, f):
    v_o, ffn = float(f["out.gain_v_o"]), float(f["out.gain_ffn"])
    assert gains == pytest.approx({"W_v": v_o, "W_o": v_o, "W_1": ffn, "W_2": ffn}, rel=1e-12)
    assert float(f["out.gain_q_k"]) == pytest.approx(1.0)


def test_a_deepnorm_decoder_of_torchscale(golden):
    """Two blocks with their own α = (2M)^¼, and no norm behind the last."""
    f = golden("torchscale_deepnorm_decoder_stack_relu")
    config = config_of(f, "deepnorm", n_layers=2)
    check(f, config, torchscale(0, "layers.0.") | torchscale(1, "layers.1."))
    params = loaded(f, config, torchscale(0, "layers.0.") | torchscale(1, "layers.1."))
    expected = [f[f"out.state_{i}"] for i in range(3)]
    got = hidden_states(params, TOKENS, config)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_sub_ln_of_torchscale(activation, golden):
    """Sub-LN: pre-LN with a norm of the joined heads and one behind the activation."""
    f = golden(f"torchscale_subln_decoder_layer_{activation}")
    theirs = (
        torchscale(0)
        | norm(0, "attention_residual", "inner_norm", "self_attn.inner_attn_ln")
        | norm(0, "feed_forward_residual", "inner_norm", "ffn.ffn_layernorm")
    )
    check(f, config_of(f, "sub_ln"), theirs)
    check_gains(sub_ln.gains(config_of(f, "sub_ln", n_layers=f["cfg.num_layers"][()])), f)


def test_admin_is_profiled_as_by_its_authors(golden):
    """Transformer-Clinic: ω² = Var[x ⊙ ω] + Var[F], and the profiled stack."""
    f = golden("transformer_clinic_admin_profile_encoder")
    theirs = {}
    for i in range(3):
        prefix = f"layers.{i}."
        theirs |= packed_attention(i, f"{prefix}self_attn.")
        theirs |= linear(i, "feed_forward", "1", f"{prefix}fc1")
        theirs |= linear(i, "feed_forward", "2", f"{prefix}fc2")
        theirs |= norm(i, "attention_residual", "norm", f"{prefix}self_attn_layer_norm")
        theirs |= norm(i, "feed_forward_residual", "norm", f"{prefix}final_layer_norm")
    config = config_of(f, "admin", n_layers=3, causal=False)
    profiled = profile_admin(loaded(f, config, theirs), TOKENS, config)
    omegas = [
        block[f"{name}_residual"]["omega"]
        for block in profiled["blocks"]
        for name in ("attention", "feed_forward")
    ]
    np.testing.assert_allclose(omegas, np.outer(f["out.omega"], np.ones(8)), rtol=1e-12)
    got = hidden_states(profiled, TOKENS, config)[-1]
    np.testing.assert_allclose(got, f["out.y"], rtol=0, atol=1e-12)
