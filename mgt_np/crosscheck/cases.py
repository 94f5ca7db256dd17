"""Inputs on which mistakes show: for each function those that tell one reading from another.

Weights are random, never those of an initialisation, where a transposed matrix is symmetric and a
gain is 1; the two elements of a batch differ. The numbers of a case are drawn from its id, so that
a new case changes no other.
"""

import functools
import zlib
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Case:
    """One call of a function: id, arrays by name in float64, options, and tags for symptoms."""

    id: str
    function: str
    arrays: dict
    options: dict = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    def run(self, function, *, dtypes=("float64", "float32")):
        """Print and return the report of one function on this case alone."""
        from .compare import compare

        others = {case.id: "another case" for case in cases_of(self.function) if case is not self}
        report = compare({self.function: function}, skip=others, dtypes=dtypes)
        print(report)
        return report


CASES = {}


def cases_of(function):
    """Return the cases of a function, in the order in which they are tried."""
    return [case for case in CASES.values() if case.function == function]


def _add(id, make, *tags, **options):
    function = id.partition("/")[0]
    rng = np.random.default_rng(zlib.crc32(id.encode()))
    CASES[id] = Case(id, function, make(rng), options, tags)


def _normal(rng, *shape, scale=1.0):
    return scale * rng.normal(size=shape)


# ---- softmax and layer norm


def _softmax_cases():
    def scores(*shape, scale=1.0, shift=0.0):
        return lambda rng: {"x": _normal(rng, *shape, scale=scale) + shift}

    def far(rng):
        x = _normal(rng, 2, 3, 5)
        return x + np.array([[800.0], [-800.0], [0.0]])

    _add("softmax/plain", scores(2, 3, 5), "batch")
    _add("softmax/peaky", scores(2, 3, 5, scale=8.0), "peaky")
    _add("softmax/extreme", scores(2, 3, 5, shift=1000.0), "extreme")
    _add("softmax/low", scores(2, 3, 5, shift=-30.0), "low")
    _add("softmax/square", scores(3, 3, 3), "square")
    _add("softmax/apart", lambda rng: {"x": far(rng)}, "extreme")
    _add("softmax/one", scores(2, 3, 1), "one")


def _layer_norm_cases():
    def rows(*shape, scale=1.0, offset=0.0):
        def make(rng):
            d = shape[-1]
            x = _normal(rng, *shape, scale=scale) + offset
            return {"x": x, "gain": 1.5 + _normal(rng, d), "bias": _normal(rng, d)}

        return make

    _add("layer_norm/plain", rows(2, 3, 6), "batch")
    _add("layer_norm/square", rows(3, 3, 3), "square", "odd-width")
    _add("layer_norm/tiny", rows(2, 3, 6, scale=3e-3), "small")
    _add("layer_norm/tinier", rows(2, 3, 6, scale=1e-5), "small")
    _add("layer_norm/offset", rows(2, 3, 6, offset=1e3), "offset")
    _add("layer_norm/wide", rows(2, 2, 33), "odd-width", "wide")


# ---- attention and feed-forward


