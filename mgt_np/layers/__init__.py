"""The equations: pure functions of arrays, one family a file, `init_<layer>` beside each."""

from .activations import gelu, relu, sigmoid, silu, softmax
from .attention import (
    attention_weights,
    init_multi_head_attention,
    multi_head_attention,
    scaled_dot_product_attention,
)
from .delta import (
    delta_apply,
    delta_determinant,
    delta_eigenvalues,
    delta_operator,
    delta_product,
    delta_regime,
    delta_singular_values,
    delta_update,
    unit_direction,
)
from .feed_forward import feed_forward, init_feed_forward
from .hyper_connections import (
    hyper_connection,
    hyper_connection_coefficients,
    init_hyper_connection,
)
from .linear import embedding, init_linear, linear
from .loss import cross_entropy
from .mgt import geometric_update, init_mgt_residual, mgt_beta, mgt_residual, tangent_gate
from .mhc import MHC_CONVENTIONS, MHCConvention, init_mhc_coefficients, mhc_coefficients
from .normalization import init_layer_norm, init_rms_norm, layer_norm, rms_norm
from .sinkhorn import birkhoff, sinkhorn
from .streams import expand_streams, mhc_read, mhc_update, reduce_streams

__all__ = [
    "MHC_CONVENTIONS",
    "MHCConvention",
    "attention_weights",
    "birkhoff",
    "cross_entropy",
    "delta_apply",
    "delta_determinant",
    "delta_eigenvalues",
    "delta_operator",
    "delta_product",
    "delta_regime",
    "delta_singular_values",
    "delta_update",
    "embedding",
    "expand_streams",
    "feed_forward",
    "gelu",
    "geometric_update",
    "hyper_connection",
    "hyper_connection_coefficients",
    "init_feed_forward",
    "init_hyper_connection",
    "init_layer_norm",
    "init_linear",
    "init_mgt_residual",
    "init_mhc_coefficients",
    "init_multi_head_attention",
    "init_rms_norm",
    "layer_norm",
    "linear",
    "mgt_beta",
    "mgt_residual",
    "mhc_coefficients",
    "mhc_read",
    "mhc_update",
    "multi_head_attention",
    "reduce_streams",
    "relu",
    "rms_norm",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "sinkhorn",
    "softmax",
    "tangent_gate",
    "unit_direction",
]
