"""Forget what can be computed again: time for memory in the backward pass."""

import functools

from autograd.extend import VJPNode
from autograd.tracer import isbox

from .boxes import box
from .gradients import pull_back
from .namespace import library_of
from .trees import leaves_of, rebuild


def checkpoint(fun):
    """Return `fun`, one node on the tape whatever it does (Chen et al., 1604.06174, §3).

    Its arguments are trees of arrays and its result is an array. What its gradient needs is not
    kept: the backward pass computes `fun` a second time. Raises TypeError for another result, and
    where it depends on a traced array that is no argument, whose gradient would be lost.
    """

    @functools.wraps(fun)
    def checkpointed(*args):
        leaves = leaves_of(args)
        traced = [i for i, leaf in enumerate(leaves) if isbox(leaf)]
        if not traced:
            return fun(*args)
        trace = leaves[traced[0]]._trace
        parents = [leaves[i]._node for i in traced]
        values = [leaf._value if isbox(leaf) else leaf for leaf in leaves]
        if (
            any(leaves[i]._trace != trace or isbox(values[i]) for i in traced)
            or type(parents[0]) is not VJPNode
        ):
            return fun(*args)  # derivatives of derivatives need it all

        def of_traced(boxes):
            again = list(values)
            for i, x in zip(traced, boxes, strict=True):
                again[i] = x
            return fun(*rebuild(args, iter(again)))

        result = fun(*rebuild(args, iter(values)))
        if isbox(result):
            raise TypeError(
                "expected all that is traced among the arguments, but fun closes over some"
            )
        if library_of(result) is None:
            raise TypeError(f"expected fun to return an array, got {type(result).__name__}")
        node = VJPNode.__new__(VJPNode)
        node.parents = parents
        node.vjp = lambda g: pull_back(of_traced, [values[i] for i in traced], g)
        return box(result, trace, node)

    return checkpointed
