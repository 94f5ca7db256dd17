"""Frozen vectors: every case with its results, gradients and noise, for those who have no Python.

`docs/vectors.md` documents the file. What the other side computed comes back in the same file as
`<id>/got.<output>` and `<id>/got.grad.<argument>`, and is compared as a module would be.
"""

import hashlib
import json
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mgt_np.arrays.checks import one_of
from mgt_np.data import safetensors
from mgt_np.data.files import write_whole

from . import noise
from .cases import CASES, cases_of
from .compare import Report, Row, gradient_of, reference_of, scales_of, verdict_on
from .contract import CONTRACT
from .other_side import Answer, cotangents
from .readings import generic, predict, steps_of

FORMAT, VERSION = "mgt-np-vectors", "1.0"
NOISY = ("float64", "float32", "bfloat16", "float16")
FILE = "vectors-1.0.safetensors"


def frozen():
    """Return the path of the vectors that are shipped with the package."""
    return resources.files(__package__) / FILE


def make():
    """Return the arrays and the manifest of the vectors, computed afresh."""
    arrays, cases = {}, []
    for case in CASES.values():
        reference = reference_of(case, case.arrays, ())
        given = {name: x for name, x in case.arrays.items() if x is not None}
        arrays |= {f"{case.id}/in.{name}": np.asarray(x, float) for name, x in given.items()}
        arrays |= {f"{case.id}/out.{name}": np.asarray(y) for name, y in reference.items()}
        options = {name: x for name, x in case.options.items() if not isinstance(x, np.ndarray)}
        for name, x in case.options.items():
            if isinstance(x, np.ndarray):
                arrays[f"{case.id}/in.{name}"] = x
        entry = {"id": case.id, "function": case.function, "options": options}
        entry |= {"in": [*given, *(n for n in case.options if n not in options)]}
        entry |= {"out": list(reference), "tags": list(case.tags), "noise": {}}
        R = cotangents(case, reference)
        if CONTRACT[case.function].differentiable:
            gradients, _ = gradient_of(case, case.arrays, "float64")
            arrays |= {f"{case.id}/R.{name}": r for name, r in R.items()}
            arrays |= {f"{case.id}/grad.{name}": np.asarray(g) for name, g in gradients.items()}
        for dtype in NOISY:
            entry["noise"][dtype] = _noise(case, reference, dtype)
        entry["separates"] = _separates(case, reference, entry["noise"]["float32"])
        cases.append(entry)
    readings = {
        f"{function}/{r.name}": {"bug": r.bug, "says": r.says, "change": r.change}
        for function in CONTRACT
        for r in (*steps_of(function).readings, *generic(function))
    }
    manifest = {"format": FORMAT, "version": VERSION, "made_by": f"mgt-np {version('mgt-np')}"}
    manifest |= {"sha256": _digest(arrays), "cases": cases, "readings": readings}
    return arrays, manifest


def _noise(case, reference, dtype):
    scales = dict(scales_of(case, case.arrays, reference, dtype, ()))
    if CONTRACT[case.function].differentiable:
        _, of_gradients = gradient_of(case, case.arrays, dtype)
        scales |= {f"grad.{name}": s for name, s in of_gradients.items()}
    return {name: float(f"{s:.3g}") for name, s in scales.items()}


def _separates(case, reference, scales):
    """By how many units of float32's noise each reading moves the results of this case."""
    found = {}
    for reading in (*steps_of(case.function).readings, *generic(case.function)):
        try:
            with np.errstate(all="ignore"):
                moved = predict(case, case.arrays, (reading,))
                worst = max(
                    float(np.max(np.abs(moved[name] - y), initial=0.0)) / scales[name]
                    for name, y in reference.items()
                )
        except (ValueError, TypeError, IndexError):
            continue  # a reading that this case does not admit
        if np.isfinite(worst) and worst > 0.0:
            found[reading.name] = float(f"{worst:.2g}")
    return found


def _digest(arrays):
    digest = hashlib.sha256()
    for name in sorted(arrays):
        x = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {x.dtype.str} {x.shape}".encode())
        digest.update(x.tobytes())
    return digest.hexdigest()


