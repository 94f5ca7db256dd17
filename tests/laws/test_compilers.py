"""One source under other people's transformations: JAX's jit and vmap, PyTorch's tape and compiler.

Under each, every residual rule gives the loss and the gradients that it gives by itself, whether
its parameters are arguments or closed over.
"""

import dataclasses
import shutil
import warnings

import numpy as np
import pytest
from array_libraries import LIBRARIES
from layer_cases import CASES as LAYER_CASES
from measure_cases import CASES as MEASURE_CASES

from mgt_np import (
    RESIDUAL_RULES,
    TransformerConfig,
    cross_entropy,
    init_transformer,
    layers,
    transformer,
    value_and_grad,
)
from mgt_np.arrays import leaves_with_paths, to_host, tree_map

each_rule = pytest.mark.parametrize("rule", RESIDUAL_RULES)


def model(rule):
    """The config, moved parameters and tokens of a small decoder, and its loss and gradients."""
    config = TransformerConfig(
        vocab_size=11, d_model=8, n_heads=2, n_layers=2, d_ff=12, max_tokens=6, residual=rule
    )
    rng = np.random.default_rng(0)
    params = tree_map(
        lambda x: x + 0.3 * rng.standard_normal(x.shape), init_transformer(rng, config)
    )
    tokens = rng.integers(0, 11, (2, 6))

    def loss(params, tokens):
        return cross_entropy(transformer(params, tokens[..., :-1], config), tokens[..., 1:])

    return config, params, tokens, loss, value_and_grad(loss)(params, tokens)


def agree(got, expected):
    found = dict(leaves_with_paths(got))  # JAX sorts the keys of its dicts
    for path, x in leaves_with_paths(expected):
        np.testing.assert_allclose(to_host(found.pop(path)), x, rtol=0, atol=1e-12, err_msg=path)
    assert found == {}


def on_jax(jax, tree):
    return tree_map(jax.numpy.asarray, tree)


@each_rule
def test_jax_compiles_and_differentiates_each_rule(rule, jax):
    _, params, tokens, loss, expected = model(rule)
    step = jax.jit(jax.value_and_grad(loss))
    agree(list(step(on_jax(jax, params), on_jax(jax, tokens))), list(expected))


@each_rule
def test_jax_compiles_each_rule_with_its_weights_closed_over(rule, jax):
    _, params, tokens, loss, (value, _) = model(rule)
    params, tokens = on_jax(jax, (params, tokens))
    agree([jax.jit(lambda tokens: loss(params, tokens))(tokens)], [value])


@pytest.mark.parametrize("case", [*LAYER_CASES, *MEASURE_CASES], ids=str)
def test_jax_traces_what_is_all_closed_over(case, jax):
    """While it compiles JAX traces operations on what it knows, too: no value can be asked for."""
    (library,) = (each for each in LIBRARIES if each.xp.__name__ == "jax.numpy")
    function, arrays = case.on(library)
    jax.make_jaxpr(lambda: function(*arrays))()


@each_rule
def test_jax_maps_each_rule_over_sequences(rule, jax):
    config, params, tokens, _, _ = model(rule)
    expected = transformer(params, tokens, config)
    params, tokens = on_jax(jax, (params, tokens))
    agree([jax.vmap(lambda row: transformer(params, row, config))(tokens)], [expected])


@pytest.mark.parametrize("rule", ["mgt", "mhc"])
def test_what_jax_compiles_does_not_grow_with_depth(rule, jax):
    def n_products(n_layers):
        config = dataclasses.replace(model(rule)[0], n_layers=n_layers)
        params = on_jax(jax, init_transformer(np.random.default_rng(0), config))
        tokens = jax.numpy.zeros(6, dtype=int)
        step = jax.jit(jax.grad(lambda params: transformer(params, tokens, config).sum()))
        return step.lower(params).as_text().count("dot_general")

    assert n_products(5) == n_products(2)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def on_torch(torch, tree):
    return tree_map(torch.as_tensor, tree)


def tracked(torch, params):
    return tree_map(lambda x: torch.as_tensor(x).clone().requires_grad_(), params)


@each_rule
def test_pytorch_differentiates_each_rule_by_its_own_tape(rule, torch):
    _, params, tokens, loss, (value, gradients) = model(rule)
    params, tokens = tracked(torch, params), on_torch(torch, tokens)
    of_torch = loss(params, tokens)
    of_torch.backward()
    agree([of_torch.detach()], [value])
    agree(tree_map(lambda x: x.grad, params), gradients)


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler")
def test_pytorch_compiles_mgt(torch):
    _, params, tokens, loss, (value, gradients) = model("mgt")
    params, tokens = tracked(torch, params), on_torch(torch, tokens)
    torch.compiler.reset()
    with warnings.catch_warnings():  # of caches that it does not look into
        warnings.simplefilter("ignore")
        of_torch = torch.compile(lambda tokens: loss(params, tokens))(tokens)
        of_torch.backward()
    agree([of_torch.detach()], [value])
    agree(tree_map(lambda x: x.grad, params), gradients)


@pytest.mark.parametrize("name", ["gelu", "silu", "feed_forward", "multi_head_attention"])
def test_torch_vmap_maps_what_looks_for_infinities(name):
    """Fused forms look at values on the host; under vmap there are none to look at."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = torch.Generator().manual_seed(0)
    x, W = (torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((3, 5, 4), (4, 4)))
    layer = {
        "feed_forward": lambda x: layers.feed_forward(x, W, W),
        "multi_head_attention": lambda x: layers.multi_head_attention(
            x, W, W, W, W, n_heads=2, causal=True
        ),
    }.get(name, getattr(layers, name))
    torch.testing.assert_close(torch.func.vmap(layer)(x), layer(x), rtol=1e-13, atol=1e-13)
