"""Threads, where there are any: a browser's Python has none but its own."""

import sys
from contextlib import nullcontext


def has_threads():
    """Say whether this Python can start threads."""
    return sys.platform != "emscripten"


def limited(threads):
    """A context in which linear algebra uses at most so many threads."""
    if not has_threads():
        return nullcontext()  # threadpoolctl's own way of looking warns there
    from threadpoolctl import threadpool_limits  # here: layers can be had without it

    return threadpool_limits(threads)


def watched(bar):
    """Return the class `bar` of progress bars; none is watched by a thread that cannot start."""
    if not has_threads():
        bar.monitor_interval = 0
    return bar
