"""The phase diagram: what each cell is called, and verdicts that follow the cells."""

import numpy as np
import pytest
from small_settings import small_run, verdicts

from mgt_np.experiments import phase_diagram


@pytest.mark.parametrize(
    ("rank", "growth", "name"),
    [(0.6, 2, "keeps"), (0.05, 2, "collapses"), (0.3, 2, "loses"), (0.6, 1e4, "explodes")],
)
def test_phases_of_a_cell(rank, growth, name):
    assert phase_diagram.phase({"effective_rank": rank, "growth": growth}) == name


def test_a_state_that_overflowed_counts_as_exploded():
    assert phase_diagram.phase({"effective_rank": np.nan, "growth": np.nan}) == "explodes"


def test_verdicts_follow_the_rows():
    result = small_run("phase-diagram")
    assert set(verdicts(result, effective_rank=0.7, growth=1.0)) == {"holds"}
    assert set(verdicts(result, effective_rank=0.05, growth=1.0)) == {"does not hold"}
