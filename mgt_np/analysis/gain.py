"""How much do mixing matrices let a signal, or its gradient, grow? Gains of one layer and of many.

`H` is (..., n, n), oriented so that a layer makes H X of n streams X. mHC (2512.24880) measures the
largest row sum for the signal and the largest column sum for the gradient.
"""

from typing import Any, NamedTuple

from mgt_np.arrays import array_namespace, layer


class Gain(NamedTuple):
    """What a mixing matrix does to the signal and to its gradient: two arrays (...)."""

    forward: Any
    backward: Any


@layer(n="streams")
def amax_gain(H: "... n≥1 n") -> "Gain of ...":
    """Return the Amax Gain Magnitude of mixing matrices.

        forward = maxᵢ |Σⱼ Hᵢⱼ|,    backward = maxⱼ |Σᵢ Hᵢⱼ|                (mHC)

    Both are ≥ 0, and 1 for doubly stochastic matrices and products of them. Of equal streams the
    forward gain is the factor by which the largest grows; others can grow by more, up to ‖H‖₂.
    """
    xp, rows, columns = _sums(H)
    return Gain(xp.max(rows, axis=-1), xp.max(columns, axis=-1))


@layer(n="streams")
def amin_gain(H: "... n≥1 n") -> "Gain of ...":
    """Return the least factor by which equal streams and gradients grow (`amax_gain`: the largest).

        forward = minᵢ |Σⱼ Hᵢⱼ|,    backward = minⱼ |Σᵢ Hᵢⱼ|

    Limits as in `amax_gain`. Only this measure shows a signal that is lost. Ours.
    """
    xp, rows, columns = _sums(H)
    return Gain(xp.min(rows, axis=-1), xp.min(columns, axis=-1))


@layer(n="streams")
def composite_mixing(H: "L≥1 ... n≥1 n", *, backward: "bool" = False) -> "L ... n n":
    """Return the products of the mixing matrices of a stack of layers, one for each layer.

        P_l = H_l H_{l−1} ⋯ H_1,  or with `backward`  Q_l = H_L H_{L−1} ⋯ H_l       (mHC, eq. 4)

    for l = 1 … L, the first layer first. `amax_gain` of it is the composite gain. P_L = Q_1 is the
    mixing of the whole stack.
    """
    xp = array_namespace(H)
    layers = list(xp.unstack(H, axis=0))
    if backward:
        layers.reverse()
    products = layers[:1]
    for mixing in layers[1:]:
        last = products[-1]
        products.append(xp.matmul(last, mixing) if backward else xp.matmul(mixing, last))
    if backward:
        products.reverse()
    return xp.stack(products, axis=0)


def _sums(H):
    xp = array_namespace(H)
    return xp, xp.abs(xp.sum(H, axis=-1)), xp.abs(xp.sum(H, axis=-2))
