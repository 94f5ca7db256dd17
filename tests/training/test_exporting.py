"""Exported models: every bit that was trained, under names and settings that others can read."""

import dataclasses
import json
from importlib.metadata import version

import numpy as np
import pytest

from mgt_np import TransformerConfig, transformer
from mgt_np.arrays import leaves_with_paths
from mgt_np.arrays.trees import rebuild
from mgt_np.data.safetensors import read
from mgt_np.layers import MHC_CONVENTIONS
from mgt_np.training import TrainingSettings, export, load_checkpoint, save_checkpoint, train
from mgt_np.training.exporting import kept_model, kept_settings

SIZES = {"vocab_size": 256, "d_model": 8, "n_heads": 2, "n_layers": 2, "d_ff": 16}
SETTINGS = TrainingSettings(n_steps=2, batch=2, n_tokens=5, log_every=2, warmup=1, n_valid=1)


@pytest.fixture(params=["float32", "float64"])
def trained(request, tmp_path):
    """A model's parameters and config, and the folder that has them."""
    config = TransformerConfig(**SIZES, max_tokens=5, mgt_alpha=0.5, dtype=request.param)
    params, _ = train(config, SETTINGS, folder=tmp_path, threads=1)
    return params, config, tmp_path


def same(found, params):
    """Whether named arrays are the leaves of a tree: names, dtypes, shapes and bits."""
    wanted = dict(leaves_with_paths(params))
    return found.keys() == wanted.keys() and all(
        (found[name].dtype, found[name].shape) == (leaf.dtype, leaf.shape)
        and found[name].tobytes() == leaf.tobytes()
        for name, leaf in wanted.items()
    )


def test_every_parameter_is_there_to_the_bit_and_nothing_else(trained):
    params, config, folder = trained
    arrays, _ = read(export(folder))
    assert same(arrays, params)
    assert {array.dtype.name for array in arrays.values()} == {config.dtype}


def test_the_package_of_the_format_reads_the_same(trained):
    load_file = pytest.importorskip("safetensors.numpy").load_file
    params, _, folder = trained
    assert same(load_file(export(folder)), params)


def test_the_metadata_make_the_model_again(trained):
    params, config, folder = trained
    arrays, metadata = read(export(folder))
    made = TransformerConfig(**json.loads(metadata["config"]))
    assert made == config
    assert TrainingSettings(**json.loads(metadata["settings"])) == SETTINGS
    assert (metadata["step"], metadata["mgt-np"]) == ("2", version("mgt-np"))
    names = [name for name, _ in leaves_with_paths(params)]
    again = rebuild(params, iter(arrays[name] for name in names))
    tokens = np.asarray([3, 1, 4])
    np.testing.assert_array_equal(
        transformer(again, tokens, made), transformer(params, tokens, config)
    )


def test_the_kept_model_is_the_trained_one(trained):
    params, config, folder = trained
    kept, *others = kept_model(folder)
    assert others == [config, SETTINGS, 2] == [*kept_settings(folder)]
    assert same(dict(leaves_with_paths(kept)), params)


def test_the_file_is_where_it_was_asked_for_and_the_same_each_time(trained):
    _, _, folder = trained
    path = export(folder)
    assert path == folder / "model.safetensors"
    before = path.read_bytes()
    other = folder / "other.safetensors"
    assert export(str(folder), str(other)) == other
    assert other.read_bytes() == before == export(folder).read_bytes()


@pytest.mark.parametrize("name", ["checkpoint.npz", "log.csv", "layers.csv"])
def test_the_runs_own_files_are_never_written_over(trained, name, monkeypatch):
    _, _, folder = trained
    before = (folder / name).read_bytes()
    monkeypatch.chdir(folder)
    for path in (folder / name, name, f"../{folder.name}/{name}"):
        with pytest.raises(ValueError, match=f"a file beside the run's own, got its {name}"):
            export(folder, path)
    assert (folder / name).read_bytes() == before


def test_a_model_with_a_convention_of_its_own_comes_back(tmp_path):
    row = dataclasses.replace(MHC_CONVENTIONS["paper"], mixing="circulant", gamma=0.0)
    config = TransformerConfig(**SIZES, max_tokens=5, residual="mhc", mhc_convention=row)
    train(config, SETTINGS, folder=tmp_path, threads=1)
    assert kept_model(tmp_path)[1] == config


@pytest.mark.parametrize("lost", ["config", "settings", "step"])
def test_a_checkpoint_of_something_else_leaves_what_was_there(trained, lost):
    _, _, folder = trained
    before = export(folder).read_bytes()
    _, record = load_checkpoint(folder / "checkpoint.npz")
    del record[lost]
    save_checkpoint(folder / "checkpoint.npz", {}, record)
    with pytest.raises(ValueError, match=f"no checkpoint of a training run: '{lost}'"):
        export(folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_arrays_of_another_model_are_refused(trained):
    params, _, folder = trained
    _, record = load_checkpoint(folder / "checkpoint.npz")
    save_checkpoint(folder / "checkpoint.npz", {"params": params}, record | {"step": 3})
    assert kept_settings(folder)[2] == 3
    record["config"]["d_ff"] = 17
    save_checkpoint(folder / "checkpoint.npz", {"params": params}, record)
    with pytest.raises(ValueError, match="is of another model: expected params"):
        export(folder)
    assert not (folder / "model.safetensors").exists()
