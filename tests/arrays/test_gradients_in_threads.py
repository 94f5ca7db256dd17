"""Gradients taken in several threads at once are those of one thread."""

import contextlib
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import autograd
import numpy as np
import pytest

import mgt_np as mgt
from mgt_np.arrays import checkpoint, to_host

N_THREADS = 8


@pytest.fixture
def impatient_threads():
    """Let Python change threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def total(x):
    return mgt.array_namespace(x).sum(x)


class OtherThread:
    """A thread that is in the middle of a gradient until it is told to end it."""

    def __init__(self, take_gradient):
        self._inside, self._go_on = threading.Event(), threading.Event()

        def wait(x):
            self._inside.set()
            assert self._go_on.wait(10)
            return x * x

        self._thread = threading.Thread(target=take_gradient, args=(wait,))

    def begin(self):
        self._thread.start()
        assert self._inside.wait(10)

    def end(self):
        self._go_on.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


def ours(wait):
    assert float(mgt.grad(wait)(1.5)) == 3.0


def ours_that_fails(wait):
    def fail(x):
        wait(x)
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        mgt.grad(fail)(1.5)


def ours_within_ours(wait):
    assert float(mgt.grad(lambda x: x * mgt.grad(wait)(x))(1.5)) == 6.0


def autograds_own(wait):
    assert autograd.grad(wait)(1.5) == 3.0


OTHERS = [ours, ours_that_fails, ours_within_ours, autograds_own]


def other_gradient_ends_within_the_outer_one(library, other, inner):
    """d²(x y²)/dx dy = 2 y = 6, with another thread's trace closed between x and y."""
    x, y = library.asarray((np.asarray([2.0]), np.asarray([3.0])))
    thread = OtherThread(other)
    thread.begin()

    def outer(x):
        thread.end()
        return total(inner(lambda y: total(x * y * y))(y))

    return to_host(mgt.grad(outer)(x)).tolist()


@pytest.mark.parametrize("other", OTHERS)
def test_another_thread_ends_a_gradient_within_the_outer_one(library, other):
    assert other_gradient_ends_within_the_outer_one(library, other, mgt.grad) == [6.0]


@pytest.mark.parametrize("other", [ours, ours_that_fails, ours_within_ours])
def test_another_thread_ends_a_gradient_within_one_that_holds_autograd(library, other):
    if library.name != "numpy":
        pytest.skip("autograd's own gradients are those of NumPy arrays")
    assert other_gradient_ends_within_the_outer_one(library, other, autograd.grad) == [6.0]


@pytest.mark.parametrize("other", OTHERS)
def test_another_thread_begins_a_gradient_within_the_outer_one(library, other):
    x = library.asarray(np.asarray([2.0]))
    thread = OtherThread(other)

    def outer(x):
        thread.begin()
        g = mgt.grad(lambda y: total(x * y * y))(library.asarray(np.asarray([3.0])))
        thread.end()
        return total(g * mgt.grad(lambda y: total(y * y * x))(x))

    # (2 x 3)(2 x x), whose slope is 36 x²
    assert to_host(mgt.grad(outer)(x)).tolist() == [144.0]


def third_derivative(x):
    """d³ Σ x⁴/dx³."""
    slope = lambda f: lambda x: give_way() or total(mgt.grad(f)(x))  # noqa: E731
    return mgt.grad(slope(slope(lambda x: total(x * x * x * x))))(x)


def twice_through_a_layer(x):
    """Its fused form goes back to its equation to be differentiated twice."""
    cubes = lambda x: total(mgt.layer_norm(x) ** 3)  # noqa: E731
    return mgt.grad(lambda x: give_way() or total(mgt.grad(cubes)(x) ** 2))(x)


def through_a_checkpoint(x):
    """The backward pass takes the gradient within the checkpoint a second time."""
    inside = checkpoint(lambda x: give_way() or x * mgt.grad(lambda y: total(y * y * x))(x))
    return mgt.grad(lambda x: total(inside(x) * x))(x)


def give_way():
    """Let another thread go on, from within a trace."""
    time.sleep(1e-6)


@pytest.mark.parametrize(
    "derivative", [third_derivative, twice_through_a_layer, through_a_checkpoint]
)
def test_many_threads_beside_each_other(library, rng, derivative, impatient_threads):
    """Every third of them ends its gradients by an error."""
    xs = [library.asarray(rng.standard_normal((2, 4))) for _ in range(N_THREADS)]
    expected = [to_host(derivative(x)) for x in xs]
    barrier = threading.Barrier(N_THREADS)

    def work(i):
        barrier.wait(10)
        for _ in range(10):
            if i % 3 == 0:
                with contextlib.suppress(ZeroDivisionError):
                    mgt.grad(lambda x: total(mgt.grad(lambda y: 1 / 0)(x)))(xs[i])
            np.testing.assert_array_equal(to_host(derivative(xs[i])), expected[i])

    with ThreadPoolExecutor(N_THREADS) as pool:
        list(pool.map(work, range(N_THREADS)))


def test_a_loss_that_works_in_threads_of_its_own(library):
    """Their inner gradients close over what is traced in the thread that waits for them.

    Σᵢ (d/dyᵢ x yᵢ²)·yᵢ = Σ 2 x yᵢ², whose slope is 2 Σ yᵢ².
    """
    x = library.asarray(np.asarray([2.0]))
    points = [library.asarray(np.asarray([float(i)])) for i in range(1, 5)]

    def loss(x):
        def one(y):
            return total(mgt.grad(lambda y: total(x * y * y))(y) * y)

        with ThreadPoolExecutor(4) as pool:
            return sum(pool.map(one, points))

    assert to_host(mgt.grad(loss)(x)).tolist() == [60.0]


def test_levels_are_never_given_twice(impatient_threads):
    def levels(_):
        found = []
        fun = lambda x: found.append(x._trace) or x  # noqa: E731
        for _ in range(200):
            mgt.grad(fun)(1.0)
        return found

    with ThreadPoolExecutor(N_THREADS) as pool:
        found = list(pool.map(levels, range(N_THREADS)))
    assert all(one == sorted(one) for one in found)
    assert len({level for one in found for level in one}) == 200 * N_THREADS


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_autograd_nests_with_ours_after_errors(error):
    def fails(x):
        raise error

    def fun(x):
        return x * x * x

    for _ in range(3):
        for take in (mgt.grad, autograd.grad):
            with pytest.raises(error):
                take(fails)(2.0)
        for outer in (mgt.grad, autograd.grad):
            for inner in (mgt.grad, autograd.grad):
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    assert outer(inner(fun))(2.0) == 12.0
