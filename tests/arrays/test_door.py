"""The door: what it lets in, what it remembers of a call, and what it tells."""

import inspect
import math
from threading import Thread

import autograd
import numpy as np
import pytest
from array_libraries import LIBRARIES, host
from gradcheck import check_gradient

from mgt_np.arrays import Choice, Parameters, array_namespace, grad, layer

NUMPY, STRICT, *_ = LIBRARIES


@layer(d="features")
def scaled(x: "... d", W: "d d" = None, *, by: "number" = 1.0, n: "int ≥ 1" = 1) -> "... d":
    """Return n · by · x W."""
    xp = array_namespace(x, W, by)
    return n * by * (x if W is None else xp.matmul(x, W))


@layer
def heads(x: "n·d", *, n: "int ≥ 1") -> "d":
    """Return the first head."""
    return x[: x.shape[0] // n, ...]


@layer
def chosen(x: "...", *, kind: Choice({"a": 1}) = "a", eps: "float ≥ 0" = 0.0, flag: "bool" = False):
    """Return x."""
    return x


@layer
def of_dict(p: Parameters({"a": "n", "b": "none | n"})) -> "n":
    """Return a."""
    return p["a"]


def total(y):
    return array_namespace(y).sum(y)


def test_help_shows_the_shapes():
    assert "x: '... d'" in str(inspect.signature(scaled))
    assert scaled.__doc__ == "Return n · by · x W."


def test_a_call_like_one_before_is_not_held_to_the_signature_again():
    scaled.plans.clear()
    for by in (0.5, 2.0, 3.0):  # a schedule of numbers is one plan
        scaled(np.ones((2, 3)), by=by)
    assert len(scaled.plans) == 1
    scaled(np.ones((2, 4)))
    scaled(np.ones((2, 4), dtype="float32"))
    assert len(scaled.plans) == 3


@pytest.mark.parametrize(
    "wrong", [True, math.nan, -1.0, np.float64(-1.0), np.asarray(-1.0), [1]], ids=repr
)
def test_what_equals_or_resembles_a_right_option_is_not_taken_for_it(wrong):
    x = np.ones(2)
    for right in (1, 1.0, np.float64(1.0), np.asarray(1.0)):
        chosen(x, eps=right)
    with pytest.raises((TypeError, ValueError), match=r"^chosen: expected eps .* got"):
        chosen(x, eps=wrong)
    chosen(x, flag=True)
    with pytest.raises(TypeError, match=r"^chosen: expected flag to be True or False, got 1"):
        chosen(x, flag=1)


@pytest.mark.parametrize("number", [int, np.int64, lambda n: np.asarray(n)])
def test_sizes_from_options_are_those_of_this_call(number):
    assert heads(np.arange(6.0), n=number(2)).shape == (3,)
    assert heads(np.arange(6.0), n=number(3)).shape == (2,)
    with pytest.raises(
        ValueError, match=r"^heads: expected x \(n·d\) with n = 4, got shape \(6,\)"
    ):
        heads(np.arange(6.0), n=number(4))


@pytest.mark.parametrize("kind", [None, ["a"], 1, "b"])
def test_unhashable_and_unknown_choices_are_refused(kind):
    with pytest.raises(
        (TypeError, ValueError), match=r"^chosen: expected kind to be one of 'a', got"
    ):
        chosen(np.ones(2), kind=kind)


def test_a_dict_is_known_by_its_keys():
    of_dict({"a": np.ones(2)})
    of_dict({"a": np.ones(2), "b": np.ones(2)})
    with pytest.raises(
        ValueError, match=r"^of_dict: expected p with the keys a, b, got b: a is mis"
    ):
        of_dict({"b": np.ones(2)})
    with pytest.raises(
        ValueError, match=r"^of_dict: expected b \(n\) with n = 2, got shape \(3,\)"
    ):
        of_dict({"a": np.ones(2), "b": np.ones(3)})


@pytest.mark.parametrize("number", [0.5, np.float64(0.5), np.float32(0.5), 1], ids=repr)
def test_numpy_s_numbers_leave_the_dtype_alone(number):
    for dtype in ("float16", "float32", "float64"):
        assert scaled(np.ones(2, dtype=dtype), by=number).dtype == dtype


def test_numbers_that_autograd_traces_pass():
    slope = autograd.grad(lambda by: total(scaled(np.ones((2, 3)), by=by)))(0.5)
    assert slope == 6.0


def test_half_precision_computes_in_float32(library):
    """300² is beyond the largest number of float16, 65504."""
    if str(library).startswith("strict"):
        pytest.skip("the standard has no half precision")

    @layer
    def size(x: "..."):
        return array_namespace(x).sqrt(x * x)

    x = library.xp.astype(library.asarray(np.full(3, 300.0)), library.xp.float16)
    y, slope = size(x), grad(lambda x: total(size(x)))(x)
    assert y.dtype == slope.dtype == x.dtype
    assert host(y).tolist() == [300.0] * 3
    np.testing.assert_allclose(host(slope), 1.0, rtol=1e-3)


def test_traced_arrays_stand_beside_untraced_ones_on_either_side(library, rng):
    @layer
    def difference(x: "...", y: "..."):
        return x - y

    x, y = map(library.asarray, rng.standard_normal((2, 3)))
    assert host(grad(lambda x: total(difference(x, y)))(x)).tolist() == [1.0] * 3
    assert host(grad(lambda y: total(difference(x, y)))(y)).tolist() == [-1.0] * 3


def test_threads_share_the_memory(rng):
    results = []
    x = rng.standard_normal((5, 3))

    def work():
        for i in range(200):
            results.append(np.array_equal(scaled(x[: 1 + i % 5, :]), x[: 1 + i % 5, :]))

    threads = [Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results == [True] * 800


def test_jax_transforms_close_over_weights(rng):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    x, W = jax.numpy.asarray(rng.standard_normal((2, 3))), jax.numpy.eye(3)
    expected = np.asarray(x)
    np.testing.assert_allclose(jax.jit(lambda x: scaled(x, W))(x), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda x: scaled(x, W))(x), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: scaled(x, W).sum())(x), 1.0, rtol=1e-6)


