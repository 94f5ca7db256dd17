"""How far does a language model get that only counts?

n-gram models of words and of bytes, and compressors of the standard library: the rungs that the
loss of a trained model is held against. Bits per byte put words and bytes on one scale. They
learn from the train split, except for plain compressors, and are judged on the valid split. A model
of words predicts neither the blanks between them nor the spelling of words that train lacks. On
WikiText-2, whose text has single blanks and <unk>, nothing is lost; on python-docs its bits are too
few.
"""

import bz2
import lzma
import math
import zlib
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from matplotlib.lines import Line2D

from mgt_np import plotting
from mgt_np.data import load_corpus, ngram_probabilities
from mgt_np.data.ngrams import SMOOTHINGS
from mgt_np.data.tokenizers import UNK

from .claims import Claim
from .experiment import Where, cells

WORDS, BYTES = "words", "bytes"
KNESER_NEY, WITTEN_BELL = SMOOTHINGS
NAMES = {KNESER_NEY: "Kneser–Ney", WITTEN_BELL: "Witten–Bell"}
UNIFORM, GIVEN = "uniform", "xz given train"
WHOLE, FIRST = "valid", "its first bytes"
WHOLE_WORDS = "wikitext-2"  # the text that its words leave nothing of out
XZ = partial(lzma.compress, preset=9)  # a dictionary of 64 MiB: all of train is within reach
COMPRESSORS = {"zlib": partial(zlib.compress, level=9), "bz2": bz2.compress, "xz": XZ}

# Of WikiText-2's valid split: perplexities by order, and bits per byte.
KNOWN_WORDS = {1: 965.1, 2: 288.8, 3: 247.1, 5: 238.9}
KNOWN_BYTES = {2: 3.39, 3: 2.72, 4: 2.19}  # Witten-Bell on the first bytes, as many as here:
KNOWN_FIRST = 200_000
KNOWN_COMPRESSED = {"zlib": 2.66, "xz": 2.18, "bz2": 2.04, GIVEN: 1.87}


@dataclass(frozen=True)
class Settings(Where):
    """Orders count the predicted token: a model of order n sees the n − 1 before it.

    Models of bytes are judged on the first `first_bytes` too. Nothing here is random.
    """

    data: str = "python-docs"
    word_orders: tuple[int, ...] = (1, 2, 3, 5)
    byte_orders: tuple[int, ...] = (1, 2, 3, 4)
    smoothings: tuple[str, ...] = SMOOTHINGS
    first_bytes: int = KNOWN_FIRST


QUICK = Settings()
FULL = Settings(data="wikitext-2")


def claims(settings):
    return [*_of_xz(settings), *_of_counting(settings), *_of_known_numbers(settings)]


def _of_xz(settings):
    better = Claim(
        says="Counted bytes predict better than xz that has read the same text",
        source="our question",
        criterion="bits per byte of every smoothing's best order < those of xz given train",
        measure=partial(against_xz, level=BYTES),
        passes=lambda both: both[0] < both[1],
        only_if="smoothed by {}",
        form="{:.3f} bits per byte, xz {:.3f}",
    )
    words = replace(
        better,
        says="Counted words predict better than xz that has read the same text",
        measure=partial(against_xz, level=WORDS),
        beside=unspelled,
    )
    return [better, words] if settings.data == WHOLE_WORDS else [better]


def _of_counting(settings):
    longer = Claim(
        says="Each longer context predicts better",
        source="our question",
        criterion="every order's perplexity < that of the shorter one",
        measure=steps,
        passes=lambda ratio: ratio < 1.0,
        only_if="the models count {}",
        form="perplexity at most × {:.3f}",
    )
    halved = Claim(
        says="One word before halves the perplexity at least",
        source="our question",
        criterion="perplexity of order 2 ≤ ½ × that of order 1",
        measure=one_word,
        passes=lambda ratio: ratio <= 0.5,
        only_if="smoothed by {}",
        form="× {:.3f}",
    )
    smoother = Claim(
        says="Kneser–Ney smoothing predicts better than Witten–Bell",
        source="Chen & Goodman 1999, as reported; ours are one D, not three",
        criterion="Kneser–Ney's perplexity < Witten–Bell's at every order",
        measure=smoothed,
        passes=lambda ratio: ratio < 1.0,
        only_if="{} are counted",
        form="perplexity at most × {:.6f}",
    )
    can_halve = {1, 2} <= {*settings.word_orders}
    both = {*SMOOTHINGS} <= {*settings.smoothings}
    several = len(settings.word_orders) > 1 or len(settings.byte_orders) > 1
    return [*[longer] * several, *[halved] * can_halve, *[smoother] * both]


