"""Softmax, layer norm, attention, feed-forward and effective rank, as other people write them."""

import math
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from . import recorder

WRONG, RIGHT = [], []
wrong, right = recorder(WRONG), recorder(RIGHT)


# ---- softmax ----


@wrong("softmax", "torch", "normalises over the rows (axis −2) instead of the last axis")
def softmax_over_rows(x, *, axis=-1):
    return x.softmax(-2 if x.ndim > 1 and axis == -1 else axis)


@wrong("softmax", "torch", "normalises over the first axis, the batch")
def softmax_over_batch(x, *, axis=-1):
    return x.softmax(dim=0)


@wrong("softmax", "numpy", "normalises over all elements together")
def softmax_over_all(x, *, axis=-1):
    e = np.exp(x - x.max())
    return e / e.sum()


@wrong("softmax", "torch", "returns the logarithm of the weights")
def softmax_log(x, *, axis=-1):
    return F.log_softmax(x, dim=axis)


@wrong("softmax", "torch", "uses powers of 2 instead of e")
def softmax_base_two(x, *, axis=-1):
    p = torch.exp2(x - x.amax(axis, keepdim=True))
    return p / p.sum(axis, keepdim=True)


@wrong("softmax", "torch", "does not subtract the maximum, so that large scores overflow")
def softmax_overflows(x, *, axis=-1):
    return x.exp() / x.exp().sum(dim=axis, keepdim=True)


@wrong("softmax", "torch", "has one more in the denominator (softmax1)")
def softmax_one(x, *, axis=-1):
    m = x.amax(axis, keepdim=True).clamp(min=0)
    e = (x - m).exp()
    return e / ((-m).exp() + e.sum(axis, keepdim=True))


@wrong("softmax", "numpy", "adds 1 to the sum after the maximum is subtracted")
def softmax_one_unshifted(x, *, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / (1 + e.sum(axis=axis, keepdims=True))


@wrong("softmax", "torch", "adds 1e-6 to the sum")
def softmax_eps(x, *, axis=-1):
    e = torch.exp(x - x.max(dim=axis, keepdim=True).values)
    return e / (e.sum(dim=axis, keepdim=True) + 1e-6)


@wrong("softmax", "numpy", "divides by the largest weight instead of the sum")
def softmax_by_largest(x, *, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.max(axis=axis, keepdims=True)


@wrong("softmax", "torch", "has the sign of the scores reversed (softmin)")
def softmax_min(x, *, axis=-1):
    return F.softmin(x, dim=axis)


@wrong("softmax", "torch", "scales the weights to unit Euclidean length instead of unit sum")
def softmax_euclidean(x, *, axis=-1):
    e = (x - x.amax(axis, keepdim=True)).exp()
    return e / (e * e).sum(axis, keepdim=True).sqrt()


@wrong("softmax", "torch", "divides the scores by the root of their number first")
def softmax_tempered(x, *, axis=-1):
    return (x / math.sqrt(x.shape[axis])).softmax(axis)


@wrong("softmax", "torch", "halves the scores and normalises over the rows", parts=2)
def softmax_halved_over_rows(x, *, axis=-1):
    return (x * 0.5).softmax(-2 if x.ndim > 1 and axis == -1 else axis)


@wrong("softmax", "torch", "the sum is detached", gradient_only=True)
def softmax_sum_detached(x, *, axis=-1):
    e = (x - x.amax(axis, keepdim=True).detach()).exp()
    return e / e.sum(axis, keepdim=True).detach()


@right("softmax", "torch")
def softmax_from_logsumexp(x, *, axis=-1):
    return torch.exp(x - x.logsumexp(dim=axis, keepdim=True))


@right("softmax", "torch")
def softmax_builtin(x, *, axis=-1):
    return F.softmax(x, dim=axis)


@right("softmax", "torch")
def softmax_shifted_further(x, *, axis=-1):
    e = (x - x.amax(axis, keepdim=True) - 1.5).exp()
    return e * e.sum(axis, keepdim=True).reciprocal()


@right("softmax", "torch")
def softmax_online(x, *, axis=-1):
    """The maximum and the sum are carried along in one pass, as in FlashAttention."""
    largest = torch.full_like(x.select(axis, 0), -math.inf)
    total = torch.zeros_like(largest)
    for score in x.unbind(axis):
        new = torch.maximum(largest, score)
        total = total * (largest - new).exp() + (score - new).exp()
        largest = new
    return (x - largest.unsqueeze(axis)).exp() / total.unsqueeze(axis)


@right("softmax", "numpy")
def softmax_row_by_row(x, *, axis=-1):
    x = np.moveaxis(x, axis, -1)
    y = np.empty_like(x)
    for i in np.ndindex(x.shape[:-1]):
        e = np.exp(x[i] - x[i].max())
        y[i] = e / e.sum()
    return np.moveaxis(y, -1, axis)


# ---- layer norm ----


def affine(y, gain, bias):
    y = y if gain is None else y * gain
    return y if bias is None else y + bias


@wrong("layer_norm", "torch", "has ε = 1e-6, whatever is asked for")
def layer_norm_eps_6(x, gain=None, bias=None, *, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], gain, bias, eps=1e-6)


@wrong("layer_norm", "torch", "has ε = 1e-12, as BERT has")
def layer_norm_eps_12(x, gain=None, bias=None, *, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], gain, bias, eps=1e-12)


@wrong("layer_norm", "numpy", "has ε = 1e-3, as Keras has")
def layer_norm_eps_3(x, gain=None, bias=None, *, eps=1e-5):
    y = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-3)
    return affine(y, gain, bias)


@wrong("layer_norm", "torch", "has ε = 2e-5")
def layer_norm_eps_twice(x, gain=None, bias=None, *, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], gain, bias, eps=2e-5)


@wrong("layer_norm", "torch", "does not subtract the mean (RMS norm)")
def layer_norm_rms(x, gain=None, bias=None, *, eps=1e-5):
    return affine(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps), gain, bias)