@pytest.mark.filterwarnings("ignore")  # Dynamo's, about the caches of array-api-compat
def test_pytorch_compiles_and_differentiates_through_the_door():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, W = torch.ones(2, 3), torch.eye(3, requires_grad=True)
    scaled(x, W).sum().backward()
    assert W.grad.tolist() == [[2.0] * 3] * 3
    assert not scaled(x, W.detach()).requires_grad
    compiled = torch.compile(lambda x, W: scaled(x, W, by=2.0), backend="eager")
    assert torch.equal(compiled(x, W), 2.0 * x)


def test_what_pytorch_is_to_differentiate_is_composed():
    """Also where a call like it, but for requires_grad, has run fused before."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ran = []

    @layer
    def doubled(x: "..."):
        ran.append("composed")
        return 2.0 * x

    def forward(xp, x):
        ran.append("fused")
        return 2.0 * x, ()

    doubled.fuse(forward, lambda xp, g: (2.0 * g,))
    x = torch.ones(3)
    for wanted in (False, True, False):
        doubled(x.clone().requires_grad_(wanted))
    assert ran == ["fused", "composed", "fused"]


@pytest.fixture
def pair():
    """x² and x³ as one node."""

    @layer
    def powers(x: "..."):
        return x * x, x * x * x

    def forward(xp, x):
        return (x * x, x * x * x), (x,)

    def backward(xp, g, x):
        return (2.0 * g[0] * x + 3.0 * g[1] * x * x,)

    powers.fuse(forward, backward)
    return powers


def test_a_node_of_several_arrays(pair, rng):
    x = rng.standard_normal(3)
    np.testing.assert_allclose(np.stack(pair(x)), [x**2, x**3], rtol=1e-14)
    check_gradient(lambda x: pair(x)[0] * pair(x)[1], x, rng=rng)
    for i, slope, curvature in ((0, 2 * x, 2 + 0 * x), (1, 3 * x**2, 6 * x)):
        once = grad(lambda x, i=i: total(pair(x)[i]))  # the other one is not used
        np.testing.assert_allclose(once(x), slope, rtol=1e-14)
        twice = grad(lambda x, once=once: total(once(x)))(x)
        np.testing.assert_allclose(twice, curvature, rtol=1e-14)


def test_conditions_hold_numbers_as_well():
    @layer
    def logarithm(x: "number | ..., > 0"):
        return x

    assert logarithm(2.0) == 2.0
    for x in (0.0, -1, np.float64(-1.0), np.zeros(2)):
        with pytest.raises(ValueError, match=r"logarithm: expected x > 0, got (0|-1)"):
            logarithm(x)
