"""Is the spectrum of the Delta Operator what the theorem says? Measured eigenvalues over β.

DDL (2601.00417), theorem 3.1: A = I − β k kᵀ has eigenvalues 1 (d − 1 times) and 1 − β.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.arrays import to_host
from mgt_np.arrays.libraries import move, place
from mgt_np.layers import delta_eigenvalues, delta_operator, delta_product, unit_direction

from .experiment import Claim, Experiment, Where

TOLERANCE = {"float64": 1e-12, "float32": 1e-4}


@dataclass(frozen=True)
class Settings(Where):
    """Random operators: how many of each width, β uniform in `beta_range`.

    Of the operators of one width whose β falls into one of `n_bins` bins the worst is kept.
    """

    seed: int = 0
    widths: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128, 256)
    counts: tuple[int, ...] = (2500, 2500, 2000, 1500, 800, 400, 200, 100)
    beta_range: tuple[float, float] = (-1.0, 3.0)
    n_bins: int = 40
    n_factors: int = 200


def tasks(settings):
    return [
        {
            "d": d,
            "count": count,
            "seed": [settings.seed, d],
            "beta_range": list(settings.beta_range),
            "n_bins": settings.n_bins,
            "n_factors": settings.n_factors,
            **settings.where(),
        }
        for d, count in zip(settings.widths, settings.counts, strict=True)
    ]


def work(d, count, seed, beta_range, n_bins, n_factors, array_library, device, dtype):
    there = place(array_library, device, dtype=dtype)
    rng = np.random.default_rng(seed)
    k, beta, K, beta_of_K = move(
        (
            rng.standard_normal((count, d)),
            rng.uniform(*beta_range, count),
            rng.standard_normal((n_factors, d)),
            rng.uniform(0.0, 2.0, n_factors),
        ),
        there,
        dtype=dtype,
    )
    k = unit_direction(k, eps=0.0)
    measured = to_host(there.xp.linalg.eigvalsh(delta_operator(k, beta)))
    expected = np.sort(to_host(delta_eigenvalues(beta, d)), axis=-1)
    errors = np.max(np.abs(measured - expected), axis=-1)
    product_error = _product_error(there.xp, unit_direction(K, eps=0.0), beta_of_K)

    beta = to_host(beta)
    # The eigenvalue that is not 1 stands first for β > 0 and last for β < 0.
    moved = np.where(beta > 0, measured[:, 0], measured[:, -1])
    low, high = beta_range
    bins = np.floor((beta - low) / (high - low) * n_bins)
    rows = []
    for b in np.unique(bins):
        (members,) = np.nonzero(bins == b)
        worst = members[np.argmax(errors[members])]
        rows.append(
            {
                "d": d,
                "operators": len(members),
                "beta": float(beta[worst]),
                "eigenvalue": float(moved[worst]),
                "error": float(errors[worst]),
                "product_error": product_error,
            }
        )
    return rows


def _product_error(xp, K, beta):
    """The largest difference of `delta_product` to the plain product."""
    product = delta_operator(K[0, :], beta[0])
    for i in range(1, K.shape[0]):
        product = xp.matmul(delta_operator(K[i, :], beta[i]), product)
    return float(xp.max(xp.abs(product - delta_product(K, beta))))


def claims(result):
    tolerance = TOLERANCE[result.settings.dtype]
    n = sum(result.column("operators"))
    worst = max(result.column("error"))
    worst_product = max(result.column("product_error"))
    return [
        Claim(
            "A = I − βkkᵀ has the eigenvalues 1 (d − 1 times) and 1 − β",
            "DDL 2601.00417, theorem 3.1",
            f"{n:,} random (k, β), d ≤ {max(result.settings.widths)}: "
            f"largest difference to eigvalsh {worst:.1e}",
            "holds" if worst <= tolerance else "does not hold",
        ),
        Claim(
            f"The WY form equals the product of {result.settings.n_factors} operators",
            "Bischof & Van Loan 1987",
            f"largest difference {worst_product:.1e}, β in [0, 2]",
            "holds" if worst_product <= tolerance else "does not hold",
        ),
    ]


@plotting.styled
def plot(result):
    figure, (spectrum, errors) = plotting.new_figure(1, 2, size=(11.5, 5))
    low, high = result.settings.beta_range
    line = np.asarray([low, high])
    spectrum.axhline(1.0, color=plotting.SKY, label="1, d − 1 times")
    spectrum.plot(line, 1.0 - line, color=plotting.BLUE, label="1 − β")
    spectrum.scatter(
        result.column("beta"),
        result.column("eigenvalue"),
        s=22,
        facecolors="none",
        edgecolors=plotting.VERMILLION,
        label="measured (the worst of many)",
        zorder=3,
    )
    for value, name in ((0, "identity"), (1, "projection"), (2, "reflection")):
        spectrum.axvline(value, color="grey", lw=1, ls=":")
        spectrum.annotate(
            f"{name}\nβ = {value}",
            (value, -1.95),
            ha="center",
            va="bottom",
            fontsize=12,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    spectrum.set_ylim(-2.05, 2.05)
    spectrum.set_xlabel("β")
    spectrum.set_ylabel("eigenvalue of A = I − βkkᵀ")
    spectrum.set_title("One eigenvalue moves, 1 − β; the others stay at 1")
    spectrum.legend(loc="upper right")

    widths = result.settings.widths
    worst = [max(result.column("error", d=d)) for d in widths]
    product = [result.column("product_error", d=d)[0] for d in widths]
    errors.loglog(
        widths, worst, "o-", color=plotting.VERMILLION, label="eigenvalues, worst of all β"
    )
    errors.loglog(
        widths, product, "s--", color=plotting.BLUE, label=f"product of {result.settings.n_factors}"
    )
    tolerance = TOLERANCE[result.settings.dtype]
    errors.axhline(tolerance, color="grey", lw=1)
    errors.annotate(f"asked for: {tolerance:g}", (widths[0], tolerance), va="bottom", fontsize=12)
    errors.set_ylim(1e-5 * tolerance, 10.0 * tolerance)
    errors.set_xticks(widths, [str(d) for d in widths])
    errors.minorticks_off()
    errors.set_xlabel("width d")
    errors.set_ylabel("largest absolute difference")
    errors.set_title(f"Closed form and {result.settings.dtype} agree to {max(worst + product):.0e}")
    errors.legend(loc="lower right")
    return figure


DELTA_SPECTRUM = Experiment(
    name="delta-spectrum",
    question="Is the Delta Operator's spectrum what the theorem says?",
    quick=Settings(),
    full=Settings(counts=(25000, 25000, 20000, 15000, 8000, 4000, 2000, 1000)),
    tasks=tasks,
    work=work,
    claims=claims,
    plot=plot,
)
