"""Judges and predictions of lesson 11, a small language model and what it is held against."""

import numpy as np

from .judging import exercise, hint_for
from .predicting import Prediction

Prediction(
    "11.a",
    choices={
        "words": "Yes: a word is five bytes here, so that its one surprise counts for five.",
        "bytes": "The smaller perplexity is that of the smaller step. A byte is easier to guess "
        "than a word, and the text has five times as many of them.",
        "neither": "They predict the same text: count what the whole of it costs.",
    },
)
Prediction(
    "11.b",
    choices={
        "2 layers": "A layer costs as much as the steps that it takes away.",
        "8 layers": "That is the verdict at equal steps. A step of 8 layers has more than three "
        "times the arithmetic, and the two layers spend it on more steps.",
        "neither": "At so few steps both still fall fast, and more steps are worth much.",
    },
)


@exercise("11.1")
def bits_per_byte(answer, rng):
    """Bits per byte of a perplexity per token."""
    perplexity, n_tokens = rng.uniform(20.0, 900.0), int(rng.integers(10_000, 90_000))
    n_bytes = int(n_tokens * rng.uniform(3.0, 6.0))
    bits, share = np.log2(perplexity), n_tokens / n_bytes
    nats = np.log(perplexity)
    usual = [
        (bits, "those are bits per token: a token is n_bytes/n_tokens bytes."),
        (nats * share, "those are nats per byte: a bit is ln 2 nats."),
        (nats, "those are nats per token: divide by ln 2, and by the bytes that a token has."),
        (bits / share, "upside down: a token's bits are shared out among its bytes."),
        (np.log10(perplexity) * share, "those are decimal digits: take the logarithm to base 2."),
        (nats * np.log(2.0) * share, "nats become bits by dividing by ln 2, not multiplying."),
        (perplexity * share, "a perplexity cannot be shared out: take its logarithm first."),
        (np.log2(perplexity * share), "divide behind the logarithm, not under it."),
        (perplexity**share, "that is the perplexity per byte: its log₂ is asked for."),
        (bits / 8.0, "a byte of text is n_bytes/n_tokens of a token, whatever its 8 bits."),
        (bits * share / 8.0, "the 8 bits of a byte do not come in: that is the share of them."),
        (bits * n_tokens, "those are the bits of the whole text: divide by its bytes."),
        (bits / n_bytes, "the text has n_tokens tokens, each with log₂ of the perplexity."),
    ]
    right = bits * share
    return hint_for(
        answer(perplexity, n_tokens, n_bytes), right, usual, rtol=1e-6, what="the bits per byte"
    )


def bigram_case(rng):
    """Two texts of one chain: the held-out one has a pair that the other lacks."""
    while True:
        V = int(rng.integers(6, 10))
        P = rng.dirichlet(np.full(V, 0.4), size=V)
        tokens = [0]
        for _ in range(260):
            tokens.append(int(rng.choice(V, p=P[tokens[-1]])))
        train, held = np.array(tokens[:200]), np.array(tokens[200:])
        seen = {*zip(train[:-1].tolist(), train[1:].tolist(), strict=True)}
        new = {*zip(held[:-1].tolist(), held[1:].tolist(), strict=True)} - seen
        if new and train[-1] in held[:-1]:
            return train, held, V, rng.uniform(0.2, 0.7)


def _bigram_loss(train, held, V, smooth, change=""):
    """The mean of −ln p on the pairs of `held`, or what a usual mistake makes of it."""
    counts = np.zeros((V, V))
    np.add.at(counts, (train[:-1], train[1:]), 1.0)
    if change == "pairs of held":
        np.add.at(counts, (held[:-1], held[1:]), 1.0)
    if change == "order":
        counts = counts.T
    of_context = counts.sum(axis=1, keepdims=True)
    if change == "last":
        of_context = np.bincount(train, minlength=V)[:, None]
    added = {"smooth": 1.0, "none": 0.0}.get(change, smooth)
    below = of_context + {"V": added, "nothing below": 0.0}.get(change, V * added)
    p = (counts + added) / np.where(below > 0.0, below, 1.0)
    if change == "unigram":
        single = np.bincount(train, minlength=V) + smooth
        p = np.broadcast_to(single / single.sum(), (V, V))
    text = train if change == "train" else held
    surprise = -np.log(p, out=np.full_like(p, -np.inf), where=p > 0.0)[text[:-1], text[1:]]
    seen = counts[text[:-1], text[1:]] > 0
    if change == "dropped":
        return surprise[seen].mean()
    if change == "as nothing":
        return np.where(seen, surprise, 0.0).mean()
    return surprise.mean()


BIGRAMS = {
    "train": "that is scored on the training text: the pairs of `held` are asked for.",
    "dropped": "unseen pairs are dropped: they cost the most, and smoothing is there for them.",
    "as nothing": "unseen pairs count as if they cost nothing: smoothing gives them λ.",
    "none": "without smoothing an unseen pair has p = 0, and the loss is infinite.",
    "nothing below": "a row has to sum to one: the λ of each of V tokens adds to the count below.",
    "V": "a row has to sum to one: λ is added V times, so that λV stands below.",
    "smooth": "that adds 1 to each count: add `smooth`.",
    "order": "the order is turned: the first token of a pair is the context.",
    "last": "the last token of `train` is no context: nothing follows it.",
    "unigram": "that is a unigram: the token before is not looked at.",
    "pairs of held": "the pairs of `held` were counted too: then it is not held out.",
}


