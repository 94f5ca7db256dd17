"""The initial values of MGT: which are tried, what is compared, and who counts as better."""

import dataclasses
import math

import numpy as np
import pytest
from small_settings import changed, check_boundaries, small, small_run, verdicts

from mgt_np.arrays.libraries import There, place
from mgt_np.experiments import Rows
from mgt_np.experiments import initialization_sensitivity as module
from mgt_np.experiments.experiment import Result, generator
from mgt_np.experiments.trained import Trained
from mgt_np.models import TransformerConfig, init_transformer
from mgt_np.training import TrainingSettings, train

NAME, NAN = "initialization-sensitivity", float("nan")
SETTINGS = list(module.SYMBOLS)


@pytest.fixture
def result():
    return small_run(NAME)


def made(**variants):
    """A result of losses, one a seed, by variants: default=(1.0, 2.0), mgt_alpha_1=(…), …"""
    rows = []
    for name, values in variants.items():
        setting, _, value = name.rpartition("_") if name != module.DEFAULT else (name, "", "0")
        columns = {"setting": setting, "value": float(value)}
        rows += [columns | {"seed": i, "valid_loss": loss} for i, loss in enumerate(values)]
    return Result(NAME, module.Settings(), Rows(rows))


def test_boundaries():
    spread = ([(0.0, 0.0), (0.03, 0.0099)], [(0.03, 0.01), (0.05, 0.0), (NAN, 0.0), (0.0, NAN)])
    check_boundaries(NAME, spread, ([0.0, 0.1, math.inf], [-1e-9, NAN]))


def test_each_setting_is_varied_alone_and_the_default_is_one_variant():
    settings = small(NAME, mgt_alpha=(1.0, 0.5))
    variants = [(tuple(task["variant"]), task["seed"][-1]) for task in module.tasks(settings)]
    assert variants[:2] == [((module.DEFAULT, 0.0), 0), ((module.DEFAULT, 0.0), 1)]
    assert variants[2:6] == [
        (("mgt_alpha", value), seed) for value in (1.0, 0.5) for seed in (0, 1)
    ]
    assert {name for (name, _), _ in variants} == {module.DEFAULT, *SETTINGS}
    assert len(variants) == 2 * (1 + 2 + 5)


def test_no_default_is_tried_a_second_time():
    for preset in (module.QUICK, module.FULL):
        for setting in SETTINGS:
            values = getattr(preset, setting)
            assert len(set(values)) == len(values)
            assert module.default(setting, preset.d_model) not in values


@pytest.mark.parametrize(("setting", "value"), [("mgt_b_beta", 0.3), (module.DEFAULT, 0.0)])
def test_a_row_is_the_last_loss_of_the_training_loop(setting, value, tmp_path):
    sizes = {"data": "python-docs", "n_tokens": 8, "batch": 2, "n_steps": 4, "log_every": 2}
    how = sizes | {"lr": 1e-2, "warmup": 2, "n_valid": 2}
    widths = {"n_layers": 2, "d_model": 8, "n_heads": 2}
    there = There(place("numpy"), "float64")
    (row,) = module.work(there, [setting, value], [0, 1], tmp_path, **how, **widths)
    options = {} if setting == module.DEFAULT else {setting: value}
    config = TransformerConfig(
        **{"vocab_size": 256, "d_ff": 32, "max_tokens": 8, "residual": "mgt"}, **widths, **options
    )
    seed = int(generator([0, 1]).integers(2**62))
    _, log = train(config, TrainingSettings(seed=seed, **how), threads=1)
    expected = {"setting": setting, "value": value, "seed": 1, "valid_loss": log[-1]["valid_loss"]}
    assert row == expected


def test_a_run_that_broke_off_has_no_loss(monkeypatch, tmp_path):
    run = Trained(None, None, Rows([{"valid_loss": 1.0}]), Rows([]), broke=True)
    monkeypatch.setattr(module, "trained", lambda *_, **__: run)
    (row,) = module.work(None, ["mgt_lam", 2.0], [0, 1], tmp_path)
    assert math.isnan(row.pop("valid_loss"))
    assert row == {"setting": "mgt_lam", "value": 2.0, "seed": 1}


