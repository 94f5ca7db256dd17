"""Delta updates, Deep Delta Learning and MGT's update, as other people write them."""

import math
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from . import recorder

WRONG, RIGHT = [], []
wrong, right = recorder(WRONG), recorder(RIGHT)


def linear(x, W, b=None):
    return x @ W if b is None else x @ W + b


def dot(a, b):
    return (a * b).sum(-1, keepdim=True)


def np_sigmoid(z):
    """σ by way of tanh, which does not overflow."""
    return 0.5 * (1 + np.tanh(0.5 * z))


def wide(x):
    """Half precision as float32, in which ε² is not zero; others as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


# ---- unit_direction ----


def unit(k, eps=1e-5, placement="inside"):
    w = wide(k)
    if placement == "outside":
        return (w / (w.norm(dim=-1, keepdim=True) + eps)).to(k.dtype)
    return (w / torch.sqrt(dot(w, w) + eps**2)).to(k.dtype)


@wrong("unit_direction", "torch", "has ε = 1e-6, whatever is asked for")
def unit_eps_6(k, *, eps=1e-5, placement="inside"):
    return unit(k, 1e-6, placement)


@wrong("unit_direction", "torch", "has ε = 2e-5")
def unit_eps_twice(k, *, eps=1e-5, placement="inside"):
    return unit(k, 2e-5, placement)


@wrong("unit_direction", "torch", "adds ε to the norm, outside the root")
def unit_outside(k, *, eps=1e-5, placement="inside"):
    w = wide(k)
    return (w / (torch.linalg.vector_norm(w, dim=-1, keepdim=True) + eps)).to(k.dtype)


@wrong("unit_direction", "torch", "adds ε under the root without squaring it")
def unit_eps_not_squared(k, *, eps=1e-5, placement="inside"):
    w = wide(k)
    return (w * torch.rsqrt(w.square().sum(-1, keepdim=True) + eps)).to(k.dtype)


@wrong("unit_direction", "torch", "is F.normalize: the larger of the norm and 1e-12")
def unit_normalize(k, *, eps=1e-5, placement="inside"):
    return F.normalize(wide(k), dim=-1).to(k.dtype)


@wrong("unit_direction", "torch", "takes the larger of the norm and ε")
def unit_clamped(k, *, eps=1e-5, placement="inside"):
    return F.normalize(wide(k), dim=-1, eps=eps).to(k.dtype)


@wrong("unit_direction", "torch", "returns k as it is")
def unit_not_at_all(k, *, eps=1e-5, placement="inside"):
    return k.clone()


@wrong("unit_direction", "numpy", "divides by the sum of absolute values")
def unit_l1(k, *, eps=1e-5, placement="inside"):
    w = k.astype(np.float32) if k.dtype == np.float16 else k
    total = np.abs(w).sum(axis=-1, keepdims=True)
    return (w / np.sqrt(total * total + eps * eps)).astype(k.dtype)


@wrong("unit_direction", "torch", "divides by the largest absolute value")
def unit_largest(k, *, eps=1e-5, placement="inside"):
    w = wide(k)
    return (w / (w.abs().amax(-1, keepdim=True).square() + eps**2).sqrt()).to(k.dtype)


@wrong("unit_direction", "torch", "scales to unit root mean square")
def unit_rms(k, *, eps=1e-5, placement="inside"):
    w = wide(k)
    return (w * torch.rsqrt(w.square().mean(-1, keepdim=True) + eps**2)).to(k.dtype)


@wrong("unit_direction", "numpy", "divides by the squared norm plus ε")
def unit_by_square(k, *, eps=1e-5, placement="inside"):
    w = k.astype(np.float32) if k.dtype == np.float16 else k
    return (w / ((w * w).sum(axis=-1, keepdims=True) + eps)).astype(k.dtype)


@wrong("unit_direction", "torch", "takes one norm for all vectors together")
def unit_one_norm(k, *, eps=1e-5, placement="inside"):
    w = wide(k)
    return (w / torch.sqrt(torch.norm(w) ** 2 + eps**2)).to(k.dtype)


@wrong("unit_direction", "torch", "takes the norm over the tokens, axis −2")
def unit_over_tokens(k, *, eps=1e-5, placement="inside"):
    w = wide(k)
    axis = -2 if k.ndim > 1 else -1
    return (w / torch.sqrt(w.square().sum(axis, keepdim=True) + eps**2)).to(k.dtype)


@wrong("unit_direction", "torch", "subtracts the mean first")
def unit_centred(k, *, eps=1e-5, placement="inside"):
    return unit(k - k.mean(-1, keepdim=True), eps, placement) if k.shape[-1] > 1 else unit(k, eps)


@wrong("unit_direction", "torch", "has ε = 1e-6, added outside the root", parts=2)
def unit_outside_eps_6(k, *, eps=1e-5, placement="inside"):
    w = wide(k)
    return (w / (w.norm(dim=-1, keepdim=True) + 1e-6)).to(k.dtype)


@wrong("unit_direction", "torch", "the norm is detached", gradient_only=True)
def unit_norm_detached(k, *, eps=1e-5, placement="inside"):
    w = wide(k)
    size = torch.sqrt(dot(w, w) + (eps**2 if placement == "inside" else 0))
    size = size if placement == "inside" else size + eps
    return (w / size.detach()).to(k.dtype)


@right("unit_direction", "torch")
def unit_of_longer_vector(k, *, eps=1e-5, placement="inside"):
    """ε is one more component of the vector whose norm is taken."""
    w = wide(k)
    longer = w if placement == "outside" else F.pad(w, (0, 1), value=eps)
    norm = torch.linalg.vector_norm(longer, dim=-1, keepdim=True)
    return (w / (norm + eps if placement == "outside" else norm)).to(k.dtype)


@right("unit_direction", "torch")
def unit_hypot(k, *, eps=1e-5, placement="inside"):
    w = wide(k)
    norm = dot(w, w).sqrt() if placement == "outside" else None
    if norm is None:
        norm = torch.full_like(w[..., :1], eps)
        for part in w.unbind(-1):
            norm = torch.hypot(norm, part.unsqueeze(-1))
        return (w / norm).to(k.dtype)
    return (w / (norm + eps)).to(k.dtype)


@right("unit_direction", "numpy")
def unit_vector_by_vector(k, *, eps=1e-5, placement="inside"):
    y = np.empty_like(k)
    for i in np.ndindex(k.shape[:-1]):
        one = [float(k_j) for k_j in k[i]]
        norm = math.hypot(*one) + eps if placement == "outside" else math.hypot(*one, eps)
        y[i] = [k_j / norm for k_j in one]
    return y


# ---- delta_update ----


def over_matrices(beta, X):
    """β with axes for features and values; a number as an array."""
    return torch.as_tensor(beta, dtype=X.dtype, device=X.device)[..., None, None]


def np_over_matrices(beta, X):
    return np.asarray(beta, dtype=X.dtype)[..., None, None]


def outer(a, b):
    return a.unsqueeze(-1) * b.unsqueeze(-2)


def read(k, X):
    """kᵀX, one row."""
    return k.unsqueeze(-2) @ X


@wrong("delta_update", "torch", "scales k to unit length inside")
def delta_normalised(X, k, v, beta):
    k = F.normalize(wide(k), dim=-1).to(k.dtype)
    return X + over_matrices(beta, X) * k.unsqueeze(-1) * (v.unsqueeze(-2) - read(k, X))


@wrong("delta_update", "torch", "writes v kᵀ instead of k vᵀ")
def delta_outer_transposed(X, k, v, beta):
    written = outer(v, k) if v.shape[-1] == k.shape[-1] else outer(k, v)
    return X + over_matrices(beta, X) * (written - k.unsqueeze(-1) * read(k, X))


@wrong("delta_update", "numpy", "subtracts the update")
def delta_sign(X, k, v, beta):
    error = v[..., None, :] - k[..., None, :] @ X
    return X - np_over_matrices(beta, X) * (k[..., :, None] * error)


@wrong("delta_update", "torch", "does not erase: a Hebbian write")
def delta_no_erase(X, k, v, beta):
    return X + over_matrices(beta, X) * outer(k, v)


@wrong("delta_update", "torch", "does not write")
def delta_no_write(X, k, v, beta):
    return X - over_matrices(beta, X) * k.unsqueeze(-1) * read(k, X)


@wrong("delta_update", "torch", "has β on what is erased only")
def delta_beta_on_erase(X, k, v, beta):
    return X - over_matrices(beta, X) * k.unsqueeze(-1) * read(k, X) + outer(k, v)


@wrong("delta_update", "torch", "has β on what is written only")
def delta_beta_on_write(X, k, v, beta):
    return X - k.unsqueeze(-1) * read(k, X) + over_matrices(beta, X) * outer(k, v)


@wrong("delta_update", "torch", "multiplies k and v into the reading: β k (kᵀX ⊙ v)")
def delta_multiplied(X, k, v, beta):
    return X + over_matrices(beta, X) * k.unsqueeze(-1) * (v.unsqueeze(-2) * read(k, X))


@wrong("delta_update", "numpy", "returns the update without X")
def delta_no_residual(X, k, v, beta):
    error = v[..., None, :] - k[..., None, :] @ X
    return np_over_matrices(beta, X) * k[..., :, None] * error


@wrong("delta_update", "torch", "has 1 − β for β")
def delta_one_minus_beta(X, k, v, beta):
    return X + (1 - over_matrices(beta, X)) * k.unsqueeze(-1) * (v.unsqueeze(-2) - read(k, X))


@wrong("delta_update", "torch", "erases all of X, not its part along k")
def delta_erases_all(X, k, v, beta):
    return X + over_matrices(beta, X) * (outer(k, v) - X)


@wrong("delta_update", "torch", "has a factor 2, as Householder's reflection")
def delta_twice(X, k, v, beta):
    return X + 2 * over_matrices(beta, X) * k.unsqueeze(-1) * (v.unsqueeze(-2) - read(k, X))


@wrong("delta_update", "torch", "writes first, then erases from what was written")
def delta_writes_first(X, k, v, beta):
    beta = over_matrices(beta, X)
    X = X + beta * outer(k, v)
    return X - beta * k.unsqueeze(-1) * read(k, X)


@wrong("delta_update", "torch", "erases at every place by k² instead of along k")
def delta_elementwise(X, k, v, beta):
    k = k.unsqueeze(-1)
    return X + over_matrices(beta, X) * k * (v.unsqueeze(-2) - k * X)


@wrong("delta_update", "torch", "scales k to unit length and does not erase", parts=2)
def delta_normalised_write(X, k, v, beta):
    k = F.normalize(wide(k), dim=-1).to(k.dtype)
    return X + over_matrices(beta, X) * outer(k, v)


@wrong("delta_update", "numpy", "has 1 − β, and X is not added", parts=2)
def delta_one_minus_no_residual(X, k, v, beta):
    error = v[..., None, :] - k[..., None, :] @ X
    return (1 - np_over_matrices(beta, X)) * k[..., :, None] * error


@wrong("delta_update", "torch", "what is read along k is detached", gradient_only=True)
def delta_read_detached(X, k, v, beta):
    error = v.unsqueeze(-2) - read(k, X).detach()
    return X + over_matrices(beta, X) * k.unsqueeze(-1) * error


@right("delta_update", "torch")
def delta_as_matrix(X, k, v, beta):
    beta = over_matrices(beta, X)
    identity = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
    return (identity - beta * outer(k, k)) @ X + beta * outer(k, v)


@right("delta_update", "torch")
def delta_einsum(X, k, v, beta):
    error = v - torch.einsum("...d,...dm->...m", k, X)
    step = k * torch.as_tensor(beta, dtype=k.dtype, device=k.device)[..., None]
    return X + torch.einsum("...d,...m->...dm", step, error)


@right("delta_update", "numpy")
def delta_column_by_column(X, k, v, beta):
    beta = np.asarray(beta, dtype=X.dtype)[..., None]
    columns = []
    for j in range(X.shape[-1]):
        x = X[..., j]
        seen = (k * x).sum(axis=-1, keepdims=True)
        columns.append(x + beta * (v[..., j : j + 1] - seen) * k)
    return np.stack(columns, axis=-1)


@right("delta_update", "torch")
def delta_row_by_row(X, k, v, beta):
    """Each feature's row takes its own share of one error."""
    error = v - (k.unsqueeze(-1) * X).sum(-2)
    beta = torch.as_tensor(beta, dtype=X.dtype, device=X.device)[..., None]
    rows = [X[..., i, :] + beta * k[..., i : i + 1] * error for i in range(X.shape[-2])]
    return torch.stack(rows, dim=-2)


