"""The headline: verdicts at their boundaries, what each curve is, and what the figure says."""

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small_run, verdicts

from mgt_np.arrays.libraries import There, place
from mgt_np.experiments import EXPERIMENTS, judged
from mgt_np.experiments.states import measured, states_of_text
from mgt_np.models import TransformerConfig

EXPERIMENT = EXPERIMENTS["headline"]
STEEP, POST = "MGT with large β", "Post-LN transformer"
PRE, OURS = "Pre-LN transformer", "MGT (our defaults)"
RULES = ("post_ln", "pre_ln", "mgt")
FAILED, NAN = "does not hold", (np.nan, np.nan)
SMALL = "small (b_β = 0.05, α = 0.1)"


def test_boundaries_of_its_criteria():
    check_boundaries(
        "headline",
        ([(0.01, 0.0999)], [(0.1, 0.1), (0.01, 0.1), NAN]),
        ([(0.501, 0.501)], [(0.5, 0.6), (0.4, 0.7), NAN]),
    )


@pytest.mark.parametrize(
    ("high", "expected"),
    [
        ((PRE, OURS), ["holds only if it is post-LN", f"holds only if β is {SMALL}"]),
        ((POST, STEEP), ["holds only if it is pre-LN", "holds only if β is large"]),
        ((STEEP, OURS), ["holds", "holds"]),
        ((POST, PRE), [FAILED, FAILED]),
    ],
)
def test_verdicts_follow_the_rows(high, expected):
    def rank(row):
        return 0.7 if row["decoder"] in high else 0.05

    found = verdicts(small_run("headline"), effective_rank=rank)
    assert found == [x.replace("large", "large (b_β = 0.5, α = 1)") for x in expected]


def test_overflow_holds_nothing():
    assert verdicts(small_run("headline"), effective_rank=np.nan) == [FAILED] * 2


def test_one_seed_is_enough_to_fail():
    def rank(row):
        usual = 0.7 if row["decoder"] == OURS else 0.05
        return 0.4 if row["seed"] == 1 else usual

    assert verdicts(small_run("headline"), effective_rank=rank) == [FAILED] * 2


def test_the_last_layer_decides():
    def rank(row):
        usual = 0.7 if row["decoder"] in (OURS, STEEP) else 0.05
        return usual if row["layer"] == 3 else 0.3

    assert verdicts(small_run("headline"), effective_rank=rank) == ["holds", "holds"]


def test_its_curves_are_those_of_rank_evolution():
    """The same seeds give the same text and weights there, at LeCun's scale."""
    result, other = small_run("headline"), small_run("rank-evolution", rules=RULES)
    for decoder, rule in zip((POST, PRE, OURS), RULES, strict=True):
        same = other.rows.where(rule=rule, weight_scale="lecun")
        found = result.rows.where(decoder=decoder)
        assert found.column("effective_rank") == same.column("effective_rank")
        assert found.column("seed") == same.column("seed")


def test_large_beta_is_that_of_the_condition():
    result = small_run("headline")
    names = ("data", "n_windows", "n_tokens", "d_model", "n_heads", "depth")
    sizes = {name: getattr(result.settings, name) for name in names}
    options = {"residual": "mgt", "mgt_b_beta": 0.5, "mgt_alpha": 1.0}
    states = states_of_text(There(place("numpy"), "float64"), seed=[0, 1], **options, **sizes)
    found = result.rows.where(decoder=STEEP, seed=1).column("effective_rank")
    assert found == pytest.approx([measured(state)[0] for state in states], rel=1e-9)


def test_small_beta_is_our_default():
    default = TransformerConfig
    assert f"small (b_β = {default.mgt_b_beta}, α = {default.mgt_alpha})" == SMALL


def test_the_figure_names_each_curve_where_it_ends():
    result = small_run("headline")
    claims = judged(EXPERIMENT, changed(result, effective_rank=0.05))
    figure = EXPERIMENT.plot(result, claims)
    (ax,) = figure.axes
    places = {text.get_text(): text.get_position()[1] for text in ax.texts}
    names = (STEEP, POST, PRE, OURS)
    assert places.pop("predicted: MGT above 0.5") == 0.5
    assert places.pop("predicted: a standard transformer below 0.1") == 0.1
    assert sorted(places) == sorted(names)
    for name, line in zip(names, ax.lines[2:], strict=True):
        ranks = result.rows.where(decoder=name).grid("effective_rank", "seed", "layer")
        assert line.get_ydata() == pytest.approx(ranks.mean(axis=0), rel=1e-12)
        assert places[name] >= line.get_ydata()[-1]
    assert ax.get_title(loc="left") == "\n".join(claim.headline for claim in claims)
    assert min(np.diff([places[name] for name in names])) >= 0.05 - 1e-12
