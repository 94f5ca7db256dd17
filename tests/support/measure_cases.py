"""One row or more for every measure: what the contract of measures is asked of."""

from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
from cases import Case

from mgt_np import analysis

_RNG = np.random.default_rng(1)
WIDE, TALL = _RNG.standard_normal((2, 4, 6)), _RNG.standard_normal((2, 6, 4))
WEIGHTS = _RNG.dirichlet(np.full(5, 5.0), (2, 3))


CASES = (
    Case("effective_rank wide", analysis.effective_rank, (WIDE,)),
    Case("effective_rank tall", analysis.effective_rank, (TALL,)),
    Case(
        "effective_rank centred wide",
        partial(analysis.effective_rank, center=True),
        (WIDE,),
        order=1,
    ),
    Case("effective_rank centred tall", partial(analysis.effective_rank, center=True), (TALL,)),
    Case(
        "effective_rank normalized squared",
        partial(analysis.effective_rank, normalize=True, power=2),
        (WIDE,),
    ),
    Case("stable_rank", analysis.stable_rank, (WIDE,)),
    Case("participation_ratio", analysis.participation_ratio, (TALL,)),
    Case("token_residual", analysis.token_residual, (WIDE,)),
    Case("composite_norm", analysis.composite_norm, (WIDE,)),
    Case("relative_residual", analysis.relative_residual, (WIDE,)),
    Case("mean_cosine_similarity", analysis.mean_cosine_similarity, (WIDE,)),
    Case("state_norm", analysis.state_norm, (WIDE,)),
    Case("attention_entropy", analysis.attention_entropy, (WEIGHTS,)),
)
# Later families of measures have their rows in cases_<family>.py.
FAMILIES = [import_module(path.stem) for path in sorted(Path(__file__).parent.glob("cases_*.py"))]
CASES += tuple(case for family in FAMILIES for case in getattr(family, "MEASURE_CASES", ()))
