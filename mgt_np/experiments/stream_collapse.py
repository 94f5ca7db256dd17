"""Do the residual streams of hyper-connections stay different?

DepthBench (2609.32534) measures the effective rank of the composed residual map H_L ⋯ H_1 of
trained models. Alimaskina et al. (2606.03483) find that one of the streams, which start as copies,
comes to dominate, and that unequal starts help. Here untrained decoders read real text. mHC starts
near I, as ours does, or near 11ᵀ/n, as in the large code bases, with the random φ of each. HC's own
start, H_res = I, has nothing random: its W are drawn from N(0, 1/d) instead, and its step is that
of the start, 0.01, or 0.3, where random coefficients have the gain of a trained HC (mixing-gain).
Unequal streams are the embedding plus a vector each, of the size of a token's.
"""

from functools import partial

import numpy as np

from mgt_np import plotting
from mgt_np.analysis import effective_rank, mean_cosine_similarity
from mgt_np.layers import hyper_connection_coefficients, mhc_coefficients
from mgt_np.models import RESIDUAL_RULES
from mgt_np.models.decoder import connections, embed

from .claims import Claim, extent
from .experiment import cells, generator, seeds
from .states import OfText, decoder_of_text

HC, MHC = ("HC at 0.01", "HC at 0.3"), ("mHC from I", "mHC from 11ᵀ/n")
COPIES, UNEQUAL = "equal copies", "unequal streams"
EQUAL, APART = 0.99, 0.9  # cosines at which streams still count as copies, and as different

QUICK = OfText(depth=12, n_tokens=32, n_windows=2)
FULL = OfText(n_seeds=5, depth=48, d_model=128, n_windows=2)


def claims(settings):
    L = 2 * settings.depth
    return [
        Claim(
            says="mHC's composed residual map has a lower effective rank than HC's",
            source="DepthBench 2609.32534, of trained models: 1.44 … 1.65 against 2.53 … 2.81",
            criterion=f"after {L} sub-layers, mHC's rank, HC's rank: first < second in all seeds",
            measure=ranks,
            passes=lambda pair: pair[0] < pair[1],
            only_if="one compares {}",
            form="{:.2f}, {:.2f}",
        ),
        Claim(
            says="Streams that start as equal copies stay copies before training",
            source="our question to 2606.03483",
            criterion=f"after {L} sub-layers the streams' mean cosine > {EQUAL:g} in every seed",
            measure=lambda result: at_the_end(result, "cosine", COPIES, np.min),
            passes=lambda cosine: cosine > EQUAL,
            only_if="the model is {}",
        ),
        Claim(
            says="Streams that start unequal stay different before training",
            source="2606.03483: unequal starts help training",
            criterion=f"after {L} sub-layers the streams' mean cosine < {APART:g} in every seed",
            measure=lambda result: at_the_end(result, "cosine", UNEQUAL, np.max),
            passes=lambda cosine: cosine < APART,
            only_if="the model is {}",
            beside=lambda result: (
                "The largest stream has of the squared norm "
                + extent(at_the_end(result, "largest_share", UNEQUAL, np.max).values(), "{:.2f}")
            ),
        ),
    ]


def at_the_end(result, column, start, extreme):
    """An extreme over the seeds of a column after the last sub-layer, for each model."""
    rows = result.rows.where(start=start, layer=2 * result.settings.depth)
    return rows.by("{model}", column, extreme)


def ranks(result):
    """mHC's largest and HC's least effective rank, for each pair of them."""
    most, least = (at_the_end(result, "rank", UNEQUAL, extreme) for extreme in (np.max, np.min))
    return {f"{mhc} with {hc}": (most[mhc], least[hc]) for mhc in MHC for hc in HC}


def tasks(settings):
    return cells(settings, model=HC + MHC, start=(COPIES, UNEQUAL), seed=seeds(settings))


def work(there, model, start, seed, **sizes):
    rule = "hc" if model in HC else "mhc"
    options = {"residual": rule, "mhc_start": "transformers" if model == MHC[1] else "identity"}
    config, params, text = decoder_of_text(seed=seed, dtype=there.dtype, **sizes, **options)
    coefficients = partial(mhc_coefficients, convention=config.mhc_convention)
    if model in HC:
        coefficients = hyper_connection_coefficients
        _draw(generator(seed, 2), params, step=float(model.rpartition(" ")[2]))
    offsets = generator(seed, 3).standard_normal((config.n_streams, config.d_model))
    offsets *= config.embedding_scale if start == UNEQUAL else 0.0
    params, text, offsets, eye = there.move((params, text, offsets, np.eye(config.n_streams)))
    x = embed("stream-collapse", params, text, config)
    X = RESIDUAL_RULES[rule].expand(x, config) + offsets
    product = there.xp.broadcast_to(eye, (*X.shape[:-1], config.n_streams))
    labels = {"model": model, "start": start, "seed": seed[-1]}
    yield {**labels, "layer": 0, **measured(there.xp, X, product)}
    sublayers = [each for block in params["blocks"] for each in connections(block, config)]
    for layer, (_, sublayer, residual) in enumerate(sublayers, 1):
        _, _, H_res, *_ = coefficients(X, residual["connection"])
        product = there.xp.matmul(H_res, product)
        X = RESIDUAL_RULES[rule].update(X, sublayer, residual, config)
        yield {**labels, "layer": layer, **measured(there.xp, X, product)}


def _draw(rng, params, step):
    """Give HC's dynamic coefficients random weights and the step, in place."""
    for block in params["blocks"]:
        for name in ("attention_residual", "feed_forward_residual"):
            connection = block[name]["connection"]
            for W in (connection[name] for name in ("W_m", "W_beta", "W_r")):
                W[...] = rng.standard_normal(W.shape) / np.sqrt(len(W))
            connection["s_alpha"][...] = connection["s_beta"][...] = step


def measured(xp, X, product):
    """Rank of the product, cosine between the streams, the largest one's share: token means."""
    squares = xp.sum(X * X, axis=-1)
    values = {
        "rank": effective_rank(product),
        "cosine": mean_cosine_similarity(X),
        "largest_share": xp.max(squares, axis=-1) / xp.sum(squares, axis=-1),
    }
    return {name: float(xp.mean(value)) for name, value in values.items()}


ALT = (
    "Over an untrained decoder's sub-layers, left: the rank of the composed map stays at four or "
    "falls; right: the streams' cosine rises from unequal starts, unless HC's step is large."
)
COLOURS = (plotting.ORANGE, plotting.VERMILLION, plotting.SKY, plotting.BLUE)


@plotting.styled
def plot(result, judged):
    figure, axes = plotting.new_figure(1, 2, size=(15, 6.6))
    for model, colour, marker in zip(HC + MHC, COLOURS, "os^D", strict=True):
        rows = result.rows.where(model=model, start=UNEQUAL)
        style = {"color": colour, "marker": marker, "markevery": 4, "label": model}
        for ax, column in zip(axes, ("rank", "cosine"), strict=True):
            plotting.band(ax, rows.values("layer"), rows.grid(column, "seed", "layer"), **style)
    labels = "effective rank of the product of H_res", "mean cosine between the streams"
    for ax, claim, label in zip(axes, (judged[0], judged[2]), labels, strict=True):
        ax.set_title(plotting.wrapped(claim.headline, 66))
        ax.set(xlabel="sub-layers", xlim=(0, 2 * result.settings.depth), ylabel=label)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    return figure
