"""Array libraries, and HIPS autograd over all of them."""

from .boxes import device, on_host
from .gradients import grad, value_and_grad
from .libraries import Place, move, place
from .namespace import array_namespace, as_float_array, in_one_place, operands, to_host
from .special import normal_cdf
from .trees import leaves_with_paths, tree_map

__all__ = [
    "Place",
    "array_namespace",
    "as_float_array",
    "device",
    "grad",
    "in_one_place",
    "leaves_with_paths",
    "move",
    "normal_cdf",
    "on_host",
    "operands",
    "place",
    "to_host",
    "tree_map",
    "value_and_grad",
]
