"""mgt_np itself, and mgt_np with every layer in its composed form."""

import time
from contextlib import nullcontext

import numpy as np

from mgt_np.arrays import composed, value_and_grad
from mgt_np.layers import cross_entropy
from mgt_np.models import RESIDUAL_RULES, transformer
from mgt_np.training import adamw_init, adamw_update, clip_by_global_norm

from .implementations import ADAMW, CLIP, Implementation

RULES = RESIDUAL_RULES


def build(config, params, tokens, *, form=nullcontext):
    inputs, targets = np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:])

    @value_and_grad
    def loss(params):
        return cross_entropy(transformer(params, inputs, config), targets)

    def step(params=params):
        with form():
            return loss(params)

    def forward():
        with form():
            return transformer(params, inputs, config)

    def to_host(loss, gradients):
        return float(loss), gradients

    return Implementation(step, forward, to_host, lambda: _training(step, params))


def build_composed(config, params, tokens):
    return build(config, params, tokens, form=composed)


def _training(step, params):
    state = adamw_init(params)

    def whole_step():
        nonlocal params, state
        loss, gradients = step(params)
        start = time.perf_counter()
        gradients, _ = clip_by_global_norm(gradients, CLIP)
        params, state = adamw_update(params, gradients, state, **ADAMW)
        return loss, params, time.perf_counter() - start

    return whole_step
