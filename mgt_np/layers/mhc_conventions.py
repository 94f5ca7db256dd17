"""The conventions of mHC's implementations: one row of choices for each."""

import dataclasses
import math
from itertools import accumulate
from types import MappingProxyType

from mgt_np.arrays import Choice, array_namespace, device, layer

from .activations import sigmoid, softmax
from .sinkhorn import birkhoff, sinkhorn


@dataclasses.dataclass(frozen=True, kw_only=True)
class MHCConvention:
    """What an implementation of mHC chose, where the paper and others chose otherwise.

    projection: the coefficients come from the "flattened" n·d features of a token, from "each"
    stream alone, or are "static". norm_form: the RMS norm is x/√(mean x² + ε), "inside",
    x/max(√mean x², ε), "clamp", with √mean x² = ‖x‖/√d and ε beside ‖x‖, or x/(√mean x² + ε),
    "outside"; norm_eps is its ε. pre, post: the function that makes H_pre and H_post of their
    logits, "sigmoid" or "softmax"; pre_eps is added to the one, post_scale multiplies the other.
    mixing: H_res by "sinkhorn", by "permutations" (`birkhoff` of a softmax of n! logits) or
    "circulant", (1 − γ) I + γ Σ_k c_k Pᵏ, c the softmax of n logits, P the shift by one stream and
    gamma its γ; and then transposed, if so; order, start, eps, eps_form, shift, temperature and
    n_iters are `sinkhorn`'s, before the transposition.
    """

    projection: str = "flattened"
    norm_eps: float = 1e-6
    norm_form: str = "inside"
    pre: str = "sigmoid"
    pre_eps: float = 0.0
    post: str = "sigmoid"
    post_scale: float = 2.0
    mixing: str = "sinkhorn"
    gamma: float = 1.0
    transposed: bool = False
    order: str = "rows_columns"
    start: str = "exp"
    eps: float = 0.0
    eps_form: str = "add"
    shift: str | None = None
    temperature: float = 1.0
    n_iters: int = 20

    def project(self, X, phi, gain):
        """Return x̂ φ for each φ, x̂ the RMS norm of vec X, or of each stream (mHC, eq. 7).

        The norm is taken out of the product, x̂ φ = (x φ)/r, which is exact.
        """
        xp = array_namespace(X, *phi, gain)
        flattened = self.projection == "flattened"
        n_features = X.shape[-2] * X.shape[-1]
        x = xp.reshape(X, (*X.shape[:-2], n_features)) if flattened else X
        W = xp.concat(phi, axis=1)
        z = normed_product(x, W, gain, eps=self.norm_eps, form=self.norm_form)
        ends = list(accumulate(each.shape[1] for each in phi))
        parts = [z[..., end - W.shape[1] : end] for end, W in zip(ends, phi, strict=True)]
        if flattened:
            return parts
        widths = (1, 1, X.shape[-2])[: len(parts)]
        return [_own_columns(xp, part, w) for part, w in zip(parts, widths, strict=True)]

    def pre_gate(self, logits):
        """Return H_pre of its logits: σ(H̃_pre) in the paper (mHC, eq. 8)."""
        H_pre = GATES[self.pre](logits)
        return H_pre + self.pre_eps if self.pre_eps else H_pre

    def post_gate(self, logits):
        """Return H_post of its logits: 2σ(H̃_post) in the paper (mHC, eq. 8)."""
        H_post = GATES[self.post](logits)
        return H_post * self.post_scale if self.post_scale != 1.0 else H_post

    def mix(self, logits, n):
        """Return H_res (..., n, n) of its n², n! or n logits: sinkhorn(H̃_res) (mHC, eq. 8)."""
        xp = array_namespace(logits)
        if self.mixing == "permutations":
            H_res = birkhoff(softmax(logits))
        elif self.mixing == "circulant":
            H_res = _circulant(xp, softmax(logits), self.gamma)
        else:
            logits = xp.reshape(logits, (*logits.shape[:-1], n, n))
            H_res = sinkhorn(logits, **self.iteration())
        return xp.matrix_transpose(H_res) if self.transposed else H_res

    def iteration(self):
        """Return the options of `sinkhorn`."""
        names = ("order", "start", "eps", "eps_form", "shift", "temperature", "n_iters")
        return {name: getattr(self, name) for name in names}

    def shapes(self):
        """Return the shape of each parameter, by its name."""
        n_mixtures = {"permutations": "n!", "circulant": "n"}.get(self.mixing, "n·n")
        biases = {"b_pre": "n", "b_post": "n", "b_res": n_mixtures.replace("·", " ")}
        if self.projection == "static":
            return biases
        alphas = dict.fromkeys(("alpha_pre", "alpha_post", "alpha_res"), "number | 1")
        if self.projection == "flattened":
            rows = "n·d"
            phi = {"phi_pre": "n·d n", "phi_post": "n·d n", "phi_res": f"n·d {n_mixtures}"}
        else:
            rows = "d"
            phi = {"phi_pre": "d n | d 1", "phi_post": "d n | d 1", "phi_res": "d n·n | d n"}
        return phi | biases | alphas | {"gain": f"none | {rows}"}


