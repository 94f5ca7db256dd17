"""`torch.nn.TransformerEncoderLayer`: attention, then the feed-forward layer, with residuals.

Norms stand behind each sum (PyTorch's default), or with `norm_first` before each sub-layer. Masks
and layout are those of `torch_attention`.
"""

from functools import partial

from mgt_np.arrays import array_namespace
from mgt_np.layers import feed_forward, layer_norm, multi_head_attention

from . import torch_attention
from .running import beside_live, beside_recorded, generator, random_copy
from .sources import as_float64, expect, is_live, options_of, size, state_of

NAME = "torch_encoder_layer"
ATTENTION = "self_attn."
MASKS = ("src_mask", "src_key_padding_mask")
ACTIVATIONS = ("relu", "gelu", "silu", "sigmoid")
DEFAULTS = {
    "nhead": None,
    "activation": "relu",
    "layer_norm_eps": 1e-5,
    "batch_first": False,
    "norm_first": False,
}


def parameters(source, **options):
    """Return ("encoder_layer", options, params of both sub-layers and both norms).

    params: "attention" as of `multi_head_attention`, "feed_forward", and "norm1" and "norm2" as of
    `layer_norm`. options: those of PyTorch's layer, for a state_dict.
    """
    options = _options(source, options)
    state = state_of(NAME, source)
    _refuse(state, options)
    ours = {
        "n_heads": options["nhead"],
        "activation": options["activation"],
        "eps": options["layer_norm_eps"],
        "norm_first": options["norm_first"],
    }
    return "encoder_layer", ours, params_of(state)


def reference(source, src, *, src_mask=None, src_key_padding_mask=None, **options):
    """Return the layer's output for src, batch and tokens in the module's order."""
    options = _options(source, options)
    state = state_of(NAME, source)
    src = _src(src, _refuse(state, options))
    mask = _mask(src, options, src_mask, src_key_padding_mask)
    return _forward(state | {"src": src}, options, mask)["y"]


def check(
    source,
    rng=None,
    *,
    src=None,
    src_mask=None,
    src_key_padding_mask=None,
    recorded=None,
    R=None,
    **options,
):
    """Return an `Adapted`: the output y and all gradients.

    A live module is called with random weights in a copy; of a state_dict, `recorded` holds y and
    "grad.src", "grad.linear1.weight", … of Σ R · y. An input that is not given is drawn.
    """
    rng = generator(rng)
    live = is_live(source)
    source = random_copy(NAME, source, rng) if live else source
    options = _options(source, options)
    state = state_of(NAME, source)
    d = _refuse(state, options)
    if src is None:
        batch, n, _ = torch_attention.lengths(options["nhead"], src_mask, src_key_padding_mask)
        src = rng.standard_normal((batch, n, d) if options["batch_first"] else (n, batch, d))
    src = _src(src, d)
    mask = _mask(src, options, src_mask, src_key_padding_mask)
    forward = partial(_forward, options=options, mask=mask)
    if live:
        masks = {"src_mask": src_mask, "src_key_padding_mask": src_key_padding_mask}
        return beside_live(forward, source, partial(_call, masks=masks), {"src": src}, rng)
    return beside_recorded(NAME, forward, state, {"src": src}, recorded, R)


def params_of(w):
    """Return the weights of a state_dict under our names."""
    attention = {
        name.removeprefix(ATTENTION): x for name, x in w.items() if name.startswith(ATTENTION)
    }
    params = {"attention": torch_attention.params_of(attention), "feed_forward": {}}
    for i in "12":
        W = w[f"linear{i}.weight"]
        params["feed_forward"][f"W_{i}"] = array_namespace(W).matrix_transpose(W)
        if f"linear{i}.bias" in w:
            params["feed_forward"][f"b_{i}"] = w[f"linear{i}.bias"]
        params[f"norm{i}"] = {"gain": w[f"norm{i}.weight"], "bias": w.get(f"norm{i}.bias")}
    return params


def _options(source, given):
    found = {}
    if is_live(source):
        eps = {source.norm1.eps, source.norm2.eps}
        if len(eps) > 1:
            raise ValueError(f"{NAME}: expected both norms to have one eps, got {sorted(eps)}")
        found = {
            "nhead": source.self_attn.num_heads,
            "activation": _activation(source.activation),
            "layer_norm_eps": source.norm1.eps,
            "batch_first": source.self_attn.batch_first,
            "norm_first": source.norm_first,
        }
    options = options_of(NAME, DEFAULTS, found, given)
    if options["activation"] not in ACTIVATIONS:
        names = ", ".join(ACTIVATIONS)
        raise ValueError(f"{NAME}: expected activation {names}, got {options['activation']!r}")
    return options


def _activation(function):
    """The name of PyTorch's function or module."""
    if getattr(function, "approximate", "none") != "none":
        return repr(function)
    return getattr(function, "__name__", type(function).__name__).lower()


def _refuse(state, options):
    """Refuse wrong entries; return the number of features."""
    shapes, optional = torch_attention.shapes_of(state, ATTENTION, NAME)
    d_ff, d = size(NAME, state, "linear1.weight", 2, 0), shapes[f"{ATTENTION}out_proj.weight"][0]
    shapes |= {"linear1.weight": (d_ff, d), "linear1.bias": (d_ff,)}
    shapes |= {"linear2.weight": (d, d_ff), "linear2.bias": (d,)}
    shapes |= {f"norm{i}.{name}": (d,) for i in "12" for name in ("weight", "bias")}
    biases = [name for name in shapes if name.endswith("bias")]
    if optional and not any(name in state for name in biases):
        optional = biases  # a layer without any
    expect(NAME, state, shapes, optional)
    if options["nhead"] < 1 or d % options["nhead"]:
        raise ValueError(
            f"{NAME}: expected nhead to divide the {d} features, got {options['nhead']}"
        )
    return d


def _mask(src, options, src_mask, src_key_padding_mask):
    sizes = torch_attention.sizes_of(src, src, options["batch_first"])
    masks = src_mask, src_key_padding_mask
    return torch_attention.joint_mask(NAME, sizes, options["nhead"], *masks, names=MASKS)


def _src(src, d):
    src = as_float64(NAME, "src", src)
    if src.ndim not in (2, 3) or src.shape[-1] != d:
        raise ValueError(
            f"{NAME}: expected src (tokens, {d}) or with a batch axis, got {src.shape}"
        )
    return src


def _forward(arrays, options, mask):
    params = params_of(arrays)
    moved = arrays["src"].ndim == 3 and not options["batch_first"]
    xp = array_namespace(arrays["src"])

    def norm(i, x):
        return layer_norm(x, **params[f"norm{i}"], eps=options["layer_norm_eps"])

    def attend(x):
        return multi_head_attention(x, **params["attention"], n_heads=options["nhead"], mask=mask)

    def map_tokens(x):
        return feed_forward(x, **params["feed_forward"], activation=options["activation"])

    x = xp.moveaxis(arrays["src"], 0, 1) if moved else arrays["src"]
    for i, sublayer in enumerate((attend, map_tokens), start=1):
        x = x + sublayer(norm(i, x)) if options["norm_first"] else norm(i, x + sublayer(x))
    return {"y": xp.moveaxis(x, 0, 1) if moved else x}


def _call(module, tensors, masks):
    import torch

    masks = {name: None if x is None else torch.as_tensor(x) for name, x in masks.items()}
    return {"y": module(tensors["src"], **masks)}
