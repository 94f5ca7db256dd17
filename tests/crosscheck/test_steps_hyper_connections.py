"""Hyper-connections step by step: each choice is the layer with an argument changed, or by hand."""

import dataclasses
import itertools

import numpy as np
import pytest

from mgt_np import layers
from mgt_np.crosscheck import noise
from mgt_np.crosscheck.cases import cases_of
from mgt_np.crosscheck.contract import CONTRACT, SUBLAYER, arguments, results
from mgt_np.crosscheck.steps import BUGS
from mgt_np.crosscheck.steps.hyper_connections import STEPS

CASES = [case for name in STEPS for case in cases_of(name)]
CENTRES = STEPS["mhc_coefficients"].centres
CONVENTIONS = ("paper", *CENTRES)
RNG_SEED = 20240618
N, D = 3, 4


def error(got, expected):
    """The largest error of several results, each relative to its largest entry."""
    return max(
        float(np.max(np.abs(got[name] - expected[name])) / np.max(np.abs(expected[name])))
        for name in expected
    )


def composed(name, arrays, options=()):
    return results(CONTRACT[name], STEPS[name].compute(**arrays, **dict(options)))


def layer(name, arrays, options=()):
    checked = CONTRACT[name]
    return results(checked, checked.function(**arguments(checked, arrays, dict(options))))


def mhc(scale=1.0, b_res=0.0):
    rng = np.random.default_rng(RNG_SEED)
    made = {
        "X": scale * rng.standard_normal((2, 3, N, D)),
        "gain": 1.4 + 0.5 * rng.standard_normal(N * D),
    }
    for part, width in (("pre", N), ("post", N), ("res", N * N)):
        made[f"phi_{part}"] = 0.5 * rng.standard_normal((N * D, width))
        made[f"b_{part}"] = rng.standard_normal(width)
        made[f"alpha_{part}"] = np.asarray(rng.uniform(0.4, 0.9))
    made["b_res"] = made["b_res"].reshape(N, N) + b_res
    return made


def hyper():
    rng = np.random.default_rng(RNG_SEED)
    shapes = {"A_m": N, "B": N, "A_r": (N, N), "W_m": (D, 1), "W_beta": (D, 1), "W_r": (D, N)}
    made = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    made |= {"X": rng.standard_normal((2, 3, N, D)), "gain": 1.3 + rng.standard_normal(D)}
    made |= {"bias": rng.standard_normal(D), "s_alpha": np.asarray(0.7)}
    return made | {"s_beta": np.asarray(0.4)}


def inputs(name):
    """Calls of a function on which its readings show: arrays and options."""
    calls = [(case.arrays, case.options) for case in cases_of(name)]
    if name.startswith("mhc"):
        calls += [
            (mhc(scale, b_res), {"convention": convention, "n_iters": 2})
            for convention in CONVENTIONS
            for scale in (1.0, 1e-7)
            for b_res in (0.0, -16.0, -31.0)
        ]
    return calls


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_first_choices_are_the_layer(case):
    made = composed(case.function, case.arrays, case.options)
    assert error(made, layer(case.function, case.arrays, case.options)) <= 1e-13


@pytest.mark.parametrize("b_res", [0.0, -16.0])
@pytest.mark.parametrize("n_iters", [None, 0, 1, 3])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", ["mhc_coefficients", "mhc_connection"])
def test_a_convention_is_the_layer_s_and_its_centre(name, convention, n_iters, b_res):
    arrays = mhc(1e-3, b_res)
    options = {"n_iters": n_iters}
    expected = layer(name, arrays, options | {"convention": convention})
    assert error(composed(name, arrays, options | {"convention": convention}), expected) <= 1e-13
    centre = STEPS[name].centres.get(convention, {})
    assert error(composed(name, arrays, options | centre), expected) <= 1e-13


def test_the_centres_are_those_of_flattened_streams():
    assert list(CENTRES) == ["deepseek-v4", "megatron", "marco", "edelta"]


@pytest.mark.parametrize("left_out", ["gain", "bias", "both"])
@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("tanh", [True, False])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_options_of_a_hyper_connection_are_the_layer_s(norm, tanh, dynamic, left_out):
    arrays, options = hyper(), {"norm": norm, "tanh": tanh, "dynamic": dynamic}
    for name in ("gain", "bias") if left_out == "both" else (left_out,):
        del arrays[name]
    made = composed("hyper_connection", arrays, options)
    assert error(made, layer("hyper_connection", arrays, options)) <= 1e-13