GATES = {"sigmoid": sigmoid, "softmax": softmax}

# Hugging Face transformers 5.23, DeepSeek's TileKernels (which multiplies the norm's gain into φ;
# by default n_iters 10, post_scale 1)
_DEEPSEEK_V4 = MHCConvention(pre_eps=1e-6, start="softmax", eps=1e-6, transposed=True)
# the package hyper-connections 0.4 (which stores the norm's gain − 1)
_LUCIDRAINS = MHCConvention(
    projection="each",
    norm_eps=1e-12,
    norm_form="clamp",
    order="columns_rows",
    eps=1e-12,
    eps_form="clamp",
    shift="columns",
    transposed=True,
)

MHC_CONVENTIONS = MappingProxyType(
    {
        # eqs 7–9; ε as in the paper's models
        "paper": MHCConvention(order="columns_rows", norm_eps=1e-20),
        # the paper's gates and mixing of b alone
        "static": MHCConvention(order="columns_rows", projection="static"),
        "deepseek-v4": _DEEPSEEK_V4,
        "huggingface": _DEEPSEEK_V4,
        "lucidrains": _LUCIDRAINS,
        # the same with the package's Sinkhorn of logarithms, which has no ε
        "lucidrains-log": dataclasses.replace(_LUCIDRAINS, eps=0.0, shift=None),
        # NVIDIA Megatron-LM, d98e8a6
        "megatron": MHCConvention(norm_form="outside", eps=1e-6, eps_form="clamp", shift="rows"),
        # tokenbender/mHC, 088310e
        "tokenbender": MHCConvention(
            projection="static",
            pre="softmax",
            post="softmax",
            post_scale=1.0,
            temperature=0.05,
            n_iters=10,
            transposed=True,
        ),
        # MarcoDotIO/mhc-deepseek-implementation, db13268
        "marco": MHCConvention(),
        # arash-shahmansoori/edelta, 783e727
        "edelta": MHCConvention(eps=1e-8),
        # FFTYYY/mhc-lite, ea19775 (which stores the norm's gain − 1)
        "mhc-lite": MHCConvention(
            norm_eps=1e-12, norm_form="clamp", mixing="permutations", transposed=True
        ),
        # contactsebi/circulant-hyper-connections, 3a1535d: γ = β/2L, β = 4, for L = 12 sub-layers
        "circulant": MHCConvention(
            norm_eps=1e-8, norm_form="outside", mixing="circulant", gamma=1.0 / 6.0
        ),
    }
)
CONVENTION = Choice(MHC_CONVENTIONS, MHCConvention)


def convention_row(convention, n_iters=None):
    """Return the row of a convention given by name or as a row, with `n_iters` if given."""
    named = isinstance(convention, str)
    row = MHC_CONVENTIONS[convention] if named else convention
    return row if n_iters is None else dataclasses.replace(row, n_iters=n_iters)


@layer
def normed_product(
    x: "... m",
    W: "m w",
    gain: "m" = None,
    *,
    eps: "float ≥ 0",
    form: "'inside' | 'clamp' | 'outside'",
) -> "... w":
    """Return RMSNorm(x) W as x (gain ⊙ W)/r: r comes last, so that x is read once."""
    xp = array_namespace(x, W, gain)
    if gain is not None:
        W = xp.expand_dims(gain, axis=-1) * W
    if form == "inside":
        r = xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps)
    else:
        norm = xp.linalg.vector_norm(x, axis=-1, keepdims=True)
        root_d = math.sqrt(x.shape[-1])
        r = norm / root_d + eps
        if form == "clamp":
            r = xp.maximum(norm, xp.full_like(norm, eps)) / root_d
    return xp.matmul(x, W) / r


def _circulant(xp, c, gamma):
    """(1 − γ) I + γ Σ_k c_k Pᵏ: row i of the sum is c, turned by i places."""
    n = c.shape[-1]
    turned = xp.stack([xp.roll(c, i, axis=-1) for i in range(n)], axis=-2)
    identity = xp.eye(n, dtype=c.dtype, device=device(c))
    return xp.add(identity, gamma * xp.subtract(turned, identity))


def _own_columns(xp, z, width):
    """z (..., n, w) of each stream, as (..., n·width): stream j by φ's columns, or by its own.

    Where φ has columns for each stream, stream i by those of stream j is left out for i ≠ j.
    """
    n = z.shape[-2]
    if z.shape[-1] != width:
        own = xp.eye(n, dtype=z.dtype, device=device(z))
        z = xp.reshape(z, (*z.shape[:-1], n, width)) * xp.expand_dims(own, axis=-1)
        z = xp.sum(z, axis=-2)
    return xp.reshape(z, (*z.shape[:-2], n * width))
