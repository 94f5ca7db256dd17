"""value_and_grad and grad: any tree of parameters, any library, any order, at linear cost."""

import subprocess
import sys
import tracemalloc
from collections import namedtuple

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from autograd.extend import defvjp, primitive
from autograd.numpy.numpy_boxes import ArrayBox

from mgt_np import array_namespace, grad, value_and_grad
from mgt_np.arrays import device, gradients, leaves_with_paths, to_host, tree_map
from mgt_np.arrays import layer as at_the_door

Pair = namedtuple("Pair", "first second")


def total(*terms):
    xp = array_namespace(*terms)
    return sum(xp.sum(xp.square(term)) for term in terms)


# ---- trees


def test_gradient_has_the_nesting_of_the_parameters(library, rng):
    x = {name: library.asarray(rng.standard_normal(3)) for name in "abcdef"}
    params = {
        "list": [x["a"], {"deep": (x["b"],)}],
        "pair": Pair(x["c"], [x["d"], x["e"]]),
        7: x["f"],
        "empty": {"list": [], "tuple": ()},
    }
    fun = lambda p: total(*(leaf for _, leaf in leaves_with_paths(p)))  # noqa: E731
    value, g = value_and_grad(fun)(params)
    assert list(g) == list(params)
    assert isinstance(g["pair"], Pair)
    assert isinstance(g["list"][1]["deep"], tuple)
    assert g["empty"] == {"list": [], "tuple": ()}
    for (path, leaf), (path_g, leaf_g) in zip(
        leaves_with_paths(params), leaves_with_paths(g), strict=True
    ):
        assert path == path_g
        assert type(leaf) is type(leaf_g)
        np.testing.assert_allclose(to_host(leaf_g), 2.0 * to_host(leaf))
    assert float(to_host(value)) == pytest.approx(sum(np.sum(to_host(v) ** 2) for v in x.values()))


def test_the_function_sees_the_same_nesting(library):
    params = library.asarray({"pair": Pair(np.ones(2), np.ones(2))})
    seen = []

    def fun(p):
        seen.append((type(p), type(p["pair"])))
        return total(p["pair"].first)

    grad(fun)(params)
    assert seen == [(dict, Pair)]


def test_other_arguments_pass_untouched():
    fun = lambda x, y, *, power: anp.sum(x**power * y)  # noqa: E731
    assert grad(fun)(np.array([2.0]), np.array([5.0]), power=3).tolist() == [60.0]


def test_wrapped_functions_keep_their_names():
    def loss(x):
        """Say how bad x is."""
        return anp.sum(x)

    for wrapped in (grad(loss), value_and_grad(loss)):
        assert (wrapped.__name__, wrapped.__doc__) == ("loss", loss.__doc__)


def test_python_float_leaf():
    value, g = value_and_grad(lambda p: p["alpha"] ** 3)({"alpha": 2.0})
    assert float(value) == 8.0
    assert isinstance(g["alpha"], np.ndarray)
    assert (g["alpha"].shape, g["alpha"].dtype, float(g["alpha"])) == ((), np.float64, 12.0)


@pytest.mark.parametrize("leaf", [np.float64(2.0), np.float32(2.0), np.asarray(2.0)])
def test_numpy_scalar_leaf(leaf):
    g = grad(lambda x: x * x * x)(leaf)
    assert isinstance(g, np.ndarray)
    assert (g.shape, g.dtype, float(g)) == ((), leaf.dtype, 12.0)


def test_types_of_numpy_keep_the_box_of_autograd(tmp_path):
    subclass = np.memmap(tmp_path / "x", dtype=np.float64, mode="w+", shape=(3,))
    subclass[:] = [1.0, 2.0, 3.0]

    def fun(x):
        assert isinstance(x, ArrayBox)
        assert np.allclose(np.exp(x)._value, anp.exp(x)._value)
        return array_namespace(x).sum(x * x)

    assert grad(fun)(subclass).tolist() == [2.0, 4.0, 6.0]
    for x in (np.ones(2), np.ones(()), np.float32(1.0), np.longdouble(1.0)):
        grad(fun)(x)
        autograd.grad(fun)(x)


