"""The delta rule over a sequence: Deep Delta Learning's update along time instead of depth.

A state of keys and values is overwritten token by token (Schlag et al., 2102.11174); gated
(Yang et al., Gated DeltaNet, 2412.06464), and with several steps a token (Siems et al.,
DeltaProduct, 2502.10297). Two forms of one operator: token by token, and in chunks.
"""

import operator

from mgt_np.arrays import device, operands
from mgt_np.arrays.checks import at_least, one_of

from .delta import delta_update

FORMS = ("chunked", "recurrent")


def delta_rule(
    q,
    k,
    v,
    beta,
    log_alpha=None,
    initial_state=None,
    *,
    scale=1.0,
    form="chunked",
    chunk_size=64,
    with_state=False,
):
    """Read a sequence into a state by the delta rule, and answer a query after each token.

        S_t = α_t (I − β_t k_t k_tᵀ) S_{t−1} + β_t k_t v_tᵀ,    o_t = scale · S_tᵀ q_t

    Rows of S are keys, columns values, as in `delta_update`: S_t is `delta_update` of α_t S_{t−1}.
    Without `log_alpha` α = 1 (DeltaNet); with it α = exp(log_alpha), as a decay in (0, 1] is best
    kept. Where k, v, β have one axis more, a token makes n steps, one after the other, and decays
    once, before them: DeltaProduct, whose state map is a product of n Delta Operators.
    Shapes: q (..., T, d_k), k (..., T, d_k) or (..., T, n, d_k), v (..., T, d_v) or
    (..., T, n, d_v), β (..., T) in [0, 2] or (..., T, n), log_alpha (..., T), initial_state
    (..., d_k, d_v), zero by default; T ≥ 1 and one set of leading axes; result (..., T, d_v), and
    S_T too for `with_state=True`. k is used as it is: make it a unit vector by `unit_direction`.
    `scale` has no default of the papers; flash-linear-attention scales by d_k^(−1/2).

    form="recurrent" is the equation, T steps; form="chunked" takes `chunk_size` tokens at once.
    With γ_r = α_1 ⋯ α_r, within a chunk that starts from S,

        S_r = γ_r S + Σ_{i≤r} (γ_r/γ_i) k_i u_iᵀ,
        (I + diag(β) tril(Γ ⊙ KKᵀ, −1)) U = diag(β) (V − diag(γ) K S),    Γ_ri = γ_r/γ_i,
        O = diag(γ) Q S + tril(Γ ⊙ QKᵀ) U,

    the compact WY form of `delta_product` with values. Both give the same, for any chunk size; the
    state's map with v = 0 and α = 1 is `delta_product`. Token t does not see later ones.
    Raises ValueError where shapes disagree or `form` is unknown.
    """
    one_of(FORMS, form=form)
    arrays = {"q": q, "k": k, "v": v, "beta": beta, "log_alpha": log_alpha}
    xp, q, k, v, beta, log_alpha, S = operands(**arrays, initial_state=initial_state)
    at_least(2, q=q, k=k, v=v)
    _check_shapes(q, k, v, beta, log_alpha, S)
    if k.ndim == q.ndim:
        k, v, beta = (xp.expand_dims(x, axis=q.ndim - 1) for x in (k, v, beta))
    if form == "recurrent":
        o, S = _recurrent(xp, q, k, v, beta, log_alpha, S)
    else:
        if not hasattr(chunk_size, "__index__") or chunk_size < 1:
            raise ValueError(f"expected chunk_size to be an integer ≥ 1, got {chunk_size!r}")
        o, S = _chunked(xp, q, k, v, beta, log_alpha, S, operator.index(chunk_size))
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
    *leading, T, n, d_k = k.shape
    size = min(size, T)
    n_chunks, n_steps = -(-T // size), size * n

    def in_chunks(x, n_rows, *axes):
        """(..., T, …) as (..., chunks, rows of a chunk, *axes), zeros after the last token."""
        missing = n_chunks * size - T
        if missing:
            at = len(leading)
            shape = (*leading, missing, *x.shape[at + 1 :])
            x = xp.concat([x, xp.zeros(shape, dtype=x.dtype, device=device(x))], axis=at)
        return xp.reshape(x, (*leading, n_chunks, n_rows, *axes))

    Q = in_chunks(q, size, d_k)
    K = in_chunks(k, n_steps, d_k)
    V = in_chunks(v, n_steps, v.shape[-1])
    b = in_chunks(beta, n_steps, 1)

    steps, tokens = xp.arange(n_steps, device=device(q)), xp.arange(size, device=device(q))
    # A token's query sees the steps of all tokens up to its own.
    seen = xp.expand_dims(tokens, axis=1) >= xp.expand_dims(steps, axis=0) // n
    inner = xp.tril(xp.matmul(K, xp.matrix_transpose(K)), k=-1)
    read = xp.where(seen, xp.matmul(Q, xp.matrix_transpose(K)), 0.0)
    K_in, K_out = K, K
    if log_alpha is not None:
        log_gamma = xp.cumulative_sum(in_chunks(log_alpha, size), axis=-1)
        of_steps = xp.repeat(log_gamma, n, axis=-1) if n > 1 else log_gamma
        column, row = xp.expand_dims(of_steps, axis=-1), xp.expand_dims(of_steps, axis=-2)
        of_tokens = xp.expand_dims(log_gamma, axis=-1)
        last = log_gamma[..., -1:]
        # Above the diagonal γ_r/γ_i may overflow, and is not needed.
        inner = inner * xp.exp(xp.tril(column - row))
        read = read * xp.exp(xp.where(seen, of_tokens - row, 0.0))
        K_in = K * xp.exp(column)
        K_out = K * xp.exp(xp.expand_dims(last, axis=-1) - column)
        Q = Q * xp.exp(of_tokens)
        kept = xp.unstack(xp.expand_dims(xp.exp(last), axis=-1), axis=-3)
    eye = xp.eye(n_steps, dtype=q.dtype, device=device(q))
    T_b = xp.linalg.solve(xp.add(eye, b * inner), xp.multiply(eye, xp.matrix_transpose(b)))
    U, W, K_out = xp.matmul(T_b, V), xp.matmul(T_b, K_in), xp.matrix_transpose(K_out)

    pieces = (xp.unstack(x, axis=-3) for x in (U, W, Q, K_out, read))
    outputs = []
    for c, (u, w, queries, keys, to_read) in enumerate(zip(*pieces, strict=True)):
        if S is None:
            outputs.append(xp.matmul(to_read, u))
            S = xp.matmul(keys, u)
            continue
        u = u - xp.matmul(w, S)
        outputs.append(xp.matmul(queries, S) + xp.matmul(to_read, u))
        before = S if log_alpha is None else S * kept[c]
        S = before + xp.matmul(keys, u)
    o = outputs[0] if n_chunks == 1 else xp.concat(outputs, axis=-2)
    return (o if n_chunks * size == T else o[..., :T, :]), S


def _check_shapes(q, k, v, beta, log_alpha, S):
    """Raise ValueError unless all have the tokens, steps and features that q and k say."""
    tokens, steps = tuple(q.shape[:-1]), tuple(k.shape[q.ndim - 1 : -1])
    if len(steps) > 1 or tokens[-1] < 1:
        raise ValueError(
            f"expected q (..., T, d_k) with T ≥ 1 and k (..., T, d_k) or (..., T, n, d_k), "
            f"got {tuple(q.shape)} and {tuple(k.shape)}"
        )
    expected = {
        "k": (k, (*tokens, *steps, q.shape[-1])),
        "v": (v, (*tokens, *steps, v.shape[-1])),
        "beta": (beta, (*tokens, *steps)),
        "log_alpha": (log_alpha, tokens),
        "initial_state": (S, (*tokens[:-1], q.shape[-1], v.shape[-1])),
    }
    for name, (x, shape) in expected.items():
        if x is not None and tuple(x.shape) != shape:
            raise ValueError(
                f"expected {name} to have shape {shape} where q has {tuple(q.shape)} "
                f"and k {tuple(k.shape)}, got {tuple(x.shape)}"
            )
