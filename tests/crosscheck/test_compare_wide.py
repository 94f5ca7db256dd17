"""Right layers at widths of real models: what rounding does there is not taken for a mistake.

The cases are narrow, so that mistakes show in a few numbers. Here each plain one is widened.
"""

import importlib
import zlib

import numpy as np
import pytest

from mgt_np.crosscheck import compare
from mgt_np.crosscheck.cases import Case, cases_of

pytest.importorskip("torch")

from .wrong import attention, mgt, streams

RIGHT = [each for module in (attention, mgt, streams) for each in module.RIGHT]
COMPARE = importlib.import_module("mgt_np.crosscheck.compare")

# What becomes of the sizes of a function's plain case; those of streams, heads and tokens stay.
WIDENED = {
    "softmax": {5: 1},
    "layer_norm": {6: 1},
    "scaled_dot_product_attention": {3: 1, 2: 1},
    "multi_head_attention": {8: 1},
    "feed_forward": {4: 1, 6: 2},
    "unit_direction": {5: 1},
    "delta_update": {5: 1},
    "deep_delta_residual": {6: 1},
    "mhc_update": {5: 1},
    "mhc_coefficients": {4: 1, 12: 3},
    "mhc_connection": {4: 1, 12: 3},
    "hyper_connection": {4: 1},
    "tangent_gate": {5: 1},
    "mgt_beta": {5: 1},
    "geometric_update": {5: 1},
    "mgt_residual": {5: 1},
    "effective_rank": {4: 1},
}


def widened(function, d):
    """The first case of a function with d features: normal numbers of the same spread."""
    plain, sizes = cases_of(function)[0], WIDENED[function]
    rng = np.random.default_rng(zlib.crc32(f"{function} {d}".encode()))

    def wide(x):
        batch = x.shape[:1] if x.ndim > 2 else ()
        shape = *batch, *(sizes[n] * d if n in sizes else n for n in x.shape[len(batch) :])
        if shape == x.shape:
            return x
        if x.ndim == 2:  # a matrix: its products keep their spread
            return np.std(x) * np.sqrt(x.shape[0] / shape[0]) * rng.normal(size=shape)
        return np.mean(x) + np.std(x) * rng.normal(size=shape)

    arrays = {name: None if x is None else wide(x) for name, x in plain.arrays.items()}
    return Case(f"{function}/{d}", function, arrays, plain.options, plain.tags)


@pytest.mark.parametrize("d", [64, pytest.param(256, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "each",
    [each for each in RIGHT if each.function in WIDENED],
    ids=lambda each: f"{each.function}-{each.call.__name__}",
)
def test_what_is_right_passes_at_any_width(each, d, monkeypatch):
    monkeypatch.setattr(COMPARE, "cases_of", lambda function: [widened(function, d)])
    report = compare(
        {each.function: each.call}, dtypes=("float64", "float32", "bfloat16", "float16")
    )
    row = report[each.function]
    summed_in_bfloat16 = (each.call.__name__, d) == ("softmax_online", 256)  # one by one: 2⁸ terms
    verdict = "doubtful" if summed_in_bfloat16 else "right"
    assert row.verdict == verdict, (row.worst, row.why)
