"""MGT's update: the gate, β, the geometric update, and what each becomes at its limits."""

import numpy as np
import pytest

from mgt_np import (
    geometric_update,
    init_mgt_residual,
    layer_norm,
    mgt_beta,
    mgt_residual,
    sigmoid,
    tangent_gate,
)

D = 8


def normals(rng, *shapes):
    return [rng.standard_normal(shape) for shape in shapes]


def numpy_gate(x, W_gate, gain=1.0, bias=0.0):
    z = x @ W_gate
    z = (z - np.mean(z, axis=-1, keepdims=True)) / np.sqrt(np.var(z, axis=-1, keepdims=True) + 1e-5)
    return 1.0 / (1.0 + np.exp(-(z * gain + bias)))


def test_the_gate_is_the_sigmoid_of_a_norm_after_the_linear_map(rng):
    x, W_gate, gain, bias = normals(rng, (2, 5, D), (D, D), D, D)
    np.testing.assert_allclose(tangent_gate(x, W_gate), numpy_gate(x, W_gate), rtol=1e-13)
    np.testing.assert_allclose(
        tangent_gate(x, W_gate, gain, bias), numpy_gate(x, W_gate, gain, bias), rtol=1e-13
    )
    before_the_map = sigmoid(layer_norm(x) @ W_gate)
    assert np.max(np.abs(tangent_gate(x, W_gate) - before_the_map)) > 0.1
    wider = tangent_gate(x, W_gate, eps=1.0)
    assert np.all(np.abs(wider - 0.5) < np.abs(tangent_gate(x, W_gate) - 0.5))


def test_the_gate_without_weights_is_its_bias(rng):
    x, gain, bias = normals(rng, (5, D), D, D)
    zero = np.zeros((D, D))
    assert np.all(tangent_gate(x, zero) == 0.5)
    np.testing.assert_allclose(
        tangent_gate(x, zero, gain, bias), np.tile(sigmoid(bias), (5, 1)), rtol=1e-15
    )


def test_the_gate_is_a_contraction_and_no_projection(rng):
    x, W_gate, v = normals(rng, (100, D), (D, D), (100, D))
    gate = tangent_gate(x, W_gate)
    assert np.all((gate > 0.0) & (gate < 1.0))
    once = gate * v
    assert np.all(np.abs(once) < np.abs(v))
    assert np.max(np.abs(gate * once - once)) > 0.1


@pytest.mark.parametrize("width", [1, D])
def test_beta_is_its_formula(width, rng):
    x, W_beta, b_beta = normals(rng, (2, 5, D), (D, width), width)
    beta = mgt_beta(x, W_beta, b_beta, lam=0.8, eps=-0.1)
    assert beta.shape == (2, 5, width)
    np.testing.assert_allclose(beta, 0.8 * np.tanh(x @ W_beta + b_beta) - 0.1, rtol=1e-13)


def test_beta_stays_in_its_range_and_begins_at_eps(rng):
    x, W_beta, b_beta = normals(rng, (500, D), (D, D), D)
    beta = mgt_beta(x, 0.5 * W_beta, b_beta, lam=0.8, eps=0.3)
    assert np.all((beta > 0.3 - 0.8) & (beta < 0.3 + 0.8))
    assert np.min(beta) < -0.4
    assert np.max(beta) > 1.0
    assert np.all(mgt_beta(x, np.zeros((D, 1)), np.zeros(1), lam=0.8, eps=0.3) == 0.3)


def test_lam_and_eps_of_one_give_the_gate_of_ddl_with_its_logit_doubled(rng):
    x, W_beta, b_beta = normals(rng, (50, D), (D, 1), 1)
    beta = mgt_beta(x, W_beta, b_beta, lam=1.0, eps=1.0)
    np.testing.assert_allclose(
        beta, 2.0 * sigmoid(2.0 * (x @ W_beta + b_beta)), rtol=1e-12, atol=1e-15
    )


def test_lam_and_eps_have_no_default(rng):
    x, W_beta, b_beta = normals(rng, (5, D), (D, 1), 1)
    with pytest.raises(TypeError, match="mgt_beta: expected an argument lam, got none"):
        mgt_beta(x, W_beta, b_beta)


@pytest.mark.parametrize("beta_shape", [(2, 5, 1), (2, 5, D)])
@pytest.mark.parametrize("alpha_shape", [(), (1,), (D,)])
def test_the_geometric_update_is_both_of_its_formulas(beta_shape, alpha_shape, rng):
    x, v, beta, alpha = normals(rng, (2, 5, D), (2, 5, D), beta_shape, alpha_shape)
    got = geometric_update(x, v, beta, np.asarray(alpha))
    assert got.shape == x.shape
    np.testing.assert_allclose(got, x + beta * (v - alpha * x), rtol=0, atol=1e-14)
    np.testing.assert_allclose(got, (1.0 - alpha * beta) * x + beta * v, rtol=0, atol=1e-13)


