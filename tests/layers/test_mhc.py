"""mHC's coefficients: the paper's equations, ranges, n = 1, conventions told apart, errors."""

import dataclasses

import numpy as np
import pytest

from mgt_np import (
    MHC_CONVENTIONS,
    MHCConvention,
    birkhoff,
    grad,
    init_mhc_coefficients,
    mhc_coefficients,
    mhc_connection,
    mhc_read,
    mhc_read_coefficients,
    mhc_update,
    sinkhorn,
    softmax,
)

N, D = 3, 8
every_convention = pytest.mark.parametrize("convention", MHC_CONVENTIONS)


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def moved_params(rng, convention="paper", n=N, size=0.7):
    params = init_mhc_coefficients(rng, n, D, convention=convention)
    params = {name: x + size * rng.standard_normal(x.shape) for name, x in params.items()}
    if MHC_CONVENTIONS[convention].projection == "flattened":
        params["gain"] = rng.standard_normal(n * D)
    if MHC_CONVENTIONS[convention].projection == "each":
        params["gain"] = rng.standard_normal(D)
    return params


@pytest.mark.parametrize("n_iters", [None, 1, 3])
@pytest.mark.parametrize("gain", [True, False])
def test_the_paper_s_equations(n_iters, gain, rng):
    """Eqs 7–9, norm first and product after."""
    X, p = rng.standard_normal((2, 5, N, D)), moved_params(rng)
    if not gain:
        del p["gain"]
    flat = X.reshape(2, 5, N * D)
    normed = flat / np.sqrt(np.mean(flat**2, axis=-1, keepdims=True)) * p.get("gain", 1.0)
    of_pre, of_post, of_res = (
        p[f"alpha_{part}"] * (normed @ p[f"phi_{part}"]) + p[f"b_{part}"].reshape(-1)
        for part in ("pre", "post", "res")
    )
    M = np.exp(of_res.reshape(2, 5, N, N))
    for _ in range(n_iters or 20):
        M = M / np.sum(M, axis=-2, keepdims=True)
        M = M / np.sum(M, axis=-1, keepdims=True)
    H_pre, H_post, H_res = mhc_coefficients(X, p, n_iters=n_iters)
    np.testing.assert_allclose(H_pre, sigmoid(of_pre), rtol=1e-12)
    np.testing.assert_allclose(H_post, 2.0 * sigmoid(of_post), rtol=1e-12)
    np.testing.assert_allclose(H_res, M, rtol=1e-11)


@every_convention
def test_shapes_ranges_and_sums(convention, rng):
    row = MHC_CONVENTIONS[convention]
    X = rng.standard_normal((2, 5, N, D))
    H_pre, H_post, H_res = mhc_coefficients(X, moved_params(rng, convention), convention=convention)
    assert H_pre.shape == H_post.shape == (2, 5, N)
    assert H_res.shape == (2, 5, N, N)
    assert np.all((H_pre > 0.0) & (H_pre < 1.0 + 2.0 * row.pre_eps))
    assert np.all((H_post > 0.0) & (H_post < row.post_scale))
    assert np.all(H_res >= 0.0)
    last = {"columns_rows": -1, "rows_columns": -2}[row.order]
    exact = -3 - last if row.transposed else last
    np.testing.assert_allclose(np.sum(H_res, axis=exact), 1.0, atol=2.0 * row.eps + 1e-14)
    if row.mixing != "sinkhorn":
        np.testing.assert_allclose(np.sum(H_res, axis=-3 - exact), 1.0, atol=1e-14)
    if "softmax" in (row.pre, row.post):
        np.testing.assert_allclose(np.sum(H_pre, axis=-1), 1.0, rtol=1e-14)
        np.testing.assert_allclose(np.sum(H_post, axis=-1), row.post_scale, rtol=1e-14)


