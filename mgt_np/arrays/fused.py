"""One equation, two forms: composed, to read and to differentiate twice; fused, to run.

A composed layer is a chain of differentiable functions, each a node on autograd's tape. Its fused
form is one node: `forward` computes the result and what the gradient needs, `backward` the
vector-Jacobian product, derived by hand.

`forward(xp, *arrays, **options)` takes the layer's positional arguments, arrays or None, untraced,
of one dtype and on one device, and its options. It returns the result, an array or a tuple of
them, and a tuple of what `backward` reads; or None for arguments that it leaves to the composed
form. `backward(xp, g, *saved)` takes the gradient of the result and returns that of each
positional argument, None where that is no array. It writes to none of the arrays that it is given,
since it may be called again. Second derivatives go through the composed form.
"""

from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from autograd.extend import Box, VJPNode
from autograd.tracer import isbox

from .boxes import box
from .gradients import pull_back
from .namespace import library_of
from .trees import leaves_of, rebuild

_COMPOSED = ContextVar("composed", default=False)
in_composed_form = _COMPOSED.get


@contextmanager
def composed():
    """Let every layer compute its composed form within this context."""
    token = _COMPOSED.set(True)
    try:
        yield
    finally:
        _COMPOSED.reset(token)


def run_fused(body, forms, plan, arrays, options):
    """Return the fused form's result, first in a tuple; None where this call may not be fused."""
    xp = plan.lean_xp
    if not plan.traced:
        return forms["forward"](xp, *arrays, **options)
    call = _untraced(arrays)
    if call is None:
        return None
    values, trace, argnums, parents = call
    made = forms["forward"](xp, *values, **options)
    if made is None:
        return None
    result, saved = made

    def vjp(g):
        if isbox(g) or (type(g) is tuple and any(map(isbox, g))):
            return _through_the_equation(body, values, options, argnums, g)
        gradients = forms["backward"](xp, g, *saved)
        return [gradients[i] for i in argnums]

    node = VJPNode.__new__(VJPNode)
    node.parents, node.vjp = parents, vjp
    boxed = box(result, trace, node)
    if type(result) is not tuple:
        return (boxed,)
    return (tuple(boxed[i] for i in range(len(result))),)


def _untraced(arrays):
    """The arrays without boxes, their trace, which are traced, and their nodes.

    None where one node cannot stand for the call: on several traces, or one that is not ours.
    """
    values, trace, argnums, parents, boxes = list(arrays), None, [], [], Box.types
    for i, x in enumerate(arrays):
        if type(x) in boxes:
            if trace is None:
                trace = x._trace
            if x._trace != trace or type(x._node) is not VJPNode:
                return None
            values[i] = value = x._value
            if type(value) is not np.ndarray:
                if type(value) in boxes:
                    return None
                if isinstance(value, (np.generic, float)):  # what NumPy makes of a 0-d array
                    values[i] = np.asarray(value)
            argnums.append(i)
            parents.append(x._node)
    return values, trace, argnums, parents


def _through_the_equation(body, arrays, options, argnums, g):
    """The same gradients by way of the composed form, so that `g` can be differentiated."""

    def result_of(values):
        args = list(arrays)
        for i, value in zip(argnums, values, strict=True):
            args[i] = value
        *args, given = as_constants([*args, options])
        return body(*args, **given)

    return pull_back(result_of, [arrays[i] for i in argnums], g)


def as_constants(values):
    """Put untraced floating arrays into boxes beside traced ones, where their library wants that.

    array_api_strict's arrays refuse a traced operand on their right. The gradient of such a
    constant is never asked for.
    """
    traced = [x for x in leaves_of(values) if isbox(x)]
    if not traced or library_of(traced[0]).yields_to_boxes:
        return values
    top = max(traced, key=lambda x: x._trace)

    def boxed(x):
        library = library_of(x)
        if isbox(x) or library is None or not library.is_floating(x.dtype):
            return x
        return type(top)(x, top._trace, VJPNode.new_root())

    return rebuild(values, map(boxed, leaves_of(values)))
