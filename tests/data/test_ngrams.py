"""n-gram models: their formulas once more, word by word, and the numbers of WikiText-2."""

import math
from collections import Counter

import numpy as np
import pytest
from recorded import SHARED

from mgt_np.data import load_corpus, ngram_probabilities, perplexity

V = 4
TRAIN = np.random.default_rng(0).integers(V - 1, size=60)  # the last token never comes


def grams(tokens, n):
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def by_hand(history, word, order, smoothing):
    """The formulas of the docstring, with dicts."""
    train = [int(token) for token in TRAIN]
    if order == 0:
        return 1.0 / V
    counts = grams(train, order)
    if smoothing == "kneser-ney" and len(history) < by_hand.order - 1:
        counts = Counter(gram[1:] for gram in grams(train, order + 1))
    h = tuple(history)
    lower = by_hand(history[1:], word, order - 1, smoothing)
    followers = {gram[-1]: c for gram, c in counts.items() if gram[:-1] == h}
    total, different = sum(followers.values()), len(followers)
    if not total:
        return lower
    c = followers.get(word, 0)
    if smoothing == "witten-bell":
        return (c + different * lower) / (total + different)
    n_1, n_2 = (list(counts.values()).count(k) for k in (1, 2))
    D = n_1 / (n_1 + 2 * n_2) if n_1 else 0.0
    return max(c - D, 0.0) / total + D * different / total * lower


@pytest.mark.parametrize("smoothing", ["kneser-ney", "witten-bell"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_each_probability_is_that_of_the_formula(order, smoothing):
    tokens = [0, 1, 2, 3, 0, 0, 2, 1, 1, 2]
    by_hand.order = order
    found = ngram_probabilities(TRAIN, tokens, V, order=order, smoothing=smoothing)
    for i in range(order - 1, len(tokens)):
        wanted = by_hand(tokens[i - order + 1 : i], tokens[i], order, smoothing)
        assert found[i] == pytest.approx(wanted, rel=1e-13), i


@pytest.mark.parametrize("smoothing", ["kneser-ney", "witten-bell"])
@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("history", [[], [0], [2, 1, 0], [3, 0, 3]])
def test_probabilities_sum_to_one(order, smoothing, history):
    options = {"order": order, "smoothing": smoothing}
    ends = [ngram_probabilities(TRAIN, [*history, w], V, **options)[-1] for w in range(V)]
    assert sum(ends) == pytest.approx(1.0, abs=1e-13)
    assert (min(ends) > 0.0) == (smoothing == "witten-bell")  # D = 0: each of the three is frequent


def test_a_frequent_token_has_its_relative_frequency():
    train = np.tile([0, 0, 0, 1], 5000)
    for smoothing in ("kneser-ney", "witten-bell"):
        p = ngram_probabilities(train, [0, 1], 2, order=1, smoothing=smoothing)
        np.testing.assert_allclose(p, [0.75, 0.25], atol=1e-4)
    assert perplexity(np.asarray([0.5, 0.125])) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((TRAIN, [0], V), {"order": 0}, "order of at least 1"),
        ((TRAIN[:2], [0], V), {"order": 2}, "more training tokens"),
        ((TRAIN, [V], V), {"order": 1}, r"tokens in 0 … 3, got 4 … 4"),
        ((TRAIN - 1, [0], V), {"order": 1}, r"train in 0 … 3, got -1"),
        ((TRAIN, [0], V), {"order": 1, "smoothing": "laplace"}, "smoothing"),
    ],
)
def test_what_cannot_be_is_refused(arguments, options, words):
    with pytest.raises(ValueError, match=words):
        ngram_probabilities(*arguments, **options)


@pytest.fixture(scope="module")
def wikitext():
    folder = SHARED / "wikitext2"
    if not folder.is_dir():
        pytest.skip("WikiText-2 (../shared/wikitext2) is not here")

    def load(split, level):
        return load_corpus("wikitext-2", split=split, level=level, data_dir=folder)

    return load


@pytest.mark.parametrize(
    ("order", "valid", "test"),
    [(2, 288.8, 267.4), pytest.param(5, 238.9, 223.7, marks=pytest.mark.slow)],
)
def test_words_of_wikitext_2_have_the_known_perplexities(wikitext, order, valid, test):
    train = wikitext("train", "words")
    for split, wanted in (("valid", valid), ("test", test)):
        tokens = wikitext(split, "words").tokens
        p = ngram_probabilities(train.tokens, tokens, train.vocab_size, order=order)
        assert perplexity(p) == pytest.approx(wanted, abs=0.05)


@pytest.mark.slow
def test_bytes_of_wikitext_2_have_the_known_bits(wikitext):
    train, valid = (wikitext(split, "bytes").tokens for split in ("train", "valid"))
    for order, wanted in ((2, 3.39), (3, 2.72), (4, 2.19)):
        p = ngram_probabilities(train, valid[:200_000], 256, order=order, smoothing="witten-bell")
        assert math.log2(perplexity(p)) == pytest.approx(wanted, abs=0.006)
