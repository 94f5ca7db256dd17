"""Which rank of a set of tokens does layer norm keep?

Cirrincione (2604.23681, abstract; the paper's definitions could not be read) says that layer norm
keeps the affine rank exactly, the matrix rank where its bias is zero, and neither makes nor hinders
rank collapse. Sets of tokens are measured before and after it; after RMS norm too.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.analysis import distance_from_span, effective_rank, matrix_rank
from mgt_np.layers import layer_norm, rms_norm

from .claims import Claim
from .experiment import Where, cells, generator, seeds

PAPER, OURS = "2604.23681, abstract", "gain without zeros (ours)"
BARE, WHOLE, RMS = "layer norm", "layer norm, gain and bias", "RMS norm"
RANKS = {
    "affine": "affine rank",
    "plain": "matrix rank",
    "centred": "rank of the centred features",
    "effective": "effective rank",
}
# Layer norm divides a token by its own spread: where that is small, it enlarges what was rounded.
RTOL = {"float64": 1e-10, "float32": 1e-5}
IN_SPAN = 1e-4  # what part of 1 may lie outside the span of the tokens by rounding
NEUTRAL = 0.05  # change of a rank's mean, relative to it, that counts as none


@dataclass(frozen=True)
class Settings(Where):
    """How many tokens of how many features, and how many draws of each set."""

    seed: int = 0
    n_seeds: int = 20
    n_tokens: int = 12
    d: int = 6


QUICK = Settings()
FULL = Settings(n_seeds=500)


def claims(settings):
    draws = f"{settings.n_seeds} draws of each set"
    kept = {
        "criterion": f"rank changes in none of {draws} (shown: the largest change)",
        "passes": lambda ranks: ranks[0] == ranks[1],
        "only_if": "the tokens are {}",
        "form": "{} → {}",
    }
    return [
        Claim(
            says="Layer norm keeps the affine rank of the tokens exactly",
            source=PAPER,
            measure=lambda result: changes(result, "affine", (BARE, WHOLE)),
            title="Layer norm keeps affine rank",
            readme=True,
            **kept,
        ),
        Claim(
            says="Layer norm with zero bias keeps the matrix rank of the tokens",
            source=PAPER,
            measure=lambda result: changes(result, "plain", (BARE,), where_1_is),
            title="Without bias, matrix rank stays",
            beside=lambda result: f"In the span: distance ≤ {IN_SPAN:g}",
            **kept | {"only_if": "{}", "form": "{} → {} (distance from the span {:.1g})"},
        ),
        Claim(
            says="Layer norm without its bias has the matrix rank of the centred features",
            source=f"D X(I − 11ᵀ/d) diag(gain), {OURS}",
            measure=lambda result: changes(result, "centred", (BARE, WHOLE)),
            title="Without bias, the rank of the centred features stays",
            **kept,
        ),
        Claim(
            says="RMS norm keeps the matrix rank of the tokens",
            source=f"D X diag(gain), {OURS}",
            measure=lambda result: changes(result, "plain", (RMS,)),
            **kept,
        ),
        _of_collapse(draws),
    ]


def _of_collapse(draws):
    return Claim(
        says="Layer norm neither contributes to nor mitigates rank collapse",
        source=PAPER,
        criterion=f"rank after over before, mean of {draws}, within {NEUTRAL:g} of 1 for all",
        measure=lambda result: {words: ratios(result, rank) for rank, words in RANKS.items()},
        passes=lambda ends: ends[0] >= 1.0 - NEUTRAL and ends[1] <= 1.0 + NEUTRAL,
        only_if="collapse is measured by the {}",
        form="× {:.2f} … {:.2f}",
        title="Layer norm does nothing for or against rank collapse",
    )


def changes(result, rank, maps, condition=lambda row: row["tokens"]):
    """A rank before and after some maps, and 1's distance, of the draw where it changes most."""
    found = {}
    for row in result.rows:
        if row["map"] in maps:
            numbers = row[f"{rank}_before"], row[f"{rank}_after"], row["distance_of_1"]
            found.setdefault(condition(row), []).append(numbers)
    return {words: max(each, key=lambda n: abs(n[0] - n[1])) for words, each in found.items()}


def where_1_is(row):
    return f"(1, …, 1) is {'not ' * (row['distance_of_1'] > IN_SPAN)}in the tokens' span"


