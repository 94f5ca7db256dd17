"""Parameters beside a config: which fit, which do not, and how that is said."""

import dataclasses
import re

import autograd
import numpy as np
import pytest

from mgt_np import (
    MHC_CONVENTIONS,
    RESIDUAL_RULES,
    TransformerConfig,
    cross_entropy,
    hidden_states,
    init_transformer,
    profile_admin,
    transformer,
    value_and_grad,
)
from mgt_np.arrays import leaves_with_paths
from mgt_np.arrays.trees import rebuild
from mgt_np.models.parameters import check_params

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
CONFIG = TransformerConfig(
    vocab_size=11, d_model=8, n_heads=2, n_layers=2, d_ff=12, max_tokens=6, residual="mgt"
)
FUNCTIONS = [transformer, hidden_states, profile_admin]
OPTIONS = [
    *({"residual": rule} for rule in RESIDUAL_RULES),
    *({"residual": "mhc", "mhc_convention": name} for name in MHC_CONVENTIONS),
    {"residual": "mgt", "mgt_beta_per": "channel"},
    {"residual": "rezero", "rezero_shared": False},
    {"residual": "ddl", "ddl_beta_hidden": 3, "ddl_final_norm": "rms"},
    {"residual": "ddl_expanded", "ddl_compressor": "tokens", "ddl_value_channels": 2},
    {"residual": "hc", "hc_dynamic": False, "n_streams": 3},
    {"n_layers": 0},
    {"dtype": "float32"},
]


def config_for(function, **settings):
    if function is profile_admin:
        settings = {"residual": "admin"} | settings
    return dataclasses.replace(CONFIG, **settings)


def init(config):
    return init_transformer(np.random.default_rng(0), config)


def refused(function, params, config, error=ValueError):
    """What is said of them; the function's name is its first word."""
    with pytest.raises(error) as info:
        function(params, TOKENS, config)
    message = str(info.value)
    assert message.startswith(f"{function.__name__}: expected ")
    return message


@pytest.mark.parametrize("settings", OPTIONS, ids=str)
def test_what_is_drawn_for_a_config_fits_it(settings):
    config = dataclasses.replace(CONFIG, **settings)
    params = init(config)
    check_params("test", params, config)
    check_params("test", params | {"blocks": tuple(params["blocks"])}, config)


@pytest.mark.parametrize("settings", OPTIONS, ids=str)
def test_every_array_of_another_shape_is_refused_by_its_place(settings):
    config = dataclasses.replace(CONFIG, **settings)
    params = init(config)
    leaves = leaves_with_paths(params)
    arrays = [leaf for _, leaf in leaves]
    for i, (path, leaf) in enumerate(leaves):
        wrong = np.zeros((*leaf.shape[:-1], 7) if leaf.ndim else (7,))
        changed = rebuild(params, iter([*arrays[:i], wrong, *arrays[i + 1 :]]))
        message = f"test: expected params{path} of shape {leaf.shape}, got {wrong.shape}"
        with pytest.raises(ValueError, match=re.escape(message)):
            check_params("test", changed, config)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"n_layers": 3}, "params['blocks'] to have n_layers = 3 blocks, got 2"),
        ({"n_layers": 1}, "params['blocks'] to have n_layers = 1 blocks, got 2"),
        ({"vocab_size": 12}, "params['tokens'] of shape (12, 8), got (11, 8)"),
        ({"max_tokens": 7}, "params['positions'] of shape (7, 8), got (6, 8)"),
        ({"d_model": 16}, "params['tokens'] of shape (11, 16), got (11, 8)"),
        ({"d_ff": 13}, "params['blocks'][0]['feed_forward']['W_1'] of shape (8, 13), got (8, 12)"),
    ],
    ids=str,
)
def test_the_sizes_of_another_config_are_refused(function, other, said):
    config = config_for(function)
    message = refused(function, init(config), dataclasses.replace(config, **other))
    assert f"expected {said}" in message


@pytest.mark.parametrize("one", RESIDUAL_RULES)
@pytest.mark.parametrize("other", RESIDUAL_RULES)
def test_the_parameters_of_another_rule_are_refused(one, other):
    params = init(dataclasses.replace(CONFIG, residual=one))
    config = dataclasses.replace(CONFIG, residual=other)
    shapes = {path: leaf.shape for path, leaf in leaves_with_paths(params)}
    theirs = {path: leaf.shape for path, leaf in leaves_with_paths(init(config))}
    if shapes == theirs:
        transformer(params, TOKENS, config)
    else:
        refused(transformer, params, config)


