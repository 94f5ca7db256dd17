"""β by layer: measures of rows made by hand, and what a row is by another route."""

import dataclasses
import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small, small_run, verdicts

from mgt_np.arrays.libraries import There, place
from mgt_np.experiments import EXPERIMENTS, beta_distribution, judged
from mgt_np.experiments.beta_distribution import START
from mgt_np.experiments.experiment import Where

NAN = float("nan")
HERE = There(place("numpy"), "float64")
CONDITIONS = [
    f"{depth} layers and one β a {per}" for depth in (3, 4) for per in ("channel", "token")
]


@pytest.fixture
def result():
    return small_run("beta-distribution")


def cell(per="token"):
    """A cell of the small run, without what says where it is computed."""
    where = {each.name for each in dataclasses.fields(Where)}
    chosen = next(
        each
        for each in beta_distribution.tasks(small("beta-distribution"))
        if (each["n_layers"], each["per"]) == (3, per)
    )
    return {name: value for name, value in chosen.items() if name not in where}


def measured(result, number):
    """What one claim measures of rows."""
    return EXPERIMENTS["beta-distribution"].claims(result.settings)[number].measure(result)


def test_boundaries():
    check_boundaries(
        "beta-distribution",
        ([-1e-9], [0.0, 0.1, NAN]),
        ([1e-9], [0.0, -0.1, NAN]),
        ([-0.5, -1.0], [-0.49, 0.9, NAN]),
        ([(0.5, 0.9), (-0.9, -0.5)], [(0.49, 0.9), (-0.9, -0.49), (-0.9, 0.9), (NAN, NAN)]),
        ([START / 2 + 1e-9], [START / 2, 0.0, NAN]),
    )


