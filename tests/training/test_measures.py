"""What is measured of a model on the way: loss, accuracy, rank, β and gate."""

import math

import numpy as np
import pytest

from mgt_np import (
    TransformerConfig,
    cross_entropy,
    deep_delta_coefficients,
    effective_rank,
    hidden_states,
    init_transformer,
    linear,
    mgt_beta,
    tangent_gate,
    transformer,
    value_and_grad,
)
from mgt_np.arrays import leaves_with_paths, to_host, tree_map
from mgt_np.layers import deep_delta
from mgt_np.models.decoder import last_state
from mgt_np.training import by_layer, loss_of, measures, validation
from mgt_np.training.measures import cross_entropy_in_parts

SIZES = {"vocab_size": 7, "d_model": 8, "n_heads": 2, "n_layers": 2, "d_ff": 16, "max_tokens": 6}
TOKENS = np.random.default_rng(2).integers(7, size=(3, 6))
TARGETS = np.where(np.arange(6) < 2, -100, TOKENS[:, ::-1])


def model(residual):
    config = TransformerConfig(**SIZES, residual=residual)
    return config, init_transformer(np.random.default_rng(1), config)


def test_loss_and_accuracy_are_those_of_the_targets_that_count():
    config, params = model("pre_ln")
    logits = transformer(params, TOKENS, config)
    wanted = cross_entropy(logits[:, 2:], TARGETS[:, 2:])
    assert loss_of(params, TOKENS, TARGETS, config) == pytest.approx(wanted, rel=1e-13)
    loss, accuracy = validation(params, [(TOKENS, TARGETS), (TOKENS, TOKENS)], config)
    second = cross_entropy(logits, TOKENS)
    assert loss == pytest.approx((wanted + second) / 2, rel=1e-13)
    right = np.sum(np.argmax(logits, -1)[:, 2:] == TARGETS[:, 2:])
    right += np.sum(np.argmax(logits, -1) == TOKENS)
    assert accuracy == pytest.approx(right / (12 + 18))


def test_each_layer_is_measured_where_it_stands():
    config, params = model("mgt")
    rows, states = by_layer(params, TOKENS, config), hidden_states(params, TOKENS, config)
    assert [row["layer"] for row in rows] == [0, 1, 2]
    for row, state in zip(rows, states, strict=True):
        rank = np.mean(effective_rank(state, normalize=True))
        assert row["effective_rank"] == pytest.approx(rank, rel=1e-12)
    for i in range(2):
        update = params["blocks"][i]["attention_residual"]["update"]
        beta = np.mean(mgt_beta(states[i], update["W_beta"], update["b_beta"], lam=1.0, eps=0.0))
        gate = np.mean(tangent_gate(states[i], update["W_gate"], update["gain"], update["bias"]))
        assert (rows[i]["beta"], rows[i]["gate"]) == pytest.approx((beta, gate), rel=1e-12)
    assert math.isnan(rows[2]["beta"])
    assert math.isnan(rows[2]["beta_negative"])
    assert math.isnan(rows[2]["gate"])


@pytest.mark.parametrize("beta_per", ["token", "channel"])
def test_the_fraction_of_negative_beta_is_counted(beta_per):
    config = TransformerConfig(**SIZES, residual="mgt", mgt_beta_per=beta_per)
    noise = np.random.default_rng(4)
    params = tree_map(
        lambda p: p + 0.3 * noise.standard_normal(p.shape),
        init_transformer(np.random.default_rng(1), config),
    )
    rows, states = by_layer(params, TOKENS, config), hidden_states(params, TOKENS, config)
    for row, x, block in zip(rows, states, params["blocks"], strict=False):
        update = block["attention_residual"]["update"]
        signs = x @ update["W_beta"] + update["b_beta"] < 0.0  # λ = 1, ε = 0: the sign of tanh's
        count = sum(map(bool, signs.ravel()))
        assert 0 < count < signs.size
        assert row["beta_negative"] == pytest.approx(count / signs.size)


@pytest.mark.parametrize("hidden", [0, 3])
@pytest.mark.parametrize(
    ("rule", "compressor"),
    [
        ("ddl", "channels"),  # which it has not
        ("ddl_expanded", "channels"),
        ("ddl_expanded", "convolution"),
        ("ddl_expanded", "tokens"),
    ],
)
def test_beta_of_ddl_is_that_of_its_update(monkeypatch, rule, compressor, hidden):
    """Beside the coefficients that the model's own update computes, sub-layer after sub-layer."""
    config = TransformerConfig(
        **SIZES,
        residual=rule,
        ddl_compressor=compressor,
        ddl_beta_hidden=hidden,
        ddl_beta_init=0.6,
        ddl_norm_eps=1e-2,
    )
    noise = np.random.default_rng(5)
    params = init_transformer(np.random.default_rng(1), config)
    params = tree_map(lambda p: p + 0.3 * noise.standard_normal(p.shape), params)
    betas = []

    def recording(*args, **options):
        betas.append(deep_delta_coefficients(*args, **options)[1])
        return deep_delta_coefficients(*args, **options)

    monkeypatch.setattr(deep_delta, "deep_delta_coefficients", recording)
    transformer(params, TOKENS, config)
    monkeypatch.undo()
    attention = [float(np.mean(beta)) for beta in betas[::2]]
    rows = by_layer(params, TOKENS, config)
    assert [row["beta"] for row in rows[:2]] == pytest.approx(attention, rel=1e-12)
    assert attention[0] != pytest.approx(attention[1], rel=1e-3)
    assert math.isnan(rows[2]["beta"])
    for row, state in zip(rows, hidden_states(params, TOKENS, config), strict=True):
        rank = np.mean(effective_rank(state, normalize=True))
        assert row["effective_rank"] == pytest.approx(rank, rel=1e-12)


