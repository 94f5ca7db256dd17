"""A trained model out of its folder: for this package, or as a file that any language can read."""

import dataclasses
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mgt_np.arrays import leaves_with_paths
from mgt_np.data import safetensors
from mgt_np.models import TransformerConfig, init_transformer

from .checkpoints import load_checkpoint
from .loop import RUN_FILES, TrainingSettings


def export(folder, path=None):
    """Write the parameters of the trained model in a folder to a .safetensors file, all at once.

    `path` is FOLDER/model.safetensors unless given, and is returned. Each array has the name of its
    place, "['blocks'][0]['attention']['W_q']", and the bits that training left. The metadata has
    "config" and "settings" as JSON, "step", and the version of "mgt-np".
    Raises ValueError where the checkpoint is damaged or of something else, or `path` one of the
    run's own files; OSError where it is not there or `path` cannot be written. What was at `path`
    is still there then.
    """
    path = Path(folder) / "model.safetensors" if path is None else Path(path)
    for name in RUN_FILES:
        if path.resolve() == (Path(folder) / name).resolve():
            raise ValueError(f"export: expected a file beside the run's own, got its {name}")
    params, config, settings, step = kept_model(folder)
    metadata = {
        "config": json.dumps(dataclasses.asdict(config)),
        "settings": json.dumps(dataclasses.asdict(settings)),
        "step": str(step),
        "mgt-np": version("mgt-np"),
    }
    safetensors.write(path, dict(leaves_with_paths(params)), metadata)
    return path


def kept_model(folder):
    """The parameters, `TransformerConfig`, `TrainingSettings` and step of the run in a folder.

    The parameters are NumPy arrays, of the bits that training left.
    Raises what `kept_settings` raises.
    """
    config, settings, step = kept_settings(folder)
    like = {"params": init_transformer(np.random.default_rng(0), config)}
    trees, _ = load_checkpoint(Path(folder) / "checkpoint.npz", like)
    return trees["params"], config, settings, step


def kept_settings(folder):
    """The `TransformerConfig`, `TrainingSettings` and step of the run in a folder.

    Raises ValueError where its checkpoint is damaged or of something else, OSError where it is not
    there.
    """
    path = Path(folder) / "checkpoint.npz"
    _, record = load_checkpoint(path)
    try:
        config, settings = record["config"], record["settings"]
        return TransformerConfig(**config), TrainingSettings(**settings), record["step"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no checkpoint of a training run: {error}") from None
