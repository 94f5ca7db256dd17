"""Optimizers as pure functions of trees: parameters, gradients and a state in, new ones out.

The updates are PyTorch's, digit for digit but for rounding. A state is a dict of whole numbers and
of trees shaped as the parameters, on their array library. Lesson 10.
"""

import math

from mgt_np.arrays import array_namespace
from mgt_np.arrays.trees import leaves_beside, leaves_of, rebuild, tree_map


def adamw_init(params):
    """Return the state before the first step: step 0, both moments zero."""
    return {"step": 0, "mean": _zeros(params), "square": _zeros(params)}


def adamw_update(params, gradients, state, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """Return the parameters after one step of AdamW, and the new state.

        m = β₁ m + (1 − β₁) g,    v = β₂ v + (1 − β₂) g²
        θ = (1 − lr λ) θ − lr/(1 − β₁ᵗ) m / (√(v/(1 − β₂ᵗ)) + eps)

    with λ the `weight_decay`, of every parameter (Loshchilov & Hutter 1711.05101). For a constant
    gradient the step tends to lr, whatever its size.
    Raises ValueError where the trees differ, and for options out of range.
    """
    _check("adamw_update", lr=lr, eps=eps, weight_decay=weight_decay)
    beta1, beta2 = betas
    if not (0.0 <= beta1 < 1.0 and 0.0 <= beta2 < 1.0):
        raise ValueError(f"adamw_update: expected betas in [0, 1), got {betas}")
    step = state["step"] + 1
    size = lr / (1.0 - beta1**step)
    root = math.sqrt(1.0 - beta2**step)

    def update(p, g, m, v):
        m = m + (1.0 - beta1) * (g - m)
        v = beta2 * v + (1.0 - beta2) * (g * g)
        slope = array_namespace(v).sqrt(v) / root + eps
        return (1.0 - lr * weight_decay) * p - size * (m / slope), m, v

    params, mean, square = _each(update, params, gradients, state["mean"], state["square"])
    return params, {"step": step, "mean": mean, "square": square}


def sgd_init(params):
    """Return the state before the first step: no velocity."""
    return {"step": 0, "velocity": _zeros(params)}


def sgd_update(params, gradients, state, *, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    """Return the parameters after one step of gradient descent with momentum, and the new state.

        g = g + λ θ,    u = μ u + g  (u = g at the first step),    θ = θ − lr u

    with λ the `weight_decay`; `nesterov` steps by g + μ u instead. With μ = 0 it is plain descent.
    Raises ValueError where the trees differ, and for options out of range.
    """
    _check("sgd_update", lr=lr, momentum=momentum, weight_decay=weight_decay)

    def update(p, g, u):
        g = g + weight_decay * p if weight_decay else g
        u = momentum * u + g
        return p - lr * (g + momentum * u if nesterov else u), u

    params, velocity = _each(update, params, gradients, state["velocity"])
    return params, {"step": state["step"] + 1, "velocity": velocity}


def global_norm(gradients):
    """Return √Σ g² over all leaves of a tree, a 0-d array; the empty tree's is an error."""
    total = None
    for g in leaves_of(gradients):
        square = array_namespace(g).sum(g * g)
        total = square if total is None else total + square
    if total is None:
        raise ValueError("global_norm: expected a tree with arrays, got an empty one")
    return array_namespace(total).sqrt(total)


def clip_by_global_norm(gradients, max_norm):
    """Return the gradients scaled to a global norm of at most `max_norm`, and the norm before.

        g min(1, max_norm/(‖g‖ + 10⁻⁶))        (torch.nn.utils.clip_grad_norm_; Pascanu 1211.5063)

    Gradients whose norm is below max_norm are as they were.
    Raises ValueError for a negative `max_norm`.
    """
    _check("clip_by_global_norm", max_norm=max_norm)
    norm = global_norm(gradients)
    xp = array_namespace(norm)
    scale = max_norm / (norm + 1e-6)
    scale = xp.where(scale < 1.0, scale, 1.0)
    return tree_map(lambda g: g * scale, gradients), norm


def _zeros(params):
    return tree_map(lambda p: array_namespace(p).zeros_like(p), params)


def _each(update, params, *trees):
    """Apply an update that returns several leaves; return as many trees."""
    results = zip(*(update(*leaves) for leaves in leaves_beside(params, *trees)), strict=True)
    return [rebuild(params, iter(leaves)) for leaves in results]


def _check(name, **options):
    for option, value in options.items():
        if not value >= 0.0:
            raise ValueError(f"{name}: expected {option} of at least 0, got {value}")