def test_rows_of_the_table_are_told_apart(rng):
    """Every choice is seen where all conventions get the same logits and few iterations."""
    X = rng.standard_normal((2, 5, N, D))
    b = {"b_pre": rng.standard_normal(N), "b_post": rng.standard_normal(N)}
    b["b_res"] = 1.5 * rng.standard_normal((N, N))
    others = ("huggingface", "lucidrains-log", "megatron", "static", "tokenbender")
    rows = {
        name: dataclasses.replace(row, projection="static")
        for name, row in MHC_CONVENTIONS.items()
        if name not in others and row.mixing == "sinkhorn"
    }
    found = {
        name: mhc_coefficients(X, b, convention=row, n_iters=1)[2][0, 0]
        for name, row in rows.items()
    }
    found["tokenbender"] = mhc_coefficients(
        X,
        b,
        convention=dataclasses.replace(MHC_CONVENTIONS["tokenbender"], temperature=1.0),
        n_iters=1,
    )[2][0, 0]
    alike = {
        frozenset((a, b))
        for a in found
        for b in found
        if a != b and np.max(np.abs(found[a] - found[b])) < 1e-3
    }
    # rows first on the matrix or on its transpose; ε is smaller than this test sees
    assert alike == {frozenset(("marco", "edelta")), frozenset(("deepseek-v4", "tokenbender"))}
    for name, H in found.items():
        row = MHC_CONVENTIONS[name]
        expected = sinkhorn(b["b_res"], n_iters=1, order=row.order)
        expected = expected.T if row.transposed else expected
        np.testing.assert_allclose(H, expected, atol=1e-5)


@every_convention
def test_one_stream_is_mixed_with_nothing(convention, rng):
    X = rng.standard_normal((5, 1, D))
    H_res = mhc_coefficients(X, moved_params(rng, convention, n=1), convention=convention)[2]
    eps = MHC_CONVENTIONS[convention].eps
    assert np.all(np.abs(H_res - 1.0) <= 1.1 * eps)
    if convention == "paper":
        assert np.all(H_res == 1.0)


def test_one_stream_starts_as_the_plain_residual_exactly(rng):
    X, params = rng.standard_normal((5, 1, D)), init_mhc_coefficients(rng, 1, D)
    params |= {name: np.zeros_like(params[name]) for name in params if name.startswith("phi")}
    H_pre, H_post, H_res = mhc_coefficients(X, params)
    y = np.sin(mhc_read(X, H_pre))
    assert np.array_equal(mhc_update(X, y, H_post, H_res), X + np.sin(X))


@every_convention
def test_initial_coefficients_are_near_the_plain_residual(convention, rng):
    row = MHC_CONVENTIONS[convention]
    X = rng.standard_normal((50, 4, D))
    params = init_mhc_coefficients(rng, 4, D, convention=convention)
    H_pre, H_post, H_res = mhc_coefficients(X, params, convention=convention)
    np.testing.assert_allclose(np.sum(H_pre, axis=-1), 1.0, atol=0.1)
    np.testing.assert_allclose(H_post, 0.25 if row.post == "softmax" else 1.0, atol=0.1)
    own = np.exp(6.0) / (np.exp(6.0) + 3.0)
    if row.mixing == "permutations":  # of the other 23, five leave a stream where it is
        own = (np.exp(6.0) + 5.0) / (np.exp(6.0) + 23.0)
    if row.mixing == "circulant":
        own = 1.0 - row.gamma * (1.0 - own)
    np.testing.assert_allclose(np.diagonal(H_res, axis1=-2, axis2=-1), own, atol=3e-3)
    assert np.std(H_post) > 1e-4  # n equal streams do not stay equal


def test_the_numbers_of_the_initial_mixing(rng):
    """0.7 % a layer, two thirds left after 60, and a start that cannot learn."""
    X = rng.standard_normal((1, 4, D))
    H = mhc_coefficients(X, init_mhc_coefficients(rng, 4, D, alpha=0.0))[2][0]
    assert 1.0 - H[0, 0] == pytest.approx(0.007, abs=5e-4)
    assert np.linalg.matrix_power(H, 60)[0, 0] == pytest.approx(0.66, abs=0.01)

    def kept(convention, b):
        def of(b_res):
            return mhc_coefficients(X, b | {"b_res": b_res}, convention=convention)[2][0, 0, 0]

        return np.max(np.abs(grad(of)(b["b_res"])))

    theirs = {"b_pre": np.zeros(4), "b_post": np.zeros(4), "b_res": 8.0 * np.eye(4) - 8.0}
    ours = init_mhc_coefficients(rng, 4, D, convention="tokenbender")
    assert kept("tokenbender", theirs) < 1e-60
    assert kept("tokenbender", ours) > 1e-3
    assert kept("paper", init_mhc_coefficients(rng, 4, D)) > 1e-4


