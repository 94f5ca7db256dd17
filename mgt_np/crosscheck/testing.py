"""For other people's tests: assertions whose failures read as a review, and a suite in one line."""

import numpy as np

from mgt_np.arrays.checks import one_of

from .cases import CASES, cases_of
from .compare import compare
from .contract import CONTRACT


def case(id):
    """Return the case of that id; `case(id).run(function)` compares one function on it alone."""
    if id not in CASES:
        raise ValueError(f"case: expected the id of a case such as {next(iter(CASES))}, got {id!r}")
    return CASES[id]


def assert_matches(theirs, name, *, follows=None, dtypes=("float64", "float32"), only_case=None):
    """Raise AssertionError, with the diagnosis, unless a function is the contract's `name`.

    follows: {axis: value} of declared deviations; they have to hold.
    """
    __tracebackhide__ = True
    if only_case is not None:
        one_of([c.id for c in cases_of(name)], only_case=only_case)
    _hold({name: theirs}, name, follows, dtypes, only_case)


def _hold(target, name, follows, dtypes, only_case):
    __tracebackhide__ = True
    skip = None
    if only_case is not None:
        skip = {c.id: "another case" for c in cases_of(name) if c.id != only_case}
    report = compare(target, only=name, follows=follows, dtypes=dtypes, skip=skip)
    if not report.ok:
        raise AssertionError(str(report))


def suite(module, *, skip=None, follows=None, dtypes=("float64", "float32")):
    """Return a class of pytest tests: one for each function that the module has, and each case.

    `TestLayers = suite(my_module, skip={"softmax/extreme": "issue 12"})` in a test file is all.
    Raises ValueError for what is skipped and is no case or function, or a module without any.
    """
    import pytest

    skip = dict(skip or {})
    for name in skip:
        if name not in CASES and name not in CONTRACT:
            raise ValueError(f"suite: expected cases or functions to skip, got {name!r}")
    ids = [id for id, c in CASES.items() if callable(getattr(module, c.function, None))]
    if not ids:
        raise ValueError("suite: expected functions named as in the contract, got none")

    class Suite:
        @pytest.mark.parametrize("id", ids)
        def test_case(self, id):
            __tracebackhide__ = True
            name = CASES[id].function
            for what in (id, name):
                if what in skip:
                    pytest.skip(skip[what])
            _hold(module, name, follows, dtypes, id)

    return Suite


def assert_delta_spectrum(A, k, beta, *, rtol=1e-10):
    """Raise AssertionError unless A (..., d, d) has the spectrum of I − β k kᵀ for unit k (..., d).

    Eigenvalues 1 (d − 1 times) and 1 − β, singular values 1 and |1 − β|, determinant 1 − β, all
    x ⊥ k fixed, and A k = (1 − β) k (DDL, §3). Compares on the host in float64.
    """
    __tracebackhide__ = True
    A, k, beta = (np.asarray(x, dtype=np.float64) for x in (A, k, beta))
    d = k.shape[-1]
    if not all(np.isfinite(x).all() for x in (A, k, beta)):
        raise AssertionError("expected finite A, k and beta")
    if A.shape[-2:] != (d, d):
        raise AssertionError(f"expected A (..., {d}, {d}), got shape {A.shape}")
    length = np.linalg.norm(k, axis=-1)
    if np.max(np.abs(length - 1.0)) > 1e-6:
        raise AssertionError(f"expected k of unit length, got lengths up to {length.max():g}")
    A = np.broadcast_to(A, (*np.broadcast_shapes(A.shape[:-2], k.shape[:-1]), d, d))
    beta = np.broadcast_to(beta, A.shape[:-2])
    said = []
    if np.max(np.abs(A - np.swapaxes(A, -1, -2))) > rtol:
        said.append("A is not symmetric")
    else:
        ones = np.ones((*A.shape[:-2], d - 1))
        expected = np.sort(np.concatenate([ones, (1.0 - beta)[..., None]], axis=-1), axis=-1)
        off = np.abs(np.linalg.eigvalsh(A) - expected)
        if off.max() > rtol:
            said.append(f"its eigenvalues are off by up to {off.max():.2g}")
    singular = np.sort(
        np.concatenate([np.ones((*A.shape[:-2], d - 1)), np.abs(1.0 - beta)[..., None]], axis=-1),
        axis=-1,
    )
    off = np.abs(np.sort(np.linalg.svd(A, compute_uv=False), axis=-1) - singular)
    if off.max() > rtol:
        said.append(f"its singular values are off by up to {off.max():.2g}")
    off = np.abs(np.linalg.det(A) - (1.0 - beta))
    if off.max() > rtol * d:
        said.append(f"det A − (1 − β) is up to {off.max():.2g}")
    off = np.abs((A @ k[..., None])[..., 0] - (1.0 - beta)[..., None] * k)
    if off.max() > rtol:
        said.append(f"A k is not (1 − β) k, by up to {off.max():.2g}")
    fixed = A @ (np.eye(d) - k[..., :, None] * k[..., None, :])
    off = np.abs(fixed - (np.eye(d) - k[..., :, None] * k[..., None, :]))
    if off.max() > rtol:
        said.append(f"what is orthogonal to k is not left alone, by up to {off.max():.2g}")
    if said:
        raise AssertionError("A is not I − β k kᵀ: " + "; ".join(said))
