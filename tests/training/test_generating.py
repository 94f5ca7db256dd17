"""Text from a model: what it has seen, what it draws."""

import numpy as np
import pytest

from mgt_np import TransformerConfig, init_transformer, transformer
from mgt_np.training import generate

SIZES = {"vocab_size": 5, "d_model": 8, "n_heads": 2, "n_layers": 1, "d_ff": 16, "max_tokens": 4}
CONFIG = TransformerConfig(**SIZES)
PARAMS = init_transformer(np.random.default_rng(0), CONFIG)


def test_temperature_zero_takes_the_likeliest_token_of_those_it_can_see():
    tokens = generate(PARAMS, CONFIG, [1, 2, 3], 6, rng=None, temperature=0.0)
    assert list(tokens[:3]) == [1, 2, 3]
    for n in range(3, 9):
        seen = tokens[max(0, n - 4) : n]
        assert tokens[n] == np.argmax(transformer(PARAMS, seen, CONFIG)[-1])


def test_tokens_are_drawn_with_the_probabilities_of_the_model():
    rng = np.random.default_rng(1)
    drawn = [
        int(generate(PARAMS, CONFIG, [4], 1, rng=rng, temperature=2.0)[1]) for _ in range(4000)
    ]
    logits = transformer(PARAMS, np.asarray([4]), CONFIG)[-1] / 2.0
    p = np.exp(logits) / np.sum(np.exp(logits))
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 4000, p, atol=0.04)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="prompt of at least one token"):
        generate(PARAMS, CONFIG, [], 1, rng=None)
    with pytest.raises(ValueError, match="temperature of at least 0, got -1"):
        generate(PARAMS, CONFIG, [1], 1, rng=None, temperature=-1.0)
