"""The delta rule over a sequence: two forms of one operator, and what it remembers."""

import autograd.numpy as anp
import numpy as np
import pytest

from mgt_np import delta_product, delta_rule, delta_update, grad
from mgt_np.arrays import array_namespace, to_host

B, T, K, V = 2, 11, 4, 3


def sequence(rng, n=None, *, decay=False, state=False):
    """q, k, v, β, log α, S: β in (0, 2), unit k, n steps a token or one without an axis for it."""
    steps = () if n is None else (n,)
    k = rng.standard_normal((B, T, *steps, K))
    return (
        rng.standard_normal((B, T, K)),
        k / np.linalg.norm(k, axis=-1, keepdims=True),
        rng.standard_normal((B, T, *steps, V)),
        rng.uniform(0.0, 2.0, (B, T, *steps)),
        -(rng.standard_normal((B, T)) ** 2) if decay else None,
        rng.standard_normal((B, K, V)) if state else None,
    )


def written_out(q, k, v, beta, log_alpha, S, scale):
    """Each sequence by itself in plain NumPy: erase with k kᵀ, write k vᵀ, read with q."""
    if k.ndim == q.ndim:
        k, v, beta = k[:, :, None], v[:, :, None], beta[:, :, None]
    outputs, states = np.empty((B, T, V)), []
    for b in range(B):
        state = np.zeros((K, V)) if S is None else S[b]
        for t in range(T):
            state = state if log_alpha is None else np.exp(log_alpha[b, t]) * state
            for j in range(k.shape[2]):
                erased = np.eye(K) - beta[b, t, j] * np.outer(k[b, t, j], k[b, t, j])
                state = erased @ state + beta[b, t, j] * np.outer(k[b, t, j], v[b, t, j])
            outputs[b, t] = scale * q[b, t] @ state
        states.append(state)
    return outputs, np.stack(states)


