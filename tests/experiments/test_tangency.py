"""Tangency: its errors have the limits they must have, and its verdicts follow from them."""

import numpy as np
import pytest
from small_settings import small_run, verdicts

from mgt_np import hidden_states, local_tangent_basis
from mgt_np.experiments import tangency
from mgt_np.experiments.states import decoder_of_text

D = 8


@pytest.fixture(params=["sphere", "plane"])
def tokens(request, rng):
    x, v = rng.standard_normal((2, 40, D))
    plane = local_tangent_basis(x, rank=3, n_neighbours=6) if request.param == "plane" else None
    return tangency._Tokens(x, v, plane, np.arange(3, 33))


def test_the_projection_itself_has_no_error_at_any_strength(tokens):
    for w in (tokens.target, 0.1 * tokens.target, 7.0 * tokens.target):
        assert abs(tokens.error(w)) < 1e-14
        assert tokens.inside(w) == pytest.approx(1.0, abs=1e-14)


def test_without_a_gate_the_error_is_the_energy_outside(tokens):
    energy = np.sum(tokens.target**2) / np.sum(tokens.v**2)
    assert tokens.error(tokens.v) == pytest.approx(1.0 - energy, rel=1e-12)
    scales = np.linspace(0.0, 2.0, 2001)
    misses = [np.sum((c * tokens.v - tokens.target) ** 2) for c in scales]
    assert tokens.error(tokens.v) == pytest.approx(min(misses) / np.sum(tokens.target**2), rel=1e-5)


def test_no_positive_gate_is_better_than_the_best(tokens, rng):
    best = tokens.error(tokens.best())
    assert np.all(tokens.best() * tokens.v >= 0.0)
    for _ in range(50):
        gate = rng.uniform(size=tokens.v.shape)
        near = tokens.best() * (1.0 + 0.05 * gate)
        assert min(tokens.error(gate * tokens.v), tokens.error(near)) > best


@pytest.mark.parametrize("rule", ["mgt", "pre_ln", "post_ln"])
def test_the_branches_are_those_of_the_last_block(rule):
    sizes = {"data": "python-docs", "seed": 0, "n_windows": 2, "n_tokens": 6, "depth": 3}
    config, params, text = decoder_of_text(residual=rule, d_model=8, n_heads=2, **sizes)
    states = hidden_states(params, text, config)
    (first, x, _), (second, y, v) = tangency._last_block(params, text, config)
    assert (first, second) == ("attention", "feed_forward")
    np.testing.assert_array_equal(x, states[-2].reshape(-1, 8))
    if rule == "pre_ln":
        np.testing.assert_allclose(y + v, states[-1].reshape(-1, 8), rtol=1e-14)
    assert v.shape == (12, 8)


def test_descent_fits_a_gate_to_axes():
    """What a gate can do by its bias alone, the same features at every token."""
    result = small_run("tangency", n_steps=60, rate=3.0)
    errors = {
        gate: np.mean(result.column("error", space="first axes", gate=gate))
        for gate in ("at the start", "fitted, its own tokens")
    }
    assert errors["fitted, its own tokens"] < 0.5 * errors["at the start"]


@pytest.mark.parametrize(
    ("good", "verdict"),
    [
        ((), "does not hold"),
        (("sphere",), "holds only if the tangent space is that of the sphere"),
        (tuple(tangency.SPACES), "holds"),
    ],
)
def test_verdicts_follow_the_numbers(good, verdict):
    result = small_run("tangency")

    def error(row):
        return 0.05 if row["space"] in good and row["gate"] != "none" else 0.8

    assert verdicts(result, error=error) == [verdict] * 2
    assert set(verdicts(result, error=0.05)) == {"does not hold"}  # no better without a gate
