"""Adapters: layers of other libraries, in their own layout, beside ours.

Each adapter is a module of its own with three functions. The source is a live module or a
state_dict of arrays; options have the names that the other library gives them.

    parameters(source, **options)     (kind, options, params): the layer of ours that it is, its
                                      options, and its weights under our names, as NumPy arrays
    reference(source, *inputs)        what the module computes, computed by our layers
    check(source, rng, **inputs)      both, with gradients, on the same numbers: an `Adapted`
"""

import importlib
from collections.abc import Mapping

from .running import Adapted

__all__ = ["ADAPTERS", "Adapted"]


class _Adapters(Mapping):
    """The adapters by name, each imported when it is asked for."""

    names = (
        "torch_attention",
        "torch_encoder_layer",
        "hyper_connections",
        "deepseek_v4",
        "ddl",
        "fla",
    )

    def __getitem__(self, name):
        if name not in self.names:
            raise KeyError(f"expected an adapter of {', '.join(self.names)}, got {name!r}")
        return importlib.import_module(f".{name}", __name__)

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)


ADAPTERS = _Adapters()
