"""Is the rank of attention with skips that of its short paths?

Dong et al. (2103.03404) write attention layers with skips as a sum over paths, each through one
head in some of them. Gaussian tokens, random weights of LeCun's scale; the norm is their ‖·‖₁,∞.
"""

import numpy as np

from mgt_np import plotting
from mgt_np.analysis import head_maps, path_length_terms, relative_residual
from mgt_np.layers import attention_weights, init_multi_head_attention

from .claims import Claim
from .experiment import cells, generator, seeds
from .states import Layers

QUICK = Layers(depth=24)
FULL = Layers(depth=100, n_seeds=10, n_tokens=128)


def claims(settings):
    return [
        Claim(
            says="The rank of a network with skips is that of its short paths",
            source="Dong et al. 2103.03404, as reported",
            criterion=f"falls to rounding; length {settings.depth // 2} has < 0.1 × that of 1",
            measure=lambda result: {f"{settings.depth} layers": falls(result)},
            passes=lambda ratios: ratios[0] < 1.0 and ratios[1] < 0.1,
            form="a length at most × {:.2g} of the one before, half of the layers × {:.1g} of one",
        )
    ]


def falls(result):
    """The largest ratios: of a length to the one before, above rounding, and of depth // 2 to 1."""
    sizes = result.rows.grid("relative_residual", "seed", "length")
    rounding = 100.0 * np.finfo(result.settings.dtype).eps
    ratios = (sizes[:, 1:] / sizes[:, :-1])[~(sizes[:, 1:] <= rounding)]
    return float(np.max(ratios)), float(np.max(sizes[:, result.settings.depth // 2] / sizes[:, 1]))


def tasks(settings):
    return cells(settings, seed=seeds(settings))


def work(there, seed, depth, n_tokens, d_model, n_heads):
    xp, rng = there.xp, generator(seed)
    X = x = there.move(rng.standard_normal((n_tokens, d_model)))
    P, W = [], []
    for rng_layer in rng.spawn(depth):
        params = there.move(init_multi_head_attention(rng_layer, d_model, bias=False))
        W_qk = head_maps(params["W_q"], xp.matrix_transpose(params["W_k"]), n_heads=n_heads)
        P.append(attention_weights(xp.matmul(x, W_qk), x, scale=(n_heads / d_model) ** 0.5))
        W.append(head_maps(params["W_v"], params["W_o"], n_heads=n_heads))
        x = x + xp.sum(xp.matmul(P[-1], xp.matmul(x, W[-1])), axis=0)
    terms = path_length_terms(X, xp.stack(P), xp.stack(W))
    for length, residual in enumerate(relative_residual(terms)):
        yield {"seed": seed[-1], "length": length, "relative_residual": float(residual)}


ALT = "The relative residual of all paths of a length falls from one to rounding, at length 21."


@plotting.styled
def plot(result, judged):
    figure, ax = plotting.new_figure(size=(9, 5.5))
    sizes = result.rows.grid("relative_residual", "seed", "length")
    plotting.band(ax, np.arange(sizes.shape[1]), sizes, log=True, color=plotting.BLUE, marker="o")
    ax.set(yscale="log", xlabel="layers on a path", ylabel="relative residual of all such paths")
    ax.set_title(plotting.wrapped(judged[0].headline, 64))
    return figure
