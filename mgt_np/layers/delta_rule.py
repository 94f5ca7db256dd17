"""The delta rule over a sequence: Deep Delta Learning's update along time instead of depth.

A state of keys and values is overwritten token by token (Schlag et al., 2102.11174); gated
(Yang et al., Gated DeltaNet, 2412.06464), and with several steps a token (Siems et al.,
DeltaProduct, 2502.10297). Two forms of one operator: token by token, and in chunks. Lesson 05.
"""

import math

from mgt_np.arrays import array_namespace, device, layer

from .delta import delta_update


def _as_many_steps(k, v, beta, **_):
    """k, v and β all have an axis of steps, or none of them."""
    if not k.ndim == v.ndim == beta.ndim + 1:
        return (
            "expected k, v and beta with one axis for the steps of a token, or all without, "
            f"got shapes {tuple(k.shape)}, {tuple(v.shape)} and {tuple(beta.shape)}"
        )
    return None


@layer(requires=_as_many_steps, T="tokens", n="steps", d_k="key features", d_v="value features")
def delta_rule(
    q: "... T≥1 d_k",
    k: "... T d_k | ... T n≥1 d_k",
    v: "... T d_v | ... T n d_v",
    beta: "... T | ... T n",
    log_alpha: "... T" = None,
    initial_state: "... d_k d_v" = None,
    *,
    scale: "float" = 1.0,
    form: "'chunked' | 'recurrent'" = "chunked",
    chunk_size: "int ≥ 1" = 64,
    with_state: "bool" = False,
) -> "... T d_v":
    """Return the answers to a query after each token, from a state that the delta rule writes.

        S_t = α_t (I − β_t k_t k_tᵀ) S_{t−1} + β_t k_t v_tᵀ,    o_t = scale · S_tᵀ q_t

    Heads, if any, are leading axes: they come before the tokens. S is keys × values, zero at first
    unless `initial_state` is given; as in `delta_update`, S_t is `delta_update` of α_t S_{t−1}.
    Without `log_alpha` α = 1 (DeltaNet); with it α = exp(log_alpha), as a decay in [0, 1] is best
    kept: log_alpha = −∞ empties the state, as at the start of a document. Where k, v, β have an
    axis of n steps after the tokens', a token makes n steps, one after the other, and decays once,
    before them: DeltaProduct, whose state map is a product of n Delta Operators. k is used as it
    is: make it a unit vector by `unit_direction`; β is in [0, 2]. The papers give `scale` no
    default; flash-linear-attention scales by d_k^(−1/2). `with_state=True` returns S_T too.

    form="recurrent" is the equation, T steps; form="chunked" takes `chunk_size` tokens at once.
    With γ_r = α_1 ⋯ α_r, within a chunk that starts from S,

        S_r = γ_r S + Σ_{i≤r} Γ_ri k_i u_iᵀ,    Γ_ri = γ_r/γ_i = α_{i+1} ⋯ α_r,
        (I + diag(β) tril(Γ ⊙ KKᵀ, −1)) U = diag(β) (V − diag(γ) K S),
        O = diag(γ) Q S + tril(Γ ⊙ QKᵀ) U,

    the compact WY form of `delta_product` with values. Both give the same, for any chunk size and
    any decay, 0 too: to 1e-12 in float64 for outputs of order 1. The state's map with v = 0 and
    α = 1 is `delta_product`. Token t does not see later ones.
    """
    xp = array_namespace(q, k, v, beta, log_alpha, initial_state)
    if k.ndim == q.ndim:
        k, v, beta = (xp.expand_dims(x, axis=q.ndim - 1) for x in (k, v, beta))
    if form == "recurrent":
        o, S = _recurrent(xp, q, k, v, beta, log_alpha, initial_state)
    else:
        o, S = _chunked(xp, q, k, v, beta, log_alpha, initial_state, chunk_size)
    o = o * scale
    return (o, S) if with_state else o


def _recurrent(xp, q, k, v, beta, log_alpha, S):
    if S is None:
        shape = (*q.shape[:-2], q.shape[-1], v.shape[-1])
        S = xp.zeros(shape, dtype=q.dtype, device=device(q))
    outputs = []
    for t in range(q.shape[-2]):
        if log_alpha is not None:
            alpha = xp.reshape(xp.exp(log_alpha[..., t]), (*q.shape[:-2], 1, 1))
            S = xp.multiply(S, alpha)
        for j in range(k.shape[-2]):
            S = delta_update(S, k[..., t, j, :], v[..., t, j, :], beta[..., t, j])
        outputs.append(xp.matmul(q[..., t : t + 1, :], S))
    return xp.concat(outputs, axis=-2), S


