"""What a residual rule is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _same(x, *_):
    return x


def _no_gains(config):
    return {}


def _nothing_inside(d, config):
    return {}


@dataclass(frozen=True)
class ResidualRule:
    """How x_{l+1} is made of x_l and a sub-layer F: all that tells two architectures apart here.

    `init(rng, config)` gives the parameters of one sub-layer's residual connection;
    `update(x, F, params, config)` gives x_{l+1}, calling F itself on whatever input it wants.
    `final_norm`: whether a last layer norm stands before the output, as pre-norm needs.
    `expand(x, config)` makes the rule's state of the embedding, `read(state, config)` one stream of
    the state again; a rule with one stream leaves both out. `gains(config)` are factors on the
    initial weights of the sub-layers, by their names: {"W_o": 0.5}.
    A rule may call F(z, inner=f), which applies f to the joined heads or hidden features before the
    last weights; `init_inner(d, config)` gives what it needs for that, d features wide, and stands
    among the parameters of `init`.
    """

    equation: str
    init: Callable[..., dict]
    update: Callable[..., Any]
    final_norm: bool
    expand: Callable[..., Any] = _same
    read: Callable[..., Any] = _same
    gains: Callable[..., dict] = _no_gains
    init_inner: Callable[..., dict] = _nothing_inside
