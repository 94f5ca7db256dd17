"""Every rule of differentiation at work: one table, read by the tests of the rules.

A case is a function of arrays, given the differentiable namespace of their library, whatever that
library is. `CASES` are smooth where they are drawn; what happens at kinks is tested by hand.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from gradcheck import weighted

from mgt_np import grad, value_and_grad
from mgt_np.arrays import array_namespace, device, to_host
from mgt_np.arrays.namespace import library_of


@dataclass(frozen=True)
class Case:
    rule: str
    note: str
    function: Callable
    draws: tuple
    symmetric: bool = False  # a function of symmetric matrices
    standard: bool = True  # False: NumPy takes it, the standard does not promise it

    def __str__(self):
        return f"{self.rule} {self.note}".strip().replace(" ", "-")

    def __call__(self, *arrays):
        return self.function(library_of(arrays[0]).traced_xp, *arrays)

    def arrays(self):
        """The NumPy arrays to call it with, the same in every run."""
        rng = np.random.default_rng(zlib.crc32(str(self).encode()))
        return [draw(rng) for draw in self.draws]


def normal(*shape):
    return lambda rng: rng.standard_normal(shape)


def positive(*shape):
    return lambda rng: rng.uniform(0.5, 2.0, shape)


def spaced(*shape, start=0.0):
    """Multiples of 0.3, shuffled, shifted: no two alike, none near 0."""

    def draw(rng):
        n = int(np.prod(shape))
        return 0.3 * (rng.permutation(n).reshape(shape) - n // 2) + 0.1 + start

    return draw


def fixed(*values):
    return lambda rng: np.array(values)


def symmetric(*shape):
    """Symmetric matrices with eigenvalues about one apart."""

    def draw(rng):
        Q = np.linalg.qr(rng.standard_normal(shape))[0]
        values = np.arange(shape[-1]) + rng.uniform(-0.2, 0.2, shape[:-1]) - 0.7
        return Q * values[..., None, :] @ np.swapaxes(Q, -1, -2)

    return draw


def rectangular(*shape):
    """Matrices with singular values about one apart."""

    def draw(rng):
        U, _, Vt = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
        s = np.arange(1, U.shape[-1] + 1) + rng.uniform(-0.2, 0.2, U.shape[:-2] + U.shape[-1:])
        return U * s[..., None, :] @ Vt

    return draw


def invertible(*shape):
    return lambda rng: 3.0 * np.eye(shape[-1]) + 0.5 * rng.standard_normal(shape)


def like(x, values):
    """A constant array (of indices, of truth values, of numbers) on the device of x."""
    xp = library_of(x).xp
    values = np.asarray(values)
    dtype = {"b": xp.bool, "i": xp.int64, "f": x.dtype}[values.dtype.kind]
    return xp.asarray(values.tolist(), dtype=dtype, device=device(x))


CASES = []


def case(rule, note, function, *draws, symmetric=False, standard=True):
    CASES.append(Case(rule, note, function, draws, symmetric, standard))


# ---- elementwise, one argument

for name in ["cos", "cosh", "exp", "expm1", "negative", "sin", "sinh", "square", "tanh"]:
    case(name, "", lambda xp, x, name=name: getattr(xp, name)(x), normal(2, 3))
for name in ["log", "log1p", "reciprocal", "sqrt"]:
    case(name, "", lambda xp, x, name=name: getattr(xp, name)(x), positive(2, 3))
case("tan", "", lambda xp, x: xp.tan(x), lambda rng: rng.uniform(-1.2, 1.2, (2, 3)))
for name in ("abs", "sign"):
    case(name, "", lambda xp, x, name=name: getattr(xp, name)(x), spaced(2, 3))
case("exp", "0-d", lambda xp, x: xp.exp(x), normal())
case("tanh", "no elements", lambda xp, x: xp.concat([xp.tanh(x), x]), normal(0))


# ---- elementwise, two arguments

BINARY_DRAWS = {
    "add": normal,
    "subtract": normal,
    "multiply": normal,
    "divide": positive,
    "pow": positive,
    "logaddexp": normal,
    "maximum": spaced,
    "minimum": spaced,
}
SHAPES = (
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (4, 1, 3)),
    ((), (2, 2)),
    ((1, 3), (2, 1)),
    ((1,), ()),
)
for name, draw in BINARY_DRAWS.items():
    function = lambda xp, x, y, name=name: getattr(xp, name)(x, y)  # noqa: E731
    for first, second in SHAPES:
        more = {"start": 0.15} if draw is spaced else {}
        case(name, f"{first} {second}", function, draw(*first), draw(*second, **more))
    case(name, "number left", lambda xp, y, f=function: f(xp, 0.25, y), draw(2, 3))
    case(name, "number right", lambda xp, x, f=function: f(xp, x, 0.25), draw(2, 3))
    case(name, "the same twice", lambda xp, x, f=function: xp.add(x, f(xp, x, x)), draw(2, 3))
case("pow", "integer", lambda xp, x: xp.pow(x, 3), normal(2, 3))
case("pow", "to the 0", lambda xp, x: xp.add(x, xp.pow(x, 0)), normal(2, 3))
case("pow", "exponent 0", lambda xp, x, y: xp.pow(x, y), positive(3), fixed(0.0, 1.0, -1.0))
case("pow", "of 0", lambda xp, y: xp.add(y, xp.pow(0.0, y)), positive(3))

case(
    "where",
    "",
    lambda xp, x, y: xp.where(like(x, [True, False, True]), x, y),
    normal(2, 3),
    normal(2, 3),
)
case(
    "where",
    "broadcast",
    lambda xp, x, y: xp.where(like(x, [[True], [False]]), x, y),
    normal(3),
    normal(2, 1),
)
case("where", "0-d", lambda xp, x, y: xp.where(like(x, [True, False]), x, y), normal(), normal(1))
case(
    "where",
    "number left",
    lambda xp, y: xp.where(like(y, [True, False, True]), 2.0, y),
    normal(2, 3),
)
case(
    "where",
    "number right",
    lambda xp, x: xp.where(like(x, [True, False, True]), x, 2.0),
    normal(2, 3),
)

case("clip", "both", lambda xp, x: xp.clip(x, -0.4, 0.3), spaced(3, 4))
case("clip", "low", lambda xp, x: xp.clip(x, -0.4), spaced(3, 4))
case("clip", "high", lambda xp, x: xp.clip(x, max=0.3), spaced(3, 4))
case("clip", "neither", lambda xp, x: xp.clip(x), spaced(3, 4))
case(
    "clip",
    "array bounds",
    lambda xp, x, a, b: xp.clip(x, xp.subtract(a, 0.6), xp.add(b, 0.6)),
    spaced(3, 4),
    spaced(4, start=0.15),
    spaced(3, 1, start=0.07),
)
case("clip", "array low", lambda xp, x, a: xp.clip(x, min=a), spaced(3, 4), spaced(4, start=0.15))
case("clip", "array high", lambda xp, x, b: xp.clip(x, max=b), spaced(3, 4), spaced(4, start=0.15))
case(
    "clip",
    "crossed bounds",
    lambda xp, x, a, b: xp.clip(x, xp.add(a, 5.0), b),
    spaced(3, 4),
    spaced(4, start=0.15),
    spaced(4, start=0.07),
    standard=False,
)


# ---- reductions

AXES = (None, 0, -1, (0, 2), (-1, 1), ())
for name in ("sum", "mean", "var", "std", "max", "min", "prod"):
    draw = spaced if name in ("max", "min") else positive if name == "prod" else normal
    for axis in AXES[:-1] if name in ("var", "std") else AXES:
        for keepdims in (False, True):
            case(
                name,
                f"axis {axis} keepdims {keepdims}",
                lambda xp, x, name=name, axis=axis, keepdims=keepdims: getattr(xp, name)(
                    x, axis=axis, keepdims=keepdims
                ),
                draw(2, 3, 2),
            )
    case(name, "defaults", lambda xp, x, name=name: getattr(xp, name)(x), draw(5))
for name in ("sum", "mean", "var", "max", "prod"):
    case(name, "0-d", lambda xp, x, name=name: xp.add(getattr(xp, name)(x), x), normal())
for name in ("var", "std"):
    case(
        name,
        "correction",
        lambda xp, x, name=name: getattr(xp, name)(x, axis=1, correction=1),
        normal(2, 4),
    )
    case(
        name,
        "fractional correction",
        lambda xp, x, name=name: getattr(xp, name)(x, correction=1.5),
        normal(2, 4),
    )
case("prod", "one zero", lambda xp, x: xp.prod(x), fixed(2.0, 0.0, 3.0))
case("prod", "two zeros", lambda xp, x: xp.prod(xp.add(x, 0.0), axis=0), fixed(2.0, 0.0, 0.0))
case("prod", "one factor", lambda xp, x: xp.prod(x, axis=0), normal(1, 3))
case(
    "prod",
    "no factor",
    lambda xp, x: xp.concat([xp.prod(x, axis=1), xp.reshape(x, (-1,))]),
    normal(2, 0),
)
case("cumulative_sum", "", lambda xp, x: xp.cumulative_sum(x), normal(4))
case("cumulative_sum", "axis 0", lambda xp, x: xp.cumulative_sum(x, axis=0), normal(3, 2))
case("cumulative_sum", "axis -1", lambda xp, x: xp.cumulative_sum(x, axis=-1), normal(3, 2))
case(
    "cumulative_sum",
    "from zero",
    lambda xp, x: xp.cumulative_sum(x, include_initial=True),
    normal(4),
)
case(
    "cumulative_sum",
    "from zero axis 0",
    lambda xp, x: xp.cumulative_sum(x, axis=0, include_initial=True),
    normal(3, 2),
)
case(
    "cumulative_sum",
    "from zero axis -2",
    lambda xp, x: xp.cumulative_sum(x, axis=-2, include_initial=True),
    normal(2, 3, 2),
)


# ---- shapes

case("astype", "", lambda xp, x: xp.astype(x, xp.float64), normal(2, 3))
case("broadcast_to", "new axes", lambda xp, x: xp.broadcast_to(x, (4, 2, 3)), normal(2, 3))
case("broadcast_to", "stretched", lambda xp, x: xp.broadcast_to(x, (2, 4, 3)), normal(2, 1, 3))
case("broadcast_to", "0-d", lambda xp, x: xp.broadcast_to(x, (2, 2)), normal())
case("broadcast_to", "same", lambda xp, x: xp.broadcast_to(x, (2, 3)), normal(2, 3))
for axis in (0, 1, -1, -3):
    case(
        "expand_dims",
        f"axis {axis}",
        lambda xp, x, axis=axis: xp.expand_dims(x, axis=axis),
        normal(2, 3),
    )
for axis in (None, 0, -1, (0, 1)):
    case("flip", f"axis {axis}", lambda xp, x, axis=axis: xp.flip(x, axis=axis), normal(2, 3))
case("matrix_transpose", "", lambda xp, x: xp.matrix_transpose(x), normal(2, 3, 4))
case("matrix_transpose", "linalg", lambda xp, x: xp.linalg.matrix_transpose(x), normal(3, 4))
case("moveaxis", "one", lambda xp, x: xp.moveaxis(x, 0, -1), normal(2, 3, 4))
case("moveaxis", "several", lambda xp, x: xp.moveaxis(x, (0, 2), (1, 0)), normal(2, 3, 4))
case("permute_dims", "", lambda xp, x: xp.permute_dims(x, (2, 0, 1)), normal(2, 3, 4))
case(
    "permute_dims",
    "negative",
    lambda xp, x: xp.permute_dims(x, (-1, 0, -2)),
    normal(2, 3, 4),
    standard=False,
)
for axis in (0, 1, -1, -2):
    case(
        "repeat", f"axis {axis}", lambda xp, x, axis=axis: xp.repeat(x, 3, axis=axis), normal(2, 3)
    )
case("repeat", "flat", lambda xp, x: xp.repeat(x, 2), normal(2, 3))
case("repeat", "unevenly", lambda xp, x: xp.repeat(x, like(x, [2, 0, 3]), axis=-1), normal(2, 3))
case("repeat", "flat unevenly", lambda xp, x: xp.repeat(x, like(x, [2, 0, 3, 1])), normal(2, 2))
case("reshape", "", lambda xp, x: xp.reshape(x, (3, 2)), normal(2, 3))
case("reshape", "-1", lambda xp, x: xp.reshape(x, (-1,)), normal(2, 3))
case("reshape", "0-d", lambda xp, x: xp.reshape(x, ()), normal(1, 1))
for shift, axis in ((2, None), (-1, 0), (7, -1), ((1, -2), (0, 1)), ((1, 1), (-1, -1))):
    case(
        "roll",
        f"{shift} axis {axis}",
        lambda xp, x, s=shift, a=axis: xp.roll(x, s, axis=a),
        normal(2, 5),
    )
case("squeeze", "one", lambda xp, x: xp.squeeze(x, axis=1), normal(2, 1, 3))
case("squeeze", "several", lambda xp, x: xp.squeeze(x, axis=(0, -1)), normal(1, 2, 1))
for times in ((3,), (2, 3), (2, 1, 3), (1, 1)):
    case("tile", f"{times}", lambda xp, x, times=times: xp.tile(x, times), normal(2, 3))
case("tile", "fewer", lambda xp, x: xp.tile(x, (2,)), normal(2, 1, 3))
case("tile", "0-d", lambda xp, x: xp.tile(x, (3,)), normal())
for name in ("tril", "triu"):
    for k in (-1, 0, 2):
        case(
            name, f"k {k}", lambda xp, x, name=name, k=k: getattr(xp, name)(x, k=k), normal(2, 3, 4)
        )
for axis in (0, -1):
    case(
        "unstack",
        f"axis {axis}",
        lambda xp, x, axis=axis: xp.multiply(*xp.unstack(x, axis=axis)),
        normal(2, 2),
    )
case("unstack", "some used", lambda xp, x: xp.exp(xp.unstack(x, axis=1)[1]), normal(2, 3))
case("concat", "", lambda xp, x, y: xp.concat([x, y]), normal(2, 3), normal(1, 3))
case(
    "concat",
    "axis 1 of 3",
    lambda xp, x, y: xp.concat((x, y, x), axis=1),
    normal(2, 1, 2),
    normal(2, 3, 2),
)
case("concat", "axis -1", lambda xp, x, y: xp.concat([x, y], axis=-1), normal(2, 3), normal(2, 2))
case("concat", "flat", lambda xp, x, y: xp.concat([x, y], axis=None), normal(2, 3), normal())
for axis in (0, 1, -1):
    case(
        "stack",
        f"axis {axis}",
        lambda xp, x, y, axis=axis: xp.stack([x, y], axis=axis),
        normal(2, 3),
        normal(2, 3),
    )


# ---- places

INDICES = {
    "integer": lambda x: (1, ...),
    "negative integer": lambda x: (..., -1),
    "all integers": lambda x: (1, -1, 0),
    "slice": lambda x: (slice(1, None), ...),
    "step": lambda x: (..., slice(None, None, 2), slice(None)),
    "negative step": lambda x: (slice(None), slice(None, None, -2), slice(None)),
    "new axis": lambda x: (None, ..., 1),
    "ellipsis": lambda x: ...,
    "boolean mask": lambda x: like(x, np.arange(18).reshape(2, 3, 3) % 2 == 0),
    "integer arrays": lambda x: tuple(
        like(x, places) for places in ([0, 1, 0, 0], [2, 1, 2, 2], [0, 1, 0, -3])
    ),
}
BEYOND = {
    "one integer of three": lambda x: -1,
    "one integer array": lambda x: (slice(None), like(x, [0, 2, 2, -1, 0]), ...),
    "rows by a matrix": lambda x: like(x, [[0, 1], [1, 1]]),
    "list": lambda x: [0, 1, 1],
    "boolean rows": lambda x: like(x, [False, True]),
}
for note, index in (INDICES | BEYOND).items():
    standard = note in INDICES
    by_name = lambda xp, x, index=index: xp.getitem(x, index(x))  # noqa: E731
    by_operator = lambda xp, x, index=index: x[index(x)]  # noqa: E731
    case("getitem", note, by_name, normal(2, 3, 3), standard=standard)
    case("getitem", f"{note} operator", by_operator, normal(2, 3, 3), standard=standard)
case(
    "ungetitem",
    "slice",
    lambda xp, g: xp.ungetitem(g, (slice(1, None, 2), ...), (5, 2)),
    normal(2, 2),
)
case("ungetitem", "repeated", lambda xp, g: xp.ungetitem(g, (like(g, [0, 2, 0]),), (4,)), normal(3))
TAKEN = {"": [2, 0], "repeated": [1, 1, 0, 1], "negative": [-1, 0, -1], "none": []}
for note, indices in TAKEN.items():
    places = np.asarray(indices, dtype=np.int64)
    for axis in (0, 1, -1):
        case(
            "take",
            f"{note} axis {axis}",
            lambda xp, x, places=places, axis=axis: xp.concat(
                [xp.take(x, like(x, places), axis=axis), x], axis=axis
            ),
            normal(3, 3, 3),
        )
case(
    "take",
    "by a matrix",
    lambda xp, x: xp.take(x, like(x, [[0, 1], [1, 1], [2, 0]]), axis=1),
    normal(2, 3, 2),
    standard=False,
)
case("take", "1-d", lambda xp, x: xp.take(x, like(x, [2, 0, 2])), normal(3))
case("untake", "", lambda xp, g: xp.untake(g, like(g, [3, 0, 3]), 5, 1), normal(2, 3))
case(
    "take_along_axis",
    "",
    lambda xp, x: xp.take_along_axis(x, like(x, [[2, 0], [1, -2]])),
    normal(2, 3),
)
case(
    "take_along_axis",
    "repeated",
    lambda xp, x: xp.take_along_axis(x, like(x, [[1, 1, 1]]), axis=0),
    normal(2, 3),
)
case(
    "take_along_axis",
    "broadcast indices",
    lambda xp, x: xp.take_along_axis(x, like(x, [[1, 1]]), axis=-1),
    normal(3, 2),
)
case(
    "take_along_axis",
    "broadcast x",
    lambda xp, x: xp.take_along_axis(x, like(x, [[1], [0], [1]]), axis=-1),
    normal(1, 2),
)
case(
    "untake_along_axis",
    "",
    lambda xp, g: xp.untake_along_axis(g, like(g, [[2, 0], [1, 1]]), 3, -1),
    normal(2, 2),
)


# ---- products

for first in ((3,), (2, 3), (4, 2, 3)):
    for second in ((3,), (3, 2), (4, 3, 2)):
        case(
            "matmul",
            f"{first} {second}",
            lambda xp, x, y: xp.matmul(x, y),
            normal(*first),
            normal(*second),
        )
case("matmul", "stretched left", lambda xp, x, y: xp.matmul(x, y), normal(1, 2, 3), normal(4, 3, 2))
case(
    "matmul",
    "stretched right",
    lambda xp, x, y: xp.matmul(x, y),
    normal(2, 4, 2, 3),
    normal(4, 3, 2),
)
case(
    "matmul",
    "both stretched",
    lambda xp, x, y: xp.matmul(x, y),
    normal(2, 1, 2, 3),
    normal(4, 3, 2),
)
case("matmul", "linalg", lambda xp, x, y: xp.linalg.matmul(x, y), normal(2, 3), normal(3, 2))
case("tensordot", "axes 0", lambda xp, x, y: xp.tensordot(x, y, axes=0), normal(2), normal(3, 2))
case("tensordot", "axes 1", lambda xp, x, y: xp.tensordot(x, y, axes=1), normal(2, 3), normal(3, 4))
case("tensordot", "axes 2", lambda xp, x, y: xp.tensordot(x, y), normal(2, 3, 4), normal(3, 4, 2))
case(
    "tensordot",
    "a pair",
    lambda xp, x, y: xp.tensordot(x, y, axes=((0,), (2,))),
    normal(3, 2),
    normal(2, 4, 3),
)
case(
    "tensordot",
    "crossed pairs",
    lambda xp, x, y: xp.tensordot(x, y, axes=((2, 0), (0, -1))),
    normal(2, 3, 4),
    normal(4, 3, 2),
)
case(
    "tensordot",
    "to a number",
    lambda xp, x, y: xp.tensordot(x, y, axes=((0, 1), (1, 0))),
    normal(2, 3),
    normal(3, 2),
)
case(
    "tensordot",
    "linalg",
    lambda xp, x, y: xp.linalg.tensordot(x, y, axes=1),
    normal(2, 3),
    normal(3, 4),
)
case("vecdot", "", lambda xp, x, y: xp.vecdot(x, y), normal(2, 3), normal(2, 3))
case("vecdot", "axis -2", lambda xp, x, y: xp.vecdot(x, y, axis=-2), normal(3, 2), normal(3, 2))
case("vecdot", "broadcast", lambda xp, x, y: xp.vecdot(x, y), normal(2, 1, 3), normal(4, 3))
case("vecdot", "linalg", lambda xp, x, y: xp.linalg.vecdot(x, y), normal(3), normal(3))


# ---- linear algebra

case("linalg.outer", "", lambda xp, x, y: xp.linalg.outer(x, y), normal(2), normal(3))
for shape, offsets in (((3, 3), (0, 1, -2)), ((2, 4), (0, 2, -1)), ((2, 4, 2), (0, 1, -3))):
    for k in offsets:
        case(
            "linalg.diagonal",
            f"{shape} offset {k}",
            lambda xp, x, k=k: xp.linalg.diagonal(x, offset=k),
            normal(*shape),
        )
        case(
            "linalg.trace",
            f"{shape} offset {k}",
            lambda xp, x, k=k: xp.linalg.trace(x, offset=k),
            normal(*shape),
        )
for order in (1, 2, 3, 1.5, np.inf, -np.inf):
    for axis, keepdims in ((None, False), (-1, True), ((0, 1), False), (0, False)):
        case(
            "linalg.vector_norm",
            f"ord {order} axis {axis}",
            lambda xp, x, order=order, axis=axis, keepdims=keepdims: xp.linalg.vector_norm(
                x, axis=axis, keepdims=keepdims, ord=order
            ),
            spaced(2, 3),
        )
case("linalg.vector_norm", "defaults", lambda xp, x: xp.linalg.vector_norm(x), normal(3))
for shape in ((3, 3), (1, 1), (2, 3, 3)):
    case(
        "linalg.eigvalsh",
        f"{shape}",
        lambda xp, x: xp.linalg.eigvalsh(x),
        symmetric(*shape),
        symmetric=True,
    )
    case(
        "linalg.eigh",
        f"{shape}",
        # Squares, since the sign of an eigenvector is the library's choice.
        lambda xp, x: xp.multiply(
            xp.square(xp.linalg.eigh(x).eigenvectors), xp.expand_dims(xp.linalg.eigh(x)[0], axis=-2)
        ),
        symmetric(*shape),
        symmetric=True,
    )
for shape in ((3, 3), (4, 2), (2, 4), (2, 4, 3)):
    case("linalg.svdvals", f"{shape}", lambda xp, x: xp.linalg.svdvals(x), rectangular(*shape))
    for factor in range(3):
        case(
            "linalg.svd",
            f"{shape} {['U', 'S', 'Vh'][factor]}",
            lambda xp, x, factor=factor: xp.square(xp.linalg.svd(x, full_matrices=False)[factor]),
            rectangular(*shape),
        )
case(
    "linalg.svd",
    "product",
    lambda xp, x: _rotation(xp, xp.linalg.svd(x, full_matrices=False)),
    rectangular(4, 3),
)
case("linalg.svd", "square", lambda xp, x: xp.square(xp.linalg.svd(x).U), rectangular(3, 3))
for A, b in (
    ((3, 3), (3,)),
    ((3, 3), (3, 2)),
    ((2, 3, 3), (2, 3, 2)),
    ((3, 3), (2, 3, 1)),
    ((2, 3, 3), (3,)),
    ((3, 3, 3), (3,)),
):
    case(
        "linalg.solve",
        f"{A} {b}",
        lambda xp, A, b: xp.linalg.solve(A, b),
        invertible(*A),
        normal(*b),
    )


def _rotation(xp, factors):
    """U Vᵀ, the orthogonal matrix nearest to U S Vᵀ."""
    return xp.matmul(factors.U, factors.Vh)


def assert_close(got, expected, tolerance=1e-13):
    got, expected = to_host(got), to_host(expected)
    assert got.shape == expected.shape
    scale = max(1.0, np.max(np.abs(expected), initial=0.0))
    assert np.max(np.abs(got - expected), initial=0.0) <= tolerance * scale


def along(scalar, directions):
    """⟨∇ scalar, directions⟩ as a function of the arrays."""

    def slope(arrays):
        gradients = grad(scalar)(arrays)
        xp = array_namespace(*gradients)
        return sum(xp.sum(xp.multiply(g, v)) for g, v in zip(gradients, directions, strict=True))

    return slope


def check_rule_on(library, case, rng):
    """Hold a case on that device to NumPy: value, first and second derivative, dtype and device."""
    arrays = case.arrays()
    R = rng.standard_normal(np.shape(case(*arrays)))
    directions = [rng.standard_normal(x.shape) for x in arrays]
    scalar = weighted(case, R)
    expected = value_and_grad(scalar)(arrays)
    expected_second = grad(along(scalar, directions))(arrays)

    there = [library.asarray(x) for x in arrays]
    scalar = weighted(case, library.asarray(R))
    value, gradients = value_and_grad(scalar)(there)
    assert_close(value, expected[0])
    assert value.dtype == there[0].dtype
    second = grad(along(scalar, library.asarray(directions)))(there)
    for x, g, h, g_numpy, h_numpy in zip(
        there, gradients, second, expected[1], expected_second, strict=True
    ):
        assert type(g) is type(h) is type(x)
        assert g.dtype == h.dtype == x.dtype
        assert device(g) == device(h) == device(x)
        assert_close(g, g_numpy)
        assert_close(h, h_numpy)
