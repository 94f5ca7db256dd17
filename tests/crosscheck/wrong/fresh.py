"""Mistakes expected of a student, or of an engineer in a hurry, by a reader of the docstrings.

Nobody who wrote these had read which readings the cross-check knows.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from . import Wrong

WRONG = []


def wrong(function, library, mistake, parts=1, gradient_only=False):
    """Return a decorator that enters an implementation in `WRONG`."""

    def enter(call):
        WRONG.append(Wrong(function, library, call, mistake, parts, gradient_only))
        return call

    return enter


# softmax


@wrong("softmax", "torch", "The scores are divided by the root of their number first.")
def softmax_scaled(x, *, axis=-1):
    return torch.softmax(x / math.sqrt(x.shape[axis]), dim=axis)


@wrong("softmax", "torch", "Weights under 1e-4 are raised to it, and not divided again.")
def softmax_with_a_floor(x, *, axis=-1):
    return torch.softmax(x, dim=axis).clamp(min=1e-4)


@wrong("softmax", "numpy", "The largest of all scores is subtracted, not the largest of each row.")
def softmax_of_one_maximum(x, *, axis=-1):
    e = np.exp(x - np.max(x))
    with np.errstate(invalid="ignore"):
        return e / np.sum(e, axis=axis, keepdims=True)


# layer_norm


@wrong("layer_norm", "torch", "It divides by the variance, not by its root.")
def layer_norm_by_variance(x, gain=None, bias=None, *, eps=1e-5):
    centred = x - x.mean(-1, keepdim=True)
    y = centred / (centred.square().mean(-1, keepdim=True) + eps)
    y = y if gain is None else y * gain
    return y if bias is None else y + bias


@wrong("layer_norm", "torch", "The mean is not subtracted, though the variance is about the mean.")
def layer_norm_not_centred(x, gain=None, bias=None, *, eps=1e-5):
    y = x / torch.sqrt(x.var(-1, keepdim=True, correction=0) + eps)
    y = y if gain is None else y * gain
    return y if bias is None else y + bias


@wrong("layer_norm", "numpy", "The mean absolute deviation is used for the standard deviation.")
def layer_norm_by_mean_deviation(x, gain=None, bias=None, *, eps=1e-5):
    centred = x - np.mean(x, axis=-1, keepdims=True)
    y = centred / np.sqrt(np.mean(np.abs(centred), axis=-1, keepdims=True) ** 2 + eps)
    y = y if gain is None else y * gain
    return y if bias is None else y + bias


# scaled_dot_product_attention


def allowed_of(scores, mask, causal):
    n_queries, n_keys = scores.shape[-2:]
    allowed = torch.ones_like(scores, dtype=torch.bool)
    if causal:
        allowed = allowed & torch.ones(n_queries, n_keys, dtype=torch.bool).tril()
    return allowed if mask is None else allowed & torch.as_tensor(mask)


def weights_of(scores, mask, causal):
    """Right: the softmax of what is allowed, zero where nothing is."""
    allowed = allowed_of(scores, mask, causal)
    weights = torch.softmax(scores.masked_fill(~allowed, -torch.inf), dim=-1)
    return torch.where(allowed.any(-1, keepdim=True), weights, torch.zeros_like(weights))


@wrong("scaled_dot_product_attention", "torch", "The scale is applied twice: to q and to scores.")
def attention_scaled_twice(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = (q * scale) @ k.mT * scale
    return weights_of(scores, mask, causal) @ v


@wrong("scaled_dot_product_attention", "torch", "Queries and keys are scaled to unit length.")
def attention_of_cosines(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * scale
    return weights_of(scores, mask, causal) @ v


@wrong("scaled_dot_product_attention", "torch", "One is added to the sum of each row of weights.")
def attention_off_by_one(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.mT * scale
    scores = scores.masked_fill(~allowed_of(scores, mask, causal), -torch.inf)
    with_nobody = torch.cat([torch.zeros_like(scores[..., :1]), scores], dim=-1)
    return torch.softmax(with_nobody, dim=-1)[..., 1:] @ v


@wrong("scaled_dot_product_attention", "torch", "The scores are computed in bfloat16, for speed.")
def attention_in_bfloat16(q, k, v, *, mask=None, causal=False, scale=None):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = (q.bfloat16() @ k.bfloat16().mT).to(q.dtype) * scale
    return weights_of(scores, mask, causal) @ v


# multi_head_attention


def heads_of(x, W, b, n_heads):
    """(..., heads, N, d of a head), of contiguous blocks of columns."""
    y = x @ W if b is None else x @ W + b
    return y.unflatten(-1, (n_heads, -1)).transpose(-2, -3)


def head_mask(mask, x):
    """A mask with one axis fewer than the scores' holds for all heads."""
    mask = torch.as_tensor(mask)
    return mask.unsqueeze(-3) if 2 < mask.ndim <= x.ndim else mask