def test_rules_with_the_same_parameters_are_few():
    """A norm and no more, before or after the sum; a last norm or none."""
    kinds = {}
    for rule in RESIDUAL_RULES:
        params = init(dataclasses.replace(CONFIG, residual=rule))
        shapes = tuple((path, leaf.shape) for path, leaf in leaves_with_paths(params))
        kinds.setdefault(shapes, set()).add(rule)
    alike = [rules for rules in kinds.values() if len(rules) > 1]
    assert sorted(map(sorted, alike)) == [
        ["branchnorm", "deepnorm", "post_ln"],
        ["none", "pre_ln", "scaled_residual"],
    ]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_keys_are_those_of_the_config(function):
    config = config_for(function)
    params = init(config)
    block = params["blocks"][1]

    def with_block(**parts):
        return params | {"blocks": [params["blocks"][0], block | parts]}

    less = {name: x for name, x in block["attention"].items() if name != "W_q"}
    message = refused(function, with_block(attention=less), config)
    assert "expected params['blocks'][1]['attention'] with the keys 'W_q', 'W_k'" in message
    assert message.endswith(f"(residual={config.residual!r}), got 'W_q' missing")
    more = block["feed_forward"] | {"b_3": block["feed_forward"]["b_2"]}
    message = refused(function, with_block(feed_forward=more), config)
    assert message.endswith("got 'b_3' unknown")
    message = refused(function, params | {"extra": params["tokens"]}, config)
    assert "expected params with the keys 'tokens'" in message
    assert message.endswith("got 'extra' unknown")
    assert "got 'tokens' missing, 'positions' missing" in refused(function, {}, config)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("params", [None, 3, "params", [1, 2]], ids=repr)
def test_what_is_no_tree_of_parameters_is_refused(function, params):
    message = refused(function, params, config_for(function), TypeError)
    assert message.endswith(f"expected params to be a dict, got {params!r}")


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("value", [None, 1.0, "W_q", [1.0, 2.0], {}], ids=repr)
def test_what_is_no_array_is_refused(function, value):
    config = config_for(function)
    params = init(config)
    params["blocks"][1]["attention"]["W_q"] = value
    place = "params['blocks'][1]['attention']['W_q']"
    message = refused(function, params, config, TypeError)
    assert message.endswith(f"expected {place} to be an array of shape (8, 8), got {value!r}")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_blocks_are_a_list(function):
    config = config_for(function)
    params = init(config)
    for blocks in (None, params["tokens"], dict(enumerate(params["blocks"]))):
        message = refused(function, params | {"blocks": blocks}, config, TypeError)
        assert "expected params['blocks'] to be a list, got " in message


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("config", [None, {"d_model": 8}, "mgt"], ids=repr)
def test_a_config_is_a_transformer_config(function, config):
    message = refused(function, init(CONFIG), config, TypeError)
    assert message.endswith(f"to be a TransformerConfig, got {type(config).__name__}")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_biases_may_be_left_out(function):
    """As of 0: what the layers take as optional is optional here."""
    config = config_for(function)
    params = init(config)

    def without(tree):
        if isinstance(tree, dict):
            return {
                name: without(child)
                for name, child in tree.items()
                if name not in ("b_q", "b_k", "b_v", "b_o", "b_1", "b_2", "gain", "bias")
            }
        return [without(child) for child in tree] if isinstance(tree, list) else tree

    bare = without(params)
    assert "b_q" not in bare["blocks"][0]["attention"]
    results = [function(p, TOKENS, config) for p in (bare, params)]
    if function is profile_admin:
        results = [p["blocks"][1]["attention_residual"]["omega"] for p in results]
    np.testing.assert_allclose(*results, rtol=0, atol=1e-12)


def test_the_gain_of_mhcs_norm_may_be_there():
    config = dataclasses.replace(CONFIG, residual="mhc")
    params = init(config)
    expected = transformer(params, TOKENS, config)
    connection = params["blocks"][0]["attention_residual"]["connection"]
    connection["gain"] = np.ones(32)
    np.testing.assert_allclose(transformer(params, TOKENS, config), expected, rtol=0, atol=1e-12)
    connection["gain"] = np.ones(8)
    assert "['gain'] of shape (32,), got (8,)" in refused(transformer, params, config)


def test_a_number_may_have_an_axis():
    """PyTorch's modules keep a number as (1,)."""
    for rule, part in (("rezero", "residual"), ("mgt", "attention_residual")):
        config = dataclasses.replace(CONFIG, residual=rule, rezero_alpha=0.4)
        params = init(config)
        expected = transformer(params, TOKENS, config)
        for block in params["blocks"]:
            numbers = block[part].get("update", block[part])
            numbers["alpha"] = np.reshape(numbers["alpha"], (1,))
        assert np.array_equal(transformer(params, TOKENS, config), expected)


def test_traced_parameters_fit_as_their_values_do():
    """Ours trace every array; HIPS autograd's own `grad` boxes the dicts and lists as well."""
    params = init(CONFIG)

    def loss(params):
        return cross_entropy(transformer(params, TOKENS[:, :-1], CONFIG), TOKENS[:, 1:])

    _, ours = value_and_grad(loss)(params)
    theirs = autograd.grad(loss)(params)
    for (path, a), (_, b) in zip(leaves_with_paths(ours), leaves_with_paths(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13, err_msg=path)
    with pytest.raises(ValueError, match="transformer: expected params\\['blocks'\\]"):
        autograd.grad(loss)(params | {"blocks": params["blocks"][:1]})


@pytest.mark.parametrize("rng", [0, None, np.random.RandomState(0), np.random.SeedSequence(0)])
def test_a_seed_is_no_generator(rng):
    with pytest.raises(TypeError, match=r"expected rng to be a numpy\.random\.Generator.*, got"):
        init_transformer(rng, CONFIG)


def test_what_is_drawn_needs_a_config():
    with pytest.raises(TypeError, match="init_transformer: expected config to be a Transformer"):
        init_transformer(np.random.default_rng(0), {"d_model": 8})
