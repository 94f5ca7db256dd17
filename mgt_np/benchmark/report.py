"""The benchmark's result in words and numbers, for a person."""

from .run import OURS


def lines(record):
    """Yield the lines of the report."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    load = "not known" if record["load"] is None else f"{record['load']:.1f}"
    threads = ", ".join(f"{name} {n}" for name, n in record["threads"].items())
    yield f"{record['shape']}, {record['rule']}, float32, {record['rounds']} rounds side by side"
    yield f"{record['processor']}; {threads}; load before {load}; {versions}"
    if record["load"] is not None and record["load"] > 0.5:
        yield "the machine was not idle: threads that wait for each other may have waited long"
    for name, why in record["left_out"].items():
        yield f"left out: {name}: {why}"
    yield ""
    yield f"loss and gradients, largest difference to {OURS} (limit {record['limit']:.0e})"
    for name, worst in record["differences"].items():
        yield f"  {name:15}{worst:10.1e}{'' if worst <= record['limit'] else '  DIFFERS'}"
    for name, seconds in record["compile_seconds"].items():
        yield f"first step of {name}, compiled: {seconds:.1f} s"
    if record["agree"]:
        yield from _times(record["rows"])
        yield from _whole_steps(record["rows"])
        yield from _gemm(record["gemm"])


def _times(rows):
    yield ""
    yield f"{'':15}{'step':>12}{'forward':>12}{'peak memory':>14}"
    for row in rows:
        peak = row["peak_bytes"]
        memory = "not known" if peak is None else f"{peak / 2**20:.1f} MiB"
        times = "".join(f"{1e3 * row[key]:9.2f} ms" for key in ("step_seconds", "forward_seconds"))
        yield f"{row['implementation']:15}{times}{memory:>14}"
    yield from _ratios(rows, "step_seconds", "step")
    yield from _ratios(rows, "forward_seconds", "forward pass")


def _whole_steps(rows):
    rows = [row for row in rows if row["train_seconds"] is not None]
    yield ""
    yield f"{'':15}{'whole step':>12}{'optimizer':>12}{'its share':>14}"
    for row in rows:
        whole, optimizer = row["train_seconds"], row["optimizer_seconds"]
        times = "".join(f"{1e3 * seconds:9.2f} ms" for seconds in (whole, optimizer))
        yield f"{row['implementation']:15}{times}{optimizer / whole:14.3f}"
    yield from _ratios(rows, "train_seconds", "whole training step, clipping and AdamW in it")


def _ratios(rows, key, what):
    yield ""
    yield f"{what}: time of the row over time of the column, of medians"
    yield " " * 15 + "".join(f"{row['implementation']:>15}" for row in rows)
    for row in rows:
        ratios = "".join(f"{row[key] / other[key]:15.2f}" for other in rows)
        yield f"{row['implementation']:15}{ratios}"


def _gemm(gemm):
    rate, machine, step = (
        f"{gemm[name] / 1e9:.1f}" for name in ("product_rate", "machine_rate", "step_rate")
    )
    yield ""
    yield (
        f"matrix products of {OURS}: {rate} GFLOP/s, {gemm['fraction']:.2f} of the machine's own "
        f"{machine}; {gemm['share_of_step']:.2f} of the step's time; the whole step {step} GFLOP/s"
    )
    if gemm["counted_flops"] != gemm["flops"]:
        share = gemm["counted_flops"] / gemm["flops"]
        yield f"operations seen in `matmul`: {share:.3f} of those of the formula"
