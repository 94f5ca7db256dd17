"""Is the spectrum of the Delta Operator what the theorem says?

DDL (2601.00417), theorem 3.1: A = I − βkkᵀ has the eigenvalues 1 (d − 1 times) and 1 − β. A product
of such operators has a closed form too, the compact WY form of `delta_product`.
"""

from dataclasses import dataclass

import numpy as np

from mgt_np import plotting
from mgt_np.arrays import to_host
from mgt_np.layers import delta_eigenvalues, delta_operator, delta_product, unit_direction

from .claims import Claim
from .experiment import Where, cells, generator

TOLERANCE = {"float64": 1e-12, "float32": 1e-4}


@dataclass(frozen=True)
class Settings(Where):
    """Random operators: how many of each width, and the range of β. A product has β in [0, 2]."""

    seed: int = 0
    widths: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128, 256)
    counts: tuple[int, ...] = (2500, 2500, 2000, 1500, 800, 400, 200, 100)
    beta_range: tuple[float, float] = (-1.0, 3.0)
    n_bins: int = 40  # of β: a row for each
    n_factors: int = 200

    def __post_init__(self):
        super().__post_init__()
        if len(self.counts) != len(self.widths):
            raise ValueError(
                f"expected as many counts as widths, got {len(self.counts)} and {len(self.widths)}"
            )


QUICK = Settings()
FULL = Settings(counts=(25000, 25000, 20000, 15000, 8000, 4000, 2000, 1000))


def claims(settings):
    tolerance, widths = TOLERANCE[settings.dtype], f"d ≤ {max(settings.widths)}"
    common = {"passes": lambda error: error <= tolerance, "form": "{:.1e}"}
    return [
        Claim(
            says="The Delta Operator I − βkkᵀ, ‖k‖ = 1, has eigenvalues 1 (d − 1 times) and 1 − β",
            source="DDL 2601.00417, theorem 3.1",
            criterion=f"largest difference from eigvalsh ≤ {tolerance:g}",
            measure=lambda result: result.rows.by(widths, "error", np.max),
            title="The eigenvalues of A = I − βkkᵀ are 1 and 1 − β",
            beside=lambda result: f"{sum(result.rows.column('operators')):,} random (k, β)",
            readme=True,
            **common,
        ),
        Claim(
            says=f"The WY form equals the product of {settings.n_factors} operators",
            source="Bischof & Van Loan 1987",
            criterion=f"largest difference ≤ {tolerance:g} of the product's largest entry",
            measure=lambda result: result.rows.by(widths, "product_error", np.max),
            **common,
        ),
    ]


def tasks(settings):
    (cell,) = cells(settings, beta_range=[list(settings.beta_range)], seed=[[settings.seed]])
    sizes = zip(settings.widths, settings.counts, strict=True)
    return [cell | {"d": d, "count": count} for d, count in sizes]


def work(there, d, count, seed, beta_range, n_bins, n_factors):
    rng, (low, high) = generator(seed, d), beta_range
    k, beta = rng.standard_normal((count, d)), rng.uniform(low, high, count)
    factors = rng.standard_normal((n_factors, d)), rng.uniform(0.0, 2.0, n_factors)
    A = delta_operator(*there.move((unit_direction(k, eps=0.0), beta)))
    measured = to_host(there.xp.linalg.eigvalsh(A))
    errors = np.abs(measured - np.sort(delta_eigenvalues(beta, d), axis=-1))
    product_error = _product_error(there.xp, *there.move(factors))
    bins = np.floor((beta - low) / (high - low) * n_bins)
    for b in np.unique(bins):
        (members,) = np.nonzero(bins == b)
        one = members[0]  # the first and not the worst, which is a matter of rounding
        ordered = measured[one] if beta[one] > 0.0 else measured[one, ::-1]  # 1 − β comes first
        row = {"d": d, "operators": len(members), "beta": float(beta[one])}
        row |= {"eigenvalue": float(ordered[0]), "error": float(np.max(errors[members]))}
        yield row | {"product_error": product_error, "next_eigenvalue": float(ordered[:2][-1])}


def _product_error(xp, K, beta):
    """The largest difference of `delta_product` from the plain product, over its largest entry."""
    K = unit_direction(K, eps=0.0)
    product = delta_operator(K[0, :], beta[0])
    for i in range(1, K.shape[0]):
        product = xp.matmul(delta_operator(K[i, :], beta[i]), product)
    return float(xp.max(xp.abs(product - delta_product(K, beta))) / xp.max(xp.abs(product)))


ALT = (
    "Two panels. Left: measured eigenvalues of A = I − βkkᵀ over β lie on two lines, 1 and 1 − β. "
    "Right: over the width d, the errors of eigenvalues and product stay far below the tolerance."
)


@plotting.styled
def plot(result, judged):
    figure, (spectrum, errors) = plotting.new_figure(1, 2, size=(12, 5.6))
    settings, rows, d = result.settings, result.rows, max(result.settings.widths)
    first = {"marker": "o", "color": plotting.BLUE}
    second = {"marker": "s", "color": plotting.VERMILLION}
    line, widest = {"color": "grey", "lw": 1}, rows.where(d=d)
    beta = widest.column("beta")
    spectrum.plot(beta, widest.column("eigenvalue"), ls="", label="one eigenvalue", **first)
    spectrum.plot(beta, widest.column("next_eigenvalue"), ls="", label="the next", **second)
    spectrum.axline((0.0, 1.0), slope=-1.0, label="1 − β and 1", **line)
    spectrum.axhline(1.0, **line)
    spectrum.set(xlabel="β", ylabel=f"two eigenvalues of A, d = {d}", xlim=settings.beta_range)
    error, product = (rows.by("{d}", name, max) for name in ("error", "product_error"))
    errors.semilogy(error.keys(), error.values(), label="eigenvalues", **first)
    errors.semilogy(product.keys(), product.values(), "--", label="product, relative", **second)
    errors.axhline(TOLERANCE[settings.dtype], label="tolerance", **line)
    errors.set(xlabel="width d", ylabel="largest error")
    for ax, claim in zip((spectrum, errors), judged, strict=True):
        ax.set_title(plotting.wrapped(claim.headline, 55))
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3, columnspacing=1.2)
    return figure
