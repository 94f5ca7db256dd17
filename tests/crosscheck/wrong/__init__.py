"""Layers as other people write them, wrong and right, with which the cross-check is tested.

They are written apart from `mgt_np.crosscheck`: nothing here knows which mistakes it can name.
"""

from collections.abc import Callable
from dataclasses import dataclass


def recorder(found):
    """Return a decorator that adds a function to the list `found`, with what is wrong with it."""

    def record(function, library, mistake="", *, parts=1, gradient_only=False):
        def add(call):
            found.append(Wrong(function, library, call, mistake, parts, gradient_only))
            return call

        return add

    return record


@dataclass(frozen=True)
class Wrong:
    """One implementation of a function of the contract, with the contract's arguments.

    function: the name in the contract. library: "torch" or "numpy", whose arrays `call` takes.
    mistake: what is wrong, in a sentence; empty for a right one. parts: how many mistakes were
    made at once. gradient_only: the values are right, a gradient is not.
    """

    function: str
    library: str
    call: Callable
    mistake: str
    parts: int = 1
    gradient_only: bool = False