# ---- deep_delta_residual ----


def deep_delta(body):
    """Give `body` the signature of the contract; its one argument has all of them, and u."""

    def call(
        x,
        k,
        W_v,
        W_beta,
        b_v=None,
        b_beta=None,
        W_hidden=None,
        b_hidden=None,
        *,
        context,
        v_input=None,
        v_form="linear",
        eps=1e-5,
        placement="inside",
        erase=True,
    ):
        given = SimpleNamespace(**locals())
        given.u = x if v_input is None else v_input
        return body(given)

    call.__name__ = body.__name__
    return call


def gate_logit(a, c):
    if a.W_hidden is not None:
        c = torch.tanh(linear(c, a.W_hidden, a.b_hidden))
    return linear(c, a.W_beta, a.b_beta)


def value_of(a, u):
    if a.v_form == "constant":
        return torch.full_like(u[..., :1], 2.0)
    z = linear(u, a.W_v, a.b_v)
    return 4 * z.sigmoid() if a.v_form == "sigmoid4" else z


def direction_of(a):
    return unit(a.k, a.eps, a.placement)


def ddl(a, k=None, beta=None, v=None):
    """The update, each part as the contract has it unless given."""
    k = direction_of(a) if k is None else k
    beta = 2 * gate_logit(a, a.context).sigmoid() if beta is None else beta
    v = value_of(a, a.u) if v is None else v
    return a.x + beta * ((v - dot(k, a.x) if a.erase else v) * k)