def test_one_token_without_a_batch():
    for name, arrays in (("mhc_connection", mhc()), ("hyper_connection", hyper())):
        arrays["X"] = arrays["X"][0, 0]
        expected = layer(name, arrays)
        assert error(composed(name, arrays), expected) <= 1e-13
        assert error(composed(name, arrays, {"tokens": "first"}), expected) <= 1e-13


@pytest.mark.parametrize(
    ("name", "reading"),
    [(name, reading) for name, steps in STEPS.items() for reading in steps.readings],
    ids=lambda x: getattr(x, "name", x),
)
def test_a_reading_shows_on_some_input(name, reading):
    assert reading.bug in BUGS
    assert any(
        error(
            composed(name, arrays, options | {reading.axis: reading.value}),
            composed(name, arrays, options),
        )
        > 1e-9
        for arrays, options in inputs(name)
    )


@pytest.mark.parametrize("name", STEPS)
def test_no_two_readings_are_the_same_choice(name):
    names = [reading.name for reading in STEPS[name].readings]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "fit"),
    [(name, fit) for name, steps in STEPS.items() for fit in steps.fits],
    ids=lambda x: getattr(x, "axis", x),
)
def test_a_fit_s_number_matters_where_the_norm_is_of_its_size(name, fit):
    arrays = hyper() if name == "hyper_connection" else mhc()
    for value in np.geomspace(fit.low, fit.high, 4):
        size = value if fit.axis == "norm_outside" else np.sqrt(value)
        arrays["X"] = arrays["X"] / np.sqrt(np.mean(arrays["X"] ** 2)) * size
        made = [composed(name, arrays, {fit.axis: times * value}) for times in (1.0, 1.01)]
        assert error(*made) > 1e-6
    assert "{value}" in fit.says


def _flattened_by_features():
    """The parameters with their rows in the order d·n."""
    order = np.arange(N * D).reshape(N, D).T.ravel()
    arrays = mhc()
    rows = np.argsort(order)
    for name in ("phi_pre", "phi_post", "phi_res", "gain"):
        arrays[name] = arrays[name][rows]
    return arrays


def _with(arrays, **changed):
    return arrays | changed


def _fields(**changed):
    return {"convention": dataclasses.replace(layers.MHC_CONVENTIONS["paper"], **changed)}


def _packed():
    a = mhc()
    pairs = [(f"{name}_pre", f"{name}_post") for name in ("phi", "b", "alpha")]
    return a | {x: a[y] for x, y in pairs} | {y: a[x] for x, y in pairs}


def _alphas(change):
    a = mhc()
    return a | {name: change(name, a) for name in a if name.startswith(("alpha_", "b_"))}


def _unscaled(name, a):
    return np.ones(()) if name.startswith("alpha") else a[name]


def _bias_scaled(name, a):
    part = name.partition("_")[2]
    return a[name] if name.startswith("alpha") else a[f"alpha_{part}"] * a[name]


def _by_columns():
    a = mhc()
    return a | {"phi_res": a["phi_res"].reshape(-1, N, N).transpose(0, 2, 1).reshape(-1, N * N)}


# What each choice of the coefficients is for the layer: arrays and options of another call.
SAME_AS_THE_LAYER_WITH = {
    ("flattened", "d·n"): (_flattened_by_features(), {}),
    ("gain_used", False): (_with(mhc(), gain=None), {}),
    ("alphas", "none"): (_alphas(_unscaled), {}),
    ("alphas", "logits and b"): (_alphas(_bias_scaled), {}),
    ("packed", "post_pre"): (_packed(), {}),
    ("logits_by", "columns"): (_by_columns(), {}),
    ("b_res_transposed", True): (_with(mhc(), b_res=mhc()["b_res"].T), {}),
    ("gates", "softmax"): (mhc(), _fields(pre="softmax", post="softmax")),
    ("least", 1e-3): (mhc(), _fields(eps=1e-3, eps_form="clamp")),
    ("half_steps", -2): (mhc(), {"n_iters": 19}),
    ("norm_eps", 1e-3): (mhc(), _fields(norm_eps=1e-3)),
    ("temperature", 0.05): (mhc(), _fields(temperature=0.05)),
    ("norm", "length"): (_with(mhc(), gain=mhc()["gain"] / (N * D) ** 0.5), {}),
    ("norm", "centred"): (
        _with(mhc(), X=mhc()["X"] - np.mean(mhc()["X"], axis=(-2, -1), keepdims=True)),
        {},
    ),
    ("tokens", "first"): (_with(mhc(), X=np.repeat(mhc()["X"][:, :1], 3, axis=1)), {}),
    ("tokens", "mean"): (
        _with(mhc(), X=np.repeat(np.mean(mhc()["X"], axis=1, keepdims=True), 3, axis=1)),
        {},
    ),
    ("alphas", "alpha_pre"): (
        _with(mhc(), alpha_post=mhc()["alpha_pre"], alpha_res=mhc()["alpha_pre"]),
        {},
    ),
    ("gain_layout", "d·n"): (_with(mhc(), gain=mhc()["gain"].reshape(D, N).T.ravel()), {}),
    ("gain_at", "before"): (
        _with(mhc(), X=mhc()["X"] * mhc()["gain"].reshape(N, D), gain=None),
        {},
    ),
    ("norm_outside", 0.1): (mhc(), _fields(norm_eps=0.1, norm_form="outside")),
    ("count", "divisions"): (mhc(), {"n_iters": 10}),
}


