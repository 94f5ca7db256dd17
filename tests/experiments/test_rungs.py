"""Rungs: counts and compressed sizes by another route, and verdicts that follow the rows."""

import bz2
import lzma
import math
import zlib
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from small_settings import changed

from mgt_np.arrays.libraries import There, place
from mgt_np.data import load_corpus, ngram_probabilities
from mgt_np.experiments import Experiment, judged, result_of, rungs

EXPERIMENT = Experiment.of(rungs)
NAN = float("nan")
SMALL = {"word_orders": (1, 2), "byte_orders": (1, 2), "first_bytes": 1000}
LONGER, HALVED, SMOOTHER = 1, 2, 3  # the claims on python-docs, after the one on xz
KNOWN = slice(5, None)  # those of WikiText-2 alone


@pytest.fixture(scope="module")
def result():
    return result_of(EXPERIMENT, replace(rungs.QUICK, **SMALL))


@pytest.fixture(scope="module")
def wikitext(result):
    """Rows of all orders as if they were of WikiText-2, each the number known of it."""
    settings = rungs.FULL
    template = result.rows[0]
    rows = [
        template
        | {name: cell[name] for name in ("level", "model", "order")}
        | {"part": part, "perplexity": 2.0 ** (9 - cell["order"]), "bits_per_byte": 2.0}
        for cell in rungs.tasks(settings)
        for part in (rungs.WHOLE, rungs.FIRST)
    ]
    made = replace(result, settings=settings, rows=type(result.rows)(rows))
    return changed(made, perplexity=known_perplexity, bits_per_byte=known_bits)


def known_perplexity(row):
    if row["level"] == "words" and row["model"] == "kneser-ney":
        return rungs.KNOWN_WORDS[row["order"]]
    return row["perplexity"]


def known_bits(row):
    if row["part"] == rungs.FIRST and row["model"] == "witten-bell" and row["level"] == "bytes":
        return rungs.KNOWN_BYTES.get(row["order"], 4.64)
    return rungs.KNOWN_COMPRESSED.get(row["model"], row["bits_per_byte"])


def verdicts(result, **columns):
    return [each.verdict for each in judged(EXPERIMENT, changed(result, **columns))]


def one(result, **where):
    (row,) = result.rows.where(**where)
    return row


def tokens(level):
    train, valid = (load_corpus(split=split, level=level) for split in ("train", "valid"))
    return train.tokens.tolist(), valid.tokens.tolist(), train.vocab_size


def test_boundaries():
    better = ([(1.7, 1.71)], [(1.71, 1.71), (1.8, 1.7), (NAN, NAN)])
    ratio = ([0.999], [1.0, 1.1, NAN])
    pairs = [
        *(better, better, ratio, ([0.5, 0.3], [0.51, NAN]), ratio),
        ([(965.19, 965.1), (965.01, 965.1)], [(965.21, 965.1), (964.99, 965.1), (NAN, NAN)]),
        *[([(2.199, 2.19), (2.181, 2.19)], [(2.201, 2.19), (2.179, 2.19), (NAN, NAN)])] * 2,
    ]
    for claim, (passing, failing) in zip(rungs.claims(rungs.FULL), pairs, strict=True):
        assert [x for x in passing if not claim.passes(x)] == [], claim.says
        assert [x for x in failing if claim.passes(x)] == [], claim.says


def test_claims_are_those_that_the_settings_can_try():
    def count(settings, **changes):
        return len(rungs.claims(replace(settings, **changes)))

    assert (count(rungs.QUICK), count(rungs.FULL)) == (4, 8)
    assert count(rungs.QUICK, word_orders=(1, 3)) == 3
    assert count(rungs.QUICK, word_orders=(2,), byte_orders=(2,)) == 2
    assert count(rungs.QUICK, smoothings=("witten-bell",)) == 3
    assert count(rungs.FULL, smoothings=("witten-bell",)) == 6
    assert count(rungs.FULL, smoothings=("kneser-ney",)) == 6
    assert count(rungs.FULL, first_bytes=1000) == 7
    assert count(rungs.FULL, word_orders=(4,), byte_orders=(1,)) == 4