@exercise("11.2")
def held_out_bigram(answer, rng):
    """The held-out loss of a bigram with λ added to every count, in nats per token."""
    case = bigram_case(rng)
    right = _bigram_loss(*case)
    usual = [(_bigram_loss(*case, change), hint) for change, hint in BIGRAMS.items()]
    n = case[1].size - 1
    usual += [
        (right / np.log(2.0), "those are bits: the natural logarithm is asked for."),
        (right * n, "that is the sum: take the mean over the pairs."),
        (right * n / (n + 1), "n tokens have n − 1 pairs: divide by their number."),
        (np.exp(right), "that is the perplexity: its logarithm is asked for."),
        (np.exp(-right), "that is a mean probability: −ln of it is asked for."),
        (-right, "the sign is the other one: a loss is the mean of −ln p."),
    ]
    return hint_for(answer(*case), right, usual, rtol=1e-6, what="the loss")


def runs_case(rng):
    """Logged losses of two models; one step of one of them costs 1.2 to 2 times the other's."""
    while True:
        n_seeds, n_logged, every = (int(rng.integers(*ends)) for ends in ((3, 6), (8, 13), (1, 6)))
        steps = 10 * every * np.arange(1, n_logged + 1)
        weights = int(rng.integers(20_000, 60_000))
        ratio = rng.uniform(1.2, 2.0)
        paid = n_logged / ratio
        if 0.6 < paid % 1.0 < 0.9 and paid > 3.0:
            break
    falls = np.log(steps) * rng.uniform(0.3, 0.5)
    shared = rng.normal(0.0, 0.3, (n_seeds, 1))
    mine, others = 4.0 - falls + shared + rng.normal(0.0, 0.1, (2, n_seeds, n_logged))
    both = (weights, int(weights * ratio))
    return steps, mine, others, *(both if rng.random() < 0.5 else both[::-1])


def _places(case, rule):
    """Which logged step of each is taken for equal arithmetic."""
    steps, _, _, *weights = case
    budget = (max if rule == "larger" else min)(weights) * steps[-1]
    if rule == "nearest":
        return [int(np.argmin(np.abs(steps * w - budget))) for w in weights]
    if rule == "ratio":
        return [int(np.sum(steps * w <= budget)) - 1 for w in weights[::-1]]
    places = [int(np.sum(steps * w <= budget)) - 1 for w in weights]
    return [min(places)] * 2 if rule == "same step" else places


def _mean_and_error(a, b, how=""):
    d = a - b
    n = d.size
    error = {
        "": d.std(ddof=1) / np.sqrt(n),
        "ddof": d.std() / np.sqrt(n),
        "spread": d.std(ddof=1),
        "unpaired": np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / n),
    }[how]
    return d.mean(), error


def _differences(case, rule="", how=""):
    _, mine, others, *_ = case
    if rule == "least":
        mine, others = np.minimum.accumulate(mine, 1), np.minimum.accumulate(others, 1)
    i, j = _places(case, rule)
    return np.array(
        [
            _mean_and_error(mine[:, -1], others[:, -1], how),
            _mean_and_error(mine[:, i], others[:, j], how),
        ]
    )


@exercise("11.3")
def at_equal_cost(answer, rng):
    """Mean and standard error of a difference at equal steps, and at equal arithmetic."""
    case = runs_case(rng)
    right = _differences(case)
    usual = [
        (_differences(case, "larger"), "the second row is the first again: the budget is the "
         "smaller of the two, steps times weights, and the dearer run has to stop earlier."),
        (_differences(case, "nearest"), "the nearest logged step costs more than the budget: take "
         "the last one that it pays for."),
        (_differences(case, "ratio"), "that cuts the cheaper run: the dearer one has to stop "
         "earlier."),
        (_differences(case, "same step"), "that compares both at one step again: the cheaper run "
         "goes to its end."),
        (_differences(case, "least"), "that takes the least loss so far: choosing by held-out "
         "loss makes it too small. Take the loss at the step."),
        (_differences(case, how="ddof"), "with n seeds the variance divides by n − 1."),
        (_differences(case, how="spread"), "that is the standard deviation of one difference: the "
         "mean's is smaller by √n."),
        (_differences(case, how="unpaired"), "the seeds are paired: take the error of the "
         "differences, seed by seed."),
        (-right * [1.0, -1.0], "the sign is the other one: mine − others."),
        (right[::-1], "the rows are swapped: equal steps come first."),
        (right.T, "transposed: a row for each comparison, with its mean and its error."),
    ]  # fmt: skip
    got = answer(*case)
    hint = hint_for(got, right, usual, rtol=1e-6, what="the 2 × 2 array")
    if " of shape " in hint and np.shape(got) == (2,):
        return "expected a mean *and* its standard error for each of the two comparisons."
    return hint