def _attention_cases():
    def qkv(n, m, d, d_v, scale=1.0, shift=0.0, batch=2):
        return lambda rng: {
            "q": _normal(rng, batch, n, d, scale=scale),
            "k": _normal(rng, batch, m, d, scale=scale) + shift,
            "v": _normal(rng, batch, m, d_v),
        }

    name = "scaled_dot_product_attention/"
    mask = np.array([[1, 0, 1, 1, 0], [1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [1, 0, 0, 1, 1]], bool)
    batch_mask = np.stack([mask, mask[::-1, ::-1]])
    batch_mask[1, 2] = False
    lower = np.array([[1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 1]], bool)
    _add(name + "plain", qkv(4, 5, 3, 2), "batch")
    _add(name + "masked", qkv(4, 5, 3, 2), "mask", mask=mask)
    _add(name + "batch-mask", qkv(4, 5, 3, 2), "mask", "batch-mask", "empty-row", mask=batch_mask)
    _add(name + "causal", qkv(4, 4, 3, 2), "causal", causal=True)
    _add(name + "causal-3x5", qkv(3, 5, 3, 2), "causal", "not-square", causal=True)
    _add(name + "large", qkv(4, 5, 3, 2, scale=4.0), "large-scores")
    _add(name + "square", qkv(3, 3, 3, 3), "square")

    _add(name + "mask-and-causal", qkv(4, 4, 3, 2), "mask", "causal", mask=lower, causal=True)
    _add(name + "scale", qkv(4, 5, 3, 2), "scale", scale=0.3)

    def low(rng):
        q = np.abs(_normal(rng, 2, 4, 3)) + 1.0
        k, v = _normal(rng, 2, 5, 3), _normal(rng, 2, 5, 2)
        return {"q": 200.0 * q, "k": k - 300.0, "v": v}

    _add(name + "all-allowed-low", low, "mask", "low-scores", mask=mask)


def _multi_head_cases():
    def weights(rng, d, d_c):
        made = {"W_q": _normal(rng, d, d), "W_k": _normal(rng, d_c, d)}
        made |= {"W_v": _normal(rng, d_c, d), "W_o": _normal(rng, d, d)}
        made = {name: 0.6 * W for name, W in made.items()}
        return made | {f"b_{name}": _normal(rng, d) for name in "qkvo"}

    def self_attention(rng):
        return {"x": _normal(rng, 2, 5, 8)} | weights(rng, 8, 8)

    def cross(rng, n_keys=6):
        made = {"x": _normal(rng, 2, 4, 8), "context": _normal(rng, 2, n_keys, 8)}
        return made | weights(rng, 8, 8)

    name = "multi_head_attention/"
    mask = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 0, 1], [1, 0, 1, 1, 0]] + [[1, 1, 0, 0, 1]] * 2)
    _add(name + "plain", self_attention, "batch", n_heads=4)
    _add(name + "masked", self_attention, "mask", n_heads=4, mask=mask.astype(bool))
    _add(name + "cross", cross, "context", n_heads=2)
    _add(name + "causal", self_attention, "causal", n_heads=4, causal=True)
    _add(name + "cross-as-long", lambda rng: cross(rng, 4), "context", n_heads=2)
    _add(name + "cross-causal", cross, "context", "causal", n_heads=2, causal=True)
    batch = np.stack([mask, mask[::-1, ::-1]]).astype(bool)
    batch[1, 2] = False
    _add(
        name + "batch-mask",
        self_attention,
        "mask",
        "batch-mask",
        "empty-row",
        n_heads=2,
        mask=batch,
    )
    _add(name + "mask-and-causal", self_attention, "mask", n_heads=2, mask=batch[0], causal=True)


def _feed_forward_cases():
    def layers(rng, d=4, d_ff=6):
        made = {"x": _normal(rng, 2, 3, d), "W_1": _normal(rng, d, d_ff)}
        made |= {"W_2": _normal(rng, d_ff, d)}
        return made | {"b_1": _normal(rng, d_ff), "b_2": _normal(rng, d)}

    def tail(rng):
        # up to 1, since ½x(1 + erf) loses the digits of what is small, and is right to call
        made = {"x": rng.uniform(-4.0, 1.0, (2, 3, 4)), "W_1": np.eye(4), "W_2": np.eye(4)}
        return made | {"b_1": np.full(4, 0.01), "b_2": np.zeros(4)}

    _add("feed_forward/plain", layers, "batch")
    _add("feed_forward/tail", tail, "tail")
    _add("feed_forward/square", lambda rng: layers(rng, 4, 4), "square")


# ---- the Delta Operator and Deep Delta Learning


