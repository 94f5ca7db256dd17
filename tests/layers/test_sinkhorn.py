"""Sinkhorn's iteration and Birkhoff's mixtures: what is exact after n steps, what is not yet."""

import itertools
import math

import numpy as np
import pytest
from array_libraries import host
from gradcheck import check_gradient
from recorded import agree

from mgt_np import array_namespace, birkhoff, grad, sinkhorn, softmax
from mgt_np.arrays import composed


def numpy_sinkhorn(Z, n_iters, order):
    """The iteration by diagonal scalings, D₁ exp(Z) D₂, in extended precision."""
    K = np.exp(Z.astype(np.longdouble))
    u, v = np.ones(len(K), np.longdouble), np.ones(len(K), np.longdouble)
    for _ in range(n_iters):
        for step in order.split("_"):
            if step == "rows":
                u = 1.0 / (K @ v)
            else:
                v = 1.0 / (K.T @ u)
    return (u[:, None] * K * v).astype(np.float64)


@pytest.mark.parametrize("order", ["columns_rows", "rows_columns"])
@pytest.mark.parametrize("n_iters", [1, 2, 3, 20, 100])
def test_the_iteration_is_a_scaling_by_two_diagonals(order, n_iters, rng):
    """mHC, eq. 9."""
    Z = 2.0 * rng.standard_normal((3, 5, 5))
    expected = np.stack([numpy_sinkhorn(z, n_iters, order) for z in Z])
    got = sinkhorn(Z, n_iters=n_iters, order=order)
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    with composed():
        np.testing.assert_allclose(sinkhorn(Z, n_iters=n_iters, order=order), expected, rtol=1e-13)


@pytest.mark.parametrize("n_iters", [1, 3, 20])
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
def test_the_last_sums_are_exact_and_the_norm_is_one_up_to_the_others(n_iters, scale, rng):
    """‖M‖₂² ≤ ‖M‖₁ ‖M‖_∞: the largest row sum times the largest column sum."""
    Z = scale * rng.standard_normal((50, 4, 4))
    for order, exact, other in (("columns_rows", -1, -2), ("rows_columns", -2, -1)):
        M = sinkhorn(Z, n_iters=n_iters, order=order)
        assert np.all(M > 0.0)
        np.testing.assert_allclose(np.sum(M, axis=exact), 1.0, atol=1e-15 * 8)
        sums = np.sum(M, axis=other)
        truncation = np.max(np.abs(sums - 1.0), axis=-1)
        np.testing.assert_allclose(np.mean(sums, axis=-1), 1.0, atol=1e-14)
        norms = np.linalg.norm(M, 2, axis=(-2, -1))
        assert np.all(norms <= np.sqrt(1.0 + truncation) + 1e-14)
        assert np.all(norms >= 1.0 - 1e-14)
        if scale == 4.0 and n_iters < 20:
            assert np.max(truncation) > 0.1
            assert np.max(norms) > 1.001


def test_the_columns_after_twenty_iterations(rng):
    """The numbers of the docstring: logits of standard deviation 4, n = 4."""
    Z = rng.standard_normal((2000, 4, 4))
    worst = {
        scale: np.max(np.abs(np.sum(sinkhorn(scale * Z), axis=-2) - 1.0), axis=-1)
        for scale in (1.0, 4.0)
    }
    assert np.max(worst[1.0]) < 1e-3
    assert 1e-2 < np.max(worst[4.0]) < 0.2
    assert np.median(worst[4.0]) < 3e-2


def test_products_stay_doubly_stochastic(rng):
    M = sinkhorn(rng.standard_normal((200, 4, 4)), n_iters=500)
    product = np.linalg.multi_dot(M)
    for axis in (0, 1):
        np.testing.assert_allclose(np.sum(product, axis=axis), 1.0, atol=1e-13)
    assert np.linalg.norm(product, 2) <= 1.0 + 1e-13
    assert np.all(product >= 0.0)


def test_the_limit_is_reached_and_stays(rng):
    Z = rng.standard_normal((10, 4, 4))
    limit = sinkhorn(Z, n_iters=1000)
    np.testing.assert_allclose(sinkhorn(Z, n_iters=2000), limit, rtol=1e-12)
    np.testing.assert_allclose(sinkhorn(Z, n_iters=1000, order="rows_columns"), limit, rtol=1e-12)
    np.testing.assert_allclose(sinkhorn(Z, n_iters=1000, start="softmax"), limit, rtol=1e-12)
    # cross ratios are those of exp Z: nothing but rows and columns was scaled
    ratio = lambda X: X[:, 0, 0] + X[:, 1, 2] - X[:, 0, 2] - X[:, 1, 0]  # noqa: E731
    np.testing.assert_allclose(ratio(np.log(limit)), ratio(Z), atol=1e-12)


