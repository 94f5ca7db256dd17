"""A causal language model: embedding, blocks of two sub-layers under one residual rule, output."""

from functools import partial

from mgt_np.arrays import array_namespace, checkpoint, through_stack
from mgt_np.layers import embedding, feed_forward, linear, multi_head_attention

from .parameters import check_params
from .rules import RESIDUAL_RULES

SUBLAYERS = ("attention", "feed_forward")  # of a block, in their order


def transformer(params, tokens, config):
    """Return the logits of the next token at every place.

    Shapes: tokens (..., N) of integers in [0, vocab), N ≤ max_tokens; result (..., N, vocab).
    Logits at place i depend on tokens 0 … i alone (`causal=True`). With `config.checkpoint_every`
    the backward pass keeps the state after every so many blocks and computes the rest again: the
    same gradients for less memory. Raises ValueError or TypeError for parameters that are not those
    of the config, ValueError for too many tokens, and for one out of range where `embedding` does.
    """
    return linear(last_state(params, tokens, config), params["W_out"])


def last_state(params, tokens, config, *, masks=None):
    """Return what W_out makes logits of: the last state, normed where the rule wants that.

    Shapes: tokens (..., N); result (..., N, d). Memory and errors as in `transformer`, by its name.
    `masks` (..., N, d) multiply the embedding, masks["embedding"], and what each sub-layer gives to
    the rule, masks["blocks"][i]["attention"] and ["feed_forward"]: dropout.
    """
    check_params("transformer", params, config)
    rule = RESIDUAL_RULES[config.residual]
    x = embed("transformer", params, tokens, config)
    state = rule.expand(x if masks is None else x * masks["embedding"], config)
    masks_of = [{}] * config.n_layers if masks is None else masks["blocks"]
    blocks, every = params["blocks"], config.checkpoint_every or max(config.n_layers, 1)
    last = (len(blocks) - 1) // every * every  # its backward pass comes at once: nothing to forget
    for i in range(0, len(blocks), every):
        segment = _through if i == last else checkpoint(_through)
        state = segment(state, blocks[i : i + every], config, masks_of[i : i + every])
    x = rule.read(state, params.get("read_out", {}), config)
    if rule.final_norm:
        _, norm = rule.last_norm(config)
        return norm(x, **params["final_norm"])
    return x


def hidden_states(params, tokens, config):
    """Return the embedding and the state after each block, before any final norm.

    Shapes: tokens (..., N); result (L+1, ..., N, d). Where the rule carries several streams, the
    state after a block is read as the model reads its last one. The last entry, normed where the
    rule wants that, times W_out is `transformer`. Errors as in `transformer`.
    """
    check_params("hidden_states", params, config)
    rule, read_out = RESIDUAL_RULES[config.residual], params.get("read_out", {})
    x = embed("hidden_states", params, tokens, config)
    states, state = [x], rule.expand(x, config)
    for block in params["blocks"]:
        state = _through(state, [block], config, [{}])
        states.append(rule.read(state, read_out, config))
    return array_namespace(x).stack(states, axis=0)


def _through(state, blocks, config, masks):
    """The rule's state after these blocks, of which each has its masks, or {} for none."""
    update = RESIDUAL_RULES[config.residual].update

    def through_block(state, block_with_masks):
        block, masks_of = block_with_masks
        for name, sublayer, residual in connections(block, config):
            if name in masks_of:
                sublayer = _masked(sublayer, masks_of[name])
            state = update(state, sublayer, residual, config)
        return state

    return through_stack(through_block, state, list(zip(blocks, masks, strict=True)))


def _masked(sublayer, mask):
    return lambda *args, **options: sublayer(*args, **options) * mask


def connections(block, config):
    """Yield for each sub-layer its name, its function, and all the rule's parameters for it."""
    sublayers = (
        partial(
            multi_head_attention, **block["attention"], n_heads=config.n_heads, causal=config.causal
        ),
        partial(feed_forward, **block["feed_forward"], activation=config.activation),
    )
    shared = block.get("residual", {})
    for name, sublayer in zip(SUBLAYERS, sublayers, strict=True):
        yield name, sublayer, {**shared, **block[f"{name}_residual"]}


def embed(function, params, tokens, config):
    """The vector of each token plus that of its place."""
    x, shape = embedding(tokens, params["tokens"]), tuple(tokens.shape)
    if not shape or not 1 <= shape[-1] <= config.max_tokens:
        raise ValueError(
            f"{function}: expected tokens (..., N) with 1 ≤ N ≤ {config.max_tokens}, got {shape}"
        )
    return x + params["positions"][: shape[-1], :]
