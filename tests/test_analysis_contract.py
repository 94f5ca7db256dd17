"""What holds for every measure: gradients, array libraries, dtypes, errors of wrong states."""

import inspect
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from cases import Case, check_integers_are_refused, check_on, check_slopes

import mgt_np
from mgt_np import analysis, grad

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
# Later families of measures have their rows in tests/cases_<family>.py.
FAMILIES = [import_module(path.stem) for path in sorted(Path(__file__).parent.glob("cases_*.py"))]
CASES += tuple(case for family in FAMILIES for case in getattr(family, "MEASURE_CASES", ()))
FUNCTIONS = {name for name in analysis.__all__ if inspect.isfunction(getattr(analysis, name))}
OF_OTHER_THINGS = {"attention_entropy"}.union(
    *(getattr(family, "NOT_OF_STATES", ()) for family in FAMILIES)
)
NOT_DIFFERENTIATED = set().union(
    *(getattr(family, "MEASURES_NOT_DIFFERENTIATED", ()) for family in FAMILIES)
)
OF_STATES = sorted(FUNCTIONS - OF_OTHER_THINGS - NOT_DIFFERENTIATED)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_slopes(case, rng):
    check_slopes(case, rng)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_library_agrees_with_numpy(case, library, rng):
    check_on(library, case, rng)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_stays_float32(case, library, rng):
    check_on(library, case, rng, dtype=np.float32, tolerance=2e-5)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_integers_are_refused(case, library):
    check_integers_are_refused(case, library)


def test_the_centred_rank_of_few_tokens_refuses_second_derivatives():
    """N centred tokens of N features or more have a singular value 0, where σ has a kink."""
    rank = partial(analysis.effective_rank, center=True)
    slope = grad(lambda X: (grad(rank)(X) ** 2).sum())
    assert np.all(np.isfinite(slope(TALL[0])))
    with pytest.raises(ValueError, match="no gradient here: expected positive singular values"):
        slope(WIDE[0])


def test_the_table_is_complete():
    assert {case.name.split()[0] for case in CASES} | NOT_DIFFERENTIATED == FUNCTIONS
    assert FUNCTIONS.issubset(mgt_np.__all__)


@pytest.mark.parametrize("name", OF_STATES)
def test_every_sequence_is_measured_by_itself(name, rng):
    measure, X = getattr(mgt_np, name), rng.standard_normal((2, 3, 5, 4))
    together = measure(X)
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(together[i], measure(X[i]), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", OF_STATES)
def test_no_sequences_have_no_measures(name):
    assert np.size(getattr(mgt_np, name)(np.ones((2, 0, 3, 4)))) == 0


@pytest.mark.parametrize("name", OF_STATES)
@pytest.mark.parametrize("shape", [(), (4,), (0, 4), (3, 0)])
def test_what_is_no_matrix_of_tokens_is_refused(name, shape):
    with pytest.raises(ValueError, match=r"expected X to have shape \(\.\.\., N, d\), got \("):
        getattr(mgt_np, name)(np.ones(shape))