def but(a, **changed):
    return SimpleNamespace(**(vars(a) | changed))


@wrong("deep_delta_residual", "torch", "the gate reads the state x")
@deep_delta
def ddl_gate_of_x(a):
    return ddl(a, beta=2 * gate_logit(a, a.x).sigmoid())


@wrong("deep_delta_residual", "torch", "the gate reads the direction k")
@deep_delta
def ddl_gate_of_k(a):
    return ddl(a, beta=2 * gate_logit(a, a.k).sigmoid())


@wrong("deep_delta_residual", "torch", "loses b_β")
@deep_delta
def ddl_no_b_beta(a):
    return ddl(but(a, b_beta=None))


@wrong("deep_delta_residual", "torch", "loses b_v")
@deep_delta
def ddl_no_b_v(a):
    return ddl(but(a, b_v=None))


@wrong("deep_delta_residual", "torch", "has β = σ(z), without the factor 2")
@deep_delta
def ddl_no_two(a):
    return ddl(a, beta=gate_logit(a, a.context).sigmoid())


@wrong("deep_delta_residual", "torch", "has β = 1 + tanh z: the logit is doubled")
@deep_delta
def ddl_tanh(a):
    return ddl(a, beta=1 + gate_logit(a, a.context).tanh())


@wrong("deep_delta_residual", "torch", "v reads the context whatever v_input is")
@deep_delta
def ddl_v_of_context(a):
    return ddl(a, v=value_of(a, a.context))


@wrong("deep_delta_residual", "torch", "v reads the direction k")
@deep_delta
def ddl_v_of_k(a):
    return ddl(a, v=value_of(a, a.k))


