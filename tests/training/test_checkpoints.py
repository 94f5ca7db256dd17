"""Checkpoints: what is written is read again, to the bit, or refused in one line."""

import numpy as np
import pytest

from mgt_np.arrays import leaves_with_paths, tree_map
from mgt_np.training import load_checkpoint, save_checkpoint

RECORD = {"step": 3, "name": "β", "losses": [1.5, float("nan")], "rng": {"state": 2**100}}


def tree(library=None):
    arrays = {"a": [np.arange(3.0), {"b": np.ones((2, 1), np.float32)}], "c": np.asarray(2.5)}
    return arrays if library is None else tree_map(library.asarray, arrays)


def test_trees_and_record_come_back_to_the_bit(tmp_path, library):
    path = tmp_path / "new" / "checkpoint.npz"
    save_checkpoint(path, {"params": tree(library), "mean": tree(library)}, RECORD)
    trees, record = load_checkpoint(path, {"params": tree(), "mean": tree()})
    assert trees.keys() == {"params", "mean"}
    for name in trees:
        pairs = zip(leaves_with_paths(trees[name]), leaves_with_paths(tree()), strict=True)
        for (path_got, got), (path_wanted, wanted) in pairs:
            assert path_got == path_wanted
            assert got.dtype == wanted.dtype
            np.testing.assert_array_equal(got, wanted)
    assert str(record) == str(RECORD)
    assert str(load_checkpoint(path)) == str(({}, RECORD))
    assert [each.name for each in path.parent.iterdir()] == ["checkpoint.npz"]


def test_a_file_that_was_cut_short_is_never_loaded(tmp_path):
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, {"params": tree()}, RECORD)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is no whole checkpoint"):
            load_checkpoint(path, {"params": tree()})


def test_a_damaged_array_is_never_loaded(tmp_path):
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, {"params": tree()}, RECORD)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(np.arange(3.0).tobytes()) + 9] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="is no whole checkpoint"):
        load_checkpoint(path, {"params": tree()})


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"a": [np.zeros(4), {"b": np.ones((2, 1))}], "c": np.zeros(())}, r"\['a'\]\[0\] of shape"),
        ({"d": np.zeros(3)}, "got none"),
    ],
    ids=["shape", "name"],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, other, words):
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, {"params": tree()}, RECORD)
    with pytest.raises(ValueError, match=words):
        load_checkpoint(path, {"params": other})


def test_files_of_others_are_refused(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, x=np.zeros(2))
    with pytest.raises(ValueError, match="is no whole checkpoint"):
        load_checkpoint(path)
    np.savez(path, record=np.asarray([{"an": "object"}], dtype=object))
    with pytest.raises(ValueError, match="is no whole checkpoint"):
        load_checkpoint(path)
    path.write_text("text")
    with pytest.raises(ValueError, match="is no whole checkpoint"):
        load_checkpoint(path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.npz")


def test_a_write_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(path, {"params": tree()}, {"step": 1})

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"params": tree()}, {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(path)[1] == {"step": 1}