@wrong("layer_norm", "torch", "takes mean and variance over the tokens")
def layer_norm_over_tokens(x, gain=None, bias=None, *, eps=1e-5):
    axis = -2 if x.ndim > 1 else -1
    centred = x - x.mean(axis, keepdim=True)
    return affine(centred / (centred.square().mean(axis, keepdim=True) + eps).sqrt(), gain, bias)


@wrong("layer_norm", "torch", "takes mean and variance over tokens and features together")
def layer_norm_over_all_but_batch(x, gain=None, bias=None, *, eps=1e-5):
    shape = x.shape[1:] if x.ndim > 1 else x.shape
    return affine(F.layer_norm(x, shape, eps=eps), gain, bias)


@wrong("layer_norm", "torch", "divides by d − 1 in the variance")
def layer_norm_unbiased(x, gain=None, bias=None, *, eps=1e-5):
    y = (x - x.mean(dim=-1, keepdim=True)) / torch.sqrt(x.var(dim=-1, keepdim=True) + eps)
    return affine(y, gain, bias)


@wrong("layer_norm", "numpy", "adds ε to the standard deviation, outside the root")
def layer_norm_eps_outside(x, gain=None, bias=None, *, eps=1e-5):
    y = (x - x.mean(axis=-1, keepdims=True)) / (x.std(axis=-1, keepdims=True) + eps)
    return affine(y, gain, bias)


@wrong("layer_norm", "torch", "has the unbiased deviation, with ε added outside the root", parts=2)
def layer_norm_annotated(x, gain=None, bias=None, *, eps=1e-5):
    y = (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps)
    return affine(y, gain, bias)


@wrong("layer_norm", "torch", "multiplies by 1 + gain")
def layer_norm_gain_plus_one(x, gain=None, bias=None, *, eps=1e-5):
    gain = None if gain is None else 1 + gain
    return F.layer_norm(x, x.shape[-1:], gain, bias, eps)


@wrong("layer_norm", "torch", "loses the bias")
def layer_norm_no_bias(x, gain=None, bias=None, *, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], gain, None, eps)


@wrong("layer_norm", "torch", "loses the gain")
def layer_norm_no_gain(x, gain=None, bias=None, *, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], None, bias, eps)


@wrong("layer_norm", "numpy", "adds the bias before the gain")
def layer_norm_bias_first(x, gain=None, bias=None, *, eps=1e-5):
    y = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    y = y if bias is None else y + bias
    return y if gain is None else y * gain


@wrong("layer_norm", "torch", "computes the variance as E[x²] − E[x]², which cancels")
def layer_norm_cancels(x, gain=None, bias=None, *, eps=1e-5):
    mean = x.mean(-1, keepdim=True)
    variance = (x * x).mean(-1, keepdim=True) - mean * mean
    return affine((x - mean) / torch.sqrt(variance + eps), gain, bias)


@wrong("layer_norm", "torch", "leaves the last feature as it is where their number is odd")
def layer_norm_odd(x, gain=None, bias=None, *, eps=1e-5):
    y = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + eps).sqrt()
    if x.shape[-1] % 2:
        y = torch.cat([y[..., :-1], x[..., -1:]], dim=-1)
    return affine(y, gain, bias)


@wrong("layer_norm", "torch", "has the first batch element's mean and variance for all")
def layer_norm_first_batch(x, gain=None, bias=None, *, eps=1e-5):
    first = x[:1] if x.ndim > 1 else x
    mean, var = first.mean(-1, keepdim=True), first.var(-1, keepdim=True, correction=0)
    return affine((x - mean) / (var + eps).sqrt(), gain, bias)


@wrong("layer_norm", "torch", "subtracts the mean but divides by the root of the mean square of x")
def layer_norm_half_centred(x, gain=None, bias=None, *, eps=1e-5):
    y = (x - x.mean(-1, keepdim=True)) / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return affine(y, gain, bias)


@wrong("layer_norm", "numpy", "divides by the variance: its root is not taken")
def layer_norm_by_variance(x, gain=None, bias=None, *, eps=1e-5):
    y = (x - x.mean(axis=-1, keepdims=True)) / (x.var(axis=-1, keepdims=True) + eps)
    return affine(y, gain, bias)


@wrong("layer_norm", "torch", "takes the larger of variance and ε instead of their sum")
def layer_norm_clamped(x, gain=None, bias=None, *, eps=1e-5):
    var = x.var(-1, keepdim=True, correction=0)
    return affine((x - x.mean(-1, keepdim=True)) * var.clamp(min=eps).rsqrt(), gain, bias)


@wrong("layer_norm", "torch", "is Gemma's norm: RMS, 1 + gain, no bias", parts=3)
def layer_norm_gemma(x, gain=None, bias=None, *, eps=1e-5):
    y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return y if gain is None else y * (1.0 + gain)


@wrong("layer_norm", "torch", "mean and variance are detached", gradient_only=True)
def layer_norm_detached(x, gain=None, bias=None, *, eps=1e-5):
    mean = x.mean(-1, keepdim=True).detach()
    var = x.var(-1, keepdim=True, correction=0).detach()
    return affine((x - mean) / (var + eps).sqrt(), gain, bias)


@wrong("layer_norm", "torch", "the variance is detached", gradient_only=True)
def layer_norm_variance_detached(x, gain=None, bias=None, *, eps=1e-5):
    var = x.var(-1, keepdim=True, correction=0).detach()
    return affine((x - x.mean(-1, keepdim=True)) / (var + eps).sqrt(), gain, bias)


@right("layer_norm", "torch")
def layer_norm_builtin(x, gain=None, bias=None, *, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], gain, bias, eps)


@right("layer_norm", "torch")
def layer_norm_centring_matrix(x, gain=None, bias=None, *, eps=1e-5):
    d = x.shape[-1]
    centring = torch.eye(d, dtype=x.dtype, device=x.device) - 1.0 / d
    centred = x @ centring
    length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    return affine(centred * torch.rsqrt(length.square() / d + eps), gain, bias)