def ratios(result, rank):
    """The rank after over before, 1 where 0 stays 0: means of the least and the largest set."""

    def ratio(row):
        before, after = row[f"{rank}_before"], row[f"{rank}_after"]
        return 1.0 if before == after else after / max(before, 1e-9)

    means = result.rows.where(map=BARE).by("{tokens}", ratio, np.mean).values()
    return min(means), max(means)


def _flat(rng, N, d, rank):
    return rng.standard_normal((N, rank)) @ rng.standard_normal((rank, d))


def _crowd(rng, N, d):
    """Many tokens short and alike, three long ones at right angles."""
    long = np.linalg.qr(rng.standard_normal((d, d)))[0][:3]
    crowd = rng.standard_normal(d) + 0.01 * rng.standard_normal((8 * N, d))
    return np.concat([long, 0.01 * crowd])


SETS = {
    "on a line off the origin": lambda rng, N, d: rng.standard_normal(d) + _flat(rng, N, d, 1),
    "in a plane off the origin": lambda rng, N, d: _flat(rng, N, d, 2) + rng.standard_normal(d),
    "in a plane through the origin": lambda rng, N, d: _flat(rng, N, d, 2),
    "that plane, with 1 in it": lambda rng, N, d: (
        rng.standard_normal((N, 2)) @ np.stack([np.ones(d), rng.standard_normal(d)])
    ),
    "generic, N > d": lambda rng, N, d: rng.standard_normal((N, d)),
    "generic, N < d": lambda rng, N, d: rng.standard_normal((d - 2, d)),
    "of uneven length": lambda rng, N, d: (
        rng.standard_normal((N, d)) * 10.0 ** rng.uniform(-3.0, 1.0, (N, 1))
    ),
    "3 long, many short and alike": _crowd,
    "all equal": lambda rng, N, d: np.tile(rng.standard_normal(d), (N, 1)),
}


def tasks(settings):
    return cells(settings, seed=seeds(settings))


def work(there, seed, n_tokens, d):
    rtol = RTOL[there.dtype]
    for number, (tokens, draw) in enumerate(SETS.items()):
        rng = generator(seed, number)
        X, gain, bias = there.move((draw(rng, n_tokens, d), *rng.standard_normal((2, d))))
        distance = float(distance_from_span(there.xp.ones_like(X[:1, :]), X, rtol=rtol))
        maps = {BARE: layer_norm(X), WHOLE: layer_norm(X, gain, bias), RMS: rms_norm(X, gain)}
        before, after = _ranks(X, rtol), {name: _ranks(Y, rtol) for name, Y in maps.items()}
        after[WHOLE]["centred"] = _ranks(layer_norm(X, gain), rtol)["plain"]  # already centred
        for name in maps:
            row = {"tokens": tokens, "map": name, "seed": seed[-1], "distance_of_1": distance}
            for rank in RANKS:
                row |= {f"{rank}_before": before[rank], f"{rank}_after": after[name][rank]}
            yield row


def _ranks(X, rtol):
    centers = {"affine": "tokens", "plain": None, "centred": "features"}
    found = {rank: int(matrix_rank(X, center=c, rtol=rtol)) for rank, c in centers.items()}
    return found | {"effective": float(effective_rank(X))}


ALT = (
    "Four kinds of rank of nine sets of tokens before and after layer norm: affine and matrix rank "
    "change by one in some, that of the centred features in none, the effective rank in several."
)


@plotting.styled
def plot(result, judged):
    figure, axes = plotting.new_figure(1, 4, size=(15, 6.2), sharey=True)
    places, d, rows = range(len(SETS)), result.settings.d, result.rows.where(map=BARE)
    for ax, rank, number in zip(axes, RANKS, (0, 1, 2, 4), strict=True):
        before = [*rows.by("{tokens}", f"{rank}_before", np.mean).values()]
        after = [*rows.by("{tokens}", f"{rank}_after", np.mean).values()]
        ax.hlines(places, before, after, color=plotting.ORANGE, lw=5)
        ax.plot(before, places, "o", ms=13, mfc="none", mew=2, color=plotting.BLACK, label="tokens")
        ax.plot(after, places, "o", ms=6, color=plotting.BLUE, label="after layer norm")
        ax.set(xlim=(-0.3, d + 0.3), xticks=range(d + 1), xlabel=RANKS[rank])
        ax.set_title(plotting.wrapped(judged[number].headline, 32))
    axes[0].set_yticks(places, SETS)
    axes[0].set(ylim=(len(SETS) - 0.5, -0.5), ylabel="the tokens are …")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