def joined(heads, W_o, b_o, inner):
    y = heads.transpose(-2, -3).flatten(-2)
    y = y if inner is None else inner(y)
    return y @ W_o if b_o is None else y @ W_o + b_o


@wrong("multi_head_attention", "torch", "The scale is one over the root of the number of heads.")
def heads_scaled_by_their_number(
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
    c = x if context is None else context
    q, k = heads_of(x, W_q, b_q, n_heads), heads_of(c, W_k, b_k, n_heads)
    mask = mask if mask is None else head_mask(mask, x)
    weights = weights_of(q @ k.mT / math.sqrt(n_heads), mask, causal)
    return joined(weights @ heads_of(c, W_v, b_v, n_heads), W_o, b_o, inner)


@wrong("multi_head_attention", "torch", "The weights of attention are averaged over the heads.")
def heads_share_mean_weights(
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
    c = x if context is None else context
    q, k = heads_of(x, W_q, b_q, n_heads), heads_of(c, W_k, b_k, n_heads)
    mask = mask if mask is None else head_mask(mask, x)
    weights = weights_of(q @ k.mT / math.sqrt(q.shape[-1]), mask, causal)
    weights = weights.mean(-3, keepdim=True)
    return joined(weights @ heads_of(c, W_v, b_v, n_heads), W_o, b_o, inner)


@wrong("multi_head_attention", "torch", "The softmax runs over the heads, not over the keys.")
def softmax_over_heads(
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
    c = x if context is None else context
    q, k = heads_of(x, W_q, b_q, n_heads), heads_of(c, W_k, b_k, n_heads)
    mask = mask if mask is None else head_mask(mask, x)
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    allowed = allowed_of(scores, mask, causal)
    weights = torch.softmax(scores, dim=-3) * allowed
    return joined(weights @ heads_of(c, W_v, b_v, n_heads), W_o, b_o, inner)


# feed_forward

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "sigmoid": torch.sigmoid, "silu": F.silu}


@wrong("feed_forward", "torch", "The activation is left out.")
def feed_forward_linear(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    h = x @ W_1 if b_1 is None else x @ W_1 + b_1
    h = h if inner is None else inner(h)
    return h @ W_2 if b_2 is None else h @ W_2 + b_2


@wrong("feed_forward", "torch", "GELU's erf is taken of x, not of x/√2.")
def feed_forward_erf_of_x(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    h = x @ W_1 if b_1 is None else x @ W_1 + b_1
    h = 0.5 * h * (1 + torch.erf(h)) if activation == "gelu" else ACTIVATIONS[activation](h)
    h = h if inner is None else inner(h)
    return h @ W_2 if b_2 is None else h @ W_2 + b_2


@wrong("feed_forward", "numpy", "GELU by tanh, with 0.44715 for 0.044715.", parts=2)
def feed_forward_mistyped(x, W_1, W_2, b_1=None, b_2=None, *, activation="gelu", inner=None):
    h = x @ W_1 if b_1 is None else x @ W_1 + b_1
    if activation == "gelu":
        h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.44715 * h**3)))
    elif activation == "relu":
        h = np.maximum(h, 0)
    else:
        s = 0.5 * (1 + np.tanh(h / 2))
        h = h * s if activation == "silu" else s
    h = h if inner is None else inner(h)
    return h @ W_2 if b_2 is None else h @ W_2 + b_2


# unit_direction


@wrong("unit_direction", "torch", "It divides by the largest feature, not by the length.")
def direction_by_largest(k, *, eps=1e-5, placement="inside"):
    length = k.abs().amax(-1, keepdim=True)
    if placement == "outside":
        return k / (length + eps)
    return k / torch.sqrt(length**2 + eps**2)


@wrong("unit_direction", "numpy", "The length is taken over all tokens together.")
def direction_of_all(k, *, eps=1e-5, placement="inside"):
    length = np.sqrt(np.sum(k * k))
    return k / (length + eps if placement == "outside" else np.sqrt(length**2 + eps**2))


# delta_update


def column(beta, like):
    """β with two axes more, whether a number or one of each token."""
    return torch.as_tensor(beta, dtype=like.dtype)[..., None, None]


@wrong("delta_update", "torch", "β scales k on both sides, so that it erases by β².")
def delta_beta_twice(X, k, v, beta):
    scaled = column(beta, X) * k[..., :, None]
    return X + scaled @ (v[..., None, :] - scaled.mT @ X)


@wrong("delta_update", "torch", "The factor 2 of a reflection is put before β.")
def delta_as_reflection(X, k, v, beta):
    held = k[..., None, :] @ X
    return X + 2 * column(beta, X) * k[..., :, None] * (v[..., None, :] - held)


@wrong("delta_update", "numpy", "β is clipped to [0, 1].")
def delta_beta_clipped(X, k, v, beta):
    beta = np.clip(beta, 0, 1)[..., None, None].astype(X.dtype)
    return X + beta * k[..., :, None] * (v[..., None, :] - k[..., None, :] @ X)


# deep_delta_residual


def ddl_parts(x, k, W_v, W_beta, b_v, b_beta, context, v_input, eps):
    """k̂, β and v, right."""
    unit = k / torch.sqrt(k.square().sum(-1, keepdim=True) + eps**2)
    z = context @ W_beta if b_beta is None else context @ W_beta + b_beta
    v = (x if v_input is None else v_input) @ W_v
    return unit, 2 * torch.sigmoid(z), v if b_v is None else v + b_v


@wrong("deep_delta_residual", "torch", "k̂ᵀx is a mean over the features, not a sum.")
def ddl_mean_for_sum(x, k, W_v, W_beta, b_v=None, b_beta=None, *, context, v_input=None, eps=1e-5):
    unit, beta, v = ddl_parts(x, k, W_v, W_beta, b_v, b_beta, context, v_input, eps)
    return x + beta * (v - (unit * x).mean(-1, keepdim=True)) * unit


@wrong("deep_delta_residual", "torch", "β is cut off at 1, for stability.")
def ddl_beta_at_most_one(
    x, k, W_v, W_beta, b_v=None, b_beta=None, *, context, v_input=None, eps=1e-5
):
    unit, beta, v = ddl_parts(x, k, W_v, W_beta, b_v, b_beta, context, v_input, eps)
    return x + beta.clamp(max=1.0) * (v - (unit * x).sum(-1, keepdim=True)) * unit


@wrong("deep_delta_residual", "torch", "β reads k, not the context.")
def ddl_beta_of_k(x, k, W_v, W_beta, b_v=None, b_beta=None, *, context, v_input=None, eps=1e-5):
    unit, beta, v = ddl_parts(x, k, W_v, W_beta, b_v, b_beta, k, v_input, eps)
    return x + beta * (v - (unit * x).sum(-1, keepdim=True)) * unit


# sinkhorn


def matrix_scaled(Z, n_iters):
    for _ in range(n_iters):
        Z = Z.log_softmax(-2).log_softmax(-1)
    return Z.exp()


@wrong("sinkhorn", "torch", "An iteration is one division: columns and rows take turns.")
def sinkhorn_half_steps(logits, *, n_iters=20):
    for t in range(n_iters):
        logits = logits.log_softmax(-2 if t % 2 == 0 else -1)
    return logits.exp()


@wrong("sinkhorn", "torch", "Each iterate is averaged with the one before it.")
def sinkhorn_damped(logits, *, n_iters=20):
    M = torch.exp(logits - logits.amax((-2, -1), keepdim=True))
    for _ in range(n_iters):
        step = M / M.sum(-2, keepdim=True)
        step = step / step.sum(-1, keepdim=True)
        M = (M + step) / 2
    return M


@wrong("sinkhorn", "numpy", "The entries are |Z|, not exp(Z).")
def sinkhorn_of_absolute_values(logits, *, n_iters=20):
    M = np.abs(logits)
    for _ in range(n_iters):
        M = M / M.sum(-2, keepdims=True)
        M = M / M.sum(-1, keepdims=True)
    return M


# mhc_update


@wrong("mhc_update", "torch", "As in a highway: what is written to a stream leaves it first.")
def update_as_highway(X, y, H_post, H_res):
    gate = H_post[..., :, None]
    return (1 - gate) * (H_res @ X) + gate * y[..., None, :]


@wrong("mhc_update", "torch", "The mixed streams are divided by their number.")
def update_mean_of_mixed(X, y, H_post, H_res):
    return H_res @ X / X.shape[-2] + H_post[..., :, None] * y[..., None, :]


# mhc_coefficients


def mhc_logits(X, params):
    n, x = X.shape[-2], X.flatten(-2)
    x = x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-20)
    x = x if params.get("gain") is None else x * params["gain"]
    pre, post, res = (params[f"alpha_{p}"] * (x @ params[f"phi_{p}"]) for p in PARTS)
    return pre, post, res.unflatten(-1, (n, n))