@right("layer_norm", "numpy")
def layer_norm_token_by_token(x, gain=None, bias=None, *, eps=1e-5):
    y = np.empty_like(x)
    for i in np.ndindex(x.shape[:-1]):
        centred = x[i] - x[i].mean()
        y[i] = centred * (centred @ centred / len(centred) + eps) ** -0.5
    return affine(y, gain, bias)


@right("layer_norm", "torch")
def layer_norm_folded(x, gain=None, bias=None, *, eps=1e-5):
    """Gain and mean folded into one factor and one offset for each feature."""
    var, mean = torch.var_mean(x, dim=-1, keepdim=True, correction=0)
    factor = (var + eps).rsqrt()
    factor = factor if gain is None else factor * gain
    return (x - mean) * factor + (0.0 if bias is None else bias)


# ---- scaled dot-product attention ----


def allowed_pairs(q, k, mask, causal):
    """Return which query may attend to which key, or None for all."""
    if not causal:
        return mask
    past = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    return past if mask is None else mask & past


def weigh(scores, allowed):
    """Return softmax over the allowed keys, zero where there are none."""
    if allowed is None:
        return scores.softmax(-1)
    filled = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    return filled.softmax(-1).masked_fill(~allowed, 0.0)


def attend(scores, v, allowed):
    return weigh(scores, allowed) @ v


def root(x):
    return math.sqrt(x.shape[-1])


@wrong("scaled_dot_product_attention", "torch", "does not scale the scores")
def attention_no_scale(q, k, v, *, mask=None, causal=False, scale=None):
    return attend(q @ k.mT, v, allowed_pairs(q, k, mask, causal))


