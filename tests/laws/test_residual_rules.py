"""What holds for every residual rule: shapes, dtypes, seeds, causality, gradients, libraries."""

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
    hidden_states,
    init_transformer,
    layer_norm,
    rms_norm,
    transformer,
    value_and_grad,
)
from mgt_np.arrays import device, leaves_with_paths, tree_map
from mgt_np.arrays.trees import rebuild

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


@pytest.fixture(params=RESIDUAL_RULES)
def config(request):
    return TransformerConfig(
        vocab_size=11,
        d_model=8,
        n_heads=2,
        n_layers=2,
        d_ff=12,
        max_tokens=6,
        residual=request.param,
    )


def moved_params(rng, config, size=0.3):
    """Parameters away from their initial zeros and ones, as training leaves them."""
    params = init_transformer(rng, config)
    return tree_map(lambda x: x + size * rng.standard_normal(x.shape).astype(x.dtype), params)


def loss(params, tokens, config):
    return cross_entropy(transformer(params, tokens[..., :-1], config), tokens[..., 1:])


def test_two_hundred_layers_forth_and_back_are_finite_and_stay_float32(config, rng):
    """What does not overflow here, does not in float64."""
    config = dataclasses.replace(config, n_layers=200, d_ff=8, dtype="float32")
    params = init_transformer(rng, config)
    states = hidden_states(params, TOKENS, config)
    value, gradients = value_and_grad(loss)(params, TOKENS, config)
    leaves = [leaf for _, leaf in leaves_with_paths((params, states, gradients))]
    assert all(np.all(np.isfinite(leaf)) for leaf in leaves)
    assert {leaf.dtype for leaf in leaves} == {value.dtype} == {np.dtype("float32")}


def test_states_are_the_embedding_and_one_after_each_block(config, rng):
    params = moved_params(rng, config)
    states = hidden_states(params, TOKENS, config)
    assert states.shape == (3, 2, 5, 8)
    embedded = params["tokens"][TOKENS] + params["positions"][:5]
    np.testing.assert_allclose(states[0], embedded, rtol=1e-15)
    assert len({states[layer].tobytes() for layer in range(3)}) == 3


def test_logits_are_read_from_the_last_state(config, rng):
    params = moved_params(rng, config)
    last = hidden_states(params, TOKENS, config)[-1]
    assert ("final_norm" in params) == RESIDUAL_RULES[config.residual].final_norm
    if "final_norm" in params:
        norm = rms_norm if config.residual == "ddl_expanded" else layer_norm
        last = norm(last, **params["final_norm"])
    logits = transformer(params, TOKENS, config)
    assert logits.shape == (2, 5, 11)
    np.testing.assert_allclose(logits, last @ params["W_out"], rtol=1e-14, atol=1e-14)


def test_without_layers_only_the_embedding_is_left(config, rng):
    config = dataclasses.replace(config, n_layers=0)
    assert hidden_states(init_transformer(rng, config), TOKENS, config).shape == (1, 2, 5, 8)


