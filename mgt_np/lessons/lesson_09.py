"""Lesson 09, a phase diagram and a fair control: judges of its exercises, and its predictions."""

import functools

import numpy as np

from mgt_np.analysis import effective_rank
from mgt_np.data import load_corpus, windows
from mgt_np.models import TransformerConfig, init_transformer
from mgt_np.models.decoder import connections, embed

from .judging import exercise, hint_for
from .predicting import Prediction

PLACES = ("identity", "grows", "keeps", "erases")


def _place(alpha, b_beta, n_blocks, *, squash=np.tanh, n_sublayers=2):
    beta = squash(b_beta)
    if beta == 0.0:
        return "identity"
    erased = alpha * beta * n_sublayers * n_blocks
    if erased < 0.0:
        return "grows"
    return "keeps" if erased <= 1.0 else "erases"


def _place_without_identity(alpha, b_beta, n_blocks):
    return "keeps" if b_beta == 0.0 else _place(alpha, b_beta, n_blocks)


def _place_of_any_negative(alpha, b_beta, n_blocks):
    return "grows" if b_beta < 0.0 else _place(alpha, b_beta, n_blocks)


def _place_of_the_summaries(alpha, b_beta, n_blocks):
    return "erases" if b_beta < 0.0 else _place(alpha, b_beta, n_blocks)


def _place_of_no_erasure(alpha, b_beta, n_blocks):
    return "identity" if alpha == 0.0 else _place(alpha, b_beta, n_blocks)


def _place_by_one_step(alpha, b_beta, n_blocks):
    place = _place(alpha, b_beta, n_blocks)
    return "erases" if alpha * b_beta > 0.0 else place


_MISPLACED = (
    (
        _place_of_the_summaries,
        "a negative β does not erase, whatever the summaries say: put it into 1 − αβ.",
    ),
    (
        _place_of_no_erasure,
        "with α = 0 nothing is erased, but βv is still added: the state changes.",
    ),
    (
        _place_by_one_step,
        "a factor below one erases a little; the limit is on 2L steps together, αβ·2L ≤ 1.",
    ),
    (
        lambda *s: _place(*s, n_sublayers=1),
        "every block has two sub-layers, and each of them erases: count 2L steps, not L.",
    ),
    (
        lambda *s: _place(*s, squash=lambda b: b),
        "b_beta is not β: at the start β = tanh(b_beta), which is smaller.",
    ),
    (
        lambda alpha, b_beta, n_blocks: _place(alpha, abs(b_beta), n_blocks),
        "look at the sign: with β < 0 the factor 1 − αβ is above one.",
    ),
    (
        _place_without_identity,
        "with β = 0 the rank is kept because nothing is done at all: that has a name of its own.",
    ),
    (
        lambda alpha, b_beta, n_blocks: _place(1.0, b_beta, n_blocks),
        "the step erases the part αβ of the state, not the part β: use alpha.",
    ),
    (
        _place_of_any_negative,
        "with α = 0 the factor 1 − αβ is one, whatever the sign of β: nothing is amplified.",
    ),
    (
        lambda alpha, b_beta, n_blocks: _place(2.0 * alpha, b_beta, n_blocks),
        "the condition is on the coefficient (1 − αβ)ⁿ, not on its square, the energy.",
    ),
)


@exercise("09.1")
def placed(answer, rng):
    """Which region of the phase diagram a setting lies in."""
    settings = _settings(rng)
    got = []
    for alpha, b_beta, n_blocks in settings:
        place = answer(alpha, b_beta, n_blocks)
        if not isinstance(place, str) or place not in PLACES:
            words = ", ".join(map(repr, PLACES))
            return f"expected one of the words {words}, got {_short(place)}."
        got.append(str(place))
    right = [_place(*setting) for setting in settings]
    if got == right:
        return ""
    for mistake, hint in _MISPLACED:
        if got == [mistake(*setting) for setting in settings]:
            return hint
    i = next(i for i, place in enumerate(got) if place != right[i])
    alpha, b_beta, n_blocks = settings[i]
    return (
        f"alpha = {alpha:.3g}, b_beta = {b_beta:.3g} and {n_blocks} blocks is not {got[i]!r}: "
        f"αβ·2L is {2 * n_blocks * alpha * np.tanh(b_beta) + 0.0:.3g}."
    )