def _delta_cases():
    for size in ("plain", 1e-3, 1e-5, 1e-7, 1e-9, 1e-12):
        scale = 1.0 if size == "plain" else size

        def direction(rng, scale=scale):
            k = _normal(rng, 2, 3, 5)
            length = scale * rng.uniform(0.4, 2.7, (2, 3, 1))
            return {"k": length * k / np.linalg.norm(k, axis=-1, keepdims=True)}

        _add(f"unit_direction/{size}", direction, *([] if size == "plain" else ["small"]))
    _add("unit_direction/one", lambda rng: {"k": _normal(rng, 2, 3, 1, scale=3e-5)}, "one")

    def update(d, d_v, length=1.0):
        def make(rng):
            k = _normal(rng, 2, 3, d)
            k = length * k / np.linalg.norm(k, axis=-1, keepdims=True)
            made = {"X": _normal(rng, 2, 3, d, d_v), "k": k, "v": _normal(rng, 2, 3, d_v)}
            return made | {"beta": rng.uniform(0.3, 1.8, (2, 3))}

        return make

    _add("delta_update/plain", update(5, 3), "batch")
    _add("delta_update/square", update(4, 4), "square")
    _add("delta_update/not-unit", update(4, 2, 1.6), "not-unit")

    def residual(size, v_input=False):
        def make(rng, d=6):
            k, length = _normal(rng, 2, 4, d), size * rng.uniform(0.4, 2.7, (2, 4, 1))
            k = length * k / np.linalg.norm(k, axis=-1, keepdims=True)
            made = {"x": _normal(rng, 2, 4, d), "k": k, "context": _normal(rng, 2, 4, d)}
            made |= {"W_v": _normal(rng, d, 1), "W_beta": 0.4 * _normal(rng, d, 1)}
            made |= {"v_input": _normal(rng, 2, 4, d)} if v_input else {}
            return made | {"b_v": _normal(rng, 1), "b_beta": 0.5 + 0.2 * _normal(rng, 1)}

        return make

    _add("deep_delta_residual/plain", residual(2.3), "batch")
    _add("deep_delta_residual/small-k", residual(2e-5), "small")
    _add("deep_delta_residual/v-input", residual(1.3, True), "v-input")
    for size in (1e-3, 1e-7, 1e-9, 1e-12):
        _add(f"deep_delta_residual/k-{size:g}", residual(size), "small")


# ---- Sinkhorn, mHC and hyper-connections


def _sinkhorn_cases():
    def logits(scale=1.0, shift=0.0, n=4):
        return lambda rng: {"logits": _normal(rng, 2, 3, n, n, scale=scale) + shift}

    _add("sinkhorn/plain", logits(), "batch", "converged")
    _add("sinkhorn/3-iterations", logits(1.5), "few-iterations", n_iters=3)
    _add("sinkhorn/1-iteration", logits(1.5), "few-iterations", n_iters=1)
    _add("sinkhorn/stiff", logits(4.0), "stiff")
    for size, shift in (("1e-6", -15.0), ("1e-9", -22.0), ("1e-13", -31.0)):
        _add(f"sinkhorn/sums-{size}", logits(1.0, shift), "small-sums", n_iters=2)


def _update_cases():
    def streams(n, d):
        return lambda rng: {
            "X": _normal(rng, 2, 3, n, d),
            "y": _normal(rng, 2, 3, d),
            "H_post": rng.uniform(0.2, 1.8, (2, 3, n)),
            "H_res": rng.uniform(0.0, 1.0, (2, 3, n, n)),
        }

    _add("mhc_update/plain", streams(4, 5), "batch")
    _add("mhc_update/n-is-d", streams(4, 4), "square")
    _add("mhc_update/one-stream", streams(1, 5), "one")


def _mhc_arrays(rng, n=3, d=4, scale=1.0):
    made = {"X": scale * _normal(rng, 2, 3, n, d), "gain": 1.4 + 0.5 * _normal(rng, n * d)}
    for part, width in (("pre", n), ("post", n), ("res", n * n)):
        made[f"phi_{part}"] = _normal(rng, n * d, width, scale=0.5)
        made[f"b_{part}"] = _normal(rng, width)
        made[f"alpha_{part}"] = np.asarray(rng.uniform(0.4, 0.9))
    made["b_res"] = made["b_res"].reshape(n, n)
    return made