def _of_known_numbers(settings):
    """None for another text, or where the settings leave out what the numbers are of."""
    if settings.data != WHOLE_WORDS:
        return []
    words = KNOWN_WORDS if KNESER_NEY in settings.smoothings else {}
    words = {order: words[order] for order in settings.word_orders if order in words}
    counted = WITTEN_BELL in settings.smoothings and settings.first_bytes == KNOWN_FIRST
    counted = KNOWN_BYTES if counted else {}
    counted = {order: counted[order] for order in settings.byte_orders if order in counted}
    perplexities = partial(beside_known, words, "perplexity", level=WORDS, model=KNESER_NEY)
    bits = partial(
        beside_known, counted, "bits_per_byte", level=BYTES, model=WITTEN_BELL, part=FIRST
    )
    found = (
        ("Kneser–Ney's perplexities of WikiText-2's words", words, perplexities, 0.1),
        ("Witten–Bell's bits per byte of WikiText-2's bytes", counted, bits, 0.01),
        ("Compressed sizes of WikiText-2's valid split", KNOWN_COMPRESSED, compressed, 0.01),
    )
    return [
        Claim(
            says=f"{says} are those counted before",
            source="earlier counts on the same files",
            criterion=f"each within {margin:g} of the number known",
            measure=measure,
            passes=lambda both, margin=margin: abs(both[0] - both[1]) <= margin,
            form="{:.2f} (known: {:g})" if margin == 0.1 else "{:.3f} (known: {:g})",
        )
        for says, known, measure, margin in found
        if known
    ]


def beside_known(known, column, result, **where):
    """A column beside the known numbers, by order."""
    found = result.rows.where(**where)
    return {
        f"order {order}": (found.where(order=order)[0][column], number)
        for order, number in known.items()
    }


def compressed(result):
    return {name: (bits_of(result, name), number) for name, number in KNOWN_COMPRESSED.items()}


def bits_of(result, model):
    """The bits per byte of a compressor on the whole split."""
    return result.rows.where(model=model, part=WHOLE)[0]["bits_per_byte"]


def perplexities(result, level, smoothing):
    """Those of the n-gram models on the whole split, the lowest order first."""
    return result.rows.where(level=level, model=smoothing, part=WHOLE).grid("perplexity", "order")


def against_xz(result, level):
    """The fewest bits per byte of n-gram models, and those of xz that has read train."""
    rows = result.rows.where(level=level, part=WHOLE)
    return {
        NAMES[smoothing]: (
            min(rows.where(model=smoothing).column("bits_per_byte")),
            bits_of(result, GIVEN),
        )
        for smoothing in result.settings.smoothings
    }


def steps(result):
    """The largest ratio of a perplexity to that of the order below it."""
    found = {
        f"{level} by {NAMES[smoothing]}": perplexities(result, level, smoothing)
        for level in (WORDS, BYTES)
        for smoothing in result.settings.smoothings
    }
    return {name: float(np.max(p[1:] / p[:-1])) for name, p in found.items() if p.size > 1}


def one_word(result):
    """The perplexity of words of order 2 over that of order 1."""
    words = result.rows.where(level=WORDS, part=WHOLE)
    one, two = (words.where(order=order) for order in (1, 2))
    return {
        NAMES[smoothing]: two.where(model=smoothing)[0]["perplexity"]
        / one.where(model=smoothing)[0]["perplexity"]
        for smoothing in result.settings.smoothings
    }


def smoothed(result):
    """The largest ratio of Kneser–Ney's perplexity to Witten–Bell's of the same order."""
    return {
        level: float(
            np.max(
                perplexities(result, level, KNESER_NEY) / perplexities(result, level, WITTEN_BELL)
            )
        )
        for level in (WORDS, BYTES)
    }


def unspelled(result):
    """How much of the text is unknown to it."""
    share = 100.0 * max(result.rows.where(level=WORDS).column("unknown"))
    return f"{share:.2f} % of the words are <unk> in the text itself"


def tasks(settings):
    smoothings = settings.smoothings
    words, letters = sorted(settings.word_orders), sorted(settings.byte_orders)
    return [
        *cells(settings, level=(WORDS, BYTES), model=(UNIFORM,), order=(0,)),
        *cells(settings, level=(BYTES,), model=(*COMPRESSORS, GIVEN), order=(0,)),
        *cells(settings, level=(WORDS,), model=smoothings, order=words),
        *cells(settings, level=(BYTES,), model=smoothings, order=letters),
    ]


