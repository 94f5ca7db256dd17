"""The mHC layer of my_mhc.py without its two mistakes."""

import torch
from torch.func import functional_call


class MyMHC(torch.nn.Module):
    """A sub-layer on n residual streams of d features, (..., n, d) to (..., n, d)."""

    def __init__(self, n, d, sublayer, n_iters=20):
        super().__init__()
        self.n, self.sublayer, self.n_iters = n, sublayer, n_iters
        self.gain = torch.nn.Parameter(torch.ones(n * d))
        self.phi = torch.nn.Linear(n * d, 2 * n + n * n)
        self.alpha = torch.nn.Parameter(torch.full((3,), 0.01))

    def forward(self, X):
        n = self.n
        x = X.flatten(-2)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-20).sqrt() * self.gain
        sizes = (n, n, n * n)
        scale = self.alpha.repeat_interleave(torch.tensor(sizes))
        logits = scale * (x @ self.phi.weight.T) + self.phi.bias
        pre, post, res = logits.split(sizes, dim=-1)
        H_pre, H_post = pre.sigmoid(), 2 * post.sigmoid()
        H_res = sinkhorn(res.unflatten(-1, (n, n)), n_iters=self.n_iters)
        y = self.sublayer(torch.einsum("...n,...nd->...d", H_pre, X))
        mixed = torch.einsum("...ij,...jd->...id", H_res, X)
        return mixed + H_post[..., None] * y[..., None, :]


def sinkhorn(logits, *, n_iters=20):
    P = (logits - logits.amax((-2, -1), keepdim=True)).exp()
    for _ in range(n_iters):
        P = P / P.sum(-2, keepdim=True)
        P = P / P.sum(-1, keepdim=True)
    return P


def mhc_connection(X, sublayer, params, *, n_iters=20):
    """The layer under the name and with the arguments of the contract, for `mgt-np compare`."""
    parts = ("pre", "post", "res")
    weights = {
        "gain": params["gain"],
        "phi.weight": torch.cat([params[f"phi_{part}"] for part in parts], dim=-1).T,
        "phi.bias": torch.cat([params[f"b_{part}"].flatten() for part in parts]),
        "alpha": torch.stack([params[f"alpha_{part}"] for part in parts]),
    }
    n, d = X.shape[-2:]
    return functional_call(MyMHC(n, d, sublayer, n_iters), weights, X)
