"""Workers: the same rows whoever computes, and whoever is killed on the way."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from toy_experiment import Settings, lines_of, stored, toy_tasks

from mgt_np.runs import compute_all, is_done

SUPPORT = Path(__file__).parents[1] / "support"


def computed(folder, jobs=None, **settings):
    """The lines of what failed, after the toy's cells were computed."""
    tasks = toy_tasks(folder, Settings(**settings))
    return {task.cell["seed"][-1]: said for task, said in compute_all(tasks, jobs=jobs)}


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_rows_are_the_same_for_any_number_of_workers(tmp_path, jobs):
    assert computed(tmp_path / "here", n_seeds=3) == {}
    assert computed(tmp_path / "there", jobs, n_seeds=3) == {}
    assert stored(tmp_path / "there") == stored(tmp_path / "here")
    assert len(stored(tmp_path / "here")) == 3


@pytest.mark.parametrize("jobs", [None, 2])
def test_a_cell_that_raises_costs_no_other_anything(tmp_path, jobs):
    options = {"n_seeds": 3, "fate": "raise"}
    assert computed(tmp_path, jobs, **options) == {1: "ArithmeticError: the second cell"}
    assert [is_done(task.folder) for task in toy_tasks(tmp_path, Settings(**options))] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(("fate", "failed"), [("kill", {1}), ("kill once", set())])
def test_a_killed_worker_costs_at_most_its_own_cell(tmp_path, fate, failed):
    options = {"n_seeds": 4, "fate": fate, "log": str(tmp_path / "log"), "nap": 0.05}
    said = computed(tmp_path / "runs", 2, **options)
    assert said.keys() == failed
    assert all("killed" in line for line in said.values())
    tasks = toy_tasks(tmp_path / "runs", Settings(**options))
    assert [is_done(task.folder) for task in tasks] == [i not in failed for i in range(4)]


def test_without_processes_a_line_says_so_and_cells_are_computed_here(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "platform", "emscripten")
    monkeypatch.setattr("mgt_np.runs.workers.ProcessPoolExecutor", None)
    assert computed(tmp_path / "browser", 4, n_seeds=3) == {}
    assert len(stored(tmp_path / "browser")) == 3
    said = capsys.readouterr().err
    assert said.count("no other processes here: cells are computed one by one\n") == 1
    assert computed(tmp_path / "browser", 4, n_seeds=3) == {}
    assert "no other processes" not in capsys.readouterr().err


def test_an_interruption_keeps_what_is_done_and_the_next_run_goes_on(tmp_path):
    log = str(tmp_path / "log")
    with pytest.raises(KeyboardInterrupt):
        computed(tmp_path / "runs", n_seeds=3, fate="interrupt", log=log)
    assert lines_of(log) == ["begin 1.0 0", "end 1.0 0", "begin 1.0 1"]
    assert len(stored(tmp_path / "runs")) >= 1
    with pytest.raises(KeyboardInterrupt):
        computed(tmp_path / "runs", n_seeds=3, fate="interrupt", log=log)
    assert lines_of(log)[3:] == ["begin 1.0 1"]  # the first cell is not begun again


class Closed:
    """A standard error whose other end is closed."""

    closed = False
    encoding = "utf-8"

    def isatty(self):
        return True

    def write(self, *text):
        raise BrokenPipeError

    flush = fileno = write


