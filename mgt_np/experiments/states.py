"""Hidden states of real text in an untrained decoder: what the rank experiments measure."""

import functools

import numpy as np

from mgt_np.analysis import effective_rank, state_norm
from mgt_np.arrays import array_namespace
from mgt_np.arrays.libraries import move, place
from mgt_np.data import load_corpus, windows
from mgt_np.models import TransformerConfig, hidden_states, init_transformer, profile_admin


@functools.cache
def _tokens(data):
    return load_corpus(data).tokens


def decoder_of_text(
    *,
    data,
    seed,
    n_windows,
    n_tokens,
    d_model,
    n_heads,
    depth,
    dtype="float64",
    **options,
):
    """Return the config and parameters of an untrained decoder, and bytes of real text for it.

    The seed fixes the windows and, rule by rule, the same embeddings and sub-layers. What a rule
    sets by looking at data before training (Admin's ω), it has set by these bytes. NumPy arrays.
    """
    rng_text, rng_weights = np.random.default_rng(seed).spawn(2)
    config = TransformerConfig(
        vocab_size=256,
        d_model=d_model,
        n_heads=n_heads,
        n_layers=depth,
        d_ff=4 * d_model,
        max_tokens=n_tokens,
        dtype=dtype,
        **options,
    )
    text = windows(_tokens(data), n_tokens, batch=n_windows, rng=rng_text)[:, :-1]
    params = init_transformer(rng_weights, config)
    if config.residual == "admin" and config.admin_omega is None:
        params = profile_admin(params, text, config)
    return config, params, text


def states_of_text(*, array_library="numpy", device=None, dtype="float64", **sizes):
    """Return the hidden states (depth+1, n_windows, n_tokens, d_model) of `decoder_of_text`.

    The decoder is drawn with NumPy in float64, then moved, so that every library and device
    computes the same network.
    """
    config, params, text = decoder_of_text(dtype=dtype, **sizes)
    params, text = move((params, text), place(array_library, device, dtype=dtype))
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
