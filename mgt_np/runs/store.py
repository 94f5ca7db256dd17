"""The store: what is finished is kept, each cell in a folder of its own.

`runs/<experiment>/<key>/` holds `task.json`, the cell and what computes it; `rows.jsonl`, a line a
row; where the experiment resumes, its checkpoint; and `done`, written last, with the digest of the
rows. The key is a hash of the cell alone. Whoever computes a cell writes it, and holds `lock`.
"""

import hashlib
import json
import os
import socket
import time
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path

from mgt_np.arrays.libraries import There, place
from mgt_np.arrays.threads import limited
from mgt_np.data.files import write_whole

from .versions import versions

try:
    import fcntl
except ImportError:  # Windows: two runs at once may spoil a cell, which is then computed again
    fcntl = None

DIGITS = 10  # significant digits of a row: rows, tables and figures are made of the same numbers


def key(cell):
    """The name of a cell's folder: a hash of the cell as canonical JSON."""
    text = json.dumps(cell, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def folder_of(runs, name, cell):
    """The folder of one cell of the experiment `name`."""
    return Path(runs) / name / key(cell)


def is_done(folder):
    """Whether a cell is finished and its rows are those that were written."""
    try:
        done = json.loads((folder / "done").read_bytes())
        return done["sha256"] == hashlib.sha256((folder / "rows.jsonl").read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def read(folder):
    """The rows of a finished cell, and the versions that computed them."""
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_bytes().splitlines()]
    try:
        found = json.loads((folder / "task.json").read_bytes())["versions"]
        return rows, {str(name): str(version) for name, version in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return rows, {}


def core_seconds(folder):
    """The processor time of the sitting that finished a cell: of a resumed one, the last."""
    done = json.loads((folder / "done").read_bytes())
    return float(done.get("core_seconds", done.get("seconds", 0.0)))


def compute(work, name, cell, folder, *, resumes=False, wait=True):
    """Compute a cell into its folder, and say what became of it.

    Returns "" where it is done; "busy" where another process computes it now and `wait` is False;
    else what went wrong, in a line: the rest of it is in `error.txt` in the folder. Linear algebra
    has one thread, so that rows do not depend on the number of cores: in a process that computes
    one cell at a time.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder, wait=wait) as mine:
            if not mine:
                return "busy"
            if not is_done(folder):
                _compute(work, name, cell, folder, resumes=resumes)
            return ""
    except (Exception, SystemExit) as error:
        return _kept(error, folder)


def _compute(work, name, cell, folder, *, resumes):
    start = time.perf_counter(), time.process_time()
    task = {"experiment": name, "cell": cell, "versions": versions(cell["array_library"])}
    task |= {"host": socket.gethostname()}
    write_whole(folder / "task.json", _json(task))
    options = {name: v for name, v in cell.items() if name not in ("array_library", "device")}
    dtype = options.pop("dtype")
    there = There(place(cell["array_library"], cell["device"], dtype=dtype), dtype)
    if resumes:
        options["folder"] = folder
    digest = hashlib.sha256()
    with limited(1), (folder / "rows.jsonl").open("wb") as file:
        for row in work(there, **options):
            line = _json({column: _rounded(value) for column, value in row.items()}, indent=None)
            file.write(line)
            file.flush()
            digest.update(line)
        os.fsync(file.fileno())
    ended = time.perf_counter(), time.process_time()
    seconds, core_seconds = (round(b - a, 3) for a, b in zip(start, ended, strict=True))
    done = {"sha256": digest.hexdigest(), "seconds": seconds, "core_seconds": core_seconds}
    write_whole(folder / "done", _json(done))
    (folder / "error.txt").unlink(missing_ok=True)


def _kept(error, folder):
    """An error in a line; its traceback in the folder, if that can still be written."""
    with suppress(OSError):
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
    said = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _rounded(value):
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _json(value, indent=1):
    return (json.dumps(value, ensure_ascii=False, indent=indent) + "\n").encode()


@contextmanager
def _locked(folder, *, wait):
    """Hold the folder's lock; False is yielded where another process has it and we do not wait.

    The operating system releases it when its holder ends, however that ends.
    """
    if fcntl is None:
        yield True
        return
    with (folder / "lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
