"""Admin without profiling: ω by a name of microsoft/admin-torch."""

import numpy as np
import pytest

from mgt_np import (
    RESIDUAL_RULES,
    TransformerConfig,
    init_transformer,
    layer_norm,
    profile_admin,
)
from mgt_np.models.rules import admin

SIZES = {"vocab_size": 10, "d_model": 8, "n_heads": 2, "d_ff": 16, "max_tokens": 5}
TOKENS = np.arange(10).reshape(2, 5)


def config_of(n_layers, omega):
    return TransformerConfig(**SIZES, n_layers=n_layers, residual="admin", admin_omega=omega)


@pytest.mark.parametrize("order", ["O(logn)", "O(n)", "O(1)"])
def test_omega_is_admin_torchs(order, golden):
    """ω² = (n+1)/log(n+1) − 1, 1 or n for n sub-layers; ours come in pairs."""
    f = golden("admin_torch_omega")
    name = order.translate({ord("("): "_", ord(")"): None})
    pairs = [
        (n, omega)
        for n, omega in zip(f["in.num_res_layers"], f[f"out.omega_{name}"], strict=True)
        if n % 2 == 0
    ]
    assert len(pairs) > 5
    for n, omega in pairs:
        assert admin.initial_omega(config_of(n // 2, order)) == pytest.approx(omega, rel=1e-14)


@pytest.mark.parametrize("kind", ["buffer", "parameter"])
def test_what_is_normed_is_admin_torchs(kind, golden):
    """Their module gives x ⊙ ω + F(x), and leaves the norm to the layer around it."""
    f = golden(f"admin_torch_as_module_{kind}")
    n = int(f["cfg.num_res_layers"])
    config = config_of(n // 2, "O(logn)")
    residual = init_transformer(np.random.default_rng(0), config)["blocks"][0]["attention_residual"]
    np.testing.assert_allclose(residual["omega"], f["w.omega"] * np.ones(8), rtol=1e-14)
    got = RESIDUAL_RULES["admin"].update(f["in.x"], lambda x: f["in.f_x"], residual, config)
    np.testing.assert_allclose(got, layer_norm(f["out.y"]), rtol=0, atol=1e-12)


def test_profiling_replaces_any_omega():
    named, unnamed = (config_of(2, omega) for omega in ("O(logn)", None))
    profiled = [
        profile_admin(init_transformer(np.random.default_rng(0), config), TOKENS, config)
        for config in (named, unnamed)
    ]
    for block, other in zip(profiled[0]["blocks"], profiled[1]["blocks"], strict=True):
        for name in ("attention_residual", "feed_forward_residual"):
            np.testing.assert_allclose(block[name]["omega"], other[name]["omega"], rtol=1e-14)
