"""The equations: pure functions of arrays, one family a file, `init_<layer>` beside each."""

# ruff: noqa: F401 - what is imported is what `__all__` lists

from . import fused  # gives the layers their fused forms
from .activations import gelu, relu, sigmoid, silu, softmax
from .attention import (
    attention_weights,
    init_multi_head_attention,
    multi_head_attention,
    scaled_dot_product_attention,
)
from .deep_delta import (
    compress_channels,
    compress_tokens,
    convolve_and_compress_channels,
    deep_delta_coefficients,
    deep_delta_expanded,
    deep_delta_residual,
    delta_gate,
    init_compress_channels,
    init_compress_tokens,
    init_deep_delta_expanded,
    init_deep_delta_residual,
    init_delta_gate,
    init_short_convolution,
    short_convolution,
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
from .delta_rule import delta_rule
from .feed_forward import feed_forward, init_feed_forward
from .hyper_connections import (
    hyper_connection,
    hyper_connection_coefficients,
    init_hyper_connection,
)
from .linear import embedding, init_linear, linear
from .loss import cross_entropy
from .mgt import geometric_update, init_mgt_residual, mgt_beta, mgt_residual, tangent_gate
from .mhc import init_mhc_coefficients, mhc_coefficients, mhc_connection, mhc_read_coefficients
from .mhc_conventions import MHC_CONVENTIONS, MHCConvention
from .normalization import init_layer_norm, init_rms_norm, layer_norm, rms_norm
from .position_gate import init_position_gated_projection, position_gated_projection
from .rotary import rotary_embedding
from .sinkhorn import birkhoff, sinkhorn
from .spectral import (
    gap_free_attention,
    gap_free_attention_weights,
    power_iteration,
    sigma_reparam,
    spectral_norm,
)
from .streams import expand_streams, mhc_read, mhc_update, reduce_streams
from .tangent import projected_update, sphere_tangent, tangent_projection

__all__ = sorted(name for name, value in vars().items() if callable(value) or name.isupper())
