"""`torch.nn.MultiheadAttention`: weights packed in one matrix, stored transposed; other masks.

PyTorch's masks say what is hidden, ours what is allowed; a mask for each head is (batch · heads,
queries, keys). Without `batch_first` an input is (tokens, batch, features).
"""

from functools import partial

import numpy as np

from mgt_np.arrays import array_namespace
from mgt_np.layers import attention_weights, linear, multi_head_attention

from .running import beside_live, beside_recorded, generator, random_copy
from .sources import allowed, as_float64, expect, is_live, options_of, size, state_of

NAME = "torch_attention"
DEFAULTS = {"num_heads": None, "batch_first": False}
MASKS = ("attn_mask", "key_padding_mask")


def parameters(source, **options):
    """Return ("multi_head_attention", its options, its weights).

    options: num_heads and batch_first, for a state_dict. Keys and values of other widths than the
    queries' have a W_k and W_v of as many rows.
    """
    options = _options(source, options)
    state = state_of(NAME, source)
    _refuse(state, options)
    return "multi_head_attention", {"n_heads": options["num_heads"]}, params_of(state)


def reference(
    source, query, key=None, value=None, *, attn_mask=None, key_padding_mask=None, **options
):
    """Return the output for a query (batch and tokens in the module's order), and keys or none.

    Without keys the query attends to itself; without values they are the keys.
    """
    options = _options(source, options)
    state = state_of(NAME, source)
    widths = _refuse(state, options)
    inputs = _inputs({"query": query, "key": key, "value": value}, widths)
    masks = {"attn_mask": attn_mask, "key_padding_mask": key_padding_mask}
    return _forward(state | inputs, options, _mask(inputs, options, **masks))["y"]


def check(
    source,
    rng=None,
    *,
    query=None,
    key=None,
    value=None,
    attn_mask=None,
    key_padding_mask=None,
    recorded=None,
    R=None,
    **options,
):
    """Return an `Adapted`: the output y, each head's weights, and all gradients.

    A live module is called with random weights in a copy; of a state_dict, `recorded` holds y and
    "grad.query", "grad.in_proj_weight", … of Σ R · y. Inputs that are not given are drawn. For a
    query that may attend to nothing PyTorch's weights are NaN; ours are zero.
    """
    rng = generator(rng)
    live = is_live(source)
    source = random_copy(NAME, source, rng) if live else source
    options = _options(source, options)
    state = state_of(NAME, source)
    widths = _refuse(state, options)
    inputs = _inputs({"query": query, "key": key, "value": value}, widths)
    masks = {"attn_mask": attn_mask, "key_padding_mask": key_padding_mask}
    inputs = inputs or _drawn(rng, widths, options, masks)
    mask = _mask(inputs, options, **masks)
    forward = partial(_forward, options=options, mask=mask)
    if live:
        return beside_live(forward, source, partial(_call, masks=masks), inputs, rng)
    return beside_recorded(NAME, forward, state, inputs, recorded, R)


def params_of(w):
    """Return the weights of `multi_head_attention` of a state_dict."""
    xp = array_namespace(w["out_proj.weight"])
    d = w["out_proj.weight"].shape[0]
    places = {"q": slice(d), "k": slice(d, 2 * d), "v": slice(2 * d, None)}
    params = {}
    for part, place in places.items():
        packed = w.get("in_proj_weight")
        W = w[f"{part}_proj_weight"] if packed is None else packed[place, :]
        params[f"W_{part}"] = xp.matrix_transpose(W)
        if "in_proj_bias" in w:
            params[f"b_{part}"] = w["in_proj_bias"][place]
    params["W_o"] = xp.matrix_transpose(w["out_proj.weight"])
    if "out_proj.bias" in w:
        params["b_o"] = w["out_proj.bias"]
    return params


