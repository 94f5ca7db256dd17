"""Collapse of entropy: what σReparam keeps, what diverges, and verdicts that follow the rows."""

import numpy as np
from small_settings import small_run, verdicts

from mgt_np.experiments import entropy_collapse


def test_verdicts_on_collapse_of_entropy():
    result = small_run("entropy-collapse")
    assert all(verdict.startswith("holds") for verdict in verdicts(result)[:2])
    broken = {
        "bound": 2.0,
        "entropy": lambda row: 0.9 if row["weights"] == "plain" else 0.99,
        "diverged": lambda row: int(row["weights"] != "plain"),
    }
    assert verdicts(result, **broken) == [
        "does not hold",
        "does not hold",
        "holds only if γ stays: at the start at any scale; learned, γ lets it fall",
        "does not hold",
    ]
    better = {"entropy": 0.99, "diverged": lambda row: int(row["weights"] == "plain")}
    assert verdicts(result, **better)[2:] == ["holds", "holds"]

    def uneven(row):
        return 1.0 / (1.0 + row["scale"])

    assert verdicts(result, entropy=uneven)[1] == "holds"
    lost = verdicts(result, entropy=lambda row: 0.1 if row["rate"] else uneven(row))
    assert lost[2] == "does not hold"


def test_sigma_reparam_starts_at_one_entropy_whatever_the_scale():
    result = small_run("entropy-collapse")
    entropy = entropy_collapse.of_scale(result, "entropy", "σReparam")
    np.testing.assert_allclose(entropy, entropy[:, :1] * np.ones(3), rtol=1e-12)
    plain = entropy_collapse.of_scale(result, "entropy")
    assert np.all(np.diff(plain, axis=1) < 0.0)


def test_training_diverges_and_says_so():
    result = small_run("entropy-collapse", rates=(1e4,), scales=(1.0,))
    rows = [row for row in result.rows if row["rate"] > 0]
    assert [row["diverged"] for row in rows if row["weights"] == "plain"] == [1, 1]
    assert all(np.isfinite([row["loss"], row["entropy"]]).all() for row in rows)
