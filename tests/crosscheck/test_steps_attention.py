"""Attention with one head and several: with first choices the layer, with any other not."""

import itertools
import math

import numpy as np
import pytest
from parameter_ids import said

from mgt_np.crosscheck.cases import cases_of
from mgt_np.crosscheck.contract import CONTRACT, arguments
from mgt_np.crosscheck.noise import Noisy, noisy, rounding
from mgt_np.crosscheck.steps import BUGS
from mgt_np.crosscheck.steps.attention import (
    STEPS,
    multi_head_attention,
    scaled_dot_product_attention,
)
from mgt_np.layers import multi_head_attention as layer_of_heads


def numbers(*shape, seed=0, scale=1.0):
    return scale * np.random.default_rng([seed, *shape]).standard_normal(shape)


def qkv(n, m, d, d_v, *, batch=(2,), scale=1.0):
    made = {"q": numbers(*batch, n, d, scale=scale), "k": numbers(*batch, m, d, seed=1)}
    return made | {"v": numbers(*batch, m, d_v, seed=2)}


def heads(n, m=None, *, d=6, d_c=6, width=6, batch=(2,), scale=0.6, biases=True):
    """The arrays of attention with several heads; with a context of m tokens, if given."""
    made = {"x": numbers(*batch, n, d), "W_o": numbers(width, d, seed=3, scale=0.5)}
    if m is not None:
        made["context"] = numbers(*batch, m, d_c, seed=4)
    for i, (name, rows) in enumerate(zip("qkv", (d, d_c, d_c), strict=True)):
        made[f"W_{name}"] = numbers(rows, width, seed=5 + i, scale=scale)
        if biases:
            made[f"b_{name}"] = numbers(width, seed=8 + i)
    return made | ({"b_o": numbers(d, seed=11)} if biases else {})


def mask_of(*shape, empty=()):
    """A random mask, not symmetric, with empty rows at these indices."""
    mask = np.random.default_rng([7, *shape]).random(shape) < 0.6
    mask[..., 0] = True
    for index in empty:
        mask[index] = False
    return mask


def spoilt(arrays, name, value, token=3):
    """Arrays with one token that is not finite."""
    x = arrays[name].copy()
    x[..., token, :] = value
    return arrays | {name: x}


def far_apart(arrays, token):
    """Arrays with one key whose scores are far above all others."""
    k = arrays["k"].copy()
    k[..., token, :] = 3000.0 * np.sign(arrays["q"][..., :1, :])[..., 0, :]
    return arrays | {"k": k}


SIX = mask_of(6, 6)
INPUTS = {
    "scaled_dot_product_attention": [
        (qkv(4, 5, 3, 2), {}),
        (qkv(3, 3, 3, 3), {}),
        (qkv(4, 5, 3, 2, batch=()), {"mask": mask_of(4, 5)}),
        (qkv(4, 5, 3, 2), {"mask": mask_of(5)}),
        (qkv(4, 4, 3, 2), {"mask": mask_of(4, 4, empty=[2])}),
        (qkv(4, 5, 3, 2), {"mask": mask_of(2, 4, 5, empty=[(1, 2)])}),
        (qkv(4, 4, 3, 3), {"mask": mask_of(2, 4, 4)}),
        (qkv(4, 4, 3, 2), {"causal": True}),
        (qkv(3, 5, 3, 2), {"causal": True}),
        (qkv(5, 3, 3, 2), {"causal": True, "mask": mask_of(5, 3)}),
        (qkv(4, 4, 3, 2), {"causal": True, "mask": mask_of(2, 4, 4)}),
        (qkv(4, 5, 3, 2), {"scale": 0.3}),
        (qkv(4, 5, 3, 2, scale=1000.0), {}),
        (far_apart(qkv(4, 5, 3, 2), 2), {"mask": np.array([1, 1, 0, 1, 1], dtype=bool)}),
        (qkv(4, 5, 3, 2, scale=1e5), {"mask": mask_of(4, 5)}),
        (spoilt(qkv(4, 5, 3, 2), "v", np.inf), {"mask": np.array([1, 1, 1, 0, 1], dtype=bool)}),
        (spoilt(qkv(4, 5, 3, 2), "k", np.nan), {"causal": True}),
        (spoilt(qkv(4, 5, 3, 2), "q", np.nan), {"mask": mask_of(4, 5)}),
    ],
    "multi_head_attention": [
        (heads(6), {"n_heads": 3}),
        (heads(6), {"n_heads": 2}),
        (heads(6), {"n_heads": 2, "mask": SIX}),
        (heads(6), {"n_heads": 2, "mask": mask_of(2, 6, 6, empty=[(1, 2)])}),
        (heads(6), {"n_heads": 3, "mask": mask_of(2, 6, 6)}),
        (heads(6), {"n_heads": 3, "mask": mask_of(2, 3, 6, 6)}),
        (heads(6), {"n_heads": 3, "mask": mask_of(6), "inner": np.tanh}),
        (heads(6), {"n_heads": 3, "causal": True}),
        (heads(6), {"n_heads": 3, "causal": True, "mask": SIX}),
        (heads(4, 6), {"n_heads": 3, "causal": True}),
        (heads(4, 6), {"n_heads": 3, "mask": mask_of(4, 6)}),
        (heads(6, 6), {"n_heads": 2}),
        (heads(5, 4, d=5, d_c=3, width=8), {"n_heads": 4}),
        (heads(5, biases=False, batch=()), {"n_heads": 2}),
        (heads(6, scale=200.0), {"n_heads": 3, "mask": SIX}),
        (spoilt(heads(6), "x", np.nan), {"n_heads": 3, "causal": True}),
        (spoilt(heads(4, 6), "context", np.inf), {"n_heads": 3, "mask": mask_of(4, 6)}),
    ],
}
EVERY = [(name, reading) for name in STEPS for reading in STEPS[name].readings]


