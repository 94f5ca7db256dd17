"""What holds for every measure: gradients, array libraries, dtypes, errors of wrong states."""

import inspect
from functools import partial

import numpy as np
import pytest
from array_libraries import on_numpy_and_strict
from cases import check_integers_are_refused, check_on, check_slopes
from measure_cases import CASES, FAMILIES, TALL, WIDE

import mgt_np
from mgt_np import analysis, grad

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


@on_numpy_and_strict
@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_stays_float32(case, library, rng):
    check_on(library, case, rng, dtype=np.float32, tolerance=2e-5)


@on_numpy_and_strict
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
    with pytest.raises(ValueError, match=r"expected X \(\.\.\. N≥. d≥1.*\).*, got shape \("):
        getattr(mgt_np, name)(np.ones(shape))
