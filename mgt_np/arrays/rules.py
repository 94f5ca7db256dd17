"""The vector-Jacobian product of each Array API function, one line beside its name.

`RULES[name][i](xp, g, ans, *args, **kwargs)` is the gradient with respect to argument i, given the
gradient `g` of the result `ans`. Every rule is itself written in differentiable functions, `xp`,
so that gradients can be differentiated again. Where a function has a kink, a rule takes the mean
of the one-sided slopes (`abs`, `maximum` of equals, `clip` on a bound) or spreads `g` evenly over
the equals (`max`, `min`); it never invents a zero. A root at 0 is taken for that of a square, whose
mean slope is 0: where what is under a root is defined on both sides of 0, it has its minimum there.
"""

import math

from autograd.tracer import getval

from .boxes import device


def like(xp, g, x):
    """Sum `g` over the axes along which `x` was broadcast, and give it the dtype of `x`."""
    shape = tuple(x.shape)
    if tuple(g.shape) != shape:
        extra = g.ndim - len(shape)
        stretched = (i + extra for i, n in enumerate(shape) if n == 1 and g.shape[i + extra] != 1)
        g = xp.reshape(xp.sum(g, axis=(*range(extra), *stretched)), shape)
    return g if g.dtype == x.dtype else xp.astype(g, x.dtype)


def _axes(axis, ndim):
    if axis is None:
        return tuple(range(ndim))
    return tuple(i % ndim for i in (axis if isinstance(axis, tuple) else (axis,)))


def _unreduce(xp, g, x, axis, keepdims):
    """Put the reduced axes back into `g`, as axes of length one, ready to broadcast."""
    axes = _axes(axis, x.ndim)
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    return g if keepdims else xp.reshape(g, kept)


def _count(x, axis):
    return math.prod(x.shape[i] for i in _axes(axis, x.ndim))


def relative_to_largest(xp, x, axis):
    """Return x over its largest magnitude along `axis`, whose squares stay in range.

    Zeros stay zeros; where there are infinities, they are ±1 and the others 0. The largest
    magnitude is a constant to derivatives: divide by it only what does not change with scale.
    """
    size = xp.abs(getval(x))
    largest = xp.max(size, axis=axis, keepdims=True)
    ratio = xp.divide(x, xp.where(xp.equal(largest, 0.0), 1.0, largest))
    return xp.where(xp.isinf(size), xp.sign(x), ratio)


def nonzero(xp, x):
    """Return x with infinity in place of zeros, to be divided by: at a kink the slope is then 0."""
    return xp.where(xp.equal(x, 0.0), math.inf, x)


# ---- elementwise, one argument: the derivative


def _derivative(slope):
    return (lambda xp, g, ans, x: xp.multiply(g, slope(xp, ans, x)),)


UNARY = {
    "abs": _derivative(lambda xp, ans, x: xp.sign(x)),
    "cos": _derivative(lambda xp, ans, x: xp.negative(xp.sin(x))),
    "cosh": _derivative(lambda xp, ans, x: xp.sinh(x)),
    "exp": _derivative(lambda xp, ans, x: ans),
    "expm1": _derivative(lambda xp, ans, x: xp.add(ans, 1.0)),
    "log": (lambda xp, g, ans, x: xp.divide(g, x),),
    "log1p": (lambda xp, g, ans, x: xp.divide(g, xp.add(x, 1.0)),),
    "negative": (lambda xp, g, ans, x: xp.negative(g),),
    "reciprocal": _derivative(lambda xp, ans, x: xp.negative(xp.square(ans))),
    "sign": _derivative(lambda xp, ans, x: xp.zeros_like(x)),
    "sin": _derivative(lambda xp, ans, x: xp.cos(x)),
    "sinh": _derivative(lambda xp, ans, x: xp.cosh(x)),
    "sqrt": (lambda xp, g, ans, x: xp.divide(xp.multiply(g, 0.5), nonzero(xp, ans)),),
    "square": _derivative(lambda xp, ans, x: xp.multiply(x, 2.0)),
    "tan": _derivative(lambda xp, ans, x: xp.add(xp.square(ans), 1.0)),
    "tanh": _derivative(lambda xp, ans, x: xp.subtract(1.0, xp.square(ans))),
}


