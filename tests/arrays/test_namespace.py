"""Which library do arrays belong to, and what does it do with traced ones?"""

import math

import array_api_compat.numpy
import array_api_strict
import numpy as np
import pytest

from mgt_np import array_namespace, grad, value_and_grad
from mgt_np.arrays import device, layer, to_host
from mgt_np.arrays.boxes import TracedNumPyArray
from mgt_np.arrays.differentiable import UNTRACED
from mgt_np.arrays.namespace import library_of

DEVICE = array_api_strict.Device("device1")


def traced(fun, *arrays):
    """What `fun` returns for these arrays while they are traced."""
    seen = []

    def run(arrays):
        seen.append(fun(*arrays))
        xp = array_namespace(arrays[0])
        return xp.sum(arrays[0])

    grad(run)(list(arrays))
    return seen[0]


# ---- array_namespace


def test_namespace_of_plain_arrays_is_the_plain_one(library):
    x = library.asarray(np.ones(2))
    assert array_namespace(x, None, 1, 2.5, x) is library.xp


def test_namespace_of_traced_arrays_is_differentiable(library):
    x = library.asarray(np.ones(2))
    for fun in (array_namespace, lambda t: array_namespace(x, t), lambda t: array_namespace(t, x)):
        assert traced(fun, x) is library_of(x).traced_xp


def test_traced_array_names_its_namespace():
    x = array_api_strict.ones(2)
    assert traced(lambda t: t.__array_namespace__(), x) is traced(array_namespace, x)


@pytest.mark.parametrize("scalar", [np.float64(1.0), np.float32(1.0), np.int64(1), np.bool_(True)])
def test_numpy_scalars_are_arrays_of_numpy(scalar):
    assert array_namespace(scalar) is array_api_compat.numpy
    with pytest.raises(TypeError, match="one library"):
        array_namespace(scalar, array_api_strict.ones(2))


@pytest.mark.parametrize("xs", [(), (None,), (1.0, 2, True)])
def test_namespace_of_no_array(xs):
    with pytest.raises(TypeError, match="at least one array, got none"):
        array_namespace(*xs)


@pytest.mark.parametrize("x", [[1.0], (1.0,), "x", 1j, {"a": 1.0}, array_api_compat.numpy])
def test_namespace_of_what_is_no_array(x):
    with pytest.raises(TypeError, match=f"expected arrays, got {type(x).__name__}"):
        array_namespace(np.ones(1), x)


def test_namespace_of_two_libraries():
    with pytest.raises(TypeError, match="got numpy and array_api_strict"):
        array_namespace(np.ones(1), array_api_strict.ones(1))


# ---- arrays at the door, traced or not


def test_strict_arrays_refuse_a_traced_operand_on_their_right():
    x = array_api_strict.ones(2)
    with pytest.raises(TypeError, match="Expected Array or Python scalar"):
        traced(lambda t: x * t, x)


@pytest.mark.parametrize("wanted", ["x", "v", "beta", "alpha"])
def test_the_door_lets_an_equation_be_written_as_it_is(library, rng, wanted):
    arrays = {name: rng.standard_normal((2, 3)) for name in ("x", "v", "beta")}
    arrays["alpha"] = rng.standard_normal(())

    @layer
    def update(
        x: "... n", v: "... n", beta: "... n", alpha: "number", one: "number" = 1.0, b: "n" = None
    ):
        xp = array_namespace(x, v, beta, alpha)
        assert b is None
        y = x + beta * (v - alpha * x) / (one + x @ xp.matrix_transpose(x))[:1, :1]
        return xp.sum((2.0 - y) ** 2)

    def alone(arrays):
        return grad(lambda x: update(**{**arrays, wanted: x}))(arrays[wanted])

    expected = grad(lambda arrays: update(**arrays))(arrays)[wanted]
    np.testing.assert_allclose(to_host(alone(library.asarray(arrays))), expected, rtol=1e-12)