def shapes_of(state, prefix="", adapter=NAME):
    """Return the shapes of a state_dict's entries, and which may be missing."""
    d = size(adapter, state, f"{prefix}out_proj.weight", 2, 0)
    shapes = {"in_proj_weight": (3 * d, d)}
    if f"{prefix}q_proj_weight" in state:
        widths = {part: size(adapter, state, f"{prefix}{part}_proj_weight", 2, 1) for part in "kv"}
        shapes = {f"{part}_proj_weight": (d, width) for part, width in ({"q": d} | widths).items()}
    shapes |= {"in_proj_bias": (3 * d,), "out_proj.weight": (d, d), "out_proj.bias": (d,)}
    biases = [f"{prefix}{name}" for name in ("in_proj_bias", "out_proj.bias")]
    bias_free = not any(name in state for name in biases)
    return {f"{prefix}{k}": v for k, v in shapes.items()}, biases if bias_free else []


def joint_mask(adapter, sizes, n_heads, attn_mask, key_padding_mask, names=MASKS):
    """Return both masks as one of ours: (…, heads, queries, keys), (…, queries, keys), or None.

    sizes: the numbers of sequences (None without a batch axis), of queries and of keys. names: what
    the caller calls the masks.
    """
    batch, queries, keys = sizes
    leading = () if batch is None else (batch,)
    mask = None
    if attn_mask is not None:
        mask = allowed(adapter, names[0], attn_mask)
        plain, n = (queries, keys), (batch or 1) * n_heads
        if mask.shape not in (plain, (n, *plain)):
            raise ValueError(
                f"{adapter}: expected {names[0]} {plain}, or {(n, *plain)} for each sequence and "
                f"head, got shape {mask.shape}"
            )
        if mask.ndim == 3:
            mask = mask.reshape(*leading, n_heads, *plain)
    if key_padding_mask is not None:
        seen = allowed(adapter, names[1], key_padding_mask)
        if seen.shape != (*leading, keys):
            raise ValueError(
                f"{adapter}: expected {names[1]} {(*leading, keys)}, got shape {seen.shape}"
            )
        per_head = mask is not None and mask.ndim > len(leading) + 2
        seen = seen.reshape(*leading, *((1, 1) if per_head else (1,)), keys)
        mask = seen if mask is None else np.logical_and(mask, seen)
    return mask


def sizes_of(query, key, batch_first):
    """Return the numbers of sequences (None without a batch axis), of queries and of keys."""
    if query.ndim == 2:
        return None, query.shape[0], key.shape[0]
    tokens = 1 if batch_first else 0
    return query.shape[1 - tokens], query.shape[tokens], key.shape[tokens]


