"""mHC's coefficients as one node with three results, and a norm with a product as one node."""

import math

from mgt_np.arrays import as_rows, mean_of_features, sum_of_features, sum_of_rows
from mgt_np.layers.activations import sigmoid
from mgt_np.layers.mhc import dynamic_coefficients
from mgt_np.layers.mhc_conventions import normed_product
from mgt_np.layers.sinkhorn import normalisations

from . import sinkhorn


def product_forward(xp, x, W, gain, *, eps, form):
    """Return x (gain ⊙ W)/r with r = √(mean x² + ε)."""
    if form != "inside":
        return None
    r = mean_of_features(xp, x * x)
    r += eps
    r **= 0.5
    scaled = W if gain is None else xp.expand_dims(gain, axis=-1) * W
    z = xp.reshape(xp.matmul(as_rows(xp, x), scaled), (*x.shape[:-1], W.shape[1]))
    z /= r
    return z, (x, W, gain, scaled, r, z)


def product_backward(xp, g, x, W, gain, scaled, r, z):
    """dx = (g/r) (gain ⊙ W)ᵀ − x (g · z)/(d r²), d the width of x."""
    along = sum_of_features(xp, g * z)
    along /= r * r * x.shape[-1]
    g = as_rows(xp, g / r)
    dx = xp.reshape(xp.matmul(g, xp.matrix_transpose(scaled)), x.shape)
    dx -= x * along
    dW = xp.matmul(xp.matrix_transpose(as_rows(xp, x)), g)
    if gain is None:
        return dx, dW, None
    return dx, dW * xp.expand_dims(gain, axis=-1), xp.sum(dW * W, axis=-1)


normed_product.fuse(product_forward, product_backward)

FORMS = ("flattened", "sigmoid", "sigmoid", "sinkhorn", None)


def forward(xp, X, *arrays, row):
    """The paper's forms: one product for all coefficients, sigmoids, and Sinkhorn's iteration."""
    *phi, b_pre, b_post, b_res, alpha_pre, alpha_post, alpha_res, gain = arrays
    if (row.projection, row.pre, row.post, row.mixing, row.shift) != FORMS or 0 in X.shape:
        return None
    leading, (n, d) = X.shape[:-2], X.shape[-2:]
    flat = xp.reshape(X, (math.prod(leading), n * d))
    product = product_forward(
        xp, flat, xp.concat(phi, axis=1), gain, eps=row.norm_eps, form=row.norm_form
    )
    if product is None:
        return None
    z, saved_product = product
    b = xp.concat([b_pre, b_post, xp.reshape(b_res, (n * n,))])
    alphas = zip((alpha_pre, alpha_post, alpha_res), (n, n, n * n), strict=True)
    alpha = xp.concat([xp.broadcast_to(a, (width,)) for a, width in alphas])
    logits = z * alpha
    logits += b
    logits_res = xp.reshape(logits[:, 2 * n :] / row.temperature, (-1, n, n))
    iterated = sinkhorn.forward(xp, logits_res, **_normalisations(row), implicit=False)
    if iterated is None:
        return None
    H_res, saved_iteration = iterated
    if row.transposed:
        H_res = xp.matrix_transpose(H_res)
    gates = sigmoid(logits[:, : 2 * n])
    results = (
        xp.reshape(gates[:, :n] + row.pre_eps, (*leading, n)),
        xp.reshape(gates[:, n:] * row.post_scale, (*leading, n)),
        xp.reshape(H_res, (*leading, n, n)),
    )
    shapes = X.shape, b_res.shape, [a.shape for a in (alpha_pre, alpha_post, alpha_res)]
    return results, (shapes, row, z, alpha, gates, saved_product, saved_iteration)


def _normalisations(row):
    options = row.iteration()
    names = ("n_iters", "order", "start", "eps", "eps_form")
    return normalisations(**{name: options[name] for name in names})


def backward(xp, g, shapes, row, z, alpha, gates, saved_product, saved_iteration):
    """Of logits α z + b: db = Σ dlogits, dα = Σ dlogits ⊙ z, dz = dlogits ⊙ α."""
    (shape, shape_b_res, shapes_alpha), n = shapes, shapes[0][-2]
    g_pre, g_post = (as_rows(xp, each) for each in g[:2])
    g_res = xp.reshape(g[2], (-1, n, n))
    if row.transposed:
        g_res = xp.matrix_transpose(g_res)
    (g_res,) = sinkhorn.backward(xp, g_res, *saved_iteration)
    g_res = xp.reshape(g_res / row.temperature, (-1, n * n))
    g_gates = xp.concat([g_pre, g_post * row.post_scale], axis=1) * gates * (1.0 - gates)
    d_logits = xp.concat([g_gates, g_res], axis=1)
    db, along = sum_of_rows(xp, d_logits), sum_of_rows(xp, d_logits * z)
    dX, dW, d_gain = product_backward(xp, d_logits * alpha, *saved_product)
    parts = slice(n), slice(n, 2 * n), slice(2 * n, None)
    d_alpha = (xp.sum(along[part], keepdims=True) for part in parts)
    return (
        xp.reshape(dX, shape),
        *(dW[:, part] for part in parts),
        *(db[part] for part in parts[:2]),
        xp.reshape(db[parts[2]], shape_b_res),
        *(xp.reshape(d, s) for d, s in zip(d_alpha, shapes_alpha, strict=True)),
        d_gain,
    )


dynamic_coefficients.fuse(forward, backward)
