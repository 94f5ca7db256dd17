"""Every setting of a decoder: what it takes, what it refuses, and as what it is kept."""

import dataclasses
import math
import re

import numpy as np
import pytest

from mgt_np import MHCConvention, TransformerConfig
from mgt_np.models import config as module

SIZES = {"vocab_size": 11, "d_model": 8, "n_heads": 2, "n_layers": 3, "d_ff": 16, "max_tokens": 6}
DEFAULTS = TransformerConfig(**SIZES)
FIELDS = [field.name for field in dataclasses.fields(TransformerConfig)]
of_kind = {
    kind: [f.name for f in dataclasses.fields(TransformerConfig) if f.type == kind]
    for kind in {f.type for f in dataclasses.fields(TransformerConfig)}
}
FLAGS = of_kind[bool]
WHOLE = [*of_kind[int], *of_kind[int | None]]
NUMBERS = [*of_kind[float], *of_kind[float | None], *of_kind[str | float]]
NAMES = [*of_kind[str], *of_kind[str | None], *of_kind[str | MHCConvention]]
OPTIONAL = [name for kind in (int, float, str) for name in of_kind[kind | None]]


def made(name, value):
    return getattr(TransformerConfig(**SIZES | {name: value}), name)


def refused(name, value):
    with pytest.raises(ValueError, match=f"^TransformerConfig: expected {name} to be ") as info:
        made(name, value)
    return str(info.value)


def test_every_field_has_its_kind():
    assert list(module._KINDS) == FIELDS
    assert sorted([*FLAGS, *WHOLE, *NUMBERS, *NAMES]) == sorted(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_what_no_setting_can_be_is_refused(name):
    junk = [object(), [1], (1.0,), {}, b"a", 1j, math, np.ones(2), np.array([True, False])]
    for value in [*junk, "no such name", "", "NaN", *([] if name in OPTIONAL else [None])]:
        assert ", got " in refused(name, value)


@pytest.mark.parametrize("name", OPTIONAL)
def test_none_is_a_setting_where_it_says_so(name):
    assert made(name, None) is None


@pytest.mark.parametrize("name", FLAGS)
def test_flags_are_true_or_false(name):
    for value in (True, False):
        assert made(name, value) is value
        assert made(name, np.bool_(value)) is value
    for value in (0, 1, 1.0, "no", "True", np.int64(1), None):
        assert refused(name, value).endswith(f"to be True or False, got {value!r}")


@pytest.mark.parametrize("name", WHOLE)
def test_sizes_and_counts_are_integers(name):
    for value in (16, np.int64(16), np.uint8(16)):
        kept = made("d_model" if name == "n_heads" else name, value)
        assert kept == 16
        assert type(kept) is int
    for value in (True, np.bool_(True), 2.0, np.float64(2), math.nan, math.inf, "2", -1):
        assert "an integer ≥ " in refused(name, value)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_finite_and_kept_as_pythons(name):
    for value in (0.5, np.float32(0.5), np.float64(0.5), np.float16(0.5)):
        assert made(name, value) == 0.5
        assert type(made(name, value)) is float
    for value in (1, np.int64(1)):
        assert made(name, value) == 1
        assert type(made(name, value)) is int
    bad = (math.nan, math.inf, -math.inf, True, np.bool_(True), "a", 10**400, np.float32("nan"))
    for value in bad:
        assert "a finite number" in refused(name, value)


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        *((name, (0, math.inf)) for name in ("embedding_scale", "weight_scale", "ddl_norm_eps")),
        *((name, (0, math.inf)) for name in OPTIONAL if name in NUMBERS and name != "mgt_alpha"),
        ("hc_output_gain", (0, math.inf)),
        ("branchnorm_alpha", (0, 1)),
        ("ddl_beta_init", (0, 2)),
    ],
)
def test_numbers_within_bounds(name, bounds):
    least, most = bounds
    assert made(name, least) == least
    assert re.search(r"≥ 0|in \[0, [12]\]", refused(name, least - 1e-9))
    if most < math.inf:
        assert made(name, most) == most
        assert f"in [{least}, {most}]" in refused(name, most + 1e-9)


@pytest.mark.parametrize(
    "name", ["mgt_alpha", *(name for name in of_kind[float] if name.startswith("mgt"))]
)
def test_the_numbers_of_mgt_have_either_sign(name):
    assert (made(name, -0.5), made(name, 0.0)) == (-0.5, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_listed_when_refused(name):
    message = refused(name, "?")
    assert repr(getattr(DEFAULTS, name)) in message


def test_equal_settings_are_one_key():
    kept = TransformerConfig(
        **{name: np.int64(size) for name, size in SIZES.items()},
        mgt_lam=np.float64(0.5),
        causal=np.True_,
    )
    same = TransformerConfig(**SIZES, mgt_lam=0.5)
    assert {kept: 1} == {same: 1}
