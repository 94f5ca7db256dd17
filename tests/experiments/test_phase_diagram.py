"""The phase diagram: its criterion at the boundary, what a cell measures, verdicts, figure."""

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small_run, verdicts

from mgt_np.experiments import EXPERIMENTS, judged, phase_diagram
from mgt_np.experiments.states import decoder_of_text
from mgt_np.layers import feed_forward, layer_norm, multi_head_attention

EXPERIMENT = EXPERIMENTS["phase-diagram"]


def test_boundaries_of_its_criterion():
    passing = [(0.501, 999.9), (1.0, 0.0)]
    failing = [(0.5, 1.0), (0.7, 1000.0), (0.7, np.inf), (np.nan, np.nan), (np.nan, 1.0)]
    check_boundaries("phase-diagram", *[(passing, failing)] * 2)


@pytest.mark.parametrize(
    ("rank", "growth", "name"),
    [
        (0.501, 2, "keep"),
        (0.5, 2, "lose"),
        (0.1, 2, "lose"),
        (0.099, 2, "collapse"),
        (0.6, 1e3, "explode"),
        (0.05, 1e3, "explode"),
        (np.nan, np.nan, "explode"),
        (np.nan, np.inf, "explode"),
    ],
)
def test_phases_of_a_cell(rank, growth, name):
    assert phase_diagram.phase(rank, growth) == name


@pytest.mark.parametrize(
    ("rank", "growth", "expected"),
    [
        (0.7, 1.0, "holds"),
        (0.05, 1.0, "does not hold"),
        (0.3, 1.0, "does not hold"),
        (0.7, 1e3, "does not hold"),
        (np.nan, np.inf, "does not hold"),
    ],
)
def test_verdicts_follow_the_rows(rank, growth, expected):
    found = verdicts(small_run("phase-diagram"), effective_rank=rank, growth=growth)
    assert found == [expected] * 2


def test_a_verdict_names_the_biases_that_keep_rank_at_every_weight_scale_without_explosion():
    result = small_run("phase-diagram")

    def rank(row):
        lost = row["b_beta"] == 1.0 and row["weight_scale"] == 1.0
        return 0.3 if lost and row["alpha"] == 1.0 else 0.7

    def growth(row):
        return 1e5 if row["b_beta"] == -1.0 and row["weight_scale"] == 0.1 else 2.0

    assert verdicts(result, effective_rank=rank, growth=growth) == [
        "holds only if b_β = 0",
        "holds only if b_β = 0 or 1",
    ]
    (claim, _) = judged(EXPERIMENT, changed(result, effective_rank=rank, growth=growth))
    assert claim.measured.startswith("-1: 0.70 (× 1e5); 0: 0.70 (× 2); 1: 0.30 (× 2)")


def test_all_cells_are_counted_and_the_cosine_is_that_of_the_collapsed():
    def rank(row):
        return {-1.0: 0.7, 0.0: 0.3, 1.0: 0.05}[row["b_beta"]]

    def cosine(row):
        if row["b_beta"] < 1.0:
            return 0.5
        return -0.1 if row["weight_scale"] == 1.0 else 0.01

    result = changed(
        small_run("phase-diagram"),
        effective_rank=rank,
        growth=lambda row: 1e4 if (row["b_beta"], row["weight_scale"]) == (-1.0, 1.0) else 1.0,
        cosine_to_embedding=cosine,
    )
    expected = "6 cells: 1 keep, 2 lose, 2 collapse, 1 explode; "
    expected += "cosine with the embedding if collapsed: -0.10 … 0.01"
    assert phase_diagram.counts(result, 1.0) == expected
    kept = changed(result, effective_rank=0.7)
    assert phase_diagram.counts(kept, 0.1).endswith("if collapsed: none")


def normalised_rank(X):
    share = np.linalg.svd(X, compute_uv=False)
    share = share / share.sum()
    return np.exp(-np.sum(share * np.log(share))) / min(X.shape)