def _chunked(xp, q, k, v, beta, log_alpha, S, size):
    """Rows of a chunk are its steps, n a token; only the state goes from chunk to chunk."""
    *leading, T, n, _ = k.shape
    size, axis = min(size, T), len(leading)

    def chunks_of_steps(x):
        x = xp.reshape(x, (*leading, T * n, math.prod(x.shape[axis + 2 :])))
        return _in_chunks(xp, x, axis, size * n)

    K, V, b = map(chunks_of_steps, (k, v, beta))
    Q = _in_chunks(xp, q, axis, size)
    if log_alpha is not None:
        log_alpha = _in_chunks(xp, log_alpha, axis, size)
    o, S = _from_chunk_to_chunk(xp, *_within_chunks(xp, Q, K, V, b, log_alpha, n), S)
    return o[..., :T, :], S


def _in_chunks(xp, x, axis, n_rows):
    """(..., rows, …) as (..., chunks, n_rows, …), with zeros after the last row."""
    *leading, n = x.shape[: axis + 1]
    rest = x.shape[axis + 1 :]
    missing = -n % n_rows
    if missing:
        zeros = xp.zeros((*leading, missing, *rest), dtype=x.dtype, device=device(x))
        x = xp.concat([x, zeros], axis=axis)
    return xp.reshape(x, (*leading, (n + missing) // n_rows, n_rows, *rest))


def _within_chunks(xp, Q, K, V, b, log_alpha, n):
    """What does not need the state: T V, T γ K, γ Q, (γ_last/γ) K, Γ ⊙ QKᵀ and γ_last."""
    n_steps, n_tokens = K.shape[-2], Q.shape[-2]
    KT = xp.matrix_transpose(K)
    earlier = xp.tril(xp.matmul(K, KT), k=-1)
    read = xp.where(_seen(xp, n_tokens, n, device(K)), xp.matmul(Q, KT), 0.0)
    K_in, K_out, kept = K, K, None
    if log_alpha is not None:
        gamma, ratio = _decays(xp, log_alpha)
        gamma = xp.expand_dims(gamma, axis=-1)
        ratio = xp.repeat(ratio, n, axis=-1)  # a column for each step
        earlier, read = earlier * xp.repeat(ratio, n, axis=-2), read * ratio
        K_in = K * xp.repeat(gamma, n, axis=-2)
        K_out = K * xp.expand_dims(ratio[..., -1, :], axis=-1)
        Q, kept = Q * gamma, gamma[..., -1:, :]
    eye = xp.eye(n_steps, dtype=K.dtype, device=device(K))
    T = xp.linalg.solve(xp.add(eye, b * earlier), xp.multiply(eye, xp.matrix_transpose(b)))
    return xp.matmul(T, V), xp.matmul(T, K_in), Q, xp.matrix_transpose(K_out), read, kept


def _seen(xp, n_tokens, n, device):
    """Whether a token's query sees a step: those of all tokens up to its own."""
    tokens = xp.arange(n_tokens, device=device)
    steps = xp.arange(n_tokens * n, device=device) // n
    return xp.expand_dims(tokens, axis=1) >= xp.expand_dims(steps, axis=0)


def _decays(xp, log_alpha):
    """γ_r = α_1 ⋯ α_r, and γ_r/γ_i = α_{i+1} ⋯ α_r for i ≤ r.

    Sums, not differences of sums: those would be ∞ − ∞ behind α = 0, and lose the digits of what
    comes behind a large |log α|.
    """
    n = log_alpha.shape[-1]
    place = xp.arange(n, device=device(log_alpha))
    later = xp.expand_dims(place, axis=1) > xp.expand_dims(place, axis=0)
    terms = xp.where(later, xp.expand_dims(log_alpha, axis=-1), 0.0)
    ratio = xp.exp(xp.cumulative_sum(terms, axis=-2))
    return xp.exp(xp.cumulative_sum(log_alpha, axis=-1)), ratio


def _from_chunk_to_chunk(xp, U, W, Q, K, read, kept, S):
    """The outputs of all chunks, one after the other, and the last state."""
    pieces = [xp.unstack(x, axis=-3) for x in (U, W, Q, K, read)]
    kept = [None] * len(pieces[0]) if kept is None else xp.unstack(kept, axis=-3)
    outputs = []
    for u, w, queries, keys, to_read, part in zip(*pieces, kept, strict=True):
        if S is None:
            outputs.append(xp.matmul(to_read, u))
            S = xp.matmul(keys, u)
            continue
        u = u - xp.matmul(w, S)
        outputs.append(xp.matmul(queries, S) + xp.matmul(to_read, u))
        S = (S if part is None else S * part) + xp.matmul(keys, u)
    return (outputs[0] if len(outputs) == 1 else xp.concat(outputs, axis=-2)), S