def test_limits(rng):
    Z = rng.standard_normal((3, 4, 4))
    np.testing.assert_allclose(sinkhorn(np.zeros((4, 4)), n_iters=1), 0.25, rtol=1e-15)
    assert np.all(sinkhorn(100.0 * rng.standard_normal((7, 1, 1))) == 1.0)
    np.testing.assert_allclose(sinkhorn(Z, n_iters=0), np.exp(Z), rtol=1e-15)
    np.testing.assert_allclose(sinkhorn(Z, n_iters=0, start="softmax"), softmax(Z), rtol=1e-14)
    np.testing.assert_allclose(sinkhorn(40.0 * np.eye(4)), np.eye(4), atol=1e-15)
    np.testing.assert_allclose(
        sinkhorn(Z, temperature=0.5, n_iters=3), sinkhorn(2.0 * Z, n_iters=3), rtol=1e-14
    )


def test_what_is_normalised_first_may_be_shifted(rng):
    Z = rng.standard_normal((3, 4, 4))
    a = 5.0 * rng.standard_normal((3, 4))
    for order, shift in (("columns_rows", a[:, None, :]), ("rows_columns", a[:, :, None])):
        once = sinkhorn(Z, n_iters=1, order=order)
        np.testing.assert_allclose(sinkhorn(Z + shift, n_iters=1, order=order), once, rtol=1e-13)
        other = np.swapaxes(shift, -1, -2)
        assert np.max(np.abs(sinkhorn(Z + other, n_iters=1, order=order) - once)) > 0.1


def test_order_is_transposition(rng):
    Z = rng.standard_normal((3, 4, 4))
    by_columns = sinkhorn(Z.mT, n_iters=3, order="rows_columns").mT
    np.testing.assert_allclose(sinkhorn(Z, n_iters=3), by_columns, rtol=1e-14)


def test_a_softmax_is_the_first_normalisation_of_rows(rng):
    """With rows first it replaces one; with columns first it comes before them all."""
    Z = rng.standard_normal((3, 4, 4))
    np.testing.assert_allclose(
        sinkhorn(Z, n_iters=2, order="rows_columns", start="softmax"),
        sinkhorn(Z, n_iters=2, order="rows_columns"),
        rtol=1e-14,
    )
    np.testing.assert_allclose(
        sinkhorn(Z, n_iters=2, start="softmax"),
        sinkhorn(np.log(softmax(Z)), n_iters=2),
        rtol=1e-13,
    )
    M = softmax(Z) + 0.1
    for axis in (-2, -1, -2):
        M = M / (np.sum(M, axis=axis, keepdims=True) + 0.1)
    got = sinkhorn(Z, n_iters=2, order="rows_columns", start="softmax", eps=0.1)
    np.testing.assert_allclose(got, M, rtol=1e-14)


@pytest.mark.parametrize("spread", [30.0, 1e3, 1e6])
def test_logits_of_any_size_are_exact(spread, rng):
    """Where exp underflows in rows that the columns emptied: the two forms, and the sums."""
    Z = spread * rng.standard_normal((40, 4, 4))
    M = sinkhorn(Z)
    np.testing.assert_allclose(np.sum(M, axis=-1), 1.0, rtol=1e-14)
    with composed():
        np.testing.assert_allclose(M, sinkhorn(Z), rtol=0, atol=1e-12)
    slope = grad(lambda Z: array_namespace(Z).sum(sinkhorn(Z)[..., 0]))
    assert np.all(np.isfinite(slope(Z)))


def test_a_row_that_every_column_leaves_empty():
    Z = np.array([[0.0, 0.0, 0.0], [-2000.0, -1990.0, -2010.0], [1.0, 2.0, 3.0]])
    M = sinkhorn(Z, n_iters=1)
    expected = softmax(Z[1] - np.log(np.exp(Z[0]) + np.exp(Z[2])))
    np.testing.assert_allclose(M[1], expected, rtol=1e-12)
    np.testing.assert_allclose(np.sum(M, axis=1), 1.0, rtol=1e-15)


def test_float32_of_large_logits(library, rng):
    Z = library.asarray((300.0 * rng.standard_normal((5, 4, 4))).astype("float32"))
    M = host(sinkhorn(Z))
    assert M.dtype == np.float32
    np.testing.assert_allclose(np.sum(M, axis=-1), 1.0, rtol=1e-6)


PEERS = {
    "lucidrains": {"eps": 1e-12, "eps_form": "clamp", "shift": "columns"},
    "lucidrains_log": {},
    "marco": {"order": "rows_columns"},
    "edelta": {"order": "rows_columns", "eps": 1e-8},
    "pypi_mhc": {"order": "rows_columns", "eps": 1e-9, "shift": "rows"},
    "hf_deepseek_v4": {"order": "rows_columns", "start": "softmax", "eps": 1e-6},
    "tokenbender_tau1": {"order": "rows_columns"},
    "tokenbender_tau0p05": {"order": "rows_columns", "temperature": 0.05},
}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("n_iters", [1, 2, 3, 5, 20])
def test_recorded_implementations(peer, n_iters, golden, library):
    f = golden("sinkhorn_conventions")
    Z, R = library.asarray((f["in.logits"], f["R"]))

    def of(Z):
        return sinkhorn(Z, n_iters=n_iters, **PEERS[peer])

    agree(of(Z), f[f"out.{peer}_iters{n_iters}"])
    slope = grad(lambda Z: array_namespace(Z).sum(array_namespace(Z).multiply(of(Z), R)))(Z)
    agree(slope, f[f"gin.{peer}_iters{n_iters}"])


