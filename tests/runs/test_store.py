"""The store: a cell is finished whole, or it is begun again, and nothing finished is lost."""

import json
import multiprocessing

import numpy as np
import pytest
from threadpoolctl import threadpool_info
from toy_experiment import QUICK, count_to, stored, tasks, toy_tasks, work

from mgt_np.runs import folder_of, is_done, read, store
from mgt_np.runs.store import compute, key

CELL = {"a": 1, "b": "β", "array_library": "numpy", "device": None, "dtype": "float64"}


def computed(folder, work=work, cell=None, **options):
    return compute(work, "toy", cell or tasks(QUICK)[0], folder, **options)


def test_a_cell_is_named_by_its_values_in_any_order():
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})
    others = [{"a": 1, "b": 3}, {"a": 1.0, "b": 2}, {"a": "1", "b": 2}, {"a": 1, "c": 2}]
    assert len({key(cell) for cell in [{"a": 1, "b": 2}, *others]}) == 5
    assert folder_of("runs", "toy", CELL).parts[:2] == ("runs", "toy")


def test_a_cell_keeps_its_name_for_good():
    """A change of it would forget all that is finished."""
    assert key({"b": "β", "a": 1, "c": [0, 0.5, None]}) == "3d7a7104deda1c74"


def test_a_finished_cell_holds_its_task_its_rows_and_done(tmp_path):
    assert computed(tmp_path) == ""
    assert {path.name for path in tmp_path.iterdir()} == {"task.json", "rows.jsonl", "done", "lock"}
    task = json.loads((tmp_path / "task.json").read_text())
    assert task["experiment"] == "toy"
    assert task["cell"] == tasks(QUICK)[0]
    assert {"python", "numpy", "mgt-np", "code"} <= task["versions"].keys()
    assert task["host"]
    done = json.loads((tmp_path / "done").read_text())
    assert done["seconds"] >= 0.0
    assert done["core_seconds"] >= 0.0
    rows, versions = read(tmp_path)
    assert [row["place"] for row in rows] == [0, 1, 2]
    assert versions == task["versions"]


def test_what_is_done_is_not_computed_again(tmp_path):
    computed(tmp_path)

    def never(there, **cell):
        raise AssertionError("computed again")

    assert computed(tmp_path, never) == ""


def value_rows(there, values):
    yield from ({"value": value} for value in values)


def test_rows_keep_ten_digits_and_what_is_not_finite(tmp_path):
    cell = {"values": [1 / 3, float("nan"), float("inf"), 1e-300, 2], **CELL}
    cell = {name: v for name, v in cell.items() if name not in ("a", "b")}
    assert computed(tmp_path, value_rows, cell) == ""
    (third, nan, inf, tiny, two) = (row["value"] for row in read(tmp_path)[0])
    assert third == 0.3333333333
    assert np.isnan(nan)
    assert (inf, tiny, two) == (float("inf"), 1e-300, 2)
    assert type(two) is int


