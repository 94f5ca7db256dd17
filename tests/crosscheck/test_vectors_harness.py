"""The harnesses of docs/vectors.md tell right results from wrong ones, and the page is right."""

import inspect
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import mgt_np as mgt
from mgt_np.crosscheck.contract import CONTRACT
from mgt_np.data.safetensors import read, write

DOCS = Path(__file__).parents[2] / "docs"
HARNESSES = {
    "harness.cpp": (
        ("c++", "g++", "clang++"),
        ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"),
    ),
    "harness.rs": (("rustc",), ("--edition", "2021", "-C", "opt-level=1", "-D", "warnings")),
}
IN_FLOAT32 = (  # what the comments of the harnesses say to change
    ("using real = double;", "using real = float;"),
    ("type Real = f64;", "type Real = f32;"),
    ('"float64"', '"float32"'),
)


def compiler_for(source):
    """Return the command that compiles a harness; skip the test where there is none."""
    names, options = HARNESSES[source]
    for name in names:
        found = shutil.which(name)
        works = found and subprocess.run([found, "--version"], capture_output=True, check=False)
        if works and works.returncode == 0:
            return [found, *options]
    pytest.skip(f"no {' or '.join(names)} is installed to compile {source}")


@pytest.fixture(scope="module", params=[(s, d) for s in HARNESSES for d in ("float64", "float32")])
def harness(request, tmp_path_factory):
    """A compiled harness, as a function from a file to (exit code, what it printed)."""
    source, dtype = request.param
    command = compiler_for(source)
    folder = tmp_path_factory.mktemp("harness")
    text = (DOCS / "harness" / source).read_text(encoding="utf-8")
    if dtype == "float32":
        changed = [change for change in IN_FLOAT32 if change[0] in text]
        assert len(changed) == 2
        for old, new in changed:
            text = text.replace(old, new)
    (folder / source).write_text(text, encoding="utf-8")
    compiled = [*command, source, "-o", "harness"]
    made = subprocess.run(compiled, cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr

    def run(path):
        ran = [folder / "harness", path]
        done = subprocess.run(ran, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    run.dtype = dtype
    return run


def softmax(x):
    weights = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return weights / np.sum(weights, axis=-1, keepdims=True)


def vectors():
    """Return arrays and manifest of a small file: results by the library and by NumPy alone."""
    rng = np.random.default_rng(0)
    arrays, cases = {}, []

    def add(id, y, options=None, scale=1.0, **given):
        function = id.partition("/")[0]
        noise = {
            dtype: {"y": 8.0 * float(np.finfo(dtype).eps) * scale * float(np.max(np.abs(y)))}
            for dtype in ("float64", "float32")
        }
        arrays.update({f"{id}/in.{name}": x for name, x in given.items()} | {f"{id}/out.y": y})
        case = {"id": id, "function": function, "options": options or {}, "in": list(given)}
        cases.append(case | {"out": ["y"], "tags": [], "noise": noise, "separates": {}})

    x = rng.normal(size=(2, 3, 5))
    add("softmax/plain", softmax(x), x=x)
    add("softmax/extreme", softmax(x + 1000.0), x=x + 1000.0, scale=500.0)
    add("softmax/row", softmax(x[0, 0]), x=x[0, 0])
    gain, bias = 1.5 + rng.normal(size=5), rng.normal(size=5)
    add("layer_norm/plain", mgt.layer_norm(x, gain, bias), x=x, gain=gain, bias=bias)
    add("layer_norm/no-bias", mgt.layer_norm(x, gain), x=x, gain=gain)
    tiny = mgt.layer_norm(1e-3 * x, eps=1e-6)
    add("layer_norm/eps", tiny, {"eps": 1e-6}, x=1e-3 * x)
    add("another/function", x, {"causal": True}, x=x, mask=x > 0.0)
    add("softmax/withdrawn", x, x=x)
    cases[-1]["withdrawn"] = "its result is wrong"
    manifest = {"format": "mgt-np-vectors", "version": "1.7", "made_by": "tests", "cases": cases}
    manifest["readings"] = {"softmax/a": {"says": 'ε\n"\\quoted\\n", {[:', "change": "\\"}}
    manifest["unknown"] = [None, True, -1.5e-3, [], {}, [[1, 2], {"a": {}}]]
    return arrays, manifest


def saved(path, arrays, manifest, **how):
    write(path, arrays, {"manifest": json.dumps(manifest, **how), "another": "{}"})
    return path


class TestHarness:
    @pytest.mark.parametrize("how", [{}, {"ensure_ascii": False, "indent": 1}])
    def test_right_results_pass(self, harness, tmp_path, how):
        code, printed = harness(saved(tmp_path / "right", *vectors(), **how))
        assert code == 0, printed
        assert printed.splitlines()[-1] == "6 passed, 0 failed, 2 skipped"
        assert "right layer_norm/eps: " in printed

    @pytest.mark.parametrize("id", ["softmax/plain", "layer_norm/eps", "layer_norm/no-bias"])
    @pytest.mark.parametrize("wrong", [1e-4, np.nan, np.inf])
    def test_a_wrong_result_fails(self, harness, tmp_path, id, wrong):
        arrays, manifest = vectors()
        arrays[f"{id}/out.y"] = arrays[f"{id}/out.y"].copy()
        arrays[f"{id}/out.y"].flat[-1] += wrong
        code, printed = harness(saved(tmp_path / "wrong", arrays, manifest))
        assert code == 1, printed
        assert printed.splitlines()[-1] == "5 passed, 1 failed, 2 skipped"
        assert re.findall("WRONG (.*?):", printed) == [id]

    def test_a_result_that_is_nan_fails(self, harness, tmp_path):
        arrays, manifest = vectors()
        arrays["softmax/row/in.x"] = np.full(5, np.nan)
        assert harness(saved(tmp_path / "nan", arrays, manifest))[0] == 1

    @pytest.mark.parametrize(("factor", "passes"), [(3.5, True), (4.5, False)])
    def test_the_limit_is_four_times_the_noise(self, harness, tmp_path, factor, passes):
        arrays, manifest = vectors()
        noise = {"float64": {"y": 1e-3}, "float32": {"y": 1e-3}}
        manifest["cases"][0]["noise"] = noise
        arrays["softmax/plain/out.y"] = arrays["softmax/plain/out.y"] - factor * 1e-3
        code, printed = harness(saved(tmp_path / "near", arrays, manifest))
        assert (code == 0) == passes, printed
        assert f"softmax/plain: {factor}" in printed

    def test_the_noise_is_that_of_its_dtype(self, harness, tmp_path):
        arrays, manifest = vectors()
        other = {"float64": "float32", "float32": "float64"}[harness.dtype]
        for case in manifest["cases"]:
            del case["noise"][other]
        assert harness(saved(tmp_path / "one", arrays, manifest))[0] == 0

    def test_another_shape_fails(self, harness, tmp_path):
        arrays, manifest = vectors()
        arrays["softmax/plain/out.y"] = arrays["softmax/plain/out.y"].reshape(2, 15)
        assert harness(saved(tmp_path / "shape", arrays, manifest))[0] == 1

    def test_nothing_that_can_be_checked_is_no_success(self, harness, tmp_path):
        arrays, manifest = vectors()
        manifest["cases"] = manifest["cases"][-2:]
        code, printed = harness(saved(tmp_path / "nothing", arrays, manifest))
        assert (code, printed.strip()) == (1, "0 passed, 0 failed, 2 skipped")

    @pytest.mark.parametrize("change", [{"version": "2.0"}, {"format": "another"}])
    def test_another_format_is_refused(self, harness, tmp_path, change):
        arrays, manifest = vectors()
        code, printed = harness(saved(tmp_path / "other", arrays, manifest | change))
        assert code not in (0, 1)
        assert "passed" not in printed

    def test_a_file_that_is_cut_is_refused(self, harness, tmp_path):
        path = saved(tmp_path / "cut", *vectors())
        content = path.read_bytes()
        for length in (0, 7, 100, len(content) // 2, len(content) - 520):  # softmax/row is cut
            path.write_bytes(content[:length])
            code, _ = harness(path)
            assert code not in (0, 1), length


class TestPage:
    page = (DOCS / "vectors.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize("source", ["harness.cpp", "harness.rs", "harness.jl"])
    def test_shows_the_harnesses_as_they_are(self, source):
        text = (DOCS / "harness" / source).read_text(encoding="utf-8")
        language = {"cpp": "cpp", "rs": "rust", "jl": "julia"}[source.rpartition(".")[2]]
        assert f"```{language}\n{text}```\n" in self.page

    def test_its_json_is_json(self, tmp_path):
        header, manifest = map(json.loads, re.findall(r"```json\n(.*?)```", self.page, re.DOTALL))
        inner = json.loads(header["__metadata__"]["manifest"])
        assert inner == {key: manifest[key] for key in ("format", "version")}
        told = set(re.findall(r"^\| (`[^|]*`) \|", self.page, re.MULTILINE))
        told = {word for cell in told for word in re.findall(r"`(\w+)`", cell)}
        assert told >= set(manifest["cases"][0]) | {"readings", "sha256"}
        name = "softmax/plain/in.x"
        write(tmp_path / "x", {name: np.zeros((2, 3, 5))}, header["__metadata__"])
        assert read(tmp_path / "x")[1] == header["__metadata__"]
        content = (tmp_path / "x").read_bytes()
        length = int.from_bytes(content[:8], "little")
        assert json.loads(content[8 : 8 + length]) == header

    @pytest.mark.parametrize("name", CONTRACT)
    def test_lists_every_function_with_its_arguments(self, name):
        checked = CONTRACT[name]
        row = re.search(rf"^\| `{name}` \| `(.*)` \| `(.*)` \|$", self.page, re.MULTILINE)
        arrays, _, options = row[1].partition("; ")
        assert [word.strip("[]") for word in arrays.split(", ")] == list(checked.arrays)
        assert row[2].split(", ") == list(checked.outputs)
        words = {None: "none", True: "true", False: "false"}
        for option in filter(None, options.split(", ")):
            key, _, default = option.partition(" = ")
            expected = inspect.signature(checked.function).parameters[key].default
            if expected is inspect.Parameter.empty:
                assert not default
            elif expected is None or isinstance(expected, bool):
                assert default == words[expected]
            else:
                assert default == str(expected)
