"""The four collapses of a transformer, and what each is blind to.

Cirrincione (2604.23681) names four: of rank in depth, of rank in width, head-channel
non-identifiability, and of entropy, and says that they come from four distinct symmetries. Of the
paper only the abstract could be read, which does not say which symmetry belongs to which. Those
below are our reading: each is a law that holds exactly and that the tests check; that it is the
cause that the paper means is a guess.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .attention import attention_entropy
from .linear_span import head_ambiguity
from .rank import stable_rank
from .tokens import relative_residual


@dataclass(frozen=True)
class Collapse:
    """One way in which a transformer loses what told its tokens, features or heads apart.

    `measure` is a function of this package, `of` what it is applied to, `when_collapsed` the value
    that it tends to. `symmetry` is what the part that collapses cannot tell; `sure` says how we
    know that.
    """

    name: str
    what: str
    measure: Callable[..., Any]
    of: str
    when_collapsed: str
    symmetry: str
    remedy: str
    source: str
    sure: str


_OURS = "our reading; the abstract of 2604.23681 says only that the four symmetries are distinct"

COLLAPSES = (
    Collapse(
        name="rank collapse in depth",
        what="all tokens of a sequence become one: X → 1x̄ᵀ, layer by layer",
        measure=relative_residual,
        of="hidden states X (..., N, d)",
        when_collapsed="0",
        symmetry="one vector added to all tokens passes through the weights: "
        "P(X + 1bᵀ) = PX + 1bᵀ for P1 = 1, so that equal tokens stay equal",
        remedy="skip connections, and MLPs (2103.03404); branches scaled by 1/√L (2206.03126)",
        source="Dong, Cordonnier & Loukas, 2103.03404",
        sure=_OURS,
    ),
    Collapse(
        name="rank collapse in width",
        what="with many tokens T one singular value outgrows the others, in a single layer",
        measure=stable_rank,
        of="the tokens' covariance XXᵀ (..., T, T), T → ∞: the stable rank of X itself is larger",
        when_collapsed="1",
        symmetry="keys and values in another order give the same output, "
        "(PΠᵀ)(ΠV) = PV: a query takes a mean over exchangeable tokens, and so do all others",
        remedy="A − 11ᵀ/T in the place of A (2410.07799)",
        source="Nait Saada, Naderi & Tanner, 2410.07799",
        sure=_OURS,
    ),
    Collapse(
        name="head-channel non-identifiability",
        what="the sum of the heads does not tell what each of them put in",
        measure=head_ambiguity,
        of="the output projection W_o (..., H d_k, d) with `n_heads`",
        when_collapsed="d_k for each head; 0 where W_o is known and its rows are independent",
        symmetry="heads that W_o sends to zero can be added: (Z + N) W_o = Z W_o for N W_o = 0",
        remedy="the abstract offers a position-gated output projection; as we read it, it is none",
        source="Cirrincione, 2604.23681 (abstract)",
        sure=_OURS,
    ),
    Collapse(
        name="entropy collapse",
        what="each query attends to one key alone, and training becomes unstable",
        measure=attention_entropy,
        of="attention weights P (..., n_queries, n_keys)",
        when_collapsed="0",
        symmetry="scores c·S keep their order, and so their hard maximum, for every c > 0; "
        "softmax(cS) tends to it as c grows, and nothing bounds ‖W_q W_kᵀ‖₂",
        remedy="σReparam: W divided by its spectral norm, times a learned number (2303.06296)",
        source="Zhai et al., 2303.06296",
        sure=_OURS,
    ),
)