@pytest.mark.parametrize("stream", [None, Closed()], ids=["none", "closed"])
def test_a_standard_error_that_is_gone_stops_nothing(tmp_path, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    assert computed(tmp_path) == {}
    assert len(stored(tmp_path)) == 2


SCRIPT = """
import signal
import sys
from toy_experiment import Settings, toy_tasks
from mgt_np.runs import compute_all
if __name__ == "__main__":
    # a shell's background job, and whatever it starts, ignores SIGINT
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runs, log, *nap = sys.argv[1:]
    settings = Settings(n_seeds=6, log=log, nap=float(nap[0]) if nap else 0.1)
    sys.exit(bool(compute_all(toy_tasks(runs, settings), jobs=2)))
"""


@pytest.fixture
def script(tmp_path):
    """A command that computes six cells with two workers."""
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    return [sys.executable, str(file), str(tmp_path / "runs"), str(tmp_path / "log")]


def started(command):
    environment = os.environ | {"PYTHONPATH": str(SUPPORT), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def children(pid):
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="processes are watched in /proc"
)


def test_work_that_cannot_be_sent_fails_alone(tmp_path):
    tasks = toy_tasks(tmp_path, Settings(n_seeds=3))
    tasks[1] = dataclasses.replace(tasks[1], work=lambda there, **cell: [])
    ((task, said),) = compute_all(tasks, jobs=2)
    assert task is tasks[1]
    assert "pickle" in said
    assert [is_done(task.folder) for task in tasks] == [True, False, True]


@needs_proc
def test_two_runs_at_once_share_their_cells(script, tmp_path):
    runs = [started(script), started(script)]
    assert [run.wait(60) for run in runs] == [0, 0]
    begun = [line for line in lines_of(tmp_path / "log") if line.startswith("begin")]
    assert sorted(begun) == [f"begin 1.0 {number}" for number in range(6)]


@needs_proc
@pytest.mark.parametrize("delay", [0.0, 0.15])
@pytest.mark.parametrize("whom", ["group", "parent"])
def test_an_interruption_ends_all_at_once_and_says_nothing_else(script, tmp_path, delay, whom):
    environment = os.environ | {"PYTHONPATH": str(SUPPORT), "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.Popen(
        [*script, "100"],  # seconds a cell: none is waited for
        env=environment,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(lambda: lines_of(tmp_path / "log"))
    time.sleep(delay)
    workers = children(run.pid)
    (os.killpg if whom == "group" else os.kill)(run.pid, signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert said.count(b"KeyboardInterrupt") == 1, said.decode()
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in workers))


@needs_proc
def test_workers_end_with_a_parent_that_is_killed(script, tmp_path):
    run = started(script)
    wait_for(lambda: lines_of(tmp_path / "log"))
    workers = children(run.pid)
    assert workers
    run.kill()
    run.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in workers))


def run_and_kill(script, log, rng):
    """Start the command, kill it or one of its workers at some moment, and wait for its end."""
    begun = len(lines_of(log))
    run = started(script)
    wait_for(lambda: len(lines_of(log)) > begun or run.poll() is not None)
    time.sleep(rng.uniform(0.0, 0.25))
    workers = children(run.pid)
    if run.poll() is None:
        with suppress(ProcessLookupError):
            os.kill(rng.choice([run.pid, *workers]), signal.SIGKILL)
    assert run.wait(60) in (0, -signal.SIGKILL)  # a killed worker is made up for
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in workers))


@needs_proc
@pytest.mark.parametrize(
    ("times", "seed"), [(3, 0), *(pytest.param(5, s, marks=pytest.mark.slow) for s in range(1, 6))]
)
def test_whoever_is_killed_the_rows_are_the_same_and_nothing_is_done_twice(
    script, tmp_path, times, seed
):
    log, rng = tmp_path / "log", random.Random(seed)
    tasks = toy_tasks(tmp_path / "runs", Settings(n_seeds=6, log=str(log), nap=0.1))
    for _ in range(times):
        done = [task.cell["seed"][-1] for task in tasks if is_done(task.folder)]
        before = len(lines_of(log))
        run_and_kill(script, log, rng)
        assert not {f"begin 1.0 {number}" for number in done} & set(lines_of(log)[before:])
    assert started(script).wait(60) == 0
    calm = toy_tasks(tmp_path / "calm", Settings(n_seeds=6))
    assert compute_all(calm) == []
    assert [(task.folder / "rows.jsonl").read_bytes() for task in tasks] == [
        (task.folder / "rows.jsonl").read_bytes() for task in calm
    ]