PARTS = ("pre", "post", "res")


def mhc_parts(X, params, n_iters):
    pre, post, res = mhc_logits(X, params)
    H_res = matrix_scaled(res + params["b_res"], 20 if n_iters is None else n_iters)
    return torch.sigmoid(pre + params["b_pre"]), 2 * torch.sigmoid(post + params["b_post"]), H_res


@wrong("mhc_coefficients", "torch", "Sinkhorn's iteration is given σ of the logits for exp.")
def coefficients_sigmoid_for_exp(X, params, *, convention="paper", n_iters=None):
    H_pre, H_post, _ = mhc_parts(X, params, n_iters)
    M = torch.sigmoid(mhc_logits(X, params)[2] + params["b_res"])
    return H_pre, H_post, matrix_scaled(M.log(), 20 if n_iters is None else n_iters)


@wrong("mhc_coefficients", "torch", "The biases of H_pre and H_post are added after the sigmoid.")
def coefficients_bias_outside(X, params, *, convention="paper", n_iters=None):
    pre, post, _ = mhc_logits(X, params)
    H_res = mhc_parts(X, params, n_iters)[2]
    return pre.sigmoid() + params["b_pre"], 2 * (post.sigmoid() + params["b_post"]), H_res


@wrong("mhc_coefficients", "torch", "α is taken for a logarithm: exp(α) scales the products.")
def coefficients_log_alpha(X, params, *, convention="paper", n_iters=None):
    scales = {f"alpha_{part}": torch.exp(params[f"alpha_{part}"]) for part in PARTS}
    return mhc_parts(X, params | scales, n_iters)