def distance(y, other):
    """The largest difference, relative to the largest value; ∞ where one is not finite alone."""
    y, other = np.asarray(y), np.asarray(other)
    if y.shape != other.shape or not np.array_equal(np.isfinite(y), np.isfinite(other)):
        return math.inf
    finite = np.isfinite(y)
    largest = np.max(np.abs(other[finite]), initial=1e-300)
    return float(np.max(np.abs(y[finite] - other[finite]), initial=0.0) / largest)


def chosen(name, arrays, options, reading):
    """What a reading makes of an input; None where it does not fit the shapes."""
    try:
        return STEPS[name].compute(**arrays, **(options | {reading.axis: reading.value}))
    except ValueError:
        return None


@pytest.mark.parametrize("name", STEPS)
def test_the_first_choices_are_the_layer(name):
    checked = CONTRACT[name]
    inputs = INPUTS[name] + [(case.arrays, case.options) for case in cases_of(name)]
    for arrays, options in inputs:
        expected = checked.function(**arguments(checked, arrays, options))
        assert distance(STEPS[name].compute(**arrays, **options), expected) <= 1e-13


@pytest.mark.parametrize(("name", "reading"), EVERY, ids=lambda x: getattr(x, "name", x))
def test_a_reading_changes_the_result(name, reading):
    assert reading.bug in BUGS
    compute = STEPS[name].compute
    made = [(chosen(name, *given, reading), given) for given in INPUTS[name]]
    off = [distance(y, compute(**given[0], **given[1])) for y, given in made if y is not None]
    assert max(off) > 1e-9


@pytest.mark.parametrize("name", STEPS)
def test_some_input_tells_each_two_readings_apart(name):
    readings = STEPS[name].readings
    made = {r.name: [chosen(name, *given, r) for given in INPUTS[name]] for r in readings}
    assert len(made) == len(readings)  # names are unique
    for a, b in itertools.combinations(made, 2):
        pairs = zip(made[a], made[b], strict=True)
        assert any(
            (y is None) != (z is None) or (y is not None and distance(y, z) > 1e-9)
            for y, z in pairs
        ), f"{name}: {a} and {b}"


@pytest.mark.parametrize("name", STEPS)
def test_the_fit_of_the_scale_finds_the_scale_of_the_contract(name):
    (fit,) = STEPS[name].fits
    arrays, options = INPUTS[name][0]
    compute = STEPS[name].compute
    d_k = 3 if name == "scaled_dot_product_attention" else 2
    at = {scale: compute(**arrays, **options, scale=scale) for scale in (d_k**-0.5, 0.2)}
    assert distance(at[d_k**-0.5], compute(**arrays, **options)) < 1e-14
    assert distance(at[0.2], compute(**arrays, **options)) > 1e-3
    assert fit.low < 0.2 < fit.high
    assert "0.2" in fit.says.format(value=0.2)


