"""Text from a trained model, one token after the other."""

import numpy as np

from mgt_np.arrays import array_namespace, to_host
from mgt_np.models import transformer


def generate(params, config, prompt, n_tokens, *, rng, temperature=1.0):
    """Return `prompt` (n,) of token ids with `n_tokens` more, drawn one after the other.

        p = softmax(logits/temperature)

    The model sees the last `max_tokens` tokens. Temperature 0 takes the likeliest token, and needs
    no draw.
    Raises ValueError for an empty prompt and a negative temperature.
    """
    tokens = [int(token) for token in prompt]
    if not tokens:
        raise ValueError("generate: expected a prompt of at least one token, got none")
    if not temperature >= 0.0:
        raise ValueError(f"generate: expected a temperature of at least 0, got {temperature}")
    plain = array_namespace(params["tokens"])
    for _ in range(n_tokens):
        seen = plain.asarray(tokens[-config.max_tokens :])
        logits = to_host(transformer(params, seen, config)[-1, :]).astype(np.float64)
        tokens.append(_drawn(logits, temperature, rng))
    return np.asarray(tokens)


def _drawn(logits, temperature, rng):
    if temperature == 0.0:
        return int(np.argmax(logits))
    p = np.exp((logits - logits.max()) / temperature)
    return int(rng.choice(p.size, p=p / p.sum()))
