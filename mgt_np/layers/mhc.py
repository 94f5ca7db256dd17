"""Manifold-constrained hyper-connections (Xie et al., 2512.24880), and how others read them.

The streams are mixed by a doubly stochastic matrix, so that neither the signal nor its gradient
grows with depth. Implementations differ in details that the paper leaves open or that they chose
otherwise: `MHC_CONVENTIONS` has one row of choices for each.
"""

import math
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType

from mgt_np.arrays import (
    as_rows,
    device,
    fusable,
    mean_of_features,
    operands,
    sum_of_features,
    sum_of_rows,
)
from mgt_np.arrays.checks import at_least, entries, one_of, shaped
from mgt_np.arrays.initial import constant, normal

from .activations import sigmoid, softmax
from .sinkhorn import (
    birkhoff,
    iteration,
    normalized_backward,
    normalized_forward,
    sinkhorn,
)


@dataclass(frozen=True, kw_only=True)
class MHCConvention:
    """What an implementation of mHC chose, where the paper and others chose otherwise.

    projection: the coefficients come from the "flattened" n·d features of a token, from "each"
    stream alone, or are "static". norm_eps: ε of x/√(mean x² + ε), or of x/max(√mean x², ε) with
    `norm_clamps`. pre, post: the function that makes H_pre and H_post of their logits, "sigmoid" or
    "softmax"; pre_eps is added to the one, post_scale multiplies the other.
    mixing: H_res by "sinkhorn" or by "permutations" (`birkhoff` of a softmax of n! logits), and
    then transposed, if so; order, start, eps, eps_form, shift, temperature and n_iters are
    `sinkhorn`'s, before the transposition.
    """

    projection: str = "flattened"
    norm_eps: float = 1e-6
    norm_clamps: bool = False
    pre: str = "sigmoid"
    pre_eps: float = 0.0
    post: str = "sigmoid"
    post_scale: float = 2.0
    mixing: str = "sinkhorn"
    transposed: bool = False
    order: str = "rows_columns"
    start: str = "exp"
    eps: float = 0.0
    eps_form: str = "add"
    shift: str | None = None
    temperature: float = 1.0
    n_iters: int = 20


MHC_CONVENTIONS = MappingProxyType(
    {
        # eqs 7–9; ε as in the paper's models
        "paper": MHCConvention(order="columns_rows", norm_eps=1e-20),
        # Hugging Face transformers 5.23, DeepSeek's TileKernels (which multiplies the norm's gain
        # into φ; by default n_iters 10, post_scale 1)
        "deepseek-v4": MHCConvention(pre_eps=1e-6, start="softmax", eps=1e-6, transposed=True),
        # the package hyper-connections 0.4 (which stores the norm's gain − 1)
        "lucidrains": MHCConvention(
            projection="each",
            norm_eps=1e-12,
            norm_clamps=True,
            order="columns_rows",
            eps=1e-12,
            eps_form="clamp",
            shift="columns",
            transposed=True,
        ),
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
            norm_eps=1e-12, norm_clamps=True, mixing="permutations", transposed=True
        ),
    }
)
_FORMS = {"sigmoid": sigmoid, "softmax": softmax}