def test_arrays_at_two_levels(library):
    """Mixed second derivative of Σ W x², once with each of the two on the left."""
    W, x = library.asarray((np.array([2.0, 3.0]), np.array([5.0, 7.0])))

    @layer
    def product(W: "n", x: "n"):
        xp = array_namespace(W, x)
        return xp.sum(W * x * x + x * x * W)

    for inner, outer in (((0, W), (1, x)), ((1, x), (0, W))):

        def slope(b, inner=inner):
            def at(a):
                return product(a, b) if inner[0] == 0 else product(b, a)

            g = grad(at)(inner[1])
            return array_namespace(g).sum(g)

        assert to_host(grad(slope)(outer[1])).tolist() == [20.0, 28.0]


# ---- functions without a rule, and functions that need none

REFUSED = {
    "floor": lambda xp, x: xp.floor(x),
    "round": lambda xp, x: xp.round(x),
    "atan2": lambda xp, x: xp.atan2(x, x),
    "cumulative_prod": lambda xp, x: xp.cumulative_prod(x, axis=0),
    "sort": lambda xp, x: xp.sort(x),
    "unique_values": lambda xp, x: xp.unique_values(x),
    "broadcast_arrays": lambda xp, x: xp.broadcast_arrays(x, x),
    "meshgrid": lambda xp, x: xp.meshgrid(x, x),
    "asarray": lambda xp, x: xp.asarray(x),
    "asarray of a list": lambda xp, x: xp.asarray([x[0, 0], x[0, 1]]),
    "asarray of lists": lambda xp, x: xp.asarray([[x[0, 0]], [x[0, 1]]]),
    "full": lambda xp, x: xp.full((2,), x[0, 0]),
    "full_like": lambda xp, x: xp.full_like(x, x[0, 0]),
    "linspace": lambda xp, x: xp.linspace(0.0, x[0, 0], num=3),
    "det": lambda xp, x: xp.linalg.det(x),
    "inv": lambda xp, x: xp.linalg.inv(x),
    "qr": lambda xp, x: xp.linalg.qr(x),
    "fft": lambda xp, x: xp.fft.fft(x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_function_without_a_rule_names_itself(library, name):
    fun = lambda x: REFUSED[name](array_namespace(x), x)  # noqa: E731
    with pytest.raises(TypeError, match=rf"^{name.split()[0]} has no rule of differentiation"):
        traced(fun, library.asarray(np.eye(2)))


def test_complex_numbers_have_no_rule(library):
    with pytest.raises(TypeError, match=r"^astype has no rule"):
        traced(
            lambda x: array_namespace(x).astype(x, library.xp.complex128),
            library.asarray(np.ones(2)),
        )


@pytest.mark.parametrize("x_traced", [True, False])
def test_keyword_without_a_rule_names_itself(library, x_traced):
    """Rules follow the positional arguments of the standard."""
    x, n = library.asarray((np.ones(3), np.ones(())))
    with pytest.raises(TypeError, match=r"^var has no rule of differentiation in correction$"):
        traced(lambda t, n: array_namespace(n).var(t if x_traced else x, correction=n), x, n)


def test_function_without_a_rule_works_on_plain_arrays(library):
    x, A = library.asarray((np.array([2.5, -1.5]), 2.0 * np.eye(2)))

    def fun(t):
        xp = array_namespace(t)
        return xp.floor(x), xp.linalg.det(A), xp.asarray([1.0, 2.0])

    floor, det, listed = traced(fun, x)
    assert to_host(floor).tolist() == [2.0, -2.0]
    assert float(det) == pytest.approx(4.0)
    assert to_host(listed).tolist() == [1.0, 2.0]


def test_functions_that_need_no_rule_return_plain_arrays(library):
    x = library.asarray(np.array([[1.0, -2.0], [0.5, 3.0]]))
    plain = {
        "all": lambda xp, x: xp.all(x > 0.0, axis=0),
        "any": lambda xp, x: xp.any(x > 0.0),
        "argmax": lambda xp, x: xp.argmax(x, axis=1),
        "argmin": lambda xp, x: xp.argmin(x),
        "argsort": lambda xp, x: xp.argsort(x, axis=0),
        "count_nonzero": lambda xp, x: xp.count_nonzero(x),
        "isfinite": lambda xp, x: xp.isfinite(x),
        "isinf": lambda xp, x: xp.isinf(x),
        "isnan": lambda xp, x: xp.isnan(x),
        "signbit": lambda xp, x: xp.signbit(x),
        "nonzero": lambda xp, x: xp.nonzero(x)[1],
        "searchsorted": lambda xp, x: xp.searchsorted(xp.flip(x[0, :]), x[1, :]),
        "ones_like": lambda xp, x: xp.ones_like(x),
        "zeros_like": lambda xp, x: xp.zeros_like(x),
        "full_like": lambda xp, x: xp.full_like(x, 7.0),
        "astype": lambda xp, x: xp.astype(x, xp.int64),
    } | {
        name: lambda xp, x, name=name: getattr(xp, name)(x, xp.matrix_transpose(x))
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    } | {
        name: lambda xp, x, name=name: getattr(xp, name)(x > 0.0, x < 2.0)
        for name in ("logical_and", "logical_or", "logical_xor")
    } | {"logical_not": lambda xp, x: xp.logical_not(x > 0.0)}  # fmt: skip
    assert plain.keys() >= UNTRACED - {"can_cast", "result_type", "empty_like"}
    for name, fun in plain.items():
        got = traced(lambda x, fun=fun: fun(array_namespace(x), x), x)
        expected = fun(library.xp, x)
        assert type(got) is type(expected), name
        assert got.dtype == expected.dtype
        assert device(got) == device(x)
        np.testing.assert_array_equal(to_host(got), to_host(expected))


def test_dtypes_of_traced_arrays(library):
    x = library.asarray(np.ones(2, dtype=np.float32))

    def fun(x):
        xp = array_namespace(x)
        assert xp.result_type(x, xp.float64) == xp.float64
        assert not xp.can_cast(x, xp.int64)
        assert xp.empty_like(x).dtype == xp.float32
        assert xp.finfo(x.dtype).bits == 32
        assert xp.isdtype(x.dtype, "real floating")
        assert (xp.pi, xp.inf) == (math.pi, math.inf)
        assert "float64" in xp.__array_namespace_info__().dtypes()

    traced(fun, x)


def test_unknown_names_are_unknown(library):
    xp = library_of(library.asarray(np.ones(1))).traced_xp
    assert not hasattr(xp, "no_such_function")
    assert not hasattr(xp.linalg, "tanh")


# ---- traced arrays

OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "**": lambda a, b: a**b,
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators(library, rng, operator):
    apply = OPERATORS[operator]
    arrays = [rng.uniform(0.5, 2.0, (2, 3)), rng.uniform(0.5, 2.0, (3,))]

    def fun(arrays):
        x, y = arrays
        z = apply(x, y) + apply(y, x) + apply(x, 2.0) + apply(2.0, y)
        return array_namespace(z).sum(z * z)

    expected = value_and_grad(fun)(arrays)
    value, gradients = value_and_grad(fun)(library.asarray(arrays))
    assert float(value) == pytest.approx(float(expected[0]), rel=1e-13)
    for g, g_numpy in zip(gradients, expected[1], strict=True):
        np.testing.assert_allclose(to_host(g), g_numpy, rtol=1e-12)


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_on_numpy_are_those_of_the_namespace(operator):
    """autograd's own take twice the time, and `x ** 2` makes its gradient float64."""
    x = np.ones(2, dtype=np.float32)
    apply = OPERATORS[operator]
    for fun in (lambda t: apply(t, x), lambda t: apply(x, t), lambda t: apply(t, 2.0)):
        result = traced(fun, x)
        assert type(result) is TracedNumPyArray
        assert result.dtype == np.float32


def test_matrix_product_sign_and_absolute_value(library, rng):
    A = rng.standard_normal((3, 3))

    def fun(A):
        return array_namespace(A).sum(-abs(A @ A.T))

    got = to_host(grad(fun)(library.asarray(A)))
    np.testing.assert_allclose(got, grad(fun)(A), rtol=1e-12)


def test_comparisons_are_plain(library):
    x = library.asarray(np.array([1.0, 2.0, 3.0]))
    got = traced(lambda x: [x < 2.0, x <= 2.0, x == 2.0, x != 2.0, x >= 2.0, x > 2.0], x)
    assert [to_host(b).tolist() for b in got] == [
        [True, False, False],
        [True, True, False],
        [False, True, False],
        [True, False, True],
        [False, True, True],
        [False, False, True],
    ]


def test_attributes(library):
    x = library.asarray(np.ones((2, 3), dtype=np.float32))

    def fun(t):
        assert (tuple(t.shape), t.ndim, t.size, len(t)) == ((2, 3), 2, 6, 2)
        assert t.dtype == x.dtype
        assert device(t) == device(x)
        assert tuple(t.T.shape) == (3, 2)
        assert {t: "usable as a key"}[t]
        assert bool(t[0, 0])

    traced(fun, x)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 4)])
