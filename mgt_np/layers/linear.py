"""The affine map, and the look-up of token vectors."""

import math

from mgt_np.arrays import (
    array_namespace,
    as_rows,
    fusable,
    in_one_place,
    operands,
    sum_of_rows,
)
from mgt_np.arrays.checks import at_least, same_size
from mgt_np.arrays.initial import constant, normal

from .checks import as_indices, in_range


@fusable
def linear(x, W, b=None, *, name="W"):
    """Map row vectors: x W + b.

    Shapes: x (..., d_in), W (d_in, d_out), b (d_out) or absent; result (..., d_out).
    `name` is what an error calls W. With W = I and no b it is the identity.
    """
    xp, x, W, b = operands(**{"x": x, name: W, f"the bias of {name}": b})
    at_least(1, x=x)
    if W.ndim != 2:
        raise ValueError(f"expected {name} to be a matrix, got shape {tuple(W.shape)}")
    same_size("features", **{"x": x.shape[-1], f"{name} (rows)": W.shape[0]})
    y = xp.matmul(x, W)
    if b is None:
        return y
    if not isinstance(b, int | float) and b.ndim:
        same_size("outputs", **{name: W.shape[1], "its bias": b.shape[-1]})
    return y + b


def fit_linear(x, W, b):
    """Say whether x W + b has the shapes of `linear`, with one bias an output."""
    return (
        x.ndim > 0
        and W.ndim == 2
        and W.shape[0] == x.shape[-1]
        and (b is None or tuple(b.shape) == (W.shape[1],))
    )


def _linear_forward(xp, x, W, b, *, name):
    if not fit_linear(x, W, b):
        return None
    rows = as_rows(xp, x)
    y = xp.matmul(rows, W)
    if b is not None:
        y += b
    return xp.reshape(y, (*x.shape[:-1], W.shape[1])), (x.shape, rows, W, b)


def _linear_backward(xp, g, shape, x, W, b):
    g = as_rows(xp, g)
    dx = xp.reshape(xp.matmul(g, xp.matrix_transpose(W)), shape)
    return dx, xp.matmul(xp.matrix_transpose(x), g), None if b is None else sum_of_rows(xp, g)


linear.fuse(_linear_forward, _linear_backward)


def init_linear(rng, d_in, d_out, *, scale="lecun", bias=True, dtype="float64"):
    """Return W (d_in, d_out) from N(0, scale²) and, unless `bias=False`, b = 0, as NumPy arrays."""
    params = {"W": normal(rng, (d_in, d_out), scale, dtype)}
    return params | {"b": constant(0.0, d_out, dtype)} if bias else params


def embedding(tokens, E):
    """Look up the vector of each token: row t of E for token t.

    Shapes: tokens (...) of integers in [0, vocab), E (vocab, d); result (..., d). It is the
    one-hot encoding of the tokens times E.
    Raises TypeError for tokens that are not integers, ValueError for one out of range; where E is
    not on the host such a token's vector is NaN instead.
    """
    xp, E = operands(E=E)
    if E.ndim != 2:
        raise ValueError(f"expected E to be a matrix, got shape {tuple(E.shape)}")
    in_one_place(E=E, tokens=tokens)
    tokens, outside = in_range(as_indices(tokens, name="tokens"), E.shape[0], name="tokens")
    plain = array_namespace(tokens)
    rows = xp.take(E, plain.reshape(tokens, (-1,)), axis=0)
    rows = xp.reshape(rows, (*tokens.shape, E.shape[-1]))
    return (
        rows if outside is None else xp.where(plain.expand_dims(outside, axis=-1), math.nan, rows)
    )
