"""Settings by name: what is asked for, where it applies, and what is refused."""

import dataclasses

import pytest
from toy_experiment import FULL, QUICK, TOY, Settings

from mgt_np import TransformerConfig
from mgt_np.settings import FIXED, changed, plans


@dataclasses.dataclass(frozen=True)
class Other(Settings):
    rules: tuple[str | float, ...] = ("lecun", 0.02)
    depth: int = 5


OTHER = dataclasses.replace(TOY, name="other", quick=Other(), full=Other(depth=9))


def settings_of(*changes, chosen=(TOY,), **options):
    return [settings for _, settings in plans(chosen, changes=changes, **options)]


def test_presets_are_as_they_are():
    assert settings_of() == [QUICK]
    assert settings_of(full=True, chosen=(TOY, OTHER)) == [FULL, Other(depth=9)]


def test_values_are_of_the_presets_kind():
    (settings,) = settings_of("n_seeds=7", "scales=1,2.5", "nap=0", "log=a=b")
    assert settings == Settings(n_seeds=7, scales=(1.0, 2.5), nap=0.0, log="a=b")
    assert [type(scale) for scale in settings.scales] == [float, float]
    assert type(settings.nap) is float
    (settings,) = settings_of("rules=lecun,0.5", "n-seeds=3", chosen=(OTHER,))
    assert (settings.rules, settings.n_seeds) == (("lecun", 0.5), 3)


def test_a_setting_applies_where_there_is_one():
    toy, other = settings_of("depth=3", chosen=(TOY, OTHER), given={"seed": 2, "data": None})
    assert (toy, other) == (Settings(seed=2), Other(seed=2, depth=3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("depth=3", "name of a setting"),
        ("n_seed=3", "did you mean 'n_seeds'"),
        ("n_seeds", "NAME=VALUE"),
        ("n_seeds=x", "--set n_seeds: expected a whole number, got 'x'"),
        ("n_seeds=2.5", "expected a whole number"),
        ("n_seeds=0", "expected n_seeds of at least 1, got 0"),
        ("seed=-1", "expected seed of at least 0, got -1"),
        ("scales=1,x", "expected a number, got 'x'"),
        ("scales=nan", "expected a number, got 'nan'"),
        ("scales=", "expected at least one value of scales"),
        ("dtype=float32", "--set dtype: expected --dtype instead"),
        ("array_library=torch", "expected --array-library instead"),
        ("span=1,2,3", "--set span: expected 2 values, got '1,2,3'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(change, words):
    with pytest.raises(ValueError, match="expected") as refused:
        settings_of(change)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_setting_is_given_once():
    with pytest.raises(ValueError, match="--set seed: expected --seed instead, got '2'"):
        settings_of("seed=2", given={"seed": 1})
    assert settings_of("seed=2", given={"seed": None}) == [Settings(seed=2)]


def test_data_is_refused_where_no_experiment_reads_any():
    @dataclasses.dataclass(frozen=True)
    class Bare:
        seed: int = 0

    bare = dataclasses.replace(TOY, quick=Bare())
    with pytest.raises(ValueError, match="'data'"):
        settings_of(chosen=(bare,), given={"data": "wikitext-2"})


def test_a_fixed_setting_is_left_as_it_is_and_refused_where_no_other_has_it():
    @dataclasses.dataclass(frozen=True)
    class Generated(Settings):
        data: str = dataclasses.field(default="known-entropy", metadata=FIXED)

    generated = dataclasses.replace(TOY, quick=Generated())
    options = {"given": {"data": "wikitext-2", "seed": 3}}
    toy, other = settings_of(chosen=(TOY, generated), **options)
    assert (toy.data, other.data) == ("wikitext-2", "known-entropy")
    assert (toy.seed, other.seed) == (3, 3)
    with pytest.raises(ValueError, match="'data'"):
        settings_of(chosen=(generated,), **options)
    with pytest.raises(ValueError, match="'data'"):
        settings_of("data=wikitext-2", chosen=(generated,))


def test_a_decoders_settings_are_read_by_their_kinds():
    sizes = {"vocab_size": 5, "d_model": 4, "n_heads": 2, "n_layers": 1, "d_ff": 8, "max_tokens": 4}
    config = TransformerConfig(**sizes)
    texts = {
        "causal": "false",
        "layerscale_lam": "0.5",
        "checkpoint_every": "3",
        "admin_omega": "O(n)",
    }
    new = changed(config, {"n_layers": 2}, texts | {"weight_scale": "0.02", "mgt_alpha": "1"})
    assert (new.n_layers, new.causal, new.layerscale_lam, new.checkpoint_every) == (
        2,
        False,
        0.5,
        3,
    )
    assert (new.admin_omega, new.mgt_alpha) == ("O(n)", 1.0)
    assert changed(new, {}, {"admin_omega": "none", "causal": "True"}).admin_omega is None
    with pytest.raises(ValueError, match="expected true or false, got 'no'"):
        changed(config, {}, {"causal": "no"})
