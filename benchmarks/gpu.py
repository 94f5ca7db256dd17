"""Does a GPU compute what NumPy computes, and how fast? One command, one report to commit.

    python benchmarks/gpu.py [--array-library cupy] [--device 0] [--out benchmarks/gpu-report.md]

Runs the tests marked `gpu`, compares every residual rule and 50 training steps of twelve layers
with NumPy in float64, times both in one process, and looks for host synchronisations. Exit code 0
if all of it agrees, 1 if not, 2 if the library or its device is missing. On a busy machine set
OPENBLAS_NUM_THREADS=1: threads of OpenBLAS that wait for each other slow NumPy tenfold and more.
"""

import argparse
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import time
import traceback
import warnings
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mgt_np import (
    RESIDUAL_RULES,
    TransformerConfig,
    cross_entropy,
    init_transformer,
    transformer,
    value_and_grad,
)
from mgt_np.arrays import leaves_with_paths, to_host, tree_map
from mgt_np.arrays.libraries import INSTALL, move, place
from mgt_np.data.files import write_whole
from mgt_np.runs import versions

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1e-10  # of a difference to NumPy in float64, absolute or relative
N_STEPS, LEARNING_RATE = 50, 0.05
BLAS = ("OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def model(rule, *, n_layers, d_model, n_tokens, dtype="float64", vocab_size=64):
    """Return parameters, tokens (on the host) and the functions of them to compare and time."""
    config = TransformerConfig(
        vocab_size=vocab_size,
        d_model=d_model,
        n_heads=4,
        n_layers=n_layers,
        d_ff=4 * d_model,
        max_tokens=n_tokens,
        residual=rule,
        dtype=dtype,
    )
    rng = np.random.default_rng(0)
    params = init_transformer(rng, config)
    # Away from initial zeros and ones, so that every gradient says something.
    params = tree_map(lambda x: x + (0.02 * rng.standard_normal(x.shape)).astype(x.dtype), params)
    tokens = rng.integers(0, vocab_size, (4, n_tokens + 1))

    def forward(params, tokens):
        return transformer(params, tokens[:, :-1], config)

    def step(params, tokens):
        return value_and_grad(lambda p: cross_entropy(forward(p, tokens), tokens[:, 1:]))(params)

    return params, tokens, forward, step


def differences(got, expected):
    """The worst absolute difference of a tree's arrays, and the worst relative to an array's size.

    An array's size is its largest entry, or a thousandth of the tree's where that is more: the
    gradient of a key's bias is zero but for rounding.
    """
    got, expected = ([to_host(x) for _, x in leaves_with_paths(tree)] for tree in (got, expected))
    largest = max(float(np.max(np.abs(y))) for y in expected)
    absolute = relative = 0.0
    for x, y in zip(got, expected, strict=True):
        difference = float(np.max(np.abs(x - y)))
        difference = np.inf if np.isnan(difference) else difference
        absolute = max(absolute, difference)
        relative = max(relative, difference / max(float(np.max(np.abs(y))), 1e-3 * largest))
    return absolute, relative


def marked_tests(there):
    """Run the tests marked `gpu`; they use CuPy, whichever library is asked for here."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--no-showlocals", "--tb=no"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = (done.stdout.strip() or done.stderr.strip() or "nothing was printed").splitlines()
    text = f"`pytest -m gpu` ended with code {done.returncode}: {lines[-1].strip('= ')}"
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    ran = there.name != "cupy" or "passed" in lines[-1]  # without CuPy all of them are skipped
    return done.returncode == 0 and ran, [text, *failed[:20]]


def every_rule(there):
    """Compare logits and gradients under every residual rule with NumPy, in float64."""
    rows, agree = [], True
    for rule in tqdm(RESIDUAL_RULES, desc="rules", leave=False):
        params, tokens, forward, step = model(rule, n_layers=2, d_model=32, n_tokens=16)
        moved = move((params, tokens), there)
        logits = differences(forward(*moved), forward(params, tokens))
        gradients = differences(step(*moved)[1], step(params, tokens)[1])
        agree &= max(logits[1], gradients[1]) <= LIMIT
        rows.append((rule, *(f"{x:.1e}" for x in (*logits, *gradients))))
    titles = ("rule", "logits, absolute", "relative", "gradient, absolute", "relative")
    return agree, table(titles, rows)


def descent(params, tokens, step, *, n_steps=N_STEPS):
    """The losses of plain gradient descent, read from the device at the end alone."""
    losses = []
    for _ in tqdm(range(n_steps), desc="descent", leave=False):
        loss, gradients = step(params, tokens)
        params = updated(params, gradients)
        losses.append(loss)
    return np.array([float(to_host(loss)) for loss in losses])


def updated(params, gradients):
    if isinstance(params, dict):
        return {key: updated(x, gradients[key]) for key, x in params.items()}
    if isinstance(params, list):
        return [updated(x, g) for x, g in zip(params, gradients, strict=True)]
    return params - LEARNING_RATE * gradients


def fifty_steps(there):
    """Train twelve layers of MGT on both, and compare the losses step by step."""
    params, tokens, _, step = model("mgt", n_layers=12, d_model=32, n_tokens=16)
    expected = descent(params, tokens, step)
    got = descent(*move((params, tokens), there), step)
    worst = float(np.max(np.abs(got - expected)))
    agree = worst <= LIMIT
    return agree, [
        f"Loss {expected[0]:.6f} to {expected[-1]:.6f} on NumPy, {got[0]:.6f} to {got[-1]:.6f} on "
        f"{there}. Worst difference of {N_STEPS} losses: {worst:.1e} "
        f"({'within' if agree else 'NOT within'} {LIMIT:.0e})."
    ]


def waiter(there):
    """Return a function that waits until the device has finished the arrays given to it."""
    if there.name == "cupy":
        return lambda arrays: there.device.synchronize()
    if there.name == "jax":
        return import_module("jax").block_until_ready
    if there.name == "torch" and there.device.type == "cuda":
        return lambda arrays: import_module("torch").cuda.synchronize(there.device)
    return lambda arrays: None


def timings(there, *, sizes, n_layers, n_tokens, runs):
    """Time a forward pass and a training step on both, in turn; float32, waiting for the device."""
    wait, rows = waiter(there), []
    for d in tqdm(sizes, desc="timings", leave=False):
        params, tokens, forward, step = model(
            "mgt", n_layers=n_layers, d_model=d, n_tokens=n_tokens, dtype="float32"
        )
        places = {"numpy": (params, tokens), "device": move((params, tokens), there)}
        for name, function in (("forward pass", forward), ("training step", step)):
            seconds = {where: [] for where in places}
            for run in range(runs + 1):
                for where, arguments in places.items():
                    start = time.perf_counter()
                    wait(function(*arguments))
                    if run:  # the first one warms up and compiles
                        seconds[where].append(time.perf_counter() - start)
            numpy, device = (statistics.median(seconds[where]) for where in places)
            cells = (f"{1e3 * numpy:.2f} ms", f"{1e3 * device:.2f} ms", f"{numpy / device:.2f}")
            rows.append((str(d), name, *cells))
    titles = ("d", "what", "NumPy, median", f"{there}, median", "NumPy / device")
    return True, [
        f"MGT, {n_layers} layers, 4 sequences of {n_tokens} tokens, float32, {runs} runs in turn.",
        "",
        *table(titles, rows),
    ]


def synchronisations(there):
    """Say whether a training step makes the host wait, where the library can tell."""
    params, tokens, _, step = model("mgt", n_layers=2, d_model=32, n_tokens=16)
    moved = move((params, tokens), there)
    step(*moved)
    if there.name == "cupy":
        return _cupy_synchronisations(lambda: step(*moved))
    if there.name == "torch" and there.device.type == "cuda":
        return _torch_synchronisations(lambda: step(*moved))
    return True, [f"{there.name} cannot tell on this device; not looked for."]


def _cupy_synchronisations(once):
    """CuPy stops at the first one: none, or where that is."""
    cupyx = import_module("cupyx")
    if not hasattr(cupyx, "allow_synchronize"):
        return True, ["This version of CuPy has no `allow_synchronize`; not looked for."]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            with cupyx.allow_synchronize(False):
                once()
        except cupyx.DeviceSynchronized as error:
            frames = traceback.extract_tb(error.__traceback__)
            ours = [f for f in frames if "mgt_np" in Path(f.filename).parts][-1]
            where = f"{Path(ours.filename).name}, line {ours.lineno}: `{ours.line}`"
            return False, [f"A training step waits for the device, first in {where}"]
    return True, ["No synchronisation in a training step (`cupyx.allow_synchronize(False)`)."]


def _torch_synchronisations(once):
    cuda = import_module("torch").cuda
    cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            once()
    finally:
        cuda.set_sync_debug_mode("default")
    n = sum("synchroniz" in str(warning.message) for warning in caught)
    return n == 0, [f"{n} synchronisations in a training step (`torch.cuda.set_sync_debug_mode`)."]


def table(titles, rows):
    lines = [titles, ("---",) * len(titles), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def machine(there):
    """What was computed with: versions, device, driver; the command and the date."""
    facts = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"`{shlex.join(['python', 'benchmarks/gpu.py', *sys.argv[1:]])}`",
        "device": f"{there}: {device_name(there)}",
        "driver": driver(),
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "BLAS settings of the host": ", ".join(
            f"{name}={os.environ[name]}" for name in BLAS if name in os.environ
        )
        or "none",
        **versions(),
        there.name: import_module(there.name).__version__,
    }
    if there.name == "cupy":
        runtime = import_module("cupy").cuda.runtime
        facts["CUDA runtime"] = str(runtime.runtimeGetVersion())
        facts["CUDA of the driver"] = str(runtime.driverGetVersion())
    return [f"- {name}: {fact}" for name, fact in facts.items()]


def device_name(there):
    if there.name == "cupy":
        runtime = import_module("cupy").cuda.runtime
        return runtime.getDeviceProperties(there.device.id)["name"].decode()
    if there.name == "torch" and there.device.type == "cuda":
        return import_module("torch").cuda.get_device_name(there.device)
    return getattr(there.device, "device_kind", platform.processor() or platform.machine())


def driver():
    if shutil.which("nvidia-smi") is None:
        return "not known (no nvidia-smi)"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return ", ".join(done.stdout.split()) or "not known (nvidia-smi gave no answer)"


def report(there, sections):
    """Run the sections; return whether all agree, and the report in Markdown."""
    agree, body = True, []
    for title, section in tqdm(sections.items(), desc="report"):
        fine, lines = section(there)
        agree &= fine
        body += ["", f"## {title}{'' if fine else ' (DIFFERS)'}", "", *lines]
    verdict = "All of it agrees with NumPy." if agree else "NOT all of it agrees: see DIFFERS."
    head = [f"# mgt-np on {there}", "", verdict, "", *machine(there)]
    return agree, "\n".join([*head, *body, ""])


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--array-library", choices=("numpy", *INSTALL), default="cupy")
    parser.add_argument("--device", help="the library's name of a device; its default if absent")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "gpu-report.md")
    parser.add_argument("--sizes", type=int, nargs="+", default=(64, 512), metavar="D")
    parser.add_argument("--layers", type=int, default=4, help="of the model that is timed")
    parser.add_argument("--tokens", type=int, default=64, help="in each of its 4 sequences")
    parser.add_argument("--runs", type=int, default=5, help="that each median is of")
    return parser.parse_args(arguments)


def main():
    arguments = parse()
    try:
        there = place(arguments.array_library, arguments.device)
    except ValueError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    sizes = {
        "sizes": arguments.sizes,
        "n_layers": arguments.layers,
        "n_tokens": arguments.tokens,
        "runs": arguments.runs,
    }
    sections = {
        "Tests": marked_tests,
        "Every residual rule against NumPy, float64": every_rule,
        f"Twelve layers of MGT, {N_STEPS} steps of gradient descent, float64": fifty_steps,
        "Times": lambda there: timings(there, **sizes),
        "Host synchronisations": synchronisations,
    }
    agree, text = report(there, sections)
    write_whole(arguments.out, text.encode())
    print(text)
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
