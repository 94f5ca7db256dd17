"""How much do mixing matrices let a signal, or its gradient, grow? Gains of one layer and of many.

`H` is (..., n, n), oriented so that a layer makes H X of n streams X. mHC (2512.24880) measures the
largest row sum for the signal and the largest column sum for the gradient.
"""

from typing import Any, NamedTuple

from mgt_np.arrays import operands


class Gain(NamedTuple):
    """What a mixing matrix does to the signal and to its gradient: two arrays (...)."""

    forward: Any
    backward: Any


def amax_gain(H):
    """Return the Amax Gain Magnitude of mixing matrices.

        forward = maxᵢ |Σⱼ Hᵢⱼ|,    backward = maxⱼ |Σᵢ Hᵢⱼ|                (mHC)

    Shapes: H (..., n, n); result (forward, backward), each (...) ≥ 0. Both are 1 for doubly
    stochastic matrices, and for products of them. Of equal streams the forward gain is what the
    largest becomes; others can grow by more, up to ‖H‖₂. Raises ValueError for other shapes.
    """
    xp, rows, columns = _sums(H)
    return Gain(xp.max(rows, axis=-1), xp.max(columns, axis=-1))


def amin_gain(H):
    """Return the least that becomes of equal streams and gradients, where `amax_gain` is the most.

        forward = minᵢ |Σⱼ Hᵢⱼ|,    backward = minⱼ |Σᵢ Hᵢⱼ|

    Shapes and limits as in `amax_gain`. A signal that is lost shows here alone. Ours.
    """
    xp, rows, columns = _sums(H)
    return Gain(xp.min(rows, axis=-1), xp.min(columns, axis=-1))


def composite_mixing(H, *, backward=False):
    """Multiply the mixing matrices of a stack of layers, as the state or the gradient meets them.

        P_l = H_l H_{l−1} ⋯ H_1,  or with `backward`  Q_l = H_L H_{L−1} ⋯ H_l       (mHC, eq. 4)

    Shapes: H (L, ..., n, n), the first layer first; result alike, for l = 1 … L. `amax_gain` of it
    is the composite gain. P_L = Q_1 is what the whole stack does. Raises ValueError for another
    shape.
    """
    xp, H = _matrices(H)
    if H.ndim < 3 or not H.shape[0]:
        raise ValueError(f"expected H to have shape (L, ..., n, n), got {tuple(H.shape)}")
    layers = list(xp.unstack(H, axis=0))
    if backward:
        layers.reverse()
    products = layers[:1]
    for layer in layers[1:]:
        last = products[-1]
        products.append(xp.matmul(last, layer) if backward else xp.matmul(layer, last))
    if backward:
        products.reverse()
    return xp.stack(products, axis=0)


def _sums(H):
    xp, H = _matrices(H)
    return xp, xp.abs(xp.sum(H, axis=-1)), xp.abs(xp.sum(H, axis=-2))


def _matrices(H):
    xp, H = operands(H=H)
    if H.ndim < 2 or H.shape[-1] != H.shape[-2] or not H.shape[-1]:
        raise ValueError(f"expected H to have shape (..., n, n), got {tuple(H.shape)}")
    return xp, H
