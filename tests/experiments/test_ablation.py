"""The ablation of MGT: squares of four models by hand, and the parts that each variant has."""

import dataclasses
import math

import numpy as np
import pytest
from small_settings import check_boundaries, small, small_run, verdicts

from mgt_np import TransformerConfig, hidden_states, init_transformer, mhc_coefficients
from mgt_np.arrays import tree_map
from mgt_np.arrays.libraries import There, place
from mgt_np.experiments import Rows, ablation
from mgt_np.experiments.experiment import Result, Where

NAN = float("nan")
PAIR, PAPERS = ablation.SQUARES
SIZES = {"vocab_size": 7, "d_model": 8, "n_heads": 2, "n_layers": 2, "d_ff": 12, "max_tokens": 5}
TOKENS = np.array([[3, 1, 4, 1, 5]])
HERE = There(place("numpy"), "float64")
MEAN_AND_ERROR = ([(-0.21, 0.1), (-1.0, 0.0)], [(-0.2, 0.1), (0.0, 0.0), (NAN, 0.1), (0.5, 0.1)])


@pytest.fixture
def result():
    return small_run("ablation")


def cell():
    """The first cell of the small run, without what says where it is computed."""
    first = ablation.tasks(small("ablation"))[0]
    where = {each.name for each in dataclasses.fields(Where)}
    return {name: value for name, value in first.items() if name not in where}


def made(**losses):
    """A result of the losses of some models, one a seed; all others' are 1."""
    rows = [
        {"model": model, "seed": seed, "step": 20, "valid_loss": loss}
        for model in ablation.VARIANTS
        for seed, loss in enumerate(losses.get(model, (1.0, 1.0)))
    ]
    return Result("ablation", ablation.QUICK, Rows(rows))


def square(neither, one, other, both, name=PAIR):
    return made(**dict(zip(ablation.SQUARES[name], (neither, one, other, both), strict=True)))


def states(model, params=None, **options):
    config = TransformerConfig(**SIZES, **ablation.VARIANTS[model] | options)
    return hidden_states(params or started(config), TOKENS, config)


def started(config):
    """Initial weights, in which all but the gate's are those of the same seed."""
    return init_transformer(np.random.default_rng(1), config)


def with_update(params, **values):
    """The parameters with some of each connection's update overwritten."""

    def changed(block):
        new = dict(block)
        for part in ("attention_residual", "feed_forward_residual"):
            update = dict(block[part]["update"])
            update |= {name: np.full_like(update[name], x) for name, x in values.items()}
            new[part] = block[part] | {"update": update}
        return new

    return params | {"blocks": [changed(block) for block in params["blocks"]]}


def test_boundaries():
    above_0 = ([(0.21, 0.1), (1.0, 0.0)], [(0.2, 0.1), (0.0, 0.0), (NAN, 0.1), (-0.5, 0.1)])
    above_1 = (
        [(1.21, 0.1, 9.0, 0.1)],
        [(1.2, 0.1, 9.0, 0.1), (NAN, NAN, -1.0, 0.1), (0.9, 0.0, 1.0, 0.0)],
    )
    within = ([(-0.011, 0.01), (0.0, 0.004)], [(-0.01, 0.01), (0.02, 0.0), (NAN, 0.0)])
    lower = MEAN_AND_ERROR
    check_boundaries("ablation", lower, above_0, above_1, lower, lower, within)


def test_one_row_a_variant_and_a_seed(result):
    places = [(row["model"], row["seed"], row["step"]) for row in result.rows]
    assert places == [(model, seed, 2) for model in ablation.VARIANTS for seed in (0, 1)]


def test_a_row_has_the_loss_after_the_last_step(tmp_path):
    """The last line of the log, read from the run's own file."""
    (row,) = ablation.work(HERE, **cell(), folder=tmp_path)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    last = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
    assert (last["step"], float(last["valid_loss"])) == ("2", row["valid_loss"])


def test_interaction_and_ratio_of_a_square_by_hand():
    # N = 0.9, D = 0.2 + 0.4; N = 1.3, D = 0.4 + 0.4
    found = square((2.0, 2.0), (1.8, 1.6), (1.6, 1.6), (1.1, 0.7))
    assert ablation.interactions(found)[PAIR] == pytest.approx((0.4, 0.1))
    assert ablation.ratios(found)[PAIR] == pytest.approx((1.5625, 0.0625, 0.7, 0.1))


@pytest.mark.parametrize("ones", [(2.0, 2.0), (2.1, 2.2), (1.9, 1.4)])
def test_a_sum_that_may_be_0_has_no_ratio(ones):
    """No gain of one part alone, a loss, and gains whose mean is 1.2 standard errors."""
    found = square((2.0, 2.0), ones, (2.0, 2.0), (1.0, 1.0))
    ratio, error, *_ = ablation.ratios(found)[PAIR]
    assert math.isnan(ratio)
    assert math.isnan(error)
    assert ablation.interactions(found)[PAIR][0] > 0.0


def test_the_papers_square_begins_with_the_plain_residual():
    neither, one, other, both = ablation.SQUARES[PAPERS]
    rules = [ablation.VARIANTS[model] for model in (neither, one, other, both)]
    assert [rule["residual"] for rule in rules] == ["pre_ln", "mgt_mhc_only", "mgt_ddl_only", "mgt"]
    assert all(len(rule) == 1 for rule in rules)


