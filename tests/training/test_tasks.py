"""Tasks: what is predicted from what, and what the loss can be at best."""

import math

import numpy as np
import pytest

from mgt_np.data import KnownEntropyLanguage, load_corpus
from mgt_np.training import bits_per_byte, load_task
from mgt_np.training.tasks import generated_language, true_loss


@pytest.mark.parametrize(
    ("source", "n_tokens", "vocab"),
    [("python-docs", 16, 256), ("known-entropy", 16, 32), ("copy", 15, 34)],
)
def test_batches_have_their_shapes_and_are_drawn_by_the_generator(source, n_tokens, vocab):
    task = load_task(source, batch=3, n_tokens=n_tokens, n_valid=2)
    inputs, targets = task.batch(np.random.default_rng(1))
    assert inputs.shape == targets.shape == (3, n_tokens)
    assert task.vocab_size == vocab
    assert inputs.max() < vocab
    again, _ = task.batch(np.random.default_rng(1))
    other, _ = task.batch(np.random.default_rng(2))
    assert np.array_equal(inputs, again)
    assert not np.array_equal(inputs, other)
    assert [each.shape for pair in task.valid for each in pair] == [(3, n_tokens)] * 4


def test_targets_of_a_text_are_the_next_bytes_and_the_splits_are_apart():
    task = load_task("python-docs", batch=4, n_tokens=32)
    for inputs, targets in [task.batch(np.random.default_rng(0)), *task.valid]:
        assert np.array_equal(inputs[:, 1:], targets[:, :-1])
    valid = load_corpus("python-docs", split="valid").tokens
    first = np.concatenate([task.valid[0][0][0], task.valid[0][1][0][-1:]])
    assert np.array_equal(first, valid[:33])
    last = task.valid[-1][1][-1]
    assert np.array_equal(last, valid[-32:])


def test_words_cost_as_many_bits_a_byte_as_their_bytes_say():
    task = load_task("python-docs", batch=2, n_tokens=8, level="words")
    valid = load_corpus("python-docs", split="valid", level="words")
    assert task.bytes_per_token == valid.provenance["bytes"] / valid.tokens.size > 3.0
    assert bits_per_byte(math.log(2.0) * task.bytes_per_token, task) == pytest.approx(1.0)
    assert bits_per_byte(math.log(2.0), load_task("python-docs", batch=2, n_tokens=8)) == 1.0
    assert math.isnan(bits_per_byte(1.0, load_task("copy", batch=1, n_tokens=3)))


def test_the_floor_of_the_generated_language_is_its_entropy_and_copying_has_none():
    task = load_task("known-entropy", batch=8, n_tokens=64)
    assert 0.5 < task.floor < math.log(32)
    assert load_task("copy", batch=1, n_tokens=5).floor == 0.0


def test_the_true_model_has_its_loss_on_the_very_targets():
    half = KnownEntropyLanguage([[0.5, 0.5], [0.25, 0.75]])
    batches = [([[0, 1]], [[1, 0]]), ([[1, 0]], [[1, 1]])]
    moved = [tuple(np.asarray(each) for each in batch) for batch in batches]
    expected = -np.mean(np.log([0.5, 0.25, 0.75, 0.5]))
    assert true_loss(half, moved) == pytest.approx(expected, rel=1e-14)


def test_the_floor_on_the_valid_batches_is_the_languages_own_loss():
    task = load_task("known-entropy", batch=16, n_tokens=64, n_valid=16)
    # 16 384 targets: the mean of −log P, whose spread a target is about one nat, is near H
    assert 0.0 < abs(task.valid_floor - task.floor) < 0.03
    language = generated_language()
    assert task.floor == language.entropy_rate
    tokens = [np.append(i[:1], t) for pair in task.valid for i, t in zip(*pair, strict=True)]
    each = [language.cross_entropy(row) for row in tokens]
    assert task.valid_floor == pytest.approx(np.mean(each), rel=1e-12)
    assert load_task("copy", batch=1, n_tokens=5).valid_floor == 0.0
    assert load_task("python-docs", batch=1, n_tokens=5).valid_floor is None


def test_copying_counts_the_copy_alone():
    task = load_task("copy", batch=2, n_tokens=9)
    inputs, targets = task.batch(np.random.default_rng(3))
    assert np.all(targets[:, :5] == -100)
    assert np.array_equal(targets[:, 5:], inputs[:, :4])


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("python-doc", {}, "did you mean 'python-docs'"),
        ("copy", {"n_tokens": 8}, "odd number of tokens of at least 3, got 8"),
        ("python-docs", {"n_tokens": 10**7}, "windows shorter than the text"),
        ("python-docs", {"level": "letters"}, "level"),
    ],
)
def test_what_cannot_be_is_refused(source, options, words):
    with pytest.raises(ValueError, match=words):
        load_task(source, **{"batch": 2, "n_tokens": 9} | options)


def test_wikitext_2_is_read_where_it_is():
    from recorded import SHARED

    folder = SHARED / "wikitext2"
    if not folder.is_dir():
        pytest.skip("WikiText-2 (../shared/wikitext2) is not here")
    task = load_task("wikitext-2", batch=2, n_tokens=8, level="words", data_dir=folder)
    assert task.vocab_size == 33278
    assert task.bytes_per_token == pytest.approx(5.1537, abs=1e-4)