@pytest.mark.parametrize("name", STEPS)
def test_noisy_arrays_run_through_and_differ_by_their_rounding(name):
    for case in cases_of(name):
        expected = STEPS[name].compute(**case.arrays, **case.options)
        with rounding("float32", 0):
            y = STEPS[name].compute(**noisy(case.arrays), **case.options)
        assert isinstance(y, Noisy)
        assert distance(y.view(np.ndarray), expected) < 1e-2
        assert not np.array_equal(y.view(np.ndarray), expected)


# One head, query by query, in the words of a loop: what readings are held against.


def looped(q, k, v, *, score, seen, weigh):
    """The values weighed by `weigh(scores)`, where query i sees the keys `seen(i, j)` alone."""
    y = np.zeros((*q.shape[:-1], v.shape[-1]))
    for b, i in np.ndindex(q.shape[:-1]):
        keys = [j for j in range(k.shape[1]) if seen(b, i, j)]
        if keys:
            weights = weigh(np.array([score(q[b, i], k[b, j]) for j in keys]))
            y[b, i] = sum(w * v[b, j] for w, j in zip(weights, keys, strict=True))
    return y


def dot(a, b):
    return a @ b / math.sqrt(len(a))


def everything(b, i, j):
    return True


def normal(s):
    return np.exp(s) / np.sum(np.exp(s))


def unit_dot(a, b):
    return dot(a / np.linalg.norm(a), b / np.linalg.norm(b))


@pytest.mark.parametrize(
    ("choice", "score", "weigh"),
    [
        ({}, dot, normal),
        ({"scale_by": "nothing"}, lambda a, b: a @ b, normal),
        ({"scale_by": "1/d_k"}, lambda a, b: a @ b / 3.0, normal),
        ({"scale_by": "√d_k"}, lambda a, b: a @ b * math.sqrt(3.0), normal),
        ({"scale_by": "1/∜d_k"}, lambda a, b: a @ b / 3.0**0.25, normal),
        ({"scale_by": "1/√d_v"}, lambda a, b: a @ b / math.sqrt(2.0), normal),
        ({"scale_by": "1/√keys"}, lambda a, b: a @ b / math.sqrt(5.0), normal),
        (
            {"scale_by": "after softmax"},
            lambda a, b: a @ b,
            lambda s: normal(s) / math.sqrt(3.0),
        ),
        ({"scale": 0.3, "scale_given": "times 1/√d_k"}, lambda a, b: 0.3 * dot(a, b), normal),
        ({"scale": 0.3, "scale_given": "for q and for k"}, lambda a, b: 0.09 * (a @ b), normal),
        ({"scale_given": "for q and for k"}, lambda a, b: a @ b / 3.0, normal),
        (
            {"scale": 0.3, "scale_by": "after softmax"},
            lambda a, b: a @ b,
            lambda s: 0.3 * normal(s),
        ),
        ({"directions": "unit"}, unit_dot, normal),
        ({"form": "scores"}, dot, lambda s: s),
        ({"form": "sigmoid"}, dot, lambda s: 1.0 / (1.0 + np.exp(-s))),
        ({"base": 2.0}, dot, lambda s: 2.0**s / np.sum(2.0**s)),
        ({"below": "1 + sum"}, dot, lambda s: np.exp(s) / (1.0 + np.sum(np.exp(s)))),
        ({"times": 2}, dot, lambda s: normal(normal(s))),
    ],
    ids=said,
)
def test_choices_of_the_weights_are_their_loops(choice, score, weigh):
    arrays = qkv(4, 5, 3, 2)
    expected = looped(**arrays, score=score, seen=everything, weigh=weigh)
    assert distance(scaled_dot_product_attention(**arrays, **choice), expected) < 1e-13


BATCH_MASK = mask_of(2, 4, 4, empty=[(1, 2)])


