"""Sinkhorn's iteration, and the update of several residual streams."""

import numpy as np

from mgt_np.layers import MHC_CONVENTIONS

from . import Fit, Reading, Steps

ROWS, COLUMNS = -1, -2  # the axis over which a sum is taken
_FIRST_AND_SECOND = {"columns_rows": (COLUMNS, ROWS), "rows_columns": (ROWS, COLUMNS)}
_OTHERS_DIVIDED = {
    "rows alone": (ROWS, ROWS),
    "columns alone": (COLUMNS, COLUMNS),
    "first two axes": (0, 1),
}
_AT_ONCE = ("at once", "roots at once")
_SHIFTS = {"rows": ROWS, "columns": COLUMNS, "all": (COLUMNS, ROWS)}


def sinkhorn(
    logits,
    *,
    n_iters=20,
    order="columns_rows",
    start="exp",
    eps=0.0,
    eps_form="add",
    temperature=1.0,
    shift=None,
    half_steps=0,
    least=None,
    start_eps="added",
    exponent="shifted",
    count="iterations",
    divided="in turn",
    by="sums",
    tolerance=None,
    base="e",
    clip=None,
    matrices="each its own",
    result="as it is",
):
    """Return exp(Z/τ) with its columns and rows divided by their sums in turn.

    half_steps: how many divisions more, or fewer, than two for each iteration. least: sums count as
    at least this, whatever eps is. start_eps: whether ε is "added" to a softmax start, or "left
    out". exponent: "shifted" subtracts the largest logit where this changes nothing else, "as it
    is" does not. count: n_iters counts "iterations" or single "divisions"; with "one too few,
    shifted" the largest logit is subtracted even if no division is left to take it back. divided:
    rows and columns "in turn", "rows alone", "columns alone", both by sums taken "at once", or by
    the "roots at once", or the "first two axes" of all. by: "sums" or "means". tolerance: no
    further iteration once the columns sum to 1 within this. clip: bound of the logits. matrices:
    the "first" may stand for all. result: may be the "logarithm", or the "mean with its transpose".
    Holds for logits that differ by less than 700.
    """
    if least is not None:
        eps, eps_form = least, "clamp"
    Z = logits if temperature == 1.0 else logits / temperature
    if base != "e":
        Z = Z * np.log(base)
    if clip is not None:
        Z = np.minimum(np.maximum(Z, -clip), clip)
    if matrices == "first":
        Z = np.broadcast_to(Z[(slice(0, 1),) * (Z.ndim - 2)], Z.shape, subok=True)
    if count == "one too few, shifted":
        n_iters, shift = max(0, n_iters - 1), "all"
    if shift is not None:
        Z = Z - np.max(Z, axis=_SHIFTS[shift], keepdims=True)
    axes = _OTHERS_DIVIDED.get(divided, _FIRST_AND_SECOND[order])
    axes = axes * (n_iters + abs(half_steps))
    axes = axes[: max(0, (n_iters if count == "divisions" else 2 * n_iters) + half_steps)]
    if start == "softmax":
        Z = _below_zero(Z, ROWS, exponent)
        M = np.exp(Z)
        M = M / np.sum(M, axis=ROWS, keepdims=True)
        if eps and start_eps == "added":
            M = M + eps
        if order == "rows_columns":  # the softmax counts as the first division
            axes = axes[1:]
    elif start == "sigmoid":
        M = 1.0 / (1.0 + np.exp(-Z))
    elif divided == "roots at once":
        M = np.exp(_below_zero(Z, (COLUMNS, ROWS), exponent))
    elif axes and eps == 0.0 and divided != "at once":
        M = np.exp(_below_zero(Z, axes[0], exponent))
    else:
        M = np.exp(Z)
    if divided in _AT_ONCE:
        M = _divided_at_once(M, n_iters, divided)
    else:
        for step, axis in enumerate(axes):
            if tolerance is not None and step and step % 2 == 0 and _settled(M, tolerance):
                break
            total = (np.mean if by == "means" else np.sum)(M, axis=axis, keepdims=True)
            if eps:  # adding 0 would round once more in a noisy run
                total = np.maximum(total, eps) if eps_form == "clamp" else total + eps
            M = M / total
    if result == "logarithm":
        return np.log(M)
    return M if result == "as it is" else 0.5 * (M + np.swapaxes(M, -1, -2))


def _divided_at_once(M, n_iters, divided):
    """M, divided n_iters times by the sums of its rows and its columns, both taken beforehand."""
    for _ in range(n_iters):
        of_rows, of_columns = (np.sum(M, axis=axis, keepdims=True) for axis in (ROWS, COLUMNS))
        if divided == "roots at once":
            of_rows, of_columns = np.sqrt(of_rows), np.sqrt(of_columns)
        M = M / of_rows / of_columns
    return M


def _settled(M, tolerance):
    return np.max(np.abs(np.sum(M, axis=COLUMNS) - 1.0)) < tolerance


def _below_zero(Z, axis, exponent):
    """Z less its largest entry over the axis whose sums are divided by first, so that exp holds."""
    return Z - np.max(Z, axis=axis, keepdims=True) if exponent == "shifted" else Z


