"""Where does a training step spend its time? Each fused layer forth and back, and the rest.

    python benchmarks/profile_step.py [--shape wide] [--rule mgt] [--runs 9]

Medians of the runs, in one process. Unset OPENBLAS_CORETYPE in this command if it is set.
"""

import argparse
import importlib
import pkgutil
import statistics
import time
from collections import defaultdict

from mgt_np import RESIDUAL_RULES, layers
from mgt_np.benchmark import SHAPES, ours
from mgt_np.benchmark.shapes import problem


def fused_layers():
    """Every layer with a fused form, by its name."""
    found = {}
    for module in pkgutil.iter_modules(layers.__path__):
        for value in vars(importlib.import_module(f"{layers.__name__}.{module.name}")).values():
            if getattr(value, "forms", None):
                found[value.__name__] = value
    return found


def timed(function, seconds, name):
    def call(*args, **kwargs):
        start = time.perf_counter()
        result = function(*args, **kwargs)
        seconds[name] += time.perf_counter() - start
        return result

    return call


def profile(step, runs):
    """The seconds of each form of each layer, and of the whole step, in each run."""
    seconds = defaultdict(float)
    for name, layer in fused_layers().items():
        for form, function in layer.forms.items():
            layer.forms[form] = timed(function, seconds, (name, form))
    rows = []
    for run in range(runs + 2):
        seconds.clear()
        start = time.perf_counter()
        step()
        whole = time.perf_counter() - start
        if run > 1:
            rows.append({**seconds, "whole": whole})
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="wide")
    parser.add_argument("--rule", choices=RESIDUAL_RULES, default="mgt")
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    found = profile(
        ours.build(*problem(SHAPES[arguments.shape], arguments.rule)).step, arguments.runs
    )
    whole = found.pop("whole")
    found["tape, trees and what is not fused", ""] = whole - sum(found.values())
    print(f"{arguments.shape}, {arguments.rule}: {1e3 * whole:.1f} ms")
    for (name, form), seconds in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{name:34} {form:9} {1e3 * seconds:8.2f} ms {100 * seconds / whole:5.1f} %")


if __name__ == "__main__":
    main()