# ---- elementwise, two or three arguments that broadcast against each other


def _partial(argnum, gradient):
    def rule(xp, g, ans, *args):
        return like(xp, gradient(xp, g, ans, *args), args[argnum])

    return rule


def _partials(*gradients):
    return tuple(_partial(argnum, gradient) for argnum, gradient in enumerate(gradients))


def _power_slope(xp, g, ans, x, y):
    """y x^(y−1), and 0 where x = 0 and 0 ≤ y < 1."""
    if isinstance(y, int | float):
        if y == 0:
            return xp.multiply(g, xp.zeros_like(x))
        if 0 < y < 1:
            x = nonzero(xp, x)
        return xp.multiply(g, xp.multiply(xp.pow(x, y - 1), y))
    is_root = xp.logical_and(xp.greater_equal(y, 0.0), xp.less(y, 1.0))
    at_kink = xp.logical_and(xp.equal(x, 0.0), is_root)
    lower = xp.where(at_kink, 1.0, xp.subtract(y, 1.0))
    return xp.multiply(g, xp.multiply(xp.pow(x, lower), y))


def _exponent_slope(xp, g, ans, x, y):
    """x^y log x, and 0 where x = 0."""
    if isinstance(x, int | float):
        x = xp.full_like(y, x)
    return xp.multiply(g, xp.multiply(ans, xp.log(xp.where(xp.equal(x, 0.0), 1.0, x))))


def _winner(xp, g, x, y, beats):
    """`g` where x wins, half of it where x and y are equal."""
    share = xp.where(xp.equal(x, y), xp.multiply(g, 0.5), 0.0)
    return xp.where(beats(x, y), g, share)


def _clip_slopes(argnum):
    """`clip` is min(max(x, low), high), and so is its gradient."""

    def gradient(xp, g, ans, x, low=None, high=None):
        raised = x if low is None else xp.maximum(x, low)
        if high is not None:
            if argnum == 2:
                return _winner(xp, g, high, raised, xp.less)
            g = _winner(xp, g, raised, high, xp.less)
        if low is None:
            return g
        first, second = (x, low) if argnum == 0 else (low, x)
        return _winner(xp, g, first, second, xp.greater)

    return gradient


def _softmax_slope(xp, g, ans, x, y):
    """eˣ/(eˣ + eʸ) = 1/(1 + e^−(x−y)), and ½ where x = y are infinite.

    Of the difference, since x − ans has lost it where x is large.
    """
    both = xp.logical_and(xp.isinf(ans), xp.equal(x, y))
    difference = xp.where(both, 0.0, xp.subtract(xp.where(both, 0.0, x), y))
    smaller = xp.less(difference, 0.0)
    ratio = xp.exp(xp.where(smaller, difference, xp.negative(difference)))  # of the two, ≤ 1
    share = xp.divide(xp.where(smaller, ratio, 1.0), xp.add(ratio, 1.0))
    return xp.multiply(g, share)


BINARY = {
    "add": _partials(lambda xp, g, ans, x, y: g, lambda xp, g, ans, x, y: g),
    "subtract": _partials(
        lambda xp, g, ans, x, y: g,
        lambda xp, g, ans, x, y: xp.negative(g),
    ),
    "multiply": _partials(
        lambda xp, g, ans, x, y: xp.multiply(g, y),
        lambda xp, g, ans, x, y: xp.multiply(g, x),
    ),
    "divide": _partials(
        lambda xp, g, ans, x, y: xp.divide(g, y),
        lambda xp, g, ans, x, y: xp.negative(xp.divide(xp.multiply(g, ans), y)),
    ),
    "pow": _partials(_power_slope, _exponent_slope),
    "maximum": _partials(
        lambda xp, g, ans, x, y: _winner(xp, g, x, y, xp.greater),
        lambda xp, g, ans, x, y: _winner(xp, g, y, x, xp.greater),
    ),
    "minimum": _partials(
        lambda xp, g, ans, x, y: _winner(xp, g, x, y, xp.less),
        lambda xp, g, ans, x, y: _winner(xp, g, y, x, xp.less),
    ),
    "logaddexp": _partials(
        _softmax_slope,
        lambda xp, g, ans, x, y: _softmax_slope(xp, g, ans, y, x),
    ),
    "where": _partials(
        lambda xp, g, ans, condition, x, y: xp.zeros_like(condition),
        lambda xp, g, ans, condition, x, y: xp.where(condition, g, 0.0),
        lambda xp, g, ans, condition, x, y: xp.where(condition, 0.0, g),
    ),
    "clip": _partials(_clip_slopes(0), _clip_slopes(1), _clip_slopes(2)),
}


