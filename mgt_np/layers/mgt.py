"""The Manifold-Geometric Transformer's update (2601.01014): gate, β, geometric update.

The full text of the paper could not be read; the equations are those of its later versions (v2/v3)
as secondary texts report them. The paper calls the gate "mHC"; it is one stream and a sigmoid, not
DeepSeek's manifold-constrained hyper-connections.
"""

from mgt_np.arrays import (
    as_rows,
    fusable,
    in_blocks,
    operands,
    sum_of_features,
    sum_of_rows,
)
from mgt_np.arrays.checks import at_least, number, one_of, same_size
from mgt_np.arrays.initial import constant, normal

from .activations import sigmoid
from .linear import fit_linear, linear
from .normalization import layer_norm, normalized, normalized_gradient


@fusable
def tangent_gate(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    """Say for each feature how much of a sub-layer's output to let through.

        g = σ(LN(x W_gate))                                               (MGT)

    the "soft" stand-in for a projection on the tangent space at x. Layer norm comes after the
    linear map; `gain`, `bias` and `eps` are its own, and whether the paper's has gain and bias is
    not known. Shapes: x (..., d), W_gate (d, d), gain (d), bias (d); result (..., d) in (0, 1).
    W_gate = 0 gives σ(bias), ½ without bias. The gate is no projection: it is not idempotent.
    """
    logits = linear(x, W_gate, name="W_gate")
    same_size("features", **{"x": x.shape[-1], "W_gate (columns)": logits.shape[-1]})
    return sigmoid(layer_norm(logits, gain, bias, eps=eps))


@fusable
def mgt_beta(x, W_beta, b_beta, *, lam, eps):
    """Return the step size and sign of the geometric update.

        β = λ tanh(x W_β + b_β) + ε                                       (MGT)

    Shapes: x (..., d); W_beta (d, 1) and b_beta (1) give one β per token, (..., 1); W_beta (d, d)
    and b_beta (d) one per channel, (..., d): the paper's "β ⊙" allows both. Range: (ε − λ, ε + λ).
    The paper gives no values for λ and ε, so they have no default. W_β = 0, b_β = 0 give β = ε;
    λ = ε = 1 give DDL's gate with its logit doubled, 1 + tanh z = 2σ(2z).
    """
    lam, eps = number(lam), number(eps)
    xp, x, W_beta, b_beta, lam, eps = operands(x=x, W_beta=W_beta, b_beta=b_beta, lam=lam, eps=eps)
    at_least(1, x=x)
    if W_beta.ndim != 2 or W_beta.shape[-1] not in (1, x.shape[-1]):
        raise ValueError(
            f"expected W_beta to have 1 or {x.shape[-1]} columns, got shape {tuple(W_beta.shape)}"
        )
    logits = linear(x, W_beta, b_beta, name="W_beta")
    return lam * xp.tanh(logits) + eps


def geometric_update(x, v, beta, alpha):
    """Erase a part of the state and write the rectified sub-layer output.

        x' = x + β ⊙ (v − α x) = (1 − αβ) ⊙ x + β ⊙ v                     (MGT v2/v3)

    Shapes: x, v (..., d); β (..., 1), (..., d) or a number; α a number, 0-d, (1) or (d).
    For β > 0 a part αβ of the state is erased; β < 0 amplifies the state and subtracts v (summaries
    of the paper say the reverse). The linear part does not grow for 0 ≤ αβ ≤ 2. β = 0 gives x;
    β = 1, α = 0 the plain residual x + v; β = α = 1 gives v.
    v1 writes α Proj_x(x) for αx; onto the span of x that is the same.
    """
    _, x, v, beta, alpha = operands(x=x, v=v, beta=beta, alpha=alpha)
    at_least(1, x=x, v=v)
    d = x.shape[-1]
    same_size("features", x=d, v=v.shape[-1])
    for name, factor in (("beta", beta), ("alpha", alpha)):
        if not isinstance(factor, int | float) and factor.ndim and factor.shape[-1] not in (1, d):
            raise ValueError(
                f"expected {name} to have 1 or {d} features, got shape {tuple(factor.shape)}"
            )
    return x + beta * (v - alpha * x)


@fusable
def mgt_residual(x, v_raw, W_gate, W_beta, b_beta, alpha, gain=None, bias=None, *, lam, eps):
    """Update the state x with a sub-layer's output: gate, β and geometric update in one.

        x' = x + β ⊙ (v_raw ⊙ σ(LN(x W_gate)) − α x),    β = λ tanh(x W_β + b_β) + ε     (MGT)

    Shapes as in `tangent_gate` (whose layer norm owns `gain` and `bias`), `mgt_beta` and
    `geometric_update`; `eps` is the ε of β. b_β = 0, W_β = 0, ε = 0 give x.
    """
    _, x, v_raw, W_gate, W_beta, b_beta, alpha, gain, bias = operands(
        x=x,
        v_raw=v_raw,
        W_gate=W_gate,
        W_beta=W_beta,
        b_beta=b_beta,
        alpha=alpha,
        gain=gain,
        bias=bias,
    )
    at_least(1, x=x, v_raw=v_raw)
    same_size("features", x=x.shape[-1], v_raw=v_raw.shape[-1])
    gate = tangent_gate(x, W_gate, gain, bias)
    beta = mgt_beta(x, W_beta, b_beta, lam=lam, eps=eps)
    return geometric_update(x, v_raw * gate, beta, alpha)


def _gate(xp, x, W_gate, gain, bias, eps):
    """The gate g, and x̂ and 1/√(σ² + ε) of its layer norm."""
    normed, scale = normalized(xp, xp.matmul(x, W_gate), eps)
    gate = normed * 0.5 if gain is None else normed * (gain * 0.5)
    if bias is not None:
        gate += bias * 0.5
    gate = xp.tanh(gate)  # σ(z) = ½(1 + tanh z/2)
    gate += 1.0
    gate *= 0.5
    return gate, normed, scale


def _gate_gradient(xp, dg, gate, normed, scale, gain, sums):
    """The gradient of x W_gate, given g's; those of gain and bias are added to `sums`."""
    dg = dg * gate
    dg *= 1.0 - gate
    sums["gain"].append(sum_of_rows(xp, dg * normed))
    sums["bias"].append(sum_of_rows(xp, dg))
    return normalized_gradient(xp, dg if gain is None else dg * gain, normed, scale)


def _gate_fits(x, W_gate, gain, bias):
    fits = fit_linear(x, W_gate, gain) and fit_linear(x, W_gate, bias)
    return fits and W_gate.shape[0] == W_gate.shape[1]


def _tangent_gate_forward(xp, x, W_gate, gain, bias, *, eps):
    if not _gate_fits(x, W_gate, gain, bias):
        return None
    gate, normed, scale = in_blocks(lambda x: _gate(xp, x, W_gate, gain, bias, eps), x)
    return gate, (x, W_gate, gain, bias, gate, normed, scale)


def _tangent_gate_backward(xp, g, x, W_gate, gain, bias, gate, normed, scale):
    sums = {"gain": [], "bias": []}
    d_logits = in_blocks(
        lambda *rows: _gate_gradient(xp, *rows, gain, sums), g, gate, normed, scale
    )
    return (
        xp.matmul(d_logits, xp.matrix_transpose(W_gate)),
        xp.matmul(xp.matrix_transpose(as_rows(xp, x)), as_rows(xp, d_logits)),
        None if gain is None else sum(sums["gain"]),
        None if bias is None else sum(sums["bias"]),
    )


tangent_gate.fuse(_tangent_gate_forward, _tangent_gate_backward)


def _unit(xp, x, W_beta, b_beta):
    return xp.tanh(xp.matmul(x, W_beta) + b_beta)


def _beta_fits(x, W_beta, b_beta, lam, eps):
    fits = fit_linear(x, W_beta, b_beta) and W_beta.shape[1] in (1, x.shape[-1])
    return fits and all(type(x) in (int, float) for x in (lam, eps))


def _mgt_beta_forward(xp, x, W_beta, b_beta, *, lam, eps):
    if not _beta_fits(x, W_beta, b_beta, lam, eps):
        return None
    unit = _unit(xp, x, W_beta, b_beta)
    return lam * unit + eps, (x, W_beta, unit, lam)


def _mgt_beta_backward(xp, g, x, W_beta, unit, lam):
    d_unit = g * (lam * (1.0 - unit * unit))
    return (
        xp.matmul(d_unit, xp.matrix_transpose(W_beta)),
        xp.matmul(xp.matrix_transpose(as_rows(xp, x)), as_rows(xp, d_unit)),
        sum_of_rows(xp, d_unit),
    )


mgt_beta.fuse(_mgt_beta_forward, _mgt_beta_backward)


def _mgt_forward(xp, x, v_raw, W_gate, W_beta, b_beta, alpha, gain, bias, *, lam, eps):
    if (
        tuple(x.shape) != tuple(v_raw.shape)
        or not _gate_fits(x, W_gate, gain, bias)
        or not _beta_fits(x, W_beta, b_beta, lam, eps)
        or tuple(alpha.shape) not in ((), (1,), (x.shape[-1],))
    ):
        return None

    def of_rows(x, v):
        gate, normed, scale = _gate(xp, x, W_gate, gain, bias, 1e-5)
        unit = _unit(xp, x, W_beta, b_beta)
        step = v * gate
        step -= alpha * x
        step *= lam * unit + eps
        step += x
        return step, gate, normed, scale, unit

    y, *saved = in_blocks(of_rows, x, v_raw)
    return y, (x, v_raw, W_gate, W_beta, alpha, gain, bias, lam, eps, *saved)


def _mgt_backward(
    xp, dy, x, v, W_gate, W_beta, alpha, gain, bias, lam, eps, gate, normed, scale, unit
):
    """With x' = x + β e, e = v ⊙ g − α x: dβ = dy ⊙ e, de = β dy, dv = de ⊙ g, dg = de ⊙ v."""
    sums = {"gain": [], "bias": [], "alpha": []}
    per_token, one_alpha = W_beta.shape[1] == 1, tuple(alpha.shape) in ((), (1,))

    def of_rows(dy, x, v, gate, normed, scale, unit):
        error = v * gate
        error -= alpha * x
        error *= dy
        d_unit = sum_of_features(xp, error) if per_token else error
        d_unit = d_unit * (lam * (1.0 - unit * unit))
        d_error = dy * (lam * unit + eps)
        d_logits = _gate_gradient(xp, d_error * v, gate, normed, scale, gain, sums)
        dx = dy - alpha * d_error
        dx += xp.matmul(d_logits, xp.matrix_transpose(W_gate))
        dx += d_unit * W_beta[:, 0] if per_token else xp.matmul(d_unit, xp.matrix_transpose(W_beta))
        dv = d_error * gate
        d_error *= x
        sums["alpha"].append(sum_of_rows(xp, d_error))
        return dx, dv, d_logits, d_unit

    dx, dv, d_logits, d_unit = in_blocks(of_rows, dy, x, v, gate, normed, scale, unit)
    columns = xp.matrix_transpose(as_rows(xp, x))
    d_alpha = -sum(sums["alpha"])
    if one_alpha:
        d_alpha = sum_of_features(xp, d_alpha)
    return (
        dx,
        dv,
        xp.matmul(columns, as_rows(xp, d_logits)),
        xp.matmul(columns, as_rows(xp, d_unit)),
        sum_of_rows(xp, d_unit),
        xp.reshape(d_alpha, alpha.shape),
        None if gain is None else sum(sums["gain"]),
        None if bias is None else sum(sums["bias"]),
    )


mgt_residual.fuse(_mgt_forward, _mgt_backward)


def init_mgt_residual(
    rng, d, *, beta_per="token", b_beta=0.05, alpha=0.1, scale="lecun", dtype="float64"
):
    """Return the parameters of `mgt_residual` for states of width d, as NumPy arrays.

    W_gate from N(0, scale²), gain 1, bias 0, W_beta = 0, `b_beta` and `alpha` as given: at the
    start β = λ tanh(b_beta) + ε for every token. `beta_per` is "token" for one β a token, "channel"
    for one a feature. The paper gives no initial values. Ours make small steps, since L steps keep
    a part (1 − αβ)^L of the embedding: the experiment `phase-diagram` shows what larger ones do.
    """
    one_of(("token", "channel"), beta_per=beta_per)
    width = 1 if beta_per == "token" else d
    return {
        "W_gate": normal(rng, (d, d), scale, dtype),
        "W_beta": constant(0.0, (d, width), dtype),
        "b_beta": constant(b_beta, width, dtype),
        "alpha": constant(alpha, (), dtype),
        "gain": constant(1.0, d, dtype),
        "bias": constant(0.0, d, dtype),
    }
