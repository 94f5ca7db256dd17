"""The Manifold-Geometric Transformer's update (2601.01014): gate, β, geometric update.

The full text of the paper could not be read; the equations are those of its later versions (v2/v3)
as secondary texts report them. The paper calls the gate "mHC"; it is one stream and a sigmoid, not
DeepSeek's manifold-constrained hyper-connections. Lesson 07.
"""

from mgt_np.arrays import array_namespace, layer
from mgt_np.arrays.initial import constants, normals

from .activations import sigmoid
from .linear import linear
from .normalization import init_layer_norm, layer_norm


@layer(d="features")
def tangent_gate(
    x: "... d≥1", W_gate: "d d", gain: "d" = None, bias: "d" = None, *, eps: "float ≥ 0" = 1e-5
) -> "... d":
    """Return, for each feature, the fraction of the sub-layer's output that passes.

        g = σ(LN(x W_gate))                                               (MGT)

    in (0, 1): the "soft" stand-in for a projection on the tangent space at x. Layer norm comes
    after the linear map; `gain`, `bias` and `eps` are its own, and whether the paper's has gain and
    bias is not known. W_gate = 0 gives σ(bias), ½ without bias. The gate is no projection: it is
    not idempotent.
    """
    return sigmoid(layer_norm(linear(x, W_gate), gain, bias, eps=eps))


def _one_beta(W_beta, b_beta, **_):
    """Hold b_β to the width of W_β: one β a token, or one a channel."""
    wide, got = W_beta.shape[-1], b_beta.shape[-1]
    return None if got == wide else f"expected b_beta as wide as W_beta, {wide}, got {got}"


@layer(requires=_one_beta, d="features")
def mgt_beta(
    x: "... d≥1", W_beta: "d 1 | d d", b_beta: "1 | d", *, lam: "number", eps: "number"
) -> "... 1 | ... d":
    """Return the step size and sign of the geometric update.

        β = λ tanh(x W_β + b_β) + ε                                       (MGT)

    in (ε − λ, ε + λ). W_β (d, 1) and b_β (1) give one β per token, W_β (d, d) and b_β (d) one per
    channel: the paper's "β ⊙" allows both. The paper gives no values for λ and ε, so they have no
    default. W_β = 0, b_β = 0 give β = ε; λ = ε = 1 give DDL's gate with its logit doubled,
    1 + tanh z = 2σ(2z).
    """
    xp = array_namespace(x, W_beta, b_beta, lam, eps)
    return lam * xp.tanh(linear(x, W_beta, b_beta)) + eps


@layer(d="features")
def geometric_update(
    x: "... d", v: "... d", beta: "number | #... 1 | #... d", alpha: "number | 1 | d"
) -> "... d":
    """Return the state after a part of it is erased and the rectified output is written.

        x' = x + β ⊙ (v − α x) = (1 − αβ) ⊙ x + β ⊙ v                     (MGT v2/v3)

    For β > 0 a part αβ of the state is erased; β < 0 amplifies the state and subtracts v (summaries
    of the paper say the reverse). The linear part does not grow for 0 ≤ αβ ≤ 2. β = 0 gives x;
    β = 1, α = 0 the plain residual x + v; β = α = 1 gives v. v1 writes α Proj_x(x) for αx; onto the
    span of x that is the same.
    """
    return x + beta * (v - alpha * x)


@layer(requires=_one_beta, d="features")
def mgt_residual(
    x: "... d≥1",
    v_raw: "... d",
    W_gate: "d d",
    W_beta: "d 1 | d d",
    b_beta: "1 | d",
    alpha: "number | 1 | d",
    gain: "d" = None,
    bias: "d" = None,
    *,
    lam: "number",
    eps: "number",
) -> "... d":
    """Return the state x updated with a sub-layer's output: gate, β and geometric update in one.

        x' = x + β ⊙ (v_raw ⊙ σ(LN(x W_gate)) − α x),    β = λ tanh(x W_β + b_β) + ε     (MGT)

    `gain` and `bias` belong to the layer norm of `tangent_gate`; `eps` is the ε of β. b_β = 0,
    W_β = 0, ε = 0 give x.
    """
    gate = tangent_gate(x, W_gate, gain, bias)
    beta = mgt_beta(x, W_beta, b_beta, lam=lam, eps=eps)
    return geometric_update(x, v_raw * gate, beta, alpha)


@layer
def init_mgt_residual(
    rng: "generator",
    d: "int ≥ 1",
    *,
    beta_per: "'token' | 'channel'" = "token",
    b_beta: "float" = 0.05,
    alpha: "float" = 0.1,
    scale: "'lecun' | float ≥ 0" = "lecun",
    beta_scale: "float ≥ 0" = 0.0,
    dtype: "dtype" = "float64",
):
    """Return the parameters of `mgt_residual` for states of width d, as NumPy arrays.

    W_gate from N(0, scale²), W_beta from N(0, beta_scale²), gain 1, bias 0, `b_beta` and `alpha` as
    given: with W_beta = 0, the default, β = λ tanh(b_beta) + ε for every token at the start.
    `beta_per` is "token" for one β a token, "channel" for one a feature. The paper gives no initial
    values. Ours make small steps, since L steps keep a part (1 − αβ)^L of the embedding: the
    experiment `phase-diagram` shows what larger ones do. They are not those that train best: the
    experiment `initialization-sensitivity` has the loss of 12 layers beside other values.
    """
    width = 1 if beta_per == "token" else d
    params = normals(rng, scale, dtype, W_gate=(d, d)) | constants(0.0, dtype, W_beta=(d, width))
    if beta_scale != 0.0:  # nothing is drawn otherwise
        params |= normals(rng, beta_scale, dtype, W_beta=(d, width))
    params |= constants(b_beta, dtype, b_beta=width) | constants(alpha, dtype, alpha=())
    return params | init_layer_norm(d, dtype=dtype)
