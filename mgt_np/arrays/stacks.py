"""Through a stack of steps that are alike: a loop, or JAX's scan where JAX compiles."""

from importlib import import_module

from autograd.tracer import isbox

from .boxes import has_values
from .namespace import library_of
from .trees import leaves_beside, rebuild


def through_stack(step, state, entries):
    """Return step(… step(step(state, entries[0]), entries[1]) …, entries[−1]).

    `state` is an array of one shape throughout, `entries` is a list of trees of arrays. What JAX
    compiles goes through `jax.lax.scan`, which holds the step once however many entries there are;
    entries of different trees, shapes or dtypes, and all other arrays, take a loop.
    """
    if len(entries) > 1 and _is_compiled(state) and (leaves := _alike(entries)) is not None:
        return _scanned(step, state, entries[0], leaves)
    for entry in entries:
        state = step(state, entry)
    return state


def _scanned(step, state, first, leaves):
    """The same by a scan: `leaves` are those of all entries for each leaf of the first."""
    jax = import_module("jax")
    # A scan copies what a step keeps for the backward pass into an array of all steps, which takes
    # longer than to compute it again: products with weights are kept, and nothing else.
    kept = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    step = jax.checkpoint(step, policy=kept)
    stacked = rebuild(first, iter([jax.numpy.stack(each) for each in leaves]))
    return jax.lax.scan(lambda x, entry: (step(x, entry), None), state, stacked)[0]


def _is_compiled(x):
    library = library_of(x)
    return library is not None and library.name == "jax" and not isbox(x) and not has_values(x)


def _alike(entries):
    """The leaves of all entries, place by place; None where they differ in more than value."""
    try:
        leaves = leaves_beside(*entries)
    except ValueError:
        return None
    kinds = ({(tuple(x.shape), x.dtype) for x in each} for each in leaves)
    return leaves if all(len(kind) == 1 for kind in kinds) else None
