"""The frozen vectors are right, and results in a file are compared as a module's would be."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mgt_np import layers
from mgt_np.crosscheck import vectors
from mgt_np.crosscheck.cases import CASES, cases_of
from mgt_np.crosscheck.contract import CONTRACT
from mgt_np.crosscheck.other_side import cotangents, rounded
from mgt_np.crosscheck.readings import generic, predict, steps_of
from mgt_np.crosscheck.search import RIGHT
from mgt_np.crosscheck.vectors import compare_file
from mgt_np.data import safetensors

COMPARE = sys.modules["mgt_np.crosscheck.compare"]

MANIFEST = {"format": "mgt-np-vectors", "version": "1.0", "cases": [{"id": "softmax/plain"}]}


@pytest.fixture(scope="module")
def frozen():
    """The arrays and the manifest of the file that is shipped."""
    if not vectors.frozen().is_file():
        pytest.skip("the frozen vectors are not made yet")
    arrays, metadata = safetensors.read(vectors.frozen())
    return arrays, json.loads(metadata["manifest"])


class TestFrozen:
    def test_every_case_is_there(self, frozen):
        arrays, manifest = frozen
        assert (manifest["format"], manifest["version"]) == ("mgt-np-vectors", "1.0")
        assert [case["id"] for case in manifest["cases"]] == list(CASES)
        assert vectors.frozen().stat().st_size < 2**20
        assert vectors._digest(arrays) == manifest["sha256"]

    def test_what_is_computed_now_is_within_noise_of_it(self, frozen):
        arrays, manifest = frozen
        seen = set()
        for entry in manifest["cases"]:
            id, case = entry["id"], CASES[entry["id"]]
            assert (entry["function"], entry["tags"]) == (case.function, list(case.tags))
            made = {f"out.{n}": y for n, y in COMPARE.reference_of(case, case.arrays, ()).items()}
            exact = {f"in.{n}": x for n, x in case.arrays.items() if x is not None}
            exact |= {f"in.{n}": x for n, x in case.options.items() if isinstance(x, np.ndarray)}
            options = {n: x for n, x in case.options.items() if f"in.{n}" not in exact}
            assert entry["options"] == options
            checked = CONTRACT[case.function]
            if checked.differentiable:
                R = cotangents(case, {n.removeprefix("out."): y for n, y in made.items()})
                exact |= {f"R.{n}": r for n, r in R.items()}
                pulled = COMPARE._pulled(checked.function, case, case.arrays)
                made |= {f"grad.{n}": g for n, g in pulled.items()}
            for name, x in exact.items():
                assert np.array_equal(arrays[f"{id}/{name}"], x), (id, name)
            for name, y in made.items():
                noise = entry["noise"]["float64"][name.removeprefix("out.")]
                off = np.max(np.abs(arrays[f"{id}/{name}"] - y))
                assert off <= RIGHT * noise + 2.0**-50, (id, name)
            seen |= {f"{id}/{name}" for name in (*exact, *made)}
        assert seen == set(arrays)


def by_mpmath(mpmath, function, given):
    """The results of a function of one row at 50 digits, from its definition."""
    rows = {name: [mpmath.mpf(float(v)) for v in x] for name, x in given.items() if x.ndim == 1}
    if function == "softmax":
        e = [mpmath.exp(v) for v in rows["x"]]
        return [v / mpmath.fsum(e) for v in e]
    if function == "layer_norm":
        x, d = rows["x"], len(rows["x"])
        mean = mpmath.fsum(x) / d
        root = mpmath.sqrt(mpmath.fsum((v - mean) ** 2 for v in x) / d + mpmath.mpf("1e-5"))
        scaled = zip(x, rows["gain"], rows["bias"], strict=True)
        return [(v - mean) / root * g + b for v, g, b in scaled]
    if function == "unit_direction":
        root = mpmath.sqrt(mpmath.fsum(v * v for v in rows["k"]) + mpmath.mpf("1e-10"))
        return [v / root for v in rows["k"]]
    W_1, W_2 = mpmath.matrix(given["W_1"].tolist()), mpmath.matrix(given["W_2"].tolist())
    hidden = mpmath.matrix([rows["x"]]) * W_1 + mpmath.matrix([rows["b_1"]])
    hidden = mpmath.matrix([[v * mpmath.erfc(-v / mpmath.sqrt(2)) / 2 for v in hidden]])
    return list(hidden * W_2 + mpmath.matrix([rows["b_2"]]))


@pytest.mark.parametrize("function", ["softmax", "layer_norm", "unit_direction", "feed_forward"])
def test_results_hold_at_50_digits(frozen, function):
    mpmath = pytest.importorskip("mpmath")
    arrays, manifest = frozen
    first = CONTRACT[function].arrays[0]
    for entry in manifest["cases"]:
        if entry["function"] != function:
            continue
        given = {name: arrays[f"{entry['id']}/in.{name}"] for name in entry["in"]}
        y, worst = arrays[f"{entry['id']}/out.y"], 0.0
        for i in np.ndindex(y.shape[:-1]):
            with mpmath.workdps(50):
                exact = by_mpmath(mpmath, function, given | {first: given[first][i]})
                off = [abs(mpmath.mpf(float(a)) - b) for a, b in zip(y[i], exact, strict=True)]
                worst = max(worst, float(max(off)))
        assert worst <= RIGHT * entry["noise"]["float64"]["y"], entry["id"]


class TestMaking:
    def test_two_functions(self, monkeypatch):
        few = {c.id: c for c in (*cases_of("mhc_update"), *cases_of("effective_rank")[:1])}
        monkeypatch.setattr(vectors, "CASES", few)
        arrays, manifest = vectors.make()
        manifest = json.loads(json.dumps(manifest))
        assert [case["id"] for case in manifest["cases"]] == list(few)
        entry = manifest["cases"][0]
        keys = ["id", "function", "options", "in", "out", "tags", "noise", "separates"]
        assert list(entry) == keys
        assert entry["in"] == ["X", "y", "H_post", "H_res"]
        assert set(entry["noise"]) == {"float64", "float32", "bfloat16", "float16"}
        gradients = {f"grad.{name}" for name in entry["in"]}
        assert set(entry["noise"]["float32"]) == {"y"} | gradients
        assert "grad.X" not in manifest["cases"][-1]["noise"]["float32"]
        assert not any(name.startswith("effective_rank/plain/grad") for name in arrays)
        y, scale = arrays["mhc_update/plain/out.y"], entry["noise"]["float32"]["y"]
        doubled = entry["separates"]["output y=doubled"]
        assert doubled == pytest.approx(np.max(np.abs(y)) / scale, rel=0.06)
        known = {r.name for r in (*steps_of("mhc_update").readings, *generic("mhc_update"))}
        assert set(entry["separates"]) <= known
        for name in entry["separates"]:
            said = manifest["readings"][f"mhc_update/{name}"]
            assert set(said) == {"bug", "says", "change"}

    def test_the_digest_sees_each_array(self):
        arrays = {"a": np.arange(6.0), "b": np.zeros(2)}
        changed = [
            {"a": arrays["a"].reshape(2, 3), "b": arrays["b"]},
            {"a": arrays["a"].astype(np.float32), "b": arrays["b"]},
            {"a": arrays["a"], "c": arrays["b"]},
            {"a": arrays["a"], "b": arrays["b"] + 1e-300},
        ]
        digests = [vectors._digest(each) for each in (arrays, *changed)]
        assert len(set(digests)) == 5
        assert vectors._digest(dict(reversed(arrays.items()))) == digests[0]


def got(function, dtype="float64", readings=(), gradients=False, cases=None):
    """Results of a function in a dtype, by these readings, as the other side writes them."""
    known = {r.name: r for r in (*steps_of(function).readings, *generic(function))}
    arrays = {}
    for case in cases or cases_of(function):
        inputs = rounded(case, dtype)
        made = predict(case, inputs, [known[name] for name in readings])
        arrays |= {f"{case.id}/got.{name}": y.astype(dtype) for name, y in made.items()}
        if gradients:
            pulled = COMPARE._pulled(CONTRACT[function].function, case, inputs)
            arrays |= {f"{case.id}/got.grad.{n}": g.astype(dtype) for n, g in pulled.items()}
    return arrays


def saved(path, arrays, manifest=None, **changes):
    metadata = None
    if manifest is not None or changes:
        metadata = {"manifest": json.dumps((manifest or MANIFEST) | changes)}
    (safetensors.write_npz if path.suffix == ".npz" else safetensors.write)(path, arrays, metadata)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mine.safetensors"


class TestComparing:
    @pytest.mark.parametrize("npz", [False, True])
    def test_what_is_written_comes_back_right(self, frozen, tmp_path, npz):
        file, beside = vectors.write(tmp_path / "new" / "folder", npz=npz)
        assert file.suffix == (".npz" if npz else ".safetensors")
        assert json.loads(beside.read_text(encoding="utf-8")) == frozen[1]
        assert {p.name for p in file.parent.iterdir()} == {file.name, "manifest.json"}
        arrays, metadata = (safetensors.read_npz if npz else safetensors.read)(file)
        assert all(np.array_equal(x, frozen[0][name]) for name, x in arrays.items())
        assert len(arrays) == len(frozen[0])
        arrays |= got("softmax", gradients=True) | got("effective_rank")
        (safetensors.write_npz if npz else safetensors.write)(file, arrays, metadata)
        report = compare_file(file)
        assert {name: row.verdict for name, row in report.rows.items()} == {
            "softmax": "right",
            "effective_rank": "right",
        }
        assert report["softmax"].gradients
        assert report["softmax"].cases == len(cases_of("softmax"))

    def test_with_a_wrong_reading_it_has_a_name(self, path):
        arrays = got("sinkhorn", readings=["order=rows_columns"])
        row = compare_file(saved(path, arrays))["sinkhorn"]
        assert row.verdict == "wrong"
        assert [[r.name for r in e] for e in row.explanations] == [["order=rows_columns"]]
        row = compare_file(path, follows={"order": "rows_columns"})["sinkhorn"]
        assert row.verdict == "right-following"

    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_they_are_held_to_their_own_dtype(self, path, dtype):
        row = compare_file(saved(path, got("softmax", dtype)))["softmax"]
        assert (row.verdict, set(row.worst)) == ("right", {dtype})
        in_float64 = {name: y.astype(np.float64) for name, y in got("softmax", dtype).items()}
        assert compare_file(saved(path, in_float64))["softmax"].verdict != "right"

    def test_bfloat16_is_held_to_bfloat16(self, path):
        (case,) = cases_of("softmax")[:1]
        y = layers.softmax(rounded(case, "bfloat16")["x"]).astype(np.float32)
        bits = ((y.view(np.uint32) + 0x8000) >> 16).astype(np.uint16).tobytes()
        entry = {"dtype": "BF16", "shape": y.shape, "data_offsets": [0, len(bits)]}
        header = json.dumps({"softmax/plain/got.y": entry}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + bits)
        row = compare_file(path)["softmax"]
        assert (row.verdict, set(row.worst), row.cases) == ("right", {"bfloat16"}, 1)

    def test_a_wrong_gradient_shows(self, path):
        arrays = got("mhc_update", gradients=True)
        for case in cases_of("mhc_update"):
            arrays[f"{case.id}/got.grad.H_res"] *= 0.0
        row = compare_file(saved(path, arrays))["mhc_update"]
        assert row.verdict == "gradient-wrong"
        assert "H_res gets no gradient" in row.why

    def test_another_shape(self, path):
        arrays = got("softmax")
        arrays["softmax/low/got.y"] = arrays["softmax/low/got.y"][..., :1]
        row = compare_file(saved(path, arrays))["softmax"]
        assert (row.verdict, row.shows) == ("wrong-shape", ["softmax/low"])

    def test_another_shape_of_a_gradient(self, path):
        arrays = got("softmax", gradients=True)
        arrays["softmax/low/got.grad.x"] = arrays["softmax/low/got.grad.x"][..., :1]
        row = compare_file(saved(path, arrays))["softmax"]
        assert (row.verdict, "grad.x of shape" in row.why) == ("wrong-shape", True)

    def test_not_finite(self, path):
        arrays = got("softmax")
        arrays["softmax/low/got.y"][0, 0, 0] = np.nan
        row = compare_file(saved(path, arrays))["softmax"]
        assert (row.verdict, row.shows) == ("not-finite", ["softmax/low"])

    def test_what_is_asked_for_and_not_there_is_not_offered(self, path):
        saved(path, got("softmax"))
        report = compare_file(path, only=("softmax", "sinkhorn"))
        assert [row.verdict for row in report.rows.values()] == ["right", "not-offered"]
        with pytest.raises(ValueError, match="expected results of sinkhorn, got none"):
            compare_file(path, only="sinkhorn")

    def test_a_later_minor_version_is_read(self, path):
        cases = [*MANIFEST["cases"], {"id": "softmax/new"}]
        arrays = got("softmax") | {"softmax/new/in.x": np.ones(2), "softmax/new/got.y": np.ones(2)}
        row = compare_file(saved(path, arrays, version="1.7", cases=cases))["softmax"]
        assert (row.verdict, row.cases) == ("right", len(cases_of("softmax")))


ONE = got("softmax", cases=cases_of("softmax")[:1])  # softmax/plain alone
X = CASES["softmax/plain"].arrays["x"]


class TestRefusing:
    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({}, "expected results <case id>/got.<output>, got none"),
            ({"softmax/plain/in.x": X}, "got.<output>, got none"),
            (ONE | {"softmax/plain/in.x": X * (1.0 + 2.0**-52)}, "to be the input of that case"),
            (ONE | {"softmax/plain/in.x": X[..., :1]}, "in.x to be the input of that case"),
            (ONE | {"softmax/plain/in.x": 1.01 * X}, "in.x to be the input of that case"),
            (ONE | {"softmax/plain/in.z": X}, "in.z to be the input of that case"),
            ({"softmax/plan/got.y": X}, "expected the id of a case in 'softmax/plan/got.y'"),
            ({"got.y": X}, "expected the id of a case in 'got.y'"),
            ({"softmax/plain/got.grad.x": X}, "expected got.y, got none"),
            (ONE | {"softmax/plain/got.z": X}, "got z"),
            (ONE | {"softmax/plain/got.grad.z": X}, "got grad.z"),
            (ONE | {"softmax/plain/got.grad.x": X.astype(np.float32)}, "expected one dtype in"),
            ({"softmax/plain/got.y": X.astype(int)}, "in a floating dtype, got"),
            ({"softmax/plain/got.y": X > 0.0}, "in a floating dtype, got"),
            (ONE | {"softmax/low/got.y": X.astype(np.float32)}, "in one dtype"),
        ],
    )
    @pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
    def test_arrays(self, tmp_path, arrays, words, suffix):
        path = saved(tmp_path / f"mine{suffix}", arrays)
        with pytest.raises(ValueError, match="expected") as caught:
            compare_file(path)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "null",
            "[]",
            "{}",
            '"mgt-np-vectors"',
            '{"format": "mgt-np-vectors"}',
            "[" * 100_000,
            json.dumps(MANIFEST | {"format": "wycheproof"}),
            json.dumps(MANIFEST | {"version": "2.0"}),
            json.dumps(MANIFEST | {"version": "10.0"}),
            json.dumps(MANIFEST | {"version": None}),
            json.dumps(MANIFEST | {"cases": [1]}),
            json.dumps(MANIFEST | {"cases": 1}),
        ],
        ids=lambda text: text[:60],
    )
    def test_manifests(self, path, text):
        safetensors.write(path, ONE, {"manifest": text})
        with pytest.raises(ValueError, match=f"{path.name}: expected") as caught:
            compare_file(path)
        assert len(str(caught.value)) < 1000

    def test_files_that_are_not_whole(self, path):
        content = saved(path, ONE).read_bytes()
        for length in (0, 7, 40, len(content) - 1):
            path.write_bytes(content[:length])
            with pytest.raises(ValueError, match=path.name):
                compare_file(path)

    def test_unknown_names(self, path):
        saved(path, ONE)
        with pytest.raises(ValueError, match="did you mean 'softmax'"):
            compare_file(path, only="softmx")
        with pytest.raises(ValueError, match="did you mean 'marco'"):
            compare_file(path, follows="marko")


def test_the_package_does_not_need_it():
    code = (
        "import sys, mgt_np; print([m for m in sys.modules if 'crosscheck' in m]);"
        "import mgt_np.crosscheck;"
        "print([m for m in ('torch', 'jax', 'pytest', 'mpmath') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