def test_autograd_still_refuses_whole_numbers():
    assert array_namespace(np.int64(3)) is array_namespace(np.ones(1))
    with pytest.raises(TypeError, match=r"Can't differentiate w\.r\.t\. type"):
        autograd.grad(lambda x: x * 1.0)(np.int64(3))


def test_unused_leaf_gets_zeros(library):
    params = library.asarray([np.ones(2), np.ones((2, 3), dtype=np.float32)])
    _, unused = grad(lambda p: total(p[0]))(params)
    assert to_host(unused).tolist() == [[0.0] * 3] * 2
    assert unused.dtype == params[1].dtype
    assert device(unused) == device(params[1])


def test_leaf_used_many_times(library):
    x = library.asarray(np.array([1.0, 2.0]))

    def fun(x):
        xp = array_namespace(x)
        y = x
        for _ in range(10):
            y = xp.add(y, xp.multiply(x, x))
        return xp.sum(y)

    assert to_host(grad(fun)(x)).tolist() == [21.0, 41.0]


def test_shared_leaf_gets_the_gradient_of_its_place():
    x = np.array([3.0])
    g = grad(lambda p: anp.sum(p["a"] * p["a"] * p["b"]))({"a": x, "b": x})
    assert (g["a"].tolist(), g["b"].tolist()) == ([18.0], [9.0])


@pytest.mark.parametrize("weight", [None, 1.0])
def test_each_gradient_has_memory_of_its_own(library, weight):
    """`add` hands one array to both its arguments, `sum` and `reshape` hand on views."""

    def fun(p):
        xp = array_namespace(p["a"])
        y = p["a"] + p["b"] + xp.reshape(p["c"], (2, 2))
        return xp.sum(y) if weight is None else xp.sum(xp.multiply(y, weight))

    params = {"a": np.zeros((2, 2)), "b": np.zeros((2, 2)), "c": np.zeros(4)}
    g = grad(fun)(library.asarray(params))
    for name in "abc":
        g[name] *= 3.0
    assert all(np.all(to_host(g[name]) == 3.0) for name in "abc")


WIDENING = {
    "multiply": lambda xp, x, y: xp.multiply(x, y),
    "where": lambda xp, x, y: xp.where(y > 0.0, x, y),
    "matmul": lambda xp, x, y: xp.matmul(x, y),
    "concat": lambda xp, x, y: xp.concat([x, y]),
    "sum": lambda xp, x, y: xp.sum(x, dtype=xp.float64),
    "cumulative_sum": lambda xp, x, y: xp.cumulative_sum(x, axis=0, dtype=xp.float64),
}


@pytest.mark.parametrize("fun", WIDENING.values(), ids=WIDENING)
def test_rules_return_to_the_dtype_of_their_argument(fun):
    """Seen through `autograd.grad`, which hands on what the rule gives."""
    x, y = np.ones((2, 2), dtype=np.float32), np.ones((2, 2))
    g = autograd.grad(lambda x: total(fun(array_namespace(x), x, y)))(x)
    assert g.dtype == np.float32


@pytest.mark.parametrize("name", ["x ** 2", "mean", "where", "maximum"])
def test_gradient_is_float32_where_autograd_widens(name):
    fun = {
        "x ** 2": lambda x: anp.sum(x**2),
        "mean": lambda x: anp.mean(x) * 1.0,
        "where": lambda x: anp.sum(anp.where(x > 0.0, x, 0.0)),
        "maximum": lambda x: anp.sum(anp.maximum(x, 0.0)),
    }[name]
    x = np.array([1.0, -2.0], dtype=np.float32)
    assert grad(fun)(x).dtype == np.float32
    second = grad(lambda x: anp.sum(grad(fun)(x) * x))(x)
    assert second.dtype == np.float32