def test_a_row_for_each_logged_step_and_each_block(result):
    places = [(row["depth"], row["beta_per"], row["seed"], row["step"]) for row in result.rows]
    assert list(dict.fromkeys(places)) == [
        (depth, per, seed, step)
        for depth in (3, 4)
        for per in ("channel", "token")
        for seed in (0, 1)
        for step in (2, 4)
    ]
    layers = [row["layer"] for row in result.rows.where(depth=3)]
    assert layers == [0, 1, 2] * (len(layers) // 3)


@pytest.mark.parametrize("per", ["channel", "token"])
def test_rows_are_those_of_the_runs_own_file(per, tmp_path):
    rows = list(beta_distribution.work(HERE, **cell(per), folder=tmp_path))
    names, *lines = (line.split(",") for line in (tmp_path / "layers.csv").read_text().splitlines())
    table = [dict(zip(names, map(float, line), strict=True)) for line in lines]
    table = [line for line in table if line["layer"] < 3]
    for row, line in zip(rows, table, strict=True):
        got = [row[name] for name in ("step", "layer", "beta", "beta_negative", "rank")]
        kept = [line[name] for name in ("step", "layer", "beta", "beta_negative")]
        assert got == [*kept, line["effective_rank"]]


def test_beta_of_a_channel_is_another_model(result):
    betas = [result.rows.where(beta_per=per).column("beta") for per in ("channel", "token")]
    assert not np.allclose(*betas)


def test_a_run_that_breaks_off_has_last_rows_of_nan(monkeypatch, tmp_path):
    def broken(*args, **options):
        run = trained(*args, **options)
        return dataclasses.replace(run, layers=run.layers.where(step=2), broke=True)

    trained = beta_distribution.trained
    monkeypatch.setattr(beta_distribution, "trained", broken)
    rows = list(beta_distribution.work(HERE, **cell(), folder=tmp_path))
    assert [(row["step"], row["layer"]) for row in rows] == [
        (s, i) for s in (2, 4) for i in range(3)
    ]
    for row in rows:
        last = row["step"] == 4
        assert [math.isnan(row[name]) for name in ("beta", "beta_negative", "rank")] == [last] * 3


def test_the_deepest_quarter_of_the_worst_seed_decides(result):
    """Quarters of 3 and 4 layers are one layer; earlier steps decide nothing."""

    def beta(row):
        deep = row["layer"] == row["depth"] - 1
        return 9.0 if row["step"] == 2 else (row["seed"] - 2.0 if deep else 5.0)

    assert measured(changed(result, beta=beta), 0) == dict.fromkeys(CONDITIONS, -1.0)
    more = changed(result, beta_negative=lambda row: 0.1 * row["layer"] * (1 + row["seed"]))
    assert list(measured(more, 1).values()) == pytest.approx([0.2, 0.2, 0.3, 0.3])


@pytest.mark.parametrize(("n", "size"), [(1, 1), (3, 1), (7, 1), (8, 2), (48, 12)])
def test_a_quarter_of_the_layers(n, size):
    beta = np.where(np.arange(n) >= n - size, -1.0, 1.0)
    assert beta_distribution.deep_beta(beta, None, None) == -1.0
    negative = np.arange(n) >= n - size
    expected = 1.0 if n >= 2 * size else 0.0
    assert beta_distribution.more_negative(beta, negative, None) == expected


def test_falling_is_spearmans_rho(rng):
    beta = rng.standard_normal(9)
    places = np.array([np.sum(beta < x) for x in beta])
    expected = 1.0 - 6.0 * np.sum((places - np.arange(9)) ** 2) / (9 * (9**2 - 1))
    assert beta_distribution.falling(beta, None, None) == pytest.approx(expected)
    ties = np.array([3.0, 1.0, 1.0, 2.0, 0.0])  # ranks 5, 2.5, 2.5, 4, 1
    expected = -6.5 / math.sqrt(10.0 * 9.5)
    assert beta_distribution.falling(ties, None, None) == pytest.approx(expected)
    assert math.isnan(beta_distribution.falling(np.ones(4), None, None))
    assert math.isnan(beta_distribution.falling(np.array([1.0, NAN, 2.0]), None, None))


def test_the_seed_that_falls_least_decides(result):
    one = changed(result, beta=lambda row: row["layer"] * (2.0 * row["seed"] - 1.0))
    assert list(measured(one, 2).values()) == pytest.approx([1.0] * 4)


def test_what_depth_explains_does_not_count(rng):
    """Two lines with independent noise: correlated by the depth, and by nothing else."""
    layers = np.arange(400)
    noise = rng.standard_normal((2, 400))
    beta, rank = 0.1 * layers + noise[0], -0.2 * layers + noise[1]
    assert beta_distribution.pearson(beta, rank) < -0.95
    assert abs(beta_distribution.beside_depth(beta, None, rank)) < 0.2
    together = beta_distribution.beside_depth(beta, None, 3.0 - 2.0 * layers - 4.0 * noise[0])
    assert together == pytest.approx(-1.0)
    expected = np.polynomial.Polynomial.fit(layers, beta, 1)(layers)
    np.testing.assert_allclose(beta_distribution.detrended(beta), beta - expected, atol=1e-10)


def test_seeds_of_either_sign_are_no_correlation(result):
    def bent(row):
        return (row["layer"] - 1.0) ** 2

    same = changed(result, beta=bent, rank=lambda row: 1.0 - bent(row))
    assert list(measured(same, 3).values()) == [pytest.approx((-1.0, -1.0))] * 4
    either = changed(same, rank=lambda row: bent(row) * (1 - 2 * row["seed"]))
    assert list(measured(either, 3).values()) == [pytest.approx((-1.0, 1.0))] * 4


def test_the_correlation_with_the_trend_is_of_all_runs_or_said_to_be_none(result):
    line = changed(result, beta=lambda row: row["layer"], rank=lambda row: row["layer"])
    assert beta_distribution.with_the_trend(line) == "With the trend: +1.00 in all runs"
    for lost in (0, 1):
        some = changed(line, rank=lambda row, i=lost: NAN if row["seed"] == i else row["layer"])
        assert beta_distribution.with_the_trend(some) == "With the trend: nan in 4 of 8 runs"


def test_a_difference_of_fractions_is_no_percentage(result):
    more = changed(result, beta_negative=lambda row: 0.1 * (row["layer"] > 0))
    said = judged(EXPERIMENTS["beta-distribution"], more)[1].measured
    assert said.startswith(f"{CONDITIONS[0]}: +0.100; ")


def test_settings_that_name_no_axis_of_the_figure_are_refused():
    for depths in ((4, 3), (3, 3)):
        with pytest.raises(ValueError, match="expected depths that increase"):
            small("beta-distribution", depths=depths)
    assert small("beta-distribution", depths=(3,)).depths == (3,)
    with pytest.raises(ValueError, match="beta_per"):
        small("beta-distribution", beta_per=("channel", "head"))
    with pytest.raises(ValueError, match="each beta_per once"):
        small("beta-distribution", beta_per=("token", "token"))


def test_beta_that_stays_has_not_moved(result):
    assert set(measured(changed(result, beta=START), 4).values()) == {0.0}
    apart = changed(result, beta=lambda row: START + (0.1 + row["seed"]) * (-1) ** row["layer"])
    assert list(measured(apart, 4).values()) == pytest.approx([0.1] * 4)


def test_verdicts_follow_the_rows(result):
    def deep(row):
        return row["depth"] == 4 and row["beta_per"] == "token"

    found = verdicts(
        result,
        beta=lambda row: (1 - row["layer"]) * (1.0 if deep(row) else -1.0),
        beta_negative=lambda row: row["layer"] * (1.0 if deep(row) else -1.0),
    )
    assert found[:3] == ["holds only if MGT has 4 layers and one β a token"] * 3
    assert found[4] == "holds"
    still = verdicts(result, beta=START, beta_negative=0.0)
    assert still == ["does not hold"] * 5


def test_one_broken_seed_proves_nothing(result):
    def beta(row):
        return NAN if row["seed"] == 1 else -float(row["layer"] ** 2)

    names = dict.fromkeys(("beta", "rank"), beta)
    found = verdicts(result, **names, beta_negative=lambda row: -beta(row))
    assert found == ["does not hold"] * 5
