"""What a residual rule is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mgt_np.layers import init_layer_norm, layer_norm


def init_norm(rng, config, index):
    """Return what a sub-layer's connection has under most rules: the parameters of one norm."""
    return {"norm": init_layer_norm(config.d_model, dtype=config.dtype)}


def _the_same(x, config):
    return x


def _one_stream(state, params, config):
    return state


def _nothing(*_):
    return {}


def _layer_norm(config):
    return init_layer_norm, layer_norm


@dataclass(frozen=True)
class ResidualRule:
    """How x_{l+1} is made of x_l and a sub-layer F: all that tells two architectures apart here.

    `update(x, F, params, config)` gives x_{l+1}, calling F itself on whatever input it wants. Its
    `params` are those of `init(rng, config, index)` for sub-layer number `index` of the model,
    counted from 0, with those of `init_block(rng, config)`, which the sub-layers of a block share.
    `final_norm`: whether a last norm stands before the output, as pre-norm needs;
    `last_norm(config)` gives the two functions that make its parameters and that apply it.
    `expand(x, config)` makes the rule's state of the embedding; `read(state, params, config)` makes
    one stream of the state again, with `params` from `init_read(rng, config)`. A rule with one
    stream leaves them out. `gains(config)` are factors on the initial weights of the sub-layers, by
    their names: {"W_o": 0.5}.
    A rule may call F(z, inner=f), which applies f to the joined heads or hidden features before the
    last weights; `init_inner(d, config)` gives what it needs for that, d features wide, and stands
    among the parameters of `init`.
    """

    equation: str
    init: Callable[..., dict]
    update: Callable[..., Any]
    final_norm: bool
    expand: Callable[..., Any] = _the_same
    read: Callable[..., Any] = _one_stream
    gains: Callable[..., dict] = _nothing
    init_inner: Callable[..., dict] = _nothing
    init_block: Callable[..., dict] = _nothing
    init_read: Callable[..., dict] = _nothing
    last_norm: Callable[..., tuple] = _layer_norm
