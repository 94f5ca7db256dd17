"""Rows of the contract tests: remedies and bounds of collapse, and the paths of attention."""

from functools import partial

import numpy as np
from cases import Case

from mgt_np import analysis, layers
from mgt_np.arrays import array_namespace

_RNG = np.random.default_rng(19)


def normal(*shape):
    return _RNG.standard_normal(shape)


WEIGHTS = _RNG.dirichlet(np.full(5, 2.0), (2, 5))
X, P, W = normal(2, 4, 3), _RNG.dirichlet(np.full(4, 2.0), (3, 2, 2, 4)), normal(3, 2, 3, 3)
RESIDUAL, BETA = np.array([0.3, 0.9]), np.array([0.7, 2.0])


def _stacked(common_and_residual):
    """The common token and the residuals as the rows of one array."""
    common, residual = common_and_residual
    xp = array_namespace(common)
    return xp.concat([xp.expand_dims(common, axis=-2), residual], axis=-2)


LAYER_CASES = (
    Case("spectral_norm", layers.spectral_norm, (normal(2, 4, 3),)),
    Case(
        "spectral_norm power iteration",
        partial(layers.spectral_norm, n_iters=2),
        (normal(2, 4, 3), normal(2, 3)),
    ),
    Case("power_iteration", layers.power_iteration, (normal(2, 4, 3), normal(2, 3))),
    Case("sigma_reparam", layers.sigma_reparam, (normal(2, 4, 3), normal(2))),
    Case("sigma_reparam number", lambda W: layers.sigma_reparam(W, 1.5), (normal(4, 3),)),
    Case(
        "sigma_reparam power iteration",
        layers.sigma_reparam,
        (normal(2, 4, 3), normal(2), normal(2, 3)),
    ),
    Case("gap_free_attention_weights", layers.gap_free_attention_weights, (WEIGHTS,)),
    Case(
        "gap_free_attention",
        layers.gap_free_attention,
        (normal(2, 3, 5), normal(2, 4, 5), normal(2, 4, 6)),
    ),
)

MEASURE_CASES = (
    Case("head_maps", partial(analysis.head_maps, n_heads=2), (normal(3, 4), normal(4, 5))),
    Case("path_terms", analysis.path_terms, (X, P, W)),
    Case("path_terms skips", partial(analysis.path_terms, skips=True), (X, P[:2], W[:2])),
    Case("path_length_terms", analysis.path_length_terms, (X, P, W)),
    Case(
        "path_length_terms no skips",
        partial(analysis.path_length_terms, skips=False),
        (X, P, W),
    ),
    Case("path_bias", analysis.path_bias, (W, normal(3, 3))),
    Case("path_bias skips", partial(analysis.path_bias, skips=True), (W, normal(3, 3))),
    Case("collapse_beta", analysis.collapse_beta, (normal(2, 4, 4), normal(2, 4, 3))),
    Case(
        "log_collapse_bound",
        partial(analysis.log_collapse_bound, n_layers=3, d_qk=4, n_heads=2, gamma=0.5),
        (RESIDUAL, BETA),
    ),
    Case(
        "log_collapse_bound number",
        lambda residual: analysis.log_collapse_bound(residual, 0.7, n_layers=1, d_qk=4),
        (RESIDUAL,),
    ),
    Case(
        "separated_attention",
        lambda *arrays: _stacked(analysis.separated_attention(*arrays, n_heads=2)),
        (
            *(normal(2, 3), 0.3 * normal(2, 4, 3)),
            *(normal(3, 4), normal(3, 4), normal(3, 6), normal(6, 5)),
        ),
    ),
    Case("spectral_gap", analysis.spectral_gap, (normal(2, 4, 3),)),
    Case(
        "attention_entropy_bound",
        partial(analysis.attention_entropy_bound, n_keys=5),
        (np.array([0.1, 1.0, 3.0]),),
    ),
)
NOT_OF_STATES = {case.name.split()[0] for case in MEASURE_CASES}
MEASURES_NOT_DIFFERENTIATED = {"path_count"}
