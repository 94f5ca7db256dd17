"""Settings under which every experiment takes a fraction of a second, and its runs under them."""

import dataclasses
from functools import cache

from mgt_np.experiments import (
    EXPERIMENTS,
    attention_collapse,
    delta_dynamics,
    delta_spectrum,
    entropy_collapse,
    head_identifiability,
    layer_norm_and_rank,
    mixing_gain,
    phase_diagram,
    rank_evolution,
    run,
    span,
    tangency,
    width_collapse,
)

SMALL = {
    "rank-evolution": rank_evolution.Settings(
        depth=3, n_seeds=2, d_model=8, n_heads=2, n_tokens=8, rules=("post_ln", "mgt")
    ),
    "phase-diagram": phase_diagram.Settings(
        depth=3, d_model=8, n_heads=2, n_tokens=8, biases=(-1.0, 0.0, 1.0), weight_scales=(0.1, 1.0)
    ),
    "delta-dynamics": delta_dynamics.Settings(
        depth=3,
        d_model=8,
        n_heads=2,
        n_tokens=8,
        beta_inits=(0.5, 1.0),
        widths=(4,),
        every=2,
        n_steps=20,
    ),
    "delta-spectrum": delta_spectrum.Settings(widths=(2, 5), counts=(20, 10), n_factors=7),
    "layer-norm-and-rank": layer_norm_and_rank.Settings(n_seeds=1),
    "span": span.Settings(n_seeds=1, depth=2, d=40, n_tokens=3),
    "head-identifiability": head_identifiability.Settings(
        n_seeds=1, n_tokens=4, d_k=2, heads=(2, 3)
    ),
    "tangency": tangency.Settings(
        n_seeds=1,
        depth=2,
        rank=2,
        n_neighbours=4,
        n_steps=3,
        d_model=8,
        n_heads=2,
        n_tokens=8,
        n_windows=2,
    ),
    "attention-collapse": attention_collapse.Settings(
        n_seeds=2, depth=3, n_tokens=8, d_model=8, n_heads=2, n_apart=3, cluster_depth=4
    ),
    "width-collapse": width_collapse.Settings(
        contexts=(4, 8, 16), total=16, fixed_width=4, depth_tokens=8, depth=3
    ),
    "entropy-collapse": entropy_collapse.Settings(
        n_seeds=2,
        n_tokens=6,
        d_model=4,
        n_sequences=2,
        scales=(0.1, 1.0, 4.0),
        rates=(0.1, 1.0),
        n_steps=5,
    ),
    "mixing-gain": mixing_gain.Settings(
        depth=6, n_seeds=2, n_tokens=3, free_scales=(0.1, 0.5), scales=(1.0, 4.0), iterations=(1, 5)
    ),
}


@cache
def small_run(name, **settings):
    """The result of an experiment under its small settings, with some of them changed."""
    return run(EXPERIMENTS[name], dataclasses.replace(SMALL[name], **settings))


def changed(result, **columns):
    """The result with some columns overwritten: by a value, or by a function of the row."""
    rows = [
        {**row, **{name: x(row) if callable(x) else x for name, x in columns.items()}}
        for row in result.rows
    ]
    return dataclasses.replace(result, rows=rows)


def verdicts(result, **columns):
    """The verdicts on a result, after some of its columns were overwritten."""
    claims = EXPERIMENTS[result.name].claims(changed(result, **columns))
    return [claim.verdict for claim in claims]