def _mhc_cases():
    name = "mhc_coefficients/"
    _add(name + "plain", _mhc_arrays, "batch")
    _add(name + "3-iterations", _mhc_arrays, "few-iterations", n_iters=3)
    _add(name + "1-iteration", _mhc_arrays, "few-iterations", n_iters=1)
    _add(name + "small-X", lambda rng: _mhc_arrays(rng, scale=1e-2), "small")
    _add(name + "square", lambda rng: _mhc_arrays(rng, n=3, d=3), "square", n_iters=3)
    _add(name + "one-stream", lambda rng: _mhc_arrays(rng, n=1), "one")
    _add("mhc_connection/plain", _mhc_arrays, "batch", n_iters=3)
    _add("mhc_connection/converged", _mhc_arrays, "converged")
    _add("mhc_connection/small-X", lambda rng: _mhc_arrays(rng, scale=1e-2), "small", n_iters=3)

    def hc(rng, n=3, d=4, scale=1.0):
        made = {"X": scale * _normal(rng, 2, 3, n, d), "A_m": _normal(rng, n), "B": _normal(rng, n)}
        made |= {"A_r": _normal(rng, n, n), "W_m": _normal(rng, d, 1), "W_beta": _normal(rng, d, 1)}
        made |= {"W_r": _normal(rng, d, n), "s_alpha": np.asarray(0.7), "s_beta": np.asarray(0.4)}
        return made | {"gain": 1.3 + 0.4 * _normal(rng, d), "bias": _normal(rng, d)}

    _add("hyper_connection/plain", hc, "batch")
    _add("hyper_connection/square", lambda rng: hc(rng, 4, 4), "square")
    _add("hyper_connection/tiny", lambda rng: hc(rng, scale=3e-3), "small")


# ---- MGT, and the effective rank


def _mgt_cases():
    def gate(rng, d=5, scale=1.0):
        made = {"x": scale * _normal(rng, 2, 3, d), "W_gate": _normal(rng, d, d)}
        return made | {"gain": 1.3 + 0.5 * _normal(rng, d), "bias": _normal(rng, d)}

    def beta(rng, width=1, d=5):
        made = {"x": _normal(rng, 2, 3, d), "W_beta": 0.5 * _normal(rng, d, width)}
        return made | {"b_beta": 0.3 * _normal(rng, width)}

    def update(rng, width=1, d=5):
        made = {"x": _normal(rng, 2, 3, d), "v": _normal(rng, 2, 3, d)}
        return made | {"beta": _normal(rng, 2, 3, width), "alpha": np.asarray(0.35)}

    def residual(rng, width=1, d=5, scale=1.0):
        made = gate(rng, d, scale) | beta(rng, width, d) | {"alpha": np.asarray(0.35)}
        return made | {"x": scale * _normal(rng, 2, 3, d), "v_raw": _normal(rng, 2, 3, d)}

    _add("tangent_gate/plain", gate, "batch")
    _add("tangent_gate/tiny", lambda rng: gate(rng, scale=3e-3), "small")
    _add("tangent_gate/tinier", lambda rng: gate(rng, scale=1e-4), "small")
    _add("mgt_beta/token", beta, "batch", lam=0.8, eps=0.13)
    _add("mgt_beta/channel", lambda rng: beta(rng, 5), "channel", "square", lam=1.4, eps=0.13)
    _add("geometric_update/token", update, "batch")
    _add("geometric_update/channel", lambda rng: update(rng, 5), "channel")
    _add("mgt_residual/token", residual, "batch", lam=0.8, eps=0.13)
    _add("mgt_residual/channel", lambda rng: residual(rng, 5), "channel", lam=1.4, eps=0.13)
    for name, size in (("tiny", 3e-3), ("tinier", 1e-4)):
        make = functools.partial(residual, scale=size)
        _add(f"mgt_residual/{name}", make, "small", lam=0.8, eps=0.13)


def _rank_cases():
    def tokens(offset=0.0, scale=1.0):
        return lambda rng: {"X": scale * _normal(rng, 2, 6, 4) + offset}

    def rank_two(rng):
        return {"X": _normal(rng, 2, 6, 2) @ _normal(rng, 2, 2, 4)}

    _add("effective_rank/plain", tokens(), "batch")
    _add("effective_rank/offset", tokens(offset=3.0), "offset")
    _add("effective_rank/scaled", tokens(scale=40.0), "scaled")
    _add("effective_rank/rank-2", rank_two, "low-rank")


for _cases in (
    _softmax_cases,
    _layer_norm_cases,
    _attention_cases,
    _multi_head_cases,
    _feed_forward_cases,
    _delta_cases,
    _sinkhorn_cases,
    _update_cases,
    _mhc_cases,
    _mgt_cases,
    _rank_cases,
):
    _cases()