def work(there, level, model, order, data, first_bytes):
    train, valid = (load_corpus(data, split=split, level=level) for split in ("train", "valid"))
    losses = there.move(_losses(train, valid, model, order))
    unknown = valid.tokenizer.vocab.index(UNK) if level == WORDS else -1
    parts = {WHOLE: (valid.tokens.size, valid.provenance["bytes"])}
    if level == BYTES and order:
        parts[FIRST] = (min(first_bytes, valid.tokens.size),) * 2
    for part, (n_tokens, n_bytes) in parts.items():
        nats = float(there.xp.mean(losses[:n_tokens]))
        yield {
            "level": level,
            "model": model,
            "order": order,
            "part": part,
            "n_tokens": n_tokens,
            "n_bytes": n_bytes,
            "unknown": float(np.mean(valid.tokens[:n_tokens] == unknown)),
            "perplexity": math.exp(nats),
            "nats_per_token": nats,
            "bits_per_byte": nats / math.log(2.0) * n_tokens / n_bytes,
        }


def _losses(train, valid, model, order):
    """The nats of each token of valid; a compressor's are its mean, for each byte."""
    if model == UNIFORM:
        return np.full(valid.tokens.size, math.log(valid.vocab_size))
    if order:
        options = {"order": order, "smoothing": model}
        p = ngram_probabilities(train.tokens, valid.tokens, train.vocab_size, **options)
        return -np.log(p)
    before, text = (x.tokens.astype(np.uint8).tobytes() for x in (train, valid))
    size = xz_given(before, text) if model == GIVEN else len(COMPRESSORS[model](text))
    return np.full(len(text), 8.0 * math.log(2.0) * size / len(text))


def xz_given(before, text):
    """The bytes that xz takes for a text behind another that it has read."""
    return len(XZ(before + text)) - len(XZ(before))


ALT = (
    "A ladder of models, one a line, the best at the bottom, over bits per byte: from eight where "
    "all bytes are alike, by way of bytes with ever more bytes before them and of compressors, "
    "down to words with up to four words before them, whose rungs lie close together."
)
KINDS = {  # colour and marker
    "bytes counted": (plotting.BLUE, "o"),
    "words counted": (plotting.VERMILLION, "D"),
    "compressor": (plotting.BLACK, "s"),
}


@plotting.styled
def plot(result, judged):
    figure, ax = plotting.new_figure(size=(10.5, 8.0))
    rungs = ladder(result)
    labels = []
    for place, (name, kind, bits) in enumerate(rungs):
        color, marker = KINDS[kind]
        low = min(bits.values())
        ax.plot([0.0, low], [place, place], color=color, lw=1.5, alpha=0.35)
        for model, x in sorted(bits.items(), reverse=True):  # a ring, and what is inside
            ring = model == WITTEN_BELL
            style = {"markerfacecolor": "white", "ms": 12} if ring else {"ms": 7}
            ax.plot(x, place, marker, color=color, mew=1.6, **style)
        at = (max(bits.values()), place)
        ax.annotate(f"{low:.2f}", at, (12, 0), textcoords="offset points", va="center")
        labels.append(name)
    ax.set_yticks(range(len(labels)), labels)
    ax.set(xlim=(0.0, 8.9), xlabel=f"bits per byte on the valid split of {result.settings.data}")
    ax.grid(visible=False, axis="y")
    ax.set_title(plotting.wrapped(judged[0].headline, 70))
    ax.legend(handles=_legend(result), loc="lower right")
    return figure


def _legend(result):
    names = {kind: kind for kind in KINDS}
    if result.settings.data != WHOLE_WORDS:
        names["words counted"] += ": too few bits, blanks\nand unknown words are left out"
    found = [
        Line2D([], [], color=color, marker=marker, lw=0, ms=7, label=names[kind])
        for kind, (color, marker) in KINDS.items()
    ]
    if {*SMOOTHINGS} <= {*result.settings.smoothings}:
        ring = {
            "markerfacecolor": "white",
            "ms": 12,
            "mew": 1.6,
            "label": "ring: Witten–Bell, inside: Kneser–Ney",
        }
        found.append(Line2D([], [], color="grey", marker="o", lw=0, **ring))
    return found


def ladder(result):
    """Name, kind and bits per byte by model of each rung on the whole split, the best first."""
    rungs = {}
    for row in result.rows.where(part=WHOLE):
        name, kind = _named(row)
        rungs.setdefault((name, kind), {})[row["model"]] = row["bits_per_byte"]
    return sorted(((*key, bits) for key, bits in rungs.items()), key=lambda r: min(r[2].values()))


def _named(row):
    level, order = row["level"], row["order"]
    kind = f"{level} counted" if order or row["model"] == UNIFORM else "compressor"
    if row["model"] == UNIFORM:
        return f"all {row['perplexity']:,.0f} {level} alike", kind
    if not order:
        return row["model"], kind
    before = f"{order - 1} before" if order > 1 else "none before"
    return f"{level}, {before}", kind
