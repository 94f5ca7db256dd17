"""Rank evolution of the baselines: every rule is drawn, and the claims follow from the rows."""

import dataclasses

import numpy as np
import pytest
from small_settings import SMALL

from mgt_np import RESIDUAL_RULES, experiments, plotting
from mgt_np.experiments import EXPERIMENTS, rank_evolution
from mgt_np.experiments.states import decoder_of_text

EXPERIMENT = EXPERIMENTS["rank-evolution"]


def small(*rules):
    settings = dataclasses.replace(SMALL["rank-evolution"], rules=rules, n_seeds=1)
    return experiments.run(EXPERIMENT, settings)


def test_every_rule_has_a_style_of_its_own_and_a_place_in_the_figure():
    styles = [tuple(sorted(style.items())) for style in plotting.RULE_STYLES.values()]
    assert len(set(styles)) == len(styles)
    assert RESIDUAL_RULES.keys() <= plotting.RULE_STYLES.keys()
    placed = [rule for rules in rank_evolution.FAMILIES.values() for rule in rules]
    assert sorted(placed) == sorted(plotting.RULE_STYLES)


def test_the_figure_holds_every_rule_once():
    result = small(*RESIDUAL_RULES)
    figure = EXPERIMENT.plot(result)
    labels = [
        text.get_text().split()[0]
        for ax in figure.axes
        if ax.get_legend() is not None
        for text in ax.get_legend().get_texts()
    ]
    assert sorted(labels) == sorted(RESIDUAL_RULES)
    assert str(len(RESIDUAL_RULES)) in figure.get_suptitle()


@pytest.mark.parametrize(("rank", "verdicts"), [(0.7, ["holds", "does not hold"]), (0.3, None)])
def test_verdicts_on_small_steps_follow_the_numbers(rank, verdicts):
    result = small("scaled_residual", "rezero", "layerscale")
    rows = [{**row, "effective_rank": rank} for row in result.rows]
    claims = EXPERIMENT.claims(dataclasses.replace(result, rows=rows))
    assert [claim.verdict for claim in claims] == (verdicts or ["does not hold", "holds"])
    assert f"{rank:.3f}" in claims[1].measured


def test_what_is_the_identity_keeps_the_embeddings_rank():
    result = small("rezero")
    ranks = np.reshape(result.column("effective_rank"), (2, -1))
    assert np.all(ranks == ranks[:, :1])


def test_admin_is_profiled_on_the_text_it_reads():
    sizes = {"data": "python-docs", "seed": 0, "n_windows": 2, "n_tokens": 8, "depth": 3}
    _, params, _ = decoder_of_text(residual="admin", d_model=8, n_heads=2, **sizes)
    omegas = [block["attention_residual"]["omega"][0] for block in params["blocks"]]
    assert omegas[0] == 1.0
    assert 1.0 < omegas[1] < omegas[2]
