"""A causal language model: embedding, blocks of two sub-layers under one residual rule, output."""

from functools import partial

from mgt_np.arrays import array_namespace, checkpoint
from mgt_np.arrays.checks import at_least
from mgt_np.arrays.initial import normal
from mgt_np.layers import (
    embedding,
    feed_forward,
    init_feed_forward,
    init_layer_norm,
    init_multi_head_attention,
    layer_norm,
    linear,
    multi_head_attention,
)

from .rules import RESIDUAL_RULES


def init_transformer(rng, config):
    """Return the parameters of `transformer` as nested dicts and lists of NumPy arrays.

    Weights from N(0, σ²) with σ the config's scales, biases zero. Every part draws from a child of
    `rng` of its own, so that one seed gives every residual rule the same embeddings and sub-layers.
    """
    rule = RESIDUAL_RULES[config.residual]
    d = config.d_model
    options = {"scale": config.weight_scale, "dtype": config.dtype}
    of_tokens, of_positions, of_output, *of_blocks = rng.spawn(3 + config.n_layers)

    params = {
        "tokens": normal(of_tokens, (config.vocab_size, d), config.embedding_scale, config.dtype),
        "positions": normal(
            of_positions, (config.max_tokens, d), config.embedding_scale, config.dtype
        ),
        "blocks": [_init_block(block_rng, config, rule, options) for block_rng in of_blocks],
        "W_out": normal(of_output, (d, config.vocab_size), **options),
    }
    if rule.final_norm:
        params["final_norm"] = init_layer_norm(d, dtype=config.dtype)
    return params


def _init_block(rng, config, rule, options):
    of_attention, of_hidden, *of_rule = rng.spawn(4)
    attention = init_multi_head_attention(of_attention, config.d_model, **options)
    hidden = init_feed_forward(of_hidden, config.d_model, config.d_ff, **options)
    for name, gain in rule.gains(config).items():
        (attention if name in attention else hidden)[name] *= gain
    inside = [rule.init_inner(width, config) for width in (config.d_model, config.d_ff)]
    return {
        "attention": attention,
        "feed_forward": hidden,
        "attention_residual": rule.init(of_rule[0], config) | inside[0],
        "feed_forward_residual": rule.init(of_rule[1], config) | inside[1],
    }


def transformer(params, tokens, config):
    """Return the logits of the next token at every place.

    Shapes: tokens (..., N) of integers in [0, vocab), N ≤ max_tokens; result (..., N, vocab).
    Logits at place i depend on tokens 0 … i alone (`causal=True`). With `config.checkpoint_every`
    the backward pass keeps the state after every so many blocks and computes the rest again: the
    same gradients for less memory. Raises ValueError for too many tokens, and for one out of range
    where `embedding` does.
    """
    rule = RESIDUAL_RULES[config.residual]
    state = rule.expand(embed(params, tokens, config), config)
    blocks, every = params["blocks"], config.checkpoint_every or max(config.n_layers, 1)
    last = (len(blocks) - 1) // every * every  # its backward pass comes at once: nothing to forget
    for i in range(0, len(blocks), every):
        segment = _through if i == last else checkpoint(_through)
        state = segment(state, blocks[i : i + every], config)
    x = rule.read(state, config)
    if rule.final_norm:
        x = layer_norm(x, **params["final_norm"])
    return linear(x, params["W_out"])


def hidden_states(params, tokens, config):
    """Return the state after the embedding and after each block, before any final norm.

    Shapes: tokens (..., N); result (L+1, ..., N, d), read out to one stream where the rule carries
    several. Its last entry, normed where the rule wants that, times W_out is `transformer`.
    """
    rule = RESIDUAL_RULES[config.residual]
    state = rule.expand(embed(params, tokens, config), config)
    states = [rule.read(state, config)]
    for block in params["blocks"]:
        state = _through(state, [block], config)
        states.append(rule.read(state, config))
    return array_namespace(states[0]).stack(states, axis=0)


def _through(state, blocks, config):
    """The rule's state after these blocks."""
    rule = RESIDUAL_RULES[config.residual]
    for block in blocks:
        for name, sublayer in sublayers(block, config).items():
            state = rule.update(state, sublayer, block[f"{name}_residual"], config)
    return state


def sublayers(block, config):
    """The two functions of a block in their order, by the names of their parameters."""
    return {
        "attention": partial(
            multi_head_attention, **block["attention"], n_heads=config.n_heads, causal=config.causal
        ),
        "feed_forward": partial(
            feed_forward, **block["feed_forward"], activation=config.activation
        ),
    }


def embed(params, tokens, config):
    """The vector of each token plus that of its place."""
    x = embedding(tokens, params["tokens"])
    at_least(1, tokens=tokens)
    n = tokens.shape[-1]
    if not 1 <= n <= config.max_tokens:
        raise ValueError(f"expected 1 to {config.max_tokens} tokens, got {n}")
    return x + params["positions"][:n, :]
