"""What is measured of a model on the way: loss, accuracy, rank, β and gate."""

import math

import numpy as np
import pytest

from mgt_np import (
    TransformerConfig,
    cross_entropy,
    effective_rank,
    hidden_states,
    init_transformer,
    mgt_beta,
    tangent_gate,
    transformer,
)
from mgt_np.training import by_layer, loss_of, validation

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
    assert math.isnan(rows[2]["gate"])


@pytest.mark.parametrize(
    ("rule", "has"),
    [("pre_ln", (0, 0)), ("mgt_mhc_only", (0, 1)), ("mgt_ddl_only", (1, 0)), ("ddl", (0, 0))],
)
def test_a_rule_without_a_gate_has_none(rule, has):
    config, params = model(rule)
    row = by_layer(params, TOKENS, config)[0]
    assert (not math.isnan(row["beta"]), not math.isnan(row["gate"])) == has
