"""Compute cells on a Dask cluster, and say in one line why it cannot be done."""

import logging
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
    over the network and are written here.
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

    for name in ("distributed", "tornado"):  # they log what we say in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
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
    try:
        client.run(_version)
    except Exception as error:  # whatever keeps it from being imported there
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ClusterError(
            f"a worker of the Dask scheduler at {address} cannot import mgt_np ({said}): install "
            "the same version there"
        ) from None


def _version():
    """This package's version on a worker: a worker that lacks it cannot even find this function."""
    return versions()["mgt-np"]
