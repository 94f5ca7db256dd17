"""One equation in two forms: which one runs when, and what each may be asked."""

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from array_libraries import NUMPY, STRICT, host
from gradcheck import check_gradient

from mgt_np import array_namespace, grad
from mgt_np.arrays import blocks, composed, in_blocks
from mgt_np.arrays import layer as at_the_door


@pytest.fixture
def layer():
    """a x², with a list of the forms that ran."""
    ran = []

    @at_the_door
    def scaled_square(x: "...", a: "number | ..." = None, *, power: "float" = 2):
        ran.append("composed")
        xp = array_namespace(x, a)
        y = xp.multiply(x, x)
        return y if a is None else xp.multiply(y, a)

    def forward(xp, x, a, *, power):
        if power != 2:
            return None
        ran.append("forward")
        return (x * x if a is None else x * x * a), (x, a)

    def backward(xp, g, x, a):
        ran.append("backward")
        return (2.0 * g * x if a is None else 2.0 * g * x * a), None if a is None else g * x * x

    scaled_square.fuse(forward, backward)
    scaled_square.ran = ran
    return scaled_square


def total(y):
    return array_namespace(y).sum(y)


def test_the_fused_form_runs_by_default(layer):
    x, a = np.asarray([1.0, 2.0]), np.asarray([3.0, 5.0])
    assert layer(x, a).tolist() == [3.0, 20.0]
    assert layer(x, a=a).tolist() == layer(a=a, x=x).tolist() == [3.0, 20.0]
    assert layer(x).tolist() == [1.0, 4.0]
    assert set(layer.ran) == {"forward"}
    gradients = grad(lambda p: total(layer(**p)))({"x": x, "a": a})
    assert host(gradients)["x"].tolist() == [6.0, 20.0]
    assert host(gradients)["a"].tolist() == [1.0, 4.0]
    assert layer.ran[-2:] == ["forward", "backward"]


def test_numpy_s_scalars_are_arrays(layer):
    """What an optimizer makes of a 0-d parameter: p − 0.1 g is a scalar type of NumPy's."""
    a = np.asarray(3.0) - 0.5
    assert type(a) is np.float64
    slope = grad(lambda a: total(layer(np.asarray([1.0, 2.0]), a * np.ones(2))))(a)
    assert layer(np.float64(2.0), np.asarray(a)) == 10.0
    assert float(slope) == 5.0
    assert "composed" not in layer.ran


def test_it_is_one_node_of_the_tape(layer):
    def nodes(x):
        y = layer(x, x)
        assert [parent.parents for parent in y._node.parents] == [[], []]
        return total(y)

    assert grad(nodes)(np.asarray([1.0, 2.0])).tolist() == [3.0, 12.0]


@pytest.mark.parametrize("traced", [False, True])
def test_what_the_fused_form_declines_is_composed(layer, traced):
    def f(x, power=3, a=None):
        return total(layer(x, a, power=power))

    x = np.asarray([1.0, 2.0])
    run = grad(f) if traced else f
    for options in ({}, {"power": 2, "a": np.asarray([1.0, 1.0], dtype="float32")}):
        layer.ran.clear()
        run(x, **options)
        assert layer.ran == ["composed"]


@pytest.mark.parametrize("kind", [float, int, np.float32, np.float64])
def test_a_number_is_an_array_of_the_others_dtype_in_a_fused_form(layer, kind):
    x, number = np.asarray([1.0, 2.0], dtype="float32"), kind(3)
    for run in (layer, grad(lambda x, a: total(layer(x, a)))):
        layer.ran.clear()
        result = run(x, number)
        assert layer.ran[0] == "forward"
        assert result.dtype == x.dtype
        with composed():
            np.testing.assert_array_equal(result, run(x, number))


def test_none_for_an_array_is_refused(layer):
    with pytest.raises(TypeError, match="expected x to be an array"):
        layer(None)


def test_what_pytorch_is_to_differentiate_is_composed(layer):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    a = torch.tensor([3.0, 5.0])
    for arrays in ((x, a), (a, x), (x,)):
        layer(*arrays)
    assert set(layer.ran) == {"composed"}
    layer(a, a)
    assert layer.ran[-1] == "forward"


