"""Spans: what attention cannot leave and an MLP can, and verdicts that follow the rows."""

import itertools
import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small, small_run, verdicts

from mgt_np.experiments import EXPERIMENTS, span
from mgt_np.experiments.experiment import generator

NAN = float("nan")


@pytest.fixture
def result():
    return small_run("span", n_seeds=2)


def measured(result, number):
    return EXPERIMENTS["span"].claims(result.settings)[number].measure(result)


def worst(row, value, other):
    """A value in one row of one seed, another in all others."""
    return value if (row["seed"], row["layer"]) == (1, 2) else other


def test_boundaries():
    inside, outside = ([0.0, 1e-10], [1.01e-10, NAN]), ([1.01e-10, 1.0], [0.0, 1e-10, NAN])
    rank, least = ([4], [3, 5, NAN]), ([0.11, 1.0], [0.1, 0.0, NAN])
    check_boundaries("span", inside, inside, ([63], [64, NAN]), outside, rank, rank, least)


def test_verdicts_follow_from_the_measurement():
    assert verdicts(small_run("span", d=16)) == [
        "holds only if the value maps are I/H or −I/H",
        "holds",
        "holds only if the number of layers is 1",
        "holds only if these span fewer than all dimensions",
        "holds only if the value maps are I/H or random",
        "holds",
        "holds",
    ]
    roomy = verdicts(small_run("span"))  # 3 tokens and 3² paths in 40 dimensions
    assert roomy[1:4] == ["holds", "holds", "holds"]


def test_verdicts_on_spans(result):
    assert verdicts(result, outside_embeddings=0.0)[0] == "holds"
    assert verdicts(result, outside_embeddings=0.1)[0] == "does not hold"
    assert verdicts(result, outside_paths=0.1)[1] == "does not hold"
    far = verdicts(result, outside_paths=lambda row: float(row["value_maps"] == "random"))
    assert far[1] == ("holds only if the value maps are I/H or −I/H")
    assert verdicts(result, path_dimensions=40)[2] == "does not hold"
    assert verdicts(result, outside_paths=0.0)[3] == "does not hold"
    assert verdicts(result, outside_paths=0.1, path_dimensions=40)[3] == "holds"
    assert verdicts(result, outside_embeddings=NAN, outside_paths=NAN)[:2] == ["does not hold"] * 2


def test_verdicts_on_rank(result):
    assert verdicts(result, rank=3)[4:6] == ["holds"] * 2
    assert verdicts(result, rank=2)[4:6] == ["does not hold"] * 2
    alone = verdicts(result, rank=lambda row: 2 if row["stack"] == span.ALONE else 3)
    assert alone[4:6] == ["holds", "does not hold"]
    assert verdicts(result, relative_residual=1e-9, rank=1)[6] == "does not hold"
    assert (
        verdicts(result, relative_residual=1e-9, rank=3)[6]
        == "holds only if measured by exact rank"
    )
    assert verdicts(result, relative_residual=0.2, rank=1)[6] == (
        "holds only if measured by relative residual"
    )
    assert verdicts(result, relative_residual=0.2, rank=2)[6] == "holds"


def test_one_row_of_one_seed_decides(result):
    """All layers and all seeds must agree: neither the best nor the first of them is enough."""
    far = changed(result, outside_embeddings=lambda row: worst(row, 1.0, 0.0))
    assert set(measured(far, 0).values()) == {1.0}
    far = changed(result, outside_paths=lambda row: worst(row, 1.0, 0.0))
    assert set(measured(far, 1).values()) == {1.0}
    wide = changed(result, path_dimensions=lambda row: worst(row, 40, 9))
    assert measured(wide, 2) == {"1": 9, "2": 40}
    near = changed(result, outside_paths=lambda row: worst(row, 0.0, 1.0))
    assert measured(near, 3) == {"fewer than all dimensions": 0.0}
    for number in (4, 5):
        poor = changed(result, rank=lambda row: 2 if row["seed"] and row["layer"] == 1 else 3)
        assert set(measured(poor, number).values()) == {2}
    poor = changed(
        result,
        rank=lambda row: worst(row, 2, 3),
        relative_residual=lambda row: worst(row, 0.25, 0.5),
    )
    assert measured(poor, 6) == {"exact rank": 0.5, "relative residual": 0.25}
    first = changed(
        result, rank=lambda row: row["layer"], relative_residual=lambda row: row["layer"]
    )
    assert measured(first, 6) == {"exact rank": 0.5, "relative residual": 2}


