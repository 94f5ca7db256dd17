"""Each rule of differentiation, held to central differences, and to itself on every library."""

import array_api_compat.numpy
import numpy as np
import pytest
from array_libraries import on_numpy_and_strict
from gradcheck import check_gradient, weighted
from rule_cases import CASES, assert_close, check_rule_on

from mgt_np import grad, value_and_grad
from mgt_np.arrays.differentiable import DifferentiableNamespace
from mgt_np.arrays.linalg_rules import LINALG_RULES
from mgt_np.arrays.rules import READS_NO_ARGUMENT, READS_NO_RESULT, RULES

COMPOSED = {"concat", "stack"}  # they take a list: their rules stand beside them
ALL_RULES = RULES | {f"linalg.{name}": partials for name, partials in LINALG_RULES.items()}

each_case = pytest.mark.parametrize("case", CASES, ids=str)
standard = [case for case in CASES if case.standard]
each_standard_case = pytest.mark.parametrize("case", standard, ids=str)


def test_every_rule_has_a_case():
    assert {case.rule for case in CASES} == ALL_RULES.keys() | COMPOSED


def test_what_the_tape_forgets_is_said_of_rules():
    """A name too many fails in its own cases, a misspelt one only here."""
    assert RULES.keys() >= READS_NO_ARGUMENT | READS_NO_RESULT


def test_every_argument_with_a_rule_has_a_case():
    n_traced = {rule: 0 for rule in ALL_RULES}
    for case in CASES:
        n_traced[case.rule] = max(n_traced.get(case.rule, 0), len(case.draws))
    n_partials = {rule: len(partials) for rule, partials in ALL_RULES.items()}
    n_partials["where"] -= 1  # its condition is boolean
    assert {rule: n_traced[rule] for rule in ALL_RULES} == n_partials


@each_case
def test_case_uses_the_rule_it_names(case):
    xp = DifferentiableNamespace(array_api_compat.numpy)
    case.function(xp, *case.arrays())
    if case.rule == "getitem" and "operator" in str(case):
        return
    names = vars(xp) | {f"linalg.{name}": 0 for name in vars(vars(xp).get("linalg", xp))}
    assert case.rule in names


@each_case
def test_first_and_second_derivative(case, rng):
    check_gradient(case, *case.arrays(), rng=rng, symmetric=case.symmetric)


@each_standard_case
def test_every_library_agrees_with_numpy(case, library, rng):
    check_rule_on(library, case, rng)


@on_numpy_and_strict
@pytest.mark.parametrize("case", [case for case in standard if len(case.draws) > 1], ids=str)
def test_each_argument_alone(case, library, rng):
    arrays = [library.asarray(x) for x in case.arrays()]
    R = library.asarray(rng.standard_normal(tuple(case(*arrays).shape)))
    scalar = weighted(case, R)
    together = grad(scalar)(arrays)
    for i in range(len(arrays)):
        alone = grad(lambda x, i=i: scalar([*arrays[:i], x, *arrays[i + 1 :]]))(arrays[i])
        assert_close(alone, together[i])


@on_numpy_and_strict
@each_standard_case
def test_float32_stays_float32(case, library, rng):
    arrays = case.arrays()
    R = rng.standard_normal(np.shape(case(*arrays)))
    expected = value_and_grad(weighted(case, R))(arrays)

    narrow = [library.asarray(x.astype(np.float32)) for x in arrays]
    widens = case.rule == "astype"
    R = library.asarray(R if widens else R.astype(np.float32))
    value, gradients = value_and_grad(weighted(case, R))(narrow)
    assert (value.dtype == narrow[0].dtype) != widens
    assert_close(value, expected[0], 1e-4)
    for x, g, g_wide in zip(narrow, gradients, expected[1], strict=True):
        assert g.dtype == x.dtype
        assert_close(g, g_wide, 1e-4)