@pytest.mark.parametrize(
    ("rule", "has"),
    [("pre_ln", (0, 0)), ("mgt_mhc_only", (0, 1)), ("mgt_ddl_only", (1, 0)), ("ddl", (1, 0))],
)
def test_a_rule_without_a_gate_has_none(rule, has):
    config, params = model(rule)
    row = by_layer(params, TOKENS, config)[0]
    assert (not math.isnan(row["beta"]), not math.isnan(row["gate"])) == has


@pytest.mark.parametrize("rule", ["pre_ln", "post_ln", "ddl_expanded", "mhc"])
def test_the_last_state_times_W_out_is_the_transformer(rule):
    config, params = model(rule)
    logits = linear(last_state(params, TOKENS, config), params["W_out"])
    assert np.array_equal(logits, transformer(params, TOKENS, config))


@pytest.mark.parametrize("at_once", [1, 14, 49, 10**6])
def test_parts_have_the_value_and_the_gradient_of_the_whole(library, rng, at_once):
    """One token at a time, two, six and all."""
    x, W_out = library.asarray([rng.standard_normal((3, 6, 8)), rng.standard_normal((8, 7))])
    targets = library.asarray(TARGETS)

    def whole(arrays):
        return cross_entropy(linear(*arrays), targets)

    def parts(arrays):
        return cross_entropy_in_parts(*arrays, targets, at_once=at_once)

    expected, expected_gradients = value_and_grad(whole)([x, W_out])
    value, gradients = value_and_grad(parts)([x, W_out])
    assert float(value) == pytest.approx(float(expected), rel=1e-14)
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(to_host(got), to_host(wanted), rtol=0, atol=1e-14)


def test_no_part_has_more_logits_than_asked_for_and_all_but_the_last_are_made_twice(
    monkeypatch, rng
):
    shapes = []

    def recording(logits, *args, **options):
        shapes.append(logits.shape)
        return cross_entropy(logits, *args, **options)

    monkeypatch.setattr(measures, "cross_entropy", recording)
    x, W_out = rng.standard_normal((3, 6, 8)), rng.standard_normal((8, 7))
    value_and_grad(cross_entropy_in_parts)(x, W_out, TARGETS, at_once=41)  # at most 5 tokens
    forward, backward = shapes[:4], shapes[4:]
    assert forward == [(4, 7), (5, 7), (4, 7), (5, 7)]
    assert backward == forward[2::-1]


def test_a_mean_over_no_target_is_nan(rng):
    x, W_out = rng.standard_normal((6, 8)), rng.standard_normal((8, 7))
    assert math.isnan(cross_entropy_in_parts(x, W_out, np.full(6, -100)))
    assert math.isnan(cross_entropy_in_parts(x[:0], W_out, np.full(0, 1)))
    with pytest.raises(ValueError, match=r"expected targets in \[0, 7\), got 7"):
        cross_entropy_in_parts(x, W_out, np.full(6, 7))


@pytest.mark.parametrize("rule", ["mgt", "ddl_expanded"])
def test_a_large_vocabulary_changes_no_loss_gradient_or_accuracy(monkeypatch, rule):
    config, params = model(rule)
    batches = [(TOKENS, TARGETS), (TOKENS, TOKENS)]
    expected, expected_gradients = value_and_grad(loss_of)(params, TOKENS, TARGETS, config)
    judged = validation(params, batches, config)
    monkeypatch.setattr(measures, "LARGE_VOCABULARY", 6)
    monkeypatch.setattr(measures, "LOGITS_AT_ONCE", 35)
    monkeypatch.setattr(measures, "transformer", None)
    value, gradients = value_and_grad(loss_of)(params, TOKENS, TARGETS, config)
    assert value == pytest.approx(expected, rel=1e-13)
    pairs = zip(leaves_with_paths(gradients), leaves_with_paths(expected_gradients), strict=True)
    for (path, got), (_, wanted) in pairs:
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-13, err_msg=path)
    assert validation(params, batches, config) == pytest.approx(judged, rel=1e-13)
