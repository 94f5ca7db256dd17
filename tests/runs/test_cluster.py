"""A Dask cluster: the same rows as here, and one line where it cannot compute."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from toy_experiment import Settings, lines_of, stored, toy_tasks, version_of_process

from mgt_np.runs import ClusterError, cluster, compute_all, is_done

distributed = pytest.importorskip("distributed", reason="Dask is not installed")
SUPPORT = Path(__file__).parents[1] / "support"
# Dask's event loop ends in a thread, and may leave a socket to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def here(folder, **settings):
    assert compute_all(toy_tasks(folder, Settings(**settings))) == []
    return stored(folder)


def test_rows_are_the_same_on_a_local_cluster(tmp_path):
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as local:
        tasks = toy_tasks(tmp_path / "there", Settings(n_seeds=4))
        assert compute_all(tasks, scheduler=local.scheduler_address) == []
    assert stored(tmp_path / "there") == here(tmp_path / "here", n_seeds=4)


def test_rows_come_back_from_a_worker_that_does_not_share_our_disk(tmp_path):
    (task,) = toy_tasks(tmp_path / "elsewhere", Settings(n_seeds=1))
    said, files = cluster.compute_there(*task.arguments())
    assert said == ""
    cluster._keep(tmp_path / "cell", files)
    assert is_done(tmp_path / "cell")
    rows = [(folder / "rows.jsonl").read_bytes() for folder in (tmp_path / "cell", task.folder)]
    assert rows[0] == rows[1]


def dask(name, *arguments):
    """A scheduler or worker as a process of its own."""
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", f"distributed.cli.dask_{name}", *arguments]
    command += ["--dashboard-address", "127.0.0.1:0"]
    environment = os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "TOY": "a worker"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, **quiet)


def worker_of(address, *arguments):
    options = ["--nthreads", "1", "--no-nanny", "--host", "127.0.0.1", "--death-timeout", "20"]
    return dask("worker", address, *options, *arguments)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def processes():
    """Processes that are killed at the end."""
    started = []
    yield started
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def scheduler(processes):
    port = free_port()
    processes.append(dask("scheduler", "--host", "127.0.0.1", "--port", str(port)))
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return f"tcp://127.0.0.1:{port}"
        time.sleep(0.05)
    raise AssertionError("the scheduler does not listen")


def test_rows_are_the_same_on_processes_of_which_one_is_killed(tmp_path, scheduler, processes):
    workers = [worker_of(scheduler), worker_of(scheduler)]
    processes += workers
    log = tmp_path / "log"
    tasks = toy_tasks(tmp_path / "there", Settings(n_seeds=6, fate="kill once", log=str(log)))
    assert compute_all(tasks, scheduler=scheduler) == []
    assert [process.poll() for process in workers].count(-signal.SIGKILL) == 1
    rows = sorted(here(tmp_path / "here", n_seeds=6).values())
    assert sorted(stored(tmp_path / "there").values()) == rows


def test_a_cell_that_raises_costs_no_other_anything(tmp_path, scheduler, processes):
    processes.append(worker_of(scheduler))
    tasks = toy_tasks(tmp_path, Settings(n_seeds=3, fate="raise"))
    ((task, said),) = compute_all(tasks, scheduler=scheduler)
    assert task.cell["seed"] == [0, 1]
    assert said == "ArithmeticError: the second cell"
    assert [is_done(task.folder) for task in tasks] == [True, False, True]


def refused(tasks, address):
    with pytest.raises(ClusterError) as refused:
        compute_all(tasks, scheduler=address)
    said = str(refused.value)
    assert "\n" not in said
    assert address in said
    return said


def test_a_scheduler_that_does_not_answer_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "WAIT", 1)
    address = f"tcp://127.0.0.1:{free_port()}"
    assert "no Dask scheduler answers" in refused(toy_tasks(tmp_path), address)


def test_a_cluster_without_workers_is_said(tmp_path, scheduler, monkeypatch):
    monkeypatch.setattr(cluster, "WAIT", 1)
    assert "no worker after 1 s" in refused(toy_tasks(tmp_path), scheduler)


BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mgt_np":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Block())
"""


def test_a_worker_without_the_package_is_said(tmp_path, scheduler, processes):
    (tmp_path / "block.py").write_text(BLOCK)
    processes.append(worker_of(scheduler, "--preload", str(tmp_path / "block.py")))
    assert "cannot import mgt_np" in refused(toy_tasks(tmp_path / "runs"), scheduler)


def test_a_worker_with_other_code_is_said(tmp_path, scheduler, processes, monkeypatch):
    processes.append(worker_of(scheduler))
    monkeypatch.setattr(cluster, "_version", version_of_process)
    assert "has mgt_np of a worker, expected of here" in refused(toy_tasks(tmp_path), scheduler)


@pytest.mark.parametrize("address", ["foo", "", "http://x", "tcp://127.0.0.1:abc"])
def test_an_address_that_is_none_is_said_at_once(tmp_path, address):
    assert "no Dask scheduler answers" in refused(toy_tasks(tmp_path), address)


def test_a_scheduler_that_ends_on_the_way_is_said_and_finished_cells_are_kept(
    tmp_path, scheduler, processes, capfd
):
    processes.append(worker_of(scheduler))
    log = tmp_path / "log"
    settings = Settings(n_seeds=50, log=str(log), nap=0.2)
    tasks = toy_tasks(tmp_path / "runs", settings)

    def end_it():
        while len([line for line in lines_of(log) if line.startswith("end")]) < 3:
            time.sleep(0.05)
        processes[0].kill()

    threading.Thread(target=end_it, daemon=True).start()
    start = time.monotonic()
    assert "ended" in refused(tasks, scheduler)
    assert time.monotonic() - start < 60
    assert sum(is_done(task.folder) for task in tasks) >= 2
    assert "Traceback" not in capfd.readouterr().err


def test_a_cluster_that_loses_its_workers_is_said(tmp_path, scheduler, processes, monkeypatch):
    processes.append(worker_of(scheduler))
    log = tmp_path / "log"
    tasks = toy_tasks(tmp_path / "runs", Settings(n_seeds=2, fate="kill", log=str(log)))
    monkeypatch.setattr(cluster, "WAIT", 5)
    assert "lost its workers" in refused(tasks, scheduler)
    assert is_done(tasks[0].folder)