def _settings(rng):
    """Settings (alpha, b_beta, n_blocks) that tell the usual mistakes from the right answer."""
    n_blocks = [int(n) for n in rng.integers(20, 200, 9)]
    alpha = rng.uniform(0.05, 1.0, 9)
    b_beta = rng.uniform(0.2, 0.9, 9)
    # αβ·2L wanted of the first five; with the third b_β alone would be above one
    erased = [rng.uniform(*ends) for ends in ((0.1, 0.4), (0.6, 0.9), (0.85, 0.95), (1.1, 1.9))]
    erased.append(rng.uniform(3.0, 9.0))
    b_beta[2] = rng.uniform(1.0, 1.5)
    for i, wanted in enumerate(erased):
        alpha[i] = wanted / (2 * n_blocks[i] * np.tanh(b_beta[i]))
    b_beta[5] *= -1.0
    b_beta[6] = 0.0
    alpha[7], alpha[8], b_beta[8] = 0.0, 0.0, -b_beta[8]
    settings = [(float(a), float(b), n) for a, b, n in zip(alpha, b_beta, n_blocks, strict=True)]
    rng.shuffle(settings)
    return settings


def _short(value):
    said = " ".join(repr(value).split())
    return said if len(said) < 40 else f"a {type(value).__name__}"


# ---- 09.2


def _memory(alpha, beta, n, x_0, v, powers=None):
    """The memory; the sum is over these powers of 1 − αβ, by default those of Σ q⁻ʲ."""
    powers = -2.0 * np.arange(1.0, n + 1.0) if powers is None else powers
    c = 1.0 - alpha * beta
    return float((1.0 + (beta * v / x_0) ** 2 * np.sum(c**powers)) ** -0.5)


def _largest(alpha, n, keep, x_0, v, powers=None):
    low, high = 0.0, 1.0 - 1e-12
    for _ in range(100):
        middle = 0.5 * (low + high)
        inside = _memory(alpha, middle, n, x_0, v, powers) >= keep
        low, high = (middle, high) if inside else (low, middle)
    return low


@exercise("09.2")
def largest_beta(answer, rng):
    """The largest step that leaves a given memory."""
    for no_erasure in (False, False, True):
        n_blocks = int(rng.integers(6, 120))
        n, alpha = 2 * n_blocks, 0.0 if no_erasure else float(rng.uniform(0.05, 1.0))
        beta = float(rng.uniform(0.1, 0.8) / (max(alpha, 0.05) * n))
        beta, v = min(beta, 0.3), float(rng.uniform(1.0, 5.0))
        x_0 = float(beta * v * np.sqrt(n / rng.uniform(0.3, 1.5)))
        keep = _memory(alpha, beta, n, x_0, v)
        try:
            got = answer(alpha, n_blocks, keep, x_0, v)
        except ZeroDivisionError:
            if no_erasure:
                return "alpha = 0 is allowed: there q = 1, and the sum has n equal terms."
            raise
        usual = [] if no_erasure else _usual(alpha, beta, n, keep, x_0, v)
        hint = hint_for(got, beta, usual, rtol=1e-5, what="β")
        if hint:
            return f"with alpha = 0 (q = 1, nothing is erased): {hint}" if no_erasure else hint
    return ""


