"""Who is measured: ours and its peers, each in a file that is loaded when it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mgt_np.arrays.checks import one_of

from .shapes import problem

# name: (the package it needs, the file here, the function that builds it)
IMPLEMENTATIONS = {
    "mgt_np": ("mgt_np", "ours", "build"),
    "composed": ("mgt_np", "ours", "build_composed"),
    "torch": ("torch", "in_torch", "build"),
    "torch.compile": ("torch", "in_torch", "build_compiled"),
    "jax": ("jax", "in_jax", "build"),
    "mgt_np on jax": ("jax", "ours_on_jax", "build"),
    "autograd": ("autograd", "in_autograd", "build"),
}

# Of the whole training step, the same for all.
CLIP = 1.0
ADAMW = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.01}


@dataclass(frozen=True)
class Implementation:
    """One model in one implementation, with weights and tokens in place.

    `step()` gives loss and gradients, `forward()` the logits, both when they are computed;
    `to_host(loss, gradients)` makes a float and a tree like the parameters' of NumPy arrays.
    `training()` begins a training at these weights and returns its step, which gives the loss, the
    parameters after clipping and AdamW, for `to_host` too, and the seconds that those two took;
    None where no such loop is written. `compiles`: whether the first call also compiles.
    """

    step: Callable[[], tuple[Any, Any]]
    forward: Callable[[], Any]
    to_host: Callable[[Any, Any], tuple[float, dict]]
    training: Callable[[], Callable[[], tuple[Any, Any, float]]] | None = None
    compiles: bool = False


def builder(name, rule):
    """Return the function (config, params, tokens) → `Implementation`, or why there is none."""
    one_of(IMPLEMENTATIONS, **{"the implementation": name})
    package, file, function = IMPLEMENTATIONS[name]
    if find_spec(package) is None:
        return None, f"{package} is not installed"
    module = import_module(f".{file}", __package__)
    if rule not in module.RULES:
        return None, f"not written there under the rule {rule}"
    return getattr(module, function), None


def ready_step(name, shape, rule):
    """Return the training step of an implementation that is here, compiled if it compiles."""
    build, _ = builder(name, rule)
    implementation = build(*problem(shape, rule))
    if implementation.compiles:
        implementation.step()
    return implementation.step
