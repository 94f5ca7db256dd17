"""The settings of a decoder."""

import math
from dataclasses import dataclass
from numbers import Integral, Real

from mgt_np.arrays.checks import one_of
from mgt_np.layers import MHC_CONVENTIONS, MHCConvention
from mgt_np.layers.activations import ACTIVATIONS

from .rules import RESIDUAL_RULES
from .rules.admin import OMEGA_SQUARED
from .rules.ddl_expanded import COMPRESSORS
from .rules.mhc import NORMS, STARTS


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The settings of a decoder: sizes, the residual rule, and the rules' own options.

    `weight_scale` is the standard deviation of every weight matrix, or "lecun" for 1/√fan_in;
    `embedding_scale` that of token and position vectors. `dtype` is "float64" or "float32".
    `checkpoint_every` = k keeps one state in k blocks for the backward pass of `transformer` and
    computes the rest a second time; None keeps everything.

    Options, by rule; each rule's file says what its paper and its authors' code have:
    mgt           λ, ε and the initial α and b_β of β = λ tanh(x W_β + b_β) + ε, and whether β is
                  one number per "token" or per "channel"; the standard deviations of the initial
                  W_gate (None for `weight_scale`) and W_β (None for W_β = 0). The paper gives no
                  values; the defaults are ours (see `init_mgt_residual`), and others train better:
                  in 12 layers, λ = 2, ε or b_β of 0.5 and `mgt_gate_scale` of 0.001 each lower the
                  loss by some 0.04 nats a byte (experiment `initialization-sensitivity`). α is
                  learned, except with `mgt_alpha=None`: α = 0, nothing is erased.
    deepnorm      α, and the gain on initial weights; None for the paper's at this depth.
    branchnorm    α_t, a number in [0, 1] that stands for the stage of training; 0.1 is ours.
    admin         `admin_omega`: None for ω = 1 until `profile_admin`; "O(logn)", "O(n)" or "O(1)"
                  for admin-torch's ω, which needs no data.
    sub_ln        the gain on initial weights; None for the paper's at this depth.
    scaled_residual  the factor; None for 1/√L.
    layerscale    the initial λ; None for the paper's at this depth.
    rezero        the initial α (0, the paper's); `rezero_shared=False` for one α a sub-layer where
                  the authors' code has one a block.
    ddl           the gate's β₀ (1 in the authors' code) and hidden width (0 for one layer);
                  `ddl_v_form` "linear" (the paper, default) or "sigmoid4" for 4σ(·) (the code);
                  `ddl_v_from`, what v reads: the normed "context" (the paper, default) or the
                  "state" (the code); `ddl_erase=False` for the control that writes only; the ε of
                  its RMS norms (1e-5 in the code), and whether the last norm is "layer" (default)
                  or "rms" (the code).
    ddl_expanded  all of ddl's but the last, which is "rms"; how many value channels (4 in paper
                  and code); whether the compressor reads the "channels" (our default: the paper
                  reports this and the last), their "convolution" (the code) or the last "tokens";
                  its taps, `ddl_kernel_size` (4 in the code); and whether the last two start as
                  the "mean" (ours) or "normal" (the code).
    hc            the number of streams (4 in the paper); `hc_dynamic=False` for coefficients that
                  do not depend on the state; `hc_output_gain` scales the initial W_o and W_2.
    mhc           the number of streams; `mhc_convention`, a name in `MHC_CONVENTIONS` or a row like
                  those; `mhc_iters` replaces its number of Sinkhorn iterations; `mhc_norm` "layer",
                  "rms" or "none" in front of a sub-layer; `mhc_start` "identity", "transformers" or
                  "megatron"; `mhc_read_out`, the "mean" of the streams or a learned "head";
                  `mhc_single_pass=True` for sub-layers that read by the H_pre before theirs, where
                  the last H_pre is the read-out.

    NumPy's numbers are taken as Python's. Raises ValueError for a setting that is of another kind,
    not finite, out of range or unknown.
    """

    vocab_size: int
    d_model: int
    n_heads: int
    n_layers: int
    d_ff: int
    max_tokens: int
    residual: str = "pre_ln"
    dtype: str = "float64"
    activation: str = "gelu"
    causal: bool = True
    weight_scale: str | float = "lecun"
    embedding_scale: float = 1.0
    checkpoint_every: int | None = None
    mgt_lam: float = 1.0
    mgt_eps: float = 0.0
    mgt_alpha: float | None = 0.1
    mgt_b_beta: float = 0.05
    mgt_beta_per: str = "token"
    mgt_gate_scale: float | None = None
    mgt_beta_scale: float | None = None
    deepnorm_alpha: float | None = None
    deepnorm_gain: float | None = None
    branchnorm_alpha: float = 0.1
    admin_omega: str | None = None
    sub_ln_gain: float | None = None
    scaled_residual_factor: float | None = None
    layerscale_lam: float | None = None
    rezero_alpha: float = 0.0
    rezero_shared: bool = True
    ddl_beta_init: float = 1.0
    ddl_beta_hidden: int = 0
    ddl_v_form: str = "linear"
    ddl_v_from: str = "context"
    ddl_erase: bool = True
    ddl_norm_eps: float = 1e-6
    ddl_final_norm: str = "layer"
    ddl_value_channels: int = 4
    ddl_compressor: str = "channels"
    ddl_kernel_size: int = 4
    ddl_compressor_start: str = "mean"
    n_streams: int = 4
    hc_dynamic: bool = True
    hc_output_gain: float = 1.0
    mhc_convention: str | MHCConvention = "paper"
    mhc_iters: int | None = None
    mhc_norm: str = "layer"
    mhc_start: str = "identity"
    mhc_read_out: str = "mean"
    mhc_single_pass: bool = False

    def __post_init__(self):
        for name, kind in _KINDS.items():
            try:
                value = kind(name, getattr(self, name))
            except ValueError as error:
                raise ValueError(f"TransformerConfig: {error}") from None
            object.__setattr__(self, name, value)
        if self.d_model % self.n_heads:
            raise ValueError(
                f"TransformerConfig: expected n_heads to divide d_model {self.d_model}, "
                f"got {self.n_heads}"
            )
        if self.ddl_compressor == "channels" and self.ddl_compressor_start != "mean":
            raise ValueError(
                "TransformerConfig: expected ddl_compressor_start to be 'mean' with "
                f"ddl_compressor='channels', which has no kernel, got {self.ddl_compressor_start!r}"
            )
        if self.mhc_single_pass and self.mhc_read_out != "mean":
            raise ValueError(
                "TransformerConfig: expected mhc_read_out to be 'mean' with mhc_single_pass, whose "
                f"last H_pre reads out, got {self.mhc_read_out!r}"
            )


# ---- kinds of settings: functions of a name and a value, which return what is kept or raise


def _whole(least, also=()):
    """An integer, at least `least`, or a value in `also`."""
    said = _said(also, f"an integer ≥ {least}")

    def kind(name, value):
        if isinstance(value, str | None) and value in also:
            return value
        if not _is_number(value, Integral) or value < least:
            raise ValueError(f"expected {name} to be {said}, got {value!r}")
        return int(value)

    return kind


def _number(least=-math.inf, most=math.inf, also=()):
    """A finite number in [least, most], or a value in `also`."""
    bounds = f" ≥ {least}" if math.isfinite(least) else ""
    bounds = f" in [{least}, {most}]" if math.isfinite(most) else bounds
    said = _said(also, f"a finite number{bounds}")

    def kind(name, value):
        if isinstance(value, str | None) and value in also:
            return value
        if not _is_number(value, Real) or not _is_finite(value) or not least <= value <= most:
            raise ValueError(f"expected {name} to be {said}, got {value!r}")
        return int(value) if isinstance(value, Integral) else float(value)

    return kind


def _name(*options):
    """One of these names."""

    def kind(name, value):
        if not isinstance(value, str | None):  # an array would be compared entry by entry
            value = repr(value)
        one_of(options, **{name: value})
        return value

    return kind


def _flag(name, value):
    numpys = str(getattr(value, "dtype", "")) == "bool" and value.shape == ()
    if isinstance(value, bool) or numpys:
        return bool(value)
    raise ValueError(f"expected {name} to be True or False, got {value!r}")


def _dtype(name, value):
    # numpy.float32 and torch.float32 are other people's names of the same dtype
    value = str(getattr(value, "__name__", value)).rpartition(".")[2]
    return _name("float32", "float64")(name, value)


def _convention(name, value):
    if isinstance(value, dict) and value.keys() == MHCConvention.__dataclass_fields__.keys():
        value = MHCConvention(**value)  # a row, read back from JSON
    return value if isinstance(value, MHCConvention) else _name(*MHC_CONVENTIONS)(name, value)


def _said(also, kind):
    return " or ".join([*map(repr, also), kind])


def _is_number(value, kind):
    """Whether it is a number of Python's or NumPy's; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_finite(value):
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


