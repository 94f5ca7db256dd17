"""What is learned: batches to train on, fixed batches to judge by, what is known of the loss."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mgt_np.arrays.checks import one_of
from mgt_np.data import SOURCES, KnownEntropyLanguage, copy_task, load_corpus, windows

IGNORED = -100  # the target of a token that does not count
N_SYMBOLS = 32


@dataclass(frozen=True, eq=False)
class Task:
    """A source of examples.

    `batch(rng)` draws inputs and targets (batch, n_tokens), int64; targets of -100 do not count.
    `valid` are batches that stay the same. `bytes_per_token` makes bits per byte of the loss, where
    tokens stand for text; `floor` is the least expected loss in nats, where it is known, and
    `valid_floor` the loss that the source's own probabilities have on `valid`.
    """

    source: str
    vocab_size: int
    batch: Callable[[np.random.Generator], tuple]
    valid: list[tuple]
    bytes_per_token: float | None = None
    floor: float | None = None
    valid_floor: float | None = None


def load_task(source, *, batch, n_tokens, level="bytes", n_valid=8, data_dir=None):
    """Return the `Task` of a source: a text, the language of known entropy, or copying.

    `level` is "bytes" or "words", of texts; `n_valid` batches, evenly spread over the valid split,
    judge. The generated sources need no data, and are the same in every run.
    Raises ValueError for an unknown source and for what `load_corpus` refuses.
    """
    one_of(SOURCES, **{"the data source": source})
    if source == "known-entropy":
        return _known_entropy(batch, n_tokens, n_valid)
    if source == "copy":
        return _copy(batch, n_tokens, n_valid)
    return _text(source, batch, n_tokens, level, n_valid, data_dir)


def _shifted(examples):
    return examples[:, :-1], examples[:, 1:]


def _text(source, batch, n_tokens, level, n_valid, data_dir):
    train, valid = (
        load_corpus(source, split=split, level=level, data_dir=data_dir)
        for split in ("train", "valid")
    )
    most = valid.tokens.size - n_tokens - 1
    if most < 0 or train.tokens.size <= n_tokens:
        raise ValueError(f"expected windows shorter than the text {source}, got {n_tokens} tokens")
    starts = np.linspace(0, most, n_valid * batch).astype(np.int64)
    examples = np.lib.stride_tricks.sliding_window_view(valid.tokens, n_tokens + 1)[starts]
    return Task(
        source=source,
        vocab_size=train.vocab_size,
        batch=lambda rng: _shifted(windows(train.tokens, n_tokens, batch=batch, rng=rng)),
        valid=[_shifted(each) for each in np.split(examples, n_valid)],
        bytes_per_token=valid.provenance["bytes"] / valid.tokens.size,
    )


def generated_language():
    """The `KnownEntropyLanguage` of the source known-entropy, the same in every run."""
    rng_language, _ = np.random.default_rng(0).spawn(2)
    return KnownEntropyLanguage.random(rng_language, N_SYMBOLS)


def _known_entropy(batch, n_tokens, n_valid):
    _, rng_valid = np.random.default_rng(0).spawn(2)
    language = generated_language()

    def draw(rng):
        tokens = language.sample(rng, batch * (n_tokens + 1))
        return _shifted(tokens.reshape(batch, n_tokens + 1))

    valid = [draw(rng_valid) for _ in range(n_valid)]
    return Task(
        source="known-entropy",
        vocab_size=N_SYMBOLS,
        batch=draw,
        valid=valid,
        floor=language.entropy_rate,
        valid_floor=true_loss(language, valid),
    )


def true_loss(language, batches):
    """The mean of −log P over pairs of inputs and targets, in nats: the true model's loss.

        excess = ℓ(model) − ℓ(true model), on the same targets: D(P ‖ model) ≥ 0 in expectation,

    with far less noise than ℓ(model) − H, as most of the noise is in both.
    """
    inputs, targets = (np.stack(each) for each in zip(*batches, strict=True))
    return float(-np.mean(np.log(language.transition[inputs, targets])))


def _copy(batch, n_tokens, n_valid):
    if n_tokens < 3 or n_tokens % 2 == 0:
        raise ValueError(f"copy: expected an odd number of tokens of at least 3, got {n_tokens}")
    length = (n_tokens - 1) // 2

    def draw(rng):
        inputs, targets, mask = copy_task(rng, batch, length, N_SYMBOLS)
        return inputs, np.where(mask, targets, IGNORED)

    rng_valid = np.random.default_rng(0)
    return Task(
        source="copy",
        vocab_size=N_SYMBOLS + 2,
        batch=draw,
        valid=[draw(rng_valid) for _ in range(n_valid)],
        floor=0.0,
        valid_floor=0.0,
    )


def bits_per_byte(loss, task):
    """The loss in nats a token as bits a byte of text; NaN where tokens stand for no text."""
    return math.nan if task.bytes_per_token is None else loss / math.log(2.0) / task.bytes_per_token
