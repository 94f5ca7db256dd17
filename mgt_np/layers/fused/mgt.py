"""MGT's gate, β and update as one node each."""

import inspect

from mgt_np.arrays import as_rows, in_blocks, sum_of_features, sum_of_rows
from mgt_np.layers.mgt import mgt_beta, mgt_residual, tangent_gate

from .normalization import normalized, normalized_gradient

# `mgt_residual` has no ε of its own for the gate: it is the gate's default.
GATE_EPS = inspect.signature(tangent_gate).parameters["eps"].default


def gate_rows(xp, x, W_gate, gain, bias, eps):
    """The gate g, and x̂ and 1/√(σ² + ε) of its layer norm."""
    normed, scale = normalized(xp, xp.matmul(x, W_gate), eps)
    gate = normed * 0.5 if gain is None else normed * (gain * 0.5)
    if bias is not None:
        gate += bias * 0.5
    gate = xp.tanh(gate)  # σ(z) = ½(1 + tanh z/2)
    gate += 1.0
    gate *= 0.5
    return gate, normed, scale


def gate_gradient(xp, dg, gate, normed, scale, gain, sums):
    """The gradient of x W_gate, given g's; those of gain and bias are added to `sums`."""
    dg = dg * gate
    dg *= 1.0 - gate
    sums["gain"].append(sum_of_rows(xp, dg * normed))
    sums["bias"].append(sum_of_rows(xp, dg))
    return normalized_gradient(xp, dg if gain is None else dg * gain, normed, scale)


def tangent_gate_forward(xp, x, W_gate, gain, bias, *, eps):
    gate, normed, scale = in_blocks(lambda x: gate_rows(xp, x, W_gate, gain, bias, eps), x)
    return gate, (x, W_gate, gain, bias, gate, normed, scale)


def tangent_gate_backward(xp, g, x, W_gate, gain, bias, gate, normed, scale):
    sums = {"gain": [], "bias": []}
    d_logits = in_blocks(lambda *rows: gate_gradient(xp, *rows, gain, sums), g, gate, normed, scale)
    return (
        xp.matmul(d_logits, xp.matrix_transpose(W_gate)),
        xp.matmul(xp.matrix_transpose(as_rows(xp, x)), as_rows(xp, d_logits)),
        None if gain is None else sum(sums["gain"]),
        None if bias is None else sum(sums["bias"]),
    )


tangent_gate.fuse(tangent_gate_forward, tangent_gate_backward)


def unit_beta(xp, x, W_beta, b_beta):
    return xp.tanh(xp.matmul(x, W_beta) + b_beta)


def mgt_beta_forward(xp, x, W_beta, b_beta, *, lam, eps):
    unit = unit_beta(xp, x, W_beta, b_beta)
    return lam * unit + eps, (x, W_beta, unit, lam)


def mgt_beta_backward(xp, g, x, W_beta, unit, lam):
    d_unit = g * (lam * (1.0 - unit * unit))
    return (
        xp.matmul(d_unit, xp.matrix_transpose(W_beta)),
        xp.matmul(xp.matrix_transpose(as_rows(xp, x)), as_rows(xp, d_unit)),
        sum_of_rows(xp, d_unit),
    )


mgt_beta.fuse(mgt_beta_forward, mgt_beta_backward)


def mgt_residual_forward(xp, x, v_raw, W_gate, W_beta, b_beta, alpha, gain, bias, *, lam, eps):
    def update_rows(x, v):
        gate, normed, scale = gate_rows(xp, x, W_gate, gain, bias, GATE_EPS)
        unit = unit_beta(xp, x, W_beta, b_beta)
        step = v * gate
        step -= alpha * x
        step *= lam * unit + eps
        step += x
        return step, gate, normed, scale, unit

    y, *saved = in_blocks(update_rows, x, v_raw)
    return y, (x, v_raw, W_gate, W_beta, alpha, gain, bias, lam, eps, *saved)


def mgt_residual_backward(
    xp, dy, x, v, W_gate, W_beta, alpha, gain, bias, lam, eps, gate, normed, scale, unit
):
    """What `pull_update` gives for each token, and its sums over tokens for the parameters."""
    sums = {"gain": [], "bias": [], "alpha": []}

    def pull_rows(*rows):
        return pull_update(xp, *rows, W_gate, W_beta, alpha, gain, lam, eps, sums)

    dx, dv, d_logits, d_unit = in_blocks(pull_rows, dy, x, v, gate, normed, scale, unit)
    columns = xp.matrix_transpose(as_rows(xp, x))
    d_alpha = -sum(sums["alpha"])
    if tuple(alpha.shape) in ((), (1,)):
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


def pull_update(
    xp, dy, x, v, gate, normed, scale, unit, W_gate, W_beta, alpha, gain, lam, eps, sums
):
    """With x' = x + β e, e = v ⊙ g − α x: dβ = dy ⊙ e, de = β dy, dv = de ⊙ g, dg = de ⊙ v."""
    per_token = W_beta.shape[1] == 1
    error = v * gate
    error -= alpha * x
    error *= dy
    d_unit = sum_of_features(xp, error) if per_token else error
    d_unit = d_unit * (lam * (1.0 - unit * unit))
    d_error = dy * (lam * unit + eps)
    d_logits = gate_gradient(xp, d_error * v, gate, normed, scale, gain, sums)
    dx = dy - alpha * d_error
    dx += xp.matmul(d_logits, xp.matrix_transpose(W_gate))
    dx += d_unit * W_beta[:, 0] if per_token else xp.matmul(d_unit, xp.matrix_transpose(W_beta))
    dv = d_error * gate
    d_error *= x
    sums["alpha"].append(sum_of_rows(xp, d_error))
    return dx, dv, d_logits, d_unit


mgt_residual.fuse(mgt_residual_forward, mgt_residual_backward)
