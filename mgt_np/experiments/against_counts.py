"""Does a small trained MGT predict a text better than counting it does?

A language model that is not below its rungs has learned nothing that a table would not hold: here
a decoder of words beside the bigram (Kneser–Ney), on the same targets, and one of bytes beside xz
that has read the training text. Windows are short, so that the first of their targets have less
context than xz and the model of a whole text would have.
"""

import math
from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.data import load_corpus, ngram_probabilities

from .claims import Claim
from .experiment import cells, seeds
from .rungs import BYTES, WORDS, xz_given
from .trained import MGT, MODELS, Training, curves_of, trained

RESUMES = True
BIGRAM, XZ = "bigram of words", "xz given train"
RUNGS = {WORDS: BIGRAM, BYTES: XZ}


@dataclass(frozen=True)
class Settings(Training):
    """Words and bytes have depths of their own."""

    word_layers: int = 2
    byte_layers: int = 3


QUICK = Settings(n_valid=8)
FULL = Settings(
    data="wikitext-2",
    byte_layers=6,
    d_model=128,
    n_heads=4,
    n_tokens=35,
    batch=32,
    n_steps=2500,
    warmup=100,
    log_every=250,
    n_valid=64,
)


def claims(settings):
    below = "below with each of {} seeds, after {} steps"
    criterion = below.format(settings.n_seeds, settings.n_steps)
    return [
        Claim(
            says=f"{layers} trained layers of MGT predict {level} better than {rung} does",
            source="our question to MGT 2601.01014",
            criterion=f"bits per byte {criterion}, on {compared}",
            measure=lambda result, level=level: worst(result, level),
            passes=lambda pair: pair[0] < pair[1],
            form="{:.3f} bits per byte, the rung {:.3f}",
            beside=(lambda result: perplexities(result)) if level == WORDS else None,
            title=f"MGT predicts {level} better than {short} does",
        )
        for level, layers, rung, short, compared in (
            (WORDS, settings.word_layers, "a Kneser–Ney bigram", "a bigram", "the same words"),
            (
                BYTES,
                settings.byte_layers,
                "xz that has read the training text",
                "xz",
                "windows spread over the held-out text; xz on all of it",
            ),
        )
    ]


def worst(result, level):
    """The bits per byte of the seed that is furthest above its rung, and those of the rung."""
    rows = result.rows.where(level=level, step=result.settings.n_steps)
    last = max(rows, key=lambda row: _key(row["bits_per_byte"] - row["rung"]))
    return {RUNGS[level]: (last["bits_per_byte"], last["rung"])}


def _key(difference):
    """A run that broke off is the worst."""
    return math.inf if math.isnan(difference) else difference


def perplexities(result):
    """The perplexities of words, as most papers report them."""
    rows = result.rows.where(level=WORDS, step=result.settings.n_steps)
    found = ", ".join(f"{row['perplexity']:.1f}" for row in rows)
    return f"Perplexities of the seeds: {found}; the bigram's: {rows[0]['rung_perplexity']:.1f}"


def tasks(settings):
    return cells(settings, level=(WORDS, BYTES), seed=seeds(settings))


def work(there, level, seed, folder, word_layers, byte_layers, **how):
    """Train on words or on bytes; return a row for each logged step.

    Columns: bits_per_byte, and the `rung`'s; perplexity of both, for each word or byte.
    """
    n_layers = {WORDS: word_layers, BYTES: byte_layers}[level]
    run = trained(there, MODELS[MGT], seed, folder, n_layers=n_layers, level=level, **how)
    nats = _bigram(how["data"], run.task) if level == WORDS else _xz(how["data"])
    to_bits = 1.0 / math.log(2.0) / run.task.bytes_per_token
    fixed = {"level": level, "layers": n_layers, "seed": seed[-1]}
    fixed |= {"rung": nats * to_bits, "rung_perplexity": math.exp(nats)}
    measured = [(row["step"], row["valid_loss"]) for row in run.log]
    measured += [(how["n_steps"], math.nan)] if run.broke else []
    return [
        fixed | {"step": step, "bits_per_byte": loss * to_bits, "perplexity": math.exp(loss)}
        for step, loss in measured
    ]


def _bigram(data, task):
    """The loss in nats a word of the Kneser–Ney bigram, on the task's fixed targets.

    Each window begins with the word in front of its first target, whose own probability is left
    out: a bigram sees nothing further back, so that it does not matter what stands before.
    """
    train = load_corpus(data, level=WORDS)
    windows = np.concatenate(
        [np.concatenate([inputs[:, :1], targets], axis=1) for inputs, targets in task.valid]
    )
    p = ngram_probabilities(train.tokens, windows.ravel(), train.vocab_size, order=2)
    return float(-np.mean(np.log(p.reshape(windows.shape)[:, 1:])))


def _xz(data):
    """The nats a byte of xz on the valid split, once it has read the train split."""
    before, text = (
        load_corpus(data, split=split).tokens.astype(np.uint8).tobytes()
        for split in ("train", "valid")
    )
    return 8.0 * math.log(2.0) * xz_given(before, text) / len(text)


ALT = (
    "Two panels, words and bytes: bits per byte on held-out text over the steps of training, with "
    "the range over seeds, and the rung as a horizontal line: the bigram for words, xz that has "
    "read the training text for bytes."
)


@plotting.styled
def plot(result, judged):
    figure, axes = plotting.new_figure(1, 2, size=(13.0, 6.0))
    for ax, claim, level in zip(axes, judged, (WORDS, BYTES), strict=True):
        rows = result.rows.where(level=level)
        label = f"MGT, {rows[0]['layers']} layers"
        plotting.band(
            ax, *curves_of(rows, "bits_per_byte"), label=label, color=plotting.BLUE, marker="o"
        )
        ax.axhline(rows[0]["rung"], color=plotting.VERMILLION, ls="--", label=RUNGS[level])
        ax.set(xlabel="training steps", ylabel=f"bits per byte of held-out text, from {level}")
        ax.set_title(plotting.wrapped(claim.headline, 55))
        ax.legend(title=f"shaded: range over {result.settings.n_seeds} seeds")
    return figure
