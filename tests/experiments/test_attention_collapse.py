"""Which parts stop the collapse: the layers themselves, and verdicts that follow the rows."""

import dataclasses
import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small_run, verdicts

from mgt_np import (
    feed_forward,
    init_feed_forward,
    init_multi_head_attention,
    layer_norm,
    multi_head_attention,
    relative_residual,
)
from mgt_np.experiments import EXPERIMENTS, judged, result_of
from mgt_np.experiments.attention_collapse import (
    ALONE,
    CLUSTERS,
    MLPS,
    SKIPS,
    VARIANTS,
    Settings,
    collapsed_after,
)
from mgt_np.experiments.experiment import cells, generator

NAME = "attention-collapse"
NORMED = "LN(attention)"


def test_the_rules_at_their_boundaries():
    nan, inf = math.nan, math.inf
    check_boundaries(
        NAME,
        ([0.1001], [0.1, nan]),
        ([(4.0, 3.0), (inf, 3.0)], [(3.0, 3.0), (2.0, 3.0), (inf, inf), (nan, 3.0), (3.0, nan)]),
        ([(9.9e-7, 9.9e-7)], [(1e-6, 0.0), (0.0, 1e-6), (nan, 0.0), (0.0, nan)]),
    )


def falling(rates, otherwise=0.5):
    """Residuals that fall by a rate of each variant in every layer."""
    return lambda row: rates.get(row["variant"], otherwise) ** row["layer"]


def test_verdicts_follow_the_rows():
    """Of three layers a rate of 0.9 leaves 0.73, one of 0.3 leaves 0.027, one of 1e-4 1e-12."""
    result = small_run(NAME)

    def after(rates, otherwise):
        return verdicts(result, relative_residual=falling(rates, otherwise))

    no = "does not hold"
    assert after({}, 0.9) == ["holds", no, no]
    assert after({}, 1e-4) == [no, no, "holds"]
    plain, _, block, scaled = SKIPS
    assert (
        after({block: 0.9, scaled: 0.9}, 0.3)[0] == f"holds only if a layer is {block} or {scaled}"
    )
    assert after({plain: 0.9}, 0.3)[0] == "holds only if a layer is attention + skip"
    slower = dict.fromkeys(MLPS, 5e-3) | dict.fromkeys(SKIPS, 0.9)
    assert after(slower, 1e-4)[1] == "holds"  # three layers against two
    assert after({MLPS[1]: 0.9}, 1e-4)[1] == "holds only if a layer is MLP(attention) × 8"
    assert after({CLUSTERS[1]: 1.0}, 1e-4)[2] == "holds only if weights are random"
    assert after({NORMED: 1.0}, 1e-4)[2] == "holds only if weights are chosen"
    assert after({NORMED: 1.0, CLUSTERS[0]: 1.0}, 1e-4)[2] == no


def test_every_seed_counts():
    """A skip must keep the tokens of every seed apart; to collapse is to do so for every seed."""
    result = small_run(NAME)

    def but(seed, value, otherwise):
        return lambda row: 1.0 if row["layer"] == 0 else value if row["seed"] == seed else otherwise

    for seed in (0, 1):
        assert verdicts(result, relative_residual=but(seed, 0.01, 1.0))[0] == "does not hold"
        one_stays = but(seed, 0.5, 1e-9)
        assert verdicts(result, relative_residual=one_stays)[2] == "does not hold"
        stays = changed(result, relative_residual=one_stays)
        assert collapsed_after(stays, ALONE) == math.inf


def test_it_is_the_last_layer_that_counts():
    def at_last(value, before):
        return lambda row: value if row["layer"] == 3 else before

    lost, collapsed = (
        verdicts(small_run(NAME), relative_residual=at_last(*values))
        for values in ((0.05, 1.0), (1e-9, 1.0))
    )
    assert lost[0] == "does not hold"
    assert collapsed[2] == "holds"


def test_the_layers_until_collapse_are_counted_from_the_tokens():
    result = changed(small_run(NAME), relative_residual=falling({ALONE: 5e-3, NORMED: 1e-7}))
    assert collapsed_after(result, ALONE) == 3.0  # 1e-7 after three layers, 3e-5 after two
    assert collapsed_after(result, NORMED) == 1.0
    assert collapsed_after(result, SKIPS[0]) == math.inf