def mhc_update(
    X,
    y,
    H_post,
    H_res,
    *,
    mixing="before",
    writing="H_post",
    tokens="each",
    features="n·d",
):
    """Return H_res X + H_post y, for each token.

    mixing: the streams are mixed "before" y is written to them, "after", or "not". writing: y is
    multiplied by "H_post", or written "as it is", "divided" by the number of streams, to the "first
    stream" alone, or as an outer product y H_postᵀ that is "reshaped". tokens: "each" has its own
    H, or the "first" one gives H for all. features: those of a token lie as "n·d" or "d·n".
    """
    H_post, H_res = first_token(H_post, tokens), first_token(H_res, tokens, n_axes=2)
    shape = X.shape
    if features == "d·n":
        X = np.swapaxes(np.reshape(X, (*shape[:-2], shape[-1], shape[-2])), -1, -2)
    written = _written(y, H_post, writing)
    if mixing == "after":
        made = H_res @ (X + written)
    else:
        made = (H_res @ X if mixing == "before" else X) + written
    return np.reshape(np.swapaxes(made, -1, -2), shape) if features == "d·n" else made


def _written(y, H_post, writing):
    """What is added to the streams, (..., n, d)."""
    n = H_post.shape[-1]
    if writing == "as it is":
        return y[..., None, :]
    if writing == "reshaped":
        outer = y[..., :, None] * H_post[..., None, :]
        return np.reshape(outer, (*outer.shape[:-2], n, outer.shape[-2]))
    written = H_post[..., :, None] * y[..., None, :]
    if writing == "first stream":
        return np.where(np.reshape(np.arange(n) == 0, (n, 1)), written, 0.0)
    return written / n if writing == "divided" else written


def first_token(H, tokens, n_axes=1):
    """Return H (..., t, *its own axes), or where tokens is "first" that of the first token."""
    if tokens != "first" or H.ndim <= n_axes:
        return H
    return H[..., :1, :] if n_axes == 1 else H[..., :1, :, :]


_NO_EPS = "divide by the sums as they are, or with the ε of the options"
_NO_SHIFT = "subtract no more before exp than the options say: ε sees it"
_N_ITERS = "make n_iters iterations, 20 by default"

_IN_TURN = "divide by the sums of the columns, then by those of the rows that this leaves"

# Of `sinkhorn` and of mHC's coefficients. Those that have the contract's own value are for cases
# whose options, or a convention, say otherwise.
ITERATION = (
    *(
        Reading("order", value, "ORDER", f"{first} are normalised before {second}", change)
        for value, first, second, change in (
            ("rows_columns", "rows", "columns", "divide by the column sums first"),
            ("columns_rows", "columns", "rows", "divide by the row sums first"),
        )
    ),
    *(
        Reading("start", value, "START", f"the iteration starts from {what}", f"start from {other}")
        for value, what, other in (
            ("softmax", "a softmax of each row", "exp(Z)"),
            ("exp", "exp(Z)", "a softmax of each row"),
        )
    ),
    *(
        Reading("eps", value, "EPSILON", f"{value:g} is added to each sum", _NO_EPS)
        for value in (1e-6, 1e-8, 1e-12)
    ),
    Reading("eps", 0.0, "EPSILON", "no ε enters the sums", "give the sums the ε of the options"),
    *(
        Reading("least", value, "EPSILON", f"a sum counts as {value:g} or more", _NO_EPS)
        for value in (1e-6, 1e-12)
    ),
    Reading("eps_form", "clamp", "EPSILON", "a sum counts as ε or more", "add ε to each sum"),
    Reading("eps_form", "add", "EPSILON", "ε is added to each sum", "take the larger of ε and sum"),
    Reading(
        "start_eps",
        "left out",
        "EPSILON",
        "ε is not added to the softmax that the iteration starts from",
        "add ε to that softmax",
    ),
    *(
        Reading("shift", value, "EXTRA_STEP", f"the largest logit of {of} is subtracted", _NO_SHIFT)
        for value, of in (("rows", "each row"), ("columns", "each column"), ("all", "all"))
    ),
    Reading(
        "shift",
        None,
        "MISSING_STEP",
        "no largest logit is subtracted",
        "subtract that of the options",
    ),
    Reading(
        "temperature",
        0.05,
        "SCALE",
        "logits are divided by a temperature of 0.05",
        "divide logits by the temperature of the options, 1 by default",
    ),
    *(
        Reading("n_iters", n, "COUNT", f"there are {n} iterations, whatever n_iters is", _N_ITERS)
        for n in (0, 3, 10, 19, 20)
    ),
    Reading("half_steps", 1, "COUNT", "there is half an iteration too many", _N_ITERS),
    Reading("half_steps", 2, "COUNT", "there is one iteration too many", _N_ITERS),
    Reading("half_steps", -1, "COUNT", "the last iteration lacks its second division", _N_ITERS),
    Reading("half_steps", -2, "COUNT", "there is one iteration too few", _N_ITERS),
    Reading(
        "count",
        "divisions",
        "COUNT",
        "n_iters counts divisions, of which an iteration has two",
        "divide the columns and then the rows n_iters times",
    ),
    *(
        Reading("divided", value, bug, says, _IN_TURN)
        for value, bug, says in (
            ("rows alone", "MISSING_STEP", "rows alone are normalised, as by a softmax"),
            ("columns alone", "MISSING_STEP", "columns alone are normalised"),
            (
                "at once",
                "ORDER",
                "the sums of rows and of columns are both taken before either division",
            ),
            (
                "roots at once",
                "ORDER",
                "entries are divided by the roots of their row's and their column's sum at once",
            ),
            (
                "first two axes",
                "ORIENTATION",
                "sums run over the first two axes, which are not those of a matrix here",
            ),
        )
    ),
    Reading(
        "by",
        "means",
        "SCALE",
        "entries are divided by means, so that rows sum to n",
        "divide by sums",
    ),
    Reading(
        "tolerance",
        1e-3,
        "COUNT",
        "the iteration ends when the columns sum to 1 within 1e-3",
        "make all n_iters iterations",
    ),
)

