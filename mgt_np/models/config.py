"""The settings of a decoder."""

from dataclasses import dataclass
from numbers import Integral

from mgt_np.arrays.checks import one_of
from mgt_np.layers import MHC_CONVENTIONS
from mgt_np.layers.activations import ACTIVATIONS

from .rules import RESIDUAL_RULES

_SIZES = ("vocab_size", "d_model", "n_heads", "d_ff", "max_tokens")
_SIZES += ("ddl_value_channels", "ddl_kernel_size")
_SIZES_FROM_0 = ("n_layers", "ddl_beta_hidden")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The settings of a decoder: sizes, the residual rule, and the rule's own options.

    `weight_scale` is the standard deviation of every weight matrix, or "lecun" for 1/√fan_in;
    `embedding_scale` that of token and position vectors. `dtype` is "float64" or "float32".
    `checkpoint_every` = k keeps one state in k blocks for the backward pass of `transformer` and
    computes the rest a second time; None keeps everything.
    Options of MGT: λ, ε and the initial α and b_β of β = λ tanh(x W_β + b_β) + ε, and whether β is
    one number per "token" or per "channel". The paper gives no values for them; the defaults are
    ours (see `init_mgt_residual`).
    Options of the baselines: where they are None, the value at this depth that we know as their
    paper's (each rule's file says how well). DeepNorm's α and its gain on initial weights, sub-LN's
    gain, the factor of `scaled_residual`, the initial λ of LayerScale and α of ReZero (0, the
    paper's), and BranchNorm's α_t, a number in [0, 1] that stands for the stage of training; its
    0.1 is ours.
    Options of DDL: the gate's β₀ (1 in the authors' code) and hidden width (0 for one layer);
    `ddl_v_form` "linear" (the paper, default) or "sigmoid4" for 4σ(·) (the code); `ddl_v_from`,
    what v reads: the normed "context" (the paper, default) or the "state" (the code);
    `ddl_erase=False` for the control that writes only. Of `ddl_expanded` alone: how many value
    channels (4 in both), and whether the compressor reads "channels" (our default: the paper
    reports both) or "tokens", the last `ddl_kernel_size` of them (4 in the code).
    Options of the rules with several streams: their number `n_streams`; `hc_dynamic` lets HC's
    coefficients depend on the state, `hc_output_gain` scales its initial W_o and W_2;
    `mhc_convention` is a name in `MHC_CONVENTIONS`, `mhc_iters` replaces its number of Sinkhorn
    iterations. Four streams and dynamic coefficients are the papers'.
    Raises ValueError for a setting out of range or unknown.
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
    mgt_alpha: float = 0.1
    mgt_b_beta: float = 0.05
    mgt_beta_per: str = "token"
    deepnorm_alpha: float | None = None
    deepnorm_gain: float | None = None
    branchnorm_alpha: float = 0.1
    sub_ln_gain: float | None = None
    scaled_residual_factor: float | None = None
    layerscale_lam: float | None = None
    rezero_alpha: float = 0.0
    ddl_beta_init: float = 1.0
    ddl_beta_hidden: int = 0
    ddl_v_form: str = "linear"
    ddl_v_from: str = "context"
    ddl_erase: bool = True
    ddl_value_channels: int = 4
    ddl_compressor: str = "channels"
    ddl_kernel_size: int = 4
    n_streams: int = 4
    hc_dynamic: bool = True
    hc_output_gain: float = 1.0
    mhc_convention: str = "paper"
    mhc_iters: int | None = None

    def __post_init__(self):
        for name in (*_SIZES, *_SIZES_FROM_0):
            least, size = int(name not in _SIZES_FROM_0), getattr(self, name)
            if not isinstance(size, Integral) or size < least:
                raise ValueError(f"expected {name} to be an integer ≥ {least}, got {size!r}")
            object.__setattr__(self, name, int(size))
        every = self.checkpoint_every
        if every is not None and not (isinstance(every, Integral) and every >= 1):
            raise ValueError(f"expected checkpoint_every to be an integer ≥ 1, got {every!r}")
        if self.d_model % self.n_heads:
            raise ValueError(
                f"expected n_heads to divide d_model {self.d_model}, got {self.n_heads}"
            )
        one_of(RESIDUAL_RULES, residual=self.residual)
        # numpy.float32 and torch.float32 are other people's names of the same dtype
        name = str(getattr(self.dtype, "__name__", self.dtype)).rpartition(".")[2]
        object.__setattr__(self, "dtype", name)
        one_of(("float32", "float64"), dtype=self.dtype)
        one_of(ACTIVATIONS, activation=self.activation)
        if self.weight_scale != "lecun" and not _is_scale(self.weight_scale):
            raise ValueError(
                f"expected weight_scale to be 'lecun' or a number ≥ 0, got {self.weight_scale!r}"
            )
        if not _is_scale(self.embedding_scale):
            raise ValueError(
                f"expected embedding_scale to be a number ≥ 0, got {self.embedding_scale!r}"
            )
        one_of(("token", "channel"), mgt_beta_per=self.mgt_beta_per)
        for name in (
            "deepnorm_alpha",
            "deepnorm_gain",
            "sub_ln_gain",
            "scaled_residual_factor",
            "layerscale_lam",
        ):
            given = getattr(self, name)
            if given is not None and not _is_scale(given):
                raise ValueError(f"expected {name} to be None or a number ≥ 0, got {given!r}")
        if not _is_scale(self.branchnorm_alpha) or self.branchnorm_alpha > 1:
            raise ValueError(
                f"expected branchnorm_alpha to be a number in [0, 1], got {self.branchnorm_alpha!r}"
            )
        one_of(("linear", "sigmoid4"), ddl_v_form=self.ddl_v_form)
        one_of(("context", "state"), ddl_v_from=self.ddl_v_from)
        one_of(("channels", "tokens"), ddl_compressor=self.ddl_compressor)
        if not _is_scale(self.ddl_beta_init) or self.ddl_beta_init > 2:
            raise ValueError(f"expected ddl_beta_init in [0, 2], got {self.ddl_beta_init!r}")
        for name, least in (("n_streams", 1), ("mhc_iters", 0)):
            number = getattr(self, name)
            if number is None and name == "mhc_iters":
                continue
            if not isinstance(number, Integral) or number < least:
                raise ValueError(f"expected {name} to be an integer ≥ {least}, got {number!r}")
            object.__setattr__(self, name, int(number))
        one_of((True, False), hc_dynamic=self.hc_dynamic)
        if not _is_scale(self.hc_output_gain):
            raise ValueError(
                f"expected hc_output_gain to be a number ≥ 0, got {self.hc_output_gain!r}"
            )
        one_of(MHC_CONVENTIONS, mhc_convention=self.mhc_convention)


def _is_scale(scale):
    return isinstance(scale, int | float) and scale >= 0
