"""Sinkhorn's iteration as one node, with a gradient through the iteration or through its limit.

The matrices lie inside out, (n, m, tokens): rows are summed over axis 1, columns over axis 0.
"""

from mgt_np.arrays import device, largest, matrices_inside_out, matrices_outside_in
from mgt_np.layers.sinkhorn import normalized_in_turn


def forward(xp, logits, *, axes, softmax, eps, clamp, implicit):
    """As the equation, but at most two normalisations by logarithms.

    After the first one no entry is above 1, after the second none of the other sums is below 1/n:
    from then on nothing can overflow, nor a sum vanish.
    """
    if 0 in logits.shape or not axes:
        return None
    L = matrices_inside_out(xp, logits)
    places = [2 + axis for axis in axes]
    n_exact = min(2, len(places)) if eps == 0.0 else int(softmax)
    first = []
    for axis in places[:n_exact]:
        L = L - largest(xp, L, axis)
        L = L - xp.log(xp.sum(xp.exp(L), axis=axis, keepdims=True))
        first.append(xp.exp(L))
    M = first[-1] if first else xp.exp(L)
    if softmax and eps:
        M = M + eps
    totals = []
    for axis in places[n_exact:]:
        total = xp.sum(M, axis=axis, keepdims=True)
        if eps:
            total = xp.maximum(total, xp.full_like(total, eps)) if clamp else total + eps
        M = M / total
        totals.append(total)
    leading = logits.shape[:-2]
    result = matrices_outside_in(xp, M, leading)
    return result, (leading, M, places, first, totals, softmax, eps, clamp, implicit)


def backward(xp, g, leading, M, places, first, totals, softmax, eps, clamp, implicit):
    """With G = g ⊙ M, what log M's gradient is: log M = log M' − log Σ M' gives G' = G − M ⊙ ΣG."""
    G = matrices_inside_out(xp, g) * M
    if implicit:
        G = _through_the_limit(xp, G, M)
    else:
        n_exact = len(first)
        for axis, total in zip(reversed(places[n_exact:]), reversed(totals), strict=True):
            along = xp.sum(G, axis=axis, keepdims=True)
            if clamp:
                along = xp.where(total > eps, along, xp.zeros_like(along))
            G = G - M * along
            M = M * total
        if softmax and eps:
            G = G * (first[0] / M)
        for axis, M in zip(reversed(places[:n_exact]), reversed(first), strict=True):
            G = G - M * xp.sum(G, axis=axis, keepdims=True)
    return (matrices_outside_in(xp, G, leading),)


def _through_the_limit(xp, G, M):
    """G − M ⊙ (p 1ᵀ + 1 qᵀ), where p and q solve what keeps all sums at one:

        p + M q = G 1,    Mᵀ p + q = Gᵀ 1

    p is eliminated; q is known up to a constant, of which it has none.
    """
    n = M.shape[0]
    M, G = (xp.permute_dims(x, (2, 0, 1)) for x in (M, G))
    row_sums = xp.sum(G, axis=-1, keepdims=True)
    column_sums = xp.expand_dims(xp.sum(G, axis=-2), axis=-1)
    T = xp.matrix_transpose(M)
    # The last term keeps the matrix regular where M is a permutation to the last digit.
    spacing = 1.0 + 4.0 * n * float(xp.finfo(M.dtype).eps)
    eye = xp.eye(n, dtype=M.dtype, device=device(M))
    q = xp.linalg.solve(spacing * eye + 1.0 / n - xp.matmul(T, M), column_sums - T @ row_sums)
    p = row_sums - xp.matmul(M, q)
    return xp.permute_dims(G - M * (p + xp.matrix_transpose(q)), (1, 2, 0))


normalized_in_turn.fuse(forward, backward)