@pytest.mark.parametrize(
    ("choice", "seen"),
    [
        ({}, lambda b, i, j: BATCH_MASK[b, i, j]),
        ({"mask_axes": "swapped"}, lambda b, i, j: BATCH_MASK[b, j, i]),
        ({"mask_batch": "the first's"}, lambda b, i, j: BATCH_MASK[0, i, j]),
        ({"mask_batch": "any of the batch's"}, lambda b, i, j: BATCH_MASK[:, i, j].any()),
        ({"diagonal": "allowed"}, lambda b, i, j: BATCH_MASK[b, i, j] or i == j),
        ({"causal": True}, lambda b, i, j: BATCH_MASK[b, i, j] and j <= i),
        ({"causal": True, "combine": "or"}, lambda b, i, j: BATCH_MASK[b, i, j] or j <= i),
        ({"causal": True, "combine": "mask alone"}, lambda b, i, j: BATCH_MASK[b, i, j]),
        ({"causal": True, "combine": "causal alone"}, lambda b, i, j: j <= i),
    ],
    ids=said,
)
def test_choices_of_the_mask_are_their_loops(choice, seen):
    arrays = qkv(4, 4, 3, 2)
    expected = looped(**arrays, score=dot, seen=seen, weigh=normal)
    y = scaled_dot_product_attention(**arrays, mask=BATCH_MASK, **choice)
    assert distance(y, expected) < 1e-13


@pytest.mark.parametrize(
    ("triangle", "seen"),
    [
        ("lower", lambda b, i, j: j <= i),
        ("strictly lower", lambda b, i, j: j < i),
        ("one more", lambda b, i, j: j <= i + 1),
        ("upper", lambda b, i, j: j >= i),
        ("strictly upper", lambda b, i, j: j > i),
        ("lower, from the last", lambda b, i, j: 4 - j >= 2 - i),
    ],
)
def test_triangles_are_their_loops(triangle, seen):
    arrays = qkv(3, 5, 3, 2)
    expected = looped(**arrays, score=dot, seen=seen, weigh=normal)
    y = scaled_dot_product_attention(**arrays, causal=True, triangle=triangle)
    assert distance(y, expected) < 1e-13


def weighted(scores, v):
    with np.errstate(invalid="ignore"):
        weights = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return weights / np.sum(weights, axis=-1, keepdims=True) @ v


@pytest.mark.parametrize(
    ("hide", "scores"),
    [
        ("lowest", lambda s, seen: np.where(seen, s, np.finfo(float).min)),
        ("minus infinity, unguarded", lambda s, seen: np.where(seen, s, -np.inf)),
        ("−10⁴", lambda s, seen: np.where(seen, s, -1e4)),
        ("zero", lambda s, seen: s * seen),
        ("1 added to the seen", lambda s, seen: s + seen),
        ("10⁴ taken off", lambda s, seen: s - 1e4 * ~seen),
        ("10⁹ taken off", lambda s, seen: s - 1e9 * ~seen),
    ],
)
def test_hidden_scores_are_set_as_the_choice_says(hide, scores):
    arrays = qkv(4, 4, 3, 2)
    q, k, v = arrays.values()
    expected = weighted(scores(q @ k.mT / math.sqrt(3.0), BATCH_MASK), v)
    y = scaled_dot_product_attention(**arrays, mask=BATCH_MASK, hide=hide)
    assert distance(y, expected) < 1e-13
    if hide == "minus infinity, unguarded":
        assert np.isnan(y[1, 2]).all()


def test_hidden_scores_of_minus_10_000_may_leave_a_query_without_keys():
    arrays = qkv(4, 4, 3, 2)
    q, k, v = arrays.values()
    expected = weighted(np.where(BATCH_MASK, q @ k.mT / math.sqrt(3.0), -1e4), v)
    expected = np.where(BATCH_MASK.any(-1, keepdims=True), expected, 0.0)
    y = scaled_dot_product_attention(**arrays, mask=BATCH_MASK, hide="−10⁴, guarded")
    assert distance(y, expected) < 1e-13
    assert not y[1, 2].any()


