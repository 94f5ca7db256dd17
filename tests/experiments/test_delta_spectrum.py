"""The Delta Operator's spectrum: rules, verdicts, and what the errors are errors of."""

import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small, small_run, verdicts

from mgt_np.arrays.libraries import There, place
from mgt_np.experiments import EXPERIMENTS, delta_spectrum, judged
from mgt_np.experiments.experiment import generator

NAME = "delta-spectrum"
THERE = There(place(), "float64")


def test_boundaries():
    check_boundaries(NAME, *[([0.0, 1e-12], [1.01e-12, math.inf, math.nan])] * 2)
    rough = small(NAME, dtype="float32")
    check_boundaries(NAME, *[([1e-4], [1.01e-4, math.nan])] * 2, settings=rough)


@pytest.mark.parametrize(("column", "place"), [("error", 0), ("product_error", 1)])
def test_verdicts_follow_the_rows(column, place):
    result = small_run(NAME)
    assert verdicts(result) == ["holds", "holds"]
    of_one_bin = result.rows[3]["beta"]
    large = verdicts(result, **{column: lambda row: 1e-3 * (row["beta"] == of_one_bin)})
    assert large[place] == "does not hold"
    assert large[1 - place] == "holds"
    unknown = verdicts(result, **{column: math.nan})
    assert unknown[place] == "does not hold"


def test_how_many_were_tried_is_told():
    (spectrum, _) = judged(EXPERIMENTS[NAME], changed(small_run(NAME), operators=1000))
    assert f"{1000 * len(small_run(NAME).rows):,} random" in spectrum.measured
    assert "d ≤ 5" in spectrum.measured


@pytest.mark.parametrize(("d", "count"), [(2, 20), (5, 10)])
def test_rows_are_the_eigenvalues_of_what_was_drawn(d, count):
    rng = generator([0], d)
    k, beta = rng.standard_normal((count, d)), rng.uniform(-1.0, 3.0, count)
    bins = np.floor((beta + 1.0) * 10.0)
    rows = small_run(NAME).rows.where(d=d)
    assert len(rows) == len(np.unique(bins))
    for row, b in zip(rows, np.unique(bins), strict=True):
        (members,) = np.nonzero(bins == b)
        i = members[0]
        assert row["operators"] == len(members)
        assert row["beta"] == pytest.approx(beta[i], abs=1e-9)
        A = np.eye(d) - beta[i] * np.outer(k[i], k[i]) / (k[i] @ k[i])
        values = sorted(np.linalg.eigvals(A).real, key=lambda value: abs(value - 1.0))
        assert row["eigenvalue"] == pytest.approx(values[-1], abs=1e-9)
        assert row["next_eigenvalue"] == pytest.approx(values[0], abs=1e-9)


def rows_of(d):
    (cell,) = (cell for cell in delta_spectrum.tasks(small(NAME)) if cell["d"] == d)
    where = ("array_library", "device", "dtype")
    return list(delta_spectrum.work(THERE, **{n: v for n, v in cell.items() if n not in where}))


def test_an_error_is_the_worst_of_its_bin(monkeypatch):
    right = delta_spectrum.delta_eigenvalues
    seen = []

    def wrong(beta, d):
        seen.append(beta)
        return right(beta, d) + 1e-3 * np.abs(beta)[:, None]

    monkeypatch.setattr(delta_spectrum, "delta_eigenvalues", wrong)
    rows = rows_of(2)
    (beta,) = seen
    bins = np.floor((beta + 1.0) * 10.0)
    worst = [1e-3 * np.max(np.abs(beta[bins == b])) for b in np.unique(bins)]
    assert [row["error"] for row in rows] == pytest.approx(worst, rel=1e-8)


@pytest.mark.parametrize("d", [2, 5])
def test_the_products_error_is_relative(monkeypatch, d):
    right = delta_spectrum.delta_product
    monkeypatch.setattr(delta_spectrum, "delta_product", lambda K, b: right(K, b) * (1.0 + 1e-6))
    assert [row["product_error"] for row in rows_of(d)] == pytest.approx([1e-6] * len(rows_of(d)))
    monkeypatch.setattr(delta_spectrum, "delta_product", lambda K, b: right(K, b).T)
    assert all(row["product_error"] > 1e-2 for row in rows_of(d))


def test_another_seed_shares_nothing():
    drawn = [small_run(NAME, seed=seed).rows.column("beta") for seed in (0, 1)]
    assert not set(drawn[0]) & set(drawn[1])


def test_titles_are_verdicts():
    result = small_run(NAME)
    claims = judged(EXPERIMENTS[NAME], changed(result, error=1.0))
    titles = [ax.get_title(loc="left") for ax in delta_spectrum.plot(result, claims).axes]
    assert [title.splitlines()[-1] for title in titles] == ["does not hold", "holds"]
