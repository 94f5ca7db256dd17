"""The other side's function, called with copies of a case, and what can go wrong there."""

import importlib.util
import inspect
import sys
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from mgt_np import array_namespace, grad

from .contract import CONTRACT, arguments, results

LIBRARIES = ("numpy", "torch", "jax")
SECONDS = 20.0  # in which a call has to end


@dataclass
class Answer:
    """What came of a case: outputs and gradients in float64, or the verdict on the way there."""

    outputs: dict = field(default_factory=dict)
    gradients: dict | None = None  # None: no tool here could differentiate it
    verdict: str | None = None
    why: str = ""


def library_named(name):
    """Return how to put arrays there, get them back, and differentiate: three functions."""
    return {"numpy": _Numpy, "torch": _Torch, "jax": _Jax}[name]()


def libraries_for(target):
    """Return the libraries to try, that of the target's own `ARRAYS` alone if it has that."""
    said = target.get("ARRAYS") if isinstance(target, Mapping) else getattr(target, "ARRAYS", None)
    found = [name for name in LIBRARIES if said in (None, name) and importlib.util.find_spec(name)]
    if not found:
        raise ValueError(f"expected ARRAYS to be one of {', '.join(LIBRARIES)}, got {said!r}")
    return found


class _Numpy:
    name = "numpy"
    may_lose_the_trace = True  # a function of NumPy's that autograd does not know, such as einsum
    dtypes = ("float64", "float32", "float16")

    def put(self, x, dtype):
        return np.array(x, dtype=dtype if x.dtype.kind == "f" else None)

    def get(self, y):
        return np.asarray(y)

    def is_array(self, y):
        return isinstance(y, np.ndarray | np.generic)

    def dtype_of(self, y):
        return y.dtype.name

    def device_of(self, y):
        return "cpu"

    def differentiates(self, function):
        """Say whether a function is written for our autograd: plain NumPy cannot be traced."""
        function = inspect.unwrap(function)
        code = getattr(function, "__code__", None)
        used = [function.__globals__.get(name) for name in code.co_names] if code else []
        rooms = [getattr(x, "__module__", None) or getattr(x, "__name__", "") for x in used]
        return any(room.startswith(("autograd", "mgt_np")) for room in map(str, rooms))

    def total(self, y):
        return array_namespace(y).sum(y)

    def repeatable(self, function):
        return function

    def gradient(self, loss, arrays):
        try:
            return grad(loss)(arrays)
        except Exception:
            return None


class _Torch:
    name = "torch"
    may_lose_the_trace = False
    dtypes = ("float64", "float32", "bfloat16", "float16")

    def __init__(self):
        import torch

        self.torch = torch

    def put(self, x, dtype):
        return self.torch.tensor(
            x, dtype=getattr(self.torch, dtype) if x.dtype.kind == "f" else None
        )

    def get(self, y):
        y = y.detach().cpu()
        return y.double().numpy() if y.is_floating_point() else y.numpy()

    def is_array(self, y):
        return isinstance(y, self.torch.Tensor)

    def dtype_of(self, y):
        return str(y.dtype).removeprefix("torch.")

    def device_of(self, y):
        return str(y.device)

    def differentiates(self, function):
        return True

    def total(self, y):
        return y.sum()

    def repeatable(self, function):
        return function

    def gradient(self, loss, arrays):
        leaves = {name: x.clone().requires_grad_() for name, x in arrays.items()}
        value = loss(leaves)
        if not value.requires_grad:
            return dict.fromkeys(arrays)
        found = self.torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        return dict(zip(arrays, found, strict=True))


# To XLA: a case is computed once or twice, so that no time of compiling is made up for.
QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}


@contextmanager
def float64_of_jax():
    """Leave JAX with the float64 that it has now, whatever is switched on within."""
    jax = sys.modules.get("jax")
    had = jax is not None and jax.config.jax_enable_x64
    try:
        yield
    finally:
        if _Jax.config is not None:
            _Jax.config.update("jax_enable_x64", had)
            _Jax.config = None


class _Jax:
    config = None  # JAX's, once float64 is switched on
    name = "jax"
    may_lose_the_trace = False
    dtypes = ("float64", "float32", "bfloat16", "float16")

    def __init__(self):
        import jax

        _Jax.config = jax.config
        jax.config.update("jax_enable_x64", True)
        self.jax = jax

    def put(self, x, dtype):
        return self.jax.numpy.asarray(np.array(x), dtype=dtype if x.dtype.kind == "f" else None)

    def get(self, y):
        return np.asarray(y, dtype=np.float64)

    def is_array(self, y):
        return isinstance(y, self.jax.Array)

    def dtype_of(self, y):
        return y.dtype.name

    def device_of(self, y):
        return next(iter(y.devices())).platform if hasattr(y, "devices") else "cpu"

    def differentiates(self, function):
        return True

    def total(self, y):
        return y.sum()

    def repeatable(self, function):
        return _Traced(self.jax, function)

    def gradient(self, loss, arrays):
        return _Traced(self.jax, self.jax.grad(loss))(arrays)


class _Traced:
    """A function of JAX's, compiled as a whole where it can be.

    JAX compiles each operation for each shape, which takes minutes for all cases. A function that
    looks at values, or computes on the host, is called as it is. The second call traces it again:
    where that gives another program, the function is not deterministic.
    """

    def __init__(self, jax, function):
        self.jax, self.function, self.program, self.made = jax, function, None, None

    def __call__(self, arrays):
        try:
            # A function of its own each time: JAX traces no function twice.
            lowered = self.jax.jit(lambda arrays: self.function(arrays)).lower(arrays)
            program = lowered.as_text()
            if program != self.program:
                self.made = lowered.compile(compiler_options=QUICKLY)(arrays)
                self.program = program
            return self.made
        except Exception:
            return self.function(arrays)