@wrong("deep_delta_residual", "torch", "has v = 4σ(z) though it should be linear")
@deep_delta
def ddl_sigmoid4(a):
    return ddl(a, v=value_of(but(a, v_form="sigmoid4"), a.u))


@wrong("deep_delta_residual", "torch", "v reads the context, as 4σ(z)", parts=2)
@deep_delta
def ddl_sigmoid4_of_context(a):
    return ddl(a, v=value_of(but(a, v_form="sigmoid4"), a.context))


@wrong("deep_delta_residual", "torch", "k is not normalised")
@deep_delta
def ddl_raw_k(a):
    return ddl(a, k=a.k)


@wrong("deep_delta_residual", "torch", "k is not normalised and β has no factor 2", parts=2)
@deep_delta
def ddl_raw_k_no_two(a):
    return ddl(a, k=a.k, beta=gate_logit(a, a.context).sigmoid())


@wrong("deep_delta_residual", "torch", "k has unit root mean square, not unit length")
@deep_delta
def ddl_rms_k(a):
    w = wide(a.k)
    k = w * torch.rsqrt(w.square().mean(-1, keepdim=True) + a.eps**2)
    return ddl(a, k=k.to(a.k.dtype))


@wrong("deep_delta_residual", "torch", "k is divided by the sum of its absolute values")
@deep_delta
def ddl_l1_k(a):
    w = wide(a.k)
    total = w.abs().sum(-1, keepdim=True)
    return ddl(a, k=(w / (total.square() + a.eps**2).sqrt()).to(a.k.dtype))


@wrong("deep_delta_residual", "torch", "does not erase")
@deep_delta
def ddl_no_erase(a):
    return ddl(but(a, erase=False))


@wrong("deep_delta_residual", "torch", "subtracts the update")
@deep_delta
def ddl_sign(a):
    return 2 * a.x - ddl(a)


@wrong("deep_delta_residual", "numpy", "adds x twice")
@deep_delta
def ddl_residual_twice(a):
    w = a.k.astype(np.float32) if a.k.dtype == np.float16 else a.k
    k = (w / np.sqrt((w * w).sum(axis=-1, keepdims=True) + a.eps**2)).astype(a.k.dtype)
    beta = 2 * np_sigmoid(linear(a.context, a.W_beta, a.b_beta))
    v = linear(a.u, a.W_v, a.b_v)
    return a.x + a.x + beta * (v - (k * a.x).sum(axis=-1, keepdims=True)) * k


@wrong(
    "deep_delta_residual", "torch", "adds the sub-layer's output k too, as a plain residual does"
)
@deep_delta
def ddl_k_added(a):
    return ddl(a) + a.k


@wrong("deep_delta_residual", "torch", "adds ε to the norm of k, outside the root")
@deep_delta
def ddl_outside(a):
    return ddl(but(a, placement="outside"))


@wrong("deep_delta_residual", "torch", "normalises k by F.normalize, whose ε is 1e-12")
@deep_delta
def ddl_normalize(a):
    return ddl(a, k=F.normalize(wide(a.k), dim=-1).to(a.k.dtype))


@wrong("deep_delta_residual", "torch", "erases what k̂ reads from the context, not from x")
@deep_delta
def ddl_erases_context(a):
    k, v = direction_of(a), value_of(a, a.u)
    beta = 2 * gate_logit(a, a.context).sigmoid()
    return a.x + beta * (v - dot(k, a.context)) * k


@wrong("deep_delta_residual", "torch", "has β on the erased part only")
@deep_delta
def ddl_beta_on_erase(a):
    k, v = direction_of(a), value_of(a, a.u)
    beta = 2 * gate_logit(a, a.context).sigmoid()
    return a.x - beta * dot(k, a.x) * k + v * k


@wrong("deep_delta_residual", "torch", "erases with the raw k and writes along the unit one")
@deep_delta
def ddl_reads_raw_k(a):
    k, v = direction_of(a), value_of(a, a.u)
    beta = 2 * gate_logit(a, a.context).sigmoid()
    return a.x + beta * (v - dot(a.k, a.x)) * k


@wrong("deep_delta_residual", "torch", "gate reads x, without bias and factor 2", parts=3)
@deep_delta
def ddl_plain_gate(a):
    return ddl(a, beta=gate_logit(but(a, b_beta=None), a.x).sigmoid())


@wrong("deep_delta_residual", "torch", "neither erases nor has biases", parts=3)
@deep_delta
def ddl_write_no_bias(a):
    return ddl(but(a, b_beta=None, b_v=None, erase=False))


@wrong("deep_delta_residual", "torch", "the direction is detached", gradient_only=True)
@deep_delta
def ddl_k_detached(a):
    return ddl(a, k=direction_of(a).detach())


@wrong("deep_delta_residual", "torch", "the gate is detached", gradient_only=True)
@deep_delta
def ddl_gate_detached(a):
    return ddl(a, beta=2 * gate_logit(a, a.context).sigmoid().detach())


@right("deep_delta_residual", "torch")
@deep_delta
def ddl_as_matrix(a):
    k, beta = direction_of(a), 2 * F.sigmoid(gate_logit(a, a.context))
    written = beta * value_of(a, a.u) * k
    if not a.erase:
        return a.x + written
    A = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device) - outer(beta * k, k)
    return (A @ a.x.unsqueeze(-1)).squeeze(-1) + written