@every_convention
def test_init_has_the_shapes_that_the_coefficients_want(convention, rng):
    params = init_mhc_coefficients(rng, N, D, convention=convention, dtype="float32")
    assert {x.dtype for x in params.values()} == {np.dtype("float32")}
    X = rng.standard_normal((2, N, D)).astype("float32")
    found = mhc_coefficients(X, params, convention=convention)
    assert {H.dtype for H in found} == {np.dtype("float32")}


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e6])
def test_the_length_of_the_state_does_not_matter(scale, rng):
    X, params = rng.standard_normal((5, N, D)), moved_params(rng)
    for got, expected in zip(
        mhc_coefficients(scale * X, params), mhc_coefficients(X, params), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_a_zero_state_gives_the_static_coefficients(rng):
    params = moved_params(rng)
    static = {name: params[name] for name in ("b_pre", "b_post", "b_res")}
    zero = np.zeros((2, N, D))
    for got, expected in zip(
        mhc_coefficients(zero, params),
        mhc_coefficients(zero, static, convention="static"),
        strict=True,
    ):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_streams_projected_alone_by_shared_or_by_own_columns(rng):
    """Columns of its own that are alike for all streams are shared columns."""
    X, shared = rng.standard_normal((2, 5, N, D)), moved_params(rng, "lucidrains")
    own = shared | {
        f"phi_{part}": np.tile(shared[f"phi_{part}"], (1, N)) for part in ("pre", "post", "res")
    }
    expected = mhc_coefficients(X, shared, convention="lucidrains")
    for got, wanted in zip(
        mhc_coefficients(X, own, convention="lucidrains"), expected, strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
    own = {name: x + 0.1 * rng.standard_normal(x.shape) for name, x in own.items()}
    H_pre = mhc_coefficients(X, own, convention="lucidrains")[0]
    normed = X * np.sqrt(D) / np.linalg.norm(X, axis=-1, keepdims=True) * own["gain"]
    of_pre = np.einsum("btsd,ds->bts", normed, own["phi_pre"])
    np.testing.assert_allclose(H_pre, sigmoid(own["alpha_pre"] * of_pre + own["b_pre"]), rtol=1e-12)


def test_a_row_of_one_s_own(rng):
    """TileKernels' defaults: 10 iterations, H_post in (0, 1)."""
    X, params = rng.standard_normal((2, N, D)), moved_params(rng)
    row = dataclasses.replace(MHC_CONVENTIONS["deepseek-v4"], n_iters=10, post_scale=1.0)
    theirs = mhc_coefficients(X, params, convention="deepseek-v4", n_iters=10)
    ours = mhc_coefficients(X, params, convention=row)
    np.testing.assert_allclose(ours[1], 0.5 * theirs[1], rtol=1e-14)
    assert np.array_equal(ours[2], theirs[2])
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.n_iters = 3
    with pytest.raises(TypeError, match="does not support item assignment"):
        MHC_CONVENTIONS["mine"] = row


def test_permutations_instead_of_iterations(rng):
    X, params = rng.standard_normal((2, N, D)), moved_params(rng, "mhc-lite")
    row = dataclasses.replace(MHC_CONVENTIONS["mhc-lite"], transposed=False)
    flat = X.reshape(2, N * D)
    normed = flat * np.sqrt(N * D) / np.linalg.norm(flat, axis=-1, keepdims=True) * params["gain"]
    weights = softmax(params["alpha_res"] * (normed @ params["phi_res"]) + params["b_res"])
    got = mhc_coefficients(X, params, convention=row)[2]
    np.testing.assert_allclose(got, birkhoff(weights), rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0])
def test_powers_of_a_shift_instead_of_iterations(gamma, rng):
    X, params = rng.standard_normal((2, 5, D)), moved_params(rng, "circulant", n=5)
    row = dataclasses.replace(MHC_CONVENTIONS["circulant"], gamma=gamma)
    flat = X.reshape(2, 5 * D)
    normed = flat * np.sqrt(5 * D) / np.linalg.norm(flat, axis=-1, keepdims=True) * params["gain"]
    c = softmax(params["alpha_res"] * (normed @ params["phi_res"]) + params["b_res"])
    shift = np.roll(np.eye(5), 1, axis=1)
    powers = np.stack([np.linalg.matrix_power(shift, k) for k in range(5)])
    expected = (1.0 - gamma) * np.eye(5) + gamma * np.einsum("bk,kij->bij", c, powers)
    got = mhc_coefficients(X, params, convention=row)[2]
    np.testing.assert_allclose(got, expected, atol=1e-8)  # their ε
    assert np.array_equal(got[0], np.eye(5)) == (gamma == 0.0)


def test_numbers_for_alpha_are_taken(rng):
    X, params = rng.standard_normal((2, N, D)), moved_params(rng)
    numbers = params | {f"alpha_{part}": 0.3 for part in ("pre", "post", "res")}
    arrays = {name: np.asarray(x) for name, x in numbers.items()}
    for got, expected in zip(
        mhc_coefficients(X, numbers), mhc_coefficients(X, arrays), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_wrong_parameters_are_named(rng):
    X, params = np.ones((2, N, D)), moved_params(rng)

    def changed(convention="paper", **values):
        return lambda: mhc_coefficients(X, params | values, convention=convention)

    for call, message in (
        (
            changed(phi_res=np.ones((N * D, N))),
            r"phi_res \(n·d n·n\) with n·n = 9, got shape \(24, 3\)",
        ),
        (changed(b_res=np.ones(N * N)), r"b_res \(n n\), got shape \(9,\)"),
        (changed(alpha_pre=np.ones(2)), r"alpha_pre \(number \| 1\)"),
        (changed(b_pre=np.ones(4)), "X has 3 streams on axis −2, b_pre has 4"),
        (changed(gain=np.ones(D)), r"gain \(n·d\) with n·d = 24, got shape \(8,\)"),
        (changed("lucidrains"), r"phi_pre \(d n \| d 1\)"),
        (changed("mhc-lite"), r"b_res \(n!\), got shape \(3, 3\)"),
        (changed("papr"), "got 'papr'; did you mean 'paper'"),
        (lambda: mhc_coefficients(X, {"b_pre": np.ones(N)}), "b_post is missing, b_res is missing"),
        (changed(phi=np.ones(3)), "phi is unknown"),
        (lambda: mhc_coefficients(X, params, n_iters=1.5), r"n_iters to be an integer ≥ 0"),
        (lambda: mhc_coefficients(np.ones(D), params), r"X \(.*\), got shape \(8,\)"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()
    for name in ("alpha_post", "phi_pre"):
        some = {key: x for key, x in params.items() if key != name}
        with pytest.raises(ValueError, match=f"{name} is missing"):
            mhc_coefficients(X, some)
    with pytest.raises(TypeError, match=r"expected X to be an array \(.*\), got list"):
        mhc_coefficients([[1.0]], params)


def test_a_convention_is_given_by_names():
    with pytest.raises(TypeError, match="positional"):
        MHCConvention("flattened")


@pytest.mark.parametrize("convention", ["paper", "deepseek-v4", "lucidrains", "tokenbender"])
def test_a_connection_is_its_three_steps(convention, rng):
    """mHC, eq. 3."""
    X, params = (
        rng.standard_normal((2, N, D)),
        init_mhc_coefficients(rng, N, D, convention=convention),
    )
    H_pre, H_post, H_res = mhc_coefficients(X, params, convention=convention)
    expected = mhc_update(X, np.tanh(mhc_read(X, H_pre)), H_post, H_res)
    np.testing.assert_array_equal(
        mhc_connection(X, np.tanh, params, convention=convention), expected
    )
    few = mhc_connection(X, np.tanh, params, convention=convention, n_iters=0)
    assert np.max(np.abs(few - expected)) > 1e-6


@pytest.mark.parametrize("convention", MHC_CONVENTIONS)
def test_what_reads_alone_is_h_pre(convention, rng):
    """mHC, eqs 7 and 8."""
    X, params = (
        rng.standard_normal((2, N, D)),
        init_mhc_coefficients(rng, N, D, convention=convention),
    )
    expected = mhc_coefficients(X, params, convention=convention)[0]
    pre = {name: x for name, x in params.items() if name.endswith("_pre")}
    got = mhc_read_coefficients(X, pre, convention=convention)
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    with pytest.raises(ValueError, match="b_post is unknown"):
        mhc_read_coefficients(X, pre | {"b_post": np.ones(N)}, convention=convention)


def test_static_coefficients_are_asked_for(rng):
    """A parameter that is missing makes no other layer of it."""
    b = {"b_pre": np.ones(N), "b_post": np.ones(N), "b_res": np.eye(N)}
    with pytest.raises(ValueError, match="phi_pre is missing"):
        mhc_coefficients(np.ones((2, N, D)), b)
    H_pre, _, _ = mhc_coefficients(np.ones((2, N, D)), b, convention="static")
    np.testing.assert_allclose(H_pre, 1.0 / (1.0 + np.exp(-1.0)), rtol=1e-15)
