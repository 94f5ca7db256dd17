"""Training: optimizers, schedules, tasks, the loop, its checkpoints; texts and files of models."""

from .checkpoints import load_checkpoint, save_checkpoint
from .exporting import export
from .generating import generate
from .loop import TrainingError, TrainingSettings, train
from .measures import by_layer, loss_of, validation
from .optimizers import (
    adamw_init,
    adamw_update,
    clip_by_global_norm,
    global_norm,
    sgd_init,
    sgd_update,
)
from .schedules import learning_rate
from .tasks import Task, bits_per_byte, load_task

__all__ = [
    "Task",
    "TrainingError",
    "TrainingSettings",
    "adamw_init",
    "adamw_update",
    "bits_per_byte",
    "by_layer",
    "clip_by_global_norm",
    "export",
    "generate",
    "global_norm",
    "learning_rate",
    "load_checkpoint",
    "load_task",
    "loss_of",
    "save_checkpoint",
    "sgd_init",
    "sgd_update",
    "train",
    "validation",
]
