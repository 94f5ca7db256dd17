"""DDL with value channels: how its compressors start, and who shares them."""

import dataclasses

import numpy as np
import pytest

from mgt_np import TransformerConfig, hidden_states, init_transformer
from mgt_np.arrays import tree_map

TOKENS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
CONFIG = TransformerConfig(
    vocab_size=11, d_model=8, n_heads=2, n_layers=2, d_ff=12, max_tokens=6, residual="ddl_expanded"
)


def compressors(config, seed=0):
    params = init_transformer(np.random.default_rng(seed), config)
    parts = [*(block["residual"] for block in params["blocks"]), params["read_out"]]
    return [part["compressor"] for part in parts]


@pytest.mark.parametrize("d_v", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("compressor", ["convolution", "tokens"])
def test_every_compressor_can_start_as_the_mean(compressor, size, d_v, rng):
    channels = dataclasses.replace(CONFIG, ddl_value_channels=d_v)
    config = dataclasses.replace(channels, ddl_compressor=compressor, ddl_kernel_size=size)
    got, expected = (
        hidden_states(init_transformer(np.random.default_rng(0), c), TOKENS, c)
        for c in (config, channels)
    )
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("compressor", ["convolution", "tokens"])
def test_the_start_of_the_authors_code(compressor):
    """Kernels N(0, (0.5/√d)²), each block's and the read-out's its own; a read vector of 1/d_v."""
    options = {"ddl_compressor": compressor, "ddl_compressor_start": "normal", "d_model": 400}
    drawn = compressors(dataclasses.replace(CONFIG, **options))
    shape = (400, 4) if compressor == "convolution" else (400, 4, 4)
    for part in drawn:
        assert part["kernel"].shape == shape
        assert np.std(part["kernel"]) == pytest.approx(0.025, rel=0.06)
        assert np.all(part["w"] == 0.25)
    firsts = {float(part["kernel"].flat[0]) for part in drawn}
    assert len(firsts) == 3


def test_the_papers_compressor_has_no_other_start():
    with pytest.raises(ValueError, match=r"'mean' with ddl_compressor='channels'.* got 'normal'"):
        dataclasses.replace(CONFIG, ddl_compressor_start="normal")


@pytest.mark.parametrize("compressor", ["channels", "convolution", "tokens"])
def test_the_read_out_changes_what_is_read_and_nothing_else(compressor, rng):
    config = dataclasses.replace(CONFIG, ddl_compressor=compressor)
    params = tree_map(
        lambda x: x + 0.3 * rng.standard_normal(x.shape), init_transformer(rng, config)
    )
    twice = tree_map(lambda x: 2.0 * x, params["read_out"]["compressor"])
    power = 1 if compressor == "channels" else 2  # a kernel and a read vector
    got = hidden_states(params | {"read_out": {"compressor": twice}}, TOKENS, config)
    states = hidden_states(params, TOKENS, config)
    assert np.array_equal(got[0], states[0])  # the embedding, before there is a state to read
    np.testing.assert_allclose(got[1:], 2.0**power * states[1:], rtol=1e-12)