@pytest.mark.parametrize("level", ["words", "bytes"])
def test_one_token_before_by_hand(result, level):
    """Witten–Bell once more, with Counters."""
    train, valid, V = tokens(level)
    single, double = Counter(train), Counter(pairwise(train))
    starts, after = Counter(train[:-1]), Counter(a for a, _ in double)
    alone = [(single[w] + len(single) / V) / (len(train) + len(single)) for w in valid]
    pairs = [alone[0]]
    for h, w, p in zip(valid, valid[1:], alone[1:], strict=False):
        seen = starts[h] + after[h]
        pairs.append((double[h, w] + after[h] * p) / seen if seen else p)
    n_bytes = len(tokens("bytes")[1])
    for order, p in ((1, alone), (2, pairs)):
        nats = -math.fsum(map(math.log, p))
        row = one(result, level=level, order=order, model="witten-bell", part=rungs.WHOLE)
        assert row["perplexity"] == pytest.approx(math.exp(nats / len(valid)), rel=1e-8)
        assert row["nats_per_token"] == pytest.approx(nats / len(valid), rel=1e-8)
        assert row["bits_per_byte"] == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-8)
        assert (row["n_tokens"], row["n_bytes"]) == (len(valid), n_bytes)


def test_the_first_bytes_are_judged_alone(result):
    train, valid, V = tokens("bytes")
    for model in ("kneser-ney", "witten-bell"):
        p = ngram_probabilities(train, valid[:1000], V, order=2, smoothing=model)
        row = one(result, level="bytes", order=2, model=model, part=rungs.FIRST)
        assert row["bits_per_byte"] == pytest.approx(-np.mean(np.log2(p)), rel=1e-8)
        assert (row["n_tokens"], row["n_bytes"]) == (1000, 1000)
    assert not result.rows.where(level="words", part=rungs.FIRST)


def test_first_bytes_beyond_the_text_are_the_whole_of_it():
    cell = {"level": "bytes", "model": "witten-bell", "order": 1, "data": "python-docs"}
    whole, first = rungs.work(There(place("numpy"), "float64"), first_bytes=10**9, **cell)
    assert {**first, "part": rungs.WHOLE} == whole


def test_compressors_by_their_streams(result):
    before, text = (bytes(x) for x in tokens("bytes")[:2])

    def size(stream, data):
        return len(stream.compress(data) + stream.flush())

    xz = {"format": lzma.FORMAT_XZ, "preset": 9}
    sizes = {
        "zlib": size(zlib.compressobj(9), text),
        "bz2": size(bz2.BZ2Compressor(9), text),
        "xz": size(lzma.LZMACompressor(**xz), text),
        "xz given train": size(lzma.LZMACompressor(**xz), before + text)
        - size(lzma.LZMACompressor(**xz), before),
    }
    for name, wanted in sizes.items():
        bits = one(result, model=name)["bits_per_byte"]
        assert bits * len(text) / 8 == pytest.approx(wanted, rel=1e-8), name


def test_uniform_and_unknown(result):
    _, valid, V = tokens("words")
    text = load_corpus(split="valid", level="words")
    words = one(result, model="uniform", level="words")
    assert words["perplexity"] == pytest.approx(V)
    unknown = text.tokenizer.decode(valid).split().count("<unk>")
    assert words["unknown"] == pytest.approx(unknown / len(valid), rel=1e-8)
    letters = one(result, model="uniform", level="bytes")
    assert letters["bits_per_byte"] == pytest.approx(8.0)
    assert letters["unknown"] == 0.0


