"""Cut a long run of tokens into training examples."""

import numpy as np

from mgt_np.arrays.options import generator


def windows(tokens, length: int, *, batch: int, rng):
    """Draw `batch` windows of `length` + 1 consecutive tokens, each start equally likely.

        inputs = w[:, :-1],  targets = w[:, 1:]

    Shapes: tokens (n,), result (batch, length + 1), a copy. The same `rng` state gives the same
    windows. With n = length + 1 there is one window, the whole of `tokens`.
    Raises TypeError where `rng` is no numpy.random.Generator, and ValueError where `tokens` is not
    1-D or has fewer than length + 1 tokens.
    """
    generator("rng", rng)
    tokens = np.asarray(tokens)
    if tokens.ndim != 1:
        raise ValueError(f"tokens must be 1-D, got shape {tokens.shape}")
    if length < 1 or batch < 1:
        raise ValueError(f"length and batch must be at least 1, got length {length}, batch {batch}")
    if tokens.size < length + 1:
        raise ValueError(
            f"a window of length {length} needs {length + 1} tokens, got {tokens.size}"
        )
    starts = rng.integers(tokens.size - length, size=batch)
    return np.lib.stride_tricks.sliding_window_view(tokens, length + 1)[starts]