def test_the_square_of_gate_and_erasure_is_one_update_with_beta():
    """Each corner is MGT with its gate filled with 1 (bias 40) and its α with 0."""
    full = TransformerConfig(**SIZES, residual="mgt")
    rng = np.random.default_rng(5)
    params = tree_map(lambda p: p + 0.3 * rng.standard_normal(p.shape), started(full))
    for model, filled in zip(
        ablation.SQUARES[PAIR],
        (
            {"gain": 0.0, "bias": 40.0, "alpha": 0.0},
            {"alpha": 0.0},
            {"gain": 0.0, "bias": 40.0},
            {},
        ),
        strict=True,
    ):
        config = TransformerConfig(**SIZES, **ablation.VARIANTS[model])
        names = started(config)["blocks"][0]["attention_residual"]["update"].keys()
        expected = hidden_states(with_update(params, **filled), TOKENS, full)
        np.testing.assert_allclose(states(model, only(params, names)), expected, rtol=1e-13)


def only(params, names):
    """The parameters with some of each connection's update alone."""

    def kept(block):
        return {
            part: tree | {"update": {name: tree["update"][name] for name in names}}
            if part.endswith("_residual")
            else tree
            for part, tree in block.items()
        }

    return params | {"blocks": [kept(block) for block in params["blocks"]]}


def test_a_gate_of_one_half_is_that_of_zero_weights():
    full = TransformerConfig(**SIZES, residual="mgt")
    params = with_update(started(full), W_gate=0.0)
    rest = only(params, ("W_beta", "b_beta", "alpha"))
    half = with_update(rest, alpha=0.2)
    got = states(ablation.HALF, half)
    np.testing.assert_allclose(got, hidden_states(params, TOKENS, full), rtol=1e-13)
    config = TransformerConfig(**SIZES, **ablation.VARIANTS[ablation.HALF])
    assert started(config)["blocks"][0]["attention_residual"]["update"]["alpha"] == 0.2


def test_a_held_beta_is_that_of_the_start_whatever_its_weights_are():
    full = TransformerConfig(**SIZES, residual="mgt")
    params = started(full)
    expected = hidden_states(params, TOKENS, full)
    moved = with_update(params, W_beta=0.7, b_beta=-1.0)
    np.testing.assert_allclose(states(ablation.CONSTANT, moved), expected, rtol=1e-13)
    assert not np.allclose(hidden_states(moved, TOKENS, full), expected)
    assert not np.allclose(states(ablation.ONE, params), expected)


def test_the_streams_of_the_control_are_not_mixed():
    X = np.random.default_rng(2).standard_normal((5, 4, 8))
    options = ablation.VARIANTS[ablation.IDENTITY]
    config = TransformerConfig(**SIZES, **options)
    params = started(config)["blocks"][0]["attention_residual"]["connection"]
    params = tree_map(lambda p: p + 0.5 * np.random.default_rng(3).standard_normal(p.shape), params)
    _, _, H_res = mhc_coefficients(X, params, convention=ablation.UNMIXED)
    assert np.array_equal(H_res, np.broadcast_to(np.eye(4), H_res.shape))
    others = dataclasses.asdict(ablation.UNMIXED) | {"mixing": "sinkhorn", "gamma": 1.0}
    assert others == dataclasses.asdict(ablation.MHC_CONVENTIONS["paper"])


def test_verdicts_follow_the_rows(result):
    def losses(**by_model):
        return lambda row: by_model.get(row["model"], 1.0)

    found = verdicts(result, valid_loss=losses(MGT=0.5))
    assert found[0] == "holds"
    assert found[1:3] == ["holds", "does not hold"]  # no part gains anything alone: no ratio
    found = verdicts(result, valid_loss=losses(MGT=0.5, **{ablation.NO_GATE: 0.2, "DDL": 0.1}))
    assert found[0] == (
        "holds only if the part is the gate (else ½) or the erasure or a β that is learned or "
        "β (else 1)"
    )
    assert found[1:3] == ["does not hold"] * 2
    assert found[3:] == ["holds only if the rule is DDL", "holds", "holds"]
    both = losses(MGT=0.5, **{ablation.NO_GATE: 0.9})
    assert verdicts(result, valid_loss=both)[1:3] == ["holds", "holds"]
    worse = losses(DDL=2.0, **{ablation.IDENTITY: 1.02})
    assert verdicts(result, valid_loss=worse)[4:] == ["does not hold"] * 2


def test_a_run_that_broke_off_proves_nothing(result):
    found = verdicts(result, valid_loss=lambda row: NAN if row["model"] == "MGT" else 1.0)
    assert found[:4] == ["does not hold"] * 4


def test_a_run_that_breaks_off_has_a_row_of_nan(monkeypatch, tmp_path):
    def broken(*args, **options):
        return dataclasses.replace(trained(*args, **options), broke=True)

    trained = ablation.trained
    monkeypatch.setattr(ablation, "trained", broken)
    (row,) = ablation.work(HERE, **cell(), folder=tmp_path)
    assert math.isnan(row["valid_loss"])