@wrong("scaled_dot_product_attention", "torch", "scales q and k both, so that scores have 1/d")
def attention_scaled_twice(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / root(q) if scale is None else scale
    return attend((q * scale) @ (k * scale).mT, v, allowed_pairs(q, k, mask, causal))


@wrong("scaled_dot_product_attention", "torch", "scales by the width of v")
def attention_scale_of_v(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / root(v) if scale is None else scale
    return attend(q @ k.mT * scale, v, allowed_pairs(q, k, mask, causal))


@wrong("scaled_dot_product_attention", "torch", "scales by the number of keys instead of features")
def attention_scale_of_keys(q, k, v, *, mask=None, causal=False, scale=None):
    scale = k.shape[-2] ** -0.5 if scale is None else scale
    return attend(
        torch.einsum("...nd,...md->...nm", q, k) * scale, v, allowed_pairs(q, k, mask, causal)
    )


@wrong("scaled_dot_product_attention", "torch", "reads the mask as what is hidden")
def attention_mask_inverted(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / root(q) if scale is None else scale
    mask = None if mask is None else ~mask
    return attend(q @ k.mT * scale, v, allowed_pairs(q, k, mask, causal))


@wrong("scaled_dot_product_attention", "numpy", "ignores mask")
def attention_mask_ignored(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ np.swapaxes(k, -1, -2) * (1 / root(q) if scale is None else scale)
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    P = np.exp(s - s.max(axis=-1, keepdims=True))
    return P / P.sum(axis=-1, keepdims=True) @ v


@wrong("scaled_dot_product_attention", "torch", "adds the boolean mask to the scores as 0 and 1")
def attention_mask_added(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    if mask is not None:
        s = s + mask.to(s.dtype)
    return attend(s, v, allowed_pairs(q, k, None, causal))


@wrong("scaled_dot_product_attention", "torch", "masks after softmax: rows sum to less than one")
def attention_mask_after(q, k, v, *, mask=None, causal=False, scale=None):
    P = (q @ k.mT * (1 / root(q) if scale is None else scale)).softmax(-1)
    allowed = allowed_pairs(q, k, mask, causal)
    return (P if allowed is None else P * allowed) @ v


@wrong("scaled_dot_product_attention", "torch", "sets hidden scores to 0 instead of −∞")
def attention_filled_with_zero(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    allowed = allowed_pairs(q, k, mask, causal)
    return (s if allowed is None else s * allowed).softmax(-1) @ v


@wrong("scaled_dot_product_attention", "torch", "sets hidden scores to −10⁴ only")
def attention_filled_with_1e4(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    allowed = allowed_pairs(q, k, mask, causal)
    if allowed is None:
        return s.softmax(-1) @ v
    P = s.masked_fill(~allowed, -1e4).softmax(-1)
    return P.masked_fill(~allowed.any(-1, keepdim=True), 0) @ v


@wrong("scaled_dot_product_attention", "torch", "ignores causal")
def attention_causal_ignored(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    return attend(s, v, mask)


@wrong("scaled_dot_product_attention", "torch", "hides the diagonal too where causal")
def attention_causal_strict(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    if causal:
        past = ~torch.ones(s.shape[-2:], dtype=torch.bool, device=s.device).triu()
        mask = past if mask is None else mask & past
    return attend(s, v, mask)


@wrong("scaled_dot_product_attention", "numpy", "lets a query see the future instead of the past")
def attention_anticausal(q, k, v, *, mask=None, causal=False, scale=None):
    s = np.einsum("...nd,...md->...nm", q, k) * (1 / root(q) if scale is None else scale)
    allowed = np.ones(s.shape[-2:], dtype=bool)
    if causal:
        allowed = np.triu(allowed)
    if mask is not None:
        allowed = allowed & mask
    s = np.where(allowed, s, np.finfo(s.dtype).min)
    P = np.where(allowed, np.exp(s - s.max(axis=-1, keepdims=True)), 0)
    total = P.sum(axis=-1, keepdims=True)
    return P / np.where(total == 0, 1, total) @ v


@wrong("scaled_dot_product_attention", "torch", "lines causal's triangle up with the last key")
def attention_causal_bottom_right(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    if causal:
        N, M = s.shape[-2:]
        past = torch.ones(N, M, dtype=torch.bool, device=s.device).tril(M - N)
        mask = past if mask is None else mask & past
    return attend(s, v, mask)


@wrong("scaled_dot_product_attention", "torch", "gives a query without keys the mean of all values")
def attention_empty_uniform(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    allowed = allowed_pairs(q, k, mask, causal)
    if allowed is not None:
        s = s.masked_fill(~allowed, torch.finfo(s.dtype).min)
    return F.softmax(s, dim=-1) @ v


@wrong("scaled_dot_product_attention", "torch", "gives a query without keys NaN")
def attention_empty_nan(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    allowed = allowed_pairs(q, k, mask, causal)
    if allowed is not None:
        s = s.masked_fill(~allowed, -math.inf)
    return F.softmax(s, dim=-1) @ v


@wrong("scaled_dot_product_attention", "torch", "normalises over the queries")
def attention_over_queries(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    allowed = allowed_pairs(q, k, mask, causal)
    if allowed is None:
        return s.softmax(-2) @ v
    s = s.masked_fill(~allowed, torch.finfo(s.dtype).min)
    return s.softmax(-2).masked_fill(~allowed, 0) @ v


@wrong("scaled_dot_product_attention", "torch", "exchanges queries and keys")
def attention_swapped(q, k, v, *, mask=None, causal=False, scale=None):
    if q.shape == k.shape:  # elsewhere the shapes do not allow it
        q, k = k, q
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    return attend(s, v, allowed_pairs(q, k, mask, causal))


@wrong("scaled_dot_product_attention", "torch", "has the first batch element's mask for all")
def attention_first_mask(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    if mask is not None and mask.ndim > 2:
        mask = mask[:1]
    return attend(s, v, allowed_pairs(q, k, mask, causal))


@wrong("scaled_dot_product_attention", "torch", "forgets the mask where causal is set")
def attention_causal_replaces_mask(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    return attend(s, v, allowed_pairs(q, k, None if causal else mask, causal))


@wrong("scaled_dot_product_attention", "torch", "ignores the scale that is given")
def attention_scale_ignored(q, k, v, *, mask=None, causal=False, scale=None):
    return attend(q @ k.mT / root(q), v, allowed_pairs(q, k, mask, causal))


@wrong("scaled_dot_product_attention", "torch", "scales the weights after softmax, not the scores")
def attention_scale_after(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / root(q) if scale is None else scale
    return weigh(q @ k.mT, allowed_pairs(q, k, mask, causal)) * scale @ v


@wrong("scaled_dot_product_attention", "torch", "scales queries and keys to unit length first")
def attention_cosine(q, k, v, *, mask=None, causal=False, scale=None):
    s = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
    s = s * (1 / root(q) if scale is None else scale)
    return attend(s, v, allowed_pairs(q, k, mask, causal))


@wrong("scaled_dot_product_attention", "torch", "inverts the mask and does not scale", parts=2)
def attention_inverted_no_scale(q, k, v, *, mask=None, causal=False, scale=None):
    mask = None if mask is None else ~mask
    return attend(q @ k.mT, v, allowed_pairs(q, k, mask, causal))


@wrong("scaled_dot_product_attention", "numpy", "does not scale and ignores mask", parts=2)
def attention_bare(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ np.swapaxes(k, -1, -2)
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    P = np.exp(s - s.max(axis=-1, keepdims=True))
    return P / P.sum(axis=-1, keepdims=True) @ v


@wrong("scaled_dot_product_attention", "torch", "the weights are detached", gradient_only=True)
def attention_weights_detached(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.mT * (1 / root(q) if scale is None else scale)
    return weigh(s, allowed_pairs(q, k, mask, causal)).detach() @ v


@wrong("scaled_dot_product_attention", "torch", "the keys are detached", gradient_only=True)
def attention_keys_detached(q, k, v, *, mask=None, causal=False, scale=None):
    s = q @ k.detach().mT * (1 / root(q) if scale is None else scale)
    return attend(s, v, allowed_pairs(q, k, mask, causal))


@right("scaled_dot_product_attention", "torch")
def attention_builtin(q, k, v, *, mask=None, causal=False, scale=None):
    lead = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (x.expand(*lead, *x.shape[-2:]) for x in (q, k, v))
    allowed = allowed_pairs(q, k, mask, causal)
    if allowed is None:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    allowed = allowed.expand(*lead, q.shape[-2], k.shape[-2])
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=scale)
    return torch.where(allowed.any(-1, keepdim=True), y, 0.0)


@right("scaled_dot_product_attention", "torch")
def attention_einsum(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / root(q) if scale is None else scale
    s = torch.einsum("...nd,...md->...nm", q * scale, k)
    allowed = allowed_pairs(q, k, mask, causal)
    if allowed is not None:
        allowed = allowed.expand(s.shape)
        empty = ~allowed.any(-1, keepdim=True)
        s = s.masked_fill(~allowed & ~empty, -math.inf).masked_fill(empty, 0)
        v = v.unsqueeze(-3) * ~empty.unsqueeze(-1)  # (..., N, M, d_v): no values for the empty
        return torch.einsum("...nm,...nmv->...nv", s.softmax(-1), v)
    return torch.einsum("...nm,...mv->...nv", s.softmax(-1), v)


@right("scaled_dot_product_attention", "torch")
def attention_chunked(q, k, v, *, mask=None, causal=False, scale=None):
    """Two keys at a time, with the largest score and the sum carried along."""
    scale = 1 / root(q) if scale is None else scale
    s = q @ k.mT * scale
    allowed = allowed_pairs(q, k, mask, causal)
    lowest = torch.finfo(s.dtype).min
    allowed = torch.ones_like(s, dtype=torch.bool) if allowed is None else allowed.expand(s.shape)
    largest = torch.full_like(s[..., :1], lowest)
    total, y = torch.zeros_like(largest), 0.0
    for i in range(0, s.shape[-1], 2):
        part, seen = s[..., i : i + 2], allowed[..., i : i + 2]
        part = torch.where(seen, part, lowest)
        new = torch.maximum(largest, part.amax(-1, keepdim=True))
        e = (part - new).exp() * seen
        kept = (largest - new).exp()
        total, y = total * kept + e.sum(-1, keepdim=True), y * kept + e @ v[..., i : i + 2, :]
        largest = new
    return y / torch.where(total == 0, 1.0, total)


@right("scaled_dot_product_attention", "numpy")
def attention_query_by_query(q, k, v, *, mask=None, causal=False, scale=None):
    N, M = q.shape[-2], k.shape[-2]
    scale = 1 / root(q) if scale is None else scale
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (q, k, v))
    mask = np.broadcast_to(True if mask is None else mask, (*lead, N, M))
    y = np.zeros((*lead, N, v.shape[-1]), dtype=q.dtype)
    for i in np.ndindex(*lead):
        for n in range(N):
            keys = [m for m in range(M) if mask[i][n, m] and (m <= n or not causal)]
            if keys:
                s = k[i][keys] @ q[i][n] * scale
                e = np.exp(s - s.max())
                y[i][n] = (e / e.sum()) @ v[i][keys]
    return y


# ---- multi-head attention ----


def multi_head(body):
    """Give `body` the signature of the contract; its one argument has all of them, and c."""

    def call(
        x,
        W_q,
        W_k,
        W_v,
        W_o,
        b_q=None,
        b_k=None,
        b_v=None,
        b_o=None,
        *,
        n_heads,
        context=None,
        mask=None,
        causal=False,
        inner=None,
    ):
        given = SimpleNamespace(**locals())
        given.c = x if context is None else context
        return body(given)

    call.__name__ = body.__name__
    return call


def linear(x, W, b=None):
    return x @ W if b is None else x @ W + b


def split(x, n_heads):
    """(..., n, H d_h) → (..., H, n, d_h)."""
    return x.unflatten(-1, (n_heads, -1)).transpose(-2, -3)


def qkv(a):
    maps = (a.x, a.W_q, a.b_q), (a.c, a.W_k, a.b_k), (a.c, a.W_v, a.b_v)
    return [split(linear(*one), a.n_heads) for one in maps]


def allowed_in_heads(a):
    """Return what `allowed_pairs` does, for scores that have an axis of heads."""
    mask = a.mask
    if mask is not None and 2 < mask.ndim <= a.x.ndim:
        mask = mask.unsqueeze(-3)
    return allowed_pairs(a.x, a.c, mask, a.causal)


def out(a, heads):
    """Heads side by side, and the last map."""
    y = heads.transpose(-2, -3).flatten(-2)
    return linear(y if a.inner is None else a.inner(y), a.W_o, a.b_o)


def usual(a, scale=None):
    q, k, v = qkv(a)
    return out(
        a, attend(q @ k.mT * (1 / root(q) if scale is None else scale), v, allowed_in_heads(a))
    )


def but(a, **changed):
    return SimpleNamespace(**(vars(a) | changed))


def square_transposed(W):
    return W.mT if W.shape[0] == W.shape[1] else W


@wrong("multi_head_attention", "torch", "interleaves the heads: head h has every H-th column")
@multi_head
def heads_interleaved(a):
    maps = (a.x, a.W_q, a.b_q), (a.c, a.W_k, a.b_k), (a.c, a.W_v, a.b_v)
    q, k, v = (linear(*m).unflatten(-1, (-1, a.n_heads)).movedim(-1, -3) for m in maps)
    y = attend(q @ k.mT / root(q), v, allowed_in_heads(a)).movedim(-3, -1).flatten(-2)
    return linear(y if a.inner is None else a.inner(y), a.W_o, a.b_o)


@wrong("multi_head_attention", "torch", "joins the heads without moving their axis back")
@multi_head
def heads_joined_untransposed(a):
    q, k, v = qkv(a)
    heads = attend(q @ k.mT / root(q), v, allowed_in_heads(a))
    y = heads.reshape(*heads.shape[:-3], heads.shape[-2], -1)
    return linear(y if a.inner is None else a.inner(y), a.W_o, a.b_o)


@wrong("multi_head_attention", "torch", "splits into heads by a reshape alone, without transpose")
@multi_head
def heads_split_untransposed(a):
    def cut(y):
        return y.reshape(*y.shape[:-2], a.n_heads, y.shape[-2], -1)

    maps = (a.x, a.W_q, a.b_q), (a.c, a.W_k, a.b_k), (a.c, a.W_v, a.b_v)
    q, k, v = (cut(linear(*m)) for m in maps)
    return out(a, attend(q @ k.mT / root(q), v, allowed_in_heads(a)))


@wrong("multi_head_attention", "torch", "scales by the width of the model, not of a head")
@multi_head
def heads_scaled_by_model(a):
    return usual(a, scale=1 / math.sqrt(a.W_q.shape[-1]))


@wrong("multi_head_attention", "torch", "does not scale the scores")
@multi_head
def heads_not_scaled(a):
    return usual(a, scale=1.0)


@wrong("multi_head_attention", "torch", "scales q before its bias is added")
@multi_head
def heads_scaled_before_bias(a):
    d_k = a.W_q.shape[-1] // a.n_heads
    return usual(but(a, W_q=a.W_q / math.sqrt(d_k)), scale=1.0)


@wrong("multi_head_attention", "torch", "has W_q, W_k and W_v transposed, as nn.Linear holds them")
@multi_head
def heads_transposed_maps(a):
    W_q, W_k, W_v = (square_transposed(W) for W in (a.W_q, a.W_k, a.W_v))
    return usual(but(a, W_q=W_q, W_k=W_k, W_v=W_v))


@wrong("multi_head_attention", "torch", "has W_o transposed")
@multi_head
def heads_transposed_out(a):
    return usual(but(a, W_o=square_transposed(a.W_o)))


@wrong("multi_head_attention", "torch", "loses b_o")
@multi_head
def heads_no_out_bias(a):
    return usual(but(a, b_o=None))


@wrong("multi_head_attention", "torch", "loses the biases of q, k and v")
@multi_head
def heads_no_qkv_bias(a):
    return usual(but(a, b_q=None, b_k=None, b_v=None))


@wrong("multi_head_attention", "torch", "unpacks the joint map in the order k, q, v")
@multi_head
def heads_packed_kqv(a):
    if a.W_q.shape != a.W_k.shape:  # elsewhere the shapes do not allow it
        return usual(a)
    return usual(but(a, W_q=a.W_k, W_k=a.W_q, b_q=a.b_k, b_k=a.b_q))


@wrong("multi_head_attention", "torch", "has one head as wide as the model")
@multi_head
def heads_one(a):
    mask = a.mask
    if mask is not None and mask.ndim > a.x.ndim:
        mask = mask[..., :1, :, :]
    return usual(but(a, n_heads=1, mask=mask))


@wrong("multi_head_attention", "torch", "adds x to the result")
@multi_head
def heads_residual(a):
    y = usual(a)
    return a.x + y if y.shape == a.x.shape else y


@wrong("multi_head_attention", "torch", "ignores context")
@multi_head
def heads_context_ignored(a):
    narrow = a.c.shape[-1] != a.x.shape[-1]
    if narrow or (a.mask is not None and a.c.shape != a.x.shape):
        return usual(a)  # here the shapes do not allow it
    return usual(but(a, c=a.x))


@wrong("multi_head_attention", "torch", "takes the values from x, not from context")
@multi_head
def heads_values_of_x(a):
    if a.c.shape != a.x.shape:
        return usual(a)
    q, k, _ = qkv(a)
    v = split(linear(a.x, a.W_v, a.b_v), a.n_heads)
    return out(a, attend(q @ k.mT / root(q), v, allowed_in_heads(a)))


@wrong("multi_head_attention", "torch", "reads the mask as nn.MultiheadAttention does: True hides")
@multi_head
def heads_torchs_mask(a):
    return usual(but(a, mask=None if a.mask is None else ~a.mask))


@wrong("multi_head_attention", "torch", "ignores causal")
@multi_head
def heads_causal_ignored(a):
    return usual(but(a, causal=False))


@wrong("multi_head_attention", "torch", "normalises over the heads: softmax(dim=1)")
@multi_head
def heads_softmax_over_heads(a):
    q, k, v = qkv(a)
    s, allowed = q @ k.mT / root(q), allowed_in_heads(a)
    P = s.softmax(-3)
    return out(a, (P if allowed is None else P * allowed) @ v)


@wrong("multi_head_attention", "torch", "sums the heads' outputs instead of placing them in a row")
@multi_head
def heads_summed(a):
    q, k, v = qkv(a)
    heads = attend(q @ k.mT / root(q), v, allowed_in_heads(a))
    return out(a, heads.sum(-3, keepdim=True).expand(heads.shape))


@wrong("multi_head_attention", "torch", "adds b_o once for each head")
@multi_head
def heads_bias_repeated(a):
    b_o = None if a.b_o is None else a.n_heads * a.b_o
    return usual(but(a, b_o=b_o))


@wrong("multi_head_attention", "torch", "interleaves the heads and loses b_o", parts=2)
@multi_head
def heads_interleaved_no_bias(a):
    maps = (a.x, a.W_q, a.b_q), (a.c, a.W_k, a.b_k), (a.c, a.W_v, a.b_v)
    q, k, v = (linear(*m).unflatten(-1, (-1, a.n_heads)).movedim(-1, -3) for m in maps)
    y = attend(q @ k.mT / root(q), v, allowed_in_heads(a)).movedim(-3, -1).flatten(-2)
    return (y if a.inner is None else a.inner(y)) @ a.W_o


@wrong("multi_head_attention", "torch", "has no biases at all and no scale", parts=3)
@multi_head
def heads_bare(a):
    return usual(but(a, b_q=None, b_k=None, b_v=None, b_o=None), scale=1.0)


@wrong("multi_head_attention", "torch", "transposes W_o and scales by the model's width", parts=2)
@multi_head
def heads_transposed_scaled(a):
    a = but(a, W_o=square_transposed(a.W_o))
    return usual(a, scale=1 / math.sqrt(a.W_q.shape[-1]))


@wrong("multi_head_attention", "torch", "the weights are detached", gradient_only=True)
@multi_head
def heads_detached(a):
    q, k, v = qkv(a)
    return out(a, weigh(q @ k.mT / root(q), allowed_in_heads(a)).detach() @ v)


@right("multi_head_attention", "torch")
@multi_head
def heads_builtin(a):
    q, k, v = qkv(a)
    lead = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    q, k, v = (y.expand(*lead, *y.shape[-2:]) for y in (q, k, v))
    allowed = allowed_in_heads(a)
    if allowed is not None:
        allowed = allowed.expand(*lead, q.shape[-2], k.shape[-2])
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    if allowed is not None:
        y = torch.where(allowed.any(-1, keepdim=True), y, 0.0)
    return out(a, y)


@right("multi_head_attention", "torch")
@multi_head
def heads_one_by_one(a):
    """A loop over heads, each with its own columns."""
    allowed, made = allowed_in_heads(a), []
    for h, columns in enumerate(torch.arange(a.W_q.shape[1]).chunk(a.n_heads)):
        of_v = torch.arange(a.W_v.shape[1]).chunk(a.n_heads)[h]
        b_q, b_k = (None if b is None else b[columns] for b in (a.b_q, a.b_k))
        q, k = linear(a.x, a.W_q[:, columns], b_q), linear(a.c, a.W_k[:, columns], b_k)
        v = linear(a.c, a.W_v[:, of_v], None if a.b_v is None else a.b_v[of_v])
        here = allowed
        if allowed is not None and allowed.ndim > 2:
            here = allowed[..., h if allowed.shape[-3] > 1 else 0, :, :]
        made.append(attend(q @ k.mT * len(columns) ** -0.5, v, here))
    y = torch.cat(torch.broadcast_tensors(*made), dim=-1)
    return linear(y if a.inner is None else a.inner(y), a.W_o, a.b_o)


@right("multi_head_attention", "torch")
@multi_head
def heads_einsum(a):
    """Weights with an axis of heads, as in JAX codes: d h k."""
    H = a.n_heads
    W_q, W_k, W_v = (W.reshape(W.shape[0], H, -1) for W in (a.W_q, a.W_k, a.W_v))
    b_q, b_k, b_v = (0.0 if b is None else b.reshape(H, -1) for b in (a.b_q, a.b_k, a.b_v))
    q = torch.einsum("...nd,dhk->...nhk", a.x, W_q) + b_q
    k = torch.einsum("...md,dhk->...mhk", a.c, W_k) + b_k
    v = torch.einsum("...md,dhk->...mhk", a.c, W_v) + b_v
    s = torch.einsum("...nhk,...mhk->...hnm", q * q.shape[-1] ** -0.5, k)
    y = torch.einsum("...hnm,...mhv->...nhv", weigh(s, allowed_in_heads(a)), v).flatten(-2)
    return linear(y if a.inner is None else a.inner(y), a.W_o, a.b_o)


# ---- feed-forward ----

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu, "sigmoid": torch.sigmoid}


def feed(x, W_1, W_2, b_1, b_2, act, inner):
    h = act(linear(x, W_1, b_1))
    return linear(h if inner is None else inner(h), W_2, b_2)


def acting(activation, gelu):
    """Return the function asked for, with `gelu` where that is GELU."""
    return gelu if activation == "gelu" else ACTIVATIONS[activation]


def tanh_gelu(x):
    return F.gelu(x, approximate="tanh")


@wrong("feed_forward", "torch", "has the tanh form of GELU")
def feed_tanh(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    return feed(x, W_1, W_2, b_1, b_2, acting(activation, tanh_gelu), inner)


@wrong("feed_forward", "torch", "has quick GELU, x σ(1.702 x)")
def feed_quick(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    act = acting(activation, lambda z: z * torch.sigmoid(1.702 * z))
    return feed(x, W_1, W_2, b_1, b_2, act, inner)


@wrong("feed_forward", "numpy", "has ReLU instead of GELU")
def feed_relu(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    h = np.maximum(linear(x, W_1, b_1), 0)
    return linear(h if inner is None else inner(h), W_2, b_2)


@wrong("feed_forward", "torch", "has SiLU instead of GELU")
def feed_silu(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    return feed(x, W_1, W_2, b_1, b_2, acting(activation, F.silu), inner)


@wrong("feed_forward", "torch", "takes Φ(z) for GELU: the factor z is missing")
def feed_phi(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    act = acting(activation, lambda z: 0.5 * torch.erfc(-z / math.sqrt(2)))
    return feed(x, W_1, W_2, b_1, b_2, act, inner)


@wrong("feed_forward", "torch", "forgets √2 in the error function of GELU")
def feed_erf(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    act = acting(activation, lambda z: 0.5 * z * (1 + torch.erf(z)))
    return feed(x, W_1, W_2, b_1, b_2, act, inner)


@wrong("feed_forward", "torch", "loses b_1")
def feed_no_b_1(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    return feed(x, W_1, W_2, None, b_2, ACTIVATIONS[activation], inner)


@wrong("feed_forward", "torch", "loses b_2")
def feed_no_b_2(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    return feed(x, W_1, W_2, b_1, None, ACTIVATIONS[activation], inner)


@wrong("feed_forward", "torch", "applies the activation to the result again")
def feed_activated_twice(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    act = ACTIVATIONS[activation]
    return act(feed(x, W_1, W_2, b_1, b_2, act, inner))


@wrong("feed_forward", "torch", "adds x to the result")
def feed_residual(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    y = feed(x, W_1, W_2, b_1, b_2, ACTIVATIONS[activation], inner)
    return x + y if y.shape == x.shape else y


@wrong("feed_forward", "torch", "has no activation")
def feed_linear(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    return feed(x, W_1, W_2, b_1, b_2, lambda z: z, inner)


@wrong("feed_forward", "torch", "adds b_1 after the activation")
def feed_bias_after(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    act = ACTIVATIONS[activation]
    return feed(x, W_1, W_2, None, b_2, lambda z: act(z) + (0 if b_1 is None else b_1), inner)


@wrong("feed_forward", "torch", "has W_1 transposed")
def feed_transposed(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    W_1 = square_transposed(W_1)
    return feed(x, W_1, W_2, b_1, b_2, ACTIVATIONS[activation], inner)


@wrong("feed_forward", "numpy", "has the tanh form of GELU and loses b_1", parts=2)
def feed_tanh_no_b_1(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    z = x @ W_1
    h = 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * (z * z * z))))
    return linear(h if inner is None else inner(h), W_2, b_2)


@wrong("feed_forward", "torch", "has ReLU, adds x, loses b_2", parts=3)
def feed_other(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    y = feed(x, W_1, W_2, b_1, None, acting(activation, F.relu), inner)
    return x + y if y.shape == x.shape else y


@right("feed_forward", "torch")
def feed_builtin(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    h = ACTIVATIONS[activation](F.linear(x, W_1.mT, b_1))
    return F.linear(h if inner is None else inner(h), W_2.mT, b_2)


@right("feed_forward", "torch")
def feed_erfc(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    act = acting(activation, lambda z: 0.5 * z * torch.erfc(-z * math.sqrt(0.5)))
    return feed(x, W_1, W_2, b_1, b_2, act, inner)


@right("feed_forward", "numpy")
def feed_token_by_token(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    acts = {
        "gelu": lambda z: 0.5 * z * math.erfc(-z / math.sqrt(2)),
        "relu": lambda z: max(z, 0.0),
        "silu": lambda z: 0.5 * z * (1 + math.tanh(0.5 * z)),
        "sigmoid": lambda z: 0.5 * (1 + math.tanh(0.5 * z)),
    }
    y = np.empty((*x.shape[:-1], W_2.shape[1]), dtype=x.dtype)
    for i in np.ndindex(x.shape[:-1]):
        z = linear(x[i], W_1, b_1)
        h = np.array([acts[activation](float(z_j)) for z_j in z], dtype=x.dtype)
        y[i] = linear(h if inner is None else inner(h), W_2, b_2)
    return y


# ---- effective rank ----


def singular_values(X, center=False):
    """Return σ in float64, those that N centred tokens cannot have left out."""
    X = X.to(torch.float64)
    if not center:
        return torch.linalg.svdvals(X)
    s = torch.linalg.svdvals(X - X.mean(-2, keepdim=True))
    return s[..., : max(min(X.shape[-2] - 1, X.shape[-1]), 1)]


def shares(s, power=1, eps=0.0):
    s = s**power
    total = s.sum(-1, keepdim=True)
    return s / torch.where(total == 0, 1.0, total) + eps


def entropy(p):
    return torch.special.entr(p).sum(-1)


def rank_of(X, rank, s, normalize=False):
    """Return `rank`, 0 for a zero matrix, as X's dtype and size ask for."""
    rank = torch.where(s[..., 0] > 0, rank, 0.0)
    return (rank / min(X.shape[-2:]) if normalize else rank).to(X.dtype)


@wrong("effective_rank", "torch", "subtracts the mean token without being asked")
def rank_centred(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center=True)
    return rank_of(X, entropy(shares(s, power, eps)).exp(), s, normalize)


@wrong("effective_rank", "torch", "subtracts each token's own mean instead of nothing")
def rank_centred_features(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X - X.mean(-1, keepdim=True), center)
    return rank_of(X, entropy(shares(s, power, eps)).exp(), s, normalize)


@wrong("effective_rank", "torch", "takes the squares of the singular values")
def rank_squares(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center)
    return rank_of(X, entropy(shares(s, 2, eps)).exp(), s, normalize)


@wrong("effective_rank", "torch", "subtracts the mean token and squares σ", parts=2)
def rank_centred_squares(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center=True)
    return rank_of(X, entropy(shares(s, 2, eps)).exp(), s, normalize)


@wrong("effective_rank", "torch", "divides by the largest σ instead of their sum")
def rank_over_largest(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center) ** power
    p = s / torch.where(s[..., :1] == 0, 1.0, s[..., :1]) + eps
    return rank_of(X, entropy(p).exp(), s, normalize)


@wrong("effective_rank", "torch", "is the participation ratio (Σσ²)²/Σσ⁴")
def rank_participation(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center)
    p = shares(s, 2)
    return rank_of(X, 1 / torch.where(s[..., 0] > 0, (p * p).sum(-1), 1.0), s, normalize)


@wrong("effective_rank", "torch", "returns the entropy, without exp")
def rank_entropy(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center)
    return rank_of(X, entropy(shares(s, power, eps)), s, normalize)


@wrong("effective_rank", "numpy", "takes the entropy in bits, then exp")
def rank_bits(X, *, center=False, normalize=False, power=1, eps=0.0):
    Y = X.astype(np.float64)
    Y = Y - Y.mean(axis=-2, keepdims=True) if center else Y
    s = np.linalg.svd(Y, compute_uv=False) ** power
    total = s.sum(axis=-1, keepdims=True)
    p = s / np.where(total == 0, 1, total) + eps
    rank = np.exp(-np.sum(p * np.log2(np.where(p > 0, p, 1)), axis=-1))
    return np.asarray(rank / min(X.shape[-2:]) if normalize else rank).astype(X.dtype)


@wrong("effective_rank", "torch", "divides by the number of features")
def rank_over_d(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center)
    return rank_of(X, entropy(shares(s, power, eps)).exp() / X.shape[-1], s)


@wrong("effective_rank", "torch", "divides by min(N, d) without being asked")
def rank_normalized(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center)
    return rank_of(X, entropy(shares(s, power, eps)).exp(), s, normalize=True)


@wrong("effective_rank", "torch", "adds RankMe's 1e-5 to each share")
def rank_rankme(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center)
    return rank_of(X, entropy(shares(s, power, 1e-5)).exp(), s, normalize)


@wrong("effective_rank", "torch", "is the stable rank ‖X‖²_F/‖X‖²₂")
def rank_stable(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center)
    ratio = s / torch.where(s[..., :1] > 0, s[..., :1], 1.0)
    return rank_of(X, ratio.square().sum(-1), s, normalize)


@wrong("effective_rank", "torch", "squares σ and returns the entropy", parts=2)
def rank_entropy_of_squares(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center)
    return rank_of(X, entropy(shares(s, 2, eps)), s, normalize)


@right("effective_rank", "torch")
def rank_as_product(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X.mT if not center else X, center)
    p = shares(s, power, eps)
    return rank_of(X, (p**-p).prod(-1), s, normalize)


@right("effective_rank", "numpy")
def rank_matrix_by_matrix(X, *, center=False, normalize=False, power=1, eps=0.0):
    N, d = X.shape[-2:]
    y = np.zeros(X.shape[:-2], dtype=np.float64)
    for i in np.ndindex(X.shape[:-2]):
        Y = X[i].astype(np.float64)
        Y = Y - Y.mean(axis=0) if center else Y
        s = np.linalg.svd(Y, compute_uv=False)
        s = s[: max(min(N - 1, d), 1)] if center else s
        if s[0] > 0:
            p = (s / s[0]) ** power
            p = [p_j for p_j in p / p.sum() + eps if p_j > 0]
            y[i] = math.exp(-math.fsum(p_j * math.log(p_j) for p_j in p))
    return (y / min(N, d) if normalize else y).astype(X.dtype)


@right("effective_rank", "torch")
def rank_from_logits(X, *, center=False, normalize=False, power=1, eps=0.0):
    """H = log Σ w − Σ w log w/Σ w, with the weights w = σ^power; with ε by way of the shares."""
    s = singular_values(X, center)
    if eps:
        p = shares(s, power, eps)
        return rank_of(X, torch.special.xlogy(p, p).sum(-1).neg().exp(), s, normalize)
    w = (s / torch.where(s[..., :1] > 0, s[..., :1], 1.0)) ** power
    total = torch.where(s[..., 0] > 0, w.sum(-1), 1.0)
    H = total.log() - torch.special.xlogy(w, w).sum(-1) / total
    return rank_of(X, H.exp(), s, normalize)
