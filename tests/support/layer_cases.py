"""One row or more for every differentiable layer: what the contract of layers is asked of."""

from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
from cases import Case

from mgt_np import layers

_RNG = np.random.default_rng(0)


def normal(*shape):
    return _RNG.standard_normal(shape)


def unit(*shape):
    k = normal(*shape)
    return k / np.linalg.norm(k, axis=-1, keepdims=True)


TOKENS = np.array([[1, 0, 6, 1], [3, 3, 2, 1]])
TARGETS = np.array([[1, 0, 6, -100], [3, 3, -100, 1]])
MASK = np.array([[True, False, True, True], [False] * 4, [True] * 4])
PER_SEQUENCE = np.stack([MASK, ~MASK])

X, CONTEXT = normal(2, 3, 8), normal(2, 4, 6)
W_Q, W_O = normal(8, 4), normal(6, 5)
W_K, W_V = normal(6, 4), normal(6, 6)
BIASES = normal(4), normal(4), normal(6), normal(5)
GATE = normal(8, 8), normal(8, 1), normal(1), np.asarray(0.3), normal(8), normal(8)


def masked(function, **options):
    return lambda *arrays: function(*arrays[:-1], mask=arrays[-1], **options)


def cross_attention(x, context, *weights):
    return layers.multi_head_attention(x, *weights, n_heads=2, context=context)


def masked_cross_attention(x, context, W_q, W_k, W_v, W_o, mask):
    return layers.multi_head_attention(x, W_q, W_k, W_v, W_o, n_heads=2, context=context, mask=mask)


CASES = (
    Case("sigmoid", layers.sigmoid, (3.0 * normal(4, 5),)),
    Case("relu", layers.relu, (normal(4, 5),)),
    Case("silu", layers.silu, (3.0 * normal(4, 5),)),
    Case("gelu", layers.gelu, (3.0 * normal(4, 5),)),
    Case("gelu tanh", partial(layers.gelu, approximate="tanh"), (normal(4, 5),)),
    Case("softmax", layers.softmax, (normal(4, 5),)),
    Case("softmax axis 0", partial(layers.softmax, axis=0), (normal(4, 5),)),
    Case("layer_norm", layers.layer_norm, (normal(3, 4, 5), normal(5), normal(5))),
    Case("layer_norm bare", layers.layer_norm, (normal(3, 4, 5),)),
    Case("rms_norm", layers.rms_norm, (normal(3, 4, 5), normal(5))),
    Case("linear", layers.linear, (normal(2, 3, 4), normal(4, 5), normal(5))),
    Case("embedding", lambda E, t: layers.embedding(t, E), (normal(7, 3),), (TOKENS,)),
    Case("cross_entropy", layers.cross_entropy, (normal(2, 4, 7),), (TARGETS,)),
    *(
        Case(
            f"cross_entropy {reduction} smoothed",
            partial(layers.cross_entropy, reduction=reduction, label_smoothing=0.1),
            (normal(2, 4, 7),),
            (TARGETS,),
        )
        for reduction in ("sum", "none")
    ),
    *(
        Case(
            f"feed_forward {activation}",
            partial(layers.feed_forward, activation=activation),
            (normal(2, 3, 4), normal(4, 6), normal(6, 5), normal(6), normal(5)),
        )
        for activation in ("gelu", "relu", "silu", "sigmoid")
    ),
    Case("attention_weights", layers.attention_weights, (normal(2, 3, 5), normal(2, 4, 5))),
    Case(
        "attention_weights masked causal",
        masked(layers.attention_weights, causal=True, scale=0.7),
        (normal(2, 3, 5), normal(2, 4, 5)),
        (MASK,),
    ),
    Case(
        "scaled_dot_product_attention",
        layers.scaled_dot_product_attention,
        (normal(2, 3, 5), normal(2, 4, 5), normal(2, 4, 6)),
    ),
    Case(
        "scaled_dot_product_attention masked",
        masked(layers.scaled_dot_product_attention),
        (normal(2, 3, 5), normal(2, 4, 5), normal(2, 4, 6)),
        (PER_SEQUENCE,),
    ),
    Case(
        "multi_head_attention causal",
        partial(layers.multi_head_attention, n_heads=2, causal=True),
        (X, normal(8, 4), normal(8, 4), normal(8, 6), W_O),
    ),
    Case("multi_head_attention cross", cross_attention, (X, CONTEXT, W_Q, W_K, W_V, W_O, *BIASES)),
    Case(
        "multi_head_attention masked",
        masked_cross_attention,
        (X, CONTEXT, W_Q, W_K, W_V, W_O),
        (PER_SEQUENCE,),
    ),
    Case("unit_direction", partial(layers.unit_direction, eps=0.3), (normal(3, 5),)),
    Case(
        "unit_direction outside",
        partial(layers.unit_direction, eps=0.3, placement="outside"),
        (normal(3, 5),),
    ),
    Case("delta_operator", layers.delta_operator, (unit(3, 5), normal(3))),
    Case("delta_apply", layers.delta_apply, (normal(3, 5, 2), unit(3, 5), normal(3))),
    Case("delta_apply number", lambda X, k: layers.delta_apply(X, k, 1.5), (normal(5, 2), unit(5))),
    Case(
        "delta_update", layers.delta_update, (normal(3, 5, 2), unit(3, 5), normal(3, 2), normal(3))
    ),
    Case("delta_eigenvalues", partial(layers.delta_eigenvalues, d=4), (normal(3),)),
    Case(
        "delta_singular_values",
        partial(layers.delta_singular_values, d=4),
        (normal(3) + 3.0,),
    ),
    Case("delta_determinant", layers.delta_determinant, (normal(3),)),
    Case("delta_product", layers.delta_product, (unit(2, 6, 4), normal(2, 6))),
    Case("delta_product number", lambda K: layers.delta_product(K, 1.5), (unit(3, 4),)),
    Case(
        "tangent_gate", layers.tangent_gate, (normal(2, 3, 8), normal(8, 8), normal(8), normal(8))
    ),
    Case("tangent_gate bare", layers.tangent_gate, (normal(2, 3, 8), normal(8, 8))),
    Case(
        "mgt_beta per token",
        partial(layers.mgt_beta, lam=0.8, eps=0.1),
        (normal(2, 3, 8), normal(8, 1), normal(1)),
    ),
    Case(
        "mgt_beta per channel",
        lambda x, W, b, lam, eps: layers.mgt_beta(x, W, b, lam=lam, eps=eps),
        (normal(2, 3, 8), normal(8, 8), normal(8), np.asarray(0.8), np.asarray(0.1)),
    ),
    Case(
        "geometric_update",
        layers.geometric_update,
        (X, normal(2, 3, 8), normal(2, 3, 1), normal(8)),
    ),
    Case(
        "geometric_update numbers",
        lambda x, v: layers.geometric_update(x, v, 0.5, 0.1),
        (X, normal(2, 3, 8)),
    ),
    Case(
        "mgt_residual",
        partial(layers.mgt_residual, lam=0.8, eps=0.1),
        (X, normal(2, 3, 8), *GATE),
    ),
)
# Later families of layers have their rows in cases_<family>.py.
FAMILIES = [import_module(path.stem) for path in sorted(Path(__file__).parent.glob("cases_*.py"))]
CASES += tuple(case for family in FAMILIES for case in getattr(family, "LAYER_CASES", ()))
