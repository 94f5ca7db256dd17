"""The position-gated projection: its equation a second time, its limits, its cost, its errors."""

import numpy as np
import pytest

from mgt_np import (
    attention_weights,
    init_multi_head_attention,
    init_position_gated_projection,
    linear,
    multi_head_attention,
    position_gated_projection,
)


def written_out(z, positions, W_o, W_g, b_o):
    """O_i = Σ_h g_h(i) z_{h,i} W_O^h + b_o, one token and one head at a time."""
    n, width = z.shape
    n_heads = W_g.shape[1]
    d_k = width // n_heads
    rows = []
    for i in range(n):
        row = b_o.copy()
        for h in range(n_heads):
            gate = 1.0 / (1.0 + np.exp(-positions[i] @ W_g[:, h]))
            block = slice(h * d_k, (h + 1) * d_k)
            row += gate * z[i, block] @ W_o[block, :]
        rows.append(row)
    return np.stack(rows)


def test_the_equation_one_head_and_token_at_a_time(rng):
    z, positions = rng.standard_normal((2, 5, 6)), rng.standard_normal((5, 3))
    W_o, W_g, b_o = rng.standard_normal((6, 4)), rng.standard_normal((3, 2)), rng.standard_normal(4)
    got = position_gated_projection(z, positions, W_o, W_g, b_o)
    for i in range(2):
        expected = written_out(z[i], positions, W_o, W_g, b_o)
        np.testing.assert_allclose(got[i], expected, rtol=1e-13, atol=1e-13)


def test_gates_of_zero_weights_halve_the_plain_projection(rng):
    z, positions = rng.standard_normal((2, 5, 6)), rng.standard_normal((5, 3))
    W_o, b_o = rng.standard_normal((6, 4)), rng.standard_normal(4)
    got = position_gated_projection(z, positions, W_o, np.zeros((3, 2)), b_o)
    np.testing.assert_allclose(got, linear(0.5 * z, W_o, b_o), atol=1e-14)


def test_gates_far_open_give_multi_head_attention(rng):
    """With heads as attention joins them, and gates of 1, it is the plain output projection."""
    x = rng.standard_normal((5, 6))
    params = init_multi_head_attention(rng, 6)
    heads = []
    for part in range(2):
        block = slice(3 * part, 3 * part + 3)
        q, k, v = (x @ params[name][:, block] for name in ("W_q", "W_k", "W_v"))
        heads.append(attention_weights(q, k) @ v)
    z = np.concat(heads, axis=-1)
    got = position_gated_projection(z, np.ones((5, 1)), params["W_o"], np.full((1, 2), 50.0))
    np.testing.assert_allclose(got, multi_head_attention(x, **params, n_heads=2), atol=1e-13)


def test_positions_of_every_sequence_or_of_all(rng):
    z, positions = rng.standard_normal((2, 5, 6)), rng.standard_normal((5, 3))
    W_o, W_g = rng.standard_normal((6, 4)), rng.standard_normal((3, 2))
    got = position_gated_projection(z, np.stack([positions, positions]), W_o, W_g)
    np.testing.assert_allclose(got, position_gated_projection(z, positions, W_o, W_g), rtol=1e-14)


@pytest.mark.parametrize(("d", "n_heads"), [(768, 12), (64, 4)])
def test_the_gate_costs_h_over_d_of_the_plain_projection(d, n_heads, rng):
    params = init_position_gated_projection(rng, d, n_heads)
    assert params["W_g"].size / params["W_o"].size == n_heads / d
    if d == 768:
        assert 100 * params["W_g"].size / params["W_o"].size == 1.5625


def test_initial_parameters(rng):
    params = init_position_gated_projection(rng, 8, 2, d_position=5, bias=False, dtype="float32")
    assert {name: p.shape for name, p in params.items()} == {"W_o": (8, 8), "W_g": (5, 2)}
    assert {p.dtype for p in params.values()} == {np.dtype("float32")}
    assert not np.any(init_position_gated_projection(rng, 8, 2)["b_o"])
    assert np.all(params["W_g"] != 0.0)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((6,), (5, 3), (6, 4), (3, 2)), "expected z to have at least 2 axes"),
        (((5, 6), (3,), (6, 4), (3, 2)), "expected positions to have at least 2 axes"),
        (((5, 6), (4, 3), (6, 4), (3, 2)), "equally many positions, but z has 5, positions has 4"),
        (((5, 6), (5, 3), (6, 4), (2, 2)), "features, but positions has 3, W_g"),
        (((5, 6), (5, 3), (6, 4), (3, 4)), "the 4 columns of W_g to divide the 6 features of z"),
        (((5, 6), (5, 3), (6, 4), (3, 0)), "the 0 columns of W_g to divide the 6 features of z"),
        (((5, 6), (5, 3), (4, 4), (3, 2)), "features, but z has 6, W_o"),
    ],
)
def test_what_does_not_fit_is_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        position_gated_projection(*map(np.ones, shapes))
