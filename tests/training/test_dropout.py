"""Dropout: masks whose mean is one, where they act, and runs that go on to the same bits."""

import dataclasses

import numpy as np
import pytest

from mgt_np import (
    RESIDUAL_RULES,
    TransformerConfig,
    init_transformer,
    layer_norm,
    value_and_grad,
)
from mgt_np.arrays import leaves_with_paths, move, place, to_host, tree_map
from mgt_np.models.decoder import connections, last_state
from mgt_np.training import (
    TrainingError,
    TrainingSettings,
    load_checkpoint,
    load_task,
    loop,
    loss_of,
    measures,
    save_checkpoint,
    train,
)
from mgt_np.training.dropout import dropout_masks

SETTINGS = TrainingSettings(
    data="known-entropy", n_steps=6, batch=2, n_tokens=8, warmup=2, log_every=3, n_valid=1
)
DROPPED = dataclasses.replace(SETTINGS, dropout=0.25)
TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


def config_of(residual="mgt", **options):
    sizes = {"vocab_size": 32, "d_model": 8, "n_heads": 2, "n_layers": 2, "d_ff": 16}
    return TransformerConfig(**sizes | {"max_tokens": 8, "residual": residual} | options)


def moved_params(rng, config):
    params = init_transformer(rng, config)
    return tree_map(lambda x: x + 0.1 * rng.standard_normal(x.shape), params)


def trees_equal(a, b):
    pairs = zip(leaves_with_paths(a), leaves_with_paths(b), strict=True)
    return all(np.array_equal(x, y) for (_, x), (_, y) in pairs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.75])
def test_a_mask_is_zero_with_probability_p_and_one_over_the_rest_else(rng, p, dtype):
    config = config_of(d_model=64, dtype=dtype)
    masks = dropout_masks(rng, p, config, (16, 32))
    leaves = [leaf for _, leaf in leaves_with_paths(masks)]
    assert len(leaves) == 1 + 2 * 2
    n = 16 * 32 * 64
    for mask in leaves:
        assert mask.shape == (16, 32, 64)
        assert mask.dtype == dtype
        assert set(np.unique(mask)) <= {0.0, np.dtype(dtype).type(1.0 / (1.0 - p))}
        # the mean of n masks has the standard deviation √(p/((1 − p) n)): five of them
        assert abs(np.mean(mask, dtype="float64") - 1.0) <= 5 * np.sqrt(p / (1 - p) / n) + 1e-6
    assert p == 0.0 or len({mask.tobytes() for mask in leaves}) == len(leaves)


def test_the_mean_over_masks_is_the_state_without_any(rng):
    """Masked is the last sub-layer alone, of a rule without a norm: a state linear in the mask."""
    config = config_of("rezero", n_layers=1, rezero_alpha=0.5)
    params = moved_params(rng, config)
    expected, draws = last_state(params, TOKENS, config), []
    whole = tree_map(np.ones_like, dropout_masks(rng, 0.3, config, TOKENS.shape))
    for _ in range(1000):
        (block,) = dropout_masks(rng, 0.3, config, TOKENS.shape)["blocks"]
        masks = whole | {"blocks": [whole["blocks"][0] | {"feed_forward": block["feed_forward"]}]}
        draws.append(last_state(params, TOKENS, config, masks=masks))
    error = np.std(draws, axis=0) / np.sqrt(len(draws))
    assert np.all(error > 0.0)
    assert np.all(np.abs(np.mean(draws, axis=0) - expected) < 5 * error)


@pytest.mark.parametrize("rule", RESIDUAL_RULES)
def test_each_mask_acts_on_its_own_place(rule, rng):
    config = config_of(rule)
    params = moved_params(rng, config)
    whole = tree_map(np.ones_like, dropout_masks(rng, 0.5, config, TOKENS.shape))
    plain = last_state(params, TOKENS, config)
    assert np.array_equal(last_state(params, TOKENS, config, masks=whole), plain)
    states = []
    for path, _ in leaves_with_paths(whole):
        names = iter(leaves_with_paths(whole))
        masks = tree_map(lambda x, names=names, path=path: x * (next(names)[0] != path), whole)
        states.append(last_state(params, TOKENS, config, masks=masks))
    assert not any(np.allclose(state, plain) for state in states)
    assert not any(np.allclose(a, b) for i, a in enumerate(states) for b in states[:i])


