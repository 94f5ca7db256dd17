"""Training: optimizers, schedules."""

from .optimizers import (
    adamw_init,
    adamw_update,
    clip_by_global_norm,
    global_norm,
    sgd_init,
    sgd_update,
)
from .schedules import learning_rate

__all__ = [
    "adamw_init",
    "adamw_update",
    "clip_by_global_norm",
    "global_norm",
    "learning_rate",
    "sgd_init",
    "sgd_update",
]
