"""Profiling before training: Admin's ω by its recursion and at its limits; no other rule has it."""

import dataclasses

import numpy as np
import pytest
from array_libraries import host

from mgt_np import (
    RESIDUAL_RULES,
    TransformerConfig,
    feed_forward,
    hidden_states,
    init_transformer,
    multi_head_attention,
    profile_admin,
)
from mgt_np.arrays import leaves_with_paths, tree_map

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
CONFIG = TransformerConfig(vocab_size=11, d_model=8, n_heads=2, n_layers=3, d_ff=12, max_tokens=6)
SUBLAYERS = ("attention", "feed_forward")


def of_rule(residual, **settings):
    return dataclasses.replace(CONFIG, residual=residual, **settings)


def moved_params(rng, config):
    params = init_transformer(rng, config)
    return tree_map(lambda x: x + 0.3 * rng.standard_normal(x.shape), params)


def residuals(params, name):
    return [block[f"{sub}_residual"][name] for block in params["blocks"] for sub in SUBLAYERS]


def numpy_norm(x, gain, bias):
    x = x - np.mean(x, axis=-1, keepdims=True)
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-5) * gain + bias


def test_admin_is_profiled_by_its_recursion(library, rng):
    """ω₁ = 1 and ω² = Var[x ⊙ ω] + Var[F] from one sub-layer to the next, in plain NumPy."""
    config = of_rule("admin")
    params = moved_params(rng, config)
    before = [leaf.copy() for _, leaf in leaves_with_paths(params)]
    profiled = profile_admin(*library.asarray((params, TOKENS)), config)

    x, omega, expected = params["tokens"][TOKENS] + params["positions"][:5], 1.0, []
    for block in params["blocks"]:
        for name in SUBLAYERS:
            expected.append(omega)
            if name == "attention":
                y = multi_head_attention(x, **block[name], n_heads=2, causal=True)
            else:
                y = feed_forward(x, **block[name])
            z = omega * x + y
            omega = np.sqrt(np.var(omega * x) + np.var(y))
            x = numpy_norm(z, **block[f"{name}_residual"]["norm"])
    found = host(residuals(profiled, "omega"))
    np.testing.assert_allclose(found, np.outer(expected, np.ones(8)), rtol=1e-12)
    np.testing.assert_allclose(
        host(hidden_states(profiled, library.asarray(TOKENS), config))[-1], x, atol=1e-12
    )
    after = [leaf for _, leaf in leaves_with_paths(params)]
    assert all(map(np.array_equal, before, after))


def test_admins_omega_is_the_deviation_of_all_that_came_before():
    """At the start every norm has gain 1: then ω² is Var[x₀] + Σ Var[F], which grows."""
    config = of_rule("admin", n_layers=20, d_model=32, d_ff=64)
    params = profile_admin(init_transformer(np.random.default_rng(0), config), TOKENS, config)
    x = params["tokens"][TOKENS] + params["positions"][:5]
    total, expected = np.var(x), [1.0]
    for block in params["blocks"]:
        for name in SUBLAYERS:
            residual = block[f"{name}_residual"]
            if name == "attention":
                y = multi_head_attention(x, **block[name], n_heads=2, causal=True)
            else:
                y = feed_forward(x, **block[name])
            total += np.var(y)
            expected.append(np.sqrt(total))
            x = RESIDUAL_RULES["admin"].update(x, lambda _, y=y: y, residual, config)
    found = [omega[0] for omega in residuals(params, "omega")]
    np.testing.assert_allclose(found, expected[:-1], rtol=1e-3)
    assert np.all(np.diff(found) > 0.0)


def test_branches_of_nothing_leave_admins_omega_at_the_embeddings_deviation(rng):
    params = init_transformer(rng, of_rule("admin", weight_scale=0.0))
    profiled = profile_admin(params, TOKENS, of_rule("admin"))
    deviation = np.std(params["tokens"][TOKENS] + params["positions"][:5])
    found = [omega[0] for omega in residuals(profiled, "omega")]
    np.testing.assert_allclose(found, [1.0] + [deviation] * 5, rtol=1e-4)


def test_only_admin_is_profiled(rng):
    with pytest.raises(ValueError, match="a config with residual='admin', got 'pre_ln'"):
        profile_admin(init_transformer(rng, CONFIG), TOKENS, CONFIG)
