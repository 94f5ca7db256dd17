"""Tangency: every error is recomputed by hand, and the verdicts follow from the errors."""

import math

import numpy as np
import pytest
from small_settings import check_boundaries, small, small_run, verdicts

from mgt_np import hidden_states
from mgt_np.experiments import tangency
from mgt_np.experiments.experiment import generator
from mgt_np.experiments.states import decoder_of_text
from mgt_np.experiments.tangency import ANOTHER, BEST, NONE, OTHER, OWN, SPACES, START

SPHERE, PLANE, AXES = SPACES
SIZES = {"data": "python-docs", "n_windows": 2, "n_tokens": 8, "d_model": 8, "n_heads": 2}
FIRST_AXES = "holds only if the tangent space is the span of the first axes at every x"


def test_each_rule_at_its_boundary():
    nan = math.nan
    rule = [(0.1, 0.2), (0.0, 0.0), (0.05, 0.9)], [(0.1001, 0.9), (0.05, 0.0999)]
    rule[1].extend([(nan, 0.9), (0.05, nan)])
    check_boundaries("tangency", rule, rule)


def test_verdicts_follow_the_rows():
    result = small_run("tangency", n_seeds=2)

    def near(*spaces, gates=(START, OTHER)):
        return lambda row: 0.05 if row["space"] in spaces and row["gate"] in gates else 0.8

    assert verdicts(result, error=near(SPHERE, PLANE, AXES)) == ["holds"] * 2
    assert verdicts(result, error=near(AXES)) == [FIRST_AXES] * 2
    both = "the sphere's or a plane fitted to the neighbours of x"
    found = verdicts(result, error=near(SPHERE, PLANE))
    assert found == [f"holds only if the tangent space is {both}"] * 2
    assert verdicts(result, error=near()) == ["does not hold"] * 2
    assert verdicts(result, error=0.05) == ["does not hold"] * 2  # no better than without a gate
    assert verdicts(result, error=near(AXES, gates=[START])) == [FIRST_AXES, "does not hold"]
    assert verdicts(result, error=near(AXES, gates=[OTHER])) == ["does not hold", FIRST_AXES]
    others = near(*SPACES, gates=(ANOTHER, OWN, BEST))
    assert verdicts(result, error=others) == ["does not hold"] * 2


def test_the_mean_over_decoders_sub_layers_and_seeds_decides():
    result = small_run("tangency", n_seeds=2)

    def alternating(column, low, high):
        first = result.rows.values(column)[0]
        return lambda row: 0.8 if row["gate"] == NONE else (low, high)[row[column] == first]

    for column in ("rule", "sublayer", "seed"):
        assert verdicts(result, error=alternating(column, 0.0, 0.19)) == ["holds"] * 2
        assert verdicts(result, error=alternating(column, 0.19, 0.0)) == ["holds"] * 2
        assert verdicts(result, error=alternating(column, 0.01, 0.2)) == ["does not hold"] * 2
        assert verdicts(result, error=alternating(column, 0.2, 0.01)) == ["does not hold"] * 2


@pytest.mark.parametrize("rule", ["mgt", "pre_ln", "post_ln"])
def test_the_branches_are_those_of_the_last_block(rule):
    config, params, text = decoder_of_text(residual=rule, seed=0, depth=3, **SIZES)
    states = hidden_states(params, text, config)
    (first, x, v_first), (second, y, v) = tangency.last_block(params, text, config)
    assert (first, second) == ("attention", "feed_forward")
    np.testing.assert_array_equal(x, states[-2].reshape(-1, 8))
    if rule == "pre_ln":
        np.testing.assert_allclose(x + v_first, y, rtol=1e-13)
        np.testing.assert_allclose(y + v, states[-1].reshape(-1, 8), rtol=1e-13)
    assert v.shape == (16, 8)


def by_definition(space, x, v, rank, n_neighbours):
    """P v, token by token."""
    if space == SPHERE:
        return np.stack([b - a * (a @ b) / (a @ a) for a, b in zip(x, v, strict=True)])
    if space == AXES:
        return v * (np.arange(x.shape[1]) < rank)
    projected = []
    for a, b in zip(x, v, strict=True):
        near = np.argsort(np.linalg.norm(x - a, axis=1))[1 : n_neighbours + 1]
        basis = np.linalg.svd(x[near] - a)[2][:rank]
        projected.append(basis.T @ (basis @ b))
    return np.stack(projected)


