"""Hyper-connections: mHC's coefficients, and the connections that read, write and mix by them."""

import dataclasses

import numpy as np

from mgt_np.crosscheck.contract import SUBLAYER
from mgt_np.layers import MHC_CONVENTIONS
from mgt_np.layers.mhc_conventions import convention_row

from . import Fit, Reading, Steps
from .streams import FIRST_TOKEN, ITERATION, MIXING, WRITING, first_token, mhc_update, sinkhorn


def _softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


_GATES = {
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "softmax": _softmax,
    "tanh": np.tanh,
    "linear": lambda x: x,
    "half of 1 + tanh": lambda x: 0.5 * (1.0 + np.tanh(x)),
}

# Choices of `sinkhorn` that are no field of a convention.
_OF_ITERATION = ("half_steps", "least", "start_eps", "count", "divided", "by", "tolerance")


def mhc_coefficients(
    X,
    phi_pre,
    phi_post,
    phi_res,
    b_pre,
    b_post,
    b_res,
    alpha_pre,
    alpha_post,
    alpha_res,
    gain=None,
    *,
    convention="paper",
    n_iters=None,
    flattened="n·d",
    norm="rms",
    norm_outside=None,
    gain_used=True,
    gain_layout="n·d",
    gain_at="after the norm",
    bounded=False,
    alphas="logits",
    packed="pre_post",
    logits_by="rows",
    b_res_transposed=False,
    gates=None,
    tokens="each",
    **fields,
):
    """Return H_pre (..., n), H_post (..., n) and H_res (..., n, n) of the streams X.

    fields: those of `MHCConvention` that differ from the convention's. flattened: the features of a
    token as "n·d" or "d·n". norm: "rms" over all of a token, over the "streams" each, over "all"
    tokens, of the "centred" features, by the "length", or "none". norm_outside: an ε that is added
    to the root. gain_layout: that of its features; gain_at: "after the norm" or "before" it.
    bounded: whether x̂ φ goes through tanh. alphas: they multiply the "logits", the "logits and b",
    or "none"; "alpha_pre" may stand for all. packed: "post_pre" takes the parameters of one for the
    other. logits_by: x̂ φ_res fills H̃_res by "rows" or "columns". gates: the function of both.
    tokens: "each" has its own H, or all that of the "first", or that of their "mean". Others: those
    of `sinkhorn`.
    """
    iteration = {name: fields.pop(name) for name in _OF_ITERATION if name in fields}
    if gates is not None:
        fields = {"pre": gates, "post": gates} | fields
    if norm_outside is not None:
        fields = {"norm_form": "outside", "norm_eps": norm_outside} | fields
    row = convention_row(convention, n_iters)
    row = dataclasses.replace(row, **fields) if fields else row
    if packed == "post_pre":
        phi_pre, b_pre, alpha_pre, phi_post, b_post, alpha_post = (
            *(phi_post, b_post, alpha_post),
            *(phi_pre, b_pre, alpha_pre),
        )
    if alphas == "alpha_pre":
        alpha_post = alpha_res = alpha_pre
    n, d = X.shape[-2:]
    if gain is not None and gain_layout == "d·n":
        gain = np.reshape(np.swapaxes(np.reshape(gain, (d, n)), -1, -2), (n * d,))
    gain = gain if gain_used else None
    if tokens == "mean" and X.ndim > 2:
        X = np.broadcast_to(np.mean(X, axis=-3, keepdims=True), X.shape, subok=True)
    if gain is not None and gain_at == "before":
        X, gain = X * np.reshape(gain, (n, d)), None
    x = _normed(X, row, norm, flattened)
    if gain is not None:
        x = x * gain

    def product(phi):
        return np.tanh(x @ phi) if bounded else x @ phi

    z_res = product(phi_res)
    z_res = np.reshape(z_res, (*z_res.shape[:-1], n, n))
    if logits_by == "columns":
        z_res = np.swapaxes(z_res, -1, -2)
    if b_res_transposed:
        b_res = np.swapaxes(b_res, -1, -2)
    H_pre = _GATES[row.pre](_logits(product(phi_pre), alpha_pre, b_pre, alphas))
    if row.pre_eps:
        H_pre = H_pre + row.pre_eps
    H_post = row.post_scale * _GATES[row.post](
        _logits(product(phi_post), alpha_post, b_post, alphas)
    )
    H_res = sinkhorn(
        _logits(z_res, alpha_res, b_res, alphas),
        **row.iteration(),
        **iteration,
    )
    if row.transposed:
        H_res = np.swapaxes(H_res, -1, -2)
    if tokens != "first":
        return H_pre, H_post, H_res
    made = (H_pre, 1), (H_post, 1), (H_res, 2)
    return tuple(
        np.broadcast_to(first_token(H, tokens, n_axes), H.shape, subok=True) for H, n_axes in made
    )


