"""Run a layer twice on the same numbers: by `mgt_np.layers`, and by the module itself."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mgt_np.arrays import grad

from .sources import as_float64, refuse_dropout


@dataclass(frozen=True)
class Adapted:
    """What came of both: outputs by name, and gradients of Σ R · output as "grad.<name>".

    ours and theirs: inputs and weights are named as in the module, in its own layout. theirs has
    no gradients where one of its outputs has another shape. arrays: the inputs and weights that
    both were given; compute: the function that makes `ours` of them. without_gradient: what the
    module's gradient does not reach at all, which counts as zero.
    """

    ours: dict
    theirs: dict
    arrays: dict
    compute: Callable
    without_gradient: tuple[str, ...] = ()


def generator(rng):
    """Return the generator given, or one of a fixed seed."""
    return np.random.default_rng(0) if rng is None else rng


def random_copy(adapter, module, rng, replaced=None):
    """Return a copy of a module on the host, in float64, with random weights.

    No matrix is symmetric, and no gain is 1 nor bias 0: at the values that they start from many
    mistakes do not show. replaced: what stands in the copy for a part of the module, by its id.
    """
    import torch

    module = copy.deepcopy(module, dict(replaced or {})).to("cpu", torch.float64)
    refuse_dropout(adapter, module)
    with torch.no_grad():
        for parameter in module.parameters():
            shape = tuple(parameter.shape)
            # as if the longest axis were summed over: no softmax or sigmoid is saturated
            scale = max(shape) ** -0.5 if len(shape) > 1 else 1.0
            parameter.copy_(torch.as_tensor(scale * rng.standard_normal(shape)))
            parameter.requires_grad_()
    return module


def beside_live(forward, module, call, inputs, rng):
    """Return `forward(arrays)` beside `call(module, tensors)`, each a dict of outputs by name."""
    weights = {name: x.detach().numpy().copy() for name, x in _weights(module).items()}
    arrays = inputs | weights
    cotangents = {name: rng.standard_normal(np.shape(y)) for name, y in forward(arrays).items()}
    theirs, unreached = _in_torch(module, call, inputs, cotangents)
    compute = partial(outputs_and_gradients, forward, cotangents=cotangents)
    return Adapted(compute(arrays), theirs, arrays, compute, unreached)


def beside_recorded(adapter, forward, state, inputs, recorded, R):
    """Return `forward(arrays)` beside recorded outputs, and gradients of Σ R · y, if there are."""
    if recorded is None:
        raise ValueError(
            f"{adapter}: expected recorded=, the outputs of a layer with these weights by name, "
            "got a state_dict alone, which cannot be called"
        )
    theirs = {name: as_float64(adapter, name, x) for name, x in recorded.items()}
    with_gradients = any(name.startswith("grad.") for name in theirs)
    if with_gradients and R is None:
        raise ValueError(f"{adapter}: expected R=, of which the gradients are, got None")
    arrays = inputs | state
    cotangents = {"y": as_float64(adapter, "R", R)} if with_gradients else {}

    def compute(arrays):
        made = outputs_and_gradients(forward, arrays, cotangents)
        missing = [name for name in theirs if name not in made]
        if missing:
            names = ", ".join(made)
            raise ValueError(f"{adapter}: expected recorded {names}, got {', '.join(missing)}")
        return {name: made[name] for name in theirs}

    return Adapted(compute(arrays), theirs, arrays, compute)


def outputs_and_gradients(forward, arrays, cotangents):
    """Return the outputs of `forward(arrays)`, and the gradients of Σ cotangent · output."""
    made = forward(arrays)
    if not cotangents:
        return made

    def total(arrays):
        outputs = forward(arrays)
        return sum((outputs[name] * R).sum() for name, R in cotangents.items())

    return made | {f"grad.{name}": g for name, g in grad(total)(arrays).items()}


def only(names, forward, arrays):
    """Return some of the outputs of `forward(arrays)`."""
    made = forward(arrays)
    return {name: made[name] for name in names}


def _in_torch(module, call, inputs, cotangents):
    import torch

    tensors = {name: torch.tensor(x, requires_grad=True) for name, x in inputs.items()}
    made = call(module, tensors)
    outputs = {name: y.detach().double().numpy() for name, y in made.items()}
    if any(outputs[name].shape != R.shape for name, R in cotangents.items()):
        return outputs, ()
    total = sum((made[name] * torch.as_tensor(R)).sum() for name, R in cotangents.items())
    leaves = tensors | _weights(module)
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    unreached = []
    for (name, leaf), gradient in zip(leaves.items(), found, strict=True):
        if gradient is None:
            unreached.append(name)
            gradient = torch.zeros_like(leaf)
        outputs[f"grad.{name}"] = gradient.double().numpy()
    return outputs, tuple(unreached)


def _weights(module):
    """The weights of a module by name; a function has none."""
    return dict(module.named_parameters()) if hasattr(module, "named_parameters") else {}