# mhc_connection


@wrong("mhc_connection", "torch", "H_pre reads the normalised streams, not the streams.")
def connection_reads_normed(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = mhc_parts(X, params, n_iters)
    normed = X / X.square().mean((-2, -1), keepdim=True).sqrt()
    y = sublayer((H_pre[..., None, :] @ normed).squeeze(-2))
    return H_res @ X + H_post[..., None] * y[..., None, :]


@wrong("mhc_connection", "torch", "H_res mixes the streams twice.")
def connection_mixed_twice(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = mhc_parts(X, params, n_iters)
    y = sublayer((H_pre[..., None, :] @ X).squeeze(-2))
    return H_res @ (H_res @ X) + H_post[..., None] * y[..., None, :]


@wrong(
    "mhc_connection", "torch", "The coefficients are computed without gradient.", gradient_only=True
)
def connection_without_gradient(X, sublayer, params, *, convention="paper", n_iters=None):
    with torch.no_grad():
        H_pre, H_post, H_res = mhc_parts(X, params, n_iters)
    y = sublayer((H_pre[..., None, :] @ X).squeeze(-2))
    return H_res @ X + H_post[..., None] * y[..., None, :]


# hyper_connection


def hyper_parts(X, params, dynamic, norm, tanh):
    A_m, B, A_r = params["A_m"], params["B"], params["A_r"]
    if not dynamic:
        return (A_m, B, A_r), (0.0, 0.0, 0.0)
    gain, bias = params.get("gain"), params.get("bias")
    if norm == "layer":
        N = F.layer_norm(X, X.shape[-1:], gain, bias)
    else:
        N = X / X.square().mean(-1, keepdim=True).sqrt()
        N = N if gain is None else N * gain
    z = [N @ params["W_m"][:, 0], N @ params["W_beta"][:, 0], N @ params["W_r"]]
    z = [torch.tanh(each) for each in z] if tanh else z
    scales = (params["s_alpha"], params["s_beta"], params["s_alpha"])
    return (A_m, B, A_r), tuple(s * each for s, each in zip(scales, z, strict=True))


def hyper_update(X, sublayer, A_m, B, A_r):
    y = sublayer((A_m[..., None, :] @ X).squeeze(-2))
    return A_r.mT @ X + B[..., :, None] * y[..., None, :]


@wrong("hyper_connection", "torch", "The sub-layer reads a softmax of 𝒜_m.")
def hyper_softmax_reads(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    static, moving = hyper_parts(X, params, dynamic, norm, tanh)
    A_m, B, A_r = (s + m for s, m in zip(static, moving, strict=True))
    return hyper_update(X, sublayer, A_m.softmax(-1), B, A_r)


@wrong("hyper_connection", "torch", "The dynamic part multiplies the static one: A (1 + s tanh z).")
def hyper_multiplied(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    static, moving = hyper_parts(X, params, dynamic, norm, tanh)
    A_m, B, A_r = (s * (1 + m) for s, m in zip(static, moving, strict=True))
    return hyper_update(X, sublayer, A_m, B, A_r)


@wrong("hyper_connection", "torch", "The dynamic part of 𝒜_r is averaged over the streams.")
def hyper_mix_of_mean_stream(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    static, (m, b, r) = hyper_parts(X, params, dynamic, norm, tanh)
    r = r.mean(-2, keepdim=True) if dynamic else r
    A_m, B, A_r = (s + m for s, m in zip(static, (m, b, r), strict=True))
    return hyper_update(X, sublayer, A_m, B, A_r)


# tangent_gate, mgt_beta, geometric_update, mgt_residual


@wrong("tangent_gate", "torch", "The complement is returned: what is held back, 1 − g.")
def gate_complement(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return 1 - torch.sigmoid(F.layer_norm(x @ W_gate, x.shape[-1:], gain, bias, eps))


@wrong("tangent_gate", "torch", "The sigmoid is the hard one, piecewise linear.")
def gate_hard_sigmoid(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return F.hardsigmoid(F.layer_norm(x @ W_gate, x.shape[-1:], gain, bias, eps))


@wrong("tangent_gate", "torch", "The linear map has a residual: LN(x + x W).")
def gate_with_residual(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return torch.sigmoid(F.layer_norm(x + x @ W_gate, x.shape[-1:], gain, bias, eps))


@wrong("mgt_beta", "numpy", "ε is scaled too: λ (tanh z + ε).")
def beta_scaled_eps(x, W_beta, b_beta, *, lam, eps):
    return lam * (np.tanh(x @ W_beta + b_beta) + eps)


@wrong("mgt_beta", "torch", "The bias is added after tanh.")
def beta_bias_outside(x, W_beta, b_beta, *, lam, eps):
    return lam * (torch.tanh(x @ W_beta) + b_beta) + eps


@wrong("geometric_update", "torch", "What was just written is erased with the rest.")
def update_erases_afterwards(x, v, beta, alpha):
    written = x + beta * v
    return written - beta * alpha * written


@wrong("geometric_update", "torch", "α x is taken for α times the projection of x onto v.")
def update_erases_projection(x, v, beta, alpha):
    along = (x * v).sum(-1, keepdim=True) / (v * v).sum(-1, keepdim=True)
    return x + beta * (v - alpha * along * v)


@wrong("mgt_residual", "torch", "The gate is a softmax over the features.")
def residual_softmax_gate(
    x, v_raw, W_gate, W_beta, b_beta, alpha, gain=None, bias=None, *, lam, eps
):
    gate = torch.softmax(F.layer_norm(x @ W_gate, x.shape[-1:], gain, bias), dim=-1)
    beta = lam * torch.tanh(x @ W_beta + b_beta) + eps
    return x + beta * (v_raw * gate - alpha * x)


@wrong("mgt_residual", "torch", "β reads the layer norm of x.")
def residual_beta_of_norm(
    x, v_raw, W_gate, W_beta, b_beta, alpha, gain=None, bias=None, *, lam, eps
):
    gate = torch.sigmoid(F.layer_norm(x @ W_gate, x.shape[-1:], gain, bias))
    beta = lam * torch.tanh(F.layer_norm(x, x.shape[-1:]) @ W_beta + b_beta) + eps
    return x + beta * (v_raw * gate - alpha * x)


@wrong("mgt_residual", "torch", "The gate lets pass its own complement: v_raw (1 − g).")
def residual_complement(x, v_raw, W_gate, W_beta, b_beta, alpha, gain=None, bias=None, *, lam, eps):
    gate = torch.sigmoid(F.layer_norm(x @ W_gate, x.shape[-1:], gain, bias))
    beta = lam * torch.tanh(x @ W_beta + b_beta) + eps
    return x + beta * (v_raw - v_raw * gate - alpha * x)


@wrong("mgt_residual", "torch", "β is detached.", gradient_only=True)
def residual_beta_detached(
    x, v_raw, W_gate, W_beta, b_beta, alpha, gain=None, bias=None, *, lam, eps
):
    gate = torch.sigmoid(F.layer_norm(x @ W_gate, x.shape[-1:], gain, bias))
    beta = lam * torch.tanh(x @ W_beta + b_beta).detach() + eps
    return x + beta * (v_raw * gate - alpha * x)


# effective_rank


def singular_values(X, center):
    X = X - X.mean(-2, keepdim=True) if center else X
    return torch.linalg.svdvals(X)


@wrong("effective_rank", "torch", "The stable rank is returned: Σσ² over the largest σ².")
def rank_stable(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center)
    rank = s.square().sum(-1) / s.square().amax(-1)
    return rank / min(X.shape[-2:]) if normalize else rank


@wrong("effective_rank", "torch", "It counts the singular values above 1 % of the largest.")
def rank_by_counting(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center)
    rank = (s > 0.01 * s.amax(-1, keepdim=True)).sum(-1).to(X.dtype)
    return rank / min(X.shape[-2:]) if normalize else rank


@wrong("effective_rank", "numpy", "The features are centred for each token, over the wrong axis.")
def rank_centred_by_token(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = np.linalg.svd(X - X.mean(axis=-1, keepdims=True), compute_uv=False) ** power
    p = s / s.sum(axis=-1, keepdims=True) + eps
    rank = np.exp(-np.sum(p * np.log(np.where(p > 0, p, 1)), axis=-1))
    return rank / min(X.shape[-2:]) if normalize else rank


@wrong("effective_rank", "torch", "The singular values of all the batch share one sum.")
def rank_of_pooled_values(X, *, center=False, normalize=False, power=1, eps=0.0):
    s = singular_values(X, center) ** power
    p = s / s.sum() + eps
    rank = torch.exp(-(p * torch.log(torch.where(p > 0, p, 1.0))).sum(-1))
    return rank / min(X.shape[-2:]) if normalize else rank