def _usual(alpha, beta, n, keep, x_0, v):
    only_erased = (1.0 - keep ** (1.0 / n)) / alpha
    j = np.arange(1.0, n + 1.0)
    wrong_sums = (
        (-j, "the norm is squared, so the sum has q = (1 − αβ)² in it, not 1 − αβ."),
        (2.0 - 2.0 * j, "after the division the sum begins with q⁻¹ and ends with q⁻ⁿ."),
        (2.0 * j - 2.0, "divide what was written by qⁿ as well: the powers of q become negative."),
        (
            np.full(n, -2.0 * n),
            "you gave all n terms the size of the largest: what is written early is erased too.",
        ),
    )
    return [
        *((_largest(alpha, n, keep, x_0, v, powers), hint) for powers, hint in wrong_sums),
        (
            _largest(alpha, n // 2, keep, x_0, v),
            "every block has two sub-layers, and each of them erases and writes.",
        ),
        (
            only_erased,
            "that is condition (A) alone: the state is also drowned by what is written.",
        ),
        (
            x_0 / v * np.sqrt((keep**-2 - 1.0) / n),
            "that is condition (B) alone: every step erases as well.",
        ),
        (
            -np.log(keep) / (n * alpha),
            "(1 − αβ)ⁿ ≈ exp(−αβn) is only near, and what is written is left out.",
        ),
        (alpha * beta, "that is αβ; wanted is β."),
        (
            _largest(alpha, n, np.sqrt(keep), x_0, v),
            "keep is a ratio of lengths, not of energies: its square is the share of the energy.",
        ),
        (
            _largest(1.0, n, keep, x_0, v),
            "you took α = 1: the erased part is αβ.",
        ),
    ]


# ---- 09.3


@exercise("09.3")
def rule_that_reads(answer, rng):
    """A residual rule that keeps the rank and lets the last token depend on the others."""
    seed, done = int(rng.integers(2**31)), []
    for scale, weights in ((0.02, "lecun"), (1.0, 0.05)):
        rank, reading, hint = _deep(answer, seed, scale, weights)
        if hint:
            return hint
        told = f"embeddings of {scale:g}, weights {weights}: rank {rank:.2f}, reading {reading:.4f}"
        if rank > 0.5 and reading > 0.01:
            done.append(scale)
        elif rank <= 0.5:
            return f"{told}: too much is written beside what the state holds."
        elif done:
            return (
                f"{told}: with {done[0]:g} your rule is right. A fixed step cannot fit both; "
                "measure what is written by the length of the state, whatever length F gives it."
            )
        else:
            return f"{told}: kept because next to nothing happens, as with β = 0."
    return ""


@functools.lru_cache(maxsize=2)
def _decoder(seed, scale, weights):
    """An untrained decoder of 100 blocks, and windows of text that end on the same byte.

    There are three windows, and the first once more.
    """
    of_text, of_weights = np.random.default_rng(seed).spawn(2)
    config = TransformerConfig(
        vocab_size=256,
        d_model=32,
        n_heads=2,
        n_layers=100,
        d_ff=128,
        max_tokens=32,
        embedding_scale=scale,
        weight_scale=weights,
    )
    text = windows(load_corpus("python-docs").tokens, 32, batch=3, rng=of_text)[:, :-1]
    text[:, -1] = text[0, -1]
    text = np.concatenate([text, text[:1]])
    return config, init_transformer(of_weights, config), text


def _deep(update, seed, scale, weights):
    """Rank and reading of the update over the decoder, and what is wrong with it."""
    with np.errstate(all="ignore"):  # the dots answer here, before anything is drawn
        update(np.random.default_rng(0).standard_normal((1, 2, 32)), lambda z: z)
    config, params, text = _decoder(seed, scale, weights)
    start, n_calls = embed("check", params, text, config), 0

    def counted(z, F):
        nonlocal n_calls
        n_calls += 1
        return F(z)

    sublayers = [F for block in params["blocks"] for _, F, _ in connections(block, config)]
    with np.errstate(all="ignore"):
        x, hint = _through(update, start, [functools.partial(counted, F=F) for F in sublayers])
        if hint:
            return 0.0, 0.0, hint
        if n_calls == 0:
            said = "you never call F: the model is a table from bytes and places to vectors."
            return 0.0, 0.0, said
        if _apart(x[[0, -1], -1]) > 1e-6:
            said = "two equal windows end in different states: nothing may be drawn at random."
            return 0.0, 0.0, said
        # with an F that keeps every token for itself there is nothing to read
        alone, hint = _through(update, start, [lambda z: z] * len(sublayers))
        if not hint and _apart(alone[:3, -1]) > 0.005:
            said = "what the last token learns of the others has to come through F, not past it."
            return 0.0, 0.0, said
    return float(np.mean(effective_rank(x[:3], normalize=True))), _apart(x[:3, -1]), ""


def _through(update, x, sublayers):
    """The state after all the sub-layers, and what is wrong with it."""
    for F in sublayers:
        new = np.asarray(update(x, F), dtype=float)
        if new.shape != x.shape:
            return x, f"expected a new state of the shape of x, {x.shape}, got {new.shape}."
        if not np.isfinite(new).all():
            return x, "the state overflowed or became NaN."
        x = new
    return x, ""


def _apart(states):
    a, b = states[:, None], states[None]
    pairs = np.sum((a - b) ** 2, axis=-1) / (np.sum(a**2, axis=-1) + np.sum(b**2, axis=-1))
    return float(np.sum(pairs) / (len(states) * (len(states) - 1)))


Prediction(
    "09.a",
    choices={
        "falls": "The thought: erasure is in the method, so it protects. But it erases the "
        "embedding, 1 − αβ at every step, and what it makes room for is alike from token to token.",
        "stays": "The thought: at α = 0.1 the erasure is a detail. But αβ·2L is 4 here, so "
        "it leaves the embedding a factor of about exp(−4).",
        "rises": "The thought: by condition (A) the erasure is what lets the embedding go.",
    },
)
Prediction(
    "09.b",
    choices={
        "the one that keeps": "The thought: a kept rank means that many directions are in use. "
        "But they may be the embedding's own, which the blocks have hardly touched.",
        "the one that loses": "The thought: what replaces the embedding came through attention.",
        "both alike": "The thought: both run the same attention. But the step decides how much of "
        "its output stands in the state beside the embedding.",
    },
)