@pytest.mark.parametrize("choice", SAME_AS_THE_LAYER_WITH, ids=lambda c: f"{c[0]}={c[1]}")
def test_choices_of_the_coefficients(choice):
    arrays, options = SAME_AS_THE_LAYER_WITH[choice]
    made = composed("mhc_coefficients", mhc(), [choice])
    assert error(made, layer("mhc_coefficients", arrays, options)) <= 1e-13


@pytest.mark.parametrize("norm_eps", [1e-3, 10.0])
@pytest.mark.parametrize("norm_form", ["inside", "clamp", "outside"])
def test_forms_of_the_norm(norm_form, norm_eps):
    """A clamp at 10 is more than the length of these tokens, one at 1e-3 less."""
    fields = {"norm_form": norm_form, "norm_eps": norm_eps}
    expected = layer("mhc_coefficients", mhc(), _fields(**fields))
    assert error(composed("mhc_coefficients", mhc(), fields), expected) <= 1e-13


def test_norms_of_each_stream_and_none():
    """The layer divides by a root mean square that is 1 already, so that it shows what is left."""
    a = mhc()
    a["X"] = a["X"] / np.sqrt(np.mean(a["X"] ** 2, axis=(-2, -1), keepdims=True))
    assert error(
        composed("mhc_coefficients", a, {"norm": "none"}), layer("mhc_coefficients", a)
    ) <= (1e-13)
    alone = a["X"] / np.sqrt(np.mean(a["X"] ** 2, axis=-1, keepdims=True))
    expected = layer("mhc_coefficients", a | {"X": alone})
    assert error(composed("mhc_coefficients", a, {"norm": "streams"}), expected) <= 1e-13


def test_one_norm_of_all_tokens():
    a = mhc()
    size = np.sqrt(np.mean(a["X"] ** 2))
    got = composed("mhc_coefficients", a, {"norm": "all"})
    assert error(got, composed("mhc_coefficients", a | {"X": a["X"] / size}, {"norm": "none"})) <= (
        1e-13
    )


def test_products_bounded_by_tanh():
    """With α = 1 and b = 0 the coefficients are functions of the products alone."""
    a = mhc()
    a |= {name: np.ones(()) for name in a if name.startswith("alpha_")}
    a |= {name: np.zeros_like(x) for name, x in a.items() if name.startswith("b_")}
    params = {name: x for name, x in a.items() if name != "X"}
    pre, post, _ = layers.mhc_coefficients(a["X"], params)
    H = composed("mhc_coefficients", a, {"bounded": True})
    for name, z, factor in (
        ("H_pre", np.log(pre / (1.0 - pre)), 1.0),
        ("H_post", np.log(post / (2.0 - post)), 2.0),
    ):
        expected = factor / (1.0 + np.exp(-np.tanh(z)))
        np.testing.assert_allclose(H[name], expected, rtol=1e-12)


def test_gates_without_sigmoid_or_of_twice_the_logits():
    a = mhc()
    params = {name: x for name, x in a.items() if name != "X"}
    pre, post, _ = layers.mhc_coefficients(a["X"], params)
    of_pre, of_post = np.log(pre / (1.0 - pre)), np.log(post / (2.0 - post))
    for choice, expected_pre, expected_post in (
        (("pre", "linear"), of_pre, post),
        (("post", "linear"), pre, 2.0 * of_post),
        (("gates", "linear"), of_pre, 2.0 * of_post),
        (("post", "half of 1 + tanh"), pre, 1.0 + np.tanh(of_post)),
    ):
        H = composed("mhc_coefficients", a, [choice])
        np.testing.assert_allclose(H["H_pre"], expected_pre, rtol=1e-11)
        np.testing.assert_allclose(H["H_post"], expected_post, rtol=1e-11)