def normalized(x, W_gate, gain, bias):
    """The layer norm of x W_gate before its gain, its scale, and the gate."""
    z = x @ W_gate
    scale = np.sqrt(z.var(axis=1, keepdims=True) + 1e-5)
    normed = (z - z.mean(axis=1, keepdims=True)) / scale
    return normed, scale, 1.0 / (1.0 + np.exp(-(normed * gain + bias)))


def miss(w, target):
    """The squared error of w at its best scale, which is found here and not put in."""
    c = np.sum(w * target) / np.sum(w * w)
    return np.sum((c * w - target) ** 2) / np.sum(target**2)


def descended(weights, x, v, target, n_steps, rate):
    """Gradient descent on `miss`, its gradient by hand."""
    W, gain, bias = (weights[name].copy() for name in ("W_gate", "gain", "bias"))
    for _ in range(n_steps):
        normed, scale, gate = normalized(x, W, gain, bias)
        w = gate * v
        c = np.sum(w * target) / np.sum(w * w)
        dw = 2.0 * c * (c * w - target) / np.sum(target**2)
        dz = dw * v * gate * (1.0 - gate)
        d_normed = dz * gain
        along = np.mean(d_normed * normed, axis=1, keepdims=True)
        d_linear = (d_normed - d_normed.mean(axis=1, keepdims=True) - normed * along) / scale
        W, gain = W - rate * x.T @ d_linear, gain - rate * (dz * normed).sum(axis=0)
        bias = bias - rate * dz.sum(axis=0)
    return {"W_gate": W, "gain": gain, "bias": bias}


def test_every_error_by_hand(rng):
    """The gate is fitted to the first half of the permuted tokens, and tested on the others."""
    result, settings = small_run("tangency"), small("tangency")
    rows = iter(result.rows)
    for rule in settings.rules:
        config, params, text = decoder_of_text(residual=rule, seed=[0, 0], depth=2, **SIZES)
        draw = generator([0, 0], 2)
        start = {"W_gate": draw.standard_normal((8, 8)) / math.sqrt(8)}
        start |= {"gain": np.ones(8), "bias": np.zeros(8)}
        order = draw.permutation(16)
        for sublayer, x, v in tangency.last_block(params, text, config):
            for space in SPACES:
                target = by_definition(space, x, v, settings.rank, settings.n_neighbours)
                seen, held = ([a[part] for a in (x, v, target)] for part in (order[:8], order[8:]))
                fitted = descended(start, *seen, settings.n_steps, settings.rate)
                x_held, v_held, t = held
                gate = normalized(x_held, **start)[2]
                best = np.maximum(t * v_held, 0.0) / v_held
                expected = {
                    NONE: miss(v_held, t),
                    START: miss(gate * v_held, t),
                    ANOTHER: miss(np.roll(gate, 1, axis=0) * v_held, t),
                    OWN: miss(normalized(seen[0], **fitted)[2] * seen[1], seen[2]),
                    OTHER: miss(normalized(x_held, **fitted)[2] * v_held, t),
                    BEST: miss(best, t),
                }
                for name, number in expected.items():
                    row = next(rows)
                    assert tuple(row.values())[:5] == (rule, sublayer, 0, space, name)
                    assert row["error"] == pytest.approx(number, rel=1e-9, abs=1e-13)
                for _ in range(20):
                    near = best * rng.uniform(0.9, 1.1, best.shape)
                    assert (
                        min(miss(near, t), miss(rng.uniform(size=t.shape) * v_held, t))
                        > (expected[BEST])
                    )
    assert next(rows, None) is None


def test_descent_fits_a_gate_to_axes():
    """What a gate can do by its bias alone, the same features at every token."""
    result, space = small_run("tangency", n_steps=60), SPACES[AXES]
    own, start = (tangency.errors(result, gate)[space] for gate in (OWN, START))
    assert own < 0.5 * start


def test_another_seed_shares_no_draw():
    rows = [small_run("tangency", n_seeds=2, seed=seed).rows for seed in (0, 1)]
    first, second = (set(each.where(space=SPHERE, gate=START).column("error")) for each in rows)
    assert len(first) == len(second) == 8
    assert not first & second