def _normed(X, row, norm, flattened):
    """Return x̂ (..., n·d): all features of a token, normed."""
    if norm == "streams":
        X = X / _root_mean_square(X, row)
    x = np.swapaxes(X, -1, -2) if flattened == "d·n" else X
    x = np.reshape(x, (*X.shape[:-2], X.shape[-2] * X.shape[-1]))
    if norm == "centred":
        x = x - np.mean(x, axis=-1, keepdims=True)
    if norm in ("rms", "centred"):
        return x / _root_mean_square(x, row)
    if norm == "all":
        return x / np.sqrt(np.mean(x * x) + row.norm_eps)
    if norm == "length":
        return x / (_root_mean_square(x, row) * x.shape[-1] ** 0.5)
    return x


def _root_mean_square(x, row):
    d = x.shape[-1]
    squares = np.sum(x * x, axis=-1, keepdims=True)
    if row.norm_form == "inside":
        return np.sqrt(squares / d + row.norm_eps)
    if row.norm_form == "clamp":
        return np.maximum(np.sqrt(squares), row.norm_eps) / d**0.5
    return np.sqrt(squares / d) + row.norm_eps


def _logits(z, alpha, b, alphas):
    if alphas == "logits and b":
        return alpha * (z + b)
    return (z if alphas == "none" else alpha * z) + b


_BY_NO_COEFFICIENT = {
    "mean": lambda X: np.mean(X, axis=-2),
    "sum": lambda X: np.sum(X, axis=-2),
    "first": lambda X: X[..., 0, :],
}


def mhc_connection(
    X,
    *,
    read="H_pre",
    inner="F",
    writing="H_post",
    added=None,
    mixing="before",
    coefficients="own",
    **given,
):
    """Return H_res X + H_post F(H_pre X), with `mhc_coefficients` of X and the rest.

    read: F reads the streams mixed by "H_pre", their "mean" or "sum", the "first", an "average" by
    H_pre over its sum, or, by H_pre, the "mixed" streams. inner: the output is F(u), has u added,
    "u + F", or is that of "each stream", mixed by H_pre. writing: as in `mhc_update`. added: "X" is
    added to the result. mixing: as in `mhc_update`. coefficients: H_pre and H_post may be
    "swapped".
    """
    H = mhc_coefficients(X, **given)
    if coefficients == "swapped":
        H = H[1], H[0], H[2]
    return _connected(X, *H, read=read, inner=inner, writing=writing, added=added, mixing=mixing)


