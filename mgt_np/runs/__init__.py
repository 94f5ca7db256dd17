"""Finished work is kept: a store of cells, and the workers that compute what is missing in it."""

from .cluster import ClusterError
from .store import core_seconds, folder_of, is_done, read
from .versions import versions
from .workers import Task, compute_all

__all__ = [
    "ClusterError",
    "Task",
    "compute_all",
    "core_seconds",
    "folder_of",
    "is_done",
    "read",
    "versions",
]