def test_transpose_of_numpy_reverses_all_axes(shape):
    assert traced(lambda t: t.T.shape, np.ones(shape)) == shape[::-1]


def test_attributes_of_the_standard():
    x = array_api_strict.ones((4, 2, 3), device=DEVICE)

    def fun(t):
        assert t.device == DEVICE
        assert t.mT.shape == (4, 3, 2)

    traced(fun, x)


def test_iteration(library):
    x = library.asarray(np.array([1.0, 2.0, 4.0]))

    def fun(x):
        first, *rest = x
        return first * rest[0] * rest[1]

    assert to_host(grad(fun)(x)).tolist() == [8.0, 4.0, 2.0]


def test_iteration_ends_where_the_array_does(monkeypatch):
    """Not at an IndexError: JAX takes an index out of bounds for the last one."""
    x = array_api_strict.ones(3)
    xp = library_of(x).traced_xp
    getitem = xp.getitem

    def lenient(x, index):
        i = index[0] if isinstance(index, tuple) else index
        return getitem(x, (min(i, x.shape[0] - 1), ...))

    monkeypatch.setattr(xp, "getitem", lenient)
    counts = traced(lambda x: [i for i, _ in zip(range(10), x, strict=False)], x)
    assert counts == [0, 1, 2]


def test_numbers_have_no_length(library):
    x = library.asarray(np.ones(()))
    for fun in (len, iter):
        with pytest.raises(TypeError):
            traced(fun, x)


@pytest.mark.parametrize("left", [np.ones(2), np.float64(2.0)])
def test_numpy_on_the_left_is_no_way_around_the_library(left):
    """It must not end in an array of objects."""
    with pytest.raises(TypeError, match="numpy"):
        traced(lambda x: left * x, array_api_strict.ones(2))
    with pytest.raises(TypeError, match="does not support ufuncs"):
        traced(lambda x: np.multiply(left, x), array_api_strict.ones(2))


def test_nothing_is_assigned_in_place(library):
    def fun(x):
        x[0] = 1.0

    with pytest.raises(TypeError, match="item assignment"):
        traced(fun, library.asarray(np.ones(2)))


# ---- to the host


def test_to_host(library, rng):
    values = rng.standard_normal((2, 3)).astype(np.float32)
    x = library.asarray(values)
    for array in (to_host(x), traced(to_host, x)):
        assert type(array) is np.ndarray
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, values)


def test_device_of_traced_arrays(library):
    x = library.asarray(np.ones(1))
    assert traced(device, x) == device(x)


def test_what_pytorch_differentiates_comes_to_the_host():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    W = torch.nn.Linear(3, 2).weight
    got = to_host(W)
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, W.detach().numpy())
