"""The settings of a decoder."""

from dataclasses import dataclass
from numbers import Integral

from mgt_np.arrays.checks import one_of
from mgt_np.layers import MHC_CONVENTIONS
from mgt_np.layers.activations import ACTIVATIONS

from .rules import RESIDUAL_RULES


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The settings of a decoder: sizes, the residual rule, and the rule's own options.

    `weight_scale` is the standard deviation of every weight matrix, or "lecun" for 1/√fan_in;
    `embedding_scale` that of token and position vectors. `dtype` is "float64" or "float32".
    Options of MGT: λ, ε and the initial α and b_β of β = λ tanh(x W_β + b_β) + ε, and whether β is
    one number per "token" or per "channel". The paper gives no values for them; the defaults are
    ours (see `init_mgt_residual`).
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
    mgt_lam: float = 1.0
    mgt_eps: float = 0.0
    mgt_alpha: float = 0.1
    mgt_b_beta: float = 0.05
    mgt_beta_per: str = "token"
    n_streams: int = 4
    hc_dynamic: bool = True
    hc_output_gain: float = 1.0
    mhc_convention: str = "paper"
    mhc_iters: int | None = None

    def __post_init__(self):
        for name in ("vocab_size", "d_model", "n_heads", "n_layers", "d_ff", "max_tokens"):
            least, size = int(name != "n_layers"), getattr(self, name)
            if not isinstance(size, Integral) or size < least:
                raise ValueError(f"expected {name} to be an integer ≥ {least}, got {size!r}")
            object.__setattr__(self, name, int(size))
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