def test_gates_of_tanh():
    a = mhc()
    H = composed("mhc_coefficients", a, {"gates": "tanh"})
    pre, post, _ = layers.mhc_coefficients(
        a["X"], {name: x for name, x in a.items() if name != "X"}
    )
    np.testing.assert_allclose(H["H_pre"], np.tanh(np.log(pre / (1.0 - pre))), rtol=1e-12)
    np.testing.assert_allclose(H["H_post"], 2.0 * np.tanh(np.log(post / (2.0 - post))), rtol=1e-12)


def _coefficients(name, a):
    params = {key: x for key, x in a.items() if key != "X"}
    function = layers.mhc_coefficients
    if name == "hyper_connection":
        function = layers.hyper_connection_coefficients
    return function(a["X"], params)


@pytest.mark.parametrize("name", ["mhc_connection", "hyper_connection"])
def test_choices_of_a_connection(name):
    a = mhc() if name == "mhc_connection" else hyper()
    X, (pre, post, res) = a["X"], _coefficients(name, a)
    u = np.einsum("btn,btnd->btd", pre, X)
    mixed = np.einsum("btij,btjd->btid", res, X)

    def written(y, H_post=post):
        return H_post[..., None] * y[..., None, :]

    plain = mixed + written(SUBLAYER(u))
    expected = {
        ("read", "mean"): mixed + written(SUBLAYER(X.mean(axis=-2))),
        ("read", "sum"): mixed + written(SUBLAYER(X.sum(axis=-2))),
        ("read", "first"): mixed + written(SUBLAYER(X[:, :, 0])),
        ("inner", "each stream"): mixed + written(np.einsum("btn,btnd->btd", pre, SUBLAYER(X))),
        ("writing", "divided"): mixed + written(SUBLAYER(u)) / N,
        ("read", "mixed"): mixed + written(SUBLAYER(np.einsum("btn,btnd->btd", pre, mixed))),
        ("inner", "u + F"): mixed + written(SUBLAYER(u) + u),
        ("writing", "as it is"): mixed + SUBLAYER(u)[..., None, :],
        ("added", "X"): plain + X,
        ("mixing", "not"): X + written(SUBLAYER(u)),
        ("mixing", "after"): np.einsum("btij,btjd->btid", res, X + written(SUBLAYER(u))),
        ("transposed", name == "mhc_connection"): np.einsum("btji,btjd->btid", res, X)
        + written(SUBLAYER(u)),
    }
    first = np.einsum("bn,btnd->btd", pre[:, 0], X)
    expected["tokens", "first"] = np.einsum("bij,btjd->btid", res[:, 0], X) + written(
        SUBLAYER(first), post[:, :1]
    )
    if name == "mhc_connection":
        average = u / np.sum(pre, axis=-1)[..., None]
        expected["read", "average"] = mixed + written(SUBLAYER(average))
        by_post = np.einsum("btn,btnd->btd", post, X)
        expected["coefficients", "swapped"] = mixed + written(SUBLAYER(by_post), pre)
    else:
        normed = layers.layer_norm(X, a["gain"], a["bias"])
        of_normed = np.einsum("btn,btnd->btd", pre, normed)
        expected["read", "normed"] = mixed + written(SUBLAYER(of_normed))
    for choice, made in expected.items():
        got = composed(name, a, [choice])["y"]
        np.testing.assert_allclose(got, made, rtol=1e-12, atol=1e-12, err_msg=str(choice))


def _by_hand(X, H_pre, H_post, A_r):
    """A hyper-connection of given coefficients: Σⱼ A_rⱼᵢ Xⱼ + H_postᵢ F(Σⱼ H_preⱼ Xⱼ)."""
    y = SUBLAYER(np.einsum("btn,btnd->btd", H_pre, X))
    return np.einsum("btji,btjd->btid", A_r, X) + H_post[..., None] * y[..., None, :]