VARIANTS = [
    pytest.param({"n": n, "decay": decay, "state": state}, id=f"{n}-{decay=}-{state=}")
    for n in (None, 1, 3)
    for decay in (False, True)
    for state in (False, True)
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_forms_are_the_equation(variant, rng):
    arrays = sequence(rng, **variant)
    expected, last = written_out(*arrays, scale=0.7)
    forms = [{"form": "recurrent"}, *({"chunk_size": size} for size in (1, 2, 4, 11, 64))]
    for form in forms:
        o, S = delta_rule(*arrays, **form, scale=0.7, with_state=True)
        np.testing.assert_allclose(o, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(S, last, rtol=0, atol=1e-12)
        assert np.array_equal(delta_rule(*arrays, **form, scale=0.7), o)


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_forms_have_the_same_gradients(variant, library, rng):
    names = ("q", "k", "v", "beta", "log_alpha", "initial_state")
    arrays = zip(names, sequence(rng, **variant), strict=True)
    there = library.asarray({name: x for name, x in arrays if x is not None})
    R, R_S = library.asarray([rng.standard_normal((B, T, V)), rng.standard_normal((B, K, V))])

    def of_form(**options):
        def scalar(arrays):
            o, S = delta_rule(**arrays, **options, with_state=True)
            xp = array_namespace(o)
            return xp.sum(xp.multiply(o, R)) + xp.sum(xp.multiply(S, R_S))

        return {name: to_host(g) for name, g in grad(scalar)(there).items()}

    expected = of_form(form="recurrent")
    for size in (2, 4, 64):
        for name, g in of_form(chunk_size=size).items():
            wanted = expected[name]
            np.testing.assert_allclose(g, wanted, rtol=0, atol=1e-12 * np.max(np.abs(wanted)))


def test_one_step_is_delta_update(rng):
    q, k, v, beta, _, S = sequence(rng, state=True)
    _, after = delta_rule(
        q[:, :1], k[:, :1], v[:, :1], beta[:, :1], initial_state=S, with_state=True
    )
    np.testing.assert_allclose(after, delta_update(S, k[:, 0], v[:, 0], beta[:, 0]), atol=1e-14)


@pytest.mark.parametrize("form", ["chunked", "recurrent"])
def test_time_multiplies_delta_operators_as_depth_does(form, rng):
    """With v = 0 and no decay the last state is `delta_product` of all steps times the first."""
    q, k, v, beta, _, S = sequence(rng, 3, state=True)
    options = {"initial_state": S, "form": form, "chunk_size": 4, "with_state": True}
    _, last = delta_rule(q, k, 0.0 * v, beta, **options)
    product = delta_product(k.reshape(B, T * 3, K), beta.reshape(B, T * 3))
    np.testing.assert_allclose(last, product @ S, atol=1e-12)


def test_beta_1_remembers_the_last_value_of_a_key(rng):
    """Orthonormal keys that come again: the state answers with what was written last."""
    keys, _ = np.linalg.qr(rng.standard_normal((K, K)))
    order = rng.integers(0, K, T)
    v = rng.standard_normal((T, V))
    q = np.tile(keys[order[2]], (T, 1))
    o = delta_rule(q, keys[order], v, np.ones(T), chunk_size=3)
    for t in range(2, T):
        written = max(s for s in range(t + 1) if order[s] == order[2])
        np.testing.assert_allclose(o[t], v[written], atol=1e-13)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("form", ["chunked", "recurrent"])
def test_later_tokens_change_nothing(form, variant, rng):
    arrays, other = sequence(rng, **variant), sequence(rng, **variant)
    mixed = [
        x if x is None else np.concatenate([x[:, :6], y[:, 6:]], axis=1)
        for x, y in zip(arrays[:5], other[:5], strict=True)
    ]
    here, there = (
        delta_rule(*each, arrays[5], form=form, chunk_size=4) for each in (arrays[:5], mixed)
    )
    np.testing.assert_allclose(here[:, :6], there[:, :6], rtol=0, atol=1e-13)
    assert np.all(np.any(here[:, 6:] != there[:, 6:], axis=-1))


def test_a_sequence_may_be_cut_and_gone_on_with(rng):
    *arrays, S = sequence(rng, decay=True, state=True)
    whole, last = delta_rule(*arrays, S, chunk_size=4, with_state=True)
    first, state = delta_rule(*(x[:, :5] for x in arrays), S, with_state=True)
    second, state = delta_rule(*(x[:, 5:] for x in arrays), state, with_state=True)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, atol=1e-12)
    np.testing.assert_allclose(state, last, atol=1e-12)


def test_limits_of_gate_and_decay(rng):
    q, k, v, beta, _, S = sequence(rng, state=True)
    for form in ("chunked", "recurrent"):
        options = {"form": form, "chunk_size": 4}
        plain = delta_rule(q, k, v, beta, **options)
        kept = delta_rule(q, k, v, beta, np.zeros((B, T)), **options)
        np.testing.assert_allclose(kept, plain, atol=1e-13)
        still = delta_rule(q, k, v, 0.0 * beta, initial_state=S, **options)
        np.testing.assert_allclose(still, q @ S, atol=1e-13)
        forgotten = delta_rule(q, k, v, beta, np.full((B, T), -800.0), S, **options)
        alone = beta[..., None] * np.sum(q * k, axis=-1, keepdims=True) * v
        np.testing.assert_allclose(forgotten, alone, atol=1e-13)


def test_leading_axes_are_free(rng):
    arrays = sequence(rng, 2, decay=True, state=True)
    expected = delta_rule(*arrays, chunk_size=4)
    one = np.stack([delta_rule(*(x[b] for x in arrays), chunk_size=4) for b in range(B)])
    np.testing.assert_allclose(one, expected, atol=1e-13)
    heads = [np.stack([x, x], axis=1) for x in arrays]
    for form in ("chunked", "recurrent"):
        two = delta_rule(*heads, chunk_size=4, form=form)
        np.testing.assert_allclose(two, np.stack([expected, expected], axis=1), atol=1e-12)


def test_a_sequence_of_reflections_stays_exact(rng):
    """β = 2 throughout, 300 steps: the chunks' triangular systems lose no more than 1e-12."""
    T = 300
    q, k, v = (rng.standard_normal((T, 16)) for _ in range(3))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    beta, S = np.full(T, 2.0), rng.standard_normal((16, 16))
    recurrent, chunked = (
        delta_rule(q, k, 0.0 * v, beta, None, S, form=form) for form in ("recurrent", "chunked")
    )
    np.testing.assert_allclose(chunked, recurrent, rtol=0, atol=1e-12)


RESETS = [(-np.inf, "float64"), (-1e18, "float64"), (-1e9, "float32"), (-np.inf, "float32")]


@pytest.mark.parametrize("n", [None, 3])
@pytest.mark.parametrize(("reset", "dtype"), RESETS)
def test_a_decay_of_0_empties_the_state(reset, dtype, n, rng):
    """In both forms, and their gradients: what comes behind it is a sequence of its own."""
    arrays = sequence(rng, n, decay=True, state=True)
    arrays[4][:, [3, 6, 7]] = reset
    arrays = [x.astype(dtype) for x in arrays]
    R = rng.standard_normal((B, T, V)).astype(dtype)
    tolerance = 1e-12 if dtype == "float64" else 1e-5

    def of_form(**options):
        def scalar(arrays):
            return anp.sum(delta_rule(*arrays, **options) * R)

        return [delta_rule(*arrays, **options), *grad(scalar)(arrays)]

    expected = of_form(form="recurrent")
    assert all(np.all(np.isfinite(x)) for x in expected)
    alone = delta_rule(*(x[:, 7:] for x in arrays[:5]), form="recurrent")
    np.testing.assert_allclose(expected[0][:, 7:], alone, rtol=0, atol=tolerance)
    for size in (2, 4, 64):
        for got, wanted in zip(of_form(chunk_size=size), expected, strict=True):
            np.testing.assert_allclose(
                got, wanted, rtol=0, atol=tolerance * max(1.0, np.max(np.abs(wanted)))
            )


def test_large_decays_cost_the_later_tokens_no_digits(rng):
    q, k, v, beta, _, S = sequence(rng, state=True)
    log_alpha = np.full((B, T), -0.1)
    log_alpha[:, :4] = -1e5
    arrays = [x.astype("float32") for x in (q, k, v, beta, log_alpha, S)]
    expected = delta_rule(*(x.astype("float64") for x in arrays), form="recurrent")
    np.testing.assert_allclose(delta_rule(*arrays), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["chunked", "recurrent"])
def test_half_precision_and_numpy_s_numbers(form, rng):
    arrays = sequence(rng, decay=True, state=True)
    half, single = ([x.astype(dtype) for x in arrays] for dtype in ("float16", "float32"))
    o, S = delta_rule(*half, form=form, with_state=True)
    assert o.dtype == S.dtype == np.float16
    np.testing.assert_allclose(o, delta_rule(*single, form=form), atol=0.05)
    scaled = delta_rule(*single, form=form, scale=np.float64(0.5))
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, delta_rule(*single, form=form, scale=0.5))


