"""Mixing: verdicts follow the rows, rows are what they are said to be, and the two bounds."""

import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small, small_run

from mgt_np.arrays.libraries import There, place
from mgt_np.experiments import EXPERIMENTS, judge, mixing_gain, result_of
from mgt_np.experiments.experiment import generator

THERE = There(place("numpy"), "float64")


def of_rule(rule, column, value):
    """A change of one column in the rows of one rule."""
    return {column: lambda row: value if row["rule"] == rule else row[column]}


def test_boundaries():
    rounding = ([1e-10, -1.0, 0.0], [1.01e-10, 0.5, math.nan])
    check_boundaries(
        "mixing-gain",
        ([3000.1], [3000.0, 2.0, math.nan]),
        ([1.599, 1.0], [1.6, 1.7, math.nan]),
        rounding,
        rounding,
        ([0.1001], [0.1, 0.0, math.nan]),
        rounding,
        ([1.0, 2.0], [0.9999, math.nan]),
    )


def test_verdicts_follow_the_rows():
    result = small_run("mixing-gain")
    claims = mixing_gain.claims(result.settings)

    def verdict(index, **columns):
        return judge(claims[index], changed(result, **columns)).verdict

    def only(passing):
        return f"holds only if {passing}"

    assert verdict(0, **of_rule("hc", "forward", 4000.0)) == "holds"
    assert verdict(0, forward=2.0, backward=2.0) == "does not hold"
    assert verdict(0, forward=lambda r: 1e4 * r["scale"], backward=1.0) == only(
        "the coefficients are I + 0.5 G"
    )
    # in every seed
    assert verdict(0, forward=lambda r: 4000.0 * r["seed"], backward=1.0) == "does not hold"
    assert verdict(1, **of_rule("mhc", "backward", 1.5)) == "holds"
    assert verdict(1, **of_rule("mhc", "backward", 1.7)) == "does not hold"
    assert verdict(1, **of_rule("mhc", "forward", 1.7)) == "does not hold"
    # in all draws
    assert verdict(1, backward=lambda r: 1.0 + r["seed"]) == "does not hold"
    assert verdict(1, backward=lambda r: 1.0 + 1.0 / r["n_iters"] if r["n_iters"] else 9.0) == only(
        "Sinkhorn makes 5 iterations"
    )
    assert verdict(2, row_error=0.0, column_error=0.0) == "holds"
    assert verdict(2, row_error=0.0, column_error=0.1) == only("one sums rows")
    assert verdict(2, row_error=0.1, column_error=0.1) == "does not hold"
    assert verdict(2, row_error=0.0, column_error=lambda r: float(r["n_iters"] == 1)) == only(
        "one sums rows or columns after 5 iterations"
    )
    assert verdict(3, norm_excess=0.0) == "holds"
    assert verdict(3, norm_excess=0.1) == "does not hold"
    as_converged = {
        "factor_error": lambda r: float(r["n_iters"] == 1),
        "norm_excess": lambda r: float(r["n_iters"] == 1),
    }
    assert verdict(3, **as_converged) == only("its column sums are within 1e-10 of one")
    assert verdict(4, second=0.5) == "holds"
    assert verdict(4, second=0.01) == "does not hold"
    assert verdict(4, second=lambda r: r["identity"] / 6.0) == only(
        "its logits are 6 I + 1 G or 6 I + 4 G"
    )
    # the mean over seeds, after the most iterations
    assert verdict(4, second=lambda r: 0.21 * r["seed"]) == "holds"
    assert verdict(4, second=lambda r: 0.19 * r["seed"]) == "does not hold"
    assert verdict(4, second=lambda r: float(r["n_iters"] == 1)) == "does not hold"
    assert verdict(5, distance=0.0) == "holds"
    assert (
        verdict(5, distance=lambda r: (1 - 1e-9 - math.exp(-4 * r["scale"])) ** r["layer"])
        == "holds"
    )
    assert verdict(5, distance=lambda r: 1.001 - math.exp(-4 * r["scale"])) == "does not hold"
    assert verdict(5, distance=lambda r: float(r["n_iters"] == 1)) == only(
        "Sinkhorn makes 5 iterations"
    )
    assert verdict(6, least=1.0) == "holds"
    assert verdict(6, least=0.0) == "does not hold"
    assert verdict(6, least=lambda r: r["seed"] * 1.0) == "does not hold"
    floor = math.exp(-0.5 - 0.25 / 6)
    assert verdict(6, least=1.001 * floor) == "holds"
    assert verdict(6, least=0.999 * floor) == only("β = 2")


def row_of(n_tokens=2, depth=2, seed=(10, 0), **options):
    """The last row of a cell, and the normal draws behind it."""
    cell = {"scale": 2.0, "n_iters": 0, "identity": 0.0} | options
    cell |= {"seed": list(seed), "depth": depth, "n_streams": 3, "n_tokens": n_tokens}
    *_, row = mixing_gain.work(THERE, **cell)
    return row, generator(list(seed)).standard_normal((depth, n_tokens, 3, 3))


def products(H):
    """The product of the second matrix and the first, token by token."""
    return np.einsum("tij,tjk->tik", H[1], H[0])


