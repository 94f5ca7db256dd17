"""Attention on tokens that are nearly equal: their common token and their residual kept apart."""

import math

from mgt_np.arrays import array_namespace, largest, layer


@layer(d="features", N="tokens")
def separated_attention(
    common: "... d",
    residual: "... N≥1 d",
    W_q: "d n_heads·d_k≥1",
    W_k: "d n_heads·d_k",
    W_v: "d n_heads·d_v",
    W_o: "n_heads·d_v d_out",
    *,
    n_heads: "int ≥ 1",
) -> "(... d_out, ... N d_out)":
    """Return the mean token and the `token_residual` of one attention layer on X = 1 cᵀ + R.

    Both are exact to rounding however small the residual R is beside the common token c: their sum
    is `multi_head_attention` of X, in which R may be below the rounding error of c. In each head

        P − 1 pᵀ = 1 pᵀ ⊙ (Y − y)/(1 + y),    p = softmax(c W_q (R W_k)ᵀ/√d_k),    Y = e^E − 1

    where E = R W_q (R W_k)ᵀ/√d_k, y = Y p, since the logits that differ between the queries are E
    and those that are the same for all keys change nothing. The residual of the head is that of
    (P − 1 pᵀ) R W_v, of third order in R; all else is common. (Own derivation.)
    Meant for small R: e^E overflows where logits differ by hundreds.
    """
    xp = array_namespace(common, residual, W_q, W_k, W_v, W_o)
    scale = math.sqrt(n_heads / W_q.shape[1])
    token = xp.expand_dims(common, axis=-2)
    q, k, v = (_split(xp, xp.matmul(residual, W), n_heads) for W in (W_q, W_k, W_v))
    of_common = xp.matmul(_split(xp, xp.matmul(token, W_q), n_heads), xp.matrix_transpose(k))
    p = _softmax(xp, of_common * scale)
    Y = xp.expm1(xp.matmul(q, xp.matrix_transpose(k)) * scale)
    y = xp.sum(p * Y, axis=-1, keepdims=True)
    left = xp.matmul(_joined(xp, xp.matmul(p * (Y - y) / (1.0 + y), v)), W_o)
    same = xp.matmul(xp.matmul(token, W_v) + _joined(xp, xp.matmul(p, v)), W_o)
    mean = xp.mean(left, axis=-2, keepdims=True)
    return xp.squeeze(same + mean, axis=-2), left - mean


def _softmax(xp, x):
    weights = xp.exp(x - largest(xp, x, -1))
    return weights / xp.sum(weights, axis=-1, keepdims=True)


def _split(xp, x, n_heads):
    """(..., N, H d_h) → (..., H, N, d_h)."""
    return xp.moveaxis(xp.reshape(x, (*x.shape[:-1], n_heads, x.shape[-1] // n_heads)), -2, -3)


def _joined(xp, heads):
    """(..., H, N, d_h) → (..., N, H d_h)."""
    x = xp.moveaxis(heads, -3, -2)
    return xp.reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1]))