def test_a_sub_layer_is_masked_before_the_rule(rng):
    config = config_of("pre_ln", n_layers=1)
    params = moved_params(rng, config)
    masks = dropout_masks(rng, 0.5, config, TOKENS.shape)
    x = (params["tokens"][TOKENS] + params["positions"][:5]) * masks["embedding"]
    for name, sublayer, residual in connections(params["blocks"][0], config):
        x = x + masks["blocks"][0][name] * sublayer(layer_norm(x, **residual["norm"]))
    expected = layer_norm(x, **params["final_norm"])
    assert np.array_equal(last_state(params, TOKENS, config, masks=masks), expected)


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("rule", ["mgt", "mhc", "sub_ln"])
def test_gradients_are_the_same_where_blocks_are_computed_twice(rule, every, rng):
    config = config_of(rule, n_layers=5)
    params, targets = moved_params(rng, config), np.roll(TOKENS, -1, axis=1)
    masks = dropout_masks(rng, 0.4, config, TOKENS.shape)
    loss, kept = value_and_grad(loss_of)(params, TOKENS, targets, config, masks=masks)
    config = dataclasses.replace(config, checkpoint_every=every)
    again, twice = value_and_grad(loss_of)(params, TOKENS, targets, config, masks=masks)
    assert again == loss
    for (path, a), (_, b) in zip(leaves_with_paths(kept), leaves_with_paths(twice), strict=True):
        assert np.allclose(a, b, rtol=1e-12, atol=1e-14), path


def test_logits_in_parts_are_of_the_masked_state(rng, monkeypatch):
    config, targets = config_of(), np.roll(TOKENS, -1, axis=1)
    params, masks = moved_params(rng, config), dropout_masks(rng, 0.4, config, TOKENS.shape)
    expected = loss_of(params, TOKENS, targets, config, masks=masks)
    assert expected != loss_of(params, TOKENS, targets, config)
    monkeypatch.setattr(measures, "LARGE_VOCABULARY", 31)
    assert loss_of(params, TOKENS, targets, config, masks=masks) == pytest.approx(expected)


def losses(settings, config=None, **how):
    _, log = train(config or config_of(), settings, threads=1, **how)
    return [row["train_loss"] for row in log]


def test_without_dropout_no_mask_is_drawn(monkeypatch):
    def drawn(*args):
        raise AssertionError("a mask was drawn")

    monkeypatch.setattr(loop, "dropout_masks", drawn)
    assert losses(SETTINGS)
    with pytest.raises(AssertionError, match="a mask was drawn"):
        losses(DROPPED)


def test_batches_are_those_without_dropout_and_masks_change_from_step_to_step(monkeypatch):
    seen = []

    def spied(params, inputs, targets, config, *, masks=None):
        seen.append((inputs.tolist(), masks))
        return loss_of(params, inputs, targets, config, masks=masks)

    def steps(settings):
        seen.clear()
        losses(settings)
        return zip(*seen, strict=True)

    monkeypatch.setattr(loop, "loss_of", spied)
    batches, masks = steps(SETTINGS)
    assert masks == (None,) * 6
    dropped_batches, masks = steps(DROPPED)
    assert dropped_batches == batches
    assert len({each["embedding"].tobytes() for each in masks}) == 6
    _, again = steps(DROPPED)
    assert all(map(trees_equal, masks, again))
    _, others = steps(dataclasses.replace(DROPPED, seed=1))
    assert not trees_equal(others[0], masks[0])


