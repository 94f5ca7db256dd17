"""The rate of collapse: exponents, the bound and where it is useful, verdicts by the rows."""

import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small, small_run, verdicts

from mgt_np import (
    collapse_beta,
    composite_norm,
    init_multi_head_attention,
    multi_head_attention,
    token_residual,
)
from mgt_np.experiments import EXPERIMENTS, collapse_rate, judged
from mgt_np.experiments.collapse_rate import CAUSAL, NONE, beyond, exponent, ratio
from mgt_np.experiments.experiment import generator

NAME = "collapse-rate"


def test_the_rules_at_their_boundaries():
    nan = math.nan
    check_boundaries(
        NAME,
        ([2.91, 3.0, 3.09], [2.89, 3.11, 1.0, nan]),
        ([(0.91, 0.99), (1.09, 0.0)], [(0.89, 0.5), (1.11, 0.5), (1.0, 1.0), (nan, 0.5), (1, nan)]),
        ([0.0, 1.0], [1.0001, nan]),
        ([0.9999], [1.0, nan]),
    )


def law(factor, power):
    return lambda row: factor * row["before"] ** power


def test_verdicts_follow_the_rows():
    result = small_run(NAME)
    cubic = f"holds only if {NONE}"
    assert verdicts(result) == [cubic, "holds", "holds", "does not hold"]
    linear = verdicts(result, after=law(0.5, 1))
    assert linear == ["does not hold", "holds", "does not hold", "does not hold"]
    assert verdicts(result, after=law(1e-3, 3))[:2] == ["holds", "does not hold"]
    assert verdicts(result, after=law(0.5, 2))[:2] == ["does not hold", "does not hold"]
    assert verdicts(result, after=lambda row: 1.0 * row["before"])[1] == "does not hold"
    assert verdicts(result, bound=lambda row: 1e-5 * row["before"] ** 3)[3] == "holds"


def gaussian_of(result, row):
    """‖res‖ of the unscaled tokens of the row's seed."""
    (found,) = result.rows.where(mask=NONE, power=0, seed=row["seed"])
    return found["before"]


def test_the_bound_is_of_use_with_gamma_one_alone():
    """c = 0.5/‖res‖² of the Gaussian tokens: √c ‖res‖ = 0.7, times √γ = 8^¼ it is 1.2."""
    result = small_run(NAME)
    near = changed(
        result, bound=lambda row: 0.5 * row["before"] ** 3 / gaussian_of(result, row) ** 2
    )
    assert judged(EXPERIMENTS[NAME], near)[3].verdict == "holds only if γ = 1"
    assert beyond(near) == pytest.approx([math.sqrt(0.5)] * 2, rel=1e-9)
    assert beyond(near, 2.0) == pytest.approx([1.0, 1.0], rel=1e-9)


def test_every_seed_and_every_start_counts():
    result = small_run(NAME)

    def at(seed, power, value, otherwise):
        hit = {"seed": seed, "power": power}
        return lambda row: (value if hit.items() <= row.items() else otherwise)(row)

    above = at(1, -3, lambda row: 2.0 * row["bound"], lambda row: 0.1 * row["bound"])
    assert ratio(changed(result, after=above), "after", "bound").max() == pytest.approx(2.0)
    assert verdicts(result, after=above)[2] == "holds only if γ = 2.83"
    for seed in (0, 1):
        grows = {"after": lambda row, s=seed: (1.1 if row["seed"] == s else 0.5) * row["before"]}
        assert verdicts(result, **grows)[1] == "does not hold"
    large = {"after": lambda row: (1.1 if row["power"] == 0 else 0.5) * row["before"]}
    assert verdicts(result, **large)[1] == "holds"  # a law of small residuals
    loose = {"bound": lambda row: (1e-6 if row["seed"] else 1.0) * row["before"] ** 3}
    assert verdicts(result, **loose)[3] == "does not hold"


def test_exponents_are_those_of_the_smallest_starts():
    result = small_run(NAME)
    bent = changed(result, after=lambda row: row["before"] ** (3.0 if row["power"] < -3 else 1.0))
    assert exponent(bent, NONE) == pytest.approx(3.0)
    split = changed(result, after=lambda row: row["before"] ** (2.0 + 2.0 * row["seed"]))
    assert exponent(split, CAUSAL) == pytest.approx(3.0)


def test_powers_may_come_in_any_order():
    backwards = small(NAME, powers=(0, -1, -5, -4, -3, -2))
    assert collapse_rate.tasks(backwards) == collapse_rate.tasks(small(NAME))


def row_of(**wanted):
    (row,) = small_run(NAME).rows.where(**wanted)
    return row


def drawn(seed):
    """The common token, the residual and the weights of a seed at the small settings."""
    rng = generator([0, seed])
    common, tokens = rng.standard_normal(8), rng.standard_normal((8, 8))
    return common, token_residual(tokens), init_multi_head_attention(rng, 8, bias=False)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("mask", "power"), [(NONE, 0), (NONE, -1), (CAUSAL, 0), (CAUSAL, -2)])
def test_rows_are_those_of_multi_head_attention(mask, power, seed):
    common, residual, weights = drawn(seed)
    X = common + 10.0**power * residual
    Y = multi_head_attention(X, **weights, n_heads=2, causal=mask == CAUSAL)
    row = row_of(mask=mask, power=power, seed=seed)
    expected = [composite_norm(Z - Z.mean(axis=0)) for Z in (X, Y)]
    # 1e-16 of X is 1e-13 of what the layer leaves at power −1
    assert [row["before"], row["after"]] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_bound_is_four_beta_heads_over_the_root_of_d_qk(seed):
    weights = drawn(seed)[2]
    beta = max(
        collapse_beta(
            weights["W_q"][:, head] @ weights["W_k"][:, head].T,
            weights["W_v"][:, head] @ weights["W_o"][head],
        )
        for head in (slice(0, 4), slice(4, 8))
    )
    row = row_of(mask=NONE, power=-3, seed=seed)
    assert row["bound"] == pytest.approx(4.0 * beta * 2 / 2.0 * row["before"] ** 3, rel=1e-9)


def test_small_residuals_are_cubed_to_the_last_digit():
    before, after = (
        [row_of(mask=NONE, power=power, seed=0)[name] for power in (-5, -4)]
        for name in ("before", "after")
    )
    assert before[1] / before[0] == pytest.approx(10.0, rel=1e-9)
    assert after[1] / after[0] == pytest.approx(1000.0, rel=1e-3)


def test_the_plot_names_what_it_draws():
    result = small_run(NAME)
    figure = EXPERIMENTS[NAME].plot(result, judged(EXPERIMENTS[NAME], result))
    labels = [[line.get_label() for line in ax.get_lines()] for ax in figure.axes]
    assert [set(names) for names in labels] == [
        {"Gaussian tokens", "no change", NONE, CAUSAL},
        {"Gaussian tokens", "no change", NONE, "bound, γ = 1"},
    ]
    line = next(line for line in figure.axes[0].get_lines() if line.get_label() == CAUSAL)
    after = collapse_rate.sizes(result, "after", CAUSAL)
    np.testing.assert_allclose(line.get_ydata(), np.exp(np.mean(np.log(after), axis=0)))