def test_limits_of_the_geometric_update(rng):
    x, v = normals(rng, (2, 5, D), (2, 5, D))
    assert np.array_equal(geometric_update(x, v, 0.0, 0.7), x)
    assert np.array_equal(geometric_update(x, v, 1.0, 0.0), x + v)
    np.testing.assert_allclose(geometric_update(x, v, 1.0, 1.0), v, atol=1e-15)
    np.testing.assert_allclose(geometric_update(x, v, 2.0, 1.0), 2.0 * v - x, atol=1e-15)
    np.testing.assert_allclose(geometric_update(x, v, 4.0, 0.25), 4.0 * v, atol=1e-15)


def test_the_sign_of_beta(rng):
    """β > 0 erases a part αβ; β < 0 amplifies the state and subtracts v."""
    x, v = normals(rng, (2, 5, D), (2, 5, D))
    np.testing.assert_allclose(geometric_update(x, 0.0 * v, 0.5, 0.4), 0.8 * x, rtol=1e-15)
    np.testing.assert_allclose(geometric_update(x, 0.0 * v, -0.5, 0.4), 1.2 * x, rtol=1e-15)
    np.testing.assert_allclose(geometric_update(0.0 * x, v, -0.5, 0.4), -0.5 * v, rtol=1e-15)


@pytest.mark.parametrize(
    ("alpha_beta", "grows"), [(-0.01, True), (0.0, False), (2.0, False), (2.01, True)]
)
def test_the_linear_part_does_not_grow_from_0_to_2(alpha_beta, grows, rng):
    x = rng.standard_normal((5, D))
    after = geometric_update(x, np.zeros((5, D)), alpha_beta / 0.5, 0.5)
    assert np.all(np.abs(after) > np.abs(x) * (1 + 1e-12)) == grows


def test_the_residual_is_its_three_parts_in_one(rng):
    x, v_raw, W_gate, W_beta, b_beta, gain, bias = normals(
        rng, (2, 5, D), (2, 5, D), (D, D), (D, 1), 1, D, D
    )
    alpha = np.asarray(0.3)
    got = mgt_residual(x, v_raw, W_gate, W_beta, b_beta, alpha, gain, bias, lam=0.8, eps=0.1)
    beta = 0.8 * np.tanh(x @ W_beta + b_beta) + 0.1
    expected = x + beta * (v_raw * numpy_gate(x, W_gate, gain, bias) - 0.3 * x)
    np.testing.assert_allclose(got, expected, atol=1e-13)
    bare = mgt_residual(x, v_raw, W_gate, W_beta, b_beta, 0.3, lam=0.8, eps=0.1)
    expected = x + beta * (v_raw * numpy_gate(x, W_gate) - 0.3 * x)
    np.testing.assert_allclose(bare, expected, atol=1e-13)


def test_one_token_is_enough(rng):
    x, v_raw, W_gate, W_beta = normals(rng, (3, D), (3, D), (D, D), (D, 1))
    options = {"W_gate": W_gate, "W_beta": W_beta, "b_beta": np.ones(1), "alpha": 0.3}
    three = mgt_residual(x, v_raw, **options, lam=0.8, eps=0.1)
    one = mgt_residual(x[1], v_raw[1], **options, lam=0.8, eps=0.1)
    assert one.shape == (D,)
    np.testing.assert_allclose(one, three[1], rtol=1e-13)


def test_gate_1_beta_1_alpha_0_is_the_plain_residual_exactly(rng):
    x, v_raw, W_gate = normals(rng, (2, 5, D), (2, 5, D), (D, D))
    saturated = {"gain": np.zeros(D), "bias": np.full(D, 40.0)}
    got = mgt_residual(
        x, v_raw, W_gate, np.zeros((D, 1)), np.array([40.0]), 0.0, **saturated, lam=1.0, eps=0.0
    )
    assert np.array_equal(got, x + v_raw)


def test_beta_0_is_the_identity_exactly(rng):
    x, v_raw, W_gate = normals(rng, (2, 5, D), (2, 5, D), (D, D))
    got = mgt_residual(x, v_raw, W_gate, np.zeros((D, 1)), np.zeros(1), 0.7, lam=1.0, eps=0.0)
    assert np.array_equal(got, x)


