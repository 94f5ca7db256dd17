"""Nothing on the way of a training step leaves the device, and every library computes the same."""

import array_api_strict
import numpy as np
import pytest
from array_libraries import NUMPY, STRICT_DEVICE1, host

from mgt_np import (
    RESIDUAL_RULES,
    TransformerConfig,
    cross_entropy,
    embedding,
    grad,
    init_transformer,
    transformer,
    value_and_grad,
)
from mgt_np.arrays import tree_map

TRANSFERS = (
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "__array__",
    "__dlpack__",
    "to_device",
)


@pytest.fixture
def transfers(monkeypatch):
    """The names of the transfers between host and device since the test began to count."""
    found = []

    def counting(name, original):
        def method(self, *args, **kwargs):
            if self.device == STRICT_DEVICE1.device:
                found.append(name)
            return original(self, *args, **kwargs)

        return method

    array_type = type(array_api_strict.zeros(()))
    for name in TRANSFERS:
        monkeypatch.setattr(array_type, name, counting(name, getattr(array_type, name)))
    asarray = array_api_strict.asarray

    def counting_asarray(x, *args, **kwargs):
        if isinstance(x, np.ndarray):
            found.append("asarray")
        return asarray(x, *args, **kwargs)

    monkeypatch.setattr(array_api_strict, "asarray", counting_asarray)
    return found


def model(rule, n_layers=2, *, seed=0):
    config = TransformerConfig(
        vocab_size=11,
        d_model=8,
        n_heads=2,
        n_layers=n_layers,
        d_ff=16,
        max_tokens=6,
        residual=rule,
    )
    rng = np.random.default_rng(seed)
    params = init_transformer(rng, config)
    tokens = rng.integers(0, config.vocab_size, (3, 7))

    def loss(params, tokens):
        return cross_entropy(transformer(params, tokens[:, :-1], config), tokens[:, 1:])

    return params, tokens, loss


@pytest.mark.parametrize("rule", RESIDUAL_RULES)
def test_a_step_moves_nothing_between_host_and_device(rule, transfers):
    params, tokens, loss = model(rule)
    params, tokens = STRICT_DEVICE1.asarray((params, tokens))
    transfers.clear()
    value, gradient = value_and_grad(loss)(params, tokens)
    moved = tree_map(lambda p, g: p - 0.1 * g, params, gradient)
    assert transfers == []
    assert moved["W_out"].device == STRICT_DEVICE1.device
    float(value)
    assert transfers == ["__float__"]  # the counter counts


def test_tokens_out_of_range_on_a_device_become_nan(transfers):
    E = STRICT_DEVICE1.asarray(np.ones((4, 2)))
    tokens = STRICT_DEVICE1.asarray(np.asarray([0, 4, -1, 3]))
    transfers.clear()
    rows = embedding(tokens, E)
    slope = grad(lambda E: array_api_strict_sum(embedding(tokens, E)[::3, :]))(E)
    assert transfers == []
    assert np.isnan(host(rows)).tolist() == [[False] * 2, [True] * 2, [True] * 2, [False] * 2]
    assert host(slope).tolist() == [[1.0] * 2, [0.0] * 2, [0.0] * 2, [1.0] * 2]


def array_api_strict_sum(x):
    return x.__array_namespace__().sum(x)


@pytest.mark.parametrize("targets", [[0, 5], [-100, -100]])
def test_bad_targets_on_a_device_give_a_loss_of_nan(targets, transfers):
    logits = STRICT_DEVICE1.asarray(np.zeros((2, 5)))
    targets = STRICT_DEVICE1.asarray(np.asarray(targets))
    transfers.clear()
    loss = cross_entropy(logits, targets)
    assert transfers == []
    assert np.isnan(host(loss))


def losses_of_descent(library, n_steps=50):
    """The losses of an MGT of 4 layers under plain gradient descent."""
    *data, loss = model("mgt", 4)
    params, tokens = library.asarray(data)
    step = value_and_grad(loss)
    losses = []
    for _ in range(n_steps):
        value, gradient = step(params, tokens)
        params = tree_map(lambda p, g: p - 0.1 * g, params, gradient)
        losses.append(float(value))
    return losses


@pytest.fixture(scope="module")
def expected_losses():
    return losses_of_descent(NUMPY)


def test_fifty_steps_of_descent_have_the_same_losses_on_every_library(library, expected_losses):
    assert expected_losses[-1] < expected_losses[0] - 0.3
    assert losses_of_descent(library) == pytest.approx(expected_losses, rel=1e-10, abs=1e-10)