def test_claims_read_the_stacks_that_they_name(result):
    """Numbers of the other stacks change nothing."""

    def only(stack, value):
        return lambda row: value if row["stack"] == stack else 0

    found = changed(
        result,
        rank=only(span.SKIP, 3),
        relative_residual=only(span.SKIP, 0.5),
        path_dimensions=only(span.SKIP, 7),
        outside_paths=only(span.MLP, 0.5),
        outside_embeddings=only(span.MLP, 0.5),
    )
    assert [set(measured(found, i).values()) for i in range(7)] == [
        {0},
        {0},
        {7},
        {0.5},
        {3},
        {0},
        {1.0, 0.5},
    ]
    maps = changed(result, path_dimensions=lambda row: 7 if row["value_maps"] == "random" else 50)
    assert set(measured(maps, 2).values()) == {7}


def layer_by_hand(X, W_q, W_k, W, W_1, W_2, *, skip, mlp):
    """One layer in plain NumPy, head by head and token by token."""
    Y = X.copy() if skip else np.zeros_like(X)
    for q, k, w in zip(W_q, W_k, W, strict=True):
        for i, x in enumerate(X):
            scores = np.exp(X @ k @ (x @ q) / np.sqrt(X.shape[-1]))
            Y[i] += scores / scores.sum() @ X @ w
    if mlp:
        hidden = Y @ W_1
        Y = Y + hidden * (1 + np.vectorize(math.erf)(hidden / np.sqrt(2))) / 2 @ W_2
    return Y


def part_outside(Y, X):
    """The norm of what least squares cannot make of the rows of X, relative to that of Y."""
    coefficients = np.linalg.lstsq(X.T, Y.T, rcond=None)[0]
    return np.linalg.norm(Y.T - X.T @ coefficients) / np.linalg.norm(Y)


@pytest.mark.parametrize("stack", [span.ALONE, span.SKIP, span.MLP])
@pytest.mark.parametrize("maps", ["I/H", "random", "−I/H"])
def test_rows_are_what_they_say(stack, maps):
    result = small_run("span")
    rows = result.rows.where(stack=stack, value_maps=maps)
    if not rows:
        assert (stack == span.SKIP) != (maps == "−I/H")
        return
    d, skip, rng = result.settings.d, stack != span.ALONE, generator([0, 0])
    X = embeddings = rng.standard_normal((3, d))
    sent = [np.eye(d)]
    for row in rows:
        W_q, W_k, W, *mlp = span._layer(rng, d, 2, maps)
        X = layer_by_hand(X, W_q, W_k, W, *mlp, skip=skip, mlp=stack == span.MLP)
        sent = [path @ w for path, w in itertools.product(sent, [*W, *[np.eye(d)] * skip])]
        paths = np.concatenate([embeddings @ path for path in sent])
        apart = X - X.mean(0)
        assert row["outside_embeddings"] == pytest.approx(part_outside(X, embeddings), abs=1e-10)
        assert row["outside_paths"] == pytest.approx(part_outside(X, paths), abs=1e-10)
        assert row["path_dimensions"] == np.linalg.matrix_rank(paths)
        assert row["rank"] == np.linalg.matrix_rank(X)
        one, largest = np.abs(apart).sum(0).max(), np.abs(apart).sum(1).max()
        scale = np.abs(X).sum(0).max() * np.abs(X).sum(1).max()
        assert row["relative_residual"] == pytest.approx(np.sqrt(one * largest / scale), abs=1e-9)


def test_layers_have_the_scale_that_keeps_variance():
    W_q, W_k, W, W_1, W_2 = span._layer(generator(0), 64, 2, "random")
    for weights, inputs in ((W_q, 64), (W_k, 64), (W, 128), (W_1, 64), (W_2, 256)):
        assert weights.std() == pytest.approx(inputs**-0.5, rel=0.03)
    negative = span._layer(generator(0), 4, 2, "−I/H")[2]
    assert np.array_equal(negative.sum(0), -np.eye(4))


def test_stacks_of_a_seed_share_their_draws_and_seeds_share_none():
    result = small_run("span", n_seeds=2)
    first = result.rows.where(layer=1, value_maps="random")
    dimensions = first.where(stack=span.SKIP).column("relative_residual")
    assert dimensions[0] != dimensions[1]
    other = small_run("span", seed=1, n_seeds=2).rows.where(layer=1, value_maps="random")
    assert not {*other.column("relative_residual")} & {*first.column("relative_residual")}


def test_paths_are_counted_up_to_all_dimensions():
    rows = small_run("span", depth=3, n_tokens=3, d=16).rows.where(value_maps="random")
    assert rows.where(stack=span.SKIP).column("path_dimensions") == [9, 16, 16]
    assert rows.where(stack=span.ALONE).column("path_dimensions") == [6, 12, 16]
    wide = small_run("span", depth=3).rows.where(value_maps="random")
    assert wide.where(stack=span.SKIP).column("path_dimensions") == [9, 27, 40]
    settings = small("span", depth=5)
    assert len(EXPERIMENTS["span"].tasks(settings)) == 7
    layers = small_run("span", depth=5, d=12)
    assert list(measured(layers, 2)) == ["1", "2", "3", "4 or more"]