def test_within_the_context_everything_is_composed(layer):
    with composed():
        layer(np.ones(2))
        with pytest.raises(ZeroDivisionError):
            raise ZeroDivisionError
    layer(np.ones(2))
    assert layer.ran == ["composed", "forward"]
    layer.composed(np.ones(2))
    assert layer.ran[-1] == "composed"


def test_arguments_that_are_wrong_are_refused(layer):
    with pytest.raises(TypeError, match="scaled_square: expected an argument x, got none"):
        layer()
    with pytest.raises(TypeError, match=r"expected x to be an array \(\.\.\.\), got 'x'"):
        layer("x")
    with pytest.raises(TypeError, match="expected x to be floating, got int64"):
        layer(np.ones(2, dtype=np.int64))
    with pytest.raises(
        TypeError, match="one library, got x from numpy and a from array_api_strict"
    ):
        layer(np.ones(2), STRICT.asarray(np.ones(2)))
    assert "forward" not in layer.ran


def test_second_derivatives_are_those_of_the_composed_form(layer, rng):
    x, a = rng.standard_normal((2, 3))
    check_gradient(layer, x, a, rng=rng)
    curvature = grad(lambda x: total(grad(lambda x: total(layer(x, a)))(x)))(x)
    np.testing.assert_allclose(curvature, 2.0 * a, rtol=1e-15)
    assert {"composed", "forward", "backward"} == set(layer.ran)


def test_a_gradient_that_is_itself_traced_goes_through_the_composed_form(layer, rng):
    """d/dw of the gradient of w · f(x): the layer's argument is not traced by the outer one."""
    x, a = rng.standard_normal((2, 3))
    slope = grad(lambda w: total(grad(lambda x: total(layer(x, a) * w))(x)))(np.ones(3))
    np.testing.assert_allclose(slope, 2.0 * a * x, rtol=1e-15)
    assert layer.ran == ["forward", "composed"]


def test_autograd_s_own_operators_see_one_more_primitive(layer):
    x = np.asarray([1.0, 2.0, 3.0])
    jacobian = autograd.jacobian(lambda x: layer(anp.sin(x)))(x)  # calls the same node thrice
    np.testing.assert_allclose(jacobian, np.diag(2 * np.sin(x) * np.cos(x)), rtol=1e-14)
    assert autograd.grad(lambda x: anp.sum(layer(x)))(x).tolist() == [2.0, 4.0, 6.0]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("n_axes", [None, 1])
def test_blocks_change_nothing(size, n_axes, rng, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 8 * size)
    x, y = rng.standard_normal((2, 7, 5, 4))
    seen = []

    def function(x, y):
        seen.append(x.shape)
        return x * y, y[..., :2]

    product, part = in_blocks(function, x, y, n_axes=n_axes)
    assert np.array_equal(product, x * y)
    assert np.array_equal(part, y[..., :2])
    assert in_blocks(lambda x: x + 1.0, x).tolist() == (x + 1.0).tolist()
    assert len(seen) == {(1, None): 35, (1, 1): 7, (3, None): 35, (3, 1): 7}.get((size, n_axes), 1)
    assert all(len(shape) == (2 if n_axes is None and size < 1000 else 3) for shape in seen)


def test_wider_intermediates_make_smaller_blocks(rng, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 8 * 4 * 10)
    x, n_rows = rng.standard_normal((40, 4)), []
    in_blocks(lambda x: n_rows.append(len(x)) or x, x)
    in_blocks(lambda x: n_rows.append(len(x)) or x, x, widest=5)
    assert n_rows == [10] * 4 + [2] * 20


def test_other_libraries_get_their_arrays_whole(library, rng, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 8)
    x, shapes = library.asarray(rng.standard_normal((4, 3))), []
    in_blocks(lambda x: shapes.append(tuple(x.shape)) or x, x)
    assert shapes == ([(1, 3)] * 4 if library is NUMPY else [(4, 3)])
