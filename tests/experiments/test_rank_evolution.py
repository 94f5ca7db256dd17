"""Rank evolution: its verdicts at their boundaries, the layer that decides, what a row measures."""

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small, small_run, verdicts

from mgt_np import RESIDUAL_RULES
from mgt_np.experiments import EXPERIMENTS, Result, Rows, judged, rank_evolution
from mgt_np.experiments.states import decoder_of_text
from mgt_np.models import TransformerConfig

EXPERIMENT = EXPERIMENTS["rank-evolution"]
DECISIVE = ("post_ln", "mgt", "scaled_residual", "rezero", "layerscale")
FAILED = "does not hold"
NAN = (np.nan, np.nan)


def test_boundaries_of_its_criteria():
    kept = ([(0.501, 0.6), (0.501, 0.501)], [(0.5, 0.6), (0.4, 0.6), NAN])
    check_boundaries(
        "rank-evolution",
        ([(0.01, 0.0999)], [(0.1, 0.1), (0.01, 0.1), NAN]),
        kept,
        kept,
        ([(0.5, 0.7), (0.5, 0.5)], [(0.501, 0.7), NAN]),
    )


def decisive_run():
    return small_run("rank-evolution", rules=DECISIVE, n_windows=1)


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (0.05, ["holds", FAILED, FAILED, "holds"]),
        (0.3, [FAILED, FAILED, FAILED, "holds"]),
        (0.7, [FAILED, "holds", "holds", FAILED]),
        (np.nan, [FAILED] * 4),
    ],
)
def test_verdicts_follow_the_ranks(rank, expected):
    assert verdicts(decisive_run(), effective_rank=rank) == expected


def test_verdicts_name_the_weight_scale_that_decides():
    def at_lecun(row):
        collapsed = (row["weight_scale"] == "lecun") == (row["rule"] == "post_ln")
        return 0.05 if collapsed else 0.7

    def at_002(row):
        return {0.05: 0.7, 0.7: 0.05}[at_lecun(row)]

    lecun, small_weights = (f"holds only if the weight scale is {x}" for x in ("LeCun", "0.02"))
    assert verdicts(decisive_run(), effective_rank=at_lecun)[:3] == [lecun] * 3
    assert verdicts(decisive_run(), effective_rank=at_002)[:3] == [small_weights] * 3


def test_a_rule_near_the_identity_is_named_with_its_step():
    def rank(row):
        return 0.4 if row["rule"] == "rezero" and row["seed"] == 1 else 0.7

    verdict = verdicts(decisive_run(), effective_rank=rank)[-1]
    assert verdict == "holds only if the rule that hardly moves the state is ReZero (step 0)"
    (_, *_, claim) = judged(EXPERIMENT, changed(decisive_run(), effective_rank=rank))
    assert claim.measured == "ReZero (step 0): 0.400 … 0.700; LayerScale (step 0.1): 0.700 … 0.700"


def test_one_seed_is_enough_to_fail():
    def one_seed(usual, other):
        return lambda row: other if row["seed"] == 1 else usual

    assert verdicts(decisive_run(), effective_rank=one_seed(0.05, 0.2))[0] == FAILED
    assert verdicts(decisive_run(), effective_rank=one_seed(0.7, 0.4))[1:3] == [FAILED] * 2


@pytest.mark.parametrize(("depth", "layer"), [(120, 100), (100, 100), (40, 40)])
def test_layer_100_decides_or_the_last_before_it(depth, layer):
    settings = small("rank-evolution", rules=("post_ln", "mgt"), depth=depth, n_seeds=1)
    rows = Rows(
        {
            "rule": rule,
            "weight_scale": scale,
            "seed": 0,
            "layer": i,
            "effective_rank": (0.05 if rule == "post_ln" else 0.7) if i == layer else 0.3,
            "state_norm": 1.0,
        }
        for rule in settings.rules
        for scale in settings.weight_scales
        for i in range(depth + 1)
    )
    found = judged(EXPERIMENT, Result("rank-evolution", settings, rows))
    assert [each.verdict for each in found] == ["holds", "holds"]
    assert all(f"depth {layer}" in each.claim for each in found)


def test_what_was_not_run_is_not_judged():
    for rules, n in (("pre_ln",), 0), (("mgt",), 1), (("layerscale",), 1), (tuple(DECISIVE), 4):
        assert len(EXPERIMENT.claims(small("rank-evolution", rules=rules))) == n