# ---- errors


@pytest.mark.parametrize(
    ("leaf", "got"),
    [
        (3, "int"),
        (True, "bool"),
        (1j, "complex"),
        (None, "NoneType"),
        ("W", "str"),
        (np.arange(3), "an array of int64"),
    ],
)
def test_leaf_that_is_no_floating_array(leaf, got):
    params = {"layers": [{"W": np.ones(2)}, {"W": leaf}]}
    with pytest.raises(TypeError, match=rf"at params\['layers'\]\[1\]\['W'\], got .*{got}"):
        grad(lambda p: anp.sum(p["layers"][0]["W"]))(params)


def test_lone_leaf_that_is_no_floating_array():
    with pytest.raises(TypeError, match=r"^expected a floating array, got str$"):
        grad(lambda x: x)("x")


@pytest.mark.parametrize(
    ("fun", "message"),
    [
        (lambda xp, x: x, r"one number, got shape \(2,\)"),
        (lambda xp, x: xp.argmax(x), r"floating number, got .*\bint64"),
        (lambda xp, x: xp.any(x > 0.0), r"floating number, got .*\bbool"),
        (lambda xp, x: None, "one number, got NoneType"),
        (lambda xp, x: 1, "one number, got int"),
        (lambda xp, x: (xp.sum(x), 1.0), "one number, got tuple"),
    ],
)
def test_result_that_is_no_number(library, fun, message):
    with pytest.raises(TypeError, match=message):
        grad(lambda x: fun(array_namespace(x), x))(library.asarray(np.ones(2)))


def test_result_independent_of_the_parameters(library):
    params = {
        "a": library.asarray(np.ones(2, dtype=np.float32)),
        "b": [library.asarray(np.ones(()))],
    }
    with pytest.warns(UserWarning, match="does not depend on the parameters") as record:
        value, g = value_and_grad(lambda p: 2.5)(params)
    assert record[0].filename == __file__
    assert value == 2.5
    assert to_host(g["a"]).tolist() == [0.0, 0.0]
    assert g["a"].dtype == params["a"].dtype
    assert to_host(g["b"][0]).tolist() == 0.0


def test_an_error_inside_leaves_autograd_usable():
    """autograd's own `new_trace` does not close a trace that an exception left; ours need not."""

    def broken(x):
        raise RuntimeError("inside")

    def outer(x):
        with pytest.raises(RuntimeError, match="inside"):
            grad(lambda y: grad(broken)(y))(x)
        return anp.sum(x * grad(lambda y: anp.sum(y**2))(x))

    for _ in range(3):
        with pytest.raises(RuntimeError, match="inside"):
            grad(broken)(np.ones(2))
    assert grad(outer)(np.array([1.0, 2.0])).tolist() == [4.0, 8.0]


def test_an_error_in_a_rule_leaves_autograd_usable():
    with pytest.raises(ValueError, match="distinct"):
        grad(lambda x: anp.sum(array_namespace(x).linalg.eigh(x)[1] ** 2))(np.eye(2))
    assert grad(lambda x: anp.sum(x**2))(np.ones(2)).tolist() == [2.0, 2.0]


# ---- higher orders


def test_third_derivative(library):
    def derivative(f):
        return lambda x: array_namespace(x).sum(grad(f)(x))

    def fifth_power(x):
        xp = array_namespace(x)
        return xp.sum(xp.pow(x, 5))

    x = library.asarray(np.array([1.0, 2.0]))
    assert to_host(grad(derivative(derivative(fifth_power)))(x)).tolist() == [60.0, 240.0]


def _network(params, x):
    xp = array_namespace(x, *(leaf for _, leaf in leaves_with_paths(params)))
    for layer in params:
        x = xp.tanh(xp.add(xp.matmul(x, layer["W"]), layer["b"]))
    return xp.mean(xp.square(x))


