"""MGT's rules where nothing is erased."""

import numpy as np
import pytest

from mgt_np import TransformerConfig, hidden_states, init_transformer, value_and_grad
from mgt_np.arrays import leaves_with_paths, tree_map
from mgt_np.training import loss_of

SIZES = {"vocab_size": 11, "d_model": 8, "n_heads": 2, "n_layers": 2, "d_ff": 12, "max_tokens": 6}
TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])


def without(params, name):
    """The parameters with one of each connection's updates left out."""
    blocks = [
        {
            part: tree | {"update": {k: x for k, x in tree["update"].items() if k != name}}
            if part.endswith("_residual")
            else tree
            for part, tree in block.items()
        }
        for block in params["blocks"]
    ]
    return params | {"blocks": blocks}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("residual", ["mgt", "mgt_ddl_only"])
def test_without_erasure_is_alpha_0_that_is_not_learned(residual, dtype, rng):
    sizes = SIZES | {"residual": residual, "dtype": dtype}
    learned, fixed = (TransformerConfig(**sizes, mgt_alpha=alpha) for alpha in (0.0, None))
    params = tree_map(
        lambda p: (p + 0.3 * rng.standard_normal(p.shape)).astype(dtype) if p.ndim else p,
        init_transformer(rng, learned),
    )
    rest = without(params, "alpha")
    expected = hidden_states(params, TOKENS, learned)
    got = hidden_states(rest, TOKENS, fixed)
    assert got.dtype == expected.dtype == dtype
    assert np.array_equal(got, expected)
    _, gradients = value_and_grad(loss_of)(rest, TOKENS, TOKENS, fixed)
    _, wanted = value_and_grad(loss_of)(params, TOKENS, TOKENS, learned)
    wanted = dict(leaves_with_paths(without(wanted, "alpha")))
    for path, gradient in leaves_with_paths(gradients):
        np.testing.assert_array_equal(gradient, wanted[path])


@pytest.mark.parametrize("residual", ["mgt", "mgt_ddl_only"])
def test_without_erasure_starts_from_the_same_weights(residual):
    configs = [
        TransformerConfig(**SIZES, residual=residual, mgt_alpha=alpha) for alpha in (0.1, None)
    ]
    plain, fixed = (init_transformer(np.random.default_rng(3), config) for config in configs)
    leaves = list(leaves_with_paths(fixed))
    assert not [path for path, _ in leaves if "alpha" in path]
    wanted = dict(leaves_with_paths(without(plain, "alpha")))
    assert wanted.keys() == {path for path, _ in leaves}
    for path, leaf in leaves:
        np.testing.assert_array_equal(leaf, wanted[path])