def test_weights_may_be_set_to_zero_after_softmax():
    arrays = qkv(4, 4, 3, 2)
    q, k, v = arrays.values()
    weights = np.exp(q @ k.mT / math.sqrt(3.0))
    zeroed = weights / np.sum(weights, axis=-1, keepdims=True) * BATCH_MASK
    made = {
        hide: scaled_dot_product_attention(**arrays, mask=BATCH_MASK, hide=hide)
        for hide in ("zeroed after softmax", "zeroed after softmax, rescaled")
    }
    assert distance(made["zeroed after softmax"], zeroed @ v) < 1e-14
    # Rescaled they are right, where no hidden score is far above the others.
    right = scaled_dot_product_attention(**arrays, mask=BATCH_MASK)
    assert distance(made["zeroed after softmax, rescaled"], right) < 1e-14
    arrays = far_apart(arrays, 2)
    mask = np.array([True, True, False, True])
    right = scaled_dot_product_attention(**arrays, mask=mask)
    made = scaled_dot_product_attention(**arrays, mask=mask, hide="zeroed after softmax, rescaled")
    assert np.all(made[..., 0, :] == 0.0)
    assert np.all(np.abs(right[..., 0, :]) > 0.0)


def test_axes_and_arguments_that_are_taken_for_others():
    q, k, v = (numbers(2, 3, 3, seed=seed) for seed in range(3))
    scores = q @ k.mT / math.sqrt(3.0)
    P = np.exp(scores) / np.sum(np.exp(scores), axis=-1, keepdims=True)
    for choice, expected in (
        ({"over": "queries"}, np.exp(scores) / np.sum(np.exp(scores), axis=-2, keepdims=True) @ v),
        (
            {"over": "both"},
            np.exp(scores) / np.sum(np.exp(scores), axis=(-2, -1), keepdims=True) @ v,
        ),
        ({"weights_used": "transposed"}, P.mT @ v),
        ({"key_layout": "reshaped"}, weighted(q @ k.reshape(2, 3, 3) / math.sqrt(3.0), v)),
        ({"roles": "k qᵀ, v"}, weighted(scores.mT, v)),
        ({"roles": "q qᵀ, v"}, weighted(q @ q.mT / math.sqrt(3.0), v)),
        ({"roles": "q kᵀ, k"}, P @ k),
    ):
        assert distance(scaled_dot_product_attention(q, k, v, **choice), expected) < 1e-13, choice


def test_a_mask_of_keys_may_be_taken_for_one_of_queries():
    q, k, v = (numbers(2, 3, 3, seed=seed) for seed in range(3))
    mask = np.array([True, False, True])
    y = scaled_dot_product_attention(q, k, v, mask=mask, mask_axes="swapped")
    expected = np.where(mask[:, None], scaled_dot_product_attention(q, k, v), 0.0)
    assert distance(y, expected) < 1e-15


def test_what_is_hidden_and_not_finite_spoils_nothing_unless_that_is_the_choice():
    arrays = spoilt(qkv(4, 5, 3, 2), "v", np.inf)
    mask = np.array([1, 1, 1, 0, 1], dtype=bool)
    assert np.all(np.isfinite(scaled_dot_product_attention(**arrays, mask=mask)))
    y = scaled_dot_product_attention(**arrays, mask=mask, hidden_nan="seen")
    assert np.all(np.isnan(y))


def of_layer(arrays, **options):
    checked = CONTRACT["multi_head_attention"]
    return layer_of_heads(**arguments(checked, arrays, options))


def test_interleaved_heads_are_the_layer_with_columns_in_another_order():
    arrays = heads(5)
    order = np.arange(6).reshape(2, 3).T.ravel()  # the columns of head 0, then 1, 2: 0 3, 1 4, 2 5
    names = ("W_q", "W_k", "W_v", "b_q", "b_k", "b_v")
    mixed = arrays | {name: arrays[name][..., order] for name in names}
    expected = of_layer(mixed | {"W_o": arrays["W_o"][order]}, n_heads=3)
    assert (
        distance(multi_head_attention(**arrays, n_heads=3, split="interleaved"), expected) < 1e-13
    )
    mixed_out = of_layer(arrays | {"W_o": arrays["W_o"][order]}, n_heads=3)
    y = multi_head_attention(**arrays, n_heads=3, join="interleaved")
    assert distance(y, mixed_out) < 1e-13


def each_head(arrays, n_heads, split):
    """The output of each head before W_o, (b, H, n, d_h), by views as others cut them."""
    parts = (arrays["x"] @ arrays[f"W_{name}"] + arrays[f"b_{name}"] for name in "qkv")
    parts = (split(z, z.shape[0], n_heads, z.shape[1]) for z in parts)
    return scaled_dot_product_attention(*parts)


def viewed(z, b, h, n):
    return z.reshape(b, h, n, -1)


def swapped(z, b, h, n):
    return z.reshape(b, n, h, -1).transpose(0, 2, 1, 3)


