"""PyTorch's recorded layers: values and gradients to 1e-12, absolute and relative to their size."""

import numpy as np
import pytest

from mgt_np import (
    attention_weights,
    cross_entropy,
    gelu,
    grad,
    layer_norm,
    multi_head_attention,
    relu,
    rms_norm,
    sigmoid,
    silu,
    softmax,
    value_and_grad,
)


def agree(got, expected, tolerance=1e-12):
    assert np.shape(got) == expected.shape
    error = np.max(np.abs(got - expected))
    assert error <= tolerance
    size = np.max(np.abs(expected))
    if size > tolerance:  # the gradient of b_k is zero, recorded as rounding
        assert error <= tolerance * size


def check(function, arrays, y, R, gradients):
    agree(function(*arrays), y)
    found = grad(lambda arrays: (function(*arrays) * R).sum())(list(arrays))
    for got, expected in zip(found, gradients, strict=True):
        agree(got, expected)


def test_layer_norm(golden):
    f = golden("torch_layernorm")
    arrays = f["in.x"], f["w.weight"], f["w.bias"]
    gradients = f["gin.x"], f["gw.weight"], f["gw.bias"]
    eps = float(f["cfg.eps"])
    check(lambda *a: layer_norm(*a, eps=eps), arrays, f["out.y"], f["R"], gradients)
    check(layer_norm, arrays, f["out.y"], f["R"], gradients)


def test_rms_norm(golden):
    f = golden("torch_rmsnorm")
    arrays, gradients = (f["in.x"], f["w.weight"]), (f["gin.x"], f["gw.weight"])
    check(rms_norm, arrays, f["out.y"], f["R"], gradients)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", relu),
        ("gelu_erf", gelu),
        ("gelu_tanh", lambda x: gelu(x, approximate="tanh")),
        ("silu", silu),
        ("sigmoid", sigmoid),
    ],
)
def test_activations(name, function, golden):
    f = golden("torch_activations")
    check(function, [f["in.x"]], f[f"out.{name}"], 1.0, [f[f"gin.{name}"]])
    np.testing.assert_allclose(function(f["in.x"]), f[f"out.{name}"], rtol=1e-8, atol=1e-300)


def test_softmax(golden):
    f = golden("torch_activations")
    check(softmax, [f["in.z"]], f["out.softmax"], f["R"], [f["gin.softmax_z"]])


@pytest.mark.parametrize("name", ["torch_mha_full", "torch_mha_causal"])
def test_multi_head_attention(name, golden):
    """PyTorch packs the rows of q, k, v into one matrix, (out, in)."""
    f, causal = golden(name), name.endswith("causal")

    def unpacked(weights):
        W_q, W_k, W_v = (W.T for W in np.split(weights["in_proj_weight"], 3))
        b_q, b_k, b_v = np.split(weights["in_proj_bias"], 3)
        return W_q, W_k, W_v, weights["out_proj.weight"].T, b_q, b_k, b_v, weights["out_proj.bias"]

    weights = unpacked({key[2:]: leaf for key, leaf in f.items() if key.startswith("w.")})
    gradients = unpacked({key[3:]: leaf for key, leaf in f.items() if key.startswith("gw.")})
    n_heads = int(f["cfg.num_heads"])

    def layer(x, *weights, **options):
        return multi_head_attention(x, *weights, n_heads=n_heads, **options)

    arrays, gradients = (f["in.x"], *weights), (f["gin.x"], *gradients)
    check(lambda *a: layer(*a, causal=causal), arrays, f["out.y"], f["R"], gradients)
    if causal:
        may_attend = ~f["in.attn_mask_true_means_blocked"]
        check(lambda *a: layer(*a, mask=may_attend), arrays, f["out.y"], f["R"], gradients)

    W_q, W_k, _, _, b_q, b_k, *_ = weights
    for h in range(n_heads):
        head = slice(h * int(f["cfg.head_dim"]), (h + 1) * int(f["cfg.head_dim"]))
        q, k = (f["in.x"] @ W[:, head] + b[head] for W, b in ((W_q, b_q), (W_k, b_k)))
        agree(attention_weights(q, k, causal=causal), f["out.attn"][:, h])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_cross_entropy(reduction, label_smoothing, golden):
    f = golden("torch_cross_entropy")
    name = f"{reduction}_ls{label_smoothing}"

    def loss(logits):
        return cross_entropy(
            logits, f["in.targets"], reduction=reduction, label_smoothing=label_smoothing
        )

    if reduction == "none":
        return agree(loss(f["in.logits"]).reshape(-1), f[f"out.loss_{name}"])
    value, gradient = value_and_grad(loss)(f["in.logits"])
    agree(value, f[f"out.loss_{name}"])
    return agree(gradient, f[f"gin.logits_{name}"])
