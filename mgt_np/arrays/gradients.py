"""Gradients over parameter trees: one root per leaf, one walk over the tape. Lesson 00."""

import functools
import itertools
import threading
import warnings

import numpy as np
from array_api_compat import is_writeable_array
from autograd.core import add_outgrads
from autograd.extend import VJPNode, vspace
from autograd.tracer import getval, isbox, trace_stack

from .boxes import box
from .namespace import library_of
from .trees import leaves_of, leaves_with_paths, rebuild


def value_and_grad(fun):
    """Return a function that gives `fun(params, *args)` and its gradient with respect to `params`.

    `params` is an array or any nesting of dicts, lists and tuples of real floating arrays; the
    gradient has the same nesting, dtypes and devices. `fun` returns one number. The cost is that of
    `fun` and one walk over its nodes, however many leaves there are, and the result can be
    differentiated again, and threads may take gradients beside each other.

    Raises TypeError for a leaf that is no floating array, and for a result that is no single
    floating number; ValueError for a tree that contains itself. A result that does not depend on
    `params` has gradient zero, with a warning.
    """

    @functools.wraps(fun)
    def value_and_gradient(params, *args, **kwargs):
        leaves = _floating_leaves(params)
        roots = [VJPNode.new_root() for _ in leaves]
        trace = _new_level()
        boxes = map(box, leaves, itertools.repeat(trace), roots)
        result = fun(rebuild(params, boxes), *args, **kwargs)
        if not (isbox(result) and result._trace == trace):
            _check_scalar(result)
            warnings.warn("the result does not depend on the parameters", stacklevel=2)
            return result, rebuild(params, (vspace(leaf).zeros() for leaf in leaves))
        value = result._value
        _check_scalar(value)
        gradients = _backward(vspace(value).ones(), result._node, roots)
        return value, rebuild(params, _as_gradients(leaves, gradients))

    return value_and_gradient


def pull_back(fun, leaves, g):
    """Return the gradients of `fun(leaves)`, an array, given the gradient `g` of that array."""
    roots = [VJPNode.new_root() for _ in leaves]
    trace = _new_level()
    result = fun([box(x, trace, root) for x, root in zip(leaves, roots, strict=True)])
    if not (isbox(result) and result._trace == trace):  # it depends on none of them
        return [vspace(x).zeros() for x in leaves]
    found = _backward(g, result._node, roots)
    return [vspace(x).zeros() if dx is None else dx for x, dx in zip(leaves, found, strict=True)]


def grad(fun):
    """Return a function that gives the gradient of `fun(params, *args)` with respect to `params`.

    As `value_and_grad`, without the value.
    """
    value_and_gradient = value_and_grad(fun)

    @functools.wraps(fun)
    def gradient(params, *args, **kwargs):
        return value_and_gradient(params, *args, **kwargs)[1]

    return gradient


_LEVEL_LOCK = threading.Lock()
_latest_level = -1


def _new_level():
    """Return the level of a new trace, above that of every trace begun so far, in any thread.

    An inner trace must have a higher level than those around it. autograd counts its own up and
    down in one number that all threads share, so that a thread that ends a trace lowers the next
    level of the others. These levels are never given twice: nothing has to be undone when a trace
    ends, by an error or not. autograd's number is raised along, so that its own gradients nest in
    ours, and ours in its own; beside another thread, those that it counts itself keep its defect.
    """
    global _latest_level
    with _LEVEL_LOCK:
        _latest_level = trace_stack.top = max(_latest_level, trace_stack.top) + 1
        return _latest_level


def _floating_leaves(params):
    leaves = leaves_of(params)
    for i, leaf in enumerate(leaves):
        if type(leaf) is np.ndarray and leaf.dtype.kind == "f":
            continue
        if isinstance(leaf, (float, np.floating)):  # NumPy makes a number of a 0-d array
            leaves[i] = np.asarray(leaf)
            continue
        library = library_of(leaf)
        if library is None or not library.is_floating(leaf.dtype):
            got = f"an array of {leaf.dtype}" if library else type(leaf).__name__
            path = next(itertools.islice(leaves_with_paths(params), i, None))[0]
            where = f" at params{path}" if path else ""
            raise TypeError(f"expected a floating array{where}, got {got}")
    return leaves


def _check_scalar(value):
    library = library_of(value)
    if library is None:
        if not isinstance(value, float):
            raise TypeError(f"expected fun to return one number, got {type(value).__name__}")
    elif any(n != 1 for n in value.shape):
        raise TypeError(f"expected fun to return one number, got shape {tuple(value.shape)}")
    elif not library.xp.isdtype(getval(value).dtype, "real floating"):
        raise TypeError(f"expected fun to return a floating number, got {value.dtype}")


def _backward(g, end, roots):
    """Return the gradients at `roots`, None where nothing arrives; children come before parents.

    The tape is used up on the way: a node's arrays are freed once its gradient is passed on.
    """
    arrived = {end: (g, False)}
    for node in _in_order(end):
        vjp, node.vjp = node.vjp, None
        for parent, g_parent in zip(node.parents, vjp(arrived.pop(node)[0]), strict=True):
            arrived[parent] = _add(arrived.get(parent), g_parent)
    return [arrived[root][0] if root in arrived else None for root in roots]


def _in_order(end):
    """Yield the nodes with parents from which `end` was made, each after all its children."""
    n_children, todo = {}, [end]
    while todo:
        node = todo.pop()
        if node in n_children:
            n_children[node] += 1
        elif node.parents:
            n_children[node] = 1
            todo.extend(node.parents)
    ready = [end] if end.parents else []
    while ready:
        node = ready.pop()
        yield node
        for parent in node.parents:
            if parent.parents:
                n_children[parent] -= 1
                if not n_children[parent]:
                    ready.append(parent)


def _add(arrived, g):
    """Add as autograd's `add_outgrads` does, by a shorter way for NumPy arrays."""
    if type(g) is np.ndarray:
        if arrived is None:
            return g, False
        total, is_ours = arrived
        if type(total) is np.ndarray:
            return (np.add(total, g, out=total) if is_ours else total + g), True
    return add_outgrads(arrived, g)


def _as_gradients(leaves, gradients):
    """Yield each gradient in its leaf's dtype, in memory of its own that may be written to."""
    seen = set()
    for leaf, g in zip(leaves, gradients, strict=True):
        if g is None:
            yield vspace(leaf).zeros()
            continue
        if g.dtype != leaf.dtype:
            g = library_of(leaf).traced_xp.astype(g, leaf.dtype)
        if not isbox(g) and (id(g) in seen or not _owns_memory(g)):
            g = g.copy() if type(g) is np.ndarray else library_of(leaf).xp.asarray(g, copy=True)
        seen.add(id(g))
        yield g


def _owns_memory(g):
    if type(g) is np.ndarray:
        return g.base is None
    if isinstance(g, np.generic):
        return False
    if hasattr(g, "base"):  # NumPy and CuPy tell a view from an array
        return g.base is None
    return not is_writeable_array(g)
