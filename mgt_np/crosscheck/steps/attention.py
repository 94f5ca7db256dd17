"""Attention with one head and with several, step by step.

A choice that does not fit the shapes of a case raises ValueError, as the layer that makes it would.
"""

import math

import numpy as np

from mgt_np.arrays.masks import finite_tokens

from . import Fit, Reading, Steps
from .basic import sigmoid, softmax

_LOWEST = -1e300  # below every score; the lowest float64 itself would overflow if it is rounded

# What becomes of hidden scores before softmax: one value for all, or what is added (seen, hidden).
_FILLED = {"lowest": _LOWEST, "minus infinity, unguarded": -math.inf, "−10⁴": -1e4, "zero": 0.0}
_ADDED = {
    "1 added to the seen": (1.0, 0.0),
    "10⁴ taken off": (0.0, -1e4),
    "10⁹ taken off": (0.0, -1e9),
}


def scaled_dot_product_attention(
    q,
    k,
    v,
    *,
    mask=None,
    causal=False,
    scale=None,
    scale_by="1/√d_k",
    scale_given="in place of 1/√d_k",
    roles="q kᵀ, v",
    key_layout="transposed",
    directions="as given",
    triangle="lower",
    combine="and",
    mask_axes="as given",
    mask_batch="its own",
    diagonal="as given",
    hide="minus infinity",
    hidden_nan="hidden",
    form="softmax",
    over="keys",
    shift="maximum",
    base="e",
    below="sum",
    times=1,
    weights_used="as they are",
):
    """Return softmax(q kᵀ · scale) v."""
    allowed = _allowed(q, k, mask, causal, triangle, combine, mask_axes, mask_batch, diagonal)
    spoilt = None
    if hidden_nan == "hidden":
        spoilt, q, k, v = finite_tokens(allowed, q, k, v)
    if directions == "unit":
        q, k = _unit(q), _unit(k)
    values = v
    # Where shapes forbid it a result can only be the contract's.
    if roles == "q kᵀ, k" and k.shape == v.shape:
        values = k
    elif roles != "q kᵀ, v" and q.shape == k.shape:
        q, k = {"k qᵀ, v": (k, q), "q qᵀ, v": (q, q), "q kᵀ, k": (q, k)}[roles]
    with np.errstate(all="ignore"):
        factor, after = _factor(q, k, v, scale, scale_by, scale_given)
        k_T = np.swapaxes(k, -1, -2)
        if key_layout == "reshaped":
            k_T = np.reshape(k, k_T.shape)
        scores = np.matmul(q, k_T) * factor
        axis = {"keys": -1, "queries": -2, "both": (-2, -1), "heads": -3}[over]
        normal = {"axis": axis, "shift": shift, "base": base, "below": below, "times": times}
        if over == "heads":  # all of which hide the same keys
            hide = "zeroed after softmax"
        P = _weights(scores, allowed, hide, form, normal)
        if after != 1.0:  # a product by 1 would round on noisy arrays
            P = P * after
        if weights_used == "transposed":
            P = np.swapaxes(P, -1, -2)
        y = np.matmul(P, values)
    return y if spoilt is None else np.where(spoilt, math.nan, y)


def _factor(q, k, v, scale, scale_by, scale_given):
    """What the scores are multiplied by before softmax, and the weights after it."""
    d_k, d_v = q.shape[-1], v.shape[-1]
    root = 1.0 / math.sqrt(d_k)
    if scale_given == "for q and for k":
        return (root if scale is None else scale) ** 2, 1.0
    if scale_by == "after softmax":
        return 1.0, root if scale is None else scale
    if scale is not None and scale_given == "in place of 1/√d_k":
        return scale, 1.0
    if scale is not None and scale_given == "times 1/√d_k":
        return scale * root, 1.0
    factor = {
        "1/√d_k": root,
        "nothing": 1.0,
        "1/d_k": 1.0 / d_k,
        "√d_k": math.sqrt(d_k),
        "1/√d_v": 1.0 / math.sqrt(d_v),
        "1/√keys": 1.0 / math.sqrt(k.shape[-2]),
        "1/∜d_k": math.sqrt(root),
    }[scale_by]
    return factor, 1.0


