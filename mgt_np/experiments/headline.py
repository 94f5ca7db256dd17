"""Does MGT keep its rank where a standard transformer loses it?

The README's picture: MGT (2601.01014) and two standard transformers, untrained, on real text, with
weights at LeCun's scale.
"""

from mgt_np import plotting
from mgt_np.models import TransformerConfig

from .experiment import cells, seeds
from .states import COLLAPSED, DEPTH, KEPT, OfText, falls, measured, on_ranks, states_of_text, stays

SMALL = {"mgt_b_beta": TransformerConfig.mgt_b_beta, "mgt_alpha": TransformerConfig.mgt_alpha}
LARGE = {"mgt_b_beta": 0.5, "mgt_alpha": 1.0}
# From the lowest curve to the highest. The first ends on the second, which is wide for that.
DECODERS = {
    "MGT with large β": ({"residual": "mgt", **LARGE}, {"color": plotting.BLACK, "ls": ":"}),
    "Post-LN transformer": ({"residual": "post_ln"}, {"color": plotting.VERMILLION, "lw": 6}),
    "Pre-LN transformer": ({"residual": "pre_ln"}, {"color": plotting.PURPLE, "ls": "--"}),
    "MGT (our defaults)": ({"residual": "mgt", **SMALL}, {"color": plotting.BLUE, "lw": 3}),
}

QUICK = OfText()
FULL = OfText(depth=200, n_seeds=5, n_windows=4)


def claims(settings):
    at, beta = f"at depth {min(DEPTH, settings.depth)}", "(b_β = {mgt_b_beta:g}, α = {mgt_alpha:g})"
    steep, post, pre, ours = ({"decoder": decoder} for decoder in DECODERS)
    norms = {"post-LN": post, "pre-LN": pre}
    betas = {f"small {beta.format(**SMALL)}": ours, f"large {beta.format(**LARGE)}": steep}
    falling = f"A standard transformer's effective rank falls below {COLLAPSED} {at}"
    kept = f"MGT keeps effective rank above {KEPT} {at}"
    return [
        on_ranks(norms, says=falling, only_if="it is {}", readme=True, **falls(settings)),
        on_ranks(betas, says=kept, only_if="β is {}", readme=True, **stays(settings)),
    ]


def tasks(settings):
    tried = cells(settings, decoder=tuple(DECODERS), seed=seeds(settings))
    return [cell | DECODERS[cell["decoder"]][0] for cell in tried]


def work(there, decoder, seed, **options):
    states = states_of_text(there, seed=seed, weight_scale="lecun", **options)
    for layer, state in enumerate(states):
        rank, _ = measured(state)
        yield {"decoder": decoder, "seed": seed[-1], "layer": layer, "effective_rank": rank}


ALT = (
    "Effective rank of four untrained decoders over 100 layers. Post-LN and MGT with large β fall "
    "to almost zero within 15, pre-LN to a third; MGT with our defaults stays at three quarters."
)


@plotting.styled
def plot(result, judged):
    figure, ax = plotting.new_figure(size=(10.5, 6.2))
    depth, place = result.settings.depth, -1.0
    for threshold, words in ((KEPT, "MGT above"), (COLLAPSED, "a standard transformer below")):
        ax.axhline(threshold, color="grey", lw=1)
        ax.text(depth, threshold, f"predicted: {words} {threshold}", ha="right", va="bottom")
    for i, (decoder, (_, style)) in enumerate(DECODERS.items()):
        found = result.rows.where(decoder=decoder).grid("effective_rank", "seed", "layer")
        plotting.band(ax, range(depth + 1), found, zorder=4 - i, **style)
        place = max(place + 0.05, found[:, -1].mean())  # labels do not touch
        ax.text(1.02 * depth, place, decoder, va="center", color=style["color"])
    ax.set(xlim=(0, depth), ylim=(0, None), ylabel="effective rank / min(N, d)")
    ax.set_xlabel(f"layer (untrained; mean and extent of {result.settings.n_seeds} seeds)")
    ax.set_title("\n".join(claim.headline for claim in judged))
    return figure
