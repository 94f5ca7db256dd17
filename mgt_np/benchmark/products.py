"""Matrix products of a training step: how many operations, and at what rate."""

import math
import statistics
import time
from contextlib import contextmanager

import array_api_compat.numpy
import numpy as np

from mgt_np.arrays.boxes import TracedNumPyArray
from mgt_np.arrays.namespace import library_of

_ADDED = {  # to each sub-layer, in units of d²
    "none": 0,
    "post_ln": 0,
    "pre_ln": 0,
    "mgt": 1,
    "mgt_mhc_only": 1,
    "mgt_ddl_only": 0,
}


def step_flops(shape, rule):
    """Count the operations of a training step's matrix products, a multiply-add as two.

        3 · 2n [L (4d² + 2Td + 2d d_ff + 2r) + d V],    n = B T tokens

    per layer four projections, scores and values over all T keys (the half that no query may see
    too), and the feed-forward's two; r is what the residual rule adds to each of two sub-layers:
    d² for MGT's gate. The backward pass has two products for each of the forward pass, hence 3;
    nothing is counted twice where an implementation computes it again. Products with a vector are
    left out. None for a rule whose products are not counted here.
    """
    if rule not in _ADDED:
        return None
    d, T = shape.d_model, shape.n_tokens
    layer = 4 * d * d + 2 * T * d + 2 * d * shape.d_ff + 2 * _ADDED[rule] * d * d
    return 6 * shape.batch * T * (shape.n_layers * layer + d * shape.vocab_size)


class Products:
    """The operations and seconds of the matrix products seen so far."""

    def __init__(self):
        self.flops, self.seconds = 0, 0.0
        self._inside = False

    def timed(self, matmul):
        """`matmul`, counted here, unless it is called by one that is or multiplies a vector."""

        def counted(x, y, *args, **kwargs):
            with_vector = x.ndim < 2 or y.ndim < 2 or 1 in (*x.shape[-2:], y.shape[-1])
            if self._inside or with_vector:
                return matmul(x, y, *args, **kwargs)
            self._inside, start = True, time.perf_counter()
            try:
                result = matmul(x, y, *args, **kwargs)
            finally:
                self._inside = False
            self.seconds += time.perf_counter() - start
            self.flops += 2 * math.prod(result.shape) * x.shape[-1]
            return result

        return counted


@contextmanager
def watched():
    """Count and time NumPy's `matmul` in here, as the layers call it or by its own name.

    The operator `@` on plain arrays goes past it: what it computes is in neither count nor time.
    The differentiable namespace keeps the functions that it has once looked up; its `matmul` is
    taken out, so that it looks again, here and after.
    """
    products = Products()
    namespaces = (np, array_api_compat.numpy, library_of(np.empty(0)).lean_xp)
    before = [namespace.matmul for namespace in namespaces]
    kept = vars(TracedNumPyArray.xp)
    kept.pop("matmul", None)
    for namespace, function in zip(namespaces, before, strict=True):
        namespace.matmul = products.timed(function)
    try:
        yield products
    finally:
        for namespace, function in zip(namespaces, before, strict=True):
            namespace.matmul = function
        kept.pop("matmul", None)


def machine_rate(n=2048, runs=5):
    """Operations a second of one large product of float32 matrices in NumPy: the machine's own."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    out = np.empty_like(x)
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        np.matmul(x, y, out=out)
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / statistics.median(seconds[1:])


def rates(step, step_seconds, shape, rule, *, runs=5):
    """How fast our step's matrix products run, beside the machine's own rate: a dict.

    The median of `runs` steps in which the products are timed one by one. `counted_flops` are those
    that were seen: fewer than `flops`, since attention leaves out much of what no query may see;
    they stand for `flops` under a rule that has no formula.
    """
    step()
    seen = []
    for _ in range(runs):
        with watched() as products:
            step()
        seen.append((products.seconds, products.flops))
    seconds, counted = sorted(seen)[len(seen) // 2]
    machine, flops = machine_rate(), step_flops(shape, rule) or counted
    rate = counted / seconds
    return {
        "flops": flops,
        "counted_flops": counted,
        "product_seconds": seconds,
        "product_rate": rate,
        "machine_rate": machine,
        "fraction": rate / machine,
        "step_rate": flops / step_seconds,
        "share_of_step": seconds / step_seconds,
    }
