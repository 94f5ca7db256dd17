"""Which pairs of tokens may meet, and which tokens see something that is not finite."""

import math

from .boxes import device
from .namespace import array_namespace


def allowed_pairs(q, k, mask, causal):
    """Return the truth values of the pairs (query, key) that may meet; None for all."""
    if not causal:
        return mask
    xp = array_namespace(q)
    queries, keys = (xp.arange(x.shape[-2], device=device(q)) for x in (q, k))
    past = xp.expand_dims(queries, axis=1) >= xp.expand_dims(keys, axis=0)
    return past if mask is None else xp.logical_and(mask, past)


def pairs_of_any_head(x, c, mask, causal):
    """Return the pairs that may meet in one head at least; None for all."""
    if mask is not None and mask.ndim > x.ndim:
        mask = array_namespace(mask).any(mask, axis=-3)
    return allowed_pairs(x, c, mask, causal)


def finite_tokens(allowed, queries, *keys):
    """Return which queries may attend to something not finite, and all tokens, those zero.

    0 · ∞ is NaN, so a weight of 0 does not hide a value, nor a gradient of 0 a key. A query that is
    not finite is spoilt itself. Where all may meet, nothing is done.
    """
    if allowed is None:
        return None, queries, *keys
    xp = array_namespace(queries, *keys)
    spoilt, *bad_keys = bad = [_not_finite(x) for x in (queries, *keys)]
    for tokens in bad_keys:
        seen = xp.logical_and(allowed, xp.matrix_transpose(tokens))
        spoilt = xp.logical_or(spoilt, xp.any(seen, axis=-1, keepdims=True))
    return spoilt, *map(xp.where, bad, [0.0] * len(bad), (queries, *keys))


def _not_finite(x):
    """(..., n, d) → (..., n, 1): whether a token holds an infinity or NaN."""
    xp = array_namespace(x)
    return xp.logical_not(xp.all(xp.isfinite(x), axis=-1, keepdims=True))


def nan_where(spoilt, y):
    """Return y with NaN for the spoilt queries: their gradient ends here."""
    return y if spoilt is None else array_namespace(y).where(spoilt, math.nan, y)
