"""Times of the step and the forward pass, kept and compared: did a change make something slower?

    make benchmark        or    pytest benchmarks --benchmark-autosave --benchmark-compare

The suite does not collect this file. Times are kept in .benchmarks/, for this machine.
"""

import pytest

from mgt_np.benchmark import SHAPES, ours
from mgt_np.benchmark.shapes import problem


@pytest.mark.parametrize("what", ["step", "forward"])
@pytest.mark.parametrize("rule", ["pre_ln", "mgt"])
@pytest.mark.parametrize("shape", SHAPES)
def test_speed(benchmark, shape, rule, what):
    function = getattr(ours.build(*problem(SHAPES[shape], rule)), what)
    benchmark.pedantic(function, rounds=9, warmup_rounds=1)