def _plain_network(params, x):
    for layer in params:
        x = anp.tanh(anp.matmul(x, layer["W"]) + layer["b"])
    return anp.mean(x**2)


def _parameters(rng):
    return [{"W": rng.standard_normal((3, 3)), "b": rng.standard_normal(3)} for _ in range(3)]


@pytest.mark.parametrize("network", [_network, _plain_network])
def test_agrees_with_autograd(rng, network):
    params, x = _parameters(rng), rng.standard_normal((4, 3))
    value, g = value_and_grad(network)(params, x)
    value_there, g_there = autograd.value_and_grad(_plain_network)(params, x)
    assert value == pytest.approx(value_there, rel=1e-14)
    tree_map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-15), g, g_there)


def test_hessian_vector_product(library, rng):
    W, x, v = (rng.standard_normal((3, 3)) for _ in range(3))
    params = lambda W: [{"W": W, "b": 0.1}] * 3  # noqa: E731
    expected = autograd.hessian_vector_product(lambda W: _plain_network(params(W), x))(W, v)

    W, x, v = library.asarray((W, x, v))
    slope = grad(lambda W: _network(params(W), x))
    got = grad(lambda W: _sum(array_namespace(W).multiply(slope(W), v)))(W)
    np.testing.assert_allclose(to_host(got), expected, rtol=1e-11)


def _sum(x):
    return array_namespace(x).sum(x)


def test_code_of_autograd_and_ours_in_one_function(rng):
    W, x = rng.standard_normal((3, 3)), rng.standard_normal((5, 3))

    def mixed(W):
        xp = array_namespace(W)
        y = anp.tanh(anp.dot(x, W))
        y = xp.cumulative_sum(y, axis=-1)
        return anp.sum(anp.sin(y) * xp.expand_dims(xp.vecdot(y, y), axis=-1))

    def plain(W):
        y = anp.cumsum(anp.tanh(anp.dot(x, W)), axis=-1)
        return anp.sum(anp.sin(y) * anp.sum(y * y, axis=-1)[:, None])

    expected = autograd.grad(plain)(W)
    np.testing.assert_allclose(grad(mixed)(W), expected, rtol=1e-12)
    np.testing.assert_allclose(autograd.grad(mixed)(W), expected, rtol=1e-12)

    expected = autograd.grad(lambda W: anp.sum(autograd.grad(plain)(W) ** 2))(W)
    for outer, inner in ((grad, autograd.grad), (autograd.grad, grad), (grad, grad)):
        got = outer(lambda W, inner=inner: anp.sum(inner(mixed)(W) ** 2))(W)
        np.testing.assert_allclose(got, expected, rtol=1e-11)


def test_jacobian_of_autograd(rng):
    x = rng.standard_normal(4)
    got = autograd.jacobian(lambda x: array_namespace(x).cumulative_sum(x * x))(x)
    np.testing.assert_allclose(got, np.tri(4) * (2.0 * x), rtol=1e-14)


def test_autograd_may_trace_a_python_float():
    @at_the_door
    def fun(t: "..."):
        xp = array_namespace(t)
        return xp.sum(xp.exp(xp.multiply(t, t)))

    assert autograd.grad(fun)(0.5) == pytest.approx(np.exp(0.25))


def test_inner_gradient_that_ignores_the_outer_parameters(library):
    x, c = library.asarray((np.array([1.0, 2.0]), np.array([3.0, 5.0])))

    def outer(x):
        constant = grad(total)(c)
        return _sum(array_namespace(x).multiply(constant, x))

    assert to_host(grad(outer)(x)).tolist() == [6.0, 10.0]


def test_inner_result_that_depends_on_the_outer_parameters_only(library):
    x, c = library.asarray(np.array([1.0, 2.0])), library.asarray(np.ones(2))

    def outer(x):
        with pytest.warns(UserWarning, match="does not depend"):
            value, g = value_and_grad(lambda c: total(x))(c)
        return value + total(x * g)

    assert to_host(grad(outer)(x)).tolist() == [2.0, 4.0]


