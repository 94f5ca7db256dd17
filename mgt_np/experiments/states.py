"""Hidden states of real text in an untrained decoder: what the rank experiments measure."""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from mgt_np.analysis import effective_rank, state_norm
from mgt_np.arrays import array_namespace
from mgt_np.data import load_corpus, windows
from mgt_np.models import TransformerConfig, hidden_states, init_transformer, profile_admin

from .claims import Claim
from .experiment import Where, generator

MGT = "MGT 2601.01014, a prediction, as reported"
# What it predicts: a standard transformer's rank below the one, its own above the other.
COLLAPSED, KEPT, DEPTH = 0.1, 0.5, 100


@dataclass(frozen=True)
class Layers(Where):
    """The number and sizes of a network's layers."""

    seed: int = 0
    n_seeds: int = 3
    depth: int = DEPTH
    n_tokens: int = 64
    d_model: int = 64
    n_heads: int = 4


@dataclass(frozen=True)
class OfText(Layers):
    """The size of the decoders, and the text that they read."""

    data: str = "python-docs"
    n_windows: int = 1


corpus = cache(load_corpus)


def decoder_of_text(*, data, seed, n_windows, n_tokens, d_model, depth, **options):
    """Return the config and parameters of an untrained decoder, and bytes of real text for it.

    The seed fixes the windows and, rule by rule, the same embeddings and sub-layers. What a rule
    sets by looking at data before training (Admin's ω), it has set by these bytes. NumPy arrays.
    """
    rng_text, rng_weights = generator(seed).spawn(2)
    sizes = {"d_model": d_model, "d_ff": 4 * d_model, "n_layers": depth, "max_tokens": n_tokens}
    config = TransformerConfig(vocab_size=256, **sizes, **options)
    text = windows(corpus(data).tokens, n_tokens, batch=n_windows, rng=rng_text)[:, :-1]
    params = init_transformer(rng_weights, config)
    if config.residual == "admin" and config.admin_omega is None:
        params = profile_admin(params, text, config)
    return config, params, text


def states_of_text(there, **sizes):
    """Return the hidden states (depth+1, n_windows, n_tokens, d_model) of `decoder_of_text`.

    The decoder is drawn with NumPy, then moved, so that every library and device computes the same
    network.
    """
    config, params, text = decoder_of_text(dtype=there.dtype, **sizes)
    params, text = there.move((params, text))
    # A state that explodes is a finding here, not an accident.
    with np.errstate(over="ignore", invalid="ignore"):
        return hidden_states(params, text, config)


def measured(state):
    """Return normalised effective rank and norm of a state, each averaged over its windows.

    A state that overflowed has rank NaN and norm infinity.
    """
    xp = array_namespace(state)
    if not bool(xp.all(xp.isfinite(state))):
        return float("nan"), float("inf")
    rank = effective_rank(state, normalize=True)
    return float(xp.mean(rank)), float(xp.mean(state_norm(state)))


def mean_cosine(X, Y):
    """Return how much of the states X is left in the states Y: the mean of the tokens' cosines.

    NaN where a state overflowed.
    """
    xp = array_namespace(X, Y)
    if not bool(xp.all(xp.isfinite(Y))):
        return float("nan")
    Y = Y / xp.max(xp.abs(Y))  # or the squares of large entries are infinite
    lengths = xp.linalg.vector_norm(X, axis=-1) * xp.linalg.vector_norm(Y, axis=-1)
    return float(xp.mean(xp.sum(X * Y, axis=-1) / lengths))


def ranks(result, tried):
    """Return {condition: (lowest, highest rank)} at layer 100, or at the last layer before it.

    `tried` says which rows belong to a condition: {condition: {column: value}}. Where a state
    overflowed, both are NaN.
    """
    rows = result.rows.where(layer=min(DEPTH, result.settings.depth))
    found = {name: rows.where(**wanted).column("effective_rank") for name, wanted in tried.items()}
    return {name: (float(np.min(each)), float(np.max(each))) for name, each in found.items()}


def on_ranks(tried, **claim):
    """Return a claim on the `ranks` of what is tried."""
    return Claim(measure=partial(ranks, tried=tried), form="{:.3f} … {:.3f}", **claim)


def falls(settings):
    """Return MGT's prediction for a standard transformer, a part of a claim `on_ranks`."""
    criterion = f"rank / min(N, d) < {COLLAPSED} with each of {settings.n_seeds} seeds"
    return {"source": MGT, "criterion": criterion, "passes": lambda rank: rank[1] < COLLAPSED}


def stays(settings):
    """Return MGT's prediction for itself, a part of a claim `on_ranks`."""
    criterion = f"rank / min(N, d) > {KEPT} with each of {settings.n_seeds} seeds"
    return {"source": MGT, "criterion": criterion, "passes": lambda rank: rank[0] > KEPT}
