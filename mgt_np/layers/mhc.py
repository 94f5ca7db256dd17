"""Manifold-constrained hyper-connections (Xie et al., 2512.24880), and how others read them.

The streams are mixed by a doubly stochastic matrix, so that neither the signal nor its gradient
grows with depth. Implementations differ in details that the paper leaves open or that they chose
otherwise: `MHC_CONVENTIONS` has one row of choices for each. Lesson 06.
"""

import math

from mgt_np.arrays import Parameters, array_namespace, layer
from mgt_np.arrays.initial import constant, constants, normal

from .mhc_conventions import CONVENTION, MHCConvention, convention_row
from .streams import mhc_read, mhc_update

PARTS = ("pre", "post", "res")


def _shapes(arguments):
    return convention_row(arguments.get("convention", "paper")).shapes()


def _shapes_of_pre(arguments):
    shapes = _shapes(arguments).items()
    return {name: shape for name, shape in shapes if name.endswith("_pre") or name == "gain"}


@layer(n="streams", d="features")
def mhc_coefficients(
    X: "... n≥1 d≥1",
    params: Parameters(_shapes),
    *,
    convention: CONVENTION = "paper",
    n_iters: "int ≥ 0" = None,
) -> "(... n, ... n, ... n n)":
    """Return how to read, write and mix n streams: H_pre, H_post, H_res of `mhc_update`.

        x̂ = RMSNorm(vec X),    H̃ = α (x̂ φ) + b, for pre, post and res         (mHC, eq. 7)
        H_pre = σ(H̃_pre),    H_post = 2σ(H̃_post),    H_res = sinkhorn(H̃_res)    (mHC, eqs 8, 9)

    H_pre in (0, 1), H_post in (0, 2), rows of H_res sum to one. params: phi_pre (n·d, n), phi_post
    (n·d, n), phi_res (n·d, n·n), b_pre (n), b_post (n), b_res (n, n), alpha_pre, alpha_post,
    alpha_res (0-d or (1)), and the norm's gain (n·d) or none. `convention` is a name or a row of
    `MHC_CONVENTIONS`, which says what else there is; `n_iters` replaces its number of iterations.
    Static coefficients, b alone, have conventions of their own: "static" is the paper's.
    Where each stream is projected alone, d stands for n·d, and stream j gives entry j of H̃_pre and
    H̃_post and row j of H̃_res: by columns of its own, (d, n) and (d, n·n), or by columns that all
    streams share, (d, 1) and (d, n). With permutations phi_res is (n·d, n!) and b_res (n!), for a
    circulant (n·d, n) and (n). A transposed H_res has its logits as the implementation has them:
    before the transposition. n = 1 gives H_res = 1, the plain residual.
    """
    row = convention_row(convention, n_iters)
    coefficients = _static if row.projection == "static" else dynamic_coefficients
    return coefficients(X, **params, row=row)


def _static(X, b_pre, b_post, b_res, *, row):
    xp = array_namespace(X, b_pre, b_post, b_res)
    H_res = row.mix(xp.reshape(b_res, (-1,)), X.shape[-2])
    of_all = row.pre_gate(b_pre), row.post_gate(b_post), H_res
    return tuple(xp.broadcast_to(H, (*X.shape[:-2], *H.shape)) for H in of_all)


@layer
def dynamic_coefficients(
    X: "... n d",
    phi_pre: "m w_pre",
    phi_post: "m w_post",
    phi_res: "m w_res",
    b_pre: "n",
    b_post: "n",
    b_res: "n n | k",
    alpha_pre: "number | 1",
    alpha_post: "number | 1",
    alpha_res: "number | 1",
    gain: "m" = None,
    *,
    row: MHCConvention,
) -> "(... n, ... n, ... n n)":
    """Return H_pre, H_post and H_res as eqs 7 to 9 have them, by a row's choices."""
    z_pre, z_post, z_res = row.project(X, (phi_pre, phi_post, phi_res), gain)
    b_res = array_namespace(b_res).reshape(b_res, (-1,))
    H_pre = row.pre_gate(alpha_pre * z_pre + b_pre)
    H_post = row.post_gate(alpha_post * z_post + b_post)
    H_res = row.mix(alpha_res * z_res + b_res, X.shape[-2])
    return H_pre, H_post, H_res


