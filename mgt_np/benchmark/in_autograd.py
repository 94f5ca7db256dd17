"""The decoder in plain autograd: `autograd.numpy`, the equations as they stand."""

import functools

import autograd
import autograd.numpy as np

from mgt_np.arrays import normal_cdf
from mgt_np.models import RESIDUAL_RULES

from .implementations import Implementation
from .rules import rules

try:
    from autograd.scipy.special import erf
except ImportError:  # autograd has an erf only where SciPy is installed

    def _gelu(x):
        return x * normal_cdf(x)

else:

    def _gelu(x):
        return 0.5 * x * (1.0 + erf(x * 0.5**0.5))


def _norm(x, gain, bias):
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * gain + bias


def _sigmoid(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _gate(x, p):
    return _sigmoid(_norm(x @ p["W_gate"], p["gain"], p["bias"]))


def _beta(x, p, config):
    return config.mgt_lam * np.tanh(x @ p["W_beta"] + p["b_beta"]) + config.mgt_eps


RULES = rules(_norm, _gate, _beta)


def _attention(x, p, n_heads, future):
    *batch, n, d = x.shape

    def split(y):
        return np.swapaxes(np.reshape(y, (*batch, n, n_heads, d // n_heads)), -2, -3)

    q, k, v = (split(x @ p[f"W_{name}"] + p[f"b_{name}"]) for name in "qkv")
    scores = q @ np.swapaxes(k, -1, -2) * (n_heads / d) ** 0.5 + future
    weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    heads = weights / np.sum(weights, axis=-1, keepdims=True) @ v
    return np.reshape(np.swapaxes(heads, -2, -3), x.shape) @ p["W_o"] + p["b_o"]


def _feed_forward(x, p):
    return _gelu(x @ p["W_1"] + p["b_1"]) @ p["W_2"] + p["b_2"]


def _logits(params, tokens, future, config):
    update = RULES[config.residual]
    x = params["tokens"][tokens] + params["positions"][: tokens.shape[-1]]
    for block in params["blocks"]:
        attention = functools.partial(
            _attention, p=block["attention"], n_heads=config.n_heads, future=future
        )
        x = update(x, attention, block["attention_residual"], config)
        feed_forward = functools.partial(_feed_forward, p=block["feed_forward"])
        x = update(x, feed_forward, block["feed_forward_residual"], config)
    if RESIDUAL_RULES[config.residual].final_norm:
        x = _norm(x, **params["final_norm"])
    return x @ params["W_out"]


def build(config, params, tokens):
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    n, dtype = inputs.shape[-1], params["tokens"].dtype
    future = np.triu(np.full((n, n), np.finfo(dtype).min / 2.0, dtype=dtype), k=1)
    places = np.arange(targets.size), targets.ravel()

    @autograd.value_and_grad
    def loss(params):
        logits = _logits(params, inputs, future, config)
        shifted = logits - np.max(logits, axis=-1, keepdims=True)
        log_p = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
        return -np.mean(np.reshape(log_p, (-1, log_p.shape[-1]))[places])

    return Implementation(
        lambda: loss(params),
        lambda: _logits(params, inputs, future, config),
        lambda loss, gradients: (float(loss), gradients),
    )
