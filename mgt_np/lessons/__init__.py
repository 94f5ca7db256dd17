"""What the notebooks in `lessons/` import: exercises that answer, and predictions that are kept."""

from .checking import check
from .judging import exercise, hint_for, without
from .predicting import Prediction, predict, reveal
from .sliding import slider

__all__ = [
    "Prediction",
    "check",
    "exercise",
    "hint_for",
    "predict",
    "reveal",
    "slider",
    "without",
]
