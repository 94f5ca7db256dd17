"""The training step and the forward pass beside those of the peers that are installed."""

from .implementations import IMPLEMENTATIONS
from .report import lines
from .run import benchmark
from .shapes import SHAPES

__all__ = ["IMPLEMENTATIONS", "SHAPES", "benchmark", "lines"]
