"""Checkpoints: trees of arrays and a record, in one file that is whole or is not there."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np

from mgt_np.arrays import leaves_with_paths, to_host
from mgt_np.arrays.trees import rebuild
from mgt_np.data.files import write_whole

RECORD = "record"


def save_checkpoint(path, trees, record):
    """Write trees of arrays, by their names, and a record of plain values into the file `path`.

    The file is an `.npz` without pickled objects: each array under the name of its tree and its
    path, "params['blocks'][0]['norm']['gain']", and the record as JSON. Any array library; the host
    gets a copy. A reader sees the old file or the new one, never a part.
    Raises OSError where the file cannot be written; the old one is still there then.
    """
    arrays = {
        f"{name}{place}": to_host(leaf)
        for name, tree in trees.items()
        for place, leaf in leaves_with_paths(tree)
    }
    file = io.BytesIO()
    np.savez(file, **arrays, **{RECORD: np.asarray(json.dumps(record))})
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, file.getvalue())


def load_checkpoint(path, like=None):
    """Return the trees and the record of a checkpoint.

    `like` has a tree for each name that is wanted, with leaves of the shapes that are expected: the
    result has the same nesting, of NumPy arrays. Without it only the record is read.
    Raises ValueError for a file that is damaged, cut short or no checkpoint, and for one whose
    arrays are not those of `like`; OSError where there is none.
    """
    try:
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
            record = json.loads(str(file[RECORD]))
            arrays = {name: file[name] for name in file.files if name != RECORD} if like else {}
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
        raise ValueError(f"{path} is no whole checkpoint: {error}") from None
    trees = {name: _tree(path, name, tree, arrays) for name, tree in (like or {}).items()}
    return trees, record


def _tree(path, name, tree, arrays):
    found = []
    for place, leaf in leaves_with_paths(tree):
        array = arrays.get(f"{name}{place}")
        if array is None or array.shape != tuple(leaf.shape):
            got = "none" if array is None else f"shape {array.shape}"
            raise ValueError(
                f"{path} is of another model: expected {name}{place} of shape "
                f"{tuple(leaf.shape)}, got {got}"
            )
        found.append(array)
    return rebuild(tree, iter(found))
