"""Array libraries, and HIPS autograd over all of them."""

from .boxes import device, on_host
from .gradients import grad, value_and_grad
from .namespace import array_namespace, as_float_array, operands, to_host
from .special import normal_cdf
from .trees import leaves_with_paths, tree_map

__all__ = [
    "array_namespace",
    "as_float_array",
    "device",
    "grad",
    "leaves_with_paths",
    "normal_cdf",
    "on_host",
    "operands",
    "to_host",
    "tree_map",
    "value_and_grad",
]
