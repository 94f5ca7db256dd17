"""Settings under which every experiment takes about a second."""

from mgt_np.experiments import delta_spectrum, mixing_gain, phase_diagram, rank_evolution

SMALL = {
    "rank-evolution": rank_evolution.Settings(
        depth=3, n_seeds=2, d_model=8, n_heads=2, n_tokens=8, rules=("post_ln", "mgt")
    ),
    "phase-diagram": phase_diagram.Settings(
        depth=3, d_model=8, n_heads=2, n_tokens=8, biases=(-1.0, 0.0, 1.0), weight_scales=(0.1, 1.0)
    ),
    "delta-spectrum": delta_spectrum.Settings(widths=(2, 5), counts=(20, 10), n_factors=7),
    "mixing-gain": mixing_gain.Settings(
        depth=6, n_seeds=2, n_tokens=3, free_scales=(0.1, 0.5), scales=(1.0, 4.0), iterations=(1, 5)
    ),
}