def test_the_defaults_are_those_of_the_config():
    sizes = {"vocab_size": 5, "n_heads": 2, "n_layers": 1, "d_ff": 8, "max_tokens": 4}
    config = TransformerConfig(d_model=8, residual="mgt", **sizes)
    said = {name: module.default(name, 8) for name in SETTINGS}
    same = dataclasses.replace(config, **said)
    usual, other = (init_transformer(np.random.default_rng(0), c) for c in (config, same))
    for name, leaf in usual["blocks"][0]["attention_residual"]["update"].items():
        np.testing.assert_allclose(
            other["blocks"][0]["attention_residual"]["update"][name], leaf, rtol=1e-12
        )
    assert (said["mgt_lam"], said["mgt_eps"]) == (config.mgt_lam, config.mgt_eps)


def test_spreads_are_of_the_worst_and_the_best_value_seed_by_seed():
    variants = {f"{name}_9": (1.0, 2.0) for name in SETTINGS}
    variants |= {"mgt_alpha_1": (1.5, 3.0), "mgt_alpha_2": (0.9, 1.9), "mgt_alpha_3": (1.2, 2.2)}
    found = module.spreads(made(default=(1.0, 2.0), **variants))
    assert found["α"] == pytest.approx((0.85, 0.25))
    assert {found[symbol] for symbol in list(found)[1:]} == {(0.0, 0.0)}
    assert list(found) == list(module.SYMBOLS.values())


def test_the_default_is_among_the_values():
    variants = {f"{name}_9": (1.0, 2.0) for name in SETTINGS}
    found = module.spreads(made(default=(0.5, 1.5), **variants))
    assert found["λ"] == pytest.approx((0.5, 0.0))
    losses = module.losses(made(default=(0.5, 1.5), **variants), "mgt_lam")
    assert losses == {1.0: [0.5, 1.5], 9.0: [1.0, 2.0]}


def test_an_alternative_is_better_by_two_standard_errors():
    variants = {f"{name}_9": (2.0, 2.0) for name in SETTINGS}
    variants |= {"mgt_alpha_9": (NAN, 0.1), "mgt_alpha_1": (0.3, 0.5)}
    result = made(default=(1.0, 1.0), **variants)
    assert module.upper_ends(result, "mgt_alpha")[1.0] == pytest.approx(-0.6 + 2 * 0.1)
    best = module.best_alternatives(result)
    assert best["α"] == pytest.approx(-0.4)  # what broke off is not
    assert best["λ"] == pytest.approx(1.0)
    assert module.beaten_by(result) == "Lower: α = 1"
    assert module.beaten_by(made(default=(0.1, 0.1), **variants)) == "Lower: none"


def test_what_broke_off_depends_on_its_value_and_beats_nothing(result):
    def broke(row):
        return NAN if (row["setting"], row["seed"]) == ("mgt_lam", 1) else 1.0

    first, second = verdicts(result, valid_loss=broke)
    assert first.startswith("holds only if what varies is α or ε or b_β")
    assert "λ" not in first
    assert second == "holds"
    assert module.best_alternatives(changed(result, valid_loss=broke))["λ"] == math.inf


def test_where_the_default_broke_off_nothing_is_known(result):
    def broke(row):
        return NAN if (row["setting"], row["seed"]) == (module.DEFAULT, 1) else 1.0

    assert verdicts(result, valid_loss=broke) == ["does not hold"] * 2
    assert verdicts(result, valid_loss=NAN) == ["does not hold"] * 2


def test_verdicts_follow_the_rows(result):
    assert verdicts(result, valid_loss=1.0) == ["holds", "holds"]

    def apart(row):
        return 1.0 + 0.1 * (row["setting"] == "mgt_eps") - 0.1 * (row["setting"] == "mgt_alpha")

    first, second = verdicts(result, valid_loss=apart)
    assert first == (
        "holds only if what varies is λ or b_β or the scale of W_gate or the scale of W_β"
    )
    assert second == (
        "holds only if what varies is λ or ε or b_β or the scale of W_gate or the scale of W_β"
    )
    worse = verdicts(result, valid_loss=lambda row: float(row["setting"] == module.DEFAULT))
    assert worse == ["does not hold"] * 2


def test_each_value_is_there_once():
    with pytest.raises(ValueError, match="each value of mgt_lam once"):
        small(NAME, mgt_lam=(2.0, 2.0))