def by_hand(x, attention, mlp, variant, depth):
    """One layer of a variant, each written out."""
    if variant in CLUSTERS:
        y = multi_head_attention(x, **attention, n_heads=1)
        return y if variant == CLUSTERS[0] else layer_norm(y)
    y = multi_head_attention(x, **attention, n_heads=2)
    if variant == "a pre-LN block":
        x = x + multi_head_attention(layer_norm(x), **attention, n_heads=2)
        return x + feed_forward(layer_norm(x), **mlp)
    return {
        "attention": y,
        "LN(attention)": layer_norm(y),
        "MLP(attention) × 1": feed_forward(y, **mlp),
        "MLP(attention) × 8": 8.0 * feed_forward(y, **mlp),
        "attention + skip": x + y,
        "LN(attention + skip)": layer_norm(x + y),
        "attention/√depth + skip": x + y / math.sqrt(depth),
    }[variant]


def drawn(variant, seed):
    """The tokens and the weights of each layer at the small settings."""
    rng = generator([0, seed])
    if variant in CLUSTERS:
        u = np.array([1.0, -1.0] * 4)
        start = np.where(np.arange(8) < 5, 1.0, -1.0)[:, None] * u
        start = start + 0.3 * rng.standard_normal((8, 8))
        # With one head of d_k = d the logits are q·k/√d = 0.8 u·u/d.
        of_u = {"W_q": 0.8 * np.eye(8) / math.sqrt(8), "W_k": np.eye(8), "W_o": np.eye(8)}
        of_u["W_v"] = (np.eye(8) + np.outer(u, u) / 8) / 2
        return start, [(of_u, {})] * 3
    start, layers = rng.standard_normal((8, 8)), []
    for rng_layer in rng.spawn(3):
        rng_attention, rng_mlp = rng_layer.spawn(2)
        attention = init_multi_head_attention(rng_attention, 8, bias=False)
        layers.append((attention, init_feed_forward(rng_mlp, 8, 32, bias=False)))
    return start, layers


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_are_of_the_layers_that_are_named(variant, seed):
    x, layers = drawn(variant, seed)
    expected = [float(relative_residual(x))]
    for attention, mlp in layers:
        x = by_hand(x, attention, mlp, variant, depth=3)
        expected.append(float(relative_residual(x)))
    rows = small_run(NAME).rows.where(variant=variant, seed=seed)
    assert rows.column("layer") == [0, 1, 2, 3]
    assert rows.column("relative_residual") == pytest.approx(expected, rel=1e-8, abs=1e-13)


def last(variant, depth):
    """What is left of one seed's tokens by layers of the full width."""
    experiment = EXPERIMENTS[NAME]
    (cell,) = cells(Settings(depth=depth), variant=(variant,), seed=([0, 0],))
    alone = dataclasses.replace(experiment, tasks=lambda settings: [cell])
    return result_of(alone).rows[-1]["relative_residual"]


def test_the_headlines_at_full_width():
    """Attention alone is gone after 4 layers, a skip over √depth keeps the tokens."""
    assert last(ALONE, 4) < 1e-14
    assert last("attention + skip", 24) < 0.1 < 0.9 < last("attention/√depth + skip", 24)


def test_layer_norm_keeps_two_clusters_apart_and_nothing_else_does():
    side = np.where(np.arange(64) < 0.6 * 64, 1.0, -1.0)[:, None]
    clusters = float(relative_residual(side * np.tile([1.0, -1.0], 32)))
    assert last(CLUSTERS[0], 60) < 1e-14
    assert last(CLUSTERS[1], 60) == pytest.approx(clusters, rel=1e-4)


def test_the_plot_ends_its_curves_where_the_tokens_are_equal():
    result = changed(small_run(NAME), relative_residual=falling({ALONE: 1e-4}))
    figure = EXPERIMENTS[NAME].plot(result, judged(EXPERIMENTS[NAME], result))
    titles = [ax.get_title(loc="left").replace("\n", " ") for ax in figure.axes]
    verdicts_of = [each.verdict for each in judged(EXPERIMENTS[NAME], result)]
    assert all(title.endswith(v) for title, v in zip(titles, verdicts_of, strict=True))
    for ax in figure.axes:
        drawn_until = {line.get_label(): max(line.get_xdata()) for line in ax.get_lines()}
        assert drawn_until.pop(ALONE) == 2
        assert set(drawn_until.values()) == {3}