def _weights(scores, allowed, hide, form, normal):
    if form != "softmax":
        P = sigmoid(scores) if form == "sigmoid" else scores
        return P if allowed is None else np.where(allowed, P, 0.0)
    if allowed is None:
        return softmax(scores, **normal)
    if hide == "minus infinity":
        # A query without any key gets zeros, which −∞ would make NaN.
        return np.where(allowed, softmax(np.where(allowed, scores, _LOWEST), **normal), 0.0)
    if hide == "−10⁴, guarded":
        P = softmax(np.where(allowed, scores, -1e4), **normal)
        return np.where(np.any(allowed, axis=-1, keepdims=True), P, 0.0)
    if hide in _FILLED:
        return softmax(np.where(allowed, scores, _FILLED[hide]), **normal)
    if hide in _ADDED:
        return softmax(scores + np.where(allowed, *_ADDED[hide]), **normal)
    if hide == "zeroed after softmax":
        return np.where(allowed, softmax(scores, **normal), 0.0)
    P = np.where(allowed, softmax(scores, **normal), 0.0)  # zeroed after softmax, rescaled
    total = np.sum(P, axis=normal["axis"], keepdims=True)
    return P / np.where(total == 0.0, 1.0, total)


def _allowed(q, k, mask, causal, triangle, combine, mask_axes, mask_batch, diagonal):
    """Return which query may attend to which key; None for all."""
    if mask is not None:
        mask = _mask(mask, mask_axes, mask_batch)
    N, M = q.shape[-2], k.shape[-2]
    i, j = np.reshape(np.arange(N), (N, 1)), np.arange(M)
    allowed = mask
    if causal and not (mask is not None and combine == "mask alone"):
        past = {
            "lower": i >= j,
            "strictly lower": i > j,
            "one more": i + 1 >= j,
            "upper": i <= j,
            "strictly upper": i < j,
            "lower, from the last": i + (M - N) >= j,
        }[triangle]
        if mask is None or combine == "causal alone":
            allowed = past
        else:
            allowed = np.logical_or(mask, past) if combine == "or" else np.logical_and(mask, past)
    if allowed is not None and diagonal == "allowed":
        allowed = np.logical_or(allowed, i == j)
    return allowed


def _mask(mask, mask_axes, mask_batch):
    if mask_axes == "swapped":
        # A mask of keys alone is then one of queries.
        mask = np.reshape(mask, (-1, 1)) if mask.ndim == 1 else np.swapaxes(mask, -1, -2)
    if mask.ndim > 2:
        if mask_batch == "the first's":
            mask = np.broadcast_to(mask[:1], mask.shape)
        elif mask_batch == "any of the batch's":
            mask = np.broadcast_to(np.any(mask, axis=0, keepdims=True), mask.shape)
    return mask


def _unit(x):
    norm = np.sqrt(np.sum(x * x, axis=-1, keepdims=True))
    return x / np.where(norm == 0.0, 1.0, norm)