def test_mgt_says_with_which_options_it_was_measured():
    measured = judged(EXPERIMENT, decisive_run())[1].measured
    config = TransformerConfig
    assert f"b_β = {config.mgt_b_beta}, α = {config.mgt_alpha}" in measured
    assert "embeddings of scale 1" in measured


def embeddings(settings, seed):
    sizes = {name: getattr(settings, name) for name in ("data", "n_windows", "n_tokens", "d_model")}
    sizes |= {"n_heads": settings.n_heads, "depth": settings.depth, "seed": [settings.seed, seed]}
    _, params, text = decoder_of_text(residual="rezero", **sizes)
    return params["tokens"][text] + params["positions"][: text.shape[1]]


def normalised_rank(X):
    """The exponential of the entropy of the singular values' shares, over the most it can be."""
    share = np.linalg.svd(X, compute_uv=False)
    share = share / share.sum()
    return np.exp(-np.sum(share * np.log(share))) / min(X.shape)


def test_a_row_is_the_mean_rank_and_norm_over_the_windows():
    """ReZero starts as the identity: each of its layers is the embedding."""
    result = small_run("rank-evolution", rules=("rezero",), n_seeds=2)
    for seed in (0, 1):
        X = embeddings(result.settings, seed)
        rows = result.rows.where(seed=seed, weight_scale="lecun")
        assert rows.column("layer") == [0, 1, 2, 3]
        ranks = rows.column("effective_rank")
        norms = rows.column("state_norm")
        expected = np.mean([np.linalg.norm(x) / np.sqrt(len(x)) for x in X])
        assert ranks == pytest.approx([np.mean([normalised_rank(x) for x in X])] * 4, rel=2e-10)
        assert norms == pytest.approx([expected] * 4, rel=2e-10)


def test_rules_of_one_seed_share_text_and_embeddings_and_seeds_do_not():
    first = small_run("rank-evolution").rows.where(layer=0)
    ranks = first.grid("effective_rank", "rule", "weight_scale", "seed")
    assert np.all(ranks == ranks[0, 0])
    assert len(set(ranks[0, 0])) == 2


def test_it_has_the_columns_that_others_read():
    row = small_run("rank-evolution").rows[0]
    assert list(row) == ["rule", "weight_scale", "seed", "layer", "effective_rank", "state_norm"]


def test_every_rule_has_a_name_of_its_own():
    assert rank_evolution.NAMES.keys() == RESIDUAL_RULES.keys()
    assert len(set(rank_evolution.NAMES.values())) == len(RESIDUAL_RULES)


def test_the_figure_has_a_panel_for_each_rule_from_the_highest_rank_to_the_lowest():
    rules = ("none", "pre_ln", "deepnorm", "mgt", "hc", "post_ln")
    result = small_run("rank-evolution", rules=rules, n_seeds=1, weight_scales=("lecun",))
    figure = EXPERIMENT.plot(result, judged(EXPERIMENT, result))
    last = result.rows.where(layer=3)
    ranks = dict(zip(last.column("rule"), last.column("effective_rank"), strict=True))
    ordered = sorted(rules, key=lambda rule: -ranks[rule])
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.axison]
    assert titles == [rank_evolution.NAMES[rule] for rule in ordered]


def test_its_title_is_the_verdict():
    for rank, verdict in (0.7, "does not hold"), (0.3, "holds"):
        result = changed(decisive_run(), effective_rank=rank)
        figure = EXPERIMENT.plot(result, judged(EXPERIMENT, result))
        assert figure.get_suptitle().endswith(f":\n{verdict}")
    labels = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert sorted(labels) == ["predicted above", "predicted below"]


def test_post_ln_collapses_and_mgt_does_not_at_depth_100():
    """The headline on real text, and the weights at which it fails: 0.1 and 0.5 are the paper's."""
    sizes = {"d_model": 16, "n_heads": 2, "n_tokens": 16, "n_windows": 1, "n_seeds": 1}
    result = small_run("rank-evolution", depth=100, **sizes)
    assert [each.verdict for each in judged(EXPERIMENT, result)] == [
        "holds only if the weight scale is LeCun",
        "holds",
    ]