def test_leading_axes_are_free(config, rng):
    params = moved_params(rng, config)
    tokens = rng.integers(0, 11, (3, 2, 5))
    for f, axis in ((transformer, 0), (hidden_states, 1)):
        two = f(params, tokens, config)
        one = np.stack([f(params, matrix, config) for matrix in tokens], axis=axis)
        none = np.stack(
            [np.stack([f(params, row, config) for row in matrix], axis=axis) for matrix in tokens],
            axis=axis,
        )
        np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(none, two, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_logits_depend_on_the_past_alone(place, config, rng):
    params, changed = moved_params(rng, config), TOKENS.copy()
    changed[:, place] = (changed[:, place] + 1) % 11
    before, after = (transformer(params, tokens, config) for tokens in (TOKENS, changed))
    assert np.array_equal(before[:, :place], after[:, :place])
    assert np.all(np.any(before[:, place:] != after[:, place:], axis=-1))
    two_ways = dataclasses.replace(config, causal=False)
    before, after = (transformer(params, tokens, two_ways) for tokens in (TOKENS, changed))
    assert np.all(np.any(before != after, axis=-1))


def test_one_seed_gives_one_model(config):
    first, second = (init_transformer(np.random.default_rng(5), config) for _ in range(2))
    other = init_transformer(np.random.default_rng(6), config)
    pairs = list(zip(leaves_with_paths(first), leaves_with_paths(second), strict=True))
    assert all(np.array_equal(a, b) for (_, a), (_, b) in pairs)
    assert not np.array_equal(first["tokens"], other["tokens"])
    assert np.array_equal(transformer(first, TOKENS, config), transformer(second, TOKENS, config))


def test_one_seed_gives_every_rule_the_same_embeddings_and_sublayers(config):
    pre_ln = dataclasses.replace(config, residual="pre_ln")
    ours, theirs = (init_transformer(np.random.default_rng(5), c) for c in (config, pre_ln))
    for name in ("tokens", "positions", "W_out"):
        assert np.array_equal(ours[name], theirs[name])
    for block, other in zip(ours["blocks"], theirs["blocks"], strict=True):
        for sublayer in ("attention", "feed_forward"):
            assert block[sublayer].keys() == other[sublayer].keys()
            gains = RESIDUAL_RULES[config.residual].gains(config)
            for name, weights in block[sublayer].items():
                assert np.array_equal(weights, other[sublayer][name] * gains.get(name, 1.0))


def test_no_two_weight_matrices_are_drawn_alike(config, rng):
    params = init_transformer(rng, config)
    drawn = [leaf for _, leaf in leaves_with_paths(params) if len(np.unique(leaf)) > 2]
    firsts = [leaf.flat[0] for leaf in drawn]
    assert len(set(firsts)) == len(firsts)


def test_parameters_are_nested_dicts_and_lists_of_floating_arrays(config, rng):
    params = init_transformer(rng, config)

    def check(tree):
        if isinstance(tree, dict):
            assert all(isinstance(key, str) for key in tree)
            for child in tree.values():
                check(child)
        elif isinstance(tree, list):
            for child in tree:
                check(child)
        else:
            assert type(tree) is np.ndarray
            assert tree.dtype == np.float64

    check(params)


def test_no_parameter_is_idle(config, rng):
    params = moved_params(rng, config)
    _, gradients = value_and_grad(loss)(params, TOKENS, config)
    idle = [path for path, g in leaves_with_paths(gradients) if np.max(np.abs(g)) < 1e-12]
    # Adding one vector to all keys adds one number to all scores of a query: softmax forgets it.
    expected = {f"['blocks'][{i}]['attention']['b_k']" for i in range(2)}
    if config.residual == "mhc":  # the first layer mixes equal streams
        first = "['blocks'][0]['attention_residual']['connection']"
        expected |= {f"{first}['{name}']" for name in ("phi_res", "b_res", "alpha_res")}
    assert set(idle) == expected


def test_the_gradient_of_the_whole_model_is_its_slope(config, rng):
    config = dataclasses.replace(config, n_layers=1)
    params = moved_params(rng, config)
    leaves = [leaf for _, leaf in leaves_with_paths(params)]

    def logits(*leaves):
        return transformer(rebuild(params, iter(leaves)), TOKENS, config)

    check_gradient(logits, *leaves, rng=rng)


def test_every_library_agrees_with_numpy(library, config, rng):
    params = moved_params(rng, config)
    expected = loss(params, TOKENS, config)
    expected_gradients = value_and_grad(loss)(params, TOKENS, config)[1]
    states = hidden_states(params, TOKENS, config)

    there, tokens = library.asarray(params), library.asarray(TOKENS)
    states_there = hidden_states(there, tokens, config)
    value, gradients = value_and_grad(loss)(there, tokens, config)
    some = there["tokens"]
    for leaf in (states_there, value, *(leaf for _, leaf in leaves_with_paths(gradients))):
        assert array_namespace(leaf) is array_namespace(some)
        assert (device(leaf), leaf.dtype) == (device(some), some.dtype)
    pairs = zip(
        leaves_with_paths(host([states_there, value, gradients])),
        leaves_with_paths([states, expected, expected_gradients]),
        strict=True,
    )
    for (_, got), (path, wanted) in pairs:
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12, err_msg=path)


def test_a_rule_says_its_equation(config):
    rule = RESIDUAL_RULES[config.residual]
    assert "=" in rule.equation
    assert rule.update.__doc__