def _connected(
    X,
    H_pre,
    H_post,
    H_res,
    *,
    read,
    inner,
    writing,
    added,
    mixing,
    tokens="each",
    normed=None,
):
    H_pre = first_token(H_pre, tokens)
    if read == "average":
        H_pre = H_pre / np.sum(H_pre, axis=-1, keepdims=True)
    streams = {"mixed": H_res @ X, "normed": normed}.get(read, X)
    if inner == "each stream":
        streams = SUBLAYER(streams)
    if read in _BY_NO_COEFFICIENT:
        u = _BY_NO_COEFFICIENT[read](streams)
    else:
        u = (H_pre[..., None, :] @ streams)[..., 0, :]
    y = u if inner == "each stream" else SUBLAYER(u)
    if inner == "u + F":
        y = y + u
    made = mhc_update(X, y, H_post, H_res, mixing=mixing, writing=writing, tokens=tokens)
    return made + X if added == "X" else made


def hyper_connection(
    X,
    A_m,
    B,
    A_r,
    W_m=None,
    W_beta=None,
    W_r=None,
    s_alpha=None,
    s_beta=None,
    gain=None,
    bias=None,
    *,
    dynamic=True,
    norm="layer",
    tanh=True,
    eps=None,
    scales="own",
    transposed=True,
    z_r_transposed=False,
    A_r_static=False,
    read="A_m",
    inner="F",
    writing="H_post",
    added=None,
    mixing="before",
    tokens="each",
):
    """Return 𝒜_rᵀ X + ℬ F(𝒜_mᵀ X).

    norm: each stream's "layer" or "rms" norm, the layer norm of "all" streams of a token, or
    "none"; eps is its ε. tanh: of z, or, beside True and False, of "s z" or of "s z + A". scales:
    their "own", "swapped", "s_alpha" for all, "static too", "none", or "none of A_r". transposed:
    𝒜_r is, before it mixes. z_r_transposed: its dynamic part is, beforehand. A_r_static: it has no
    dynamic part. read: as in `mhc_connection`, or the "normed" streams. Others: as there.
    """
    if scales == "swapped":
        s_alpha, s_beta = s_beta, s_alpha
    elif scales == "s_alpha":
        s_beta = s_alpha
    normed = _hyper_norm(X, gain, bias, norm, eps) if dynamic or read == "normed" else None
    if dynamic:
        z_r = normed @ W_r
        if z_r_transposed:
            z_r = np.swapaxes(z_r, -1, -2)
        A_m = _dynamic((normed @ W_m)[..., 0], s_alpha, A_m, tanh, scales)
        B = _dynamic((normed @ W_beta)[..., 0], s_beta, B, tanh, scales)
        if not A_r_static:
            A_r = _dynamic(z_r, 1.0 if scales == "none of A_r" else s_alpha, A_r, tanh, scales)
    H_res = np.swapaxes(A_r, -1, -2) if transposed else A_r
    # static coefficients have no axis of tokens, which `first_token` leaves as they are
    return _connected(
        X,
        A_m,
        B,
        H_res,
        read=read,
        inner=inner,
        writing=writing,
        added=added,
        mixing=mixing,
        tokens=tokens,
        normed=normed,
    )


def _hyper_norm(X, gain, bias, norm, eps):
    if norm == "none":
        return X
    axes = (-2, -1) if norm == "all" else -1
    if norm != "rms":
        X = X - np.mean(X, axis=axes, keepdims=True)
    if eps is None:
        eps = 0.0 if norm == "rms" else 1e-5
    X = X / np.sqrt(np.mean(X * X, axis=axes, keepdims=True) + eps)
    if gain is not None:
        X = X * gain
    # the rms norm has no bias
    return X if bias is None or norm == "rms" else X + bias


def _dynamic(z, s, A, tanh, scales):
    """A coefficient: s tanh(z) + A."""
    if scales == "none":
        s = 1.0
    if tanh == "s z":
        return np.tanh(s * z) + A
    if tanh == "s z + A":
        return np.tanh(s * z + A)
    z = np.tanh(z) if tanh else z
    return s * (z + A) if scales == "static too" else s * z + A


