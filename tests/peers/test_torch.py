"""PyTorch's own encoder layers beside our decoder: the last state and every gradient."""

import numpy as np
import pytest

from mgt_np import (
    TransformerConfig,
    hidden_states,
    init_transformer,
    layer_norm,
    value_and_grad,
)
from mgt_np.arrays import tree_map

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

D, HEADS, FF, LAYERS, TOKENS = 12, 3, 20, 3, 7


def encoder(params, rule, activation):
    """PyTorch's encoder with our weights: its matrices are ours transposed, q, k, v in one."""
    layer = torch.nn.TransformerEncoderLayer(
        D,
        HEADS,
        FF,
        dropout=0.0,
        activation=activation,
        batch_first=True,
        norm_first=rule == "pre_ln",
        dtype=torch.float64,
    )
    last = torch.nn.LayerNorm(D, dtype=torch.float64) if rule == "pre_ln" else None
    stack = torch.nn.TransformerEncoder(layer, LAYERS, norm=last, enable_nested_tensor=False)
    stack.load_state_dict(in_torchs_names(params))
    return stack


def in_torchs_names(params):
    """Our tree as PyTorch's state dict; of gradients as well."""
    norms, found = {"attention": "norm1", "feed_forward": "norm2"}, {}
    for i, block in enumerate(params["blocks"]):
        W, F = block["attention"], block["feed_forward"]
        found |= {
            f"layers.{i}.self_attn.in_proj_weight": np.hstack([W["W_q"], W["W_k"], W["W_v"]]).T,
            f"layers.{i}.self_attn.in_proj_bias": np.hstack([W["b_q"], W["b_k"], W["b_v"]]),
            f"layers.{i}.self_attn.out_proj.weight": W["W_o"].T,
            f"layers.{i}.self_attn.out_proj.bias": W["b_o"],
            f"layers.{i}.linear1.weight": F["W_1"].T,
            f"layers.{i}.linear1.bias": F["b_1"],
            f"layers.{i}.linear2.weight": F["W_2"].T,
            f"layers.{i}.linear2.bias": F["b_2"],
        }
        for name, norm in norms.items():
            of_norm = block[f"{name}_residual"]["norm"]
            found[f"layers.{i}.{norm}.weight"] = of_norm["gain"]
            found[f"layers.{i}.{norm}.bias"] = of_norm["bias"]
    if "final_norm" in params:
        found |= {"norm.weight": params["final_norm"]["gain"]}
        found |= {"norm.bias": params["final_norm"]["bias"]}
    return {name: torch.tensor(np.ascontiguousarray(x)) for name, x in found.items()}


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "both ways"])
@pytest.mark.parametrize("rule", ["post_ln", "pre_ln"])
def test_the_decoder_is_pytorchs_encoder(rule, causal, activation, rng):
    config = TransformerConfig(
        vocab_size=11,
        d_model=D,
        n_heads=HEADS,
        n_layers=LAYERS,
        d_ff=FF,
        max_tokens=TOKENS,
        residual=rule,
        activation=activation,
        causal=causal,
    )
    params = init_transformer(rng, config)
    params = tree_map(lambda x: x + 0.3 * rng.standard_normal(x.shape), params)
    tokens, R = rng.integers(0, 11, (2, TOKENS)), rng.standard_normal((2, TOKENS, D))

    def ours(params):
        x = hidden_states(params, tokens, config)[-1]
        return layer_norm(x, **params["final_norm"]) if rule == "pre_ln" else x

    def scalar(params):
        return (ours(params) * R).sum()

    _, gradients = value_and_grad(scalar)(params)

    theirs = encoder(params, rule, activation)
    x = torch.tensor(params["tokens"][tokens] + params["positions"], requires_grad=True)
    future = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1) if causal else None
    y = theirs(x, mask=future, is_causal=causal)
    (y * torch.tensor(R)).sum().backward()

    np.testing.assert_allclose(ours(params), y.detach().numpy(), rtol=0, atol=1e-12)
    expected = dict(theirs.named_parameters())
    found = in_torchs_names(gradients)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        size = float(expected[name].grad.abs().max())
        error = float((gradient - expected[name].grad).abs().max())
        assert error <= 1e-12 * max(size, 1.0), name
    of_positions = x.grad.sum(0).numpy()
    np.testing.assert_allclose(gradients["positions"], of_positions, rtol=0, atol=1e-11)
