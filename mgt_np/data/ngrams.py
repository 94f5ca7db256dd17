"""Smoothed n-gram models: the rungs that a language model's loss is held against. Lesson 11."""

import numpy as np

from mgt_np.arrays.checks import one_of

SMOOTHINGS = ("kneser-ney", "witten-bell")


def ngram_probabilities(train, tokens, vocab_size, *, order, smoothing="kneser-ney"):
    """Return the probability of each token given the `order` − 1 before it, learned from `train`.

    Interpolated Kneser–Ney, with h' the context h without its first token:

        p(w|h) = max(c(hw) − D, 0)/c(h·) + D N(h·)/c(h·) p(w|h'),    D = n₁/(n₁ + 2 n₂)

    where c counts in `train` at the highest order and below it the different tokens in front,
    c(h·) = Σ_w c(hw), N(h·) counts the w with c(hw) > 0, and n₁, n₂ the n-grams with c = 1, 2
    (Kneser & Ney 1995; Chen & Goodman 1999). Witten–Bell, on the counts themselves:

        p(w|h) = (c(hw) + N(h·) p(w|h'))/(c(h·) + N(h·))                        (Bell et al. 1990)

    A context that `train` does not have passes on to the shorter one, the empty one to 1/V. At the
    start of `tokens` contexts are as long as they can be. `order=1` without smoothing is the
    relative frequency: the limit of both where every token is frequent.
    Shapes: train (n,), tokens (m,) of integers below vocab_size; result (m,). Probabilities are
    positive, but for Kneser–Ney's of an unseen token where no n-gram has c = 1, so that D is 0.
    Raises ValueError for an order below 1, for fewer than `order` + 1 training tokens, and for
    tokens out of range.
    """
    one_of(SMOOTHINGS, **{"ngram_probabilities: smoothing": smoothing})
    train, tokens = np.asarray(train, dtype=np.int64), np.asarray(tokens, dtype=np.int64)
    if order < 1 or train.size <= order:
        raise ValueError(
            f"ngram_probabilities: expected an order of at least 1 and more training tokens, got "
            f"order {order} and {train.size} tokens"
        )
    for name, x in (("train", train), ("tokens", tokens)):
        if x.size and not (x.min() >= 0 and x.max() < vocab_size):
            raise ValueError(
                f"ngram_probabilities: expected {name} in 0 … {vocab_size - 1}, "
                f"got {x.min()} … {x.max()}"
            )
    tables = _tables(train, vocab_size, order)
    p = np.full(tokens.size, 1.0 / vocab_size)
    found = np.zeros(tokens.size, np.int64)  # the empty context is found everywhere
    for n, table in enumerate(tables, 1):
        above = tables[n] if n < order and smoothing == "kneser-ney" else None
        context = found if n == 1 else np.concatenate([[-1], found[:-1]])
        p, found = _interpolated(p, table, above, context, context * vocab_size + tokens, smoothing)
    return p


def _tables(train, vocab_size, order):
    """For each n: the different n-grams as (context's number) V + last token, sorted, with counts.

    `shorter` has the number of the (n − 1)-gram that is left without the first token.
    """
    tables, before = [], np.zeros(train.size, np.int64)
    for n in range(1, order + 1):
        places = np.arange(n - 1, train.size)
        context = before[places - 1] if n > 1 else np.zeros(train.size, np.int64)
        keys, first, number, counts = np.unique(
            context * vocab_size + train[places],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        shorter = before[places[first]]
        before = np.full(train.size, -1)
        before[places] = number
        tables.append({"keys": keys, "counts": counts, "shorter": shorter, "V": vocab_size})
    return tables


def _interpolated(p, table, above, context, key, smoothing):
    """The probabilities at one order, of those below it; and the number of each n-gram, or −1."""
    keys, counts = table["keys"], table["counts"]
    if above is not None:  # how many different tokens stand in front
        counts = np.bincount(above["shorter"], minlength=keys.size)
    contexts, there = keys // table["V"], counts > 0
    total = np.bincount(contexts, counts)
    different = np.bincount(contexts[there], minlength=total.size)
    place = np.minimum(np.searchsorted(keys, key), keys.size - 1)
    hit = (context >= 0) & (keys[place] == key)
    inside = np.clip(context, 0, total.size - 1)
    known = (context >= 0) & (context < total.size) & (total[inside] > 0)
    c, of_context = np.where(hit, counts[place], 0), np.where(known, total[inside], 1)
    if smoothing == "kneser-ney":
        n_1, n_2 = np.sum(counts == 1), np.sum(counts == 2)
        D = n_1 / (n_1 + 2 * n_2) if n_1 else 0.0
        new = (np.maximum(c - D, 0.0) + D * different[inside] * p) / of_context
    else:
        new = (c + different[inside] * p) / (of_context + different[inside])
    return np.where(known, new, p), np.where(hit, place, -1)


def perplexity(p):
    """Return the perplexity of tokens with probabilities p: exp of the mean of −log p."""
    return float(np.exp(-np.mean(np.log(p))))