def total(R, **options):
    return grad(lambda Z: array_namespace(Z).sum(sinkhorn(Z, **options) * R))


@pytest.mark.parametrize("order", ["columns_rows", "rows_columns"])
def test_the_implicit_gradient_is_that_of_many_iterations(order, rng):
    Z, R = rng.standard_normal((2, 10, 4, 4))
    errors = {}
    for n_iters in (2, 8, 500):
        options = {"n_iters": n_iters, "order": order}
        implicit = total(R, gradient="implicit", **options)(Z)
        errors[n_iters] = np.max(np.abs(implicit - total(R, **options)(Z)))
        # moving a whole row or column of logits changes nothing in the limit
        if n_iters == 500:
            np.testing.assert_allclose(np.sum(implicit, axis=-1), 0.0, atol=1e-12)
            np.testing.assert_allclose(np.sum(implicit, axis=-2), 0.0, atol=1e-12)
    assert errors[500] <= 1e-12
    assert errors[2] > 1e-2 > errors[8] > 1e-7


def test_the_implicit_gradient_where_the_matrix_is_a_permutation(library, rng):
    """Without anything to mix, the linear system is singular to the last digit."""
    Z = 200.0 * np.eye(4)[[1, 0, 3, 2]] + rng.standard_normal((4, 4))
    R = library.asarray(rng.standard_normal((4, 4)))
    slope = host(total(R, gradient="implicit")(library.asarray(Z)))
    np.testing.assert_allclose(slope, 0.0, atol=1e-12)


def test_the_implicit_gradient_is_a_slope_of_the_limit(rng):
    check_gradient(
        lambda Z: sinkhorn(Z, n_iters=300, gradient="implicit"),
        rng.standard_normal((4, 4)),
        rng=rng,
    )


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_mixtures_of_permutations_are_doubly_stochastic_without_iterating(n, rng):
    w = softmax(3.0 * rng.standard_normal((6, math.factorial(n))))
    H = birkhoff(w)
    assert H.shape == (6, n, n)
    for axis in (-1, -2):
        np.testing.assert_allclose(np.sum(H, axis=axis), 1.0, atol=1e-14)
    expected = sum(
        w[:, r, None, None] * np.eye(n)[list(permutation)]
        for r, permutation in enumerate(itertools.permutations(range(n)))
    )
    np.testing.assert_allclose(H, expected, atol=1e-15)
    first = np.zeros(math.factorial(n))
    first[0] = 1.0
    assert np.array_equal(birkhoff(first), np.eye(n))
    np.testing.assert_allclose(birkhoff(np.full_like(first, 1 / first.size)), 1 / n, rtol=1e-14)


def test_every_doubly_stochastic_matrix_is_such_a_mixture(rng):
    """Birkhoff and von Neumann: take out permutations greedily until nothing is left."""
    M = sinkhorn(rng.standard_normal((4, 4)), n_iters=1000)
    permutations = [list(p) for p in itertools.permutations(range(4))]
    weights, rest = np.zeros(24), M.copy()
    for _ in range(30):
        smallest = [np.min(rest[range(4), p]) for p in permutations]
        r = int(np.argmax(smallest))
        weights[r] += smallest[r]
        rest[range(4), permutations[r]] -= smallest[r]
    np.testing.assert_allclose(birkhoff(weights), M, atol=1e-12)
    assert np.sum(weights) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "rows"}, "expected order to be one of 'columns_rows', 'rows_columns'"),
        ({"start": "log"}, "expected start to be one of 'exp', 'softmax', got 'log'"),
        ({"eps_form": "max"}, "expected eps_form to be one of 'add', 'clamp', got 'max'"),
        ({"shift": "row"}, "got 'row'; did you mean 'rows'"),
        ({"gradient": "exact"}, "expected gradient to be one of 'iterations', 'implicit'"),
        ({"n_iters": -1}, "expected n_iters to be an integer ≥ 0, got -1"),
        ({"n_iters": 2.0}, r"expected n_iters to be an integer ≥ 0, got 2\.0"),
        ({"eps": -1e-6}, "expected eps to be a number ≥ 0, got -1e-06"),
        ({"temperature": 0.0}, r"expected temperature to be a number > 0, got 0\.0"),
    ],
)
def test_unusable_options_are_refused(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sinkhorn(np.zeros((2, 2)), **options)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected logits \(\.\.\. n n\).*, got shape \(3, 4\)"):
        sinkhorn(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"expected logits \(\.\.\. n n\), got shape \(3,\)"):
        sinkhorn(np.zeros(3))
    for m in (0, 3, 5, 25):
        with pytest.raises(
            ValueError, match=rf"expected weights \(\.\.\. n!\).*, got shape \({m},\)"
        ):
            birkhoff(np.zeros(m))


def test_no_tokens_have_no_matrices():
    assert sinkhorn(np.zeros((0, 4, 4))).shape == (0, 4, 4)
    assert birkhoff(np.zeros((0, 6))).shape == (0, 3, 3)
