"""The package hyper-connections beside ours, with random weights: values and every gradient.

At its default start a wrong mix cannot be seen: all streams are equal, and the matrices symmetric.
Its mHC computes the coefficients in float32; that cast alone is lifted here.
"""

import dataclasses

import numpy as np
import pytest

from mgt_np import (
    MHC_CONVENTIONS,
    expand_streams,
    grad,
    hyper_connection,
    linear,
    mhc_coefficients,
    mhc_read,
    mhc_update,
    reduce_streams,
)

torch = pytest.importorskip("torch")
peer = pytest.importorskip("hyper_connections", reason="the package hyper-connections")

B, T, S, D = 2, 5, 3, 8


@pytest.fixture
def in_float64(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def with_random_weights(layer, rng):
    layer = layer.double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.as_tensor(rng.standard_normal(tuple(parameter.shape))))
    return layer


def run(layer, X, R):
    """The peer's output and gradients; its layout is (batch · streams, tokens, features)."""

    def there(x):
        return torch.tensor(np.swapaxes(x, 1, 2).reshape(B * S, T, D), dtype=torch.float64)

    def back(x):
        return np.swapaxes(x.detach().numpy().reshape(B, S, T, D), 1, 2)

    x = there(X).requires_grad_()
    y = layer(x)
    torch.sum(y * there(R)).backward()
    weights = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    gradients = {name: p.grad.numpy() for name, p in layer.named_parameters()}
    return back(y), back(x.grad), weights, gradients


def check(step, layer, rng, tolerance=1e-12):
    X, R = rng.standard_normal((2, B, T, S, D))
    y, dX, weights, gradients = run(layer, X, R)

    def total(arrays):
        X, weights = arrays
        return (step(X, weights) * R).sum()

    found, of_weights = grad(total)([X, weights])
    pairs = {"y": (step(X, weights), y), "X": (found, dX)}
    pairs |= {name: (of_weights[name], gradients[name]) for name in weights}
    for name, (got, expected) in pairs.items():
        size = max(np.max(np.abs(expected)), 1.0)
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * size, err_msg=name)


def branch_of(w):
    return lambda x: linear(x, w["branch.weight"].T, w["branch.bias"])


@pytest.mark.parametrize("tanh", [True, False])
def test_hyper_connections(tanh, rng):
    layer = peer.HyperConnections(S, dim=D, branch=torch.nn.Linear(D, D), layer_index=1, tanh=tanh)

    def step(X, w):
        params = {
            "A_m": w["static_alpha"][:, 0],
            "A_r": w["static_alpha"][:, 1:],
            "B": w["static_beta"],
            "W_m": w["dynamic_alpha_fn"][:, :1],
            "W_r": w["dynamic_alpha_fn"][:, 1:],
            "W_beta": w["dynamic_beta_fn"][:, None],
            "s_alpha": w["dynamic_alpha_scale"],
            "s_beta": w["dynamic_beta_scale"],
            "gain": w["norm.gamma"] + 1.0,
        }
        return hyper_connection(X, branch_of(w), params, norm="rms", tanh=tanh)

    check(step, with_random_weights(layer, rng), rng)


def mhc_params(w):
    fn = w["dynamic_alpha_fn"][0]
    return {
        "phi_pre": fn[:, :1],
        "phi_post": w["dynamic_beta_fn"].reshape(D, 1),
        "phi_res": fn[:, 1:],
        "b_pre": w["static_alpha"][:, 0],
        "b_post": w["static_beta"].reshape(S),
        "b_res": w["static_alpha"][:, 1:],
        "alpha_pre": w["pre_branch_scale"][0],
        "alpha_post": w["h_post_scale"],
        "alpha_res": w["residual_scale"][0],
        "gain": w["norm.gamma"] + 1.0,
    }


@pytest.mark.parametrize("n_iters", [1, 2, 20])
def test_manifold_constrained_hyper_connections(n_iters, rng, in_float64):
    layer = peer.mHC(S, dim=D, branch=torch.nn.Linear(D, D), layer_index=1, sinkhorn_iters=n_iters)

    def step(X, w):
        found = mhc_coefficients(X, mhc_params(w), convention="lucidrains", n_iters=n_iters)
        H_pre, H_post, H_res = found
        return mhc_update(X, branch_of(w)(mhc_read(X, H_pre)), H_post, H_res)

    check(step, with_random_weights(layer, rng), rng)


@pytest.mark.parametrize("n_iters", [1, 2])
def test_the_clamp_of_its_iteration(n_iters, rng, in_float64):
    """A row that the columns leave below 1e-12 is divided by that; a whole column is shifted."""
    layer = peer.mHC(S, dim=D, layer_index=1, sinkhorn_iters=n_iters)
    Z = rng.standard_normal((S, S))
    Z[1] -= 60.0
    Z[:, 2] -= 90.0
    b = {"b_pre": np.zeros(S), "b_post": np.zeros(S), "b_res": Z}
    row = dataclasses.replace(MHC_CONVENTIONS["lucidrains"], projection="static")
    ours = mhc_coefficients(np.zeros((S, D)), b, convention=row, n_iters=n_iters)[2]
    theirs = layer.residual_mix_constraint_fn(torch.tensor(Z)).numpy()
    np.testing.assert_allclose(ours, theirs.T, rtol=1e-12)
    assert np.sum(theirs[1]) < 1e-3 or n_iters > 1


def test_expanding_and_reducing(rng):
    expand, reduce = peer.get_expand_reduce_stream_functions(S)
    x = rng.standard_normal((B, T, D))
    streams = expand(torch.tensor(x))
    ours = np.swapaxes(expand_streams(x, n=S), 1, 2).reshape(B * S, T, D)
    assert np.array_equal(streams.numpy(), ours)
    X = np.swapaxes(streams.numpy().reshape(B, S, T, D), 1, 2)
    np.testing.assert_allclose(reduce(streams).numpy(), reduce_streams(X), rtol=1e-14)
