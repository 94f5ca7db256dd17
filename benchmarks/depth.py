"""What do value and gradient cost as the model gets deeper, in time and in memory?

    python benchmarks/depth.py [--rule mgt] [--layers 12 25 50 100 200] [--runs 7]
                               [--checkpoint-every K] [--json]

Times side by side in one process, peak memory in a process of its own for each depth, and the
slopes of both in the logarithms: 1 is cost in proportion to depth. Asked for: at most 1.05 in time,
and 200 layers at most 2.2 times 100 layers (`--layers 100 200`). Unset OPENBLAS_CORETYPE in this
command if it is set: it slows NumPy.
"""

import argparse
import dataclasses
import json
import platform
import statistics
import sys

import numpy as np
from tqdm import tqdm

from mgt_np import RESIDUAL_RULES
from mgt_np.benchmark import SHAPES, ours
from mgt_np.benchmark.measuring import interleaved, peak_bytes
from mgt_np.benchmark.shapes import problem

DEPTHS = (12, 25, 50, 100, 200)


def step(rule, n_layers, checkpoint_every=None):
    """Return a function without arguments that computes loss and gradient once."""
    shape = dataclasses.replace(SHAPES["deep"], batch=2, n_layers=n_layers, vocab_size=256)
    config, params, tokens = problem(shape, rule)
    if checkpoint_every is not None:
        config = dataclasses.replace(config, checkpoint_every=checkpoint_every)
    return ours.build(config, params, tokens).step


def slope(depths, costs):
    """The slope of the least squares line of log cost over log depth."""
    return float(np.polyfit(np.log(depths), np.log(costs), 1)[0])


def measure(rule, depths, intervals, runs):
    """A row for each interval of checkpoints (None: without) and each depth."""
    variants = [(n, every) for every in intervals for n in depths]
    steps = {variant: step(rule, *variant) for variant in variants}
    with tqdm(total=(runs + 1) * len(steps), desc="rounds", leave=False) as bar:
        seconds = interleaved(steps, runs, bar.update)
    return [
        {
            "n_layers": n,
            "checkpoint_every": every,
            "step_seconds": statistics.median(seconds[n, every]),
            "peak_bytes": peak_bytes(step, rule, n, every),
            "seconds": seconds[n, every],
        }
        for n, every in tqdm(variants, desc="memory", leave=False)
    ]


def slopes(rows, every):
    rows = [row for row in rows if row["checkpoint_every"] == every]
    depths = [row["n_layers"] for row in rows]
    found = {"time": slope(depths, [row["step_seconds"] for row in rows])}
    peaks = [row["peak_bytes"] for row in rows]
    found["memory"] = slope(depths, peaks) if all(peaks) else None
    return found


def report(record):
    yield (
        f"numpy {record['numpy']}, python {record['python']}, {record['rule']}, float32, "
        f"{record['runs']} runs in turn"
    )
    plain = {row["n_layers"]: row for row in record["rows"] if row["checkpoint_every"] is None}
    yield f"{'layers':>8}{'checkpoints':>14}{'step':>13}{'peak memory':>16}"
    for row in record["rows"]:
        every, peak = row["checkpoint_every"], row["peak_bytes"]
        cells = [
            f"{row['n_layers']:8}",
            f"{'none' if every is None else f'every {every}':>14}",
            f"{1e3 * row['step_seconds']:10.1f} ms",
            f"{'not known' if peak is None else f'{peak / 2**20:.1f} MiB':>16}",
        ]
        if every is not None:
            cells.append("  " + _beside(row, plain[row["n_layers"]]))
        yield "".join(cells)
    for every in dict.fromkeys(row["checkpoint_every"] for row in record["rows"]):
        rows = [row for row in record["rows"] if row["checkpoint_every"] == every]
        found, first, last = slopes(rows, every), rows[0], rows[-1]
        memory = "not known" if found["memory"] is None else f"{found['memory']:.3f}"
        pairs = _pairs(first, last)
        yield (
            f"{'without checkpoints' if every is None else f'checkpoints every {every}'}: "
            f"slope of time {found['time']:.3f}, of memory {memory}; "
            f"{last['n_layers']} over {first['n_layers']} layers: {statistics.median(pairs):.2f}, "
            f"{min(pairs):.2f} to {max(pairs):.2f} pair by pair"
        )


def _pairs(below, above):
    return [b / a for a, b in zip(below["seconds"], above["seconds"], strict=True)]


def _beside(row, plain):
    time = statistics.median(_pairs(plain, row))
    if not row["peak_bytes"] or not plain["peak_bytes"]:
        return f"{time:.2f} of the time"
    return f"{time:.2f} of the time, {row['peak_bytes'] / plain['peak_bytes']:.2f} of the memory"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rule", choices=RESIDUAL_RULES, default="mgt")
    parser.add_argument("--layers", type=int, nargs="+", default=DEPTHS, metavar="L")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--checkpoint-every", type=int, metavar="K", help="also with checkpoints")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if len(set(arguments.layers)) < 2 or min(arguments.layers) < 1 or arguments.runs < 1:
        parser.error("expected two depths or more of at least one layer, and at least one run")

    intervals = dict.fromkeys((None, arguments.checkpoint_every))
    rows = measure(arguments.rule, sorted(set(arguments.layers)), intervals, arguments.runs)
    record = {
        "rule": arguments.rule,
        "runs": arguments.runs,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "rows": rows,
        "slopes": [{"checkpoint_every": every, **slopes(rows, every)} for every in intervals],
    }
    print(json.dumps(record, indent=2) if arguments.json else "\n".join(report(record)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