# ---- reductions


def _spread(xp, g, x, axis, keepdims):
    return xp.broadcast_to(_unreduce(xp, g, x, axis, keepdims), x.shape)


def _sum(xp, g, ans, x, axis=None, dtype=None, keepdims=False):
    return like(xp, _spread(xp, g, x, axis, keepdims), x)


def _over(n):
    """1/n for a number of entries; NaN, as the mean or variance itself, where there are none."""
    return 1.0 / n if n > 0 else math.nan


def _mean(xp, g, ans, x, axis=None, keepdims=False):
    return _spread(xp, xp.multiply(g, _over(_count(x, axis))), x, axis, keepdims)


def _centred(xp, x, axis):
    return xp.subtract(x, xp.mean(x, axis=axis, keepdims=True))


def _variance(xp, g, ans, x, axis=None, correction=0.0, keepdims=False):
    """2 (x − mean)/(n − correction)."""
    g = xp.multiply(g, 2.0 * _over(_count(x, axis) - correction))
    return xp.multiply(_unreduce(xp, g, x, axis, keepdims), _centred(xp, x, axis))


def _deviation(xp, g, ans, x, axis=None, correction=0.0, keepdims=False):
    """(x − mean)/((n − correction) std); the mean slope, 0, where all are equal: std has a kink."""
    n = _count(x, axis)
    g = xp.multiply(g, math.sqrt(_over(n) * _over(n - correction)))
    g = _unreduce(xp, g, x, axis, keepdims)
    if n == 0:
        return _spread(xp, g, x, axis, keepdims=True)
    # Centred twice: what rounding leaves of equal entries is the same in all of them.
    ratio = relative_to_largest(xp, _centred(xp, _centred(xp, x, axis), axis), axis)
    size = xp.sqrt(xp.mean(xp.square(ratio), axis=axis, keepdims=True))
    return xp.multiply(xp.divide(g, nonzero(xp, size)), ratio)


def _extremum(xp, g, ans, x, axis=None, keepdims=False):
    chosen = xp.equal(x, _unreduce(xp, ans, x, axis, keepdims))
    ties = xp.sum(xp.astype(chosen, x.dtype), axis=axis, keepdims=True)
    return xp.where(chosen, xp.divide(_unreduce(xp, g, x, axis, keepdims), ties), 0.0)


def _product(xp, g, ans, x, axis=None, dtype=None, keepdims=False):
    """The product of all the others, by products from the left and the right, zeros or not."""
    if 0 in x.shape:
        return xp.zeros_like(x)
    if axis is None or isinstance(axis, tuple):
        axes = _axes(axis, x.ndim)
        order = (*(i for i in range(x.ndim) if i not in axes), *axes)
        front = tuple(x.shape[i] for i in order[: x.ndim - len(axes)])
        flat = xp.reshape(xp.permute_dims(x, order), (*front, -1))
        g = _product(xp, xp.reshape(g, front), ans, flat, axis=-1)
        g = xp.reshape(g, tuple(x.shape[i] for i in order))
        return like(xp, xp.permute_dims(g, _inverse(order)), x)
    factors = xp.unstack(x, axis=axis)
    one = xp.ones_like(factors[0])
    left, right = [one], [one]
    for factor in factors[:-1]:
        left.append(xp.multiply(left[-1], factor))
    for factor in factors[:0:-1]:
        right.append(xp.multiply(right[-1], factor))
    others = [xp.multiply(a, b) for a, b in zip(left, reversed(right), strict=True)]
    others = xp.stack(others, axis=axis)
    return like(xp, xp.multiply(_unreduce(xp, g, x, axis, keepdims), others), x)


