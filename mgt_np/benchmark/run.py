"""The benchmark: build, hold against each other, time, weigh."""

import os
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tqdm import tqdm

from mgt_np.arrays.checks import one_of
from mgt_np.models import RESIDUAL_RULES

from . import ours
from .implementations import IMPLEMENTATIONS, builder, ready_step
from .measuring import LIMIT, difference, interleaved, peak_bytes
from .products import rates
from .shapes import SHAPES, problem

OURS = "mgt_np"
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS")


def benchmark(shape="wide", rule="mgt", names=None, *, against=None, rounds=15, command=None):
    """Measure every implementation that is here, and return what `report` prints: a dict.

    `agree` says whether all gradients agree with ours within `limit`; only then is it timed.
    `against` is a second rule, under which ours is timed beside the others.
    Raises ValueError for an unknown shape, rule or implementation, or fewer than 1 round.
    """
    one_of(SHAPES, **{"the shape": shape})
    one_of(RESIDUAL_RULES, **{"the rule": rule})
    if against is not None:
        one_of(RESIDUAL_RULES, **{"the rule to measure against": against})
    if rounds < 1:
        raise ValueError(f"expected at least 1 round, got {rounds}")
    machine = _machine()
    built, left_out = _build(names or IMPLEMENTATIONS, SHAPES[shape], rule)
    results, compiling = _first_step(built, left_out)
    expected = results[OURS]
    differences = {
        name: difference(result, expected) for name, result in results.items() if name != OURS
    }
    record = {
        "shape": shape,
        "rule": rule,
        "against": against,
        "rounds": rounds,
        "agree": all(x <= LIMIT for x in differences.values()),
        "limit": LIMIT,
        "differences": differences,
        "left_out": left_out,
        "compile_seconds": compiling,
        **machine,
        "command": command,
    }
    if not record["agree"]:
        return record | {"rows": [], "gemm": None}
    rules = dict.fromkeys(built, rule)
    if against is not None:
        name = f"{OURS} {against}"
        built[name], rules[name] = ours.build(*problem(SHAPES[shape], against)), against
    return record | _measured(built, SHAPES[shape], rules, rounds)


def _build(names, shape, rule):
    built, left_out = {}, {}
    config, params, tokens = problem(shape, rule)
    for name in dict.fromkeys((OURS, *names)):
        build, why = builder(name, rule)
        if build is None:
            left_out[name] = why
        else:
            built[name] = build(config, params, tokens)
    return built, left_out


def _first_step(built, left_out):
    """Loss and gradients of all, and the seconds of the first step of those that compile.

    What cannot compile on this machine is left out.
    """
    results, compiling = {}, {}
    for name, implementation in tqdm(list(built.items()), desc="first steps", leave=False):
        try:
            start = time.perf_counter()
            result = implementation.step()
            if implementation.compiles:
                compiling[name] = time.perf_counter() - start
            results[name] = implementation.to_host(*result)
            implementation.forward()
        except Exception as error:  # a compiler raises errors of its own
            if not implementation.compiles:
                raise
            del built[name]
            compiling.pop(name, None)
            reason = str(error).strip().partition("\n")[0]
            left_out[name] = f"does not compile here: {type(error).__name__}: {reason}"
    return results, compiling


def _measured(built, shape, rules, rounds):
    steps = {name: each.step for name, each in built.items()}
    seconds = _seconds(built, steps, rounds)
    medians = {what: _medians(times) for what, times in seconds.items()}
    gemm = rates(steps[OURS], medians["step"][OURS], shape, rules[OURS])
    rows = [
        {
            "implementation": name,
            **{f"{what}_seconds": medians[what].get(name) for what in seconds},
            "peak_bytes": peak_bytes(
                # ours under a second rule has that in its name
                ready_step,
                name if name in IMPLEMENTATIONS else OURS,
                shape,
                rules[name],
            ),
        }
        for name in tqdm(built, desc="memory", leave=False)
    ]
    return {"rows": rows, "gemm": gemm, "seconds": seconds}


def _seconds(built, steps, rounds):
    """All times: {"step": {implementation: a list}, "forward", "train", "optimizer"}."""
    forwards = {name: each.forward for name, each in built.items()}
    trainings = {name: each.training() for name, each in built.items() if each.training}
    optimizer = {name: [] for name in trainings}

    def note(name, result):
        optimizer[name].append(result[-1])

    calls = (rounds + 1) * (2 * len(built) + len(trainings))
    with tqdm(total=calls, desc="rounds", leave=False) as bar:
        return {
            "step": interleaved(steps, rounds, bar.update),
            "forward": interleaved(forwards, rounds, bar.update),
            "train": interleaved(trainings, rounds, bar.update, note),
            "optimizer": optimizer,
        }


def _medians(seconds):
    return {name: statistics.median(values) for name, values in seconds.items()}


def _machine():
    """What the times depend on; `load` is that of others, before anything here has run."""
    packages = ("mgt-np", "numpy", "autograd", "array-api-compat", "torch", "jax", "scipy")
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "versions": found,
        "processor": _processor(),
        "threads": _threads(),
        "load": load,
    }


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        return named[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def _threads():
    """Processors this process may use, and the environment that says how many threads it may."""
    allowed = getattr(os, "sched_getaffinity", None)
    n = len(allowed(0)) if allowed else os.cpu_count()
    threads = {"processors": n}
    return threads | {name: os.environ[name] for name in THREADS if name in os.environ}
