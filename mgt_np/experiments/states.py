"""Hidden states of real text in an untrained decoder: what the rank experiments measure."""

import functools

import numpy as np

from mgt_np.analysis import effective_rank, state_norm
from mgt_np.data import load_corpus, windows
from mgt_np.models import TransformerConfig, hidden_states, init_transformer


@functools.cache
def _tokens(data):
    return load_corpus(data).tokens


def states_of_text(*, data, seed, n_windows, n_tokens, d_model, n_heads, depth, **options):
    """Return the hidden states (depth+1, n_windows, n_tokens, d_model) of bytes of real text.

    The seed fixes the windows and, rule by rule, the same embeddings and sub-layers.
    """
    of_text, of_weights = np.random.default_rng(seed).spawn(2)
    config = TransformerConfig(
        vocab_size=256,
        d_model=d_model,
        n_heads=n_heads,
        n_layers=depth,
        d_ff=4 * d_model,
        max_tokens=n_tokens,
        **options,
    )
    text = windows(_tokens(data), n_tokens, batch=n_windows, rng=of_text)[:, :-1]
    # A state that explodes is a finding here, not an accident.
    with np.errstate(over="ignore", invalid="ignore"):
        return hidden_states(init_transformer(of_weights, config), text, config)


def measured(state):
    """Return normalised effective rank and norm of a state, each averaged over its windows.

    A state that overflowed has rank NaN and norm infinity.
    """
    if not np.isfinite(state).all():
        return float("nan"), float("inf")
    rank = effective_rank(state, normalize=True)
    return float(np.mean(rank)), float(np.mean(state_norm(state)))
