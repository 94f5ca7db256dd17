"""Settings under which every experiment takes about a second."""

from mgt_np.experiments import delta_dynamics, delta_spectrum, phase_diagram, rank_evolution

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
}
