"""mgt_np itself on JAX's arrays, compiled as a whole by `jax.jit`: the same source."""

import functools

import jax
import numpy as np

from mgt_np.arrays import tree_map
from mgt_np.layers import cross_entropy
from mgt_np.models import RESIDUAL_RULES, transformer

from .implementations import Implementation

RULES = RESIDUAL_RULES


def build(config, params, tokens):
    params = tree_map(jax.numpy.asarray, params)
    inputs, targets = jax.numpy.asarray(tokens[:, :-1]), jax.numpy.asarray(tokens[:, 1:])

    @jax.jit
    @jax.value_and_grad
    def loss(params, inputs, targets):
        return cross_entropy(transformer(params, inputs, config), targets)

    logits = jax.jit(functools.partial(transformer, config=config))
    return Implementation(
        lambda: jax.block_until_ready(loss(params, inputs, targets)),
        lambda: jax.block_until_ready(logits(params, inputs)),
        lambda loss, gradients: (float(loss), tree_map(np.asarray, gradients)),
        compiles=True,
    )
