"""PyTorch's recorded layers: values and gradients to 1e-12, absolute and relative to their size."""

import numpy as np
import pytest
from recorded import agree, check

from mgt_np import (
    attention_weights,
    cross_entropy,
    gelu,
    layer_norm,
    multi_head_attention,
    relu,
    rms_norm,
    sigmoid,
    silu,
    softmax,
    value_and_grad,
)
from mgt_np.arrays import to_host


def test_layer_norm(golden, library):
    f = golden("torch_layernorm")
    arrays = f["in.x"], f["w.weight"], f["w.bias"]
    gradients = f["gin.x"], f["gw.weight"], f["gw.bias"]
    eps = float(f["cfg.eps"])
    check(library, lambda *a: layer_norm(*a, eps=eps), arrays, f["out.y"], f["R"], gradients)
    check(library, layer_norm, arrays, f["out.y"], f["R"], gradients)


def test_rms_norm(golden, library):
    f = golden("torch_rmsnorm")
    arrays, gradients = (f["in.x"], f["w.weight"]), (f["gin.x"], f["gw.weight"])
    check(library, rms_norm, arrays, f["out.y"], f["R"], gradients)


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
def test_activations(name, function, golden, library):
    f = golden("torch_activations")
    x, y = f["in.x"], f[f"out.{name}"]
    check(library, function, [x], y, np.ones_like(y), [f[f"gin.{name}"]])
    # In the tail of the second form 1 + tanh cancels, and XLA's tanh rounds otherwise than libm's.
    atol = 1e-15 if (name, library.name) == ("gelu_tanh", "jax") else 1e-300
    np.testing.assert_allclose(to_host(function(library.asarray(x))), y, rtol=1e-8, atol=atol)


def test_softmax(golden, library):
    f = golden("torch_activations")
    check(library, softmax, [f["in.z"]], f["out.softmax"], f["R"], [f["gin.softmax_z"]])


@pytest.mark.parametrize("name", ["torch_mha_full", "torch_mha_causal"])
def test_multi_head_attention(name, golden, library):
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
    check(library, lambda *a: layer(*a, causal=causal), arrays, f["out.y"], f["R"], gradients)
    if causal:
        may_attend = library.asarray(~f["in.attn_mask_true_means_blocked"])
        check(library, lambda *a: layer(*a, mask=may_attend), arrays, f["out.y"], f["R"], gradients)

    W_q, W_k, _, _, b_q, b_k, *_ = weights
    for h in range(n_heads):
        head = slice(h * int(f["cfg.head_dim"]), (h + 1) * int(f["cfg.head_dim"]))
        q, k = (f["in.x"] @ W[:, head] + b[head] for W, b in ((W_q, b_q), (W_k, b_k)))
        weights_of_head = attention_weights(*library.asarray((q, k)), causal=causal)
        agree(weights_of_head, f["out.attn"][:, h])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_cross_entropy(reduction, label_smoothing, golden, library):
    f = golden("torch_cross_entropy")
    name = f"{reduction}_ls{label_smoothing}"
    logits, targets = library.asarray((f["in.logits"], f["in.targets"]))

    def loss(logits):
        return cross_entropy(logits, targets, reduction=reduction, label_smoothing=label_smoothing)

    if reduction == "none":
        return agree(to_host(loss(logits)).reshape(-1), f[f"out.loss_{name}"])
    value, gradient = value_and_grad(loss)(logits)
    agree(value, f[f"out.loss_{name}"])
    return agree(gradient, f[f"gin.logits_{name}"])
