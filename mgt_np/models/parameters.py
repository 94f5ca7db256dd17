"""The parameters of a decoder: how they are drawn, and whether they are those of a config."""

import dataclasses

from mgt_np.arrays import layer
from mgt_np.arrays.initial import ZeroGenerator, normal
from mgt_np.layers import init_feed_forward, init_multi_head_attention

from .config import TransformerConfig
from .rules import RESIDUAL_RULES


@layer
def init_transformer(rng: "generator", config: TransformerConfig):
    """Return the parameters of `transformer` as nested dicts and lists of NumPy arrays.

    Weights from N(0, σ²) with σ the config's scales, biases zero. Every part draws from a child of
    `rng` of its own, so that one seed gives every residual rule the same embeddings and sub-layers.
    """
    return _drawn(rng, config)


def _drawn(rng, config):
    rule, d = RESIDUAL_RULES[config.residual], config.d_model
    options = {"scale": config.embedding_scale, "dtype": config.dtype}
    rng_tokens, rng_positions, rng_output, *rng_blocks, rng_read = rng.spawn(4 + config.n_layers)
    params = {
        "tokens": normal(rng_tokens, (config.vocab_size, d), **options),
        "positions": normal(rng_positions, (config.max_tokens, d), **options),
        "blocks": [_block(child, 2 * i, config, rule) for i, child in enumerate(rng_blocks)],
        "W_out": normal(rng_output, (d, config.vocab_size), config.weight_scale, config.dtype),
    }
    if read_out := rule.init_read(rng_read, config):
        params["read_out"] = read_out
    if rule.final_norm:
        init_norm, _ = rule.last_norm(config)
        params["final_norm"] = init_norm(d, dtype=config.dtype)
    return params


def _block(rng, index, config, rule):
    """The two sub-layers numbered `index` and `index + 1`, and how the rule connects them."""
    options = {"scale": config.weight_scale, "dtype": config.dtype}
    rng_attention, rng_hidden, *rng_rule, rng_shared = rng.spawn(5)
    attention = init_multi_head_attention(rng_attention, config.d_model, **options)
    hidden = init_feed_forward(rng_hidden, config.d_model, config.d_ff, **options)
    for name, gain in rule.gains(config).items():
        (attention if name in attention else hidden)[name] *= gain
    residual = [
        rule.init(child, config, index + i) | rule.init_inner(width, config)
        for i, (child, width) in enumerate(
            zip(rng_rule, (config.d_model, config.d_ff), strict=True)
        )
    ]
    block = {
        "attention": attention,
        "feed_forward": hidden,
        "attention_residual": residual[0],
        "feed_forward_residual": residual[1],
    }
    shared = rule.init_block(rng_shared, config)
    return block | {"residual": shared} if shared else block


# ---- whether parameters are those of a config


def check_config(function, config):
    """Raise TypeError for what is no `TransformerConfig`."""
    if not isinstance(config, TransformerConfig):
        raise TypeError(
            f"{function}: expected config to be a TransformerConfig, got {type(config).__name__}"
        )


def check_params(function, params, config):
    """Raise unless the parameters have the keys, the depth and the shapes of the config.

    What the layers take as optional may be left out: biases, gains of norms, and the gain of mHC's
    norm, which `init_transformer` leaves out. A parameter of shape () may have (1,). Raises
    TypeError for what is no dict, list or array where one belongs, or for another config,
    ValueError for the rest; both name the place. It runs in every call, in some 0.1 µs an array.
    """
    check_config(function, config)
    if config not in _SHAPES:
        _SHAPES[config] = _shapes(config)
    _compare(params, _SHAPES[config], ("params",), (function, config.residual))


_ZEROS = ZeroGenerator()
_SHAPES = {}  # config: the tree of the shapes of its parameters
_OPTIONAL = {"gain", "bias", "b_q", "b_k", "b_v", "b_o", "b_1", "b_2"}


def _shapes(config):
    """The shapes of what `init_transformer` gives. One block is drawn: all are alike."""
    small = dataclasses.replace(config, n_layers=1, vocab_size=1, max_tokens=1)
    params = _tree_of_shapes(_drawn(_ZEROS, small))
    return params | {
        "tokens": (config.vocab_size, config.d_model),
        "positions": (config.max_tokens, config.d_model),
        "blocks": [_Block(params["blocks"][0])] * config.n_layers,
        "W_out": (config.d_model, config.vocab_size),
    }


