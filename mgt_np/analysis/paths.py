"""Attention without anything else, as a sum over paths through its heads.

A network of L attention layers maps X to Σ_h P_h X W_h + 1 bᵀ in each, so that its output is a sum
over paths (h_1, …, h_L) of one head a layer (Dong, Cordonnier & Loukas, 2103.03404, §2, as
secondary texts report it). A skip connection is one head more, number 0, with P_0 = W_0 = I.
Attention weights P and value maps W = W_V W_O are arguments: take the weights that the network
itself used. All layers have equally many heads and equally wide tokens.
"""

import math
from functools import reduce
from itertools import product

from mgt_np.arrays import array_namespace, layer


@layer
def head_maps(
    W_v: "d n_heads·d_v", W_o: "n_heads·d_v d_out", *, n_heads: "int ≥ 1"
) -> "n_heads d d_out":
    """Return the map of each head from token to output, W_V,h W_O,h.

    Heads are contiguous blocks, as in `multi_head_attention`. The biases of a layer make
    b = b_v W_o + b_o, since rows of P sum to one. The sum over heads is W_v W_o.
    """
    xp = array_namespace(W_v, W_o)
    (d, width), d_out = W_v.shape, W_o.shape[1]
    values = xp.permute_dims(xp.reshape(W_v, (d, n_heads, width // n_heads)), (1, 0, 2))
    return xp.matmul(values, xp.reshape(W_o, (n_heads, width // n_heads, d_out)))


@layer
def path_terms(
    X: "... N≥1 d≥1",
    P: "L ... H N N",
    W: "L≥1 H≥1 d d",
    *,
    skips: "bool" = False,
) -> "paths ... N d":
    """Return what each path through the heads adds to the output.

        P_path X W_path,    P_path = P^L_{h_L} ⋯ P^1_{h_1},    W_path = W^1_{h_1} ⋯ W^L_{h_L}

    The paths (h_1, …, h_L) are in lexical order with head 0 = skip first where `skips`: H^L or
    (H+1)^L of them, for small L only. Their sum plus 1 bᵀ, b from `path_bias`, is the output of the
    network.
    """
    xp = array_namespace(X, P, W)
    L, H = W.shape[:2]
    choices = range(-1, H) if skips else range(H)

    def step(term, layer_and_head):
        l, h = layer_and_head
        return term if h < 0 else _through(xp, term, P[l, ...], W[l, ...], h)

    terms = [reduce(step, enumerate(path), X) for path in product(choices, repeat=L)]
    return xp.stack(terms, axis=0)


@layer
def path_length_terms(
    X: "... N≥1 d≥1",
    P: "L ... H N N",
    W: "L≥1 H≥1 d d",
    *,
    skips: "bool" = True,
) -> "L+1 ... N d":
    """Return what all paths of each length add to the output: `path_terms`, summed by length.

        T_l = Σ P_path X W_path over the C(L, l) Hˡ paths with a head in l layers and skips in L − l

    for l = 0 … L. T_0 = X is the path that skips all. Without skips every path has length L and the
    other terms are zero. Layer by layer, at O(L² H) instead of O((H+1)^L), so that depth is no
    obstacle. `relative_residual` of the result says which lengths have lost their rank.
    """
    xp = array_namespace(X, P, W)
    L, H = W.shape[:2]
    nothing = xp.zeros_like(X)
    terms = [X]
    for l in range(L):
        heads = [
            reduce(xp.add, (_through(xp, term, P[l, ...], W[l, ...], h) for h in range(H)))
            for term in terms
        ]
        kept = [*terms, nothing] if skips else [nothing] * (len(terms) + 1)
        terms = [xp.add(old, new) for old, new in zip(kept, [nothing, *heads], strict=True)]
    return xp.stack(terms, axis=0)


@layer
def path_bias(W: "L≥1 H≥1 d d", b: "L d", *, skips: "bool" = False) -> "d":
    """Return the constant that biases add to every token of the output.

        b = Σ_l b_l ∏_{m>l} (Σ_h W^m_h + S),    S = I with skips, 0 without

    It is the same for every token since rows of P sum to one: a mask that lets a query attend to
    nothing breaks that. One layer gives b_1.
    """
    xp = array_namespace(W, b)
    total = xp.zeros_like(b[0, :])
    for l in range(W.shape[0]):
        through = xp.matmul(total, xp.sum(W[l, ...], axis=0))
        total = b[l, :] + (through + total if skips else through)
    return total


@layer
def path_count(n_layers: "int ≥ 0", n_heads: "int ≥ 0", length: "int ≥ 0"):
    """Return how many paths with skips take a head in `length` of the layers: C(L, l) Hˡ.

    Of all lengths together (H+1)^L; without skips all H^L have length L. An integer, however large.
    """
    return math.comb(n_layers, length) * n_heads**length


def _through(xp, X, P, W, h):
    """One head of one layer: P_h X W_h for P (..., H, N, N), W (H, d, d)."""
    return xp.matmul(P[..., h, :, :], xp.matmul(X, W[h, ...]))
