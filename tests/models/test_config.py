"""The settings of a decoder: what is refused, and how it is said."""

import dataclasses
import re

import numpy as np
import pytest
from array_libraries import LIBRARIES

from mgt_np import RESIDUAL_RULES, TransformerConfig

SIZES = {
    "vocab_size": 11,
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 3,
    "d_ff": 16,
    "max_tokens": 6,
}


@pytest.mark.parametrize("residual", RESIDUAL_RULES)
def test_every_rule_can_be_chosen(residual):
    assert TransformerConfig(**SIZES, residual=residual).residual == residual


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TransformerConfig(**SIZES).d_model = 16


def test_settings_are_given_by_name():
    with pytest.raises(TypeError, match="positional argument"):
        TransformerConfig(*SIZES.values())


def test_the_least_settings_are_allowed():
    least = {**dict.fromkeys(SIZES, 1), "n_layers": 0, "weight_scale": 0, "embedding_scale": 0.0}
    assert TransformerConfig(**least).n_layers == 0


def test_the_defaults_of_mgt_make_small_steps():
    config = TransformerConfig(**SIZES)
    assert (config.mgt_lam, config.mgt_eps) == (1.0, 0.0)
    assert (config.mgt_alpha, config.mgt_b_beta, config.mgt_beta_per) == (0.1, 0.05, "token")
    assert (config.mgt_gate_scale, config.mgt_beta_scale) == (None, None)


def test_sizes_that_were_counted_by_numpy_become_plain_integers():
    config = TransformerConfig(**{name: np.int64(size) for name, size in SIZES.items()})
    assert config == TransformerConfig(**SIZES)
    assert {type(getattr(config, name)) for name in SIZES} == {int}


@pytest.mark.parametrize("library", LIBRARIES, ids=str)
def test_a_dtype_may_be_named_by_a_library(library):
    for name in ("float32", "float64"):
        dtype = getattr(library.xp, name)
        assert TransformerConfig(**SIZES, dtype=dtype).dtype == name
        assert TransformerConfig(**SIZES, dtype=np.dtype(name)).dtype == name


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("size", [-1, 2.0, "8", None])
def test_sizes_are_integers_of_a_least_size(name, size):
    message = re.escape(f"expected {name} to be an integer ≥ ") + ".*" + re.escape(f"got {size!r}")
    with pytest.raises(ValueError, match=message):
        TransformerConfig(**{**SIZES, name: size})
    if name != "n_layers":
        with pytest.raises(ValueError, match=f"expected {name} to be an integer ≥ 1, got 0"):
            TransformerConfig(**{**SIZES, name: 0})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"n_heads": 3}, "expected n_heads to divide d_model 8, got 3"),
        ({"residual": "pre_nl"}, "got 'pre_nl'; did you mean 'pre_ln'?"),
        ({"residual": "mgt_only"}, "expected residual to be one of 'none', 'post_ln', 'pre_ln'"),
        ({"dtype": "float16"}, "expected dtype to be one of 'float32', 'float64', got 'float16'"),
        ({"activation": "gleu"}, "got 'gleu'; did you mean 'gelu'?"),
        ({"weight_scale": "lecum"}, "'lecun' or a finite number ≥ 0, got 'lecum'"),
        ({"weight_scale": -0.1}, "'lecun' or a finite number ≥ 0, got -0.1"),
        ({"weight_scale": float("nan")}, "'lecun' or a finite number ≥ 0, got nan"),
        ({"embedding_scale": -1.0}, "embedding_scale to be a finite number ≥ 0, got -1.0"),
        ({"embedding_scale": "lecun"}, "embedding_scale to be a finite number ≥ 0, got 'lecun'"),
        ({"ddl_beta_init": 2.5}, "ddl_beta_init to be a finite number in [0, 2], got 2.5"),
        ({"ddl_beta_init": -0.1}, "ddl_beta_init to be a finite number in [0, 2], got -0.1"),
        ({"ddl_beta_hidden": -1}, "expected ddl_beta_hidden to be an integer ≥ 0, got -1"),
        ({"ddl_v_form": "sigmoid"}, "got 'sigmoid'; did you mean 'sigmoid4'?"),
        ({"ddl_v_from": "x"}, "expected ddl_v_from to be one of 'context', 'state', got 'x'"),
        ({"ddl_value_channels": 0}, "ddl_value_channels to be an integer ≥ 1, got 0"),
        ({"ddl_kernel_size": 2.0}, "ddl_kernel_size to be an integer ≥ 1, got 2.0"),
        ({"ddl_compressor": "token"}, "got 'token'; did you mean 'tokens'?"),
        ({"n_streams": 0}, "expected n_streams to be an integer ≥ 1, got 0"),
        ({"n_streams": 2.0}, "expected n_streams to be an integer ≥ 1, got 2.0"),
        ({"mhc_iters": -1}, "expected mhc_iters to be None or an integer ≥ 0, got -1"),
        ({"mhc_convention": "papr"}, "got 'papr'; did you mean 'paper'?"),
        ({"hc_dynamic": "no"}, "expected hc_dynamic to be True or False, got 'no'"),
        ({"hc_output_gain": -1.0}, "expected hc_output_gain to be a finite number ≥ 0, got -1.0"),
        ({"mgt_beta_per": "head"}, "mgt_beta_per to be one of 'token', 'channel', got 'head'"),
    ],
)
def test_unusable_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TransformerConfig(**{**SIZES, **setting})