def first_and_last_state(settings, alpha, b_beta, scale):
    """Of the decoder of one cell, MGT's update written out: W_β = 0 at the start, so β is tanh b_β.

    Shapes (n_windows, n_tokens, d_model).
    """
    names = ("data", "n_windows", "n_tokens", "d_model", "n_heads", "depth")
    _, params, text = decoder_of_text(
        residual="mgt",
        weight_scale=scale,
        seed=[settings.seed],
        **{name: getattr(settings, name) for name in names},
    )
    X = first = params["tokens"][text] + params["positions"][: text.shape[1]]
    for block in params["blocks"]:
        for name in ("attention", "feed_forward"):
            weights, gate = block[name], block[f"{name}_residual"]["update"]["W_gate"]
            if name == "attention":
                V = multi_head_attention(
                    layer_norm(X), **weights, n_heads=settings.n_heads, causal=True
                )
            else:
                V = feed_forward(layer_norm(X), **weights, activation="gelu")
            V = V / (1.0 + np.exp(-layer_norm(X @ gate)))
            X = X + np.tanh(b_beta) * (V - alpha * X)
    return first, X


@pytest.mark.parametrize(("alpha", "b_beta", "scale"), [(1.0, -1.0, 0.1), (0.1, 1.0, 1.0)])
def test_a_row_compares_the_last_state_with_the_embedding(alpha, b_beta, scale):
    result = small_run("phase-diagram")
    (row,) = result.rows.where(alpha=alpha, b_beta=b_beta, weight_scale=scale)
    X, Y = first_and_last_state(result.settings, alpha, b_beta, scale)
    cosines = [
        x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
        for x, y in zip(X.reshape(-1, 8), Y.reshape(-1, 8), strict=True)
    ]
    assert row["effective_rank_at_start"] == pytest.approx(normalised_rank(X[0]), rel=1e-9)
    assert row["effective_rank"] == pytest.approx(normalised_rank(Y[0]), rel=1e-9)
    assert row["growth"] == pytest.approx(np.linalg.norm(Y) / np.linalg.norm(X), rel=1e-9)
    assert row["cosine_to_embedding"] == pytest.approx(np.mean(cosines), rel=1e-9)
    assert len(cosines) == 8


def test_beta_of_zero_keeps_all_of_the_embedding():
    rows = small_run("phase-diagram").rows.where(b_beta=0.0)
    assert rows.column("effective_rank") == rows.column("effective_rank_at_start")
    assert rows.column("growth") == [1.0] * 4
    assert rows.column("cosine_to_embedding") == pytest.approx([1.0] * 4, abs=1e-10)


GROWTHS = {(-1.0, 0.1): 2e4, (-1.0, 1.0): np.inf}


def test_the_figure_shows_ranks_where_nothing_exploded_and_growth_elsewhere():
    result = changed(
        small_run("phase-diagram"),
        effective_rank=lambda row: {-1.0: np.nan, 0.0: 0.1, 1.0: 0.7}[row["b_beta"]],
        growth=lambda row: GROWTHS.get((row["b_beta"], row["weight_scale"]), 1.0),
    )
    claims = judged(EXPERIMENT, result)
    figure = EXPERIMENT.plot(result, claims)
    *maps, _ = figure.axes
    for ax, claim in zip(maps, claims, strict=True):
        shown = {text.get_position(): text.get_text() for text in ax.texts}
        column = [(shown[0, y], shown[1, y]) for y in range(3)]
        assert column == [("× 2e4", "× inf"), ("0.10", "0.10"), ("0.70", "0.70")]
        assert ax.get_title(loc="left") == claim.headline
        assert ax.images[0].norm.vmax == pytest.approx(0.7)
        assert "6 cells: 2 keep, 2 lose, 0 collapse, 2 explode" in ax.get_xlabel()
