"""Gradients with a quantity held: what a `detach` in the wrong place leaves of them.

Each entry computes the layer with the named quantity as a constant. The values stay the layer's.
"""

from mgt_np import array_namespace, layers
from mgt_np.arrays import held


def _softmax_sum(x, **options):
    xp = array_namespace(x)
    e = xp.exp(x - xp.max(held(x), axis=-1, keepdims=True))
    return e / held(xp.sum(e, axis=-1, keepdims=True))


def _norm(x, gain=None, bias=None, *, mean=False, variance=False, eps=1e-5, **_):
    xp = array_namespace(x)
    mu = xp.mean(x, axis=-1, keepdims=True)
    centred = x - (held(mu) if mean else mu)
    v = xp.mean(centred * centred, axis=-1, keepdims=True)
    y = centred / xp.sqrt((held(v) if variance else v) + eps)
    y = y if gain is None else y * gain
    return y if bias is None else y + bias


def _attention_weights(q, k, v, **options):
    xp = array_namespace(q)
    weights = layers.attention_weights(q, k, **options)
    return xp.matmul(held(weights), v)


def _direction(k, *, eps=1e-5, placement="inside"):
    xp = array_namespace(k)
    length = held(xp.sqrt(xp.sum(k * k, axis=-1, keepdims=True)))
    if placement == "outside":
        return k / (length + eps)
    return k / xp.sqrt(length * length + eps * eps)


def _read_along(X, k, v, beta):
    xp = array_namespace(X, k, v)
    column = xp.expand_dims(k, axis=-1)
    read = held(xp.sum(column * X, axis=-2, keepdims=True))
    step = xp.expand_dims(beta, axis=(-2, -1))
    return X + step * column * (xp.expand_dims(v, axis=-2) - read)


def _last_iteration(logits, *, n_iters=20, **_):
    if n_iters == 0:
        return array_namespace(logits).exp(logits)
    xp = array_namespace(logits)
    before = xp.log(layers.sinkhorn(held(logits), n_iters=n_iters - 1))
    return layers.sinkhorn(logits + held(before - held(logits)), n_iters=1)


def _sinkhorn_sums(logits, *, n_iters=20, **_):
    xp = array_namespace(logits)
    P = xp.exp(logits)
    for _i in range(n_iters):
        P = P / held(xp.sum(P, axis=-2, keepdims=True))
        P = P / held(xp.sum(P, axis=-1, keepdims=True))
    return P


def _gate_held(x, v_raw, W_gate, W_beta, b_beta, alpha, gain=None, bias=None, *, lam, eps):
    gate = held(layers.tangent_gate(x, W_gate, gain, bias))
    beta = layers.mgt_beta(x, W_beta, b_beta, lam=lam, eps=eps)
    return layers.geometric_update(x, v_raw * gate, beta, alpha)


def _beta_held(x, v_raw, W_gate, W_beta, b_beta, alpha, gain=None, bias=None, *, lam, eps):
    gate = layers.tangent_gate(x, W_gate, gain, bias)
    beta = held(layers.mgt_beta(x, W_beta, b_beta, lam=lam, eps=eps))
    return layers.geometric_update(x, v_raw * gate, beta, alpha)


def _ddl(x, k, *weights, hold, context=None, v_input=None, **options):
    u = x if v_input is None else v_input
    given = {"context": context, "v_input": u, **options}
    k, beta, v = layers.deep_delta_coefficients(k, *weights, **given)
    xp = array_namespace(x)
    k = held(k) if hold == "k" else k
    beta = held(beta) if hold == "beta" else beta
    v = held(v) if hold == "v" else v
    error = v - xp.sum(k * x, axis=-1, keepdims=True)
    return x + xp.expand_dims(beta, axis=-1) * error * k


def _ddl_with(hold):
    def compute(x, k, W_v, W_beta, b_v=None, b_beta=None, **options):
        return _ddl(x, k, W_v, W_beta, b_v, b_beta, hold=hold, **options)

    return compute


def _mhc_norm_held(X, params, *, convention="paper", n_iters=None):
    """The RMS norm's denominator as a constant: φ x/r with r held."""
    from mgt_np.layers.mhc_conventions import convention_row

    row = convention_row(convention, n_iters)
    xp = array_namespace(X)
    n, d = X.shape[-2:]
    x = xp.reshape(X, (*X.shape[:-2], n * d))
    r = held(xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + row.norm_eps))
    x = x / r if params.get("gain") is None else x / r * params["gain"]
    z = {part: xp.matmul(x, params[f"phi_{part}"]) for part in ("pre", "post", "res")}
    b = {part: xp.reshape(params[f"b_{part}"], (-1,)) for part in z}
    logits = {part: params[f"alpha_{part}"] * z[part] + b[part] for part in z}
    H = row.pre_gate(logits["pre"]), row.post_gate(logits["post"])
    return (*H, row.mix(logits["res"], n))


CUTS = {
    "softmax": {"the sum": _softmax_sum},
    "layer_norm": {
        "mean and variance": lambda **a: _norm(**a, mean=True, variance=True),
        "the variance": lambda **a: _norm(**a, variance=True),
        "the mean": lambda **a: _norm(**a, mean=True),
    },
    "scaled_dot_product_attention": {"the attention weights": _attention_weights},
    "unit_direction": {"the norm": _direction},
    "delta_update": {"what is read along k": _read_along},
    "deep_delta_residual": {
        "the direction k̂": _ddl_with("k"),
        "the gate β": _ddl_with("beta"),
        "the value v": _ddl_with("v"),
    },
    "sinkhorn": {"the sums": _sinkhorn_sums, "all but the last iteration": _last_iteration},
    "mhc_coefficients": {"the norm": _mhc_norm_held},
    "mgt_residual": {"the gate": _gate_held, "β": _beta_held},
}
