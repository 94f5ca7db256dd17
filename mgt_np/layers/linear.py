"""The affine map, and the look-up of token vectors."""

import math

from mgt_np.arrays import array_namespace, layer
from mgt_np.arrays.indices import as_indices, inside, out_of_range
from mgt_np.arrays.initial import constants, normals


@layer(d_in="features", d_out="outputs")
def linear(x: "... d_in", W: "d_in d_out", b: "d_out | number" = None) -> "... d_out":
    """Return x W + b, an affine map of each row vector.

    With W = I and no b it is the identity.
    """
    xp = array_namespace(x, W, b)
    y = xp.matmul(x, W)
    return y if b is None else y + b


@layer
def init_linear(
    rng: "generator",
    d_in: "int ≥ 1",
    d_out: "int ≥ 1",
    *,
    scale: "'lecun' | float ≥ 0" = "lecun",
    bias: "bool" = True,
    dtype: "dtype" = "float64",
):
    """Return W (d_in, d_out) from N(0, scale²) and, unless `bias=False`, b = 0, as NumPy arrays."""
    params = normals(rng, scale, dtype, W=(d_in, d_out))
    return params | constants(0.0, dtype, b=d_out) if bias else params


def _tokens_in_range(tokens, E):
    return out_of_range(as_indices(tokens), E.shape[0], name="tokens")


@layer(requires_values=_tokens_in_range, d="features")
def embedding(tokens: "int ...", E: "vocab≥1 d") -> "... d":
    """Return the vector of each token: row t of E for token t in [0, vocab).

    It is the one-hot encoding of the tokens times E.
    Raises ValueError for a token out of range; where E is not on the host its vector is NaN.
    """
    xp, plain = array_namespace(E), array_namespace(tokens)
    tokens, outside = inside(as_indices(tokens), E.shape[0])
    rows = xp.take(E, plain.reshape(tokens, (-1,)), axis=0)
    rows = xp.reshape(rows, (*tokens.shape, E.shape[-1]))
    if outside is None:
        return rows
    return xp.where(plain.expand_dims(outside, axis=-1), math.nan, rows)
