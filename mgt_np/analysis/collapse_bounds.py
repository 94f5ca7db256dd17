"""Bounds and gaps: how fast must attention collapse, in depth, in width, in entropy?"""

import math

from mgt_np.arrays import operands
from mgt_np.arrays.checks import at_least

from .tokens import composite_norm


def collapse_beta(W_qk, W_v):
    """Return β = ‖W_QK‖₁ ‖W_V‖₁,∞, the size of a head's weights in `log_collapse_bound`.

    ‖W‖₁ is the largest column sum of |W|, ‖W‖₁,∞ the `composite_norm`     (Dong et al., §2.2, as
    secondary texts report). Shapes: W_QK = W_Q W_Kᵀ (..., d, d), W_V (..., d, d_out), with W_O
    multiplied in where there are several heads; result (...). The theorem wants the largest β of
    all layers and heads. Scales with each of both. Raises ValueError for fewer than two axes.
    """
    xp, W_qk, W_v = operands(W_qk=W_qk, W_v=W_v)
    at_least(2, W_qk=W_qk, W_v=W_v)
    return xp.max(xp.sum(xp.abs(W_qk), axis=-2), axis=-1) * composite_norm(W_v)


def log_collapse_bound(residual, beta, *, n_layers, d_qk, n_heads=1, gamma=1.0):
    """Return the logarithm of Dong et al.'s bound on what L attention layers leave of res(X).

        ‖res(SAN(X))‖₁,∞ ≤ c^((3^L−1)/2) ‖res(X)‖₁,∞^(3^L),    c = 4γβH/√d_qk

    (2103.03404, theorem 2.2, as secondary texts report it.) One layer is the cubic c ‖res‖³.
    Shapes: residual = ‖res(X)‖₁,∞ (...) > 0, β (...) or a number from `collapse_beta`; result
    (...), −½ log c + 3^L (log ‖res‖ + ½ log c): below log ‖res(X)‖, and so of any use, exactly
    where ‖res(X)‖² c < 1, at any depth.
    Versions disagree about γ: the first text has none, γ = 1, our default; a later one has a γ that
    depends on the attention, which nobody states for us. Our own derivation gives, where the logits
    E of res(X) alone spread by Dᵢ = max_j Eᵢⱼ − min_j Eᵢⱼ ≤ 1.256 along every row,
    γ² = (max_j p_j) Σᵢ Dᵢ/maxᵢ Dᵢ with p the attention that equal tokens would pay, at most N, and
    the residual from the best common token on the left, which is up to twice smaller than the one
    from the mean token.
    3^L is cut off at the root of the largest float, where the bound is 0 or infinite anyway.
    Raises ValueError for a number of layers or heads that is no integer ≥ 0.
    """
    for name, value in (("n_layers", n_layers), ("n_heads", n_heads)):
        if not hasattr(value, "__index__") or value < 0:
            raise ValueError(f"expected {name} to be an integer ≥ 0, got {value!r}")
    xp, residual, beta = operands(residual=residual, beta=beta)
    half_log_c = 0.5 * (_log(xp, beta) + math.log(4.0 * gamma * n_heads / math.sqrt(d_qk)))
    power = float(min(3**n_layers, math.sqrt(float(xp.finfo(residual.dtype).max))))
    return (xp.log(residual) + half_log_c) * power - half_log_c


def spectral_gap(P):
    """Return the gap between the two largest singular values, σ₁ − σ₂.

    (2410.07799: of attention weights at the start, it grows to 1 with the number of tokens.)
    Shapes: P (..., m, n) with m, n ≥ 2; result (...). Uniform attention has 1, P = I has 0.
    Raises ValueError for anything smaller.
    """
    xp, P = operands(P=P)
    if P.ndim < 2 or min(P.shape[-2:]) < 2:
        raise ValueError(f"expected P to be a matrix of 2 × 2 or more, got {tuple(P.shape)}")
    sigma = xp.linalg.svdvals(P)
    return sigma[..., 0] - sigma[..., 1]


def attention_entropy_bound(sigma, n_keys):
    """Return the least entropy of attention whose logits are no longer than σ, in nats.

        log(1 + (T−1)e^{−Δ}) + Δ (T−1)e^{−Δ}/(1 + (T−1)e^{−Δ}),    Δ = σ √(T/(T−1))

    (Zhai et al., 2303.06296, theorem 3.1, as we know it, with σ = ‖W_K W_Qᵀ‖₂ ‖XXᵀ‖₂, times the
    scale of the logits where there is one: a bound for the length of each row of them.)
    Shapes: σ (...) ≥ 0, T = n_keys ≥ 2; result (...): log T at σ = 0, about T σ e^{−σ} where σ is
    large. It is attained by one logit that leads the others, all equal, by Δ. Raises ValueError for
    `n_keys` below 2.
    """
    if not hasattr(n_keys, "__index__") or n_keys < 2:
        raise ValueError(f"expected n_keys to be an integer ≥ 2, got {n_keys!r}")
    xp, sigma = operands(sigma=sigma)
    lead = sigma * math.sqrt(n_keys / (n_keys - 1))
    others = xp.exp(-lead) * (n_keys - 1)
    return xp.log1p(others) + lead * others / (1.0 + others)


def _log(xp, x):
    return math.log(x) if isinstance(x, int | float) else xp.log(x)
