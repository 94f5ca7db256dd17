"""Rows of the contract tests for streams, hyper-connections, mHC, Sinkhorn and gains."""

import dataclasses
from functools import partial

import numpy as np
from cases import Case

from mgt_np import analysis, layers
from mgt_np.arrays import array_namespace

_RNG = np.random.default_rng(5)


def normal(*shape):
    return _RNG.standard_normal(shape)


def packed(results):
    """Several results as one array, which a case has."""
    xp = array_namespace(*results)
    return xp.concat([xp.reshape(x, (-1,)) for x in results])


N, D = 3, 4
X, Y = normal(2, 2, N, D), normal(2, 2, D)

PHI = ("phi_pre", "phi_post", "phi_res")
ALPHA = ("alpha_pre", "alpha_post", "alpha_res")
B = ("b_pre", "b_post", "b_res")


def of_convention(name, shapes, *, n_iters=None, row=None, **further):
    """A case of `mhc_coefficients` with random parameters; φ of these shapes, or none."""
    row = name.split()[0] if row is None else row
    mixtures = {"mhc-lite": (6,), "circulant": (N,)}.get(name.split()[0], (N, N))
    arrays = {"b_pre": normal(N), "b_post": normal(N), "b_res": normal(*mixtures)}
    if shapes is not None:
        arrays |= {phi: normal(*shape) for phi, shape in zip(PHI, shapes, strict=True)}
        arrays |= {alpha: np.asarray(0.5 + 0.2 * i) for i, alpha in enumerate(ALPHA)}
        arrays |= further
    names = tuple(arrays)

    def function(*arrays):
        values, X = (arrays[:-1], arrays[-1]) if shapes is None else (arrays[1:], arrays[0])
        params = dict(zip(names, values, strict=True))
        return packed(layers.mhc_coefficients(X, params, convention=row, n_iters=n_iters))

    name = f"mhc_coefficients {name}"
    if shapes is None:  # depends on the shape of X alone
        return Case(name, function, tuple(arrays.values()), (X,))
    return Case(name, function, (X, *arrays.values()))


FLAT = ((N * D, N), (N * D, N), (N * D, N * N))
SHARED, OWN = ((D, 1), (D, 1), (D, N)), ((D, N), (D, N), (D, N * N))
TEPID = dataclasses.replace(layers.MHC_CONVENTIONS["tokenbender"], temperature=0.5)
HC = {
    "A_m": normal(N),
    "B": normal(N),
    "A_r": normal(N, N),
    "W_m": normal(D, 1),
    "W_beta": normal(D, 1),
    "W_r": normal(D, N),
    "s_alpha": np.asarray(0.4),
    "s_beta": np.asarray(0.6),
    "gain": normal(D),
    "bias": normal(D),
}
PAPER = {name: normal(*shape) for name, shape in zip(PHI, FLAT, strict=True)}
PAPER |= {"b_pre": normal(N), "b_post": normal(N), "b_res": normal(N, N)}
PAPER |= dict.fromkeys(ALPHA, np.asarray(0.6))
PRE = ("phi_pre", "b_pre", "alpha_pre")
BRANCH = normal(D, D)


def connection(names, **options):
    def function(X, W, *arrays):
        params = dict(zip(names, arrays, strict=True))
        return layers.hyper_connection(X, lambda x: layers.linear(x, W), params, **options)

    return function


def of_hc(function, name, *inputs, names=tuple(HC), **options):
    return Case(name, function(names, **options), (*inputs, *(HC[key] for key in names)))


def hc_coefficients(names, **options):
    def function(X, *arrays):
        params = dict(zip(names, arrays, strict=True))
        return packed(layers.hyper_connection_coefficients(X, params, **options))

    return function


def static_coefficients(A_m, B, A_r, X):
    return hc_coefficients(STATIC, dynamic=False)(X, A_m, B, A_r)


STATIC = ("A_m", "B", "A_r")
BARE = tuple(name for name in HC if name not in ("gain", "bias"))
RMS = tuple(name for name in HC if name != "bias")
SINKHORN = {
    "": {},
    "rows_columns": {"order": "rows_columns", "n_iters": 3},
    "softmax": {"start": "softmax", "n_iters": 2},
    "softmax first": {"order": "rows_columns", "start": "softmax", "n_iters": 2},
    "softmax eps": {"order": "rows_columns", "start": "softmax", "eps": 1e-2, "n_iters": 3},
    "softmax eps columns": {"start": "softmax", "eps": 1e-2, "n_iters": 3},
    "eps": {"order": "rows_columns", "eps": 1e-2, "n_iters": 3},
    "clamp": {"eps": 0.6, "eps_form": "clamp", "shift": "columns", "n_iters": 2},
    "shift": {"shift": "rows", "n_iters": 2},
    "tepid": {"temperature": 0.7, "n_iters": 5},
    "once": {"n_iters": 1},
    "never": {"n_iters": 0},
    "never softmax": {"n_iters": 0, "start": "softmax", "eps": 1e-2},
    "implicit": {"gradient": "implicit", "n_iters": 60},
    "implicit rows_columns": {"gradient": "implicit", "order": "rows_columns", "n_iters": 60},
}