def multi_head_attention(
    x,
    W_q,
    W_k,
    W_v,
    W_o,
    b_q=None,
    b_k=None,
    b_v=None,
    b_o=None,
    context=None,
    *,
    n_heads,
    mask=None,
    causal=False,
    inner=None,
    scale=None,
    head_scale_by="1/√d_k",
    head_number="n_heads",
    packing="q k v",
    layout="x W",
    biases="all",
    b_o_place="after W_o",
    context_for="keys and values",
    split="blocks",
    join="as split",
    heads_used="each its own",
    mask_heads="all alike",
    output="mapped by W_o",
    mask_axes="as given",
    mask_batch="its own",
    **attention,
):
    """Return [head_1 … head_H] W_o + b_o; further choices are those of one head's attention."""
    if biases != "all":
        b_q = b_k = b_v = None
        b_o = b_o if biases == "of the output alone" else None
    W_q, W_k, W_v, W_o = _laid_out(layout, W_q, W_k, W_v, W_o)
    W_q, W_k, W_v = _packed(packing, n_heads, W_q, W_k, W_v)
    b_q, b_k, b_v = _packed(packing, n_heads, b_q, b_k, b_v)
    if mask is not None:
        mask = _mask_of_heads(_mask(mask, mask_axes, mask_batch), x, n_heads, mask_heads)
    c = x if context is None else context
    if x.shape != c.shape and context_for != "keys and values":
        context_for = "keys and values"  # shapes forbid another
    of_query, of_key, of_value = {
        "keys and values": (x, c, c),
        "keys": (x, c, x),
        "values": (x, x, c),
        "queries": (c, x, x),
        "all": (c, c, c),
    }[context_for]
    spoilt = None
    if attention.get("hidden_nan", "hidden") == "hidden" and context_for == "keys and values":
        among = {
            key: attention[key] for key in ("triangle", "combine", "diagonal") if key in attention
        }
        spoilt, of_query, of_key = finite_tokens(_to_any_head(x, c, mask, causal, **among), x, c)
        of_value = of_key
    if head_number == "features of a head":
        n_heads = W_q.shape[-1] // n_heads
    parts = ((of_query, W_q, b_q), (of_key, W_k, b_k), (of_value, W_v, b_v))
    width = W_q.shape[-1]
    if scale is None and head_scale_by == "before b_q":
        scale = 1.0
        parts = ((of_query, W_q / math.sqrt(width // n_heads), b_q), *parts[1:])
    q, k, v = (_split(_linear(*part), n_heads, split) for part in parts)
    if heads_used == "keys and values of the first":
        k, v = (np.broadcast_to(z[..., :1, :, :], z.shape) for z in (k, v))
    if scale is None and head_scale_by != "1/√d_k":
        number = {"1/√d_model": width, "1/√n_heads": n_heads, "1/d_model": width * width}
        scale = 1.0 / math.sqrt(number[head_scale_by])
    heads = scaled_dot_product_attention(
        q, k, v, mask=mask, causal=causal, scale=scale, **attention
    )
    heads = _join(heads, {"as split": split}.get(join, join))
    if inner is not None:
        heads = inner(heads)
    if output == "heads as they are":
        return heads
    y = np.matmul(heads, W_o)
    if output == "mean over heads":
        y = y / n_heads
    if b_o is not None:
        y = y + b_o * (n_heads if b_o_place == "with each head" else 1.0)
    return y if spoilt is None else np.where(spoilt, math.nan, y)


def _linear(x, W, b):
    with np.errstate(invalid="ignore"):  # where x is not finite
        y = np.matmul(x, W)
    return y if b is None else y + b


def _laid_out(layout, *weights):
    if layout == "x Wᵀ":
        return [W.T for W in weights]
    if layout == "x Wᵀ for q, k, v":
        return [*(W.T for W in weights[:3]), weights[3]]
    return weights


def _packed(packing, n_heads, *parts):
    """The three parts as others cut them out of one matrix, which has them side by side."""
    if packing == "q k v" or all(part is None for part in parts):
        return parts
    if packing in ("per head", "per feature"):
        together = np.concatenate(parts, axis=-1)
        width = together.shape[-1] // 3
        if packing == "per feature":
            cut = np.reshape(together, (*together.shape[:-1], width, 3))
            return [cut[..., i] for i in range(3)]
        cut = np.reshape(together, (*together.shape[:-1], n_heads, 3, width // n_heads))
        return [np.reshape(cut[..., i, :], (*together.shape[:-1], width)) for i in range(3)]
    by_name = dict(zip(packing.split(), parts, strict=True))
    return [by_name[name] for name in "qkv"]


def _mask_of_heads(mask, x, n_heads, mask_heads):
    """The mask with an axis for the heads, where it has one for the batch."""
    if not 2 < mask.ndim <= x.ndim:
        return mask
    if mask_heads == "of the batch":
        return mask
    if mask_heads == "repeated in turn":
        # The batch and the heads are one axis, along which the masks follow each other in turn.
        n = mask.shape[0]
        order = np.arange(n * n_heads) % n
        return np.reshape(mask[order], (n, n_heads, *mask.shape[1:]))
    return np.expand_dims(mask, axis=-3)


def _to_any_head(x, c, mask, causal, triangle="lower", combine="and", diagonal="as given"):
    if mask is not None and mask.ndim > x.ndim:
        mask = np.any(mask, axis=-3)
    return _allowed(x, c, mask, causal, triangle, combine, "as given", "its own", diagonal)


def _split(x, n_heads, split):
    """(..., n, H d_h) → (..., H, n, d_h)."""
    start, n, d_h = x.shape[:-2], x.shape[-2], x.shape[-1] // n_heads
    if split == "interleaved":
        return np.moveaxis(np.reshape(x, (*start, n, d_h, n_heads)), -1, -3)
    if split in ("reshaped", "reshaped, but joined right"):
        return np.reshape(x, (*start, n_heads, n, d_h))
    return np.swapaxes(np.reshape(x, (*start, n, n_heads, d_h)), -2, -3)


def _join(heads, join):
    """(..., H, n, d_h) → (..., n, H d_h)."""
    *start, n_heads, n, d_h = heads.shape
    if join == "interleaved":
        heads = np.moveaxis(heads, -3, -1)
    elif join != "reshaped":
        heads = np.swapaxes(heads, -3, -2)
    return np.reshape(heads, (*start, n, n_heads * d_h))


_SCALE_CHANGE = "multiply q kᵀ by 1/√d_k"
_HIDE_CHANGE = "set hidden scores to −∞ before softmax, and rows without any key to 0"

# What both functions may differ in: the weights, given the scores.
_WEIGHTS = (
    *(
        Reading("over", value, "ORIENTATION", says, "normalise over the keys, axis −1")
        for value, says in (
            ("queries", "softmax is taken over the queries"),
            ("both", "softmax is taken over queries and keys together"),
        )
    ),
    Reading(
        "form",
        "scores",
        "MISSING_STEP",
        "the scores weigh the values without softmax",
        "take softmax of the scores",
    ),
    Reading("form", "sigmoid", "INPUT", "σ of the scores weighs the values", "take softmax"),
    Reading(
        "base", 2.0, "SCALE", "2 is raised to the scores, in place of e", "multiply by log₂ e first"
    ),
    Reading(
        "below",
        "1 + sum",
        "EXTRA_STEP",
        "1 is added to the sum of the exponentials, as for a sink of attention",
        "divide by the sum alone",
    ),
    Reading(
        "below",
        "1 + shifted sum",
        "EXTRA_STEP",
        "1 is added to the sum after the maximum was subtracted",
        "divide by the sum alone",
    ),
    Reading(
        "shift",
        "nothing",
        "OVERFLOW",
        "no maximum is subtracted, so that exp overflows",
        "subtract the largest score of each query",
    ),
    Reading("times", 2, "EXTRA_STEP", "softmax is applied twice", "apply it once"),
    Reading(
        "directions",
        "unit",
        "EXTRA_STEP",
        "q and k are scaled to unit norm",
        "take q and k as they are",
    ),
    Reading(
        "key_layout",
        "reshaped",
        "ORIENTATION",
        "k is reshaped where it should be transposed",
        "swap the last two axes of k",
    ),
    Reading(
        "weights_used",
        "transposed",
        "ORIENTATION",
        "the weights are transposed before they meet the values",
        "compute P v",
    ),
    *(
        Reading("scale_by", value, "SCALE", says, _SCALE_CHANGE)
        for value, says in (
            ("nothing", "the scores are not scaled"),
            ("1/d_k", "the scores are divided by d_k: the root is missing"),
            ("√d_k", "the scores are multiplied by √d_k"),
            ("1/∜d_k", "the root is taken twice: scores are divided by d_k to the power ¼"),
            ("1/√keys", "the scores are divided by the root of the number of keys"),
            ("after softmax", "1/√d_k multiplies the weights, after softmax"),
        )
    ),
)

_MASKS = (
    Reading("causal", False, "MASK", "`causal` is ignored", "hide the keys after the query"),
    Reading(
        "causal", True, "MASK", "keys after the query are always hidden", "hide them if `causal`"
    ),
    *(
        Reading("triangle", value, "MASK", says, "let query i attend to keys 0 … i")
        for value, says in (
            ("strictly lower", "a query does not see its own position"),
            ("one more", "a query sees the position after its own"),
            ("upper", "a query sees the keys from its own position on, not those up to it"),
            ("strictly upper", "a query sees only the keys after its own position"),
            ("lower, from the last", "the last query is aligned with the last key"),
        )
    ),
    Reading(
        "combine", "or", "MASK", "a key allowed by the mask or by `causal` is seen", "require both"
    ),
    Reading("combine", "mask alone", "MASK", "beside a mask `causal` is ignored", "require both"),
    Reading("combine", "causal alone", "MASK", "with `causal` the mask is ignored", "require both"),
    Reading(
        "mask_axes",
        "swapped",
        "ORIENTATION",
        "the mask is transposed: its rows are taken for keys",
        "let the last axis of the mask be the keys",
    ),
    Reading(
        "mask_batch",
        "the first's",
        "SHARED",
        "the mask of the first batch element is used for all",
        "use each element's own mask",
    ),
    Reading(
        "mask_batch",
        "any of the batch's",
        "SHARED",
        "a key that any batch element may see is seen by all",
        "use each element's own mask",
    ),
    Reading(
        "diagonal",
        "allowed",
        "MASK",
        "a query may attend to its own position whatever the mask says",
        "leave the mask as it is",
    ),
    *(
        Reading("hide", value, "MASK", says, _HIDE_CHANGE)
        for value, says in (
            ("lowest", "a query without any key attends to all alike"),
            ("minus infinity, unguarded", "a query without any key becomes NaN"),
            ("−10⁴", "hidden scores are −10⁴, which is not below all others"),
            (
                "−10⁴, guarded",
                "hidden scores are −10⁴, which is not below all others, though rows without any "
                "key are 0",
            ),
            ("zero", "hidden scores are 0, or the scores times the mask"),
            ("1 added to the seen", "the mask is added to the scores as 0 and 1"),
            ("10⁴ taken off", "−10⁴ is added to hidden scores"),
            ("10⁹ taken off", "−10⁹ is added to hidden scores"),
            ("zeroed after softmax", "hidden weights become 0 after softmax, without rescaling"),
        )
    ),
    Reading(
        "hide",
        "zeroed after softmax, rescaled",
        "OVERFLOW",
        "softmax sees the hidden scores, beside which all others may underflow",
        _HIDE_CHANGE,
    ),
    Reading(
        "hidden_nan",
        "seen",
        "MASK",
        "what is hidden still makes NaN, for 0 · ∞ is NaN",
        "zero the hidden keys and values that are not finite",
    ),
)

_SCALE_FIT = Fit("scale", 1e-3, 1e2, "SCALE", "the scores are multiplied by {value}", _SCALE_CHANGE)

STEPS = {
    "scaled_dot_product_attention": Steps(
        scaled_dot_product_attention,
        readings=(
            *_WEIGHTS,
            Reading("scale_by", "1/√d_v", "SCALE", "the scores are divided by √d_v", _SCALE_CHANGE),
            Reading("scale", None, "SCALE", "`scale` is ignored", "take it in place of 1/√d_k"),
            Reading(
                "scale", 1.0, "SCALE", "the scores are not scaled, nor by `scale`", _SCALE_CHANGE
            ),
            Reading(
                "scale_given",
                "for q and for k",
                "SCALE",
                "q and k are scaled both, so that the scores are scaled twice",
                "scale one of them, or each by the root of the scale",
            ),
            Reading(
                "scale_given",
                "times 1/√d_k",
                "SCALE",
                "`scale` multiplies 1/√d_k",
                "take it in place of 1/√d_k",
            ),
            *(
                Reading("roles", value, "INPUT", says, "compute softmax(q kᵀ) v")
                for value, says in (
                    ("k qᵀ, v", "q and k are swapped"),
                    ("q qᵀ, v", "q stands for k"),
                    ("q kᵀ, k", "k stands for v"),
                )
            ),
            *_MASKS,
        ),
        fits=(_SCALE_FIT,),
    ),
    "multi_head_attention": Steps(
        multi_head_attention,
        readings=(
            *(
                Reading("split", value, "ORIENTATION", says, change)
                for value, says, change in (
                    (
                        "interleaved",
                        "head h owns every H-th column, from the h-th on",
                        "give head h the h-th contiguous block of columns",
                    ),
                    (
                        "reshaped",
                        "tokens and heads are mixed: reshaped to (H, n, d_h) without a transpose",
                        "reshape to (n, H, d_h), then swap the tokens and the heads",
                    ),
                    (
                        "reshaped, but joined right",
                        "tokens and heads are mixed in the split, not where heads are joined",
                        "reshape to (n, H, d_h), then swap the tokens and the heads",
                    ),
                )
            ),
            *(
                Reading("join", value, "ORIENTATION", says, change)
                for value, says, change in (
                    (
                        "reshaped",
                        "heads are joined without a transpose",
                        "swap the heads and the tokens, then reshape to (n, H d_h)",
                    ),
                    (
                        "interleaved",
                        "the joined features alternate between the heads",
                        "put the heads side by side, each in one block",
                    ),
                )
            ),
            Reading("n_heads", 1, "COUNT", "there is one head", "split the features into heads"),
            Reading(
                "head_number",
                "features of a head",
                "COUNT",
                "the number of heads is taken for the features of one",
                "split into n_heads heads",
            ),
            *(
                Reading("head_scale_by", value, "SCALE", says, _SCALE_CHANGE + ", d_k of one head")
                for value, says in (
                    ("1/√d_model", "the scores are divided by the root of all heads' features"),
                    ("1/d_model", "the scores are divided by the number of all heads' features"),
                    ("1/√n_heads", "the scores are divided by the root of the number of heads"),
                    ("before b_q", "q is scaled before b_q is added, which then is not"),
                )
            ),
            *(
                Reading("packing", value, "INPUT", says, "cut the packed matrix as it was put up")
                for value, says in (
                    ("k q v", "queries and keys are swapped, biases as well"),
                    ("q v k", "keys and values are swapped, biases as well"),
                    ("v k q", "queries and values are swapped, biases as well"),
                    ("k v q", "q, k, v are cut out as k, v, q"),
                    ("v q k", "q, k, v are cut out as v, q, k"),
                    ("per head", "the packed q, k, v are cut as though packed head by head"),
                    ("per feature", "the packed q, k, v are cut as though they alternate"),
                )
            ),
            Reading(
                "layout",
                "x Wᵀ for q, k, v",
                "ORIENTATION",
                "W_q, W_k and W_v are transposed",
                "compute x W",
            ),
            Reading(
                "layout",
                "x Wᵀ",
                "ORIENTATION",
                "all four matrices are transposed, as nn.Linear keeps them",
                "compute x W",
            ),
            Reading(
                "biases",
                "of the output alone",
                "MISSING_STEP",
                "b_q, b_k and b_v are not added",
                "add them before the heads are split",
            ),
            Reading("biases", "none", "MISSING_STEP", "no bias is added", "add all four"),
            Reading(
                "b_o_place",
                "with each head",
                "FACTOR",
                "b_o is added once for each head",
                "add it once, after the heads are summed",
            ),
            *(
                Reading("context_for", value, "INPUT", says, "map keys and values of the context")
                for value, says in (
                    ("keys", "the context gives the keys, but x the values"),
                    ("values", "the context gives the values, but x the keys"),
                    ("queries", "x and the context are swapped"),
                    ("all", "the context gives the queries too"),
                )
            ),
            Reading(
                "heads_used",
                "keys and values of the first",
                "SHARED",
                "the first head's keys and values serve all heads",
                "use each head's own",
            ),
            Reading(
                "mask_heads",
                "of the batch",
                "MASK",
                "a mask for each batch element is taken as one for each head",
                "give the mask an axis for the heads",
            ),
            Reading(
                "mask_heads",
                "repeated in turn",
                "MASK",
                "the masks of a batch are tiled over the heads, where each should be repeated",
                "repeat each mask n_heads times before the next",
            ),
            Reading(
                "output", "heads as they are", "MISSING_STEP", "W_o is not applied", "apply W_o"
            ),
            Reading(
                "output",
                "mean over heads",
                "FACTOR",
                "heads are averaged through W_o, not summed",
                "do not divide by the number of heads",
            ),
            *_WEIGHTS,
            Reading(
                "over",
                "heads",
                "ORIENTATION",
                "softmax is taken over the heads",
                "normalise over the keys, axis −1",
            ),
            *_MASKS,
        ),
        fits=(_SCALE_FIT,),
    ),
}
