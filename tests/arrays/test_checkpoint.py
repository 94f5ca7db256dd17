"""Recomputation in the backward pass: the same gradients, less on the tape."""

import dataclasses

import numpy as np
import pytest
from array_libraries import host
from gradcheck import check_gradient

from mgt_np import (
    RESIDUAL_RULES,
    TransformerConfig,
    array_namespace,
    cross_entropy,
    grad,
    init_transformer,
    transformer,
    value_and_grad,
)
from mgt_np.arrays import checkpoint, leaves_with_paths
from mgt_np.models import decoder

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


def model(rule, **settings):
    config = TransformerConfig(
        vocab_size=11,
        d_model=8,
        n_heads=2,
        n_layers=5,
        d_ff=12,
        max_tokens=6,
        residual=rule,
        **settings,
    )

    def loss(params, tokens, config=config):
        return cross_entropy(transformer(params, tokens[..., :-1], config), tokens[..., 1:])

    return init_transformer(np.random.default_rng(1), config), loss, config


def chain(x, params):
    xp = array_namespace(x, params["w"])
    return xp.tanh(xp.multiply(x, params["w"]))


def test_what_depends_on_none_of_its_arguments_has_gradient_zero():
    x = np.asarray([1.0, 2.0])
    constant = checkpoint(lambda x: np.ones(2))
    slope = grad(lambda x: array_namespace(x).sum(x * x + constant(x)))(x)
    assert slope.tolist() == [2.0, 4.0]


def test_no_gradient_is_lost_silently():
    x = np.asarray([1.0, 2.0])
    closes_over = lambda x: array_namespace(x).sum(checkpoint(lambda y: x * y)(x))  # noqa: E731
    with pytest.raises(TypeError, match="closes over"):
        grad(closes_over)(x)
    two = lambda x: array_namespace(x).sum(checkpoint(lambda y: (y, y))(x)[1])  # noqa: E731
    with pytest.raises(TypeError, match="expected fun to return an array, got tuple"):
        grad(two)(x)


def test_a_checkpoint_changes_no_derivative(library, rng):
    x, w = rng.standard_normal((2, 4))
    kept = lambda x, w: chain(chain(x, {"w": w}), {"w": w})  # noqa: E731
    again = lambda x, w: checkpoint(chain)(checkpoint(chain)(x, {"w": w}), {"w": w})  # noqa: E731

    def slopes(function):
        def total(arrays):
            return array_namespace(*arrays).sum(function(*arrays))

        return host(grad(total)(list(library.asarray([x, w]))))

    for got, expected in zip(slopes(again), slopes(kept), strict=True):
        assert np.array_equal(got, expected)
    assert np.array_equal(again(x, w), kept(x, w))
    check_gradient(again, x, w, rng=rng)


def test_what_it_closes_over_is_a_constant(rng):
    x, w = rng.standard_normal((2, 4))
    slope = grad(lambda x: array_namespace(x).sum(checkpoint(lambda x: x * w)(x)))(x)
    np.testing.assert_allclose(slope, w, rtol=1e-15)


@pytest.mark.parametrize("every", [1, 2, 7])
@pytest.mark.parametrize("rule", RESIDUAL_RULES)
def test_the_gradients_of_a_model_are_the_same(rule, every):
    params, loss, config = model(rule)
    expected, expected_gradients = value_and_grad(loss)(params, TOKENS)
    config = dataclasses.replace(config, checkpoint_every=every)
    value, gradients = value_and_grad(loss)(params, TOKENS, config)
    assert value == expected
    pairs = zip(leaves_with_paths(gradients), leaves_with_paths(expected_gradients), strict=True)
    for (path, got), (_, wanted) in pairs:
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-14, err_msg=path)


def test_all_but_the_last_segment_are_computed_twice(monkeypatch):
    params, loss, _ = model("pre_ln", checkpoint_every=2)
    n_blocks, through = [], decoder._through

    def counting(state, blocks, *options):
        n_blocks.append(len(blocks))
        return through(state, blocks, *options)

    monkeypatch.setattr(decoder, "_through", counting)
    loss(params, TOKENS)
    assert n_blocks == [2, 2, 1]
    n_blocks.clear()
    value_and_grad(loss)(params, TOKENS)
    assert n_blocks == [2, 2, 1, 2, 2]


@pytest.mark.parametrize("every", [0, -1, 1.5, "2"])
def test_an_interval_that_is_none_is_refused(every):
    with pytest.raises(ValueError, match="checkpoint_every to be None or an integer ≥ 1, got"):
        model("pre_ln", checkpoint_every=every)