def mhc_coefficients(X, params, *, convention="paper", n_iters=None):
    """Return how to read, write and mix n streams, in the orientation of `mhc_update`.

        x̂ = RMSNorm(vec X),    H̃ = α (x̂ φ) + b, for pre, post and res         (mHC, eq. 7)
        H_pre = σ(H̃_pre),    H_post = 2σ(H̃_post),    H_res = sinkhorn(H̃_res)    (mHC, eqs 8, 9)

    Shapes: X (..., n, d); params: phi_pre (n·d, n), phi_post (n·d, n), phi_res (n·d, n·n), b_pre
    (n), b_post (n), b_res (n, n), alpha_pre, alpha_post, alpha_res 0-d, and the norm's gain (n·d)
    or none; without all six of φ and α the coefficients are the static ones of b. Result H_pre
    (..., n) in (0, 1), H_post (..., n) in (0, 2), H_res (..., n, n) with rows that sum to one.
    `convention` is a name or a row of `MHC_CONVENTIONS`, which says what else there is; `n_iters`
    replaces its number of iterations. Where each stream is projected alone, d stands for n·d, and
    stream j gives entry j of H̃_pre and H̃_post and row j of H̃_res: by columns of its own, (d, n) and
    (d, n·n), or by columns that all streams share, (d, 1) and (d, n). With permutations phi_res is
    (n·d, n!) and b_res (n!). A transposed H_res has its logits as the implementation has them:
    before the transposition. The norm is taken out of the product, x̂ φ = (x φ)/r, which is exact.
    n = 1 gives H_res = 1, the plain residual.
    Raises ValueError for a parameter that is missing or of another shape, or an unknown convention.
    """
    row = _row(convention)
    n_iters = row.n_iters if n_iters is None else n_iters
    _iteration(n_iters, row)
    operands(X=X)
    at_least(2, X=X)
    leading, (n, d) = tuple(X.shape[:-2]), X.shape[-2:]
    of_state = tuple(f"{kind}_{part}" for kind in ("phi", "alpha") for part in _PARTS)
    static = row.projection == "static" or not any(name in params for name in of_state)
    arrays = entries(params, "b_pre", "b_post", "b_res", *(() if static else of_state))
    xp, X, gain, *coefficients = operands(X=X, gain=params.get("gain"), **arrays)
    n_mixtures = math.factorial(n) if row.mixing == "permutations" else n * n
    _check_shapes(arrays, gain, n, d, n_mixtures, row)
    if static:
        b_pre, b_post, b_res = coefficients
        b_res = xp.reshape(b_res, (n_mixtures,))
        packed = _constrained(xp, b_pre, b_post, b_res, n, n_iters, row)
        packed = xp.broadcast_to(packed, (*leading, 2 * n + n * n))
    else:
        packed = _dynamic(X, *coefficients, gain, row=row, n_iters=n_iters)
    H_res = xp.reshape(packed[..., 2 * n :], (*leading, n, n))
    return packed[..., :n], packed[..., n : 2 * n], H_res


_PARTS = ("pre", "post", "res")


def _row(convention):
    if isinstance(convention, MHCConvention):
        return convention
    one_of(MHC_CONVENTIONS, convention=convention)
    return MHC_CONVENTIONS[convention]


@fusable
def _dynamic(
    X,
    b_pre,
    b_post,
    b_res,
    phi_pre,
    phi_post,
    phi_res,
    alpha_pre,
    alpha_post,
    alpha_res,
    gain=None,
    *,
    row,
    n_iters,
):
    """H_pre, H_post and the rows of H_res of each token, side by side: (..., 2n + n²)."""
    arrays = X, b_pre, b_post, b_res, phi_pre, phi_post, phi_res, alpha_pre, alpha_post, alpha_res
    names = ("X", *(f"{kind}_{part}" for kind in ("b", "phi", "alpha") for part in _PARTS))
    xp, gain, X, *arrays = operands(gain=gain, **dict(zip(names, arrays, strict=True)))
    b, phi, alpha = arrays[:3], arrays[3:6], arrays[6:]
    b[2] = xp.reshape(b[2], (-1,))
    project = _project_each if row.projection == "each" else _project_flattened
    logits = (a * z + c for a, z, c in zip(alpha, project(xp, X, phi, gain, row), b, strict=True))
    return _constrained(xp, *logits, X.shape[-2], n_iters, row)


def _constrained(xp, of_pre, of_post, of_res, n, n_iters, row):
    H_pre, H_post = _FORMS[row.pre](of_pre), _FORMS[row.post](of_post)
    if row.pre_eps:
        H_pre = H_pre + row.pre_eps
    if row.post_scale != 1.0:
        H_post = H_post * row.post_scale
    if row.mixing == "permutations":
        H_res = birkhoff(softmax(of_res))
    else:
        of_res = xp.reshape(of_res, (*of_res.shape[:-1], n, n))
        names = ("order", "start", "eps", "eps_form", "shift", "temperature")
        options = {name: getattr(row, name) for name in names}
        H_res = sinkhorn(of_res, n_iters=n_iters, **options)
    if row.transposed:
        H_res = xp.matrix_transpose(H_res)
    H_res = xp.reshape(H_res, (*H_res.shape[:-2], n * n))
    return xp.concat([H_pre, H_post, H_res], axis=-1)


def _iteration(n_iters, row):
    names = ("order", "start", "eps", "eps_form")
    return iteration(n_iters, **{name: getattr(row, name) for name in names})