def _tree_of_shapes(tree):
    if isinstance(tree, list):
        return [_tree_of_shapes(child) for child in tree]
    if not isinstance(tree, dict):
        return tuple(tree.shape)
    shapes = {name: _tree_of_shapes(child) for name, child in tree.items()}
    if "phi_pre" in shapes:
        shapes["gain"] = shapes["phi_pre"][:1]
    return shapes


class _Block(dict):
    """The shapes of a block's parameters, and a function that says whether others have them.

    It is compiled, one comparison an array: a walk through 200 sub-layers took 3 % of a small
    model's forward pass.
    """

    def __init__(self, shapes):
        super().__init__(shapes)
        self.are_those_of = eval(f"lambda t: {' and '.join(_comparisons(shapes, 't'))}")

    def fits(self, got):
        try:
            return self.are_those_of(got)
        except (AttributeError, KeyError, TypeError):  # no dict, not that key, no array
            return False


def _comparisons(shapes, tree):
    """Expressions that are true of `tree`, a name, if it has these keys and shapes."""
    yield f"len({tree}) == {len(shapes)}"
    for i, (key, shape) in enumerate(shapes.items()):
        if type(shape) is tuple:
            yield f"{tree}[{key!r}].shape == {shape}"
        else:
            yield f"({tree}_{i} := {tree}[{key!r}]) is not None"
            yield from _comparisons(shape, f"{tree}_{i}")


def _compare(got, expected, path, where):
    """Hold a dict or list to its shapes; `path` is its place, key by key, `where` is for errors."""
    kind = dict if isinstance(expected, dict) else list
    if not isinstance(got, kind):
        got = _container(got, kind, path, where)
    if kind is dict:
        if got.keys() != expected.keys():
            _check_keys(got, expected, path, where)
        children = got.items()
    else:
        if len(got) != len(expected):
            raise ValueError(
                f"{where[0]}: expected {_place(path)} to have n_layers = {len(expected)} blocks, "
                f"got {len(got)}"
            )
        children = enumerate(got)
    for key, child in children:
        wanted = expected[key]
        if type(wanted) is _Block and wanted.fits(child):
            continue
        if type(wanted) is not tuple:
            _compare(child, wanted, (*path, key), where)
        elif getattr(child, "shape", None) != wanted:
            _check_leaf(child, wanted, (*path, key), where)


def _container(got, kind, path, where):
    """The dict or list (or tuple) that autograd's own tracer has boxed as a whole."""
    value = getattr(got, "_value", got)
    if not isinstance(value, dict if kind is dict else (list, tuple)):
        raise TypeError(
            f"{where[0]}: expected {_place(path)} to be a {kind.__name__}, got {_described(got)}"
        )
    return value


def _check_keys(got, expected, path, where):
    missing = [name for name in expected if name not in got and name not in _OPTIONAL]
    unknown = [name for name in got if name not in expected]
    if missing or unknown:
        function, residual = where
        found = ", ".join(
            [f"{name!r} missing" for name in missing] + [f"{name!r} unknown" for name in unknown]
        )
        keys = ", ".join(map(repr, expected))
        raise ValueError(
            f"{function}: expected {_place(path)} with the keys {keys} (residual={residual!r}), "
            f"got {found}"
        )


def _check_leaf(got, expected, path, where):
    shape = getattr(got, "shape", None)
    if shape == (1,) and expected == ():
        return
    if not isinstance(shape, tuple):
        raise TypeError(
            f"{where[0]}: expected {_place(path)} to be an array of shape {expected}, "
            f"got {_described(got)}"
        )
    raise ValueError(f"{where[0]}: expected {_place(path)} of shape {expected}, got {tuple(shape)}")


def _place(path):
    """("params", "blocks", 1) as one writes it: params['blocks'][1]."""
    return path[0] + "".join(f"[{key!r}]" for key in path[1:])


def _described(value):
    """A short value as it is written, else its type."""
    text = repr(value)
    return text if len(text) <= 40 else type(value).__name__
