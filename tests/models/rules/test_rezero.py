"""ReZero: one step a block, and its authors' measurement of the Jacobian at the start."""

import dataclasses

import numpy as np
import pytest

from mgt_np import (
    TransformerConfig,
    cross_entropy,
    grad,
    hidden_states,
    init_transformer,
    transformer,
    value_and_grad,
)
from mgt_np.arrays import tree_map

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
CONFIG = TransformerConfig(
    vocab_size=11, d_model=8, n_heads=2, n_layers=3, d_ff=12, max_tokens=6, residual="rezero"
)
SEPARATE = dataclasses.replace(CONFIG, rezero_shared=False)


def separated(params):
    """The same steps where each sub-layer has its own."""
    blocks = []
    for block in params["blocks"]:
        alpha = {"alpha": block["residual"]["alpha"]}
        block = {name: part for name, part in block.items() if name != "residual"}
        blocks.append(block | {"attention_residual": alpha, "feed_forward_residual": alpha})
    return params | {"blocks": blocks}


def test_both_sublayers_of_a_block_have_one_step(rng):
    """Its gradient is the sum of those of the two steps that it stands for."""
    params = tree_map(lambda x: x + 0.3 * rng.standard_normal(x.shape), init(CONFIG))
    assert [block["residual"].keys() for block in params["blocks"]] == [{"alpha"}] * 3

    def loss(params, config):
        return cross_entropy(transformer(params, TOKENS[:, :-1], config), TOKENS[:, 1:])

    value, gradients = value_and_grad(loss)(params, CONFIG)
    of_two, gradients_of_two = value_and_grad(loss)(separated(params), SEPARATE)
    assert value == of_two
    for block, two in zip(gradients["blocks"], gradients_of_two["blocks"], strict=True):
        parts = [two[f"{name}_residual"]["alpha"] for name in ("attention", "feed_forward")]
        np.testing.assert_allclose(block["residual"]["alpha"], sum(parts), rtol=1e-12)
        assert abs(parts[0] - parts[1]) > 1e-6


def init(config):
    return init_transformer(np.random.default_rng(3), config)


def test_separate_steps_are_an_option():
    params = init(SEPARATE)
    assert all("residual" not in block for block in params["blocks"])
    for block in params["blocks"]:
        assert block["attention_residual"].keys() == block["feed_forward_residual"].keys()
        assert block["attention_residual"].keys() == {"alpha"}


def as_drawn_by_its_authors(rng, n_layers, residual, **settings):
    """Their encoder of width 16: Xavier's uniform weights, PyTorch's default hidden biases."""
    d, hidden = 16, 64
    config = TransformerConfig(
        vocab_size=4 * 64,
        d_model=d,
        n_heads=4,
        n_layers=n_layers,
        d_ff=hidden,
        max_tokens=4,
        residual=residual,
        activation="relu",
        causal=False,
        **settings,
    )
    params = init_transformer(rng, config)

    def uniform(shape, fans):
        bound = np.sqrt(6.0 / fans)
        return rng.uniform(-bound, bound, shape)

    for block in params["blocks"]:
        for name in "qkv":  # one matrix of three there
            block["attention"][f"W_{name}"] = uniform((d, d), d + 3 * d)
        block["attention"]["W_o"] = uniform((d, d), 2 * d)
        for name, a, b in (("1", d, hidden), ("2", hidden, d)):
            block["feed_forward"][f"W_{name}"] = uniform((a, b), a + b)
            block["feed_forward"][f"b_{name}"] = rng.uniform(-1, 1, b) / np.sqrt(a)
    return params, config


def mean_square_of_singular_values(rng, *args, **settings):
    """‖J‖²/64 of the map of 4 tokens of 16 features, N(0, 1), to their last states."""
    params, config = as_drawn_by_its_authors(rng, *args, **settings)
    x = np.tile(rng.standard_normal((4, 16)), (64, 1))  # one copy for each row of J
    tokens, rows = np.arange(4 * 64).reshape(64, 4), np.eye(64).reshape(64, 4, 16)
    params["positions"] = np.zeros((4, 16))

    def of_rows(x):
        return (hidden_states(params | {"tokens": x}, tokens, config)[-1, ...] * rows).sum()

    return np.sum(grad(of_rows)(x) ** 2) / 64


@pytest.mark.parametrize(("n_layers", "theirs", "apart"), [(12, 1.059, 0.02), (128, 2.142, 0.3)])
def test_the_jacobian_at_the_start_is_as_its_authors_measured(n_layers, theirs, apart, rng):
    """tbachlechner/ReZero-examples: the mean of ten draws, with α = 0.1."""
    draws = [
        mean_square_of_singular_values(rng, n_layers, "rezero", rezero_alpha=0.1) for _ in range(10)
    ]
    assert np.mean(draws) == pytest.approx(theirs, abs=apart)


def test_twelve_layers_of_post_ln_and_pre_ln_are_further_from_an_isometry(rng):
    """They measured 0.810 and 10.242; the draws have heavy tails, so medians are compared."""
    draws = {
        residual: [mean_square_of_singular_values(rng, 12, residual) for _ in range(10)]
        for residual in ("post_ln", "pre_ln")
    }
    assert 0.1 < np.median(draws["post_ln"]) < 1.0
    assert 5.0 < np.median(draws["pre_ln"]) < 20.0