@right("deep_delta_residual", "torch")
@deep_delta
def ddl_lerp(a):
    """β = 1 + tanh z/2, and a step from what is there towards what shall be."""
    w = wide(a.k)
    shape = w.shape[-1:]
    longer = w if a.placement == "outside" else F.pad(w, (0, 1), value=a.eps)
    norm = torch.linalg.vector_norm(longer, dim=-1, keepdim=True)
    k = (w / (norm + a.eps if a.placement == "outside" else norm)).to(a.k.dtype)
    beta = 1 + torch.tanh(gate_logit(a, a.context) / 2)
    there = (k.unsqueeze(-2) @ a.x.unsqueeze(-1)).squeeze(-1).expand(*a.x.shape[:-1], 1)
    step = value_of(a, a.u) - there if a.erase else value_of(a, a.u)
    return torch.addcmul(a.x, (beta * step).expand(*a.x.shape[:-1], *shape), k)


@right("deep_delta_residual", "numpy")
@deep_delta
def ddl_token_by_token(a):
    y = np.empty_like(a.x)
    for i in np.ndindex(a.x.shape[:-1]):
        one = [float(k_j) for k_j in a.k[i]]
        norm = math.hypot(*one, a.eps) if a.placement == "inside" else math.hypot(*one) + a.eps
        k = np.array([k_j / norm for k_j in one], dtype=a.x.dtype)
        c = a.context[i]
        if a.W_hidden is not None:
            c = np.tanh(linear(c, a.W_hidden, a.b_hidden))
        beta = 2 * np_sigmoid(linear(c, a.W_beta, a.b_beta))
        v = linear(a.u[i], a.W_v, a.b_v)
        if a.v_form != "linear":
            v = 4 * np_sigmoid(v) if a.v_form == "sigmoid4" else np.full_like(v, 2)
        y[i] = a.x[i] + beta * (v - k @ a.x[i] if a.erase else v) * k
    return y


# ---- tangent_gate ----


def affine(y, gain, bias):
    y = y if gain is None else y * gain
    return y if bias is None else y + bias


def norm(x, gain=None, bias=None, eps=1e-5):
    return F.layer_norm(x, x.shape[-1:], gain, bias, eps)


def rms(x, gain=None, bias=None, eps=1e-5):
    return affine(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps), gain, bias)