_NORM_EPS = "give the norm the ε of the contract, or of the convention"
_COEFFICIENTS = (
    *(
        Reading("norm_eps", value, "EPSILON", f"ε of the norm is {value:g}", _NORM_EPS)
        for value in (1e-5, 1e-6, 1e-8, 1e-12, 1e-20)
    ),
    Reading(
        "norm_form",
        "inside",
        "EPSILON",
        "ε is added to the mean of squares, under the root",
        "put ε where the convention has it",
    ),
    Reading(
        "norm_form",
        "clamp",
        "EPSILON",
        "the length counts as ε or more in the norm",
        "add ε to the mean of squares, under the root",
    ),
    Reading(
        "norm_form",
        "outside",
        "EPSILON",
        "ε is added to the root of the mean of squares",
        "add ε to the mean of squares, under the root",
    ),
    Reading(
        "norm",
        "none",
        "MISSING_STEP",
        "the streams are not normed before φ",
        "divide the n·d features by their root mean square first",
    ),
    Reading(
        "norm",
        "streams",
        "ORIENTATION",
        "each stream is normed alone",
        "norm all n·d features of a token together",
    ),
    Reading(
        "norm",
        "centred",
        "EXTRA_STEP",
        "the mean is subtracted before the norm, as in a layer norm",
        "divide by the root mean square alone",
    ),
    Reading(
        "norm",
        "length",
        "SCALE",
        "features are divided by their length, not by their root mean square",
        "multiply by √(n·d)",
    ),
    Reading(
        "norm",
        "all",
        "SHARED",
        "one root mean square is taken over all tokens",
        "take it for each token",
    ),
    *(
        Reading(
            "norm_outside",
            value,
            "EPSILON",
            f"{value:g} is added to the root of the mean of squares",
            "add ε to the mean of squares, under the root",
        )
        for value in (1e-5, 1e-6, 1e-8, 1e-12)
    ),
    Reading(
        "gain_layout",
        "d·n",
        "ORIENTATION",
        "the gain's features lie as d·n, those of the token as n·d",
        "lay out the gain as n·d",
    ),
    Reading(
        "gain_at",
        "before",
        "ORDER",
        "the gain multiplies before the norm",
        "norm first, then multiply by the gain",
    ),
    Reading(
        "bounded",
        True,
        "EXTRA_STEP",
        "tanh is taken of x̂ φ, as in hyper-connections",
        "multiply x̂ φ by α as it is",
    ),
    Reading("gain_used", False, "MISSING_STEP", "the norm's gain is lost", "multiply by the gain"),
    Reading(
        "flattened",
        "d·n",
        "ORIENTATION",
        "a token's features are flattened as d·n",
        "flatten stream by stream, as n·d",
    ),
    Reading("alphas", "none", "MISSING_STEP", "α is lost", "multiply x̂ φ by α"),
    Reading(
        "alphas",
        "logits and b",
        "SCALE",
        "α multiplies the bias too",
        "multiply x̂ φ by α, then add b",
    ),
    Reading(
        "alphas",
        "alpha_pre",
        "INPUT",
        "α_pre multiplies all three products",
        "multiply x̂ φ_post by α_post and x̂ φ_res by α_res",
    ),
    Reading(
        "packed",
        "post_pre",
        "INPUT",
        "H_pre has the parameters of H_post, and H_post those of H_pre",
        "take φ, b and α in the order pre, post, res",
    ),
    Reading(
        "logits_by",
        "columns",
        "ORIENTATION",
        "x̂ φ_res fills the matrix of logits by columns",
        "fill it by rows: entry (i, j) is column n·i + j of φ_res",
    ),
    Reading("b_res_transposed", True, "ORIENTATION", "b_res is transposed", "transpose it back"),
    Reading("pre", "softmax", "MISSING_STEP", "H_pre is a softmax", "take σ of its logits"),
    Reading("post", "softmax", "MISSING_STEP", "H_post is a softmax", "take 2σ of its logits"),
    Reading("gates", "softmax", "MISSING_STEP", "H_pre and H_post are softmaxes", "take σ and 2σ"),
    Reading("gates", "tanh", "MISSING_STEP", "H_pre and H_post have tanh for σ", "take σ and 2σ"),
    *(
        Reading(axis, "linear", "MISSING_STEP", f"{what} no σ", "take σ of H_pre's logits and 2σ")
        for axis, what in (
            ("pre", "H_pre has"),
            ("post", "H_post has"),
            ("gates", "H_pre and H_post have"),
        )
    ),
    Reading(
        "post",
        "half of 1 + tanh",
        "FACTOR",
        "H_post is 1 + tanh of its logits, which is 2σ of twice the logits",
        "take 2σ, or 1 + tanh of half the logits",
    ),
    Reading("pre_eps", 1e-6, "EPSILON", "1e-6 is added to H_pre", "leave it out"),
    Reading("pre_eps", 0.0, "EPSILON", "nothing is added to H_pre", "add the convention's ε"),
    Reading("post_scale", 1.0, "FACTOR", "the factor 2 of H_post is missing", "take 2σ"),
    Reading("transposed", True, "ORIENTATION", "H_res is transposed", "transpose H_res back"),
    Reading(
        "transposed",
        False,
        "ORIENTATION",
        "H_res is not transposed, as the convention has it",
        "transpose H_res after the iteration",
    ),
    *ITERATION,
    Reading(
        "convention",
        "paper",
        "INPUT",
        "the coefficients are the paper's, whatever the convention",
        "follow the convention of the options",
    ),
    FIRST_TOKEN,
    Reading(
        "tokens",
        "mean",
        "SHARED",
        "the coefficients are made of the mean of the tokens",
        "give each token its own coefficients",
    ),
)
_CONNECTION = (
    *MIXING,
    *(r for r in WRITING if r.value != "reshaped"),
    Reading(
        "read",
        "sum",
        "MISSING_STEP",
        "the sub-layer reads the plain sum of the streams",
        "give it their mixture by the coefficients",
    ),
    Reading(
        "read",
        "first",
        "MISSING_STEP",
        "the sub-layer reads the first stream alone",
        "give it the streams' mixture by the coefficients",
    ),
    Reading(
        "inner",
        "each stream",
        "ORDER",
        "the sub-layer is applied to each stream, and its outputs are mixed",
        "mix the streams by the coefficients, then apply the sub-layer once",
    ),
    Reading(
        "read",
        "mean",
        "MISSING_STEP",
        "the sub-layer reads the plain mean of the streams",
        "give it their mixture by the coefficients",
    ),
    Reading(
        "read",
        "mixed",
        "ORDER",
        "the sub-layer reads the streams after they are mixed with each other",
        "let it read the streams as they come in",
    ),
    Reading(
        "inner",
        "u + F",
        "EXTRA_STEP",
        "the sub-layer's own residual is left in: u + F(u) is written",
        "write F(u) alone",
    ),
    Reading(
        "writing",
        "as it is",
        "MISSING_STEP",
        "the sub-layer's output is added to each stream as it is",
        "multiply it by the stream's coefficient",
    ),
    Reading(
        "added",
        "X",
        "EXTRA_STEP",
        "X is added to the mixed streams",
        "leave it out: the mixture is the residual",
    ),
)
_MHC_CONNECTION = (
    *_CONNECTION,
    Reading(
        "read",
        "average",
        "EXTRA_STEP",
        "H_pre is divided by its sum, so that the sub-layer reads an average",
        "take H_pre as it is",
    ),
    Reading(
        "coefficients",
        "swapped",
        "INPUT",
        "H_post reads from the streams, and H_pre writes to them",
        "read by H_pre and write by H_post",
    ),
)
_HYPER_EPS = "give the layer norm ε = 1e-5"
_HYPER = (
    *(
        Reading("eps", value, "EPSILON", f"ε of the norm is {value:g}", _HYPER_EPS)
        for value in (1e-6, 1e-8, 1e-12)
    ),
    Reading("norm", "rms", "MISSING_STEP", "streams have an rms norm", "take the layer norm"),
    Reading("norm", "none", "MISSING_STEP", "streams are not normed", "norm each stream first"),
    Reading(
        "norm",
        "all",
        "ORIENTATION",
        "all streams of a token are normed together",
        "norm each stream alone",
    ),
    Reading("tanh", False, "MISSING_STEP", "there is no tanh", "take tanh of H̄ W"),
    Reading("tanh", "s z", "ORDER", "tanh is taken after the scale", "scale the tanh"),
    Reading(
        "tanh",
        "s z + A",
        "ORDER",
        "tanh is taken of the dynamic and the static part together",
        "take tanh of H̄ W alone, then scale it and add the static part",
    ),
    Reading("scales", "swapped", "INPUT", "s_α and s_β are swapped", "scale ℬ by s_β alone"),
    Reading("scales", "s_alpha", "INPUT", "s_α scales ℬ too", "scale ℬ by s_β"),
    Reading("scales", "none", "MISSING_STEP", "s_α and s_β are lost", "scale the dynamic parts"),
    Reading(
        "scales",
        "static too",
        "SCALE",
        "the scales multiply the static parts too",
        "scale the dynamic parts, then add the static ones",
    ),
    Reading(
        "scales",
        "none of A_r",
        "MISSING_STEP",
        "the dynamic part of A_r is not scaled",
        "multiply tanh of H̄ W_r by s_α",
    ),
    Reading("A_r_static", True, "MISSING_STEP", "A_r has no dynamic part", "add s_α tanh(H̄ W_r)"),
    Reading(
        "read",
        "normed",
        "INPUT",
        "the sub-layer reads the normed streams",
        "norm them for the coefficients alone",
    ),
    Reading("dynamic", False, "MISSING_STEP", "the coefficients are static", "add dynamic parts"),
    Reading("transposed", False, "ORIENTATION", "𝒜_r is not transposed", "mix by 𝒜_rᵀ"),
    Reading(
        "z_r_transposed",
        True,
        "ORIENTATION",
        "H̄ W_r is transposed before A_r is added",
        "row j of H̄ W_r belongs to row j of A_r",
    ),
    *_CONNECTION,
    FIRST_TOKEN,
)
_MHC_FITS = (
    Fit("norm_eps", 1e-16, 1e-1, "EPSILON", "ε of the norm is {value}", _NORM_EPS),
    Fit(
        "norm_outside",
        1e-12,
        1e-1,
        "EPSILON",
        "{value} is added to the root of the mean of squares",
        "add ε to the mean of squares, under the root",
    ),
)


def _mhc_centres():
    """Return what the conventions that `mhc_coefficients` here covers change in the paper's."""
    paper = dataclasses.asdict(MHC_CONVENTIONS["paper"])
    centres = {}
    for name, row in MHC_CONVENTIONS.items():
        changed = {
            key: value for key, value in dataclasses.asdict(row).items() if value != paper[key]
        }
        covered = row.projection == "flattened" and row.mixing == "sinkhorn"
        if covered and changed and changed not in centres.values():
            centres[name] = changed
    return centres


STEPS = {
    "mhc_coefficients": Steps(
        mhc_coefficients, _COEFFICIENTS, _MHC_FITS, _mhc_centres(), tuple(_mhc_centres())
    ),
    "mhc_connection": Steps(
        mhc_connection,
        (*_COEFFICIENTS, *_MHC_CONNECTION),
        _MHC_FITS,
        _mhc_centres(),
        tuple(_mhc_centres()),
    ),
    "hyper_connection": Steps(
        compute=hyper_connection,
        readings=_HYPER,
        fits=(Fit("eps", 1e-12, 1e-1, "EPSILON", "ε of the norm is {value}", _HYPER_EPS),),
        centres={"hyper-connections": {"norm": "rms"}},
    ),
}
