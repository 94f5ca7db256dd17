"""MGT's other readings: v1's projection, and exact tangent spaces beside the soft gate.

The paper (2601.01014) calls its gate a soft stand-in for a projection on the tangent space at x; of
which manifold, nothing that we could read says. Two readings that can be computed: the sphere on
which x lies, and the plane that fits the tokens around x best (`local_tangent_basis`). Lesson 07.
"""

from mgt_np.arrays import array_namespace, layer, magnitude


@layer(d="features")
def projected_update(
    x: "... d≥1",
    v: "... d",
    beta: "number | #... 1 | #... d",
    alpha: "number | 1 | d",
    *,
    onto: "#... d",
) -> "... d":
    """Return the state after its part along a direction u is erased and the output is written.

        x' = x + β ⊙ (v − α Proj_u(x)),    Proj_u(x) = u (uᵀx)/‖u‖²               (MGT v1)

    as secondary texts report it, who write Proj_x and do not say which space that is. `onto` is u:
    x itself, which is `geometric_update`; v, which erases along what is written; or a learnt
    direction k, as in the delta rule. The length of u does not matter, and a zero u projects onto
    nothing. β = α = 1 overwrites the part along u: uᵀx' = uᵀv.
    """
    return x + beta * (v - alpha * _along(onto, x))


@layer(d="features")
def sphere_tangent(x: "... d≥1", v: "... d") -> "... d":
    """Return the part of v in the tangent space of the sphere ‖x‖ = const at x.

        P_x v = v − x (xᵀv)/‖x‖²

    Exact, idempotent, and orthogonal to x, whose length does not matter. At x = 0, which is no
    sphere, v is left as it is. P_x x = 0. A v of random direction loses 1/d of its energy.
    """
    return v - _along(x, v)


@layer(d="features", r="tangent directions")
def tangent_projection(v: "... d", basis: "#... d r") -> "... d":
    """Return the part of v in the space that the columns of T, the `basis`, span.

        P v = T (Tᵀ v)

    The columns are orthonormal. Idempotent; r = d leaves v as it is. A v of random direction keeps
    r/d of its energy.
    """
    xp = array_namespace(v, basis)
    inside = xp.matmul(xp.matrix_transpose(basis), xp.expand_dims(v, axis=-1))
    return xp.squeeze(xp.matmul(basis, inside), axis=-1)


def _along(u, x):
    """u (uᵀx)/‖u‖², 0 for u = 0."""
    xp = array_namespace(u, x)
    u = u / magnitude(u, axis=-1)
    square = xp.sum(u * u, axis=-1, keepdims=True)
    return u * (xp.sum(u * x, axis=-1, keepdims=True) / xp.where(square == 0.0, 1.0, square))
