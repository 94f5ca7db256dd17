"""Hyper-connections, mHC and Sinkhorn's iteration as others would write them: wrong, and right.

Nothing here calls the project's own layers: each is written from the formulas, in the style of
somebody's PyTorch or NumPy. What a mutant does not get wrong it may take from the plain helpers at
the top. Each takes any leading axes and any floating dtype.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from . import Wrong

WRONG = []
RIGHT = []


def wrong(function, library, mistake, parts=1, gradient_only=False):
    """Return a decorator that enters an implementation in `WRONG`."""

    def enter(call):
        WRONG.append(Wrong(function, library, call, mistake, parts, gradient_only))
        return call

    return enter


def right(function, library="torch"):
    """Return a decorator that enters an implementation in `RIGHT`."""

    def enter(call):
        RIGHT.append(Wrong(function, library, call, "", parts=0))
        return call

    return enter


# What is right, for the mutants that get another step wrong.


def start_of(Z):
    """exp(Z), up to a factor per matrix, which the first division removes."""
    return torch.exp(Z - Z.amax((-2, -1), keepdim=True))


def columns(M):
    return M / M.sum(-2, keepdim=True)


def rows(M):
    return M / M.sum(-1, keepdim=True)


def doubly_stochastic(Z, n_iters=20):
    if n_iters == 0:
        return torch.exp(Z)
    M = start_of(Z)
    for _ in range(n_iters):
        M = rows(columns(M))
    return M


def np_doubly_stochastic(Z, n_iters=20):
    M = np.exp(Z)
    for _ in range(n_iters):
        M = M / M.sum(axis=-2, keepdims=True)
        M = M / M.sum(axis=-1, keepdims=True)
    return M


def steps_of(n_iters):
    return 20 if n_iters is None else n_iters


def rms_normed(x, eps=1e-20):
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)


def with_gain(x, params):
    gain = params.get("gain")
    return x if gain is None else x * gain


def normed_streams(X, params):
    """x̂, the RMS norm of the n·d features of a token."""
    return with_gain(rms_normed(X.flatten(-2)), params)


def logits_of(x, params):
    """H̃ of x̂: for reading, writing and mixing."""
    n = params["b_pre"].shape[-1]
    pre = params["alpha_pre"] * (x @ params["phi_pre"]) + params["b_pre"]
    post = params["alpha_post"] * (x @ params["phi_post"]) + params["b_post"]
    res = params["alpha_res"] * (x @ params["phi_res"]).unflatten(-1, (n, n)) + params["b_res"]
    return pre, post, res


def np_logits_of(X, params, eps_inside=1e-20, eps_outside=0.0):
    n, d = X.shape[-2:]
    x = X.reshape(*X.shape[:-2], n * d)
    x = x / (np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps_inside) + eps_outside)
    if params.get("gain") is not None:
        x = x * params["gain"]
    pre = params["alpha_pre"] * (x @ params["phi_pre"]) + params["b_pre"]
    post = params["alpha_post"] * (x @ params["phi_post"]) + params["b_post"]
    res = params["alpha_res"] * (x @ params["phi_res"]) + params["b_res"].reshape(-1)
    return pre, post, res.reshape(*res.shape[:-1], n, n)


def np_sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * z))


def coefficients(X, params, n_iters=None):
    pre, post, res = logits_of(normed_streams(X, params), params)
    return torch.sigmoid(pre), 2 * torch.sigmoid(post), doubly_stochastic(res, steps_of(n_iters))


def read(X, H_pre):
    return torch.einsum("...n,...nd->...d", H_pre, X)


def write(y, H_post):
    return H_post.unsqueeze(-1) * y.unsqueeze(-2)


# sinkhorn


@wrong("sinkhorn", "torch", "The rows are normalised before the columns.")
def rows_before_columns(logits, *, n_iters=20):
    M = torch.exp(logits)
    for _ in range(n_iters):
        M = M / M.sum(dim=-1, keepdim=True)
        M = M / M.sum(dim=-2, keepdim=True)
    return M


@wrong("sinkhorn", "numpy", "The rows come first, and the result is transposed.", parts=2)
def rows_first_transposed(logits, *, n_iters=20):
    M = np.exp(logits)
    for _ in range(n_iters):
        M = M / np.sum(M, axis=-1, keepdims=True)
        M = M / np.sum(M, axis=-2, keepdims=True)
    return np.swapaxes(M, -1, -2)


@wrong("sinkhorn", "torch", "The iteration starts from the softmax of each row.")
def softmax_then_iterate(logits, *, n_iters=20):
    M = logits.softmax(dim=-1)
    for _ in range(n_iters):
        M = M / M.sum(-2, keepdim=True)
        M = M / M.sum(-1, keepdim=True)
    return M


@wrong(
    "sinkhorn",
    "torch",
    "As in DeepSeek V4: starts from softmax, rows count first, and 1e-6 is added to each sum.",
    parts=3,
)
def as_deepseek_v4(logits, *, n_iters=20):
    eps = 1e-6
    comb = torch.softmax(logits, dim=-1) + eps
    comb = comb / (comb.sum(dim=-2, keepdim=True) + eps)
    for _ in range(n_iters - 1):
        comb = comb / (comb.sum(dim=-1, keepdim=True) + eps)
        comb = comb / (comb.sum(dim=-2, keepdim=True) + eps)
    return comb


@wrong("sinkhorn", "torch", "The logits are divided by a temperature of 0.05.")
def cold(logits, *, n_iters=20):
    log_M = logits / 0.05
    for _ in range(n_iters):
        log_M = log_M - torch.logsumexp(log_M, dim=-2, keepdim=True)
        log_M = log_M - torch.logsumexp(log_M, dim=-1, keepdim=True)
    return log_M.exp()


@wrong("sinkhorn", "torch", "The largest logit of each row is subtracted before exp.")
def row_maximum_subtracted(logits, *, n_iters=20):
    M = torch.exp(logits - logits.max(dim=-1, keepdim=True).values)
    for _ in range(n_iters):
        M = rows(columns(M))
    return M


@wrong("sinkhorn", "torch", "It always makes 10 iterations.")
def always_ten(logits, *, n_iters=20):
    M = start_of(logits)
    for _ in range(10):
        M = rows(columns(M))
    return M


@wrong("sinkhorn", "numpy", "It always makes 3 iterations.")
def always_three(logits, *, n_iters=20):
    return np_doubly_stochastic(logits, 3)


@wrong("sinkhorn", "torch", "It always makes 19 iterations.")
def always_nineteen(logits, *, n_iters=20):
    return doubly_stochastic(logits, 19)


@wrong("sinkhorn", "torch", "It makes one iteration fewer than it is asked for.")
def one_short(logits, *, n_iters=20):
    M = start_of(logits)
    for _ in range(1, n_iters):
        M = rows(columns(M))
    return M


@wrong("sinkhorn", "numpy", "It makes one iteration more than it is asked for.")
def one_more(logits, *, n_iters=20):
    M, t = np.exp(logits), 0
    while t <= n_iters:
        M = M / M.sum(-2, keepdims=True)
        M = M / M.sum(-1, keepdims=True)
        t += 1
    return M


@wrong("sinkhorn", "torch", "The columns are normalised once more at the end.")
def half_a_step_more(logits, *, n_iters=20):
    return columns(doubly_stochastic(logits, n_iters))


@wrong("sinkhorn", "torch", "The last division of the rows is left out.")
def half_a_step_less(logits, *, n_iters=20):
    M = columns(start_of(logits))
    for _ in range(n_iters - 1):
        M = columns(rows(M))
    return M


@wrong("sinkhorn", "torch", "The result is transposed.")
def result_transposed(logits, *, n_iters=20):
    return doubly_stochastic(logits, n_iters).mT


@wrong("sinkhorn", "numpy", "The logits are transposed.")
def logits_transposed(logits, *, n_iters=20):
    return np_doubly_stochastic(np.swapaxes(logits, -1, -2), n_iters)


@wrong("sinkhorn", "torch", "ε = 1e-6 is added to each sum.")
def sums_plus_1e6(logits, *, n_iters=20, eps=1e-6):
    M = logits.exp()
    for _ in range(n_iters):
        M = M / (M.sum(-2, keepdim=True) + eps)
        M = M / (M.sum(-1, keepdim=True) + eps)
    return M


@wrong("sinkhorn", "numpy", "ε = 1e-8 is added to each sum.")
def sums_plus_1e8(logits, *, n_iters=20):
    M = np.exp(logits)
    for _ in range(n_iters):
        M = M / (M.sum(axis=-2, keepdims=True) + 1e-8)
        M = M / (M.sum(axis=-1, keepdims=True) + 1e-8)
    return M


@wrong("sinkhorn", "torch", "Each sum counts as 1e-12 at least.")
def sums_clamped(logits, *, n_iters=20):
    M = torch.exp(logits)
    for _ in range(n_iters):
        M = M / M.sum(-2, keepdim=True).clamp(min=1e-12)
        M = M / M.sum(-1, keepdim=True).clamp(min=1e-12)
    return M


@wrong("sinkhorn", "torch", "The columns are never normalised.")
def rows_alone(logits, *, n_iters=20):
    for _ in range(n_iters):
        logits = torch.log_softmax(logits, dim=-1)
    return logits.exp()


@wrong("sinkhorn", "torch", "Both sums are taken before either division.")
def both_at_once(logits, *, n_iters=20):
    M = start_of(logits)
    for _ in range(n_iters):
        r, c = M.sum(-1, keepdim=True), M.sum(-2, keepdim=True)
        M = M / torch.sqrt(r) / torch.sqrt(c)
    return M


@wrong("sinkhorn", "torch", "The sums run over axes 0 and 1, whatever leading axes there are.")
def first_two_axes(logits, *, n_iters=20):
    M = torch.exp(logits - logits.max())
    for _ in range(n_iters):
        M = M / M.sum(dim=0, keepdim=True)
        M = M / M.sum(dim=1, keepdim=True)
    return M


@wrong("sinkhorn", "torch", "The powers are of 2, not of e.")
def powers_of_two(logits, *, n_iters=20):
    M = torch.exp2(logits)
    for _ in range(n_iters):
        M = rows(columns(M))
    return M


@wrong("sinkhorn", "torch", "The entries are divided by means, so that rows sum to n.")
def divided_by_means(logits, *, n_iters=20):
    M = start_of(logits)
    for _ in range(n_iters):
        M = M / M.mean(-2, keepdim=True)
        M = M / M.mean(-1, keepdim=True)
    return M


@wrong("sinkhorn", "torch", "It stops early, when the columns sum to one within 1e-3.")
def stops_early(logits, *, n_iters=20):
    M = start_of(logits)
    for _ in range(n_iters):
        M = rows(columns(M))
        if (M.sum(-2) - 1).abs().max() < 1e-3:
            break
    return M


@wrong("sinkhorn", "torch", "The logits are clipped to ±10 before exp.")
def clipped_logits(logits, *, n_iters=20):
    return doubly_stochastic(logits.clamp(-10, 10), n_iters)


@wrong("sinkhorn", "numpy", "The result is averaged with its transpose.")
def symmetrised(logits, *, n_iters=20):
    M = np_doubly_stochastic(logits, n_iters)
    return (M + np.swapaxes(M, -1, -2)) / 2


@wrong("sinkhorn", "torch", "The matrix of the first batch element is returned for all.")
def first_matrix_for_all(logits, *, n_iters=20):
    n = logits.shape[-1]
    return doubly_stochastic(logits.reshape(-1, n, n)[0], n_iters).expand(logits.shape).clone()


@wrong("sinkhorn", "torch", "The sums are detached.", gradient_only=True)
def detached_sums(logits, *, n_iters=20):
    M = torch.exp(logits)
    for _ in range(n_iters):
        M = M / M.sum(-2, keepdim=True).detach()
        M = M / M.sum(-1, keepdim=True).detach()
    return M


@wrong("sinkhorn", "torch", "Only the last iteration is differentiated.", gradient_only=True)
def last_iteration_differentiated(logits, *, n_iters=20):
    if n_iters == 0:
        return torch.exp(logits)
    before = doubly_stochastic(logits, n_iters - 1).log()
    M = torch.exp(logits + (before - logits).detach())
    return rows(columns(M))


# mhc_update


@wrong("mhc_update", "torch", "The streams are mixed by the transpose of H_res.")
def mixed_by_transpose(X, y, H_post, H_res):
    return torch.einsum("...ji,...jd->...id", H_res, X) + torch.einsum(
        "...n,...d->...nd", H_post, y
    )


@wrong("mhc_update", "torch", "The streams are not mixed.")
def not_mixed(X, y, H_post, H_res):
    return X + H_post[..., None] * y[..., None, :]


@wrong("mhc_update", "torch", "The output is written before the streams are mixed.")
def mixed_after_writing(X, y, H_post, H_res):
    return H_res @ (X + write(y, H_post))


@wrong("mhc_update", "numpy", "H_post is ignored: each stream gets the whole output.")
def whole_output_to_each(X, y, H_post, H_res):
    return H_res @ X + y[..., None, :]


@wrong("mhc_update", "torch", "Half of the output is written.")
def half_written(X, y, H_post, H_res):
    return torch.matmul(H_res, X) + 0.5 * write(y, H_post)


@wrong("mhc_update", "torch", "The unmixed streams are added too.")
def plain_residual_too(X, y, H_post, H_res):
    mixed = torch.matmul(H_res, X) + write(y, H_post)
    return X + mixed


@wrong("mhc_update", "torch", "The output of the sub-layer is lost.")
def output_lost(X, y, H_post, H_res):
    return H_res @ X


@wrong("mhc_update", "torch", "H_res is transposed, and half of the output is written.", parts=2)
def transposed_and_halved(X, y, H_post, H_res):
    return H_res.transpose(-1, -2) @ X + write(y, H_post / 2)


@wrong("mhc_update", "torch", "The first token's H_res mixes all tokens' streams.")
def mixed_as_first_token(X, y, H_post, H_res):
    if H_res.ndim > 2:
        H_res = H_res[..., :1, :, :]
    return H_res @ X + write(y, H_post)


@wrong("mhc_update", "numpy", "The first batch element's H_post writes for all.")
def written_as_first_batch(X, y, H_post, H_res):
    if H_post.ndim > 1:
        H_post = H_post[:1]
    return H_res @ X + H_post[..., :, None] * y[..., None, :]


@wrong("mhc_update", "torch", "The outer product is laid out as (d, n) and reshaped to (n, d).")
def outer_product_reshaped(X, y, H_post, H_res):
    mixed = H_res @ X
    outer = y.unsqueeze(-1) * H_post.unsqueeze(-2)
    return mixed + outer.reshape(*outer.shape[:-2], *X.shape[-2:])


@wrong("mhc_update", "numpy", "The output is subtracted.")
def output_subtracted(X, y, H_post, H_res):
    return H_res @ X - H_post[..., None] * y[..., None, :]


@wrong("mhc_update", "torch", "The output is written to the first stream alone.")
def first_stream_written(X, y, H_post, H_res):
    mixed = H_res @ X
    written = write(y, H_post)
    return torch.cat([mixed[..., :1, :] + written[..., :1, :], mixed[..., 1:, :]], dim=-2)


@wrong("mhc_update", "torch", "The features of a token are taken to lie as (d, n), not (n, d).")
def features_major(X, y, H_post, H_res):
    n, d = X.shape[-2:]
    Y = X.reshape(*X.shape[:-2], d, n)
    Y = Y @ H_res.mT + y[..., :, None] * H_post[..., None, :]
    return Y.reshape(X.shape)


@wrong("mhc_update", "torch", "The output is divided among the n streams.")
def output_divided(X, y, H_post, H_res):
    return H_res @ X + write(y, H_post) / X.shape[-2]


@wrong(
    "mhc_update",
    "numpy",
    "H_res is transposed, and the output is written before the streams are mixed.",
    parts=2,
)
def transposed_after_writing(X, y, H_post, H_res):
    written = X + H_post[..., :, None] * y[..., None, :]
    return np.swapaxes(H_res, -1, -2) @ written


@wrong("mhc_update", "torch", "H_res is detached.", gradient_only=True)
def mix_detached(X, y, H_post, H_res):
    return H_res.detach() @ X + write(y, H_post)


# mhc_coefficients


@wrong("mhc_coefficients", "torch", "The streams are flattened as d·n, not n·d.")
def flattened_by_features(X, params, *, convention="paper", n_iters=None):
    x = with_gain(rms_normed(X.mT.flatten(-2)), params)
    pre, post, res = logits_of(x, params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The norm's gain is lost.")
def gain_lost(X, params, *, convention="paper", n_iters=None):
    pre, post, res = logits_of(rms_normed(X.flatten(-2)), params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The streams are not normalised.")
def no_norm(X, params, *, convention="paper", n_iters=None):
    pre, post, res = logits_of(with_gain(X.flatten(-2), params), params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The factors α are lost.")
def alpha_lost(X, params, *, convention="paper", n_iters=None):
    n = X.shape[-2]
    x = normed_streams(X, params)
    H_pre = torch.sigmoid(x @ params["phi_pre"] + params["b_pre"])
    H_post = 2 * torch.sigmoid(x @ params["phi_post"] + params["b_post"])
    Z = (x @ params["phi_res"]).reshape(*x.shape[:-1], n, n) + params["b_res"]
    return H_pre, H_post, doubly_stochastic(Z, steps_of(n_iters))


@wrong("mhc_coefficients", "numpy", "α multiplies the bias too.")
def alpha_on_bias_too(X, params, *, convention="paper", n_iters=None):
    n, d = X.shape[-2:]
    x = X.reshape(*X.shape[:-2], n * d)
    x = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-20)
    if params.get("gain") is not None:
        x = x * params["gain"]
    pre = params["alpha_pre"] * (x @ params["phi_pre"] + params["b_pre"])
    post = params["alpha_post"] * (x @ params["phi_post"] + params["b_post"])
    res = params["alpha_res"] * (x @ params["phi_res"] + params["b_res"].ravel())
    Z = res.reshape(*res.shape[:-1], n, n)
    return np_sigmoid(pre), 2 * np_sigmoid(post), np_doubly_stochastic(Z, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "b_res is transposed.")
def mixing_bias_transposed(X, params, *, convention="paper", n_iters=None):
    turned = params | {"b_res": params["b_res"].mT}
    pre, post, res = logits_of(normed_streams(X, params), turned)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "H_pre and H_post are made by softmax, not by sigmoids.")
def softmax_gates(X, params, *, convention="paper", n_iters=None):
    pre, post, res = logits_of(normed_streams(X, params), params)
    return pre.softmax(-1), 2 * post.softmax(-1), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "H_post is σ, without the factor 2.")
def post_not_doubled(X, params, *, convention="paper", n_iters=None):
    pre, post, res = logits_of(normed_streams(X, params), params)
    return pre.sigmoid(), post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "H_post lacks its factor 2, and H_res is transposed.", parts=2)
def post_not_doubled_transposed(X, params, *, convention="paper", n_iters=None):
    pre, post, res = logits_of(normed_streams(X, params), params)
    return pre.sigmoid(), post.sigmoid(), doubly_stochastic(res, steps_of(n_iters)).mT


def v4_mixing(Z, n_iters, eps=1e-6):
    M = torch.softmax(Z, -1) + eps
    M = M / (M.sum(-2, keepdim=True) + eps)
    for _ in range(n_iters - 1):
        M = M / (M.sum(-1, keepdim=True) + eps)
        M = M / (M.sum(-2, keepdim=True) + eps)
    return M.mT


@wrong(
    "mhc_coefficients",
    "torch",
    "As in DeepSeek V4: norm with 1e-6, H_pre + 1e-6, rows first from a softmax, 1e-6 beside each "
    "sum, H_res transposed.",
    parts=6,
)
def coefficients_of_deepseek_v4(X, params, *, convention="paper", n_iters=None):
    x = with_gain(rms_normed(X.flatten(-2), 1e-6), params)
    pre, post, res = logits_of(x, params)
    return pre.sigmoid() + 1e-6, 2 * post.sigmoid(), v4_mixing(res, steps_of(n_iters))


@wrong(
    "mhc_coefficients",
    "torch",
    "Four of DeepSeek V4's differences: rows first from a softmax, 1e-6 beside each sum, H_res "
    "transposed.",
    parts=4,
)
def mixing_of_deepseek_v4(X, params, *, convention="paper", n_iters=None):
    pre, post, res = logits_of(normed_streams(X, params), params)
    return pre.sigmoid(), 2 * post.sigmoid(), v4_mixing(res, steps_of(n_iters))


@wrong(
    "mhc_coefficients",
    "torch",
    "DeepSeek V4's transposed H_res and its H_pre + 1e-6, with a norm that has no gain.",
    parts=3,
)
def half_of_deepseek_v4(X, params, *, convention="paper", n_iters=None):
    pre, post, res = logits_of(rms_normed(X.flatten(-2)), params)
    return pre.sigmoid() + 1e-6, 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters)).mT


@wrong("mhc_coefficients", "torch", "H_res is transposed.")
def mixing_transposed(X, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients(X, params, n_iters)
    return H_pre, H_post, H_res.transpose(-2, -1)


@wrong("mhc_coefficients", "torch", "The n² outputs of φ_res fill the logits by columns.")
def logits_by_columns(X, params, *, convention="paper", n_iters=None):
    n = X.shape[-2]
    x = normed_streams(X, params)
    pre, post, _ = logits_of(x, params)
    Z = (x @ params["phi_res"]).reshape(*x.shape[:-1], n, n).mT
    Z = params["alpha_res"] * Z + params["b_res"]
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(Z, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The norm's ε is 1e-6, where the paper's models have 1e-20.")
def norm_eps_1e6(X, params, *, convention="paper", n_iters=None):
    x = F.rms_norm(X.flatten(-2), (X.shape[-2] * X.shape[-1],), params.get("gain"), eps=1e-6)
    pre, post, res = logits_of(x, params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "numpy", "The norm is x/(rms + 1e-6), with ε outside the root.")
def norm_eps_outside(X, params, *, convention="paper", n_iters=None):
    pre, post, res = np_logits_of(X, params, eps_inside=0.0, eps_outside=1e-6)
    return np_sigmoid(pre), 2 * np_sigmoid(post), np_doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The rows of H_res are normalised before its columns.")
def mixing_rows_first(X, params, *, convention="paper", n_iters=None):
    pre, post, res = logits_of(normed_streams(X, params), params)
    M = torch.exp(res)
    for _ in range(steps_of(n_iters)):
        M = columns(rows(M))
    return pre.sigmoid(), 2 * post.sigmoid(), M


@wrong("mhc_coefficients", "torch", "The iteration for H_res starts from a softmax of each row.")
def mixing_from_softmax(X, params, *, convention="paper", n_iters=None):
    pre, post, res = logits_of(normed_streams(X, params), params)
    M = torch.softmax(res, dim=-1)
    for _ in range(steps_of(n_iters)):
        M = rows(columns(M))
    return pre.sigmoid(), 2 * post.sigmoid(), M


@wrong("mhc_coefficients", "torch", "1e-6 is added to H_pre.")
def pre_plus_1e6(X, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients(X, params, n_iters)
    return H_pre + 1e-6, H_post, H_res


@wrong("mhc_coefficients", "torch", "1e-6 is added to each sum of the iteration for H_res.")
def mixing_sums_plus_1e6(X, params, *, convention="paper", n_iters=None):
    pre, post, res = logits_of(normed_streams(X, params), params)
    M = res.exp()
    for _ in range(steps_of(n_iters)):
        M = M / (M.sum(-2, keepdim=True) + 1e-6)
        M = M / (M.sum(-1, keepdim=True) + 1e-6)
    return pre.sigmoid(), 2 * post.sigmoid(), M


@wrong("mhc_coefficients", "torch", "Each stream is normalised by itself, not all n·d features.")
def each_stream_normed(X, params, *, convention="paper", n_iters=None):
    x = with_gain(rms_normed(X).flatten(-2), params)
    pre, post, res = logits_of(x, params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The norm subtracts the mean, as layer norm does.")
def layer_normed(X, params, *, convention="paper", n_iters=None):
    x = X.flatten(-2)
    x = x - x.mean(-1, keepdim=True)
    pre, post, res = logits_of(with_gain(rms_normed(x), params), params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The norm gives unit length, not unit root mean square.")
def unit_length(X, params, *, convention="paper", n_iters=None):
    x = with_gain(F.normalize(X.flatten(-2), dim=-1), params)
    pre, post, res = logits_of(x, params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The gain is stored minus one: x̂ is multiplied by 1 + gain.")
def gain_plus_one(X, params, *, convention="paper", n_iters=None):
    x = rms_normed(X.flatten(-2))
    if params.get("gain") is not None:
        x = x * (1 + params["gain"])
    pre, post, res = logits_of(x, params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The gain lies as (d, n), while x lies as (n, d).")
def gain_by_features(X, params, *, convention="paper", n_iters=None):
    n, d = X.shape[-2:]
    x = rms_normed(X.flatten(-2))
    if params.get("gain") is not None:
        x = x * params["gain"].reshape(d, n).T.reshape(-1)
    pre, post, res = logits_of(x, params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The number of iterations is ignored: always 20.")
def iterations_ignored(X, params, *, convention="paper", n_iters=None):
    return coefficients(X, params)


@wrong("mhc_coefficients", "torch", "H_res is the softmax of each row: its columns are left.")
def mixing_by_softmax(X, params, *, convention="paper", n_iters=None):
    pre, post, res = logits_of(normed_streams(X, params), params)
    return pre.sigmoid(), 2 * post.sigmoid(), res.softmax(-1)


@wrong("mhc_coefficients", "torch", "The packed product is cut as post, pre, res.")
def cut_in_another_order(X, params, *, convention="paper", n_iters=None):
    n = X.shape[-2]
    phi = torch.cat([params["phi_pre"], params["phi_post"], params["phi_res"]], dim=-1)
    post, pre, res = torch.split(normed_streams(X, params) @ phi, [n, n, n * n], dim=-1)
    H_pre = torch.sigmoid(params["alpha_pre"] * pre + params["b_pre"])
    H_post = 2 * torch.sigmoid(params["alpha_post"] * post + params["b_post"])
    Z = params["alpha_res"] * res.unflatten(-1, (n, n)) + params["b_res"]
    return H_pre, H_post, doubly_stochastic(Z, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "α_pre scales all three products.")
def one_alpha(X, params, *, convention="paper", n_iters=None):
    alpha = params["alpha_pre"]
    shared = params | {"alpha_post": alpha, "alpha_res": alpha}
    pre, post, res = logits_of(normed_streams(X, params), shared)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "tanh is applied to x̂ φ, as in hyper-connections.")
def tanh_as_in_hyper_connections(X, params, *, convention="paper", n_iters=None):
    n = X.shape[-2]
    x = normed_streams(X, params)
    z = {part: torch.tanh(x @ params[f"phi_{part}"]) for part in ("pre", "post", "res")}
    H_pre = torch.sigmoid(params["alpha_pre"] * z["pre"] + params["b_pre"])
    H_post = 2 * torch.sigmoid(params["alpha_post"] * z["post"] + params["b_post"])
    Z = params["alpha_res"] * z["res"].unflatten(-1, (n, n)) + params["b_res"]
    return H_pre, H_post, doubly_stochastic(Z, steps_of(n_iters))


@wrong("mhc_coefficients", "numpy", "H_post is 1 + tanh of its logits: the logits are doubled.")
def post_by_tanh(X, params, *, convention="paper", n_iters=None):
    pre, post, res = np_logits_of(X, params)
    return np_sigmoid(pre), 1 + np.tanh(post), np_doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The norm's mean runs over all tokens of the batch.")
def normed_over_all_tokens(X, params, *, convention="paper", n_iters=None):
    x = X.flatten(-2)
    x = with_gain(x / torch.sqrt(x.square().mean() + 1e-20), params)
    pre, post, res = logits_of(x, params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The gain multiplies before the norm, not after it.")
def gain_before_norm(X, params, *, convention="paper", n_iters=None):
    x = rms_normed(with_gain(X.flatten(-2), params))
    pre, post, res = logits_of(x, params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The coefficients are made of the mean of the tokens.")
def mean_token(X, params, *, convention="paper", n_iters=None):
    x = X.flatten(-2)
    if x.ndim > 1:
        x = x.mean(-2, keepdim=True).expand(x.shape)
    pre, post, res = logits_of(with_gain(rms_normed(x), params), params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


@wrong("mhc_coefficients", "torch", "The root mean square is detached.", gradient_only=True)
def norm_detached(X, params, *, convention="paper", n_iters=None):
    x = X.flatten(-2)
    r = torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-20).detach()
    pre, post, res = logits_of(with_gain(x / r, params), params)
    return pre.sigmoid(), 2 * post.sigmoid(), doubly_stochastic(res, steps_of(n_iters))


# mhc_connection


@wrong("mhc_connection", "torch", "The streams are mixed by the transpose of H_res.")
def connection_transposed(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients(X, params, n_iters)
    return H_res.mT @ X + write(sublayer(read(X, H_pre)), H_post)


@wrong("mhc_connection", "torch", "The sub-layer reads the streams after they are mixed.")
def reads_mixed_streams(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients(X, params, n_iters)
    mixed = H_res @ X
    return mixed + write(sublayer(read(mixed, H_pre)), H_post)


@wrong("mhc_connection", "torch", "The sub-layer reads the sum of the streams: H_pre is unused.")
def reads_the_sum(X, sublayer, params, *, convention="paper", n_iters=None):
    _, H_post, H_res = coefficients(X, params, n_iters)
    return H_res @ X + write(sublayer(X.sum(-2)), H_post)


@wrong("mhc_connection", "torch", "The sub-layer keeps a residual of its own: F(u) + u is written.")
def residual_inside(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients(X, params, n_iters)
    u = read(X, H_pre)
    return H_res @ X + write(sublayer(u) + u, H_post)


@wrong("mhc_connection", "torch", "H_post reads and H_pre writes.")
def gates_swapped(X, sublayer, params, *, convention="paper", n_iters=None):
    H_post, H_pre, H_res = coefficients(X, params, n_iters)
    return H_res @ X + write(sublayer(read(X, H_pre)), H_post)


@wrong("mhc_connection", "torch", "The streams are flattened as d·n for the coefficients.")
def connection_by_features(X, sublayer, params, *, convention="paper", n_iters=None):
    x = with_gain(rms_normed(X.transpose(-1, -2).flatten(-2)), params)
    pre, post, res = logits_of(x, params)
    H_res = doubly_stochastic(res, steps_of(n_iters))
    return H_res @ X + write(sublayer(read(X, pre.sigmoid())), 2 * post.sigmoid())


@wrong("mhc_connection", "numpy", "H_post is σ, without the factor 2.")
def connection_not_doubled(X, sublayer, params, *, convention="paper", n_iters=None):
    pre, post, res = np_logits_of(X, params)
    u = (np_sigmoid(pre)[..., None, :] @ X)[..., 0, :]
    mixed = np_doubly_stochastic(res, steps_of(n_iters)) @ X
    return mixed + np_sigmoid(post)[..., None] * sublayer(u)[..., None, :]


@wrong("mhc_connection", "torch", "The unmixed streams are added too.")
def connection_residual_too(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients(X, params, n_iters)
    return X + H_res @ X + write(sublayer(read(X, H_pre)), H_post)


@wrong("mhc_connection", "torch", "The output is written before the streams are mixed.")
def connection_writes_first(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients(X, params, n_iters)
    return H_res @ (X + write(sublayer(read(X, H_pre)), H_post))


@wrong("mhc_connection", "torch", "The sub-layer is applied to each stream, then H_pre mixes.")
def sublayer_on_each_stream(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients(X, params, n_iters)
    return H_res @ X + write(read(sublayer(X), H_pre), H_post)


@wrong(
    "mhc_connection",
    "torch",
    "As in DeepSeek V4: norm with 1e-6, H_pre + 1e-6, rows first from a softmax, 1e-6 beside each "
    "sum, H_res transposed.",
    parts=6,
)
def connection_of_deepseek_v4(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients_of_deepseek_v4(X, params, n_iters=n_iters)
    return H_res @ X + write(sublayer(read(X, H_pre)), H_post)


@wrong("mhc_connection", "torch", "H_post lacks its factor 2, and H_res is transposed.", parts=2)
def connection_two_faults(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients(X, params, n_iters)
    return torch.einsum("...ji,...jd->...id", H_res, X) + write(
        sublayer(read(X, H_pre)), H_post / 2
    )


@wrong("mhc_connection", "torch", "The streams are not normalised for the coefficients.")
def connection_without_norm(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = no_norm(X, params, n_iters=n_iters)
    return H_res @ X + write(sublayer(read(X, H_pre)), H_post)


@wrong("mhc_connection", "torch", "H_pre is divided by its sum, so that the streams are averaged.")
def reads_an_average(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients(X, params, n_iters)
    u = read(X, H_pre / H_pre.sum(-1, keepdim=True))
    return H_res @ X + write(sublayer(u), H_post)


@wrong("mhc_connection", "torch", "The first token's coefficients serve all tokens.")
def coefficients_of_first_token(X, sublayer, params, *, convention="paper", n_iters=None):
    first = X[..., :1, :, :] if X.ndim > 2 else X
    H_pre, H_post, H_res = coefficients(first, params, n_iters)
    u = (H_pre.unsqueeze(-2) @ X).squeeze(-2)
    return H_res @ X + write(sublayer(u), H_post)


@wrong("mhc_connection", "numpy", "H_res is the identity: the streams are not mixed.")
def connection_not_mixed(X, sublayer, params, *, convention="paper", n_iters=None):
    pre, post, _ = np_logits_of(X, params)
    u = np.sum(np_sigmoid(pre)[..., None] * X, axis=-2)
    return X + 2 * np_sigmoid(post)[..., None] * sublayer(u)[..., None, :]


# hyper_connection


def layer_normed_streams(X, params, eps=1e-5):
    return F.layer_norm(X, X.shape[-1:], params.get("gain"), params.get("bias"), eps)


def rms_normed_streams(X, params):
    return with_gain(X * math.sqrt(X.shape[-1]) / X.norm(dim=-1, keepdim=True), params)


def hyper(X, sublayer, A_m, B, A_r):
    """The update of hyper-connections with coefficients as the paper has them."""
    h = torch.einsum("...n,...nd->...d", A_m, X)
    return torch.einsum("...ji,...jd->...id", A_r, X) + write(sublayer(h), B)


def dynamic_parts(N, params, tanh=True):
    """The products of the normed streams with W_m, W_β, W_r."""
    parts = (N @ params["W_m"]).squeeze(-1), (N @ params["W_beta"]).squeeze(-1), N @ params["W_r"]
    return tuple(torch.tanh(part) for part in parts) if tanh else parts


def hc_normed(X, params, norm):
    return layer_normed_streams(X, params) if norm == "layer" else rms_normed_streams(X, params)


def hc_coefficients(X, params, dynamic=True, norm="layer", tanh=True):
    """A_m, B, A_r as the paper has them."""
    A_m, B, A_r = params["A_m"], params["B"], params["A_r"]
    if dynamic:
        m, b, r = dynamic_parts(hc_normed(X, params, norm), params, tanh)
        A_m, B = params["s_alpha"] * m + A_m, params["s_beta"] * b + B
        A_r = params["s_alpha"] * r + A_r
    return A_m, B, A_r


@wrong("hyper_connection", "torch", "The layer norm's ε is 1e-6.")
def hc_eps_1e6(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    A_m, B, A_r = params["A_m"], params["B"], params["A_r"]
    if dynamic:
        if norm == "layer":
            N = layer_normed_streams(X, params, eps=1e-6)
        else:
            N = rms_normed_streams(X, params)
        m, b, r = dynamic_parts(N, params, tanh)
        A_m, B = params["s_alpha"] * m + A_m, params["s_beta"] * b + B
        A_r = params["s_alpha"] * r + A_r
    return hyper(X, sublayer, A_m, B, A_r)


@wrong("hyper_connection", "torch", "The streams are RMS-normed, where layer norm is meant.")
def hc_rms_always(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    return hyper(X, sublayer, *hc_coefficients(X, params, dynamic, "rms", tanh))


@wrong("hyper_connection", "torch", "The streams are projected without a norm.")
def hc_no_norm(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    A_m, B, A_r = params["A_m"], params["B"], params["A_r"]
    if dynamic:
        m, b, r = dynamic_parts(X, params, tanh)
        A_m, B = params["s_alpha"] * m + A_m, params["s_beta"] * b + B
        A_r = params["s_alpha"] * r + A_r
    return hyper(X, sublayer, A_m, B, A_r)


@wrong("hyper_connection", "torch", "tanh is left out.")
def hc_no_tanh(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    return hyper(X, sublayer, *hc_coefficients(X, params, dynamic, norm, tanh=False))


@wrong("hyper_connection", "torch", "The scales s_α and s_β are swapped.")
def hc_scales_swapped(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    if dynamic:
        params = params | {"s_alpha": params["s_beta"], "s_beta": params["s_alpha"]}
    return hyper(X, sublayer, *hc_coefficients(X, params, dynamic, norm, tanh))


@wrong("hyper_connection", "torch", "Only the static coefficients are used.")
def hc_static_only(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    return hyper(X, sublayer, params["A_m"], params["B"], params["A_r"])


@wrong("hyper_connection", "torch", "A_r mixes the streams untransposed.")
def hc_not_transposed(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    A_m, B, A_r = hc_coefficients(X, params, dynamic, norm, tanh)
    return A_r @ X + write(sublayer(read(X, A_m)), B)


@wrong("hyper_connection", "torch", "The streams are not mixed.")
def hc_not_mixed(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    A_m, B, _ = hc_coefficients(X, params, dynamic, norm, tanh)
    return X + write(sublayer(read(X, A_m)), B)


@wrong("hyper_connection", "torch", "tanh is left out, and A_r is not transposed.", parts=2)
def hc_no_tanh_not_transposed(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    A_m, B, A_r = hc_coefficients(X, params, dynamic, norm, tanh=False)
    return A_r @ X + write(sublayer(read(X, A_m)), B)


@wrong("hyper_connection", "torch", "The unmixed streams are added too.")
def hc_residual_too(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    return X + hyper(X, sublayer, *hc_coefficients(X, params, dynamic, norm, tanh))


@wrong("hyper_connection", "torch", "The norm's bias is lost.")
def hc_bias_lost(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    kept = {name: value for name, value in params.items() if name != "bias"}
    return hyper(X, sublayer, *hc_coefficients(X, kept, dynamic, norm, tanh))


@wrong("hyper_connection", "torch", "The norm's gain is lost.")
def hc_gain_lost(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    kept = {name: value for name, value in params.items() if name != "gain"}
    return hyper(X, sublayer, *hc_coefficients(X, kept, dynamic, norm, tanh))


@wrong("hyper_connection", "torch", "tanh is taken of the scaled product: tanh(s z), not s tanh z.")
def hc_scale_inside_tanh(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    A_m, B, A_r = params["A_m"], params["B"], params["A_r"]
    if dynamic:
        bound = torch.tanh if tanh else torch.clone
        m, b, r = dynamic_parts(hc_normed(X, params, norm), params, tanh=False)
        A_m = bound(params["s_alpha"] * m) + A_m
        B = bound(params["s_beta"] * b) + B
        A_r = bound(params["s_alpha"] * r) + A_r
    return hyper(X, sublayer, A_m, B, A_r)


@wrong("hyper_connection", "torch", "All n·d features of a token are normed together.")
def hc_normed_together(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    A_m, B, A_r = params["A_m"], params["B"], params["A_r"]
    if dynamic:
        x = X.flatten(-2)
        x = F.layer_norm(x, x.shape[-1:]) if norm == "layer" else rms_normed(x, 0.0)
        N = with_gain(x.reshape(X.shape), params)
        if norm == "layer" and params.get("bias") is not None:
            N = N + params["bias"]
        m, b, r = dynamic_parts(N, params, tanh)
        A_m, B = params["s_alpha"] * m + A_m, params["s_beta"] * b + B
        A_r = params["s_alpha"] * r + A_r
    return hyper(X, sublayer, A_m, B, A_r)


@wrong("hyper_connection", "torch", "The dynamic part of A_r is not scaled by s_α.")
def hc_mix_unscaled(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    A_m, B, A_r = hc_coefficients(X, params, dynamic, norm, tanh)
    if dynamic:
        A_r = dynamic_parts(hc_normed(X, params, norm), params, tanh)[2] + params["A_r"]
    return hyper(X, sublayer, A_m, B, A_r)


@wrong("hyper_connection", "torch", "Only the dynamic part of A_r is transposed.")
def hc_half_transposed(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    A_m, B, A_r = hc_coefficients(X, params, dynamic, norm, tanh)
    A_r = A_r - params["A_r"] + params["A_r"].T
    return hyper(X, sublayer, A_m, B, A_r)


@wrong("hyper_connection", "numpy", "The scales multiply the static coefficients too.")
def hc_static_scaled(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    A_m, B, A_r = params["A_m"], params["B"], params["A_r"]
    if dynamic:
        N = np_hc_normed(X, params, norm)
        W = np.concatenate([params["W_m"], params["W_beta"], params["W_r"]], axis=1)
        z = np.tanh(N @ W) if tanh else N @ W
        A_m, B = params["s_alpha"] * (z[..., 0] + A_m), params["s_beta"] * (z[..., 1] + B)
        A_r = params["s_alpha"] * (z[..., 2:] + A_r)
    y = sublayer(np.sum(A_m[..., None] * X, axis=-2))
    return np.swapaxes(A_r, -1, -2) @ X + B[..., None] * y[..., None, :]


def np_hc_normed(X, params, norm):
    if norm == "layer":
        N = X - X.mean(axis=-1, keepdims=True)
        N = N / np.sqrt(np.mean(N * N, axis=-1, keepdims=True) + 1e-5)
    else:
        N = X / np.sqrt(np.mean(X * X, axis=-1, keepdims=True))
    if params.get("gain") is not None:
        N = N * params["gain"]
    if norm == "layer" and params.get("bias") is not None:
        N = N + params["bias"]
    return N


@wrong("hyper_connection", "torch", "The first stream alone is read by the sub-layer.")
def hc_reads_first(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    _, B, A_r = hc_coefficients(X, params, dynamic, norm, tanh)
    return A_r.mT @ X + write(sublayer(X[..., 0, :]), B)


@wrong("hyper_connection", "torch", "W_m and W_β change places in the packed product.")
def hc_packed_swapped(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    if dynamic:
        params = params | {"W_m": params["W_beta"], "W_beta": params["W_m"]}
    return hyper(X, sublayer, *hc_coefficients(X, params, dynamic, norm, tanh))


@wrong(
    "hyper_connection",
    "torch",
    "The norm is RMS, tanh is left out and A_r is not transposed, as in several public codes.",
    parts=3,
)
def hc_three_faults(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    A_m, B, A_r = hc_coefficients(X, params, dynamic, "rms", tanh=False)
    return torch.matmul(A_r, X) + write(sublayer(read(X, A_m)), B)


@wrong("hyper_connection", "torch", "The sub-layer reads the normed streams.")
def hc_normed_everywhere(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    N = hc_normed(X, params, norm)
    A_m, B, A_r = hc_coefficients(X, params, dynamic, norm, tanh)
    return A_r.mT @ X + write(sublayer(read(N, A_m)), B)


# Right ones, written differently.


@right("sinkhorn")
def sinkhorn_of_logarithms(logits, *, n_iters=20):
    for _ in range(n_iters):
        logits = logits - torch.logsumexp(logits, dim=-2, keepdim=True)
        logits = logits - torch.logsumexp(logits, dim=-1, keepdim=True)
    return logits.exp()


@right("sinkhorn")
def sinkhorn_of_column_shifted_logits(logits, *, n_iters=20):
    if n_iters == 0:
        return torch.exp(logits)
    M = torch.exp(logits - logits.amax(dim=-2, keepdim=True))
    for _ in range(n_iters):
        M = M / M.sum(-2, keepdim=True)
        M = M / M.sum(-1, keepdim=True)
    return M


@right("sinkhorn")
def sinkhorn_of_softmaxes(logits, *, n_iters=20):
    """The first half step is a softmax of the columns, each later one a softmax of a log."""
    for _ in range(n_iters):
        logits = logits.log_softmax(dim=-2).log_softmax(dim=-1)
    return torch.exp(logits)


@right("sinkhorn")
def sinkhorn_of_potentials(logits, *, n_iters=20):
    """diag(exp f) exp(Z) diag(exp g), as in optimal transport."""
    f, g = torch.zeros_like(logits[..., :, :1]), torch.zeros_like(logits[..., :1, :])
    for _ in range(n_iters):
        g = -torch.logsumexp(logits + f, dim=-2, keepdim=True)
        f = -torch.logsumexp(logits + g, dim=-1, keepdim=True)
    return torch.exp(f + logits + g)


@right("sinkhorn")
def sinkhorn_of_each_matrix(logits, *, n_iters=20):
    n = logits.shape[-1]
    made = [doubly_stochastic(Z, n_iters) for Z in logits.reshape(-1, n, n)]
    return torch.stack(made).reshape(logits.shape)


@right("sinkhorn", "numpy")
def sinkhorn_on_the_transpose(logits, *, n_iters=20):
    Z = np.swapaxes(logits, -1, -2)
    if n_iters == 0:
        return np.exp(logits)
    M = np.exp(Z - np.max(Z, axis=-1, keepdims=True))
    for _ in range(n_iters):
        M = M / np.einsum("...ij->...i", M)[..., :, None]
        M = M / np.einsum("...ij->...j", M)[..., None, :]
    return np.swapaxes(M, -1, -2)


@right("mhc_update")
def update_by_einsum(X, y, H_post, H_res):
    mixed = torch.einsum("...ij,...jd->...id", H_res, X)
    return mixed + torch.einsum("...i,...d->...id", H_post, y)


@right("mhc_update")
def update_stream_by_stream(X, y, H_post, H_res):
    streams = X.unbind(dim=-2)
    made = []
    for i in range(len(streams)):
        stream = H_post[..., i, None] * y
        for j, other in enumerate(streams):
            stream = stream + H_res[..., i, j, None] * other
        made.append(stream)
    return torch.stack(made, dim=-2)


@right("mhc_update")
def update_as_one_product(X, y, H_post, H_res):
    """[H_res, H_postᵀ] times X with y below it."""
    leading = torch.broadcast_shapes(X.shape[:-2], H_res.shape[:-2], H_post.shape[:-1])
    n, d = X.shape[-2:]
    H = torch.cat([H_res.expand(*leading, n, n), H_post.expand(*leading, n).unsqueeze(-1)], dim=-1)
    below = torch.cat([X.expand(*leading, n, d), y.expand(*leading, d).unsqueeze(-2)], dim=-2)
    made = torch.bmm(H.reshape(-1, n, n + 1), below.reshape(-1, n + 1, d))
    return made.reshape(*leading, n, d)


@right("mhc_update", "numpy")
def update_by_broadcasting(X, y, H_post, H_res):
    mixed = (H_res[..., None] * X[..., None, :, :]).sum(axis=-2)
    return mixed + np.einsum("...i,...d->...id", H_post, y)


@right("mhc_coefficients")
def coefficients_of_one_packed_product(X, params, *, convention="paper", n_iters=None):
    """The norm comes out of the product, and the gain goes into the weights."""
    n = X.shape[-2]
    phi = torch.cat([params["phi_pre"], params["phi_post"], params["phi_res"]], dim=1)
    if params.get("gain") is not None:
        phi = params["gain"][:, None] * phi
    x = X.flatten(start_dim=-2)
    z = (x @ phi) * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-20)
    z_pre, z_post, z_res = z.split([n, n, n * n], dim=-1)
    H_pre = torch.sigmoid(z_pre * params["alpha_pre"] + params["b_pre"])
    H_post = 1 + torch.tanh((z_post * params["alpha_post"] + params["b_post"]) / 2)
    Z = (z_res * params["alpha_res"] + params["b_res"].flatten()).unflatten(-1, (n, n))
    return H_pre, H_post, sinkhorn_of_logarithms(Z, n_iters=steps_of(n_iters))


@right("mhc_coefficients")
def coefficients_by_rms_norm(X, params, *, convention="paper", n_iters=None):
    n, d = X.shape[-2:]
    x = F.rms_norm(X.reshape(*X.shape[:-2], n * d), (n * d,), params.get("gain"), eps=1e-20)
    pre = F.linear(x, params["phi_pre"].T) * params["alpha_pre"] + params["b_pre"]
    post = F.linear(x, params["phi_post"].T) * params["alpha_post"] + params["b_post"]
    Z = F.linear(x, params["phi_res"].T).reshape(*x.shape[:-1], n, n)
    Z = Z * params["alpha_res"] + params["b_res"]
    return F.sigmoid(pre), F.sigmoid(post) * 2, sinkhorn_of_potentials(Z, n_iters=steps_of(n_iters))


@right("mhc_coefficients")
def coefficients_stream_by_stream(X, params, *, convention="paper", n_iters=None):
    """φ is cut into a block for each stream; the products are summed."""
    n, d = X.shape[-2:]
    r = torch.linalg.vector_norm(X, dim=(-2, -1)) / math.sqrt(n * d)
    gain = params.get("gain")
    z = {"pre": 0.0, "post": 0.0, "res": 0.0}
    for j in range(n):
        x = X[..., j, :] / r[..., None]
        x = x if gain is None else x * gain[j * d : (j + 1) * d]
        for part in z:
            z[part] = z[part] + x @ params[f"phi_{part}"][j * d : (j + 1) * d]
    pre, post = (
        params[f"alpha_{part}"] * z[part] + params[f"b_{part}"] for part in ("pre", "post")
    )
    Z = params["alpha_res"] * z["res"].reshape(*X.shape[:-2], n, n) + params["b_res"]
    made = sinkhorn_of_column_shifted_logits(Z, n_iters=steps_of(n_iters))
    return 1 / (1 + torch.exp(-pre)), 2 / (1 + torch.exp(-post)), made


@right("mhc_coefficients", "numpy")
def coefficients_by_einsum(X, params, *, convention="paper", n_iters=None):
    n, d = X.shape[-2:]
    r = np.sqrt(np.einsum("...jd,...jd->...", X, X) / (n * d) + 1e-20)[..., None]
    gain = params.get("gain")
    Y = X if gain is None else X * gain.reshape(n, d)
    H = []
    for part, width in (("pre", n), ("post", n), ("res", n * n)):
        phi = params[f"phi_{part}"].reshape(n, d, width)
        z = np.einsum("...jd,jdw->...w", Y, phi) / r
        H.append(params[f"alpha_{part}"] * z + params[f"b_{part}"].reshape(-1))
    Z = H[2].reshape(*H[2].shape[:-1], n, n)
    H_res = sinkhorn_on_the_transpose(Z, n_iters=steps_of(n_iters))
    return np_sigmoid(H[0]), 1 + np.tanh(H[1] / 2), H_res


@right("mhc_connection")
def connection_by_einsum(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients_by_rms_norm(X, params, n_iters=n_iters)
    y = sublayer(torch.einsum("...n,...nd->...d", H_pre, X))
    return update_by_einsum(X, y, H_post, H_res)


@right("mhc_connection")
def connection_token_by_token(X, sublayer, params, *, convention="paper", n_iters=None):
    n, d = X.shape[-2:]
    made = []
    for token in X.reshape(-1, n, d):
        packed = coefficients_of_one_packed_product(token, params, n_iters=n_iters)
        H_pre, H_post, H_res = packed
        y = sublayer(sum(H_pre[j] * token[j] for j in range(n)))
        made.append(torch.addmm(torch.outer(H_post, y), H_res, token))
    return torch.stack(made).reshape(X.shape)


@right("mhc_connection", "numpy")
def connection_in_numpy(X, sublayer, params, *, convention="paper", n_iters=None):
    pre, post, res = np_logits_of(X, params)
    y = sublayer(np.squeeze(np_sigmoid(pre)[..., None, :] @ X, axis=-2))
    H_res = sinkhorn_on_the_transpose(res, n_iters=steps_of(n_iters))
    return H_res @ X + (2 * np_sigmoid(post))[..., None] * y[..., None, :]


@right("hyper_connection")
def hyper_connection_by_matmul(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    """As in the paper's listing: one matrix (n, n + 1) reads and mixes, [𝒜_m 𝒜_r]ᵀ H."""
    A = torch.cat([params["A_m"][:, None], params["A_r"]], dim=1)
    B = params["B"]
    if dynamic:
        N = hc_normed(X, params, norm)
        W = torch.cat([params["W_m"], params["W_r"]], dim=1)
        z, w = N @ W, (N @ params["W_beta"]).squeeze(-1)
        z, w = (z.tanh(), w.tanh()) if tanh else (z, w)
        A, B = params["s_alpha"] * z + A, params["s_beta"] * w + B
    mixed = A.transpose(-1, -2) @ X
    y = sublayer(mixed[..., 0, :])
    return mixed[..., 1:, :] + B[..., :, None] * y[..., None, :]