# Of every update of streams.
MIXING = (
    Reading(
        "mixing",
        "not",
        "MISSING_STEP",
        "the streams are not mixed",
        "multiply the streams by H_res",
    ),
    Reading(
        "mixing",
        "after",
        "ORDER",
        "the streams are mixed after the output is written to them",
        "mix the streams as they come in, then add the output",
    ),
)
WRITING = (
    Reading(
        "writing",
        "reshaped",
        "ORIENTATION",
        "the outer product of output and H_post is made as (d, n) and reshaped to (n, d)",
        "transpose it, or make it as (n, d)",
    ),
    Reading(
        "writing",
        "first stream",
        "MISSING_STEP",
        "the output is written to the first stream alone",
        "write it to each stream by its own coefficient",
    ),
    Reading(
        "writing",
        "divided",
        "SCALE",
        "the output is divided among the n streams",
        "leave out the division by n",
    ),
)
FIRST_TOKEN = Reading(
    "tokens",
    "first",
    "SHARED",
    "the coefficients of the first token serve all",
    "give each token its own coefficients",
)


def _sinkhorn_centres():
    """Return the conventions that differ from the contract in the iteration, by name.

    The number of iterations is not among them: it is a default of theirs, and cases give it.
    """
    contract = {"order": "columns_rows", "start": "exp", "eps": 0.0, "eps_form": "add"}
    contract |= {"shift": None, "temperature": 1.0}
    centres = {}
    for name, row in MHC_CONVENTIONS.items():
        changed = {key: getattr(row, key) for key in contract}
        changed = {key: value for key, value in changed.items() if value != contract[key]}
        if row.eps == 0.0:  # it has no form then
            changed.pop("eps_form", None)
        if row.mixing == "sinkhorn" and changed and changed not in centres.values():
            centres[name] = changed
    return centres


STEPS = {
    "sinkhorn": Steps(
        compute=sinkhorn,
        readings=(
            *ITERATION,
            Reading(
                "exponent",
                "as it is",
                "OVERFLOW",
                "exp is taken of the logits as they are",
                "subtract the largest logit first, or iterate on logarithms",
            ),
            Reading(
                "count",
                "one too few, shifted",
                "COUNT",
                "there is one iteration too few, after the largest logit was subtracted",
                _N_ITERS,
            ),
            Reading("start", "sigmoid", "START", "the iteration starts from σ(Z)", "take exp(Z)"),
            Reading("base", 2.0, "SCALE", "2 is raised to the logits, in place of e", "take exp"),
            Reading(
                "clip",
                10.0,
                "EXTRA_STEP",
                "logits are clipped to [−10, 10]",
                "leave the logits as they are",
            ),
            Reading(
                "matrices",
                "first",
                "SHARED",
                "the first of all matrices gives the result for each",
                "iterate on each matrix of the batch",
            ),
            Reading(
                "result",
                "logarithm",
                "MISSING_STEP",
                "the logarithm of the matrix is returned",
                "return its exp",
            ),
            Reading(
                "result",
                "mean with its transpose",
                "EXTRA_STEP",
                "the matrix is averaged with its transpose",
                "return it as it is",
            ),
        ),
        fits=(
            Fit(
                "temperature",
                0.01,
                10.0,
                "SCALE",
                "logits are divided by a temperature of {value}",
                "divide logits by the temperature of the options, 1 by default",
            ),
            Fit(
                "eps",
                1e-12,
                1e-1,
                "EPSILON",
                "{value} is added to each sum",
                _NO_EPS,
            ),
        ),
        centres=_sinkhorn_centres(),
    ),
    "mhc_update": Steps(
        compute=mhc_update,
        readings=(
            *MIXING,
            *WRITING,
            FIRST_TOKEN,
            Reading(
                "features",
                "d·n",
                "ORIENTATION",
                "the features of a token are taken to lie as d·n",
                "let the streams be the axis before the last",
            ),
        ),
    ),
}
