"""A verdict on a layer of another library, in its own layout, by an adapter."""

import numpy as np

from mgt_np.arrays.checks import one_of

from . import noise
from .adapters import ADAPTERS
from .compare import Report, Row
from .search import RIGHT, WRONG, in_units


def compare_adapted(source, adapter, **given):
    """Return a `Report` on a live module, or on a state_dict beside recorded outputs.

    A live module is called in a copy with random weights. given: its inputs and options by their
    own names, as the adapter's `check` takes them. Raises ValueError for what the adapter refuses:
    train mode, a mask that cannot be expressed, entries that are missing or unknown.
    """
    one_of(tuple(ADAPTERS), adapter=adapter)
    found = ADAPTERS[adapter].check(source, **given)
    row = Row(adapter, "right", 1)
    shared = [name for name in found.ours if name in found.theirs]
    ours = {name: np.asarray(found.ours[name]) for name in shared}
    scales = {
        dtype: noise.scale(
            lambda arrays: {name: y for name, y in found.compute(arrays).items() if name in ours},
            found.arrays,
            ours,
            dtype,
        )
        for dtype in ("float64", "float32")
    }
    for name in shared:
        if np.shape(found.theirs[name]) != ours[name].shape:
            row.verdict, shape = "wrong-shape", np.shape(found.theirs[name])
            row.why = f"expected {name} of shape {ours[name].shape}, got {shape}"
            return Report({adapter: row})
    ratios = {
        dtype: {name: in_units(found.theirs[name], ours[name], s[name]) for name in shared}
        for dtype, s in scales.items()
    }
    row.worst["float64"] = max(ratios["float64"].values())
    row.gradients = any(name.startswith("grad.") for name in shared)
    _judge(row, ratios)
    if row.verdict == "gradient-wrong" and found.without_gradient:
        row.why += f"; none reaches {', '.join(found.without_gradient)}: is it detached?"
    return Report({adapter: row})


def _judge(row, ratios):
    """Put the verdict of the ratios into the row: results first, then gradients."""
    wrong = [name for name, ratio in ratios["float64"].items() if ratio > WRONG]
    if not wrong:
        row.verdict = "doubtful" if row.worst["float64"] > RIGHT else "right"
        return
    if max(ratios["float32"].values()) <= RIGHT:
        row.verdict = "right-in-float32-only"
        row.why = "float64 goes in, float32 is computed: a .float() inside?"
        return
    results = [name for name in wrong if not name.startswith("grad.")]
    row.verdict = "wrong" if results else "gradient-wrong"
    right = [name for name in ratios["float64"] if name not in wrong]
    row.why = f"wrong: {', '.join(results or wrong)}"
    if right:
        row.why += f"; right: {', '.join(right)}"
