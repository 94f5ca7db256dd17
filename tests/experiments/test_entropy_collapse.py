"""Collapse of entropy: rules, verdicts that follow the rows, training done again by hand."""

import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small_run, verdicts

from mgt_np.experiments import EXPERIMENTS, entropy_collapse, judged
from mgt_np.experiments.entropy_collapse import FIXED, LEARNED, PLAIN

NAME = "entropy-collapse"
NO = "does not hold"


def test_rules_at_their_boundaries():
    nan = math.nan
    check_boundaries(
        NAME,
        ([-1e-6, 0.0, 0.5], [-1.01e-6, -0.1, nan]),
        ([0.0501, 1.0], [0.05, 0.0, nan]),
        ([-1e-9, -0.5], [0.0, 0.1, nan]),
        ([0.9001, 1.0], [0.9, 0.0, nan]),
        ([(20.0, 10.0), (1.0, 0.0)], [(10.0, 10.0), (0.0, 10.0), (nan, 10.0), (nan, nan)]),
    )


def of_row(**values):
    """One function of a row for all weights."""
    names = {"plain": PLAIN, "learned": LEARNED, "fixed": FIXED}
    by_weights = {names[name]: value for name, value in values.items()}
    return lambda row: by_weights[row["weights"]](row)


def test_a_bound_that_one_run_breaks_does_not_hold():
    result = small_run(NAME)
    assert verdicts(result)[0] == "holds"
    for trained in (0, 1):
        broken = {"seed": 1, "trained": trained, "weights": LEARNED}.items()
        low = verdicts(result, slack=lambda row, broken=broken: -1e-3 * (row.items() >= broken))
        assert low[0] == NO


def test_a_bound_says_something_where_it_does_for_every_seed():
    result = small_run(NAME)
    high = {(0.1, 0): 0.9, (0.1, 1): 0.06, (1.0, 0): 0.06, (1.0, 1): 0.04, (4.0, 1): 0.9}
    bounds = verdicts(result, bound=lambda row: high.get((row["scale"], row["seed"]), 0.0))
    assert bounds[1] == "holds only if W_q W_kᵀ is 0.1 times LeCun's"
    assert verdicts(result, bound=1.0)[1] == "holds"
    plain = verdicts(result, bound=lambda row: float(row["weights"] != PLAIN))
    assert plain[1] == NO


def test_entropy_must_fall_at_every_scale_for_every_seed():
    result = small_run(NAME)
    falling = {0.1: 0.9, 1.0: 0.5, 4.0: 0.1}
    assert verdicts(result, entropy=lambda row: falling[row["scale"]])[2] == "holds"

    def up_once(row):
        at = row["scale"] == 4.0 and row["seed"] == 1
        return 0.5 if at else falling[row["scale"]]

    assert verdicts(result, entropy=up_once)[2] == NO


def test_sigma_reparam_keeps_the_entropy_or_only_without_learning():
    result = small_run(NAME)

    def kept(row):
        return 0.99

    def lost_at_the_highest_rate(row):
        return 0.2 if row["rate"] == 1.0 else 0.99

    def uneven(row):
        return 1.0 / (1.0 + row["scale"])

    def verdict(diverged=0, **entropies):
        return verdicts(result, entropy=of_row(plain=kept, **entropies), diverged=diverged)[3]

    assert verdict(learned=kept, fixed=kept) == "holds"
    lost = {"learned": lost_at_the_highest_rate, "fixed": kept}
    only = "holds only if nothing is trained or γ of queries and keys is fixed at 1"
    assert verdict(**lost) == only
    assert verdict(learned=uneven, fixed=uneven) == NO
    # A low entropy in a run that diverged is no entropy that was kept or lost: it does not count,
    # and where all diverged nothing was kept.
    assert verdict(lambda row: int(row["rate"] == 1.0 and row["seed"] == 1), **lost) == "holds"
    assert verdict(lambda row: int(row["trained"]), **lost) == "holds only if nothing is trained"


def test_the_mean_over_seeds_is_kept_not_every_seed():
    result = small_run(NAME)

    def entropy(row):
        return 0.9 + 0.08 * (-1) ** row["seed"] if row["trained"] else 0.99

    assert entropy_collapse.kept(changed(result, entropy=entropy), LEARNED, "rate") == (
        pytest.approx(0.9 / 0.99)
    )


def test_a_stable_rate_beyond_one_that_diverged_does_not_count():
    result = small_run(NAME, rates=(0.1, 0.3, 1.0), n_steps=1)

    def at_03(row):
        return int(row["rate"] == 0.3 and row["seed"] == 1)

    def never(row):
        return 0

    rows = changed(result, diverged=of_row(plain=at_03, learned=never, fixed=never))
    assert entropy_collapse.stable(rows, PLAIN) == 0.1
    assert entropy_collapse.stable(rows, LEARNED) == 1.0
    assert verdicts(rows)[4] == "holds"
    assert verdicts(result, diverged=of_row(plain=at_03, learned=at_03, fixed=never))[4] == NO
    assert entropy_collapse.stable(changed(result, diverged=1), PLAIN) == 0.0


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def start(seed, scale, weights, settings):
    """X, Y and the parameters, γ last, as a list of arrays."""
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(seed,)))
    d = settings.d_model
    X = rng.standard_normal((settings.n_sequences, settings.n_tokens, d))
    W, W_q, W_k, W_v = rng.standard_normal((4, d, d)) / math.sqrt(d)
    Y = np.concatenate([X[:, -1:], X[:, :-1]], axis=1) @ W
    gammas = {PLAIN: 0, FIXED: 1, LEARNED: 3}[weights]
    return X, Y, [W_v, W_k * math.sqrt(scale), W_q * math.sqrt(scale), np.ones(gammas)]


