"""Hyper-connections: equations a second time, limits, orientation, errors."""

import numpy as np
import pytest

from mgt_np import (
    hyper_connection,
    hyper_connection_coefficients,
    init_hyper_connection,
)

N, D = 3, 8


def moved(rng, params):
    return {name: x + 0.5 * rng.standard_normal(x.shape) for name, x in params.items()}


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("tanh", [True, False])
def test_the_equations_of_dynamic_hyper_connections(norm, tanh, rng):
    """Eqs 2–5 and 10–13 with the paper's shapes: B (1, n), A_m (n, 1), for one token."""
    X = rng.standard_normal((N, D))
    p = moved(rng, init_hyper_connection(rng, N, D))
    if norm == "layer":
        centred = X - np.mean(X, axis=1, keepdims=True)
        normed = centred / np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + 1e-5)
        normed = normed * p["gain"] + p["bias"]
    else:
        normed = X * np.sqrt(D) / np.linalg.norm(X, axis=1, keepdims=True) * p["gain"]
    f = np.tanh if tanh else lambda z: z
    B = p["s_beta"] * f(normed @ p["W_beta"]).T + p["B"][None]
    A_m = p["s_alpha"] * f(normed @ p["W_m"]) + p["A_m"][:, None]
    A_r = p["s_alpha"] * f(normed @ p["W_r"]) + p["A_r"]
    h_0 = A_m.T @ X
    expected = B.T @ np.sin(h_0) + A_r.T @ X
    got = hyper_connection(X, np.sin, p, norm=norm, tanh=tanh)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)
    H_pre, H_post, H_res = hyper_connection_coefficients(X, p, norm=norm, tanh=tanh)
    for H, A in ((H_pre, A_m[:, 0]), (H_post, B[0]), (H_res, A_r.T)):
        np.testing.assert_allclose(H, A, rtol=1e-12, atol=1e-13)
    static = hyper_connection(X, np.sin, p, dynamic=False)
    h_0 = p["A_m"][None] @ X
    expected = p["B"][:, None] @ np.sin(h_0) + p["A_r"].T @ X
    np.testing.assert_allclose(static, expected, rtol=1e-13, atol=1e-14)


def test_the_transpose_matters(rng):
    X = rng.standard_normal((2, N, D))
    params = {"A_m": np.ones(N), "B": np.zeros(N), "A_r": rng.standard_normal((N, N))}
    got = hyper_connection(X, np.sin, params, dynamic=False)
    np.testing.assert_allclose(got, np.einsum("ji,tjd->tid", params["A_r"], X), atol=1e-13)
    assert np.max(np.abs(got - params["A_r"] @ X)) > 0.1


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("dynamic", [True, False])
def test_every_stream_starts_as_the_plain_residual_exactly(n, dynamic, rng):
    X = rng.standard_normal((2, 5, n, D))
    params = init_hyper_connection(rng, n, D, index=n + 1)
    got = hyper_connection(X, np.sin, params, dynamic=dynamic)
    read = (n + 1) % n
    np.testing.assert_allclose(got, X + np.sin(X[..., read, :])[..., None, :], atol=1e-15)


def test_initial_parameters(rng):
    params = init_hyper_connection(rng, N, D, dtype="float32", scale=0.05)
    assert {x.dtype for x in params.values()} == {np.dtype("float32")}
    assert float(params["s_alpha"]) == float(params["s_beta"]) == pytest.approx(0.05)
    assert float(init_hyper_connection(rng, N, D)["s_alpha"]) == 0.01
    drawn = {int(np.argmax(init_hyper_connection(rng, N, D)["A_m"])) for _ in range(50)}
    assert drawn == {0, 1, 2}
    assert not any(np.any(params[name]) for name in ("W_m", "W_beta", "W_r"))
    assert len({id(x.base if x.base is not None else x) for x in params.values()}) == len(params)


def test_wrong_parameters_are_named(rng):
    X, params = np.ones((2, N, D)), init_hyper_connection(rng, N, D)

    def changed(**values):
        return lambda: hyper_connection_coefficients(X, params | values)

    for call, message in (
        (changed(A_r=np.ones((N, 2))), "X has 3 streams on axis −2, A_r has 2"),
        (changed(W_m=np.ones(D)), r"W_m \(d 1\), got shape \(8,\)"),
        (changed(s_beta=np.ones(1)), r"s_beta \(number\), got shape \(1,\)"),
        (
            lambda: hyper_connection_coefficients(X, {"A_m": 1}),
            "B is missing, A_r is missing, .*s_beta is missing",
        ),
        (lambda: hyper_connection_coefficients(X, params, norm="rmz"), "did you mean 'rms'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_numbers_for_scales_are_taken(rng):
    X, params = rng.standard_normal((2, N, D)), moved(rng, init_hyper_connection(rng, N, D))
    number = params | {"s_alpha": 0.3, "s_beta": 0.2}
    array = params | {"s_alpha": np.asarray(0.3), "s_beta": np.asarray(0.2)}
    got, expected = (hyper_connection(X, np.sin, p) for p in (number, array))
    np.testing.assert_allclose(got, expected, rtol=1e-15)