@pytest.mark.parametrize(
    ("choice", "split", "joined"),
    [
        ({}, swapped, lambda y: y.transpose(0, 2, 1, 3).reshape(2, 5, 6)),
        ({"split": "reshaped"}, viewed, lambda y: y.reshape(2, 5, 6)),
        ({"join": "reshaped"}, swapped, lambda y: y.reshape(2, 5, 6)),
        (
            {"split": "reshaped", "join": "blocks"},
            viewed,
            lambda y: y.transpose(0, 2, 1, 3).reshape(2, 5, 6),
        ),
        (
            {"split": "reshaped, but joined right"},
            viewed,
            lambda y: y.transpose(0, 2, 1, 3).reshape(2, 5, 6),
        ),
    ],
    ids=said,
)
def test_heads_may_be_cut_and_joined_without_a_transpose(choice, split, joined):
    arrays = heads(5)
    expected = joined(each_head(arrays, 3, split)) @ arrays["W_o"] + arrays["b_o"]
    assert distance(multi_head_attention(**arrays, n_heads=3, **choice), expected) < 1e-13


def without(arrays, *names):
    return {name: x for name, x in arrays.items() if name not in names}


def renamed(arrays, order):
    """Arrays in which q, k, v are given by those of these names."""
    to = dict(zip(order, "qkv", strict=True))
    return arrays | {f"{a}_{n}": arrays[f"{a}_{to[n]}"] for a in "Wb" for n in "qkv"}


def cut(arrays, shape, axis):
    """q, k, v as cut out of one matrix that has them side by side, read in that shape."""
    made = dict(arrays)
    for a in "Wb":
        together = np.concatenate([arrays[f"{a}_{name}"] for name in "qkv"], axis=-1)
        parts = np.moveaxis(together.reshape(*together.shape[:-1], *shape), axis, 0)
        for name, part in zip("qkv", parts, strict=True):
            made[f"{a}_{name}"] = part.reshape(*together.shape[:-1], 6)
    return made


def test_choices_of_the_weights_of_several_heads_are_the_layer_with_others():
    given = heads(6)
    turned = {f"W_{name}": given[f"W_{name}"].T for name in "qkvo"}
    for choice, other in (
        ({"packing": "k q v"}, renamed(given, "kqv")),
        ({"packing": "q v k"}, renamed(given, "qvk")),
        ({"packing": "v k q"}, renamed(given, "vkq")),
        ({"packing": "k v q"}, renamed(given, "kvq")),
        ({"packing": "v q k"}, renamed(given, "vqk")),
        ({"packing": "per head"}, cut(given, (2, 3, 3), -2)),
        ({"packing": "per feature"}, cut(given, (6, 3), -1)),
        ({"layout": "x Wᵀ"}, given | turned),
        ({"layout": "x Wᵀ for q, k, v"}, given | turned | {"W_o": given["W_o"]}),
        ({"biases": "of the output alone"}, without(given, "b_q", "b_k", "b_v")),
        ({"biases": "none"}, without(given, "b_q", "b_k", "b_v", "b_o")),
        ({"b_o_place": "with each head"}, given | {"b_o": 2.0 * given["b_o"]}),
        ({"output": "mean over heads"}, given | {"W_o": given["W_o"] / 2.0}),
        ({"output": "heads as they are"}, without(given, "b_o") | {"W_o": np.eye(6)}),
    ):
        y = multi_head_attention(**given, n_heads=2, **choice)
        assert distance(y, of_layer(other, n_heads=2)) < 1e-13, choice
    y = multi_head_attention(**given, n_heads=2, head_number="features of a head")
    assert distance(y, of_layer(given, n_heads=3)) < 1e-14


def test_choices_of_the_scale_of_several_heads():
    arrays = heads(5)
    plain = without(arrays, "W_q", "b_q")
    for choice, factor in (
        ({"head_scale_by": "1/√d_model"}, math.sqrt(2.0 / 6.0)),
        ({"head_scale_by": "1/d_model"}, math.sqrt(2.0) / 6.0),
        ({"head_scale_by": "1/√n_heads"}, math.sqrt(2.0 / 3.0)),
        ({"scale_by": "nothing"}, math.sqrt(2.0)),
        ({"scale_by": "1/d_k"}, 1.0 / math.sqrt(2.0)),
    ):
        scaled = {name: factor * arrays[name] for name in ("W_q", "b_q")}
        y = multi_head_attention(**arrays, n_heads=3, **choice)
        assert distance(y, of_layer(plain | scaled, n_heads=3)) < 1e-13, choice


