"""Settings that are refused, the cells made of them, and seeds that share no draw."""

import json
import types
from dataclasses import dataclass

import numpy as np
import pytest

from mgt_np.experiments import Experiment
from mgt_np.experiments.experiment import Where, cells, generator, seeds


@dataclass(frozen=True)
class Settings(Where):
    seed: int = 0
    n_seeds: int = 2
    depth: int = 5
    scale: float = 0.0
    rules: tuple[str, ...] = ("a", "b")
    widths: tuple[int, ...] = (1, 2, 3)


def test_cells_are_all_combinations_the_last_axis_fastest():
    settings = Settings(depth=7)
    made = cells(settings, rule=settings.rules, width=settings.widths)
    assert [(cell["rule"], cell["width"]) for cell in made] == [
        *(("a", 1), ("a", 2), ("a", 3)),
        *(("b", 1), ("b", 2), ("b", 3)),
    ]
    rest = {"array_library": "numpy", "device": None, "dtype": "float64", "depth": 7, "scale": 0.0}
    assert made[0] == {**rest, "rule": "a", "width": 1}


def test_cells_are_plain_values_without_the_seeds_that_they_do_not_use():
    settings = Settings(seed=3, n_seeds=2)
    (first, second) = cells(settings, seed=seeds(settings))
    assert (first["seed"], second["seed"]) == ([3, 0], [3, 1])
    assert "n_seeds" not in first
    assert json.loads(json.dumps(first)) == first
    assert "seed" not in cells(settings)[0]
    more = cells(Settings(seed=3, n_seeds=5), seed=seeds(settings))
    assert more == [first, second], "another number of seeds must leave the cells that are there"


def test_an_axis_overrules_the_setting_of_its_name():
    assert [cell["depth"] for cell in cells(Settings(), depth=(1, 9))] == [1, 9]


def test_seeds_number_the_repetitions():
    assert seeds(Settings(seed=4, n_seeds=3)) == [[4, 0], [4, 1], [4, 2]]


def test_no_two_generators_share_a_draw():
    paths = [[s, i] for s in range(3) for i in range(3)]
    drawn = [generator(path).random(4) for path in paths]
    drawn += [generator(path, more).random(4) for path in paths for more in range(2)]
    drawn += [generator(s).random(4) for s in range(3)]
    assert len(np.unique(drawn)) == np.size(drawn)


def test_a_generator_gives_the_same_draws_each_time():
    for path in (0, [0], [1, 2]):
        np.testing.assert_array_equal(generator(path).random(3), generator(path).random(3))
    wanted = np.random.default_rng(np.random.SeedSequence(5).spawn(3)[2]).random(3)
    np.testing.assert_array_equal(generator([5, 2]).random(3), wanted)
    np.testing.assert_array_equal(generator(7).random(3), generator([7]).random(3))


def test_what_a_generator_spawns_is_not_what_stands_beside_it():
    spawned = [rng.random(4) for rng in generator([0, 1]).spawn(5)]
    beside = [generator([0, 1], more).random(4) for more in range(5)]
    assert len(np.unique([*spawned, *beside])) == 40


@pytest.mark.parametrize("name", ["depth", "n_seeds"])
def test_whole_numbers_below_one_are_refused(name):
    assert getattr(Settings(**{name: 1}), name) == 1
    for value in (0, -1):
        with pytest.raises(ValueError, match=rf"expected {name} of at least 1, got {value}"):
            Settings(**{name: value})


def test_the_first_seed_is_zero():
    assert Settings(seed=0).seed == 0
    with pytest.raises(ValueError, match=r"expected seed of at least 0, got -1"):
        Settings(seed=-1)


def test_floats_and_texts_are_free_and_tuples_have_a_value():
    assert Settings(scale=-1.0, rules=("",)).scale == -1.0
    with pytest.raises(ValueError, match=r"expected at least one value of rules, got none"):
        Settings(rules=())


def test_an_experiment_is_made_of_a_module():
    module = types.ModuleType("package.some_question", "Is it so?\n\nBecause of this.")
    names = ("claims", "tasks", "work", "plot")
    for name in names:
        setattr(module, name, lambda *args: None)
    module.QUICK, module.FULL, module.ALT = Settings(), Settings(depth=9), "A curve."
    made = Experiment.of(module)
    assert (made.name, made.question) == ("some-question", "Is it so?")
    assert (made.quick, made.full, made.alt) == (module.QUICK, module.FULL, "A curve.")
    assert all(getattr(made, name) is getattr(module, name) for name in names)
    assert made.resumes is False
    module.RESUMES = True
    assert Experiment.of(module).resumes is True