def test_choices_of_a_hyper_connection_s_coefficients():
    a = hyper()
    X, s, t = a["X"], 0.7, 0.4
    H = layers.layer_norm(X, a["gain"], a["bias"])
    m, b, r = (H @ a["W_m"])[..., 0], (H @ a["W_beta"])[..., 0], H @ a["W_r"]
    A_m, B, A_r = a["A_m"], a["B"], a["A_r"]
    tanh = np.tanh
    d_m, d_b, d_r = tanh(m), tanh(b), tanh(r)
    r_turned = np.swapaxes(d_r, -1, -2)
    coefficients = {
        ("scales", "own"): (s * d_m + A_m, t * d_b + B, s * d_r + A_r),
        ("scales", "swapped"): (t * d_m + A_m, s * d_b + B, t * d_r + A_r),
        ("scales", "s_alpha"): (s * d_m + A_m, s * d_b + B, s * d_r + A_r),
        ("scales", "static too"): (s * (d_m + A_m), t * (d_b + B), s * (d_r + A_r)),
        ("scales", "none"): (d_m + A_m, d_b + B, d_r + A_r),
        ("tanh", "s z"): (tanh(s * m) + A_m, tanh(t * b) + B, tanh(s * r) + A_r),
        ("tanh", "s z + A"): (tanh(s * m + A_m), tanh(t * b + B), tanh(s * r + A_r)),
        ("scales", "none of A_r"): (s * d_m + A_m, t * d_b + B, d_r + A_r),
        ("A_r_static", True): (s * d_m + A_m, t * d_b + B, A_r + 0.0 * d_r),
        ("z_r_transposed", True): (s * d_m + A_m, t * d_b + B, s * r_turned + A_r),
    }
    for choice, (H_pre, H_post, A) in coefficients.items():
        got = composed("hyper_connection", a, [choice])["y"]
        expected = _by_hand(X, H_pre, H_post, A)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12, err_msg=str(choice))


def test_norms_of_a_hyper_connection():
    a = hyper()
    flat = a["X"].reshape(2, 3, N * D)
    together = layers.layer_norm(flat).reshape(a["X"].shape) * a["gain"] + a["bias"]
    for norm, H in (("none", a["X"]), ("all", together)):
        z = np.tanh(H @ np.concatenate([a["W_m"], a["W_beta"], a["W_r"]], axis=1))
        expected = _by_hand(
            a["X"],
            0.7 * z[..., 0] + a["A_m"],
            0.4 * z[..., 1] + a["B"],
            0.7 * z[..., 2:] + a["A_r"],
        )
        got = composed("hyper_connection", a, {"norm": norm})["y"]
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    # without gain and bias the two norms differ by the mean alone
    a = {name: x for name, x in a.items() if name not in ("gain", "bias")}
    a["X"] = a["X"] - np.mean(a["X"], axis=-1, keepdims=True)
    rms, layer_norm = (
        composed("hyper_connection", a, {"norm": norm, "eps": 1e-3}) for norm in ("rms", "layer")
    )
    assert error(rms, layer_norm) <= 1e-13


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_readings_take_back_what_a_convention_changes(convention):
    case = next(iter(cases_of("mhc_coefficients")))
    arrays = case.arrays
    changes = {(r.axis, r.value) for r in STEPS["mhc_coefficients"].readings}
    back = {
        key: getattr(layers.MHC_CONVENTIONS["paper"], key) for key in CENTRES.get(convention, ())
    }
    assert set(back.items()) <= changes
    got = composed("mhc_coefficients", arrays, {"convention": convention} | back)
    assert error(got, layer("mhc_coefficients", arrays)) <= 1e-13


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_rounding_moves_the_steps_as_much_as_the_layer(case):
    reference = layer(case.function, case.arrays, case.options)
    ours, theirs = (
        noise.scale(
            lambda arrays, made=made: made(case.function, arrays, case.options),
            case.arrays,
            reference,
            "float32",
        )
        for made in (composed, layer)
    )
    for name in reference:
        assert theirs[name] / 3.0 < ours[name] < 3.0 * theirs[name]


def test_neighbouring_readings_can_be_combined():
    """Choices of different axes go together, as a search over pairs needs."""
    for name, arrays in (("mhc_connection", mhc()), ("hyper_connection", hyper())):
        readings = {r.axis: r for r in STEPS[name].readings}.values()
        for one, other in itertools.combinations(readings, 2):
            given = {one.axis: one.value, other.axis: other.value}
            made = composed(name, arrays, given)["y"]
            assert made.shape == arrays["X"].shape
            assert np.isfinite(made).all()
