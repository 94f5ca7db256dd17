"""Architectures: a decoder, and the choice of its residual rule. Lesson 08."""

from .config import TransformerConfig
from .decoder import hidden_states, transformer
from .parameters import init_transformer
from .profiling import profile_admin
from .rules import RESIDUAL_RULES, ResidualRule

__all__ = [
    "RESIDUAL_RULES",
    "ResidualRule",
    "TransformerConfig",
    "hidden_states",
    "init_transformer",
    "profile_admin",
    "transformer",
]
