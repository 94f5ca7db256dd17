"""Bounds and gaps: how fast must attention collapse, in depth, in width, in entropy? Lesson 03."""

import math

from mgt_np.arrays import array_namespace, layer

from .tokens import composite_norm


@layer
def collapse_beta(W_qk: "... d≥1 d", W_v: "... d d_out≥1") -> "...":
    """Return β = ‖W_QK‖₁ ‖W_V‖₁,∞, the size of a head's weights in `log_collapse_bound`.

    ‖W‖₁ is the largest column sum of |W|, ‖W‖₁,∞ the `composite_norm`     (Dong et al., §2.2, as
    secondary texts report). W_QK = W_Q W_Kᵀ; W_O is multiplied into W_V where there are several
    heads. The theorem takes the largest β of all layers and heads. Scales with each of both.
    """
    xp = array_namespace(W_qk, W_v)
    return xp.max(xp.sum(xp.abs(W_qk), axis=-2), axis=-1) * composite_norm(W_v)


@layer
def log_collapse_bound(
    residual: "..., ≥ 0",
    beta: "number | #..., > 0",
    *,
    n_layers: "int ≥ 0",
    d_qk: "int ≥ 1",
    n_heads: "int ≥ 1" = 1,
    gamma: "float > 0" = 1.0,
) -> "...":
    """Return the logarithm of Dong et al.'s bound on what L attention layers leave of res(X).

        ‖res(SAN(X))‖₁,∞ ≤ c^((3^L−1)/2) ‖res(X)‖₁,∞^(3^L),    c = 4γβH/√d_qk

    (2103.03404, theorem 2.2, as secondary texts report it.) One layer is the cubic c ‖res‖³.
    `residual` is ‖res(X)‖₁,∞ and β that of `collapse_beta`; the result is
    −½ log c + 3^L (log ‖res‖ + ½ log c): below log ‖res(X)‖, and so useful, exactly where
    ‖res(X)‖² c < 1, at any depth.
    Versions disagree about γ: the first text has none, γ = 1, our default; a later one has a γ that
    depends on the attention, which nobody states for us. Our own derivation gives, where the logits
    E of res(X) alone spread by Dᵢ = max_j Eᵢⱼ − min_j Eᵢⱼ ≤ 1.256 along every row,
    γ² = (max_j p_j) Σᵢ Dᵢ/maxᵢ Dᵢ with p the attention that equal tokens would pay, at most N, and
    the residual from the best common token on the left, which is up to twice smaller than the one
    from the mean token.
    3^L is cut off at the root of the largest float, where the bound is 0 or infinite anyway.
    """
    xp = array_namespace(residual, beta)
    half_log_c = 0.5 * (_log(xp, beta) + math.log(4.0 * gamma * n_heads / math.sqrt(d_qk)))
    power = float(min(3**n_layers, math.sqrt(float(xp.finfo(residual.dtype).max))))
    return (xp.log(residual) + half_log_c) * power - half_log_c


@layer
def spectral_gap(P: "... m≥2 n≥2, finite") -> "...":
    """Return the gap between the two largest singular values, σ₁ − σ₂.

    (2410.07799: of attention weights at the start, it grows to 1 with the number of tokens.)
    Uniform attention has 1, P = I has 0.
    """
    sigma = array_namespace(P).linalg.svdvals(P)
    return sigma[..., 0] - sigma[..., 1]


@layer
def attention_entropy_bound(sigma: "..., ≥ 0", n_keys: "int ≥ 2") -> "...":
    """Return the least entropy of attention whose logits are no longer than σ, in nats.

        log(1 + (T−1)e^{−Δ}) + Δ (T−1)e^{−Δ}/(1 + (T−1)e^{−Δ}),    Δ = σ √(T/(T−1))

    (Zhai et al., 2303.06296, theorem 3.1, as we know it, with σ = ‖W_K W_Qᵀ‖₂ ‖XXᵀ‖₂, times the
    scale of the logits where there is one: a bound for the length of each row of them.)
    T = n_keys; log T at σ = 0, about T σ e^{−σ} where σ is large. It is attained by one logit that
    leads the others, all equal, by Δ.
    """
    xp = array_namespace(sigma)
    lead = sigma * math.sqrt(n_keys / (n_keys - 1))
    others = xp.exp(-lead) * (n_keys - 1)
    return xp.log1p(others) + lead * others / (1.0 + others)


def _log(xp, x):
    return math.log(x) if isinstance(x, int | float) else xp.log(x)