def write(folder, *, npz=False):
    """Write the frozen vectors and their manifest into a folder; return the paths.

    Raises OSError where the folder cannot be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays, metadata = safetensors.read(frozen())
    manifest = json.loads(metadata["manifest"])
    if npz:
        path = folder / FILE.replace(".safetensors", ".npz")
        safetensors.write_npz(path, arrays, metadata)
    else:
        path = folder / FILE
        safetensors.write(path, arrays, metadata)
    beside = folder / "manifest.json"
    write_whole(beside, json.dumps(manifest, ensure_ascii=False, indent=1).encode())
    return [path, beside]


def compare_file(path, *, follows=None, only=None, progress=None):
    """Return a `Report` on the results `got` in a file of vectors; cases without any are left out.

    Raises ValueError for a file that is not whole, of another format or major version, without
    any `got`, or with inputs that are not those of the cases.
    """
    path = Path(path)
    arrays, metadata = (safetensors.read_npz if path.suffix == ".npz" else safetensors.read)(path)
    listed = _hold_to_version(path, metadata)
    got, dtypes = _got(path, arrays, listed), _dtypes(path, arrays)
    names = [only] if isinstance(only, str) else list(only or CONTRACT)
    for name in names:
        one_of(CONTRACT, **{"the function": name})
    cases = {name: [case for case in cases_of(name) if case.id in got] for name in names}
    if not any(cases.values()):
        raise ValueError(f"{path}: expected results of {', '.join(names)}, got none")
    rows = {}
    for name in names:
        if cases[name]:
            if progress is not None:
                progress(name, sum(map(bool, cases.values())))
            rows[name] = _row(name, cases[name], got, dtypes, follows)
        elif only is not None:
            rows[name] = Row(name, "not-offered", why="the file has no results of it")
    return Report(rows)


def _hold_to_version(path, metadata):
    """Return the ids of the cases that the manifest lists: a later minor version has more."""
    if metadata is None or "manifest" not in metadata:  # an .npz, or a file of `got` alone
        return ()
    try:
        manifest = json.loads(metadata["manifest"])
        format, version = manifest["format"], str(manifest["version"])
        listed = {str(case["id"]) for case in manifest.get("cases", ())}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path}: expected a manifest with format and version, got none") from None
    if format != FORMAT or version.partition(".")[0] != VERSION.partition(".")[0]:
        raise ValueError(
            f"{path}: expected format {FORMAT}, version {VERSION.partition('.')[0]}.x, "
            f"got {format!r}, {version!r}"
        )
    return listed


def _got(path, arrays, listed):
    found = {}
    for name, x in arrays.items():
        id, _, what = name.rpartition("/")
        if id not in CASES:
            if id in listed:
                continue
            raise ValueError(f"{path}: expected the id of a case in {name!r}")
        case = CASES[id]
        if what.startswith("got."):
            found.setdefault(id, {})[what.removeprefix("got.")] = x
        elif what.startswith("in."):
            ours = case.arrays.get(what[3:], case.options.get(what[3:]))
            if ours is None or not np.array_equal(ours, x):
                raise ValueError(f"{path}: expected {name} to be the input of that case")
    if not found:
        raise ValueError(f"{path}: expected results <case id>/got.<output>, got none")
    return found


_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def _dtypes(path, arrays):
    """The dtype of the results of each case; bfloat16 is read as float32."""
    if path.suffix == ".npz":
        stored = {name: x.dtype.name for name, x in arrays.items()}
    else:
        stored = {n: _DTYPES.get(dtype, dtype) for n, dtype in safetensors.dtypes(path).items()}
    found = {}
    for name, dtype in stored.items():
        id, _, what = name.rpartition("/")
        if what.startswith("got."):
            if dtype not in noise.UNIT:
                raise ValueError(f"{path}: expected {name} in a floating dtype, got {dtype}")
            if found.setdefault(id, dtype) != dtype:
                raise ValueError(f"{path}: expected one dtype in {id}, got {found[id]} and {dtype}")
    return found


def _row(name, cases, got, dtypes, follows):
    def ask(case, dtype, reference):
        answer = Answer(gradients={})
        shapes = {key: np.shape(y) for key, y in reference.items()}
        if CONTRACT[name].differentiable:
            given = {key: x for key, x in case.arrays.items() if x is not None}
            shapes |= {f"grad.{key}": np.shape(x) for key, x in given.items()}
        for key, x in got[case.id].items():
            if key not in shapes:
                raise ValueError(f"{case.id}: expected got of {', '.join(shapes)}, got {key}")
            if x.shape != shapes[key]:
                answer.verdict = "wrong-shape"
                answer.why = f"expected {key} of shape {shapes[key]}, got {x.shape}"
                return answer
            if key in reference:
                answer.outputs[key] = np.asarray(x, float)
            else:
                answer.gradients[key.removeprefix("grad.")] = np.asarray(x, float)
        missing = [key for key in reference if key not in answer.outputs]
        if missing:
            raise ValueError(f"{case.id}: expected got.{missing[0]}, got none")
        answer.gradients = answer.gradients or None
        return answer

    one = {dtypes[case.id] for case in cases}
    if len(one) > 1:
        raise ValueError(f"{name}: expected the cases of a function in one dtype, got {one}")
    return verdict_on(name, cases, list(one), ask, follows)


def freeze():
    """Make the vectors anew, and put them where they are shipped from."""
    arrays, manifest = make()
    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"))
    safetensors.write(frozen(), arrays, {"manifest": text})


if __name__ == "__main__":
    freeze()
