"""Solutions of lesson 11, and wrong answers with the words of their hints."""

import numpy as np


def bits_per_byte(perplexity, n_tokens, n_bytes):
    return np.log2(perplexity) * n_tokens / n_bytes


def bigram_loss(train, held, vocab_size, smooth):
    counts = np.full((vocab_size, vocab_size), smooth)
    np.add.at(counts, (train[:-1], train[1:]), 1.0)
    p = counts / counts.sum(axis=1, keepdims=True)
    return -np.mean(np.log(p[held[:-1], held[1:]]))


def compare(steps, mine, others, weights, other_weights):
    budget = steps[-1] * min(weights, other_weights)
    i, j = (np.sum(steps * w <= budget) - 1 for w in (weights, other_weights))
    found = []
    for d in (mine[:, -1] - others[:, -1], mine[:, i] - others[:, j]):
        found.append([d.mean(), d.std(ddof=1) / np.sqrt(d.size)])
    return np.array(found)


def _counts(train, vocab_size):
    counts = np.zeros((vocab_size, vocab_size))
    np.add.at(counts, (train[:-1], train[1:]), 1.0)
    return counts


def _loss(counts, below, held):
    with np.errstate(divide="ignore", invalid="ignore"):
        return -np.mean(np.log((counts / below)[held[:-1], held[1:]]))


def _of_seen(train, held, vocab_size, smooth, reduce):
    counts = _counts(train, vocab_size)
    p = (counts + smooth) / (counts + smooth).sum(axis=1, keepdims=True)
    seen = counts[held[:-1], held[1:]] > 0
    return reduce(-np.log(p[held[:-1], held[1:]]), seen)


def _unsmoothed(train, held, vocab_size, smooth):
    counts = _counts(train, vocab_size)
    return _loss(counts, np.maximum(counts.sum(axis=1, keepdims=True), 1.0), held)


def _added(train, held, vocab_size, smooth, below):
    counts = _counts(train, vocab_size)
    return _loss(counts + smooth, counts.sum(axis=1, keepdims=True) + below, held)


def _turned(train, held, vocab_size, smooth):
    counts = _counts(train, vocab_size).T + smooth
    return _loss(counts, counts.sum(axis=1, keepdims=True), held)


def _with_last(train, held, vocab_size, smooth):
    below = np.bincount(train, minlength=vocab_size)[:, None] + smooth * vocab_size
    return _loss(_counts(train, vocab_size) + smooth, below, held)


def _unigram(train, held, vocab_size, smooth):
    single = np.bincount(train, minlength=vocab_size) + smooth
    return -np.mean(np.log((single / single.sum())[held[1:]]))


def _with_held(train, held, vocab_size, smooth):
    counts = _counts(train, vocab_size) + _counts(held, vocab_size) + smooth
    return _loss(counts, counts.sum(axis=1, keepdims=True), held)


def _at(case, i, j, error=None):
    _, mine, others, *_ = case
    error = error or (lambda a, b: (a - b).std(ddof=1) / np.sqrt(a.size))
    pairs = (mine[:, -1], others[:, -1]), (mine[:, i], others[:, j])
    return np.array([[np.mean(a - b), error(a, b)] for a, b in pairs])


def _paid(case):
    steps, _, _, *weights = case
    return [int(np.sum(steps * w <= steps[-1] * min(weights))) - 1 for w in weights]


def _nearest(*case):
    steps, _, _, *weights = case
    budget = steps[-1] * min(weights)
    return _at(case, *(np.argmin(np.abs(steps * w - budget)) for w in weights))


def _least(steps, mine, others, *weights):
    least = (np.minimum.accumulate(x, axis=1) for x in (mine, others))
    return compare(steps, *least, *weights)


SOLUTIONS = {"11.1": bits_per_byte, "11.2": bigram_loss, "11.3": compare}
WRONG = {
    "11.1": [
        (lambda p, t, b: np.log2(p), "bits per token"),
        (lambda p, t, b: np.log(p) * t / b, "nats per byte"),
        (lambda p, t, b: np.log(p), "nats per token"),
        (lambda p, t, b: np.log2(p) * b / t, "upside down"),
        (lambda p, t, b: np.log10(p) * t / b, "decimal digits"),
        (lambda p, t, b: np.log(p) * np.log(2) * t / b, "not multiplying"),
        (lambda p, t, b: p * t / b, "take its logarithm first"),
        (lambda p, t, b: np.log2(p * t / b), "behind the logarithm"),
        (lambda p, t, b: p ** (t / b), "perplexity per byte"),
        (lambda p, t, b: np.log2(p) / 8, "whatever its 8 bits"),
        (lambda p, t, b: np.log2(p) * t / b / 8, "do not come in"),
        (lambda p, t, b: np.log2(p) * t, "of the whole text"),
        (lambda p, t, b: np.log2(p) / b, "n_tokens tokens"),
        (lambda p, t, b: f"{bits_per_byte(p, t, b)}", "leave the quotes away"),
        (lambda p, t, b: 1.5, "should be"),
    ],
    "11.2": [
        (lambda train, held, *given: bigram_loss(train, train, *given), "scored on the training"),
        (lambda *given: _of_seen(*given, lambda x, seen: x[seen].mean()), "are dropped"),
        (lambda *given: _of_seen(*given, lambda x, seen: (x * seen).mean()), "cost nothing"),
        (_unsmoothed, "p = 0"),
        (lambda *given: _added(*given, 0.0), "of each of V tokens"),
        (lambda *given: _added(*given, given[3]), "λ is added V times"),
        (lambda train, held, V, smooth: bigram_loss(train, held, V, 1.0), "add `smooth`"),
        (_turned, "the order is turned"),
        (_with_last, "is no context"),
        (_unigram, "is a unigram"),
        (_with_held, "not held out"),
        (lambda *given: bigram_loss(*given) / np.log(2), "those are bits"),
        (lambda *given: bigram_loss(*given) * (given[1].size - 1), "that is the sum"),
        (lambda *given: bigram_loss(*given) * (1 - 1 / given[1].size), "n − 1 pairs"),
        (lambda *given: np.exp(bigram_loss(*given)), "is the perplexity"),
        (lambda *given: np.exp(-bigram_loss(*given)), "mean probability"),
        (lambda *given: -bigram_loss(*given), "the sign"),
        (lambda *given: [bigram_loss(*given)], "one number"),
    ],
    "11.3": [
        (lambda *case: _at(case, -1, -1), "smaller of the two"),
        (_nearest, "nearest logged step"),
        (lambda *case: _at(case, *_paid(case)[::-1]), "cuts the cheaper run"),
        (lambda *case: _at(case, min(_paid(case)), min(_paid(case))), "at one step again"),
        (_least, "the least loss so far"),
        (lambda *case: _at(case, *_paid(case), lambda a, b: (a - b).std() / a.size**0.5), "n − 1"),
        (lambda *case: _at(case, *_paid(case), lambda a, b: (a - b).std(ddof=1)), "of one"),
        (
            lambda *case: _at(
                case,
                *_paid(case),
                lambda a, b: np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / a.size),
            ),
            "seeds are paired",
        ),
        (lambda s, a, b, w, v: compare(s, b, a, v, w), "the sign"),
        (lambda *case: compare(*case)[::-1], "rows are swapped"),
        (lambda *case: compare(*case).T, "transposed"),
        (lambda *case: compare(*case)[:, 0], "*and* its standard error"),
        (lambda *case: [[0.1, 0.1], [0.1, 0.1]], "should be"),
    ],
}