DAMAGE = {
    "no done": lambda folder: (folder / "done").unlink(),
    "empty done": lambda folder: (folder / "done").write_bytes(b""),
    "done is no JSON": lambda folder: (folder / "done").write_bytes(b"\xff\xfe"),
    "done is no dict": lambda folder: (folder / "done").write_bytes(b"[1]"),
    "done without digest": lambda folder: (folder / "done").write_bytes(b"{}"),
    "no rows": lambda folder: (folder / "rows.jsonl").unlink(),
    "rows cut short": lambda folder: (folder / "rows.jsonl").write_bytes(b'{"pl'),
    "done is too deep": lambda folder: (folder / "done").write_bytes(b"[" * 99999),
    "rows of another": lambda folder: (folder / "rows.jsonl").write_bytes(b'{"place": 5}\n'),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cell_is_computed_again(tmp_path, damage):
    computed(tmp_path)
    before = (tmp_path / "rows.jsonl").read_bytes()
    damage(tmp_path)
    assert not is_done(tmp_path)
    assert computed(tmp_path) == ""
    assert is_done(tmp_path)
    assert (tmp_path / "rows.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"", b"{}", b"[1]", b'{"versions": []}', b'{"versions": null}', b"[" * 99999],
)
def test_a_damaged_task_file_costs_the_versions_alone(tmp_path, content):
    computed(tmp_path)
    (tmp_path / "task.json").write_bytes(content)
    rows, versions = read(tmp_path)
    assert len(rows) == 3
    assert versions == {}


def text_rows(there, **cell):
    yield {"text": "a\u2028b\u0085c\x1cd\n"}


def test_texts_come_back_whatever_is_in_them(tmp_path):
    assert computed(tmp_path, text_rows) == ""
    assert read(tmp_path)[0] == list(text_rows(None))


def failing(there, **cell):
    yield {"value": 1.0}
    raise ArithmeticError("half-way\nand more")


def test_an_error_is_one_line_and_its_traceback_is_kept(tmp_path):
    assert computed(tmp_path, failing) == "ArithmeticError: half-way"
    assert not is_done(tmp_path)
    assert "in failing" in (tmp_path / "error.txt").read_text()
    assert computed(tmp_path) == ""
    assert not (tmp_path / "error.txt").exists()


@pytest.mark.parametrize("file", ["task.json", "done"])
def test_a_full_disk_leaves_a_cell_undone(tmp_path, monkeypatch, file):
    whole = store.write_whole

    def full(path, data):
        if path.name == file:
            raise OSError(28, "No space left on device", str(path))
        whole(path, data)

    monkeypatch.setattr(store, "write_whole", full)
    assert "No space left on device" in computed(tmp_path)
    assert not is_done(tmp_path)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    assert "file" in computed(tmp_path / "file" / "cell")


def blas_threads(there, **cell):
    yield {"threads": max([info["num_threads"] for info in threadpool_info()], default=1)}


def test_linear_algebra_has_one_thread(tmp_path):
    computed(tmp_path, blas_threads)
    assert read(tmp_path)[0] == [{"threads": 1}]


def leaving(there, **cell):
    raise SystemExit("enough")
    yield


def test_work_that_wants_to_end_the_process_fails_alone(tmp_path):
    assert computed(tmp_path, leaving) == "SystemExit: enough"


def _hold(folder, held, release):
    with store._locked(folder, wait=True):
        held.set()
        release.wait(30)


@pytest.mark.skipif(store.fcntl is None, reason="no file locks here")
def test_two_runs_do_not_compute_one_cell_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, release), daemon=True)
    other.start()
    assert held.wait(30)
    assert computed(tmp_path, wait=False) == "busy"
    assert not is_done(tmp_path)
    release.set()
    assert computed(tmp_path, wait=True) == ""
    other.join()


@pytest.mark.skipif(store.fcntl is None, reason="no file locks here")
def test_a_lock_ends_with_its_holder(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, release), daemon=True)
    other.start()
    assert held.wait(30)
    other.kill()
    other.join()
    assert computed(tmp_path, wait=False) == ""


def resumed(folder, stop):
    cell = {"n_steps": 6, "stop": stop, **CELL}
    cell = {name: v for name, v in cell.items() if name not in ("a", "b")}
    if stop < 6:
        with pytest.raises(KeyboardInterrupt):
            compute(count_to, "toy", cell, folder, resumes=True)
        assert not is_done(folder)
    assert compute(count_to, "toy", cell, folder, resumes=True) == ""
    return (folder / "rows.jsonl").read_bytes()


@pytest.mark.parametrize("stop", [0, 1, 5])
def test_n_steps_are_k_steps_a_stop_and_the_rest_to_the_bit(tmp_path, stop):
    assert resumed(tmp_path / "a", stop) == resumed(tmp_path / "b", 99)


def test_tasks_of_two_settings_share_their_cells(tmp_path):
    few, more = toy_tasks(tmp_path), toy_tasks(tmp_path, type(QUICK)(n_seeds=4))
    assert [task.folder for task in more[:2]] == [task.folder for task in few]
    assert len({task.folder for task in more}) == 4
    assert not stored(tmp_path)