def test_levels_do_not_mix(library):
    """d/dx [x · d/dy (x y)] = d/dx x² = 2x, at y = x: the inner derivative holds x still."""
    x = library.asarray(np.array([3.0]))
    fun = lambda x: _sum(x * grad(lambda y: _sum(x * y))(x))  # noqa: E731
    assert to_host(grad(fun)(x)).tolist() == [6.0]


# ---- cost


def _chain(params):
    xp = array_namespace(params["x"])
    x = params["x"]
    for layer in params["layers"]:
        x = xp.add(xp.tanh(xp.multiply(x, layer["w"])), xp.multiply(x, layer["a"]))
    return xp.sum(x)


def _count(monkeypatch, n_layers):
    """How many rules, nodes and roots a chain of that many layers takes."""
    rules, nodes, roots = [], [], []
    new_root = gradients.VJPNode.new_root

    def counted(node):
        vjp = node.vjp
        return lambda g: rules.append(node) or vjp(g)

    def walk(end):
        for node in in_order(end):
            nodes.append(node)
            node.vjp = counted(node)
            yield node

    in_order = gradients._in_order
    layers = [{"w": np.ones(2), "a": np.ones(2)} for _ in range(n_layers)]
    with monkeypatch.context() as patch:
        patch.setattr(gradients, "_in_order", walk)
        patch.setattr(
            gradients.VJPNode, "new_root", classmethod(lambda cls: roots.append(0) or new_root())
        )
        grad(_chain)({"x": np.ones(2), "layers": layers})
    return len(rules), len(nodes), len(roots)


def test_cost_is_linear_in_depth(monkeypatch):
    rules_100, nodes_100, roots_100 = _count(monkeypatch, 100)
    rules_200, nodes_200, roots_200 = _count(monkeypatch, 200)
    assert rules_100 == nodes_100 == 100 * 4 + 1
    assert (roots_100, roots_200) == (201, 401)
    assert rules_200 <= 2.2 * rules_100
    assert nodes_200 == rules_200


def test_each_rule_runs_once_per_use():
    calls = []

    @primitive
    def double(x):
        return 2.0 * x

    def slope(ans, x):
        return lambda g: calls.append(0) or 2.0 * g

    defvjp(double, slope)

    def fun(x):
        for _ in range(50):
            x = double(x) * 0.5
        return anp.sum(x)

    assert grad(fun)(np.ones(2)).tolist() == [1.0, 1.0]
    assert len(calls) == 50


def test_a_long_chain_needs_no_recursion():
    def fun(x):
        for _ in range(5000):
            x = x + 0.001
        return anp.sum(x)

    assert grad(fun)(np.ones(1)).tolist() == [1.0]


def test_the_tape_keeps_what_rules_read_and_is_freed_while_it_is_walked():
    """It keeps 2 of a layer's 3 arrays, and drops them where the gradient of w comes in."""
    n_layers, size = 50, 20_000
    params = [np.full(size, 0.9) for _ in range(n_layers)]

    def fun(params):
        xp = array_namespace(*params)
        x = params[0]
        for w in params:
            x = xp.tanh(xp.multiply(xp.add(x, 0.1), w))
        return xp.sum(x)

    grad(fun)(params)
    tracemalloc.start()
    try:
        grad(fun)(params)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    layers = peak / (n_layers * size * 8)
    assert 1.0 < layers < 2.3


def test_the_first_gradient_of_a_process_has_our_rules():
    """A NumPy scalar within it is traced by our box, not by autograd's, which rounds otherwise."""
    code = (
        "import numpy as np, mgt_np as mgt\n"
        "def f(x):\n"
        "    total = mgt.array_namespace(x).sum(x)\n"
        "    print(type(total).__name__)\n"
        "    return total\n"
        "mgt.grad(f)(np.ones(3))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "TracedNumPyArray"
