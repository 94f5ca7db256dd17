"""Optimizers: PyTorch's trajectories, recorded and run beside, on every array library."""

from functools import partial

import numpy as np
import pytest
from recorded import agree

from mgt_np import value_and_grad
from mgt_np.arrays import array_namespace, to_host, tree_map
from mgt_np.training import (
    adamw_init,
    adamw_update,
    clip_by_global_norm,
    global_norm,
    learning_rate,
    sgd_init,
    sgd_update,
)

NAMES = ("W", "b", "s")


def tree_of(file, prefix, i=None):
    """The three recorded arrays, at one step."""
    return {name: np.asarray(file[f"{prefix}.{name}"][() if i is None else i]) for name in NAMES}


def on(library, tree):
    return tree_map(library.asarray, tree)


def agree_all(got, expected):
    for name in NAMES:
        agree(got[name], expected[name])


def test_adamw_is_pytorchs_step_by_step(golden, library):
    file = golden("torch_optim_adamw_default")
    params = on(library, tree_of(file, "out.params", 0))
    state = adamw_init(params)
    for i in range(5):
        params, state = adamw_update(
            params, on(library, tree_of(file, "in.grads", i)), state, lr=1e-3
        )
        agree_all(params, tree_of(file, "out.params", i + 1))
        agree_all(state["mean"], tree_of(file, "out.exp_avg", i))
        agree_all(state["square"], tree_of(file, "out.exp_avg_sq", i))
    assert state["step"] == 5


def test_sgd_with_momentum_is_pytorchs_step_by_step(golden, library):
    file = golden("torch_optim_sgd_momentum")
    params = on(library, tree_of(file, "out.params", 0))
    state = sgd_init(params)
    options = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}
    for i in range(5):
        params, state = sgd_update(
            params, on(library, tree_of(file, "in.grads", i)), state, **options
        )
        agree_all(params, tree_of(file, "out.params", i + 1))


def test_clipping_is_pytorchs(golden, library):
    file = golden("torch_clip_grad_norm")
    clipped, norm = clip_by_global_norm(on(library, tree_of(file, "in.grad")), 1.0)
    agree(norm, file["out.total_norm"])
    agree_all(clipped, tree_of(file, "out.grad"))


def loss_of(params, X, Y):
    """The recorded trainings' problem."""
    xp = array_namespace(X, params["W"])
    error = xp.tanh(xp.matmul(X, params["W"]) + params["b"]) * params["s"] - Y
    return 3.0 * xp.mean(error * error)


