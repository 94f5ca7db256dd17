"""mgt_np itself, and mgt_np with every layer in its composed form."""

from contextlib import nullcontext

import numpy as np

from mgt_np.arrays import composed, value_and_grad
from mgt_np.layers import cross_entropy
from mgt_np.models import RESIDUAL_RULES, transformer

from .implementations import Implementation

RULES = RESIDUAL_RULES


def build(config, params, tokens, *, form=nullcontext):
    inputs, targets = np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])

    @value_and_grad
    def loss(params):
        return cross_entropy(transformer(params, inputs, config), targets)

    def step():
        with form():
            return loss(params)

    def forward():
        with form():
            return transformer(params, inputs, config)

    return Implementation(step, forward, lambda loss, gradients: (float(loss), gradients))


def build_composed(config, params, tokens):
    return build(config, params, tokens, form=composed)