@pytest.mark.parametrize(("beta_per", "width"), [("token", 1), ("channel", D)])
def test_initial_parameters(beta_per, width, rng):
    params = init_mgt_residual(rng, D, beta_per=beta_per, b_beta=0.2, alpha=0.4, dtype="float32")
    shapes = {name: leaf.shape for name, leaf in params.items()}
    assert shapes == {
        "W_gate": (D, D),
        "W_beta": (D, width),
        "b_beta": (width,),
        "alpha": (),
        "gain": (D,),
        "bias": (D,),
    }
    assert {leaf.dtype for leaf in params.values()} == {np.dtype("float32")}
    assert float(params["alpha"]) == pytest.approx(0.4)
    x = rng.standard_normal((5, D)).astype("float32")
    beta = mgt_beta(x, params["W_beta"], params["b_beta"], lam=0.5, eps=0.1)
    np.testing.assert_allclose(beta, 0.5 * np.tanh(0.2) + 0.1, rtol=1e-6)


def test_initial_steps_are_small_and_the_gate_is_the_bare_norm(rng):
    params = init_mgt_residual(rng, D)
    assert (float(params["alpha"]), params["b_beta"].tolist()) == (0.1, [0.05])
    x = rng.standard_normal((5, D))
    gate = tangent_gate(x, params["W_gate"], params["gain"], params["bias"])
    assert np.array_equal(gate, tangent_gate(x, params["W_gate"]))
    assert np.std(init_mgt_residual(rng, 100)["W_gate"]) == pytest.approx(0.1, rel=0.03)
    assert np.std(init_mgt_residual(rng, 100, scale=0.02)["W_gate"]) == pytest.approx(
        0.02, rel=0.03
    )


def test_the_scale_of_w_beta_changes_no_other_parameter():
    draw = np.random.default_rng
    params = init_mgt_residual(draw(0), 50, beta_per="channel", beta_scale=0.02)
    assert np.std(params["W_beta"]) == pytest.approx(0.02, rel=0.05)
    assert params["W_beta"].shape == (50, 50)
    zero = init_mgt_residual(draw(0), 50, beta_per="channel")
    assert not np.any(zero.pop("W_beta"))
    del params["W_beta"]
    assert all(np.array_equal(params[name], zero[name]) for name in zero)
    assert params.keys() == zero.keys()


def test_wrong_widths_are_named():
    x, W = np.ones((5, D)), np.ones((D, D))
    with pytest.raises(ValueError, match="x has 8 features on axis −1, W_gate has 7"):
        tangent_gate(x, W[:7])
    with pytest.raises(ValueError, match="x has 8 features on axis −1, W_gate has 1"):
        tangent_gate(x, W[:, :1])
    with pytest.raises(ValueError, match="x has 8 features on axis −1, gain has 7"):
        tangent_gate(x, W, np.ones(7))
    with pytest.raises(ValueError, match=r"expected W_beta \(d 1 \| d d\).*, got shape \(8, 2\)"):
        mgt_beta(x, W[:, :2], np.ones(2), lam=1.0, eps=0.0)
    with pytest.raises(ValueError, match=r"expected W_beta \(d 1 \| d d\).*, got shape \(8,\)"):
        mgt_beta(x, np.ones(8), np.ones(1), lam=1.0, eps=0.0)
    with pytest.raises(ValueError, match="expected b_beta as wide as W_beta, 1, got 8"):
        mgt_beta(x, W[:, :1], np.ones(8), lam=1.0, eps=0.0)
    with pytest.raises(ValueError, match="x has 8 features on axis −1, v has 7"):
        geometric_update(x, np.ones((5, 7)), 0.5, 0.1)
    with pytest.raises(ValueError, match=r"expected beta .*, got shape \(5,\)"):
        geometric_update(x, x, np.ones(5), 0.1)
    with pytest.raises(ValueError, match=r"expected alpha .*, got shape \(5,\)"):
        geometric_update(x, x, 0.5, np.ones(5))
    with pytest.raises(ValueError, match="x has 8 features on axis −1, v_raw has 7"):
        mgt_residual(x, np.ones((5, 7)), W, W[:, :1], np.ones(1), 0.1, lam=1.0, eps=0.0)
    message = r"expected x \(\.\.\. d(≥1)?\), got shape \(\)"
    with pytest.raises(ValueError, match=message):
        geometric_update(np.ones(()), x, 0.5, 0.1)
    with pytest.raises(ValueError, match=message):
        mgt_beta(np.ones(()), W[:, :1], np.ones(1), lam=1.0, eps=0.0)
    with pytest.raises(ValueError, match=message):
        mgt_residual(np.ones(()), x, W, W[:, :1], np.ones(1), 0.1, lam=1.0, eps=0.0)


def test_an_unknown_shape_of_beta_is_refused(rng):
    with pytest.raises(ValueError, match="got 'tokens'; did you mean 'token'"):
        init_mgt_residual(rng, D, beta_per="tokens")