@right("hyper_connection")
def hyper_connection_by_loops(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    bound = torch.tanh if tanh else torch.clone
    streams, n = X.unbind(-2), X.shape[-2]
    A_m, B, A_r = params["A_m"].unbind(), params["B"].unbind(), params["A_r"].unbind()
    if dynamic:
        normed = [hc_normed(stream, params, norm) for stream in streams]
        s_a, s_b = params["s_alpha"], params["s_beta"]
        A_m = [A_m[j] + s_a * bound(normed[j] @ params["W_m"]) for j in range(n)]
        B = [B[j] + s_b * bound(normed[j] @ params["W_beta"]) for j in range(n)]
        A_r = [A_r[j] + s_a * bound(normed[j] @ params["W_r"]) for j in range(n)]
    y = sublayer(sum(A_m[j] * streams[j] for j in range(n)))
    made = [B[i] * y + sum(A_r[j][..., i, None] * streams[j] for j in range(n)) for i in range(n)]
    return torch.stack(made, dim=-2)


@right("hyper_connection", "numpy")
def hyper_connection_in_numpy(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    A_m, B, A_r = params["A_m"], params["B"], params["A_r"]
    if dynamic:
        N = np_hc_normed(X, params, norm)
        bound = np.tanh if tanh else np.positive
        A_m = params["s_alpha"] * bound(N @ params["W_m"][:, 0]) + A_m
        B = params["s_beta"] * bound(N @ params["W_beta"][:, 0]) + B
        A_r = params["s_alpha"] * bound(N @ params["W_r"]) + A_r
    y = sublayer(np.einsum("...j,...jd->...d", A_m + 0 * X[..., 0], X))
    mixed = np.einsum("...ji,...jd->...id", A_r, X)
    return mixed + B[..., :, None] * y[..., None, :]


# The helpers of the mutants, which have no other fault therefore.


@right("sinkhorn")
def sinkhorn_plainly(logits, *, n_iters=20):
    return doubly_stochastic(logits, n_iters)


@right("sinkhorn", "numpy")
def sinkhorn_plainly_in_numpy(logits, *, n_iters=20):
    return np_doubly_stochastic(logits, n_iters)


@right("mhc_update")
def update_plainly(X, y, H_post, H_res):
    return H_res @ X + write(y, H_post)


@right("mhc_coefficients")
def coefficients_plainly(X, params, *, convention="paper", n_iters=None):
    return coefficients(X, params, n_iters)


@right("mhc_connection")
def connection_plainly(X, sublayer, params, *, convention="paper", n_iters=None):
    H_pre, H_post, H_res = coefficients(X, params, n_iters)
    return H_res @ X + write(sublayer(read(X, H_pre)), H_post)


@right("hyper_connection")
def hyper_connection_plainly(X, sublayer, params, *, dynamic=True, norm="layer", tanh=True):
    return hyper(X, sublayer, *hc_coefficients(X, params, dynamic, norm, tanh))
