"""Replaced by `door.layer`; goes when the last layer has moved there.

One equation, two forms: composed, to read and to differentiate twice; fused, to run.

A composed layer is a chain of differentiable functions, each a node on autograd's tape. Its fused
form is one node: `forward` computes the result and what the gradient needs, `backward` the
vector-Jacobian product, derived by hand.
"""

import functools
import inspect

import numpy as np
from autograd.extend import Box, VJPNode

from .boxes import box, device
from .fused import _COMPOSED
from .gradients import pull_back
from .namespace import library_of


def fusable(layer):
    """Let a layer, written as a chain of differentiable functions, have a fused form as well.

    `layer.fuse(forward, backward)` gives it one, which then runs by default.
    `forward(xp, *arrays, **options)` takes the layer's arguments, arrays or None where that is the
    default, untraced, of one dtype and on one device, and returns the result and a tuple of what
    `backward` reads; or None, for arguments that it leaves to the composed form, errors among them.
    `backward(xp, g, *saved)` takes the gradient of the result and returns that of each positional
    argument, None where that is no array. It writes to none of the arrays that it is given, since
    it may be called again.

    The composed form, `layer.composed`, still computes second derivatives, what has Python numbers
    for arrays, and what PyTorch is to differentiate itself: its tape forbids what `forward` does.
    """
    parameters = inspect.signature(layer).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    n_required = sum(name not in defaults for name in names)
    of_options = {name: value for name, value in defaults.items() if name not in names}
    boxes, forms = Box.types, {}

    @functools.wraps(layer)
    def function(*args, **kwargs):
        if _COMPOSED.get():
            return layer(*args, **kwargs)
        arrays, options = list(args), of_options | kwargs
        try:
            for name in names[len(args) :]:
                arrays.append(options.pop(name) if name in options else defaults[name])
        except KeyError:  # an argument is missing: let Python say which
            return layer(*args, **kwargs)
        trace, argnums, parents, library = None, [], [], None
        for i, x in enumerate(arrays):
            kind = type(x)
            if kind in boxes:
                if trace is None:
                    trace = x._trace
                if x._trace != trace or type(x._node) is not VJPNode:
                    return layer(*args, **kwargs)
                argnums.append(i)
                parents.append(x._node)
                arrays[i] = x = x._value
                kind = type(x)
            elif x is None and i >= n_required:
                continue
            elif x is None or kind is float or kind is int or getattr(x, "requires_grad", False):
                return layer(*args, **kwargs)
            if isinstance(x, np.generic):  # what NumPy makes of a 0-d array
                arrays[i] = x = np.asarray(x)
                kind = np.ndarray
            if library is None:
                library = library_of(x)
                if library is None or kind in boxes or not library.is_floating(x.dtype):
                    return layer(*args, **kwargs)
                first, first_kind, dtype = x, kind, x.dtype
            elif kind is not first_kind or x.dtype != dtype or not _together(first, x):
                return layer(*args, **kwargs)
        if library is None or any(type(x) in boxes for x in options.values()):
            return layer(*args, **kwargs)
        made = forms["forward"](library.lean_xp, *arrays, **options)
        if made is None:
            return layer(*args, **kwargs)
        result, saved = made
        if trace is None:
            return result

        def vjp(g):
            if type(g) in boxes:
                return _through_the_equation(layer, arrays, options, argnums, g)
            gradients = forms["backward"](library.lean_xp, g, *saved)
            return [gradients[i] for i in argnums]

        node = VJPNode.__new__(VJPNode)
        node.parents, node.vjp = parents, vjp
        return box(result, trace, node)

    def fuse(forward, backward):
        forms.update(forward=forward, backward=backward)

    function.composed, function.fuse, function.forms = layer, fuse, forms
    return function


def _together(x, y):
    return type(x) is np.ndarray or device(x) == device(y)


def _through_the_equation(layer, arrays, options, argnums, g):
    """The same gradients by way of the composed form, so that `g` can be differentiated."""

    def of_traced(values):
        args = list(arrays)
        for i, value in zip(argnums, values, strict=True):
            args[i] = value
        return layer(*args, **options)

    return pull_back(of_traced, [arrays[i] for i in argnums], g)