def _cumulative_sum(xp, g, ans, x, axis=None, dtype=None, include_initial=False):
    axis = 0 if axis is None else axis % x.ndim
    if include_initial:
        g = xp.getitem(g, (*(slice(None),) * axis, slice(1, None), ...))
    return like(xp, xp.flip(xp.cumulative_sum(xp.flip(g, axis=axis), axis=axis), axis=axis), x)


REDUCTIONS = {
    "sum": (_sum,),
    "mean": (_mean,),
    "var": (_variance,),
    "std": (_deviation,),
    "max": (_extremum,),
    "min": (_extremum,),
    "prod": (_product,),
    "cumulative_sum": (_cumulative_sum,),
}


# ---- shapes and places


def _inverse(order):
    return tuple(sorted(range(len(order)), key=lambda i: order[i]))


def _to_shape_of_x(xp, g, ans, x, *args, **kwargs):
    return xp.reshape(g, x.shape)


def _tile(xp, g, ans, x, repetitions):
    """Sum over the copies: every axis of the result splits into (copy, place in x)."""
    ndim = max(x.ndim, len(repetitions))
    shape = (1,) * (ndim - x.ndim) + tuple(x.shape)
    copies = (1,) * (ndim - len(repetitions)) + tuple(repetitions)
    pairs = tuple(n for pair in zip(copies, shape, strict=True) for n in pair)
    return xp.reshape(xp.sum(xp.reshape(g, pairs), axis=tuple(range(0, 2 * ndim, 2))), x.shape)


def _repeat(xp, g, ans, x, repeats, axis=None):
    if axis is None:
        flat = xp.reshape(x, (-1,))
        return xp.reshape(_repeat(xp, g, ans, flat, repeats, axis=0), x.shape)
    axis, n = axis % x.ndim, x.shape[axis]
    if isinstance(repeats, int):
        pairs = (*x.shape[:axis], n, repeats, *x.shape[axis + 1 :])
        return xp.sum(xp.reshape(g, pairs), axis=axis + 1)
    places = xp.repeat(xp.arange(n, device=device(x)), repeats)
    return xp.untake(g, places, n, axis)


SHAPES = {
    "astype": (lambda xp, g, ans, x, dtype, **kwargs: xp.astype(g, x.dtype),),
    "broadcast_to": (lambda xp, g, ans, x, shape: like(xp, g, x),),
    "expand_dims": (_to_shape_of_x,),
    "flip": (lambda xp, g, ans, x, axis=None: xp.flip(g, axis=axis),),
    "matrix_transpose": (lambda xp, g, ans, x: xp.matrix_transpose(g),),
    "moveaxis": (lambda xp, g, ans, x, source, destination: xp.moveaxis(g, destination, source),),
    "permute_dims": (
        lambda xp, g, ans, x, axes: xp.permute_dims(g, _inverse(_axes(tuple(axes), x.ndim))),
    ),
    "repeat": (_repeat,),
    "reshape": (_to_shape_of_x,),
    "roll": (
        lambda xp, g, ans, x, shift, axis=None: xp.roll(
            g, tuple(-s for s in shift) if isinstance(shift, tuple) else -shift, axis=axis
        ),
    ),
    "squeeze": (_to_shape_of_x,),
    "tile": (_tile,),
    "tril": (lambda xp, g, ans, x, k=0: xp.tril(g, k=k),),
    "triu": (lambda xp, g, ans, x, k=0: xp.triu(g, k=k),),
    "unstack": (lambda xp, g, ans, x, axis=0: xp.stack(list(g), axis=axis),),
    # Reading places and adding into places are each other's gradients.
    "getitem": (lambda xp, g, ans, x, index: xp.ungetitem(g, index, x.shape),),
    "ungetitem": (lambda xp, g, ans, x, index, shape: xp.getitem(g, index),),
    "take": (
        lambda xp, g, ans, x, indices, axis=None: xp.untake(
            g, indices, x.shape[axis or 0], axis or 0
        ),
    ),
    "untake": (lambda xp, g, ans, x, indices, n, axis: xp.take(g, indices, axis=axis),),
    "take_along_axis": (
        lambda xp, g, ans, x, indices, axis=-1: like(
            xp, xp.untake_along_axis(g, indices, x.shape[axis], axis), x
        ),
    ),
    "untake_along_axis": (
        lambda xp, g, ans, x, indices, n, axis: xp.take_along_axis(g, indices, axis=axis),
    ),
}