def rounded(case, dtype):
    """Return a case's arrays as that dtype has them, in float64."""
    if dtype == "float64":
        return dict(case.arrays)
    return {name: None if x is None else _rounded(x, dtype) for name, x in case.arrays.items()}


def _rounded(x, dtype):
    if dtype != "bfloat16":
        return x.astype(dtype).astype(np.float64)
    bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000  # to the nearest, ties to even
    return bits.astype(np.uint32).view(np.float32).astype(np.float64).reshape(x.shape)


def cotangents(case, reference):
    """Return R for each output: gradients are compared of Σ out · R."""
    rng = np.random.default_rng(len(case.id))
    return {name: rng.normal(size=np.shape(y)) for name, y in reference.items()}


def call(function, case, dtype, library, reference, *, gradients=True, seconds=SECONDS):
    """Return the `Answer` of the other side's function to a case in a dtype.

    It is called twice on copies of its own, and once more for gradients; a call that raises, hangs,
    changes what it was given or returns something else than the contract's has a verdict. Where
    there are no threads, as in a browser, one that hangs is not interrupted.
    """
    found = Answer()

    def ask():
        try:
            with np.errstate(all="ignore"):  # what comes of it is compared, not how
                _ask(found, function, case, dtype, library, reference, gradients)
        except BaseException as error:  # sys.exit() too
            found.verdict = "raises"
            found.why = f"{type(error).__name__}: {error}".splitlines()[0][:200]

    thread = threading.Thread(target=ask, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # Pyodide: "can't start new thread"
        ask()
        return found
    thread.join(seconds)
    if thread.is_alive():
        return Answer(verdict="raises", why=f"no answer within {seconds:g} s")
    return found


def _ask(found, function, case, dtype, library, reference, gradients):
    checked = CONTRACT[case.function]
    arrays = {name: x for name, x in rounded(case, dtype).items() if x is not None}
    put = {name: library.put(x, dtype) for name, x in arrays.items()}
    options = {
        name: library.put(x, dtype) if isinstance(x, np.ndarray) else x
        for name, x in case.options.items()
    }
    before = {name: library.get(x).copy() for name, x in put.items()}

    run = library.repeatable(lambda given: function(**arguments(checked, given, options)))
    made = run(put)
    outputs = _checked_outputs(found, checked, made, dtype, library, reference, put)
    if found.verdict:
        return
    for name, x in put.items():
        if not np.array_equal(before[name], library.get(x), equal_nan=True):
            found.verdict, found.why = "mutates-inputs", f"{name} is not what it was"
            return
    again = results(checked, run(put))
    for name, y in again.items():
        if not np.array_equal(outputs[name], library.get(y), equal_nan=True):
            found.verdict, found.why = "not-deterministic", f"{name} differs from call to call"
            return
    found.outputs = {name: np.asarray(y, dtype=np.float64) for name, y in outputs.items()}
    if gradients and checked.differentiable and library.differentiates(function):
        found.gradients = _gradients(
            function, checked, case, dtype, library, put, options, reference
        )


def _checked_outputs(found, checked, made, dtype, library, reference, put):
    """The outputs by name on the host, unless they are no arrays of the right kind."""
    made = made if isinstance(made, tuple | list) else (made,)
    if len(made) != len(checked.outputs):
        found.verdict = "wrong-shape"
        found.why = f"expected {', '.join(checked.outputs)}, got {len(made)} results"
        return None
    outputs = results(checked, tuple(made))
    device = library.device_of(next(iter(put.values())))
    for name, y in outputs.items():
        shape = np.shape(reference[name])
        if not library.is_array(y):
            found.verdict = "wrong-dtype"
            found.why = f"expected {name} to be an array of {library.name}, got {type(y).__name__}"
        elif tuple(y.shape) != shape:
            found.verdict, got = "wrong-shape", tuple(y.shape)
            found.why = f"expected {name} of shape {shape}, got {got}"
        elif library.dtype_of(y) != dtype:
            found.verdict = "wrong-dtype"
            found.why = f"expected {name} in {dtype}, got {library.dtype_of(y)}"
        elif library.device_of(y) != device:
            found.verdict = "wrong-device"
            found.why = f"expected {name} on {device}, got {library.device_of(y)}"
        if found.verdict:
            return None
    return {name: library.get(y) for name, y in outputs.items()}


def _gradients(function, checked, case, dtype, library, put, options, reference):
    R = {name: library.put(r, dtype) for name, r in cotangents(case, reference).items()}

    def loss(arrays):
        made = results(checked, function(**arguments(checked, arrays, options)))
        total = None
        for name, y in made.items():
            term = library.total(y * R[name])
            total = term if total is None else total + term
        return total

    found = library.gradient(loss, put)
    if library.may_lose_the_trace and (found is None or not all(map(np.any, found.values()))):
        return None  # there is nothing to compare
    zero = {name: np.zeros(np.shape(x)) for name, x in case.arrays.items() if x is not None}
    return {
        name: zero[name] if g is None else np.asarray(library.get(g), dtype=np.float64)
        for name, g in found.items()
    }
