"""Rank evolution: its headline, every rule in its figure, and verdicts that follow the rows."""

import numpy as np
import pytest
from small_settings import changed, small_run, verdicts

from mgt_np import RESIDUAL_RULES, plotting
from mgt_np.experiments import EXPERIMENTS, rank_evolution
from mgt_np.experiments.states import decoder_of_text, measured, states_of_text

EXPERIMENT = EXPERIMENTS["rank-evolution"]


def test_every_rule_has_a_style_of_its_own_and_a_place_in_the_figure():
    styles = [tuple(sorted(style.items())) for style in plotting.RULE_STYLES.values()]
    assert len(set(styles)) == len(styles)
    assert RESIDUAL_RULES.keys() <= plotting.RULE_STYLES.keys()
    placed = [rule for rules in rank_evolution.FAMILIES.values() for rule in rules]
    assert sorted(placed) == sorted(plotting.RULE_STYLES)


def test_the_figure_holds_every_rule_once():
    result = small_run("rank-evolution", rules=tuple(RESIDUAL_RULES), n_seeds=1)
    figure = EXPERIMENT.plot(result)
    labels = [
        text.get_text().split()[0]
        for ax in figure.axes
        if ax.get_legend() is not None
        for text in ax.get_legend().get_texts()
    ]
    assert sorted(labels) == sorted(RESIDUAL_RULES)
    assert str(len(RESIDUAL_RULES)) in figure.get_suptitle()


def test_verdicts_follow_the_rows():
    result = small_run("rank-evolution")
    collapsed, kept = (verdicts(result, effective_rank=rank) for rank in (0.05, 0.7))
    assert [verdict.split()[0] for verdict in collapsed] == ["holds", "does"]
    assert [verdict.split()[0] for verdict in kept] == ["does", "holds"]


@pytest.mark.parametrize(
    ("rank", "expected"), [(0.7, ["holds", "does not hold"]), (0.3, ["does not hold", "holds"])]
)
def test_verdicts_on_small_steps_follow_the_rows(rank, expected):
    rules = ("scaled_residual", "rezero", "layerscale")
    result = changed(small_run("rank-evolution", rules=rules, n_seeds=1), effective_rank=rank)
    assert verdicts(result) == expected
    assert f"{rank:.3f}" in EXPERIMENT.claims(result)[1].measured


def test_what_is_the_identity_keeps_the_embeddings_rank():
    result = small_run("rank-evolution", rules=("rezero",), n_seeds=1)
    ranks = np.reshape(result.column("effective_rank"), (2, -1))
    assert np.all(ranks == ranks[:, :1])


def test_admin_is_profiled_on_the_text_it_reads():
    sizes = {"data": "python-docs", "seed": 0, "n_windows": 2, "n_tokens": 8, "depth": 3}
    _, params, _ = decoder_of_text(residual="admin", d_model=8, n_heads=2, **sizes)
    omegas = [block["attention_residual"]["omega"][0] for block in params["blocks"]]
    assert omegas[0] == 1.0
    assert 1.0 < omegas[1] < omegas[2]


def test_it_has_the_columns_that_others_read():
    row = small_run("rank-evolution").rows[0]
    assert list(row) == ["rule", "weight_scale", "seed", "layer", "effective_rank", "state_norm"]


def test_rules_of_one_seed_share_embeddings_and_sublayers():
    result = small_run("rank-evolution")
    first = {
        rule: result.column("effective_rank", rule=rule, weight_scale="lecun", seed=0, layer=0)
        for rule in ("post_ln", "mgt")
    }
    assert first["post_ln"] == first["mgt"]


def test_post_ln_collapses_and_mgt_does_not_at_depth_100():
    """The headline, and the setting where it fails, on real text: 0.1 and 0.5 are the paper's."""
    sizes = {
        "data": "python-docs",
        "seed": 0,
        "n_windows": 1,
        "n_tokens": 64,
        "d_model": 64,
        "n_heads": 4,
    }

    def rank(rule, **options):
        return measured(states_of_text(residual=rule, depth=100, **sizes, **options)[-1])[0]

    assert rank("post_ln", weight_scale="lecun") < 0.1
    assert rank("mgt", weight_scale="lecun") > 0.5
    assert rank("post_ln", weight_scale=0.02) > 0.5
    assert rank("mgt", weight_scale="lecun", mgt_b_beta=0.5, mgt_alpha=1.0) < 0.1
