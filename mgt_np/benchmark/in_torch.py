"""The decoder in PyTorch's own functions, eager and compiled."""

import functools
import time

import numpy as np
import torch
import torch.nn.functional as F

from mgt_np.arrays import leaves_with_paths
from mgt_np.arrays.trees import leaves_of, rebuild
from mgt_np.models import RESIDUAL_RULES

from .implementations import ADAMW, CLIP, Implementation
from .packing import packed, unpacked
from .rules import rules


def _norm(x, gain, bias):
    return F.layer_norm(x, x.shape[-1:], gain, bias, 1e-5)


def _gate(x, p):
    return torch.sigmoid(_norm(F.linear(x, p["W_gate"]), p["gain"], p["bias"]))


def _beta(x, p, config):
    return config.mgt_lam * torch.tanh(F.linear(x, p["W_beta"], p["b_beta"])) + config.mgt_eps


RULES = rules(_norm, _gate, _beta)


def _attention(x, p, n_heads):
    *batch, n, d = x.shape
    qkv = F.linear(x, p["W_qkv"], p["b_qkv"]).view(*batch, n, 3, n_heads, d // n_heads)
    q, k, v = qkv.transpose(-2, -4).unbind(-3)  # each (..., n_heads, n, d_head)
    heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.linear(heads.transpose(-2, -3).reshape(x.shape), p["W_o"], p["b_o"])


def _feed_forward(x, p):
    return F.linear(F.gelu(F.linear(x, p["W_1"], p["b_1"])), p["W_2"], p["b_2"])


def _block(x, p, config):
    update = RULES[config.residual]
    attention = functools.partial(_attention, p=p["attention"], n_heads=config.n_heads)
    x = update(x, attention, p["attention_residual"], config)
    feed_forward = functools.partial(_feed_forward, p=p["feed_forward"])
    return update(x, feed_forward, p["feed_forward_residual"], config)


def _logits(params, tokens, config, block):
    x = F.embedding(tokens, params["tokens"]) + params["positions"][: tokens.shape[-1]]
    for p in params["blocks"]:
        x = block(x, p, config)
    if RESIDUAL_RULES[config.residual].final_norm:
        x = _norm(x, **params["final_norm"])
    return F.linear(x, params["W_out"])


def build(config, params, tokens, *, compiled=False):
    start = packed(params)
    params, back = _leaves(start)
    tokens = torch.as_tensor(tokens)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    # One block, compiled once for all layers: the whole of a hundred takes minutes to compile.
    block = torch.compile(_block, dynamic=False) if compiled else _block

    def loss(params):
        logits = _logits(params, inputs, config, block)
        return F.cross_entropy(logits.flatten(0, -2), targets.flatten())

    def training():
        own, _ = _leaves(start)  # AdamW writes into them
        return _training(_step(loss, own), leaves_of(own))

    @torch.inference_mode()
    def forward():
        return _logits(params, inputs, config, block)

    return Implementation(_step(loss, params), forward, back, training, compiles=compiled)


def build_compiled(config, params, tokens):
    return build(config, params, tokens, compiled=True)


def _step(loss, params):
    leaves = leaves_of(params)

    def step():
        for leaf in leaves:
            leaf.grad = None
        value = loss(params)
        value.backward()
        return value.detach(), [leaf.grad for leaf in leaves]

    return step


def _training(step, leaves):
    optimizer = torch.optim.AdamW(leaves, **ADAMW)

    def whole_step():
        value, _ = step()
        start = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(leaves, CLIP)
        optimizer.step()
        seconds = time.perf_counter() - start
        return value, [leaf.detach() for leaf in leaves], seconds

    return whole_step


def _leaves(params):
    """The parameters as leaves with matrices (out, in), and the way back for their gradients."""

    def turned(path, x):
        return np.ascontiguousarray(x.T) if "['W_" in path else x

    paths = [path for path, _ in leaves_with_paths(params)]

    def back(loss, gradients):
        arrays = (turned(*pair) for pair in zip(paths, (g.numpy() for g in gradients), strict=True))
        return loss.item(), unpacked(rebuild(params, arrays))

    tensors = (
        torch.tensor(turned(path, x), requires_grad=True) for path, x in leaves_with_paths(params)
    )
    return rebuild(params, tensors), back