_KINDS = {
    "vocab_size": _whole(1),
    "d_model": _whole(1),
    "n_heads": _whole(1),
    "n_layers": _whole(0),
    "d_ff": _whole(1),
    "max_tokens": _whole(1),
    "residual": _name(*RESIDUAL_RULES),
    "dtype": _dtype,
    "activation": _name(*ACTIVATIONS),
    "causal": _flag,
    "weight_scale": _number(0, also=("lecun",)),
    "embedding_scale": _number(0),
    "checkpoint_every": _whole(1, also=(None,)),
    "mgt_lam": _number(),
    "mgt_eps": _number(),
    "mgt_alpha": _number(also=(None,)),
    "mgt_b_beta": _number(),
    "mgt_beta_per": _name("token", "channel"),
    "mgt_gate_scale": _number(0, also=(None,)),
    "mgt_beta_scale": _number(0, also=(None,)),
    "deepnorm_alpha": _number(0, also=(None,)),
    "deepnorm_gain": _number(0, also=(None,)),
    "branchnorm_alpha": _number(0, 1),
    "admin_omega": _name(None, *OMEGA_SQUARED),
    "sub_ln_gain": _number(0, also=(None,)),
    "scaled_residual_factor": _number(0, also=(None,)),
    "layerscale_lam": _number(0, also=(None,)),
    "rezero_alpha": _number(),
    "rezero_shared": _flag,
    "ddl_beta_init": _number(0, 2),
    "ddl_beta_hidden": _whole(0),
    "ddl_v_form": _name("linear", "sigmoid4"),
    "ddl_v_from": _name("context", "state"),
    "ddl_erase": _flag,
    "ddl_norm_eps": _number(0),
    "ddl_final_norm": _name("layer", "rms"),
    "ddl_value_channels": _whole(1),
    "ddl_compressor": _name(*COMPRESSORS),
    "ddl_kernel_size": _whole(1),
    "ddl_compressor_start": _name("mean", "normal"),
    "n_streams": _whole(1),
    "hc_dynamic": _flag,
    "hc_output_gain": _number(0),
    "mhc_convention": _convention,
    "mhc_iters": _whole(0, also=(None,)),
    "mhc_norm": _name(*NORMS),
    "mhc_start": _name(*STARTS),
    "mhc_read_out": _name("mean", "head"),
    "mhc_single_pass": _flag,
}
