"""MGT's other readings: v1's projection, and exact tangent spaces beside the soft gate.

The paper (2601.01014) calls its gate a soft stand-in for a projection on the tangent space at x; of
which manifold, nothing that we could read says. Two readings that can be computed: the sphere on
which x lies, and the plane that fits the tokens around x best (`local_tangent_basis`).
"""

from mgt_np.arrays import operands
from mgt_np.arrays.checks import at_least, same_size


def projected_update(x, v, beta, alpha, *, onto):
    """Erase a part of the state along a direction u, and write the rectified output.

        x' = x + β ⊙ (v − α Proj_u(x)),    Proj_u(x) = u (uᵀx)/‖u‖²               (MGT v1)

    as secondary texts report it, who write Proj_x and do not say which space that is. `onto` is u:
    x itself, which is `geometric_update`; v, which erases along what is written; or a learnt
    direction k, as in the delta rule.
    Shapes: x, v, u (..., d); β (..., 1), (..., d) or a number; α a number, 0-d, (1) or (d). A zero
    u projects onto nothing. β = α = 1 overwrites the part along u: uᵀx' = uᵀv. Raises ValueError
    where widths disagree.
    """
    _, x, v, beta, alpha, u = operands(x=x, v=v, beta=beta, alpha=alpha, onto=onto)
    at_least(1, x=x, v=v, onto=u)
    d = x.shape[-1]
    same_size("features", x=d, v=v.shape[-1], onto=u.shape[-1])
    for name, factor in (("beta", beta), ("alpha", alpha)):
        if not isinstance(factor, int | float) and factor.ndim and factor.shape[-1] not in (1, d):
            raise ValueError(
                f"expected {name} to have 1 or {d} features, got shape {tuple(factor.shape)}"
            )
    return x + beta * (v - alpha * _along(u, x))


def sphere_tangent(x, v):
    """Project v on the tangent space of the sphere ‖x‖ = const at x.

        P_x v = v − x (xᵀv)/‖x‖²

    Exact, idempotent, and orthogonal to x. Shapes: x, v (..., d); result (..., d). At x = 0, which
    is no sphere, v is left as it is. P_x x = 0. A v of random direction loses 1/d of its energy.
    Raises ValueError where widths disagree.
    """
    _, x, v = operands(x=x, v=v)
    at_least(1, x=x, v=v)
    same_size("features", x=x.shape[-1], v=v.shape[-1])
    return v - _along(x, v)


def tangent_projection(v, basis):
    """Project v on the space that the columns of T span:  P v = T (Tᵀ v).

    Shapes: v (..., d), T (..., d, r) with orthonormal columns; result (..., d). Idempotent;
    r = d leaves v as it is. A v of random direction keeps r/d of its energy. Raises ValueError
    where widths disagree.
    """
    xp, v, T = operands(v=v, basis=basis)
    at_least(1, v=v)
    at_least(2, basis=T)
    same_size("features", v=v.shape[-1], basis=T.shape[-2])
    inside = xp.matmul(xp.matrix_transpose(T), xp.expand_dims(v, axis=-1))
    return xp.squeeze(xp.matmul(T, inside), axis=-1)


def _along(u, x):
    """u (uᵀx)/‖u‖², 0 for u = 0."""
    xp, u, x = operands(u=u, x=x)
    square = xp.sum(u * u, axis=-1, keepdims=True)
    return u * (xp.sum(u * x, axis=-1, keepdims=True) / xp.where(square == 0.0, 1.0, square))