@wrong("tangent_gate", "torch", "normalises x before the map, not after it")
def gate_norm_first(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return torch.sigmoid(norm(x, gain, bias, eps) @ W_gate)


@wrong("tangent_gate", "torch", "normalises x before the map, with gain and bias after it")
def gate_norm_first_affine_after(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return torch.sigmoid(affine(norm(x, eps=eps) @ W_gate, gain, bias))


@wrong("tangent_gate", "torch", "has no norm")
def gate_no_norm(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return torch.sigmoid(affine(x @ W_gate, gain, bias))


@wrong("tangent_gate", "torch", "has RMS norm instead of layer norm")
def gate_rms(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return torch.sigmoid(rms(x @ W_gate, gain, bias, eps))


@wrong("tangent_gate", "torch", "doubles the gate, so that it is in (0, 2)")
def gate_doubled(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return 2 * torch.sigmoid(norm(x @ W_gate, gain, bias, eps))


@wrong("tangent_gate", "torch", "has tanh for the sigmoid")
def gate_tanh(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return torch.tanh(norm(x @ W_gate, gain, bias, eps))


@wrong("tangent_gate", "torch", "has ε = 1e-6 in its norm")
def gate_eps(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return torch.sigmoid(norm(x @ W_gate, gain, bias, 1e-6))


@wrong("tangent_gate", "numpy", "loses gain and bias", parts=2)
def gate_no_affine(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    z = x @ W_gate
    z = (z - z.mean(axis=-1, keepdims=True)) / np.sqrt(z.var(axis=-1, keepdims=True) + eps)
    return np_sigmoid(z)


@wrong("tangent_gate", "torch", "has W_gate transposed, as nn.Linear holds it")
def gate_transposed(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return torch.sigmoid(norm(F.linear(x, W_gate), gain, bias, eps))


@wrong("tangent_gate", "torch", "has the hard sigmoid")
def gate_hard(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return F.hardsigmoid(norm(x @ W_gate, gain, bias, eps))


@wrong("tangent_gate", "torch", "has softmax over the features for the sigmoid")
def gate_softmax(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return torch.softmax(norm(x @ W_gate, gain, bias, eps), dim=-1)


@wrong("tangent_gate", "torch", "returns the part that is held back, 1 − g")
def gate_complement(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return 1 - torch.sigmoid(norm(x @ W_gate, gain, bias, eps))


@wrong("tangent_gate", "numpy", "divides by d − 1 in the variance of its norm")
def gate_unbiased(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    z = x @ W_gate
    z = (z - z.mean(axis=-1, keepdims=True)) / np.sqrt(z.var(axis=-1, keepdims=True, ddof=1) + eps)
    return np_sigmoid(affine(z, gain, bias))


@wrong("tangent_gate", "torch", "has RMS norm before the map", parts=2)
def gate_rms_first(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return torch.sigmoid(rms(x, gain, bias, eps) @ W_gate)


@right("tangent_gate", "torch")
def gate_by_tanh(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    return 0.5 + 0.5 * torch.tanh(0.5 * norm(F.linear(x, W_gate.mT), gain, bias, eps))


@right("tangent_gate", "torch")
def gate_by_softplus(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    """The mean is taken out of the map's columns; the sigmoid is e to its own logarithm."""
    z = x @ W_gate
    z = z - z.mean(-1, keepdim=True)
    z = affine(z / (z.square().mean(-1, keepdim=True) + eps).sqrt(), gain, bias)
    return F.logsigmoid(z).exp()


@right("tangent_gate", "numpy")
def gate_token_by_token(x, W_gate, gain=None, bias=None, *, eps=1e-5):
    y = np.empty_like(x)
    for i in np.ndindex(x.shape[:-1]):
        z = W_gate.T @ x[i]
        z = affine((z - z.mean()) / np.sqrt(z.var() + eps), gain, bias)
        y[i] = np_sigmoid(z)
    return y


# ---- mgt_beta ----


@wrong("mgt_beta", "torch", "loses b_β")
def beta_no_bias(x, W_beta, b_beta, *, lam, eps):
    return lam * torch.tanh(x @ W_beta) + eps


@wrong("mgt_beta", "torch", "loses λ")
def beta_no_lam(x, W_beta, b_beta, *, lam, eps):
    return torch.tanh(x @ W_beta + b_beta) + eps


@wrong("mgt_beta", "numpy", "loses ε")
def beta_no_eps(x, W_beta, b_beta, *, lam, eps):
    return lam * np.tanh(x @ W_beta + b_beta)


@wrong("mgt_beta", "torch", "has a sigmoid for tanh")
def beta_sigmoid(x, W_beta, b_beta, *, lam, eps):
    return lam * torch.sigmoid(x @ W_beta + b_beta) + eps


@wrong("mgt_beta", "torch", "has λ inside tanh")
def beta_lam_inside(x, W_beta, b_beta, *, lam, eps):
    return torch.tanh(lam * (x @ W_beta + b_beta)) + eps


@wrong("mgt_beta", "torch", "has ε inside tanh")
def beta_eps_inside(x, W_beta, b_beta, *, lam, eps):
    return lam * torch.tanh(x @ W_beta + b_beta + eps)


@wrong("mgt_beta", "torch", "scales ε by λ too")
def beta_lam_on_both(x, W_beta, b_beta, *, lam, eps):
    return lam * (torch.tanh(x @ W_beta + b_beta) + eps)


@wrong("mgt_beta", "torch", "takes the absolute value: never negative")
def beta_absolute(x, W_beta, b_beta, *, lam, eps):
    return (lam * torch.tanh(x @ W_beta + b_beta) + eps).abs()


@wrong("mgt_beta", "torch", "cuts at 0: never negative")
def beta_cut(x, W_beta, b_beta, *, lam, eps):
    return F.relu(lam * torch.tanh(x @ W_beta + b_beta) + eps)


@wrong("mgt_beta", "numpy", "subtracts λ tanh z from ε")
def beta_sign(x, W_beta, b_beta, *, lam, eps):
    return eps - lam * np.tanh(x @ W_beta + b_beta)


@wrong("mgt_beta", "torch", "has DDL's gate, λ 2σ(z), and loses ε", parts=2)
def beta_ddl(x, W_beta, b_beta, *, lam, eps):
    return lam * (2 * torch.sigmoid(x @ W_beta + b_beta))


@wrong("mgt_beta", "torch", "has the hard tanh")
def beta_hard(x, W_beta, b_beta, *, lam, eps):
    return lam * F.hardtanh(x @ W_beta + b_beta) + eps


@wrong("mgt_beta", "torch", "exchanges λ and ε")
def beta_exchanged(x, W_beta, b_beta, *, lam, eps):
    return eps * torch.tanh(x @ W_beta + b_beta) + lam


@wrong("mgt_beta", "torch", "has no b_β, λ or ε", parts=3)
def beta_bare(x, W_beta, b_beta, *, lam, eps):
    return torch.tanh(x @ W_beta)


@right("mgt_beta", "torch")
def beta_by_sigmoid(x, W_beta, b_beta, *, lam, eps):
    z = F.linear(x, W_beta.mT, b_beta)
    return lam * (torch.sigmoid(2 * z) - torch.sigmoid(-2 * z)) + eps


@right("mgt_beta", "numpy")
def beta_by_exponentials(x, W_beta, b_beta, *, lam, eps):
    z = np.einsum("...i,ij->...j", x, W_beta) + b_beta
    e = np.expm1(-2 * np.abs(z))
    return eps - lam * np.sign(z) * e / (2 + e)


# ---- geometric_update ----


@wrong("geometric_update", "torch", "loses α")
def geometric_no_alpha(x, v, beta, alpha):
    return torch.lerp(x, v, (torch.as_tensor(beta, dtype=x.dtype) + torch.zeros_like(x)))


@wrong("geometric_update", "torch", "adds α x instead of subtracting it")
def geometric_alpha_sign(x, v, beta, alpha):
    return x + beta * (v + alpha * x)


@wrong("geometric_update", "torch", "has β on v only")
def geometric_beta_on_v(x, v, beta, alpha):
    return x + beta * v - alpha * x


@wrong("geometric_update", "numpy", "has β on the erased part only")
def geometric_beta_on_x(x, v, beta, alpha):
    return x + v - beta * alpha * x


@wrong("geometric_update", "torch", "adds x twice")
def geometric_residual_twice(x, v, beta, alpha):
    return x + (x + beta * (v - alpha * x))


@wrong("geometric_update", "torch", "returns the update without x")
def geometric_no_residual(x, v, beta, alpha):
    return beta * (v - alpha * x)


@wrong("geometric_update", "numpy", "does not erase")
def geometric_no_erase(x, v, beta, alpha):
    return x + beta * v


@wrong("geometric_update", "torch", "erases a part of v instead of x")
def geometric_erases_v(x, v, beta, alpha):
    return x + beta * (v - alpha * v)


@wrong("geometric_update", "torch", "has α on v too")
def geometric_alpha_on_both(x, v, beta, alpha):
    return x + beta * alpha * (v - x)


@wrong("geometric_update", "torch", "has α on v and not on x")
def geometric_alpha_on_v(x, v, beta, alpha):
    return x + beta * (alpha * v - x)


@wrong("geometric_update", "torch", "subtracts v")
def geometric_v_sign(x, v, beta, alpha):
    return x - beta * (v + alpha * x)


@wrong("geometric_update", "torch", "erases along v: v1's projection, onto v")
def geometric_projection(x, v, beta, alpha):
    return x + beta * (v - alpha * v * (dot(v, x) / dot(v, v)))


@wrong("geometric_update", "torch", "takes the absolute value of β")
def geometric_absolute(x, v, beta, alpha):
    return x + abs(beta) * (v - alpha * x)


@wrong("geometric_update", "torch", "loses α and adds x twice", parts=2)
def geometric_two(x, v, beta, alpha):
    return x + x + beta * (v - x)


@wrong("geometric_update", "torch", "β on v only, and α x added", parts=2)
def geometric_other_two(x, v, beta, alpha):
    return x + beta * v + alpha * x


@right("geometric_update", "torch")
def geometric_two_terms(x, v, beta, alpha):
    return (1 - beta * alpha) * x + beta * v


@right("geometric_update", "numpy")
def geometric_feature_by_feature(x, v, beta, alpha):
    d = x.shape[-1]
    beta = np.broadcast_to(np.asarray(beta, dtype=x.dtype), x.shape)
    alpha = np.broadcast_to(np.asarray(alpha, dtype=x.dtype), (d,))
    made = [x[..., i] + beta[..., i] * (v[..., i] - alpha[i] * x[..., i]) for i in range(d)]
    return np.stack(made, axis=-1)


@right("geometric_update", "torch")
def geometric_fused(x, v, beta, alpha):
    beta, alpha = (torch.as_tensor(s, dtype=x.dtype, device=x.device) for s in (beta, alpha))
    return torch.addcmul(
        x, beta.expand(x.shape), torch.addcmul(v, alpha.expand(x.shape), x, value=-1)
    )


# ---- mgt_residual ----


def mgt(body):
    """Give `body` the signature of the contract; its one argument has all of them."""

    def call(x, v_raw, W_gate, W_beta, b_beta, alpha, gain=None, bias=None, *, lam, eps):
        return body(SimpleNamespace(**locals()))

    call.__name__ = body.__name__
    return call


def gate_of(a, x, eps=1e-5):
    return norm(x @ a.W_gate, a.gain, a.bias, eps).sigmoid()


def beta_of(a, x):
    return a.lam * torch.tanh(x @ a.W_beta + a.b_beta) + a.eps


@wrong("mgt_residual", "torch", "the gate reads v_raw")
@mgt
def mgt_gate_of_v(a):
    return a.x + beta_of(a, a.x) * (a.v_raw * gate_of(a, a.v_raw) - a.alpha * a.x)


@wrong("mgt_residual", "torch", "the ε of β is the gate's ε too")
@mgt
def mgt_shared_eps(a):
    return a.x + beta_of(a, a.x) * (a.v_raw * gate_of(a, a.x, a.eps) - a.alpha * a.x)


@wrong("mgt_residual", "torch", "the gate's norm comes before its map, and α is lost", parts=2)
@mgt
def mgt_norm_first_no_alpha(a):
    g = torch.sigmoid(norm(a.x, a.gain, a.bias) @ a.W_gate)
    return a.x + beta_of(a, a.x) * (a.v_raw * g - a.x)


@wrong("mgt_residual", "torch", "the gate's norm comes before its map")
@mgt
def mgt_norm_first(a):
    g = torch.sigmoid(norm(a.x, a.gain, a.bias) @ a.W_gate)
    return a.x + beta_of(a, a.x) * (a.v_raw * g - a.alpha * a.x)


@wrong("mgt_residual", "torch", "β reads v_raw")
@mgt
def mgt_beta_of_v(a):
    return a.x + beta_of(a, a.v_raw) * (a.v_raw * gate_of(a, a.x) - a.alpha * a.x)


@wrong("mgt_residual", "torch", "β reads the gated output")
@mgt
def mgt_beta_of_gated(a):
    v = a.v_raw * gate_of(a, a.x)
    return a.x + beta_of(a, v) * (v - a.alpha * a.x)


@wrong("mgt_residual", "numpy", "β has no λ, and there is no gate", parts=2)
@mgt
def mgt_no_lam_no_gate(a):
    beta = np.tanh(a.x @ a.W_beta + a.b_beta) + a.eps
    return a.x + beta * (a.v_raw - a.alpha * a.x)


@wrong("mgt_residual", "torch", "loses α")
@mgt
def mgt_no_alpha(a):
    return a.x + beta_of(a, a.x) * (a.v_raw * gate_of(a, a.x) - a.x)


@wrong("mgt_residual", "numpy", "has no gate")
@mgt
def mgt_no_gate(a):
    beta = a.lam * np.tanh(a.x @ a.W_beta + a.b_beta) + a.eps
    return a.x + beta * (a.v_raw - a.alpha * a.x)


@wrong("mgt_residual", "torch", "the gate is on the whole update")
@mgt
def mgt_gates_update(a):
    return a.x + beta_of(a, a.x) * gate_of(a, a.x) * (a.v_raw - a.alpha * a.x)


@wrong("mgt_residual", "torch", "the gate is on the erased part instead of the written one")
@mgt
def mgt_gates_erased(a):
    return a.x + beta_of(a, a.x) * (a.v_raw - a.alpha * gate_of(a, a.x) * a.x)


@wrong("mgt_residual", "torch", "the gate is applied twice")
@mgt
def mgt_gated_twice(a):
    g = gate_of(a, a.x)
    return a.x + beta_of(a, a.x) * (g * (g * a.v_raw) - a.alpha * a.x)


@wrong("mgt_residual", "torch", "the gate's norm is an RMS norm")
@mgt
def mgt_rms(a):
    g = torch.sigmoid(rms(a.x @ a.W_gate, a.gain, a.bias))
    return a.x + beta_of(a, a.x) * (a.v_raw * g - a.alpha * a.x)


@wrong("mgt_residual", "torch", "the gate's norm has neither gain nor bias", parts=2)
@mgt
def mgt_no_affine(a):
    g = torch.sigmoid(norm(a.x @ a.W_gate))
    return a.x + beta_of(a, a.x) * (a.v_raw * g - a.alpha * a.x)


@wrong("mgt_residual", "torch", "β has a sigmoid for tanh")
@mgt
def mgt_sigmoid_beta(a):
    beta = a.lam * torch.sigmoid(a.x @ a.W_beta + a.b_beta) + a.eps
    return a.x + beta * (a.v_raw * gate_of(a, a.x) - a.alpha * a.x)


@wrong("mgt_residual", "torch", "returns the update without x")
@mgt
def mgt_no_residual(a):
    return beta_of(a, a.x) * (a.v_raw * gate_of(a, a.x) - a.alpha * a.x)


@wrong("mgt_residual", "torch", "what the gate passes is held back: 1 − g")
@mgt
def mgt_complement(a):
    return a.x + beta_of(a, a.x) * (a.v_raw * (1 - gate_of(a, a.x)) - a.alpha * a.x)


@wrong("mgt_residual", "torch", "has no gate, no α and no ε", parts=3)
@mgt
def mgt_bare(a):
    return a.x + a.lam * torch.tanh(a.x @ a.W_beta + a.b_beta) * (a.v_raw - a.x)


@wrong("mgt_residual", "torch", "the gate is detached", gradient_only=True)
@mgt
def mgt_gate_detached(a):
    return a.x + beta_of(a, a.x) * (a.v_raw * gate_of(a, a.x).detach() - a.alpha * a.x)


@wrong("mgt_residual", "torch", "β is detached", gradient_only=True)
@mgt
def mgt_beta_detached(a):
    return a.x + beta_of(a, a.x).detach() * (a.v_raw * gate_of(a, a.x) - a.alpha * a.x)


@right("mgt_residual", "torch")
@mgt
def mgt_two_terms(a):
    """The gate divides: v/(1 + e⁻ᶻ); what is kept and what is written are two terms."""
    z = norm(F.linear(a.x, a.W_gate.mT), a.gain, a.bias)
    beta = torch.tanh(F.linear(a.x, a.W_beta.mT, a.b_beta)) * a.lam + a.eps
    return a.x * (1 - a.alpha * beta) + beta * (a.v_raw / (1 + torch.exp(-z)))


@right("mgt_residual", "torch")
@mgt
def mgt_one_map(a):
    """Gate and β are columns of one map."""
    d = a.x.shape[-1]
    maps = a.x @ torch.cat([a.W_gate, a.W_beta], dim=-1)
    z, logit = maps[..., :d], maps[..., d:] + a.b_beta
    var, mean = torch.var_mean(z, dim=-1, keepdim=True, correction=0)
    g = 0.5 + 0.5 * torch.tanh(0.5 * affine((z - mean) * (var + 1e-5).rsqrt(), a.gain, a.bias))
    return a.x + (a.lam * torch.tanh(logit) + a.eps) * (a.v_raw * g - a.alpha * a.x)


@right("mgt_residual", "numpy")
@mgt
def mgt_token_by_token(a):
    y = np.empty_like(a.x)
    for i in np.ndindex(a.x.shape[:-1]):
        x, v = a.x[i], a.v_raw[i]
        z = x @ a.W_gate
        z = affine((z - z.mean()) / np.sqrt(z.var() + 1e-5), a.gain, a.bias)
        beta = a.lam * np.tanh(x @ a.W_beta + a.b_beta) + a.eps
        y[i] = x + beta * (v * np_sigmoid(z) - a.alpha * x)
    return y