def test_verdicts_on_counting(result):
    def bits(row):
        return 3.0 if row["model"] == rungs.GIVEN else {1: 3.5, 2: 2.9}.get(row["order"], 9.0)

    def worse(row):
        return bits(row) + 0.2 * (row["model"] == "witten-bell")

    assert verdicts(result, bits_per_byte=bits)[0] == "holds"
    assert verdicts(result, bits_per_byte=worse)[0] == "holds only if smoothed by Kneser–Ney"
    assert verdicts(result, bits_per_byte=3.0)[0] == "does not hold"
    first = changed(result, bits_per_byte=lambda row: 1 + 2 * (row["part"] == rungs.WHOLE))
    assert verdicts(first)[0] == "does not hold", "the first bytes are not what xz compressed"

    def falling(row):
        steep = 3.0 if row["model"] == "kneser-ney" else 1.5
        return 9.0 * steep ** -row["order"] if row["level"] == "words" else 9.0

    assert verdicts(result, perplexity=falling)[1:] == [
        "holds only if the models count words by Kneser–Ney or words by Witten–Bell",
        "holds only if smoothed by Kneser–Ney",
        "holds only if words are counted",
    ]
    assert verdicts(result, perplexity=9.0)[1:] == ["does not hold"] * 3
    ratio = rungs.claims(result.settings)[HALVED].measure(changed(result, perplexity=falling))
    assert ratio == pytest.approx({"Kneser–Ney": 1 / 3, "Witten–Bell": 2 / 3})


def test_one_order_decides(wikitext):
    """Neither the last order nor the mean of them is enough."""

    def bump(row):
        return 400.0 if row["order"] == 3 and row["model"] == "kneser-ney" else 300.0 - row["order"]

    claims = rungs.claims(wikitext.settings)
    bumped = changed(wikitext, perplexity=bump)
    steps = claims[1 + LONGER].measure(bumped)
    assert steps["words by Kneser–Ney"] == steps["bytes by Kneser–Ney"] == 400 / 298
    assert steps["words by Witten–Bell"] == 298 / 299
    assert claims[1 + SMOOTHER].measure(bumped) == dict.fromkeys(("words", "bytes"), 400 / 297)


def test_known_numbers_are_those_of_wikitext_2(wikitext):
    assert verdicts(wikitext)[KNOWN] == ["holds"] * 3

    def far(column, add, **where):
        def number(row):
            return row[column] + add * all(row[name] == x for name, x in where.items())

        return verdicts(wikitext, **{column: number})[KNOWN]

    words = far("perplexity", 0.2, level="words", model="kneser-ney", order=5)
    assert words[0].startswith("holds only if order 1 or order 2 or order 3")
    assert words[1:] == ["holds"] * 2
    letters = far("bits_per_byte", 0.02, part=rungs.FIRST, model="witten-bell", order=4)
    assert letters == ["holds", "holds only if order 2 or order 3", "holds"]
    given = far("bits_per_byte", -0.02, part=rungs.WHOLE, model=rungs.GIVEN)
    assert given == ["holds", "holds", "holds only if zlib or xz or bz2"]
    assert far("bits_per_byte", 1.0, part=rungs.WHOLE, model="witten-bell") == ["holds"] * 3
    said = judged(EXPERIMENT, wikitext)[5].measured
    assert said.startswith("order 1: 965.10 (known: 965.1); order 2: 288.80 (known: 288.8)")


def test_words_are_held_against_xz_where_they_leave_nothing_out(wikitext):
    def bits(row):
        return 1.0 if row["level"] == "words" else 2.0

    assert verdicts(wikitext, bits_per_byte=bits)[:2] == ["does not hold", "holds"]
    assert judged(EXPERIMENT, changed(wikitext, unknown=0.0538))[1].measured.endswith(
        ". 5.38 % of the words are <unk> in the text itself"
    )


def test_the_ladder_has_each_model_once_the_best_first(result, wikitext):
    rungs_found = rungs.ladder(result)
    names = [name for name, _, _ in rungs_found]
    assert names[-1] == "all 256 bytes alike"
    assert names[:2] == ["words, 1 before", "words, none before"]
    assert len({*names}) == len(names) == 10
    best = [min(bits.values()) for _, _, bits in rungs_found]
    assert best == sorted(best)
    assert {kind for _, kind, _ in rungs_found} == {*rungs.KINDS}
    for each, left_out in ((result, True), (wikitext, False)):
        figure = rungs.plot(each, judged(EXPERIMENT, each))
        (ax,) = figure.axes
        legend = [text.get_text() for text in ax.get_legend().get_texts()]
        assert any("left out" in text for text in legend) is left_out
        assert [label.get_text() for label in ax.get_yticklabels()] == [
            name for name, _, _ in rungs.ladder(each)
        ]