LAYER_CASES = (
    *(
        Case(f"sinkhorn {name}".strip(), partial(layers.sinkhorn, **options), (normal(2, 3, 3),))
        for name, options in SINKHORN.items()
    ),
    Case("birkhoff", layers.birkhoff, (normal(2, 6),)),
    Case("expand_streams", partial(layers.expand_streams, n=N), (Y,)),
    Case("reduce_streams", layers.reduce_streams, (X,)),
    Case("reduce_streams mean", partial(layers.reduce_streams, reduction="mean"), (X,)),
    Case("mhc_read", layers.mhc_read, (X, normal(2, 2, N))),
    Case("mhc_read static", layers.mhc_read, (X, normal(N))),
    Case("mhc_update", layers.mhc_update, (X, Y, normal(2, 2, N), normal(2, 2, N, N))),
    Case("mhc_update static", layers.mhc_update, (X, Y, normal(N), normal(N, N))),
    of_convention("paper", FLAT, n_iters=4),
    of_convention("paper gain", FLAT, gain=normal(N * D)),
    Case(
        "mhc_connection",
        lambda X, W, *arrays: layers.mhc_connection(
            X, lambda x: layers.linear(x, W), dict(zip(PAPER, arrays, strict=True))
        ),
        (X, BRANCH, *PAPER.values()),
    ),
    Case(
        "mhc_read_coefficients",
        lambda X, *arrays: layers.mhc_read_coefficients(X, dict(zip(PRE, arrays, strict=True))),
        (X, *(PAPER[name] for name in PRE)),
    ),
    of_convention("static", None),
    of_convention("deepseek-v4", FLAT, n_iters=4, gain=normal(N * D)),
    of_convention("lucidrains", SHARED, n_iters=3, gain=normal(D)),
    of_convention("lucidrains own", OWN, n_iters=3),
    of_convention("tokenbender", None, row=TEPID),
    of_convention("marco", FLAT, n_iters=4),
    of_convention("edelta", FLAT, n_iters=2),
    of_convention("mhc-lite", ((N * D, N), (N * D, N), (N * D, 6)), gain=normal(N * D)),
    of_convention("circulant", ((N * D, N), (N * D, N), (N * D, N))),
    of_hc(connection, "hyper_connection", X, BRANCH),
    of_hc(connection, "hyper_connection static", X, BRANCH, names=STATIC, dynamic=False),
    of_hc(hc_coefficients, "hyper_connection_coefficients", X),
    of_hc(hc_coefficients, "hyper_connection_coefficients bare", X, names=BARE),
    Case(
        "hyper_connection_coefficients static",
        static_coefficients,
        tuple(HC[name] for name in STATIC),
        (X,),
    ),
    of_hc(
        hc_coefficients, "hyper_connection_coefficients rms", X, names=RMS, norm="rms", tanh=False
    ),
)

MIXING = normal(4, 2, 3, 3)
MEASURE_CASES = (
    Case("amax_gain", lambda H: packed(analysis.amax_gain(H)), (MIXING,)),
    Case("amin_gain", lambda H: packed(analysis.amin_gain(H)), (MIXING,)),
    Case("composite_mixing", analysis.composite_mixing, (MIXING,)),
    Case(
        "composite_mixing backward",
        partial(analysis.composite_mixing, backward=True),
        (MIXING,),
    ),
)
NOT_OF_STATES = ("amax_gain", "amin_gain", "composite_mixing")

FUSED = ("sinkhorn", "mhc_coefficients", "mhc_read", "mhc_update")


def parameters(rng):
    """They are passed as one dict, not by their names."""
    of_hc = {"params": layers.init_hyper_connection(rng, N, D)}
    of_mhc = {"params": layers.init_mhc_coefficients(rng, N, D)}
    return {
        "hyper_connection": (of_hc, ["X", "sublayer"]),
        "mhc_coefficients": (of_mhc, ["X"]),
    }
