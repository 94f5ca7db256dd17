"""Layers as one node of the tape each, with a gradient derived by hand: one file a family.

Imported for what its files do: each gives its layers their fused forms.
"""

from . import (
    activations,
    attention,
    feed_forward,
    linear,
    loss,
    mgt,
    mhc,
    normalization,
    sinkhorn,
    streams,
)

__all__ = [
    "activations",
    "attention",
    "feed_forward",
    "linear",
    "loss",
    "mgt",
    "mhc",
    "normalization",
    "sinkhorn",
    "streams",
]