# ---- products


def _row(xp, x):
    return xp.expand_dims(x, axis=-2)


def _column(xp, x):
    return xp.expand_dims(x, axis=-1)


def _matmul_left(xp, g, ans, x, y):
    if y.ndim == 1:
        return like(xp, xp.multiply(_column(xp, g), y), x)
    if x.ndim == 1:
        return like(xp, xp.squeeze(xp.matmul(y, _column(xp, g)), axis=-1), x)
    return like(xp, xp.matmul(g, xp.matrix_transpose(y)), x)


def _matmul_right(xp, g, ans, x, y):
    if y.ndim <= 2:  # one product over all leading axes of x at once
        n = math.prod(x.shape[:-1])
        g = xp.reshape(g, (n, *y.shape[1:]))
        x = xp.reshape(x, (n, x.shape[-1]))
        return like(xp, xp.matmul(xp.matrix_transpose(x), g), y)
    if x.ndim == 1:
        return like(xp, xp.multiply(_column(xp, x), _row(xp, g)), y)
    return like(xp, xp.matmul(xp.matrix_transpose(x), g), y)


def _tensordot(argnum):
    def rule(xp, g, ans, x, y, axes=2):
        if isinstance(axes, int):
            axes = (tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes)))
        summed_x, summed_y = _axes(tuple(axes[0]), x.ndim), _axes(tuple(axes[1]), y.ndim)
        free_x = [i for i in range(x.ndim) if i not in summed_x]
        free_y = [i for i in range(y.ndim) if i not in summed_y]
        if argnum == 0:
            places = tuple(range(len(free_x), g.ndim))
            product = xp.tensordot(g, y, axes=(places, tuple(free_y)))
            order = (*free_x, *(summed_x[summed_y.index(i)] for i in sorted(summed_y)))
            return like(xp, xp.permute_dims(product, _inverse(order)), x)
        places = tuple(range(len(free_x)))
        product = xp.tensordot(x, g, axes=(tuple(free_x), places))
        order = (*(summed_y[summed_x.index(i)] for i in sorted(summed_x)), *free_y)
        return like(xp, xp.permute_dims(product, _inverse(order)), y)

    return rule


PRODUCTS = {
    "matmul": (_matmul_left, _matmul_right),
    "tensordot": (_tensordot(0), _tensordot(1)),
    "vecdot": (
        lambda xp, g, ans, x, y, axis=-1: like(xp, xp.multiply(xp.expand_dims(g, axis=axis), y), x),
        lambda xp, g, ans, x, y, axis=-1: like(xp, xp.multiply(xp.expand_dims(g, axis=axis), x), y),
    ),
}

RULES = UNARY | BINARY | REDUCTIONS | SHAPES | PRODUCTS


# ---- what the tape need not keep, a third of its memory


class Outline:
    """All that a rule needs to know of an argument whose values it does not read."""

    __slots__ = ["dtype", "ndim", "shape"]

    def __init__(self, x):
        self.dtype, self.ndim, self.shape = x.dtype, x.ndim, x.shape


_LINEAR = [
    "add",
    "astype",
    "broadcast_to",
    "cumulative_sum",
    "expand_dims",
    "flip",
    "getitem",
    "matrix_transpose",
    "mean",
    "moveaxis",
    "negative",
    "permute_dims",
    "reshape",
    "roll",
    "squeeze",
    "subtract",
    "sum",
    "take",
    "take_along_axis",
    "tile",
    "tril",
    "triu",
    "unstack",
    "where",
]
READS_NO_ARGUMENT = frozenset([*_LINEAR, "exp", "expm1", "reciprocal", "sqrt", "tan", "tanh"])
READS_NO_RESULT = frozenset(
    [
        *_LINEAR,
        "abs",
        "cos",
        "cosh",
        "log",
        "log1p",
        "matmul",
        "maximum",
        "minimum",
        "multiply",
        "prod",
        "sin",
        "sinh",
        "square",
        "std",
        "tensordot",
        "var",
        "vecdot",
    ]
)