def test_validation_drops_nothing(monkeypatch):
    """A run of no learning has the validation loss of its parameters, whatever is dropped."""
    rows = [
        train(config_of(), dataclasses.replace(each, lr=0.0), threads=1)[1][-1]
        for each in (SETTINGS, DROPPED)
    ]
    assert rows[0]["valid_loss"] == rows[1]["valid_loss"]
    assert rows[0]["train_loss"] != rows[1]["train_loss"]


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, stop):
    config, step = config_of(dtype="float32", checkpoint_every=1), loop._Run.step
    params, log = train(config, DROPPED, folder=tmp_path / "whole", threads=1)

    def stops(run, state):
        if state.step == stop:
            run.save(state)
            raise KeyboardInterrupt
        step(run, state)

    monkeypatch.setattr(loop._Run, "step", stops)
    with pytest.raises(KeyboardInterrupt):
        train(config, DROPPED, folder=tmp_path / "parts", threads=1)
    monkeypatch.undo()
    resumed, again = train(config, DROPPED, folder=tmp_path / "parts", resume=True)
    assert trees_equal(resumed, params)
    assert str(again) == str(log)


def test_a_step_that_fails_is_drawn_again_with_the_same_masks(monkeypatch):
    task = load_task("known-entropy", batch=2, n_tokens=8, n_valid=1)
    run = loop._Run(config_of(), DROPPED, task, None)
    state = run.started()
    monkeypatch.setattr(loop, "EXPLODED", 0.0)
    with pytest.raises(TrainingError):
        run.step(state)
    monkeypatch.undo()
    run.step(state)
    fresh = run.started()
    run.step(fresh)
    assert state.losses == fresh.losses


def test_a_checkpoint_without_the_setting_is_of_a_run_without_dropout(tmp_path):
    params, _ = train(config_of(), SETTINGS, folder=tmp_path, threads=1)
    path = tmp_path / "checkpoint.npz"
    names = ("params", "mean", "square")
    trees, record = load_checkpoint(path, dict.fromkeys(names, params))
    del record["settings"]["dropout"]
    save_checkpoint(path, trees, record)
    resumed, _ = train(config_of(), SETTINGS, folder=tmp_path, resume=True)
    assert trees_equal(resumed, params)
    with pytest.raises(ValueError, match=r"settings with dropout = 0\.0, got 0\.25"):
        train(config_of(), DROPPED, folder=tmp_path, resume=True)
    del record["settings"]
    save_checkpoint(path, trees, record)
    with pytest.raises(ValueError, match="no checkpoint of a training run"):
        train(config_of(), SETTINGS, folder=tmp_path, resume=True)


def test_torch_trains_with_the_same_masks():
    pytest.importorskip("torch")
    other = dataclasses.replace(DROPPED, array_library="torch")
    assert losses(other) == pytest.approx(losses(DROPPED), rel=1e-9)


# JAX compiles each operation for each shape: without a block it takes seconds, not half a minute.
@pytest.mark.parametrize(("library", "n_layers"), [("torch", 2), ("jax", 0)])
def test_every_library_has_the_same_gradients(library, n_layers, rng):
    pytest.importorskip(library)
    config, there = config_of("pre_ln", n_layers=n_layers), place(library, dtype="float64")
    params, targets = moved_params(rng, config), np.roll(TOKENS, -1, axis=1)
    masks = dropout_masks(rng, 0.4, config, TOKENS.shape)
    _, expected = value_and_grad(loss_of)(params, TOKENS, targets, config, masks=masks)
    params, tokens, targets, masks = move((params, TOKENS, targets, masks), there)
    _, found = value_and_grad(loss_of)(params, tokens, targets, config, masks=masks)
    for (path, a), (_, b) in zip(
        leaves_with_paths(found), leaves_with_paths(expected), strict=True
    ):
        assert np.allclose(to_host(a), b, rtol=1e-9, atol=1e-12), path


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_a_probability_out_of_range_is_refused(dropout):
    with pytest.raises(ValueError, match=r"expected dropout (finite and at least 0|below 1), got"):
        dataclasses.replace(SETTINGS, dropout=dropout)