def lengths(n_heads, attn_mask, key_padding_mask):
    """Return how many sequences, queries and keys there are by the masks; or 2, 5 and 5."""
    batch, queries, keys = 2, 5, 5
    if key_padding_mask is not None:
        *leading, keys = np.shape(key_padding_mask)
        batch, queries = (leading[0] if leading else batch), keys
    if attn_mask is not None:
        *leading, queries, keys = np.shape(attn_mask)
        batch = max(leading[0] // n_heads, 1) if leading else batch
    return batch, queries, keys


def _options(source, given):
    found = {}
    if is_live(source):
        found = {"num_heads": source.num_heads, "batch_first": source.batch_first}
        added = {"add_bias_kv": source.bias_k is not None, "add_zero_attn": source.add_zero_attn}
        for name, on in added.items():
            if on:
                raise ValueError(f"{NAME}: expected no keys beside those given, got {name}=True")
    return options_of(NAME, DEFAULTS, found, given)


def _refuse(state, options):
    """Refuse wrong entries; return the widths of queries, keys and values."""
    shapes, optional = shapes_of(state)
    expect(NAME, state, shapes, optional)
    d = state["out_proj.weight"].shape[0]
    if options["num_heads"] < 1 or d % options["num_heads"]:
        raise ValueError(
            f"{NAME}: expected num_heads to divide the {d} features, got {options['num_heads']}"
        )
    if "in_proj_weight" in state:
        return d, d, d
    return d, state["k_proj_weight"].shape[1], state["v_proj_weight"].shape[1]


def _inputs(given, widths):
    """The inputs that are given; one that does not fit, or a value without a key, is refused."""
    inputs = {name: as_float64(NAME, name, x) for name, x in given.items() if x is not None}
    names = ["query", "key", "value"]
    if [*inputs] != names[: len(inputs)]:
        raise ValueError(f"{NAME}: expected query, key and value in this order, got {[*inputs]}")
    for name, d in zip(inputs, widths, strict=False):
        x = inputs[name]
        if x.ndim not in (2, 3) or x.ndim != inputs["query"].ndim or x.shape[-1] != d:
            raise ValueError(
                f"{NAME}: expected {name} (tokens, {d}), or with a batch axis if query has one, "
                f"got shape {x.shape}"
            )
    return inputs


def _drawn(rng, widths, options, masks):
    batch, queries, keys = lengths(options["num_heads"], *masks.values())
    names = ["query", "key", "value"]
    if len({*widths}) == 1 and queries == keys:
        names = names[:1]
    n_tokens = {"query": queries, "key": keys, "value": keys}
    shapes = {name: (batch, n_tokens[name], d) for name, d in zip(names, widths, strict=False)}
    inputs = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return {name: _batch_first(x, options) for name, x in inputs.items()}


def _mask(inputs, options, attn_mask, key_padding_mask):
    query = inputs["query"]
    sizes = sizes_of(query, inputs.get("key", query), options["batch_first"])
    return joint_mask(NAME, sizes, options["num_heads"], attn_mask, key_padding_mask)


def _forward(arrays, options, mask):
    """The output, and each head's weights, by our layers."""
    params, n_heads = params_of(arrays), options["num_heads"]
    x = _batch_first(arrays["query"], options)
    context = None
    if "key" in arrays:
        context = keys = _batch_first(arrays["key"], options)
        if "value" in arrays:  # keys and values side by side, each seen by its own rows alone
            values = _batch_first(arrays["value"], options)
            xp = array_namespace(keys, values)
            context = xp.concat([keys, values], axis=-1)
            rows = keys.shape[-1], values.shape[-1]
            no_rows = [np.zeros((n, params["W_k"].shape[1])) for n in rows]
            params["W_k"] = xp.concat([params["W_k"], no_rows[1]], axis=0)
            params["W_v"] = xp.concat([no_rows[0], params["W_v"]], axis=0)
    y = multi_head_attention(x, **params, n_heads=n_heads, context=context, mask=mask)
    c = x if context is None else context
    q = _heads(linear(x, params["W_q"], params.get("b_q")), n_heads)
    k = _heads(linear(c, params["W_k"], params.get("b_k")), n_heads)
    if mask is not None and mask.ndim == 3 and x.ndim == 3:
        mask = mask[:, None, :, :]
    return {"y": _batch_first(y, options), "weights": attention_weights(q, k, mask=mask)}


def _batch_first(x, options):
    """Move the batch axis to where the other side has it, from either."""
    if x.ndim == 2 or options["batch_first"]:
        return x
    return array_namespace(x).moveaxis(x, 0, 1)


def _heads(x, n_heads):
    """(..., tokens, heads · d) → (..., heads, tokens, d)."""
    xp = array_namespace(x)
    return xp.moveaxis(xp.reshape(x, (*x.shape[:-1], n_heads, -1)), -2, -3)


def _call(module, tensors, masks):
    import torch

    query = tensors["query"]
    key = tensors.get("key", query)
    value = tensors.get("value", key)
    masks = {name: None if x is None else torch.as_tensor(x) for name, x in masks.items()}
    y, weights = module(query, key, value, average_attn_weights=False, **masks)
    return {"y": y, "weights": weights}