TRAININGS = {
    "torch_train20_adamw_clip": (
        adamw_init,
        adamw_update,
        {"betas": (0.9, 0.95), "weight_decay": 0.1},
    ),
    "torch_train20_adamw_clip_cosine_warmup": (adamw_init, adamw_update, {"weight_decay": 0.05}),
    "torch_train20_sgd_nesterov": (sgd_init, sgd_update, {"momentum": 0.9, "nesterov": True}),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_twenty_steps_of_training_are_pytorchs(golden, library, name):
    file = golden(name)
    init, update, options = TRAININGS[name]
    X, Y = on(library, [file["in.X"], file["in.Y"]])
    params = on(library, tree_of(file, "w"))
    state = init(params)
    for i in range(20):
        loss, gradients = value_and_grad(loss_of)(params, X, Y)
        agree(loss, file["out.loss"][i])
        agree_all(gradients, tree_of(file, "out.grads", i))
        if "cfg.max_norm" in file:
            gradients, norm = clip_by_global_norm(gradients, float(file["cfg.max_norm"]))
            agree(norm, file["out.total_norm"][i])
        lr = float(file["cfg.lr"])
        if "warmup" in name:
            lr = learning_rate(i, peak=lr, warmup=5, n_steps=20)
            assert lr == pytest.approx(file["out.lr"][i], rel=1e-14)
        params, state = update(params, gradients, state, lr=lr, **options)
        agree_all(params, tree_of(file, "out.params", i + 1))


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_two_hundred_steps_beside_the_installed_pytorch(rng, kind):
    torch = pytest.importorskip("torch")
    start = {"W": rng.standard_normal((3, 4)), "b": rng.standard_normal(4), "s": np.asarray(1.5)}
    X, Y = rng.standard_normal((6, 3)), rng.standard_normal((6, 4))
    theirs = {n: torch.tensor(x, requires_grad=True) for n, x in start.items()}
    if kind == "adamw":
        optimizer = torch.optim.AdamW(theirs.values(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
        init, options = adamw_init, {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.1}
        update = adamw_update
    else:
        optimizer = torch.optim.SGD(theirs.values(), lr=0.02, momentum=0.9, weight_decay=0.01)
        init, options = sgd_init, {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.01}
        update = sgd_update
    ours, state = start, init(start)
    for _ in range(200):
        optimizer.zero_grad()
        loss = loss_of(theirs, torch.tensor(X), torch.tensor(Y))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.values(), 1.0)
        optimizer.step()
        value, gradients = value_and_grad(loss_of)(ours, X, Y)
        gradients, _ = clip_by_global_norm(gradients, 1.0)
        ours, state = update(ours, gradients, state, **options)
        assert float(value) == pytest.approx(float(loss.detach()), rel=1e-12)
    for name in NAMES:
        np.testing.assert_allclose(ours[name], theirs[name].detach().numpy(), rtol=0, atol=1e-12)


def test_a_gradient_of_constant_sign_steps_by_the_learning_rate(library):
    """AdamW's limit, whatever the size of the gradient."""
    for size in (1e-3, 1e3):
        params = [library.asarray(np.zeros(2))]
        state = adamw_init(params)
        gradient = [library.asarray(np.asarray([size, -size]))]
        for _ in range(300):
            before = params
            params, state = adamw_update(params, gradient, state, lr=0.1, weight_decay=0.0)
        np.testing.assert_allclose(
            to_host(params[0] - before[0]), [-0.1, 0.1], rtol=1e-4, err_msg=str(size)
        )


def test_dtype_and_order_of_keys_stay(library):
    params = {
        "a": library.asarray(np.ones(2, np.float32)),
        "b": library.asarray(np.zeros(3, np.float32)),
    }
    gradients = {"b": params["b"] + 1.0, "a": params["a"] + 1.0}
    for init, update in ((adamw_init, adamw_update), (sgd_init, partial(sgd_update, momentum=0.9))):
        new, state = update(params, gradients, init(params), lr=0.1)
        assert list(new) == ["a", "b"]
        assert (new["a"].shape, new["b"].shape) == ((2,), (3,))
        assert {str(leaf.dtype).rpartition(".")[2] for leaf in new.values()} == {"float32"}
        assert state["step"] == 1


def test_small_gradients_are_not_clipped_and_large_ones_have_the_norm():
    gradients = {"a": np.asarray([3.0]), "b": np.asarray([[4.0]])}
    assert float(global_norm(gradients)) == 5.0
    same, norm = clip_by_global_norm(gradients, 5.1)
    assert (float(same["a"][0]), float(norm)) == (3.0, 5.0)
    clipped, _ = clip_by_global_norm(gradients, 0.5)
    assert float(global_norm(clipped)) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p, s: adamw_update(p, [p[0], p[0]], s, lr=0.1), "trees of one shape"),
        (lambda p, s: adamw_update(p, p, s, lr=-0.1), "lr of at least 0, got -0.1"),
        (lambda p, s: adamw_update(p, p, s, lr=float("nan")), "lr of at least 0, got nan"),
        (lambda p, s: adamw_update(p, p, s, lr=0.1, betas=(0.9, 1.0)), r"betas in \[0, 1\)"),
        (lambda p, s: sgd_update(p, p, sgd_init(p), lr=0.1, momentum=-1.0), "momentum of at"),
        (lambda p, s: clip_by_global_norm(p, -1.0), "max_norm of at least 0"),
        (lambda p, s: global_norm([]), "got an empty one"),
    ],
    ids=["trees", "lr", "nan", "betas", "momentum", "max_norm", "empty"],
)
def test_what_cannot_be_is_refused(call, words):
    params = [np.ones(2)]
    with pytest.raises(ValueError, match=words):
        call(params, adamw_init(params))
