"""A position-gated output projection: our reading of PG-OP (Cirrincione, 2604.23681).

Of the paper only the abstract could be read. It names the projection and its cost, below 1.6 % of
the plain one's parameters at BERT-base's size, and gives no formula. One gate for each head and
position, from a matrix (d, H), costs H/d = 12/768 = 1.5625 %. That this is what is meant is a
guess. Lesson 12.
"""

from mgt_np.arrays import array_namespace, layer
from mgt_np.arrays.initial import constants, normals

from .activations import sigmoid
from .linear import linear


@layer(n="positions", n_heads="heads", d_p="features of a position")
def position_gated_projection(
    z: "... n n_heads·d_k",
    positions: "#... n d_p",
    W_o: "n_heads·d_k d",
    W_g: "d_p n_heads≥1",
    b_o: "d | number" = None,
) -> "... n d":
    """Return the heads, each weighted by a gate that depends on the position, as one output.

        Oᵢ = Σ_h g_h(i) z_{h,i} W_O^h + b_o,    g(i) = σ(pᵢ W_g)        (our reading of PG-OP)

    z has its heads in contiguous blocks, as `multi_head_attention` joins them. W_g = 0 gives
    z W_o/2 + b_o. W_g has d_p H numbers to the H d_k d of W_o: H/d of them for d_p = H d_k.
    It does not make the heads recoverable from the sum: every token has heads of its own, and its
    gates, all positive, leave the rank of diag(g) W_o where it was (`head_null_space`).
    """
    xp = array_namespace(z, positions, W_o, W_g)
    gates = sigmoid(linear(positions, W_g))
    n_heads, width = gates.shape[-1], z.shape[-1]
    heads = xp.reshape(z, (*z.shape[:-1], n_heads, width // n_heads))
    gated = xp.reshape(heads * xp.expand_dims(gates, axis=-1), z.shape)
    return linear(gated, W_o, b_o)


@layer
def init_position_gated_projection(
    rng: "generator",
    d: "int ≥ 1",
    n_heads: "int ≥ 1",
    *,
    d_position: "int ≥ 1" = None,
    scale: "'lecun' | float ≥ 0" = "lecun",
    bias: "bool" = True,
    dtype: "dtype" = "float64",
):
    """Return W_o (d, d), W_g (d_position, n_heads) from N(0, scale²), and a zero bias if wanted.

    `d_position` is d unless given: W_g then has H/d of W_o's size. NumPy arrays. The paper's
    initial values could not be read; ours let gates differ between heads from the start.
    """
    d_p = d if d_position is None else d_position
    params = normals(rng, scale, dtype, W_o=(d, d), W_g=(d_p, n_heads))
    return params | constants(0.0, dtype, b_o=d) if bias else params