def test_q_may_be_scaled_before_its_bias():
    arrays = heads(5)
    y = multi_head_attention(**arrays, n_heads=3, head_scale_by="before b_q")
    other = arrays | {"b_q": math.sqrt(2.0) * arrays["b_q"]}
    assert distance(y, of_layer(other, n_heads=3)) < 1e-13


def test_softmax_may_be_taken_over_the_heads():
    arrays, mask = heads(5), mask_of(5, 5)
    q, k, v = (swapped(arrays["x"] @ arrays[f"W_{n}"] + arrays[f"b_{n}"], 2, 3, 5) for n in "qkv")
    P = np.exp(q @ k.mT / math.sqrt(2.0))
    P = P / np.sum(P, axis=1, keepdims=True) * mask
    joined = (P @ v).transpose(0, 2, 1, 3).reshape(2, 5, 6)
    y = multi_head_attention(**arrays, n_heads=3, mask=mask, over="heads")
    assert distance(y, joined @ arrays["W_o"] + arrays["b_o"]) < 1e-13


def test_a_choice_that_the_shapes_forbid_changes_nothing():
    arrays = qkv(4, 5, 3, 2)
    for roles in ("k qᵀ, v", "q qᵀ, v", "q kᵀ, k"):
        expected = scaled_dot_product_attention(**arrays)
        assert np.array_equal(scaled_dot_product_attention(**arrays, roles=roles), expected)
    arrays = heads(4, 6)
    expected = multi_head_attention(**arrays, n_heads=3)
    for context_for in ("keys", "values", "queries", "all"):
        y = multi_head_attention(**arrays, n_heads=3, context_for=context_for)
        assert np.array_equal(y, expected)


def test_the_first_heads_keys_and_values_for_all():
    arrays = heads(5)
    first = np.array([0, 1] * 3)
    shared = {f"{a}_{n}": arrays[f"{a}_{n}"][..., first] for a in "Wb" for n in "kv"}
    y = multi_head_attention(**arrays, n_heads=3, heads_used="keys and values of the first")
    assert distance(y, of_layer(arrays | shared, n_heads=3)) < 1e-13


def test_what_the_context_may_be_read_for():
    arrays = heads(5, 5)
    x, context = arrays["x"], arrays["context"]
    swapped_round = arrays | {"x": context, "context": x}
    all_context = without(arrays, "context") | {"x": context}
    for value, other in (("queries", swapped_round), ("all", all_context)):
        y = multi_head_attention(**arrays, n_heads=3, context_for=value)
        assert distance(y, of_layer(other, n_heads=3)) < 1e-14
    for value, keys, values in (("keys", context, x), ("values", x, context)):
        parts = [x @ arrays["W_q"] + arrays["b_q"], keys @ arrays["W_k"] + arrays["b_k"]]
        parts.append(values @ arrays["W_v"] + arrays["b_v"])
        y = scaled_dot_product_attention(*(swapped(z, 2, 3, 5) for z in parts))
        expected = y.transpose(0, 2, 1, 3).reshape(2, 5, 6) @ arrays["W_o"] + arrays["b_o"]
        got = multi_head_attention(**arrays, n_heads=3, context_for=value)
        assert distance(got, expected) < 1e-13


def test_masks_of_a_batch_may_meet_the_wrong_heads():
    arrays, mask = heads(6), mask_of(2, 6, 6)
    y = multi_head_attention(**arrays, n_heads=3, mask=mask, mask_heads="repeated in turn")
    tiled = np.tile(mask, (3, 1, 1)).reshape(2, 3, 6, 6)
    assert distance(y, of_layer(arrays, n_heads=3, mask=tiled)) < 1e-13
    y = multi_head_attention(**arrays, n_heads=2, mask=mask, mask_heads="of the batch")
    assert distance(y, of_layer(arrays, n_heads=2, mask=np.stack([mask, mask]))) < 1e-13
    with pytest.raises(ValueError, match="shape"):
        multi_head_attention(**arrays, n_heads=3, mask=mask, mask_heads="of the batch")