def test_what_does_not_fit_is_named(rng):
    q, k, v, beta, log_alpha, S = sequence(rng, decay=True, state=True)
    wrong = {
        "k": (k[..., :3], "q has 4 key features on axis −1, k has 3"),
        "v": (v[:, :5], "q has 11 tokens on axis −2, v has 5"),
        "beta": (beta[..., None], "expected k, v and beta with one axis for the steps"),
        "log_alpha": (log_alpha[:, 1:], "q has 11 tokens on axis −2, log_alpha has 10"),
        "initial_state": (S[0], r"expected initial_state .* with \.\.\. = \(2,\) as in q"),
    }
    right = {"q": q, "k": k, "v": v, "beta": beta, "log_alpha": log_alpha, "initial_state": S}
    for name, (x, message) in wrong.items():
        with pytest.raises(ValueError, match=message):
            delta_rule(**right | {name: x})
    with pytest.raises(ValueError, match=r"expected q \(\.\.\. T≥1 d_k\) with T≥1"):
        delta_rule(*(x[:, :0] for x in (q, k, v, beta)))
    with pytest.raises(ValueError, match="one of 'chunked', 'recurrent', got 'parallel'"):
        delta_rule(q, k, v, beta, form="parallel")
    for size in (0, 2.5, None):
        with pytest.raises((TypeError, ValueError), match="expected chunk_size to be an integer ≥"):
            delta_rule(q, k, v, beta, chunk_size=size)
    with pytest.raises(TypeError, match=r"expected beta to be an array .*, got 0\.5"):
        delta_rule(q, k, v, 0.5)
    with pytest.raises(TypeError, match="expected scale to be a number, got None"):
        delta_rule(q, k, v, beta, scale=None)
