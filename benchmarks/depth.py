"""What do value and gradient cost as the model gets deeper? Ratios, side by side in one process.

    python benchmarks/depth.py [--rule mgt] [--layers 100 200] [--runs 7]

Asked for: 200 layers cost at most 2.2 times 100 layers. Unset OPENBLAS_CORETYPE in this command if
it is set: it slows NumPy.
"""

import argparse
import platform
import statistics
import time

import numpy as np

from mgt_np import (
    RESIDUAL_RULES,
    TransformerConfig,
    cross_entropy,
    init_transformer,
    transformer,
    value_and_grad,
)


def step(rule, n_layers, *, n_tokens=64, d_model=64):
    """Return a function without arguments that computes loss and gradient once."""
    config = TransformerConfig(
        vocab_size=256,
        d_model=d_model,
        n_heads=4,
        n_layers=n_layers,
        d_ff=4 * d_model,
        max_tokens=n_tokens,
        residual=rule,
        dtype="float32",
    )
    rng = np.random.default_rng(0)
    params = init_transformer(rng, config)
    tokens = rng.integers(0, 256, (2, n_tokens + 1))

    def loss(params):
        return cross_entropy(transformer(params, tokens[:, :-1], config), tokens[:, 1:])

    return lambda: value_and_grad(loss)(params)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rule", choices=RESIDUAL_RULES, default="mgt")
    parser.add_argument("--layers", type=int, nargs=2, default=(100, 200))
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()

    steps = {n: step(arguments.rule, n) for n in arguments.layers}
    seconds = {n: [] for n in steps}
    for run in range(arguments.runs + 1):
        for n, once in steps.items():
            start = time.perf_counter()
            once()
            if run:  # the first one warms up
                seconds[n].append(time.perf_counter() - start)
    shallow, deep = arguments.layers
    ratios = [b / a for a, b in zip(seconds[shallow], seconds[deep], strict=True)]
    print(f"numpy {np.__version__}, python {platform.python_version()}, {arguments.rule}, float32")
    for n in arguments.layers:
        print(
            f"{n:4} layers: median {statistics.median(seconds[n]):.3f} s of {arguments.runs} runs"
        )
    print(
        f"ratio: median {statistics.median(ratios):.2f}, "
        f"{min(ratios):.2f} to {max(ratios):.2f} pair by pair"
    )


if __name__ == "__main__":
    main()
