"""Array libraries, and HIPS autograd over all of them."""

from .blocks import in_blocks
from .boxes import device, has_values, on_host
from .checkpoint import checkpoint
from .door import Parameters, layer
from .fused import composed
from .gradients import grad, value_and_grad
from .layout import matrices_inside_out, matrices_outside_in
from .libraries import Place, move, place
from .namespace import array_namespace, as_float_array, concrete, to_host
from .options import Choice
from .scale import held, largest, log_sum_exp, magnitude, squares_are_finite
from .scatter import add_to_columns
from .special import normal_cdf, normal_cdf_float32
from .stacks import through_stack
from .sums import (
    as_rows,
    mean_of_features,
    minus_infinity_below,
    sum_of_columns,
    sum_of_features,
    sum_of_rows,
)
from .trees import leaves_with_paths, tree_map

__all__ = [
    "Choice",
    "Parameters",
    "Place",
    "add_to_columns",
    "array_namespace",
    "as_float_array",
    "as_rows",
    "checkpoint",
    "composed",
    "concrete",
    "device",
    "grad",
    "has_values",
    "held",
    "in_blocks",
    "largest",
    "layer",
    "leaves_with_paths",
    "log_sum_exp",
    "magnitude",
    "matrices_inside_out",
    "matrices_outside_in",
    "mean_of_features",
    "minus_infinity_below",
    "move",
    "normal_cdf",
    "normal_cdf_float32",
    "on_host",
    "place",
    "squares_are_finite",
    "sum_of_columns",
    "sum_of_features",
    "sum_of_rows",
    "through_stack",
    "to_host",
    "tree_map",
    "value_and_grad",
]
