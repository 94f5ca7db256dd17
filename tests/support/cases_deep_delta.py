"""Rows of the contract's tables: Deep Delta Learning, the delta rule, rotary positions."""

import numpy as np
from cases import Case

from mgt_np import array_namespace, layers

_RNG = np.random.default_rng(20)


def normal(*shape):
    return _RNG.standard_normal(shape)


def unit(*shape):
    k = normal(*shape)
    return k / np.linalg.norm(k, axis=-1, keepdims=True)


def residual(layer, **options):
    """The layer of its state, k, context and v_input, then the weights."""

    def function(x, k, context, v_input, *weights):
        return layer(x, k, *weights, context=context, v_input=v_input, **options)

    return function


def coefficients(k, context, v_input, *weights):
    """k̂, v and β of `deep_delta_coefficients`, side by side."""
    options = {"context": context, "v_input": v_input, "v_form": "sigmoid4", "eps": 0.3}
    k, beta, v = layers.deep_delta_coefficients(k, *weights, **options)
    xp = array_namespace(k, v, beta)
    return xp.concat([k, v, xp.expand_dims(beta, axis=-1)], axis=-1)


def rule(**options):
    return lambda *arrays: layers.delta_rule(*arrays, **options)


def outputs_and_state(*arrays):
    o, S = layers.delta_rule(*arrays, chunk_size=2, with_state=True)
    return array_namespace(o, S).concat([o, S], axis=-2)


D, D_V, HIDDEN = 5, 3, 4
GATE = normal(D, 1), normal(1)
TWO_LAYERS = normal(HIDDEN, 1), normal(1), normal(D, HIDDEN), normal(HIDDEN)
TOKENS = [normal(2, 3, D) for _ in range(4)]
STATE = normal(2, 3, D, D_V)
SEQUENCE = normal(2, 5, 3), unit(2, 5, 3), normal(2, 5, 2), _RNG.uniform(0.0, 2.0, (2, 5))
STEPS = normal(2, 4, 3), unit(2, 4, 2, 3), normal(2, 4, 2, 2), _RNG.uniform(0.0, 2.0, (2, 4, 2))


def weights(d_v, gate):
    W_beta, b_beta, *hidden = gate
    return normal(D, d_v), W_beta, normal(d_v), b_beta, *hidden


LAYER_CASES = (
    Case("delta_gate", layers.delta_gate, (normal(2, 3, D), *GATE)),
    Case("delta_gate two layers", layers.delta_gate, (normal(2, 3, D), *TWO_LAYERS)),
    Case(
        "deep_delta_coefficients",
        coefficients,
        (*TOKENS[1:], *weights(D_V, TWO_LAYERS)),
    ),
    *(
        Case(
            f"deep_delta_residual {v_form}",
            residual(layers.deep_delta_residual, v_form=v_form, eps=0.3),
            (*TOKENS, *weights(1, gate)),
        )
        for v_form, gate in (("linear", GATE), ("sigmoid4", TWO_LAYERS))
    ),
    Case(
        "deep_delta_residual writing only",
        residual(layers.deep_delta_residual, erase=False, eps=0.3, placement="outside"),
        (*TOKENS, *weights(1, GATE)),
    ),
    *(
        Case(
            f"deep_delta_expanded {v_form}",
            residual(layers.deep_delta_expanded, v_form=v_form, eps=0.3),
            (STATE, *TOKENS[1:], *weights(D_V, gate)),
        )
        for v_form, gate in (("linear", GATE), ("sigmoid4", TWO_LAYERS))
    ),
    Case(
        "deep_delta_expanded writing only",
        residual(layers.deep_delta_expanded, erase=False, eps=0.3),
        (STATE, *TOKENS[1:], *weights(D_V, GATE)),
    ),
    Case("short_convolution", layers.short_convolution, (normal(2, 5, 3), normal(3, 4))),
    Case(
        "short_convolution expanding",
        layers.short_convolution,
        (normal(2, 5, 3, 1), normal(3, 2, 4)),
    ),
    Case("compress_channels", layers.compress_channels, (STATE, normal(D, D_V))),
    Case(
        "convolve_and_compress_channels",
        layers.convolve_and_compress_channels,
        (STATE, normal(D, 2), normal(D_V)),
    ),
    Case("compress_tokens", layers.compress_tokens, (STATE, normal(D, D_V, 2), normal(D_V))),
    *(
        Case(f"delta_rule {form}", rule(form=form, scale=0.7, chunk_size=2), SEQUENCE)
        for form in ("chunked", "recurrent")
    ),
    *(
        Case(
            f"delta_rule {form} gated steps",
            rule(form=form, chunk_size=3),
            (*STEPS, -0.3 * normal(2, 4) ** 2, normal(2, 3, 2)),
        )
        for form in ("chunked", "recurrent")
    ),
    Case("delta_rule recurrent gated", rule(form="recurrent"), (*SEQUENCE, normal(2, 5))),
    Case("delta_rule with state", outputs_and_state, SEQUENCE),
    Case("rotary_embedding", layers.rotary_embedding, (normal(2, 5, 6),)),
    Case(
        "rotary_embedding interleaved",
        lambda x: layers.rotary_embedding(x, layout="interleaved", start=3, base=100.0),
        (normal(2, 5, 6),),
    ),
)


def parameters(rng):
    return {
        "delta_gate": (layers.init_delta_gate(rng, 4, hidden=3), ["context"]),
        "deep_delta_residual": (layers.init_deep_delta_residual(rng, 4, hidden=3), ["x", "k"]),
        "deep_delta_expanded": (layers.init_deep_delta_expanded(rng, 4, 2, hidden=3), ["X", "k"]),
        "short_convolution": (layers.init_short_convolution(rng, 4), ["x"]),
        "compress_channels": (layers.init_compress_channels(4, 2), ["X"]),
        "compress_tokens": (layers.init_compress_tokens(rng, 4, 2), ["X"]),
    }