def _check_shapes(arrays, gain, n, d, n_mixtures, row):
    shapes = {"b_pre": [(n,)], "b_post": [(n,)], "b_res": [(n, n)]}
    shapes |= {f"alpha_{part}": [()] for part in _PARTS}
    if row.mixing == "permutations":
        shapes["b_res"] = [(n_mixtures,)]
    each = row.projection == "each"
    rows = d if each else n * d
    for part, width in zip(_PARTS, (n, n, n_mixtures), strict=True):
        shapes[f"phi_{part}"] = [(rows, width)] + ([(rows, width // n)] if each else [])
    for name, x in arrays.items():
        shaped(x, *shapes[name], name=name)
    if gain is not None:
        shaped(gain, (rows,), name="gain")


def _project_flattened(xp, X, phi, gain, row):
    n, d = X.shape[-2:]
    flat = xp.reshape(X, (*X.shape[:-2], n * d))
    return _split(_normed_product(flat, xp.concat(phi, axis=1), gain, **_norm(row)), phi)


def _project_each(xp, X, phi, gain, row):
    """Stream j by φ (d, w), or by columns j·w … (j + 1)·w of φ (d, n·w), to (..., n·w)."""
    n = X.shape[-2]
    moved = _split(_normed_product(X, xp.concat(phi, axis=1), gain, **_norm(row)), phi)
    for i, width in enumerate((1, 1, n)):
        z = moved[i]
        if z.shape[-1] != width:  # stream j by the columns of stream i: keep i = j
            own = xp.eye(n, dtype=X.dtype, device=device(X))
            z = xp.reshape(z, (*z.shape[:-1], n, width)) * xp.expand_dims(own, axis=-1)
            z = xp.sum(z, axis=-2)
        moved[i] = xp.reshape(z, (*z.shape[:-2], n * width))
    return moved


def _norm(row):
    return {"eps": row.norm_eps, "clamps": row.norm_clamps}


def _split(z, phi):
    ends = list(accumulate(W.shape[1] for W in phi))
    return [z[..., end - W.shape[1] : end] for W, end in zip(phi, ends, strict=True)]


@fusable
def _normed_product(x, W, gain=None, *, eps, clamps):
    """RMSNorm(x) W as x (gain ⊙ W)/r: r comes last, so that x is read once."""
    xp, x, W, gain = operands(x=x, W=W, gain=gain)
    if gain is not None:
        W = xp.expand_dims(gain, axis=-1) * W
    if clamps:
        norm = xp.linalg.vector_norm(x, axis=-1, keepdims=True)
        r = xp.maximum(norm, xp.full_like(norm, eps)) / math.sqrt(x.shape[-1])
    else:
        r = xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps)
    return xp.matmul(x, W) / r


# ---- fused


def _product_forward(xp, x, W, gain, *, eps, clamps):
    if clamps:
        return None
    r = mean_of_features(xp, x * x)
    r += eps
    r **= 0.5
    scaled = W if gain is None else xp.expand_dims(gain, axis=-1) * W
    z = xp.reshape(xp.matmul(as_rows(xp, x), scaled), (*x.shape[:-1], W.shape[1]))
    z /= r
    return z, (x, W, gain, scaled, r, z)


def _product_backward(xp, g, x, W, gain, scaled, r, z):
    """dx = (g/r) (gain ⊙ W)ᵀ − x (g · z)/(d r²), d the width of x."""
    along = sum_of_features(xp, g * z)
    along /= r * r * x.shape[-1]
    g = as_rows(xp, g / r)
    dx = xp.reshape(xp.matmul(g, xp.matrix_transpose(scaled)), x.shape)
    dx -= x * along
    dW = xp.matmul(xp.matrix_transpose(as_rows(xp, x)), g)
    if gain is None:
        return dx, dW, None
    return dx, dW * xp.expand_dims(gain, axis=-1), xp.sum(dW * W, axis=-1)


_normed_product.fuse(_product_forward, _product_backward)


def _dynamic_forward(xp, X, b_pre, b_post, b_res, *arrays, row, n_iters):
    """The paper's forms: one product for all coefficients, sigmoids, and Sinkhorn's iteration."""
    *phi, alpha_pre, alpha_post, alpha_res, gain = arrays
    n, d = X.shape[-2:]
    forms = row.projection, row.pre, row.post, row.mixing, row.shift
    if forms != ("flattened", "sigmoid", "sigmoid", "sinkhorn", None) or 0 in X.shape:
        return None
    flat = xp.reshape(X, (math.prod(X.shape[:-2]), n * d))
    product = _product_forward(xp, flat, xp.concat(phi, axis=1), gain, **_norm(row))
    if product is None:
        return None
    z, of_product = product
    b = xp.concat([b_pre, b_post, xp.reshape(b_res, (n * n,))])
    alphas = zip((alpha_pre, alpha_post, alpha_res), (n, n, n * n), strict=True)
    alpha = xp.concat([xp.broadcast_to(a, (width,)) for a, width in alphas])
    logits = z * alpha
    logits += b
    of_res = xp.reshape(logits[:, 2 * n :] / row.temperature, (-1, n, n))
    made = normalized_forward(xp, of_res, **_iteration(n_iters, row), implicit=False)
    if made is None:
        return None
    H_res, of_iteration = made
    if row.transposed:
        H_res = xp.matrix_transpose(H_res)
    gates = sigmoid(logits[:, : 2 * n])
    H_pre, H_post = gates[:, :n] + row.pre_eps, gates[:, n:] * row.post_scale
    packed = xp.concat([H_pre, H_post, xp.reshape(H_res, (-1, n * n))], axis=1)
    saved = X.shape, b_res, row, z, alpha, gates, of_product, of_iteration
    return xp.reshape(packed, (*X.shape[:-2], 2 * n + n * n)), saved


def _dynamic_backward(xp, g, shape, b_res, row, z, alpha, gates, of_product, of_iteration):
    """Of logits α z + b: db = Σ dlogits, dα = Σ dlogits ⊙ z, dz = dlogits ⊙ α."""
    n = shape[-2]
    g = as_rows(xp, g)
    of_res = xp.reshape(g[:, 2 * n :], (-1, n, n))
    if row.transposed:
        of_res = xp.matrix_transpose(of_res)
    (of_res,) = normalized_backward(xp, of_res, *of_iteration)
    of_res = xp.reshape(of_res / row.temperature, (-1, n * n))
    of_gates = xp.concat([g[:, :n], g[:, n : 2 * n] * row.post_scale], axis=1)
    of_gates = of_gates * gates * (1.0 - gates)
    d_logits = xp.concat([of_gates, of_res], axis=1)
    db, along = sum_of_rows(xp, d_logits), sum_of_rows(xp, d_logits * z)
    dX, dW, d_gain = _product_backward(xp, d_logits * alpha, *of_product)
    parts = slice(n), slice(n, 2 * n), slice(2 * n, None)
    return (
        xp.reshape(dX, shape),
        *(db[part] for part in parts[:2]),
        xp.reshape(db[parts[2]], b_res.shape),
        *(dW[:, part] for part in parts),
        *(xp.sum(along[part]) for part in parts),
        d_gain,
    )


_dynamic.fuse(_dynamic_forward, _dynamic_backward)


def init_mhc_coefficients(
    rng, n, d, *, convention="paper", b_res=6.0, alpha=0.01, scale="lecun", dtype="float64"
):
    """Return the parameters of `mhc_coefficients` for n streams of d features, as NumPy arrays.

    α = 0.01 is the paper's, which gives no values for φ and b. Ours start close to the plain
    residual of one stream: b_pre = −log(n − 1), so that sigmoids read the mean of the streams, and
    b_post = 0, so that 2σ writes the whole output to each (a softmax writes 1/n). `b_res` stands on
    the diagonal of b_res (on the identity, with permutations), times the temperature, 0 beside it.
    With 6 and n = 4 a stream gives away 0.7 % of itself in each layer and holds two thirds of its
    own after 60; with 0 all are mixed at once; and where H_res is the identity to the last digit it
    never learns: tokenbender's own start, −8 beside the diagonal at temperature 0.05, has gradients
    of 1e-67. φ is drawn from N(0, scale²), and where there is none N(0, alpha²) is added to b_pre
    and b_post: n equal streams would stay equal. The norm's gain is left out, since φ holds it.
    For n = 1 everything is read and written.
    """
    row = _row(convention)
    n_mixtures = math.factorial(n) if row.mixing == "permutations" else n * n
    of_pre, of_post, of_res = rng.spawn(3)
    # σ(40) is 1 to the last digit
    b_pre = 0.0 if row.pre == "softmax" else 40.0 if n == 1 else -math.log(n - 1)
    of_mix = constant(0.0, n_mixtures, dtype)
    of_mix[:: n + 1 if row.mixing == "sinkhorn" else n_mixtures] = b_res * row.temperature
    if row.mixing == "sinkhorn":
        of_mix = of_mix.reshape(n, n)
    b = {
        "b_pre": constant(b_pre, n, dtype),
        "b_post": constant(0.0, n, dtype),
        "b_res": of_mix,
    }
    if row.projection == "static":
        for name, child in zip(("b_pre", "b_post"), (of_pre, of_post), strict=True):
            b[name] += normal(child, (1, n), alpha, dtype)[0]
        return b
    each = row.projection == "each"
    sizes = (1, 1, n) if each else (n, n, n_mixtures)
    phi = {
        f"phi_{part}": normal(child, (d if each else n * d, width), scale, dtype)
        for part, child, width in zip(_PARTS, (of_pre, of_post, of_res), sizes, strict=True)
    }
    return phi | b | {f"alpha_{part}": constant(alpha, (), dtype) for part in _PARTS}