def test_a_row_of_free_mixing_by_another_route():
    """Gains are the mean over tokens of the largest sum, not the largest mean or maximum."""
    row, G = row_of(rule="hc")
    H = np.eye(3) + 2.0 * G
    P = products(H)
    for name, axis in (("forward", 2), ("backward", 1)):
        each = np.max(np.abs(np.sum(P, axis=axis)), axis=1)
        assert row[name] == pytest.approx(np.mean(each), rel=1e-12)
    sigma = np.linalg.svd(P, compute_uv=False)
    assert row["second"] == pytest.approx(np.mean(sigma[:, 1]), rel=1e-10)
    assert row["least"] == pytest.approx(np.min(sigma[:, 2]), rel=1e-8)
    norms = [np.linalg.norm(M, 2) for M in H.reshape(-1, 3, 3)]
    assert row["norm_excess"] == pytest.approx(max(norms) - 1.0, rel=1e-12)
    assert row["factor_error"] == pytest.approx(np.max(np.abs(H.sum(2) - 1.0)), rel=1e-12)
    assert row["row_error"] == pytest.approx(np.max(np.abs(P.sum(2) - 1.0)), rel=1e-12)
    assert row["column_error"] == pytest.approx(np.max(np.abs(P.sum(1) - 1.0)), rel=1e-12)
    assert row["seed"] == 0
    assert row["layer"] == 2


def normalised(logits, n_iters):
    """Columns, then rows, divided by their sums."""
    M = np.exp(logits)
    for _ in range(n_iters):
        M = M / M.sum(-2, keepdims=True)
        M = M / M.sum(-1, keepdims=True)
    return M


@pytest.mark.parametrize("rule", ["mhc", "bounded"])
def test_a_row_of_constrained_mixing_by_another_route(rule):
    row, G = row_of(rule=rule, n_iters=2, identity=1.0)
    P = products(normalised(2.0 * np.sign(G) if rule == "bounded" else np.eye(3) + 2.0 * G, 2))
    distance = [np.linalg.norm(M - np.full((3, 3), 1.0 / 3.0), 2) for M in P]
    assert row["distance"] == pytest.approx(max(distance), rel=1e-10)
    assert row["backward"] == pytest.approx(np.mean(P.sum(1).max(1)), rel=1e-12)
    assert row["forward"] == pytest.approx(1.0, abs=1e-14)


def test_a_row_of_leaky_mixing_by_another_route():
    """H = (1 − γ) I + γ Σ c_k Pᵏ with γ = β/2L: its eigenvalues are a Fourier transform."""
    row, G = row_of(rule="leaky", scale=0.8)
    c = np.exp(4.0 * G[..., 0])
    weights = 0.8 / 4 * c / c.sum(-1, keepdims=True)
    weights[..., 0] += 1.0 - 0.8 / 4
    eigenvalues = np.abs(np.prod(np.fft.fft(weights), axis=0))
    assert row["least"] == pytest.approx(eigenvalues.min(), rel=1e-10)


def test_the_bounds_of_the_docstring_are_attained():
    """σ₂ = tanh B for two blocks of signs, σ_min = 1 − β/L where all of C is half a turn."""
    signs = np.kron([[1.0, -1.0], [-1.0, 1.0]], np.ones((2, 2)))
    H = normalised(0.7 * signs, 50)
    assert np.linalg.norm(H - 0.25, 2) == pytest.approx(math.tanh(0.7), rel=1e-12)
    assert all(math.tanh(B) <= 1.0 - math.exp(-4.0 * B) for B in np.linspace(0.0, 5.0, 50))
    G = np.zeros((6, 1, 4, 4))
    G[..., 2, 0] = 100.0
    options = {"rule": "leaky", "scale": 2.0, "n_iters": 0, "identity": 0.0}
    (half_turn, *_) = mixing_gain.mixing(THERE, G, **options)
    assert np.linalg.svdvals(half_turn)[0, -1] == pytest.approx(1.0 - 2.0 / 6.0, rel=1e-12)


def test_what_the_small_run_finds():
    """Free products grow; rows are exact, columns after more steps; the floor is kept."""
    rows = small_run("mixing-gain").rows
    growth = rows.where(rule="hc", scale=0.5).grid("forward", "layer", "seed").mean(1)
    assert growth[-1] > 2.0 * growth[0]
    assert max(rows.where(rule="mhc").column("row_error")) < 1e-13
    errors = [max(rows.where(rule="mhc", n_iters=n).column("column_error")) for n in (1, 5)]
    assert errors[1] < 0.5 * errors[0]
    assert rows.values("layer") == [1, 2, 4, 6]


def test_the_arms_share_their_draws():
    cells = mixing_gain.tasks(small("mixing-gain"))
    assert {tuple(cell["seed"]) for cell in cells} == {(0, 0), (0, 1)}
    assert len(cells) == 2 * (2 + 2 * 2 * 2 + 2 * 2 + 2)


FEW = {"free_scales": (0.1,), "scales": (1.0,), "identities": (6.0,), "bounds": (0.5,)}
FEW |= {"budgets": (0.5,), "iterations": (3,), "n_seeds": 1, "depth": 3}


def test_another_library_gives_the_same_rows():
    pytest.importorskip("torch")
    experiment, rows = EXPERIMENTS["mixing-gain"], small_run("mixing-gain", **FEW).rows
    others = result_of(experiment, small("mixing-gain", array_library="torch", **FEW)).rows
    assert (
        others.column("rule")
        == rows.column("rule")
        == [rule for rule in ("hc", "mhc", "bounded", "leaky") for _ in range(3)]
    )
    for name in set(rows[0]) - {"rule"}:
        assert others.column(name) == pytest.approx(rows.column(name), rel=1e-9, abs=1e-12)


def test_in_single_precision():
    rows = small_run("mixing-gain", dtype="float32", **FEW).rows
    assert max(rows.where(rule="mhc").column("row_error")) < 1e-5


def test_another_seed_shares_no_draw():
    gains = [small_run("mixing-gain", seed=seed, **FEW).rows.where(rule="hc") for seed in (0, 1)]
    assert not set(gains[0].column("backward")) & set(gains[1].column("backward"))