def acting(params, weights):
    """W_v, W_k, W_q as they act; FIXED has a γ for the first of them alone."""
    *matrices, gammas = params
    if weights == PLAIN:
        return matrices
    gammas = [*gammas, 1.0, 1.0]
    return [g * W / np.linalg.norm(W, 2) for g, W in zip(gammas, matrices, strict=False)]


def error(params, weights, X, Y):
    W_v, W_k, W_q = acting(params, weights)
    P = softmax((X @ W_q) @ (X @ W_k).swapaxes(-1, -2) / math.sqrt(X.shape[-1]))
    return np.mean((P @ X @ W_v - Y) ** 2), P


def step(params, rate, loss, h=1e-5):
    """A step down the gradient, which is one of central differences."""
    moved = []
    for i, p in enumerate(params):
        g = np.zeros_like(p)
        for place in np.ndindex(p.shape):
            ends = []
            for sign in (1.0, -1.0):
                nudged = [q.copy() for q in params]
                nudged[i][place] += sign * h
                ends.append(loss(nudged))
            g[place] = (ends[0] - ends[1]) / (2.0 * h)
        moved.append(p - rate * g)
    return moved


def check_row(row, params, X, Y):
    loss, P = error(params, row["weights"], X, Y)
    _, W_k, W_q = acting(params, row["weights"])
    T, d = X.shape[-2:]
    entropy = -np.sum(P * np.log(P), axis=-1) / math.log(T)
    norm = np.linalg.norm(W_q @ W_k.T, 2)
    longest = max(np.linalg.norm(x @ x.T, 2) for x in X) * norm / math.sqrt(d)
    others = (T - 1) * math.exp(-longest * math.sqrt(T / (T - 1)))
    share = others / (1.0 + others)
    bound = (math.log1p(others) + share * longest * math.sqrt(T / (T - 1))) / math.log(T)
    wanted = {
        "loss": loss,
        "entropy": entropy.mean(),
        "lowest_entropy": entropy.min(),
        "bound": bound,
        "slack": entropy.min() - bound,
        "norm": norm,
    }
    got = {name: row[name] for name in wanted}
    assert got == pytest.approx(wanted, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("weights", [PLAIN, LEARNED])
@pytest.mark.parametrize("scale", [0.1, 4.0])
def test_rows_before_training_are_what_they_say(weights, scale):
    result = small_run(NAME)
    (row,) = result.rows.where(trained=0, weights=weights, scale=scale, seed=1)
    X, Y, params = start(1, scale, weights, result.settings)
    check_row(row, params, X, Y)
    assert (row["steps"], row["diverged"]) == (0, 0)


@pytest.mark.parametrize("weights", [PLAIN, LEARNED, FIXED])
def test_rows_after_training_are_what_they_say(weights):
    result = small_run(NAME, n_steps=2, n_seeds=1, rates=(0.5,))
    (row,) = result.rows.where(trained=1, weights=weights)
    X, Y, params = start(0, 1.0, weights, result.settings)
    for _ in range(2):
        params = step(params, 0.5, lambda p: error(p, weights, X, Y)[0])
    check_row(row, params, X, Y)
    assert (row["steps"], row["diverged"]) == (2, 0)


def test_sigma_reparam_starts_at_one_entropy_whatever_the_scale():
    entropy = entropy_collapse.grid(small_run(NAME), "entropy", LEARNED)
    np.testing.assert_allclose(entropy, entropy[:, :1] * np.ones(3), rtol=1e-9)


def test_a_run_that_diverged_says_so_and_keeps_its_last_finite_weights():
    result = small_run(NAME, rates=(1e4,), scales=(1.0,))
    lost = result.rows.where(trained=1, weights=PLAIN)
    before = result.rows.where(trained=0, weights=PLAIN)
    assert lost.column("diverged") == [1, 1]
    for row, first in zip(lost, before, strict=True):
        assert row["loss"] == pytest.approx(10.0 * first["loss"], rel=1e-9)
        assert row["steps"] == 1
        assert row["entropy"] == first["entropy"]


def test_runs_that_diverged_are_not_joined_to_the_others():
    result = changed(
        small_run(NAME, rates=(0.1, 0.3, 1.0), n_steps=1),
        diverged=lambda row: int(row["weights"] == PLAIN and row["rate"] == 0.3),
    )
    figure = entropy_collapse.plot(result, judged(EXPERIMENTS[NAME], result))
    for ax in figure.axes[1:]:
        (joined,) = [line for line in ax.lines if line.get_label() == PLAIN]
        assert list(joined.get_xdata()) == [0.1]
        crosses = [line for line in ax.lines if line.get_marker() == "x"]
        assert sum(len(line.get_xdata()) for line in crosses) == 2
    for ax in figure.axes[:2]:
        assert ax.get_ylim() == (0.0, 1.0)