@layer(n="streams", d="features")
def mhc_read_coefficients(
    X: "... n≥1 d≥1", params: Parameters(_shapes_of_pre), *, convention: CONVENTION = "paper"
) -> "... n":
    """Return H_pre alone: DeepSeek-V4's read-out head is `mhc_read` by it.

        H_pre = σ(α (x̂ φ) + b),    x̂ = RMSNorm(vec X)                  (mHC, eqs 7, 8)

    params: phi_pre, b_pre, alpha_pre, and the norm's gain or none, as in `mhc_coefficients`, whose
    H_pre it is. A static convention has b_pre alone.
    """
    row, b = convention_row(convention), params["b_pre"]
    if row.projection == "static":
        return array_namespace(X, b).broadcast_to(row.pre_gate(b), X.shape[:-1])
    (z,) = row.project(X, (params["phi_pre"],), params.get("gain"))
    return row.pre_gate(params["alpha_pre"] * z + b)


@layer(n="streams", d="features")
def mhc_connection(
    X: "... n≥1 d≥1",
    sublayer: "function",
    params: Parameters(_shapes),
    *,
    convention: CONVENTION = "paper",
    n_iters: "int ≥ 0" = None,
) -> "... n d":
    """Return the n streams after a sub-layer F that reads, and writes to, all of them.

        X' = H_res X + H_postᵀ F(H_pre X)                                 (mHC, eq. 3)

    with the coefficients of `mhc_coefficients`, to which the options belong. F maps (..., d) to
    (..., d). F = 0 mixes the streams alone.
    """
    H_pre, H_post, H_res = mhc_coefficients(X, params, convention=convention, n_iters=n_iters)
    return mhc_update(X, sublayer(mhc_read(X, H_pre)), H_post, H_res)


@layer
def init_mhc_coefficients(
    rng: "generator",
    n: "int ≥ 1",
    d: "int ≥ 1",
    *,
    convention: CONVENTION = "paper",
    b_res: "float" = 6.0,
    alpha: "float" = 0.01,
    scale: "'lecun' | float ≥ 0" = "lecun",
    dtype: "dtype" = "float64",
):
    """Return the parameters of `mhc_coefficients` for n streams of d features, as NumPy arrays.

    α = 0.01 is the paper's, which gives no values for φ and b. Ours start close to the plain
    residual of one stream: b_pre = −log(n − 1), so that sigmoids read the mean of the streams, and
    b_post = 0, so that 2σ writes the whole output to each (a softmax writes 1/n). `b_res` stands on
    the diagonal of b_res (or is the identity's own logit), times the temperature, 0 beside it.
    With 6 and n = 4 a stream gives away 0.7 % of itself in each layer; with 0 all are mixed at
    once, as transformers and Megatron-LM start (b = 0); and where H_res is the identity to the last
    digit it never learns: tokenbender's own start, −8 beside the diagonal at temperature 0.05, has
    gradients of 1e-67. φ is drawn from N(0, scale²), and where there is none N(0, alpha²) is added
    to b_pre and b_post: n equal streams would stay equal. The norm's gain is left out, since φ
    holds it. For n = 1, H_pre = H_post = 1.
    """
    row = convention_row(convention)
    rngs = rng.spawn(3)
    b = _initial_biases(row, n, b_res, dtype)
    if row.projection == "static":
        for name, child in zip(("b_pre", "b_post"), rngs[:2], strict=True):
            b[name] += normal(child, (1, n), alpha, dtype)[0]
        return b
    each = row.projection == "each"
    sizes = (1, 1, n) if each else (n, n, b["b_res"].size)
    phi = {
        f"phi_{part}": normal(child, (d if each else n * d, width), scale, dtype)
        for part, child, width in zip(PARTS, rngs, sizes, strict=True)
    }
    return phi | b | constants(alpha, dtype, alpha_pre=(), alpha_post=(), alpha_res=())


def _initial_biases(row, n, b_res, dtype):
    entries = row.mixing == "sinkhorn"  # or weights, the identity's first
    n_mixtures = math.factorial(n) if row.mixing == "permutations" else n
    logits_res = constant(0.0, (n, n) if entries else n_mixtures, dtype)
    logits_res[(range(n), range(n)) if entries else 0] = b_res * row.temperature
    # σ(40) is 1 to the last digit
    b_pre = 0.0 if row.pre == "softmax" else 40.0 if n == 1 else -math.log(n - 1)
    b = constants(b_pre, dtype, b_pre=n) | constants(0.0, dtype, b_post=n)
    return b | {"b_res": logits_res}
