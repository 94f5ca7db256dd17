"""Compute cells on a Dask cluster, and say in one line why it cannot be done."""

import logging
import threading
import time
from concurrent.futures import FIRST_COMPLETED, CancelledError, wait
from contextlib import contextmanager

from mgt_np.data.files import write_whole

from .store import compute, is_done
from .versions import versions

WAIT = 30  # seconds that we wait for a scheduler, and as long again for a worker
FILES = ("task.json", "rows.jsonl", "done")  # `done` last


class ClusterError(OSError):
    """A cluster that cannot compute, or no longer does."""


def on_cluster(address, tasks):
    """Yield each task with what became of it: "" where it is done, else a line.

    A worker writes into the store as it sees it; where that is not our disk, the rows come back
    over the network and are written here. Workers should have one thread each: cells that share a
    process share its number of threads for linear algebra, and may differ in their last digits.
    Raises ClusterError within 30 seconds where no scheduler answers, within another 30 where it
    has no worker or has lost all of them, at once where a worker cannot import this package, and
    within 30 where the scheduler ends on the way. What was finished before is kept.
    """
    with _client(address) as client:
        _check_workers(client, address)
        executor = client.get_executor()
        futures = {
            executor.submit(compute_there, *task.arguments(), resumes=task.resumes): task
            for task in tasks
        }
        for future in _as_they_end(client, address, futures):
            task = futures[future]
            try:
                said, files = future.result()
            except CancelledError:
                raise ClusterError(f"the Dask scheduler at {address} ended on the way") from None
            except Exception as error:  # a worker that was killed again and again, say
                said, files = f"{type(error).__name__}: {error}".partition("\n")[0], {}
            _keep(task.folder, files)
            yield task, said


def _as_they_end(client, address, futures):
    """Yield futures as they end, as long as there is a worker to end them."""
    pending, seen = set(futures), time.monotonic()
    while pending:
        ended, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
        yield from ended
        if ended or client.scheduler_info()["workers"]:
            seen = time.monotonic()
        elif time.monotonic() - seen > WAIT:
            raise ClusterError(f"the Dask scheduler at {address} has lost its workers")


def compute_there(work, name, cell, folder, **options):
    """Compute a cell on a worker; return what became of it and the files, by their names."""
    said = compute(work, name, cell, folder, **options)
    return said, {} if said else {file: (folder / file).read_bytes() for file in FILES}


def _keep(folder, files):
    """Write what came back, unless the worker has written it here itself."""
    if files and not is_done(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file in FILES:
            write_whole(folder / file, files[file])


@contextmanager
def _client(address):
    from distributed import Client
    from distributed.comm import get_address_host_port

    for name in [*logging.root.manager.loggerDict]:  # they log what we say in one line
        if name.partition(".")[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        if not address.startswith("inproc:"):
            get_address_host_port(address)  # a Client that is refused here takes 60 s to end
        client = Client(address, timeout=WAIT, set_as_default=False)
    except (OSError, ValueError) as error:
        said = str(error).partition("\n")[0]
        raise ClusterError(f"no Dask scheduler answers at {address}: {said}") from None
    try:
        yield client
    finally:
        client.close(timeout=5)


def _check_workers(client, address):
    try:
        client.wait_for_workers(1, timeout=WAIT)
    except TimeoutError:
        raise ClusterError(
            f"the Dask scheduler at {address} has no worker after {WAIT} s: start one with "
            f"`dask worker {address}`"
        ) from None
    answers = _within(WAIT, lambda: client.run(_version, on_error="return"))
    if answers is None:
        raise ClusterError(f"a worker of the Dask scheduler at {address} does not answer")
    for worker, version in answers.items():
        if isinstance(version, BaseException):  # whatever keeps it from being imported there
            said = f"{type(version).__name__}: {version}".partition("\n")[0]
            raise ClusterError(
                f"the Dask worker {worker} of {address} cannot import mgt_np ({said}): install the "
                "same version there"
            )
        if version != _version():
            raise ClusterError(
                f"the Dask worker {worker} of {address} has mgt_np {version}, expected "
                f"{_version()}: install the same version there"
            )


def _within(seconds, call):
    """What a call returns within so many seconds, else None; it may then go on in its thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


def _version():
    """This package's version: a worker that lacks the package cannot even find this function."""
    found = versions()
    return f"{found['mgt-np']}, code {found['code']}"
