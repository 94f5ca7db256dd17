"""Settings under which every experiment takes a fraction of a second, and its runs under them."""

import dataclasses
from functools import cache

from mgt_np.experiments import EXPERIMENTS, Rows, judged, result_of

# What differs from the quick settings.
SMALL = {
    "rank-evolution": {
        "depth": 3,
        "n_seeds": 2,
        "d_model": 8,
        "n_heads": 2,
        "n_tokens": 8,
        "rules": ("post_ln", "mgt"),
    },
    "phase-diagram": {
        "depth": 3,
        "d_model": 8,
        "n_heads": 2,
        "n_tokens": 8,
        "biases": (-1.0, 0.0, 1.0),
        "weight_scales": (0.1, 1.0),
    },
    "headline": {"depth": 3, "n_seeds": 2, "d_model": 8, "n_heads": 2, "n_tokens": 8},
    "delta-dynamics": {
        "depth": 3,
        "d_model": 8,
        "n_heads": 2,
        "n_tokens": 8,
        "beta_inits": (0.5, 1.0),
        "widths": (4,),
        "every": 2,
        "n_steps": 20,
    },
    "delta-spectrum": {"widths": (2, 5), "counts": (20, 10), "n_factors": 7},
    "layer-norm-and-rank": {"n_seeds": 1},
    "span": {"n_seeds": 1, "depth": 2, "d": 40, "n_tokens": 3},
    "head-identifiability": {
        "n_seeds": 1,
        "n_tokens": 4,
        "d_k": 2,
        "heads": (2, 3),
        "real": (2, 64),
    },
    "tangency": {
        "n_seeds": 1,
        "depth": 2,
        "rank": 2,
        "n_neighbours": 4,
        "n_steps": 3,
        "d_model": 8,
        "n_heads": 2,
        "n_tokens": 8,
        "n_windows": 2,
    },
    "attention-collapse": {"n_seeds": 2, "depth": 3, "n_tokens": 8, "d_model": 8, "n_heads": 2},
    "collapse-rate": {"n_seeds": 2, "n_tokens": 8, "d_model": 8, "n_heads": 2},
    "path-lengths": {"n_seeds": 2, "depth": 3, "n_tokens": 8, "d_model": 8, "n_heads": 2},
    "width-collapse": {
        "contexts": (4, 8, 16),
        "total": 16,
        "fixed_width": 4,
        "depth_tokens": 8,
        "depth": 3,
    },
    "entropy-collapse": {
        "n_seeds": 2,
        "n_tokens": 6,
        "d_model": 4,
        "n_sequences": 2,
        "scales": (0.1, 1.0, 4.0),
        "rates": (0.1, 1.0),
        "n_steps": 5,
    },
    "mixing-gain": {
        "depth": 6,
        "n_seeds": 2,
        "n_tokens": 3,
        "free_scales": (0.1, 0.5),
        "scales": (1.0, 4.0),
        "iterations": (1, 5),
        "bounds": (0.5, 1.0),
        "budgets": (0.5, 2.0),
    },
    "stream-collapse": {"depth": 3, "n_seeds": 2, "d_model": 8, "n_heads": 2, "n_tokens": 8},
    "jacobian-at-start": {"n_seeds": 2, "depths": (1, 2)},
    "rungs": {"word_orders": (1, 2), "byte_orders": (1, 2), "first_bytes": 1000},
    "against-counts": {
        "dtype": "float64",
        "n_seeds": 2,
        "word_layers": 1,
        "byte_layers": 2,
        "d_model": 8,
        "n_steps": 4,
        "log_every": 2,
        "n_valid": 2,
    },
    "beta-distribution": {
        "dtype": "float64",
        "n_seeds": 2,
        "depths": (3, 4),
        "d_model": 8,
        "n_tokens": 8,
        "n_steps": 4,
        "log_every": 2,
    },
    "ablation": {"dtype": "float64", "n_seeds": 2, "n_layers": 1, "n_steps": 2, "log_every": 2},
    "entropy-floor": {
        "dtype": "float64",
        "n_seeds": 2,
        "d_model": 8,
        "n_tokens": 8,
        "n_steps": 6,
        "log_every": 2,
        "n_valid": 2,
        "depths": (1, 2),
    },
    "initialization-sensitivity": {
        "dtype": "float64",
        "n_seeds": 2,
        "d_model": 8,
        "n_tokens": 8,
        "n_steps": 4,
        "log_every": 2,
        "n_valid": 2,
        "warmup": 2,
        "mgt_alpha": (1.0,),
    },
    "language-model": {
        "dtype": "float64",
        "n_seeds": 2,
        "n_layers": 2,
        "d_model": 8,
        "n_tokens": 8,
        "n_steps": 6,
        "log_every": 2,
        "models": ("MGT", "Post-LN", "Pre-LN"),
    },
    "copy-task": {
        "dtype": "float64",
        "n_seeds": 2,
        "d_model": 8,
        "n_steps": 6,
        "log_every": 2,
        "n_valid": 2,
        "models": ("MGT", "Pre-LN"),
    },
    "depth-scaling": {
        "dtype": "float64",
        "n_seeds": 2,
        "d_model": 8,
        "n_tokens": 8,
        "n_steps": 4,
        "log_every": 4,
        "n_valid": 2,
        "depths": (1, 2),
        "models": ("MGT", "Pre-LN"),
    },
    "long-training": {
        "dtype": "float64",
        "n_seeds": 2,
        "n_layers": 2,
        "d_model": 8,
        "n_bytes": 32,
        "n_tokens": 8,
        "n_steps": 4,
        "log_every": 2,
        "n_valid": 2,
        "models": ("MGT", "MGT with b_β = -2", "MGT with β > 0 only"),
    },
}


def small(name, **settings):
    """The small settings of an experiment, with some of them changed."""
    return dataclasses.replace(EXPERIMENTS[name].quick, **SMALL[name] | settings)


@cache
def small_run(name, **settings):
    """The result of an experiment under its small settings, with some of them changed."""
    return result_of(EXPERIMENTS[name], small(name, **settings))


def changed(result, **columns):
    """The result with some columns overwritten: by a value, or by a function of the row."""
    rows = Rows(
        {**row, **{name: x(row) if callable(x) else x for name, x in columns.items()}}
        for row in result.rows
    )
    return dataclasses.replace(result, rows=rows)


def verdicts(result, **columns):
    """The verdicts on a result, after some of its columns were overwritten."""
    return [each.verdict for each in judged(EXPERIMENTS[result.name], changed(result, **columns))]


def check_boundaries(name, *pairs, settings=None):
    """Hold each claim's rule at its boundary: numbers just inside, and numbers just outside.

    `pairs` has a pair of lists (passing, failing) for each claim of the experiment, in its order.
    """
    claims = EXPERIMENTS[name].claims(settings or EXPERIMENTS[name].quick)
    assert len(pairs) == len(claims), [claim.says for claim in claims]
    for claim, (passing, failing) in zip(claims, pairs, strict=True):
        assert passing, claim.says
        assert failing, claim.says
        assert [x for x in passing if not claim.passes(x)] == [], claim.says
        assert [x for x in failing if claim.passes(x)] == [], claim.says
