"""How it is measured: agreement, times side by side, peak memory, the rate of matrix products."""

import ctypes
import gc
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from mgt_np.arrays import leaves_with_paths

LIMIT = 1e-3  # of a float32 gradient's difference, relative to its largest entry
PAUSE = 0.03


def difference(got, expected):
    """The worst difference of two (loss, gradients), relative to the size of each array.

    An array's size is its largest entry, or a hundredth of the tree's where that is more: the
    gradient of a key's bias is zero but for rounding, and those of b_β and α are sums over all
    tokens that nearly cancel. NaN differs from everything.
    """
    (loss, gradients), (expected_loss, expected_gradients) = got, expected
    expected_leaves = dict(leaves_with_paths(expected_gradients))
    sizes = {path: float(np.max(np.abs(x))) for path, x in expected_leaves.items()}
    floor = 1e-2 * max(sizes.values())
    leaves = dict(leaves_with_paths(gradients))
    if leaves.keys() != sizes.keys():
        raise ValueError(f"expected gradients of {sizes.keys()}, got {leaves.keys()}")
    worst = [abs(loss - expected_loss) / abs(expected_loss)]
    for path, x in leaves.items():
        gap = float(np.max(np.abs(x - expected_leaves[path])))
        worst.append(gap / max(sizes[path], floor))
    return float("inf") if any(np.isnan(worst)) else max(worst)


def interleaved(functions, rounds, tick=lambda: None, note=lambda name, result: None):
    """Call each function once a round, and return the seconds of each: a dict of lists.

    One round before them is not counted. Before its turn each function is called once more,
    uncounted, after a pause and a collection of garbage: threads of another library spin for a
    while when their work is done, its arrays have taken the caches, and its garbage would be
    collected in the time of the next. Without this, who comes after whom decides the times. A
    result is kept until the next is there, as in a training loop. What is there before the first
    round is kept out of Python's collections. `note` is called with each result that was timed.
    """
    seconds = {name: [] for name in functions}
    gc.collect()
    gc.freeze()
    try:
        for i in range(rounds + 1):
            for name, function in functions.items():
                gc.collect()
                time.sleep(PAUSE)
                kept = function()
                start = time.perf_counter()
                kept = function()
                end = time.perf_counter()
                if i:
                    seconds[name].append(end - start)
                    note(name, kept)
                del kept
                tick()
    finally:
        gc.unfreeze()
    return seconds


def peak_bytes(make, *arguments):
    """What the first three calls of `make(*arguments)` add at most to a process of their own.

    Counted from where `make` has returned: weights are in place then, and what compiles has done
    so. It has to be a function of a module. None where the system does not say, and in a browser,
    where there are no processes.
    """
    if sys.platform == "emscripten":
        return None
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as fresh:
        return fresh.submit(_peak_bytes_here, make, arguments).result()


def _peak_bytes_here(make, arguments):
    step = make(*arguments)
    gc.collect()
    _trim()
    before, peak = _watch()
    kept = None
    for _ in range(3):
        kept = step()
    del kept
    return None if before is None else max(0, peak() - before)


def _trim():
    """Give memory that was freed back to the system, where the C library can (glibc)."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _watch():
    """The resident bytes now, and a function that gives the highest number since; None, None."""
    status = Path("/proc/self/status")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is resident now
        return _kilobytes(status, "VmRSS"), lambda: _kilobytes(status, "VmHWM")
    except (OSError, KeyError):
        return _watch_whole_life()


def _kilobytes(status, field):
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return 1024 * int(lines[field].split()[0])


def _watch_whole_life():
    """The same by the peak of the whole life of the process: too low if it was higher before."""
    try:
        import resource
    except ImportError:  # Windows
        return None, None
    unit = 1 if sys.platform == "darwin" else 1024

    def peak():
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    return peak(), peak
