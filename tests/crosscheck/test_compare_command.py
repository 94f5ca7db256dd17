"""`mgt-np compare` and `mgt-np reference`, as their user meets them."""

import json
import sys

import numpy as np
import pytest

from mgt_np import cli
from mgt_np.crosscheck import vectors
from mgt_np.data import safetensors

RIGHT = """
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ARRAYS = "numpy"


@dataclass
class Settings:
    axis: int = -1


def softmax(x, axis=Settings().axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)
"""
WRONG = """
from right import ARRAYS, np, softmax


def sinkhorn(logits, *, n_iters=20):
    P = np.exp(logits)
    for _ in range(n_iters):
        P = P / P.sum(axis=-1, keepdims=True)
        P = P / P.sum(axis=-2, keepdims=True)
    return P
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two modules of somebody else's."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("right", "wrong"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    return tmp_path


def compare(*arguments):
    return cli.main(["compare", *map(str, arguments)])


class TestCompare:
    @pytest.mark.parametrize("target", ["right.py", "right"])
    def test_right_is_0(self, folder, capsys, target):
        assert compare(target) == 0
        printed = capsys.readouterr()
        assert printed.out.splitlines()[0].startswith("softmax ")
        assert printed.out.endswith("1 function compared, 0 wrong\n")
        assert printed.err == ""  # no bar where nobody looks

    def test_wrong_is_1_and_says_how(self, folder, capsys):
        assert compare(folder / "wrong.py") == 1
        printed = capsys.readouterr().out
        assert "rows are normalised before columns" in printed
        assert "2 functions compared, 1 wrong" in printed

    def test_json(self, folder, capsys):
        assert compare("wrong.py", "--json", "--dtype", "float64") == 1
        found = json.loads(capsys.readouterr().out)
        assert found["format"] == "mgt-np-compare"
        assert [row["verdict"] for row in found["rows"]] == ["right", "wrong"]
        assert [list(row["worst"]) for row in found["rows"]] == [["float64"], ["float64"]]

    def test_only(self, folder, capsys):
        assert compare("wrong.py", "--only", "softmax") == 0
        assert compare("wrong.py", "--only", "softmax,feed_forward") == 0
        assert "not offered" in capsys.readouterr().out

    def test_follows(self, folder, capsys):
        assert compare("wrong.py", "--only", "sinkhorn", "--follows", "marco") == 0
        assert "right, following marco" in capsys.readouterr().out
        assert compare("wrong.py", "--only", "sinkhorn", "--follows", "tokenbender") == 1

    def test_a_file_of_vectors(self, folder, capsys):
        x = np.arange(30.0).reshape(2, 3, 5)
        safetensors.write("mine.safetensors", {"softmax/plain/got.y": x})
        safetensors.write_npz("mine.npz", {"softmax/plain/got.y": x})
        assert compare("mine.safetensors") == 1
        assert compare("mine.npz", "--json") == 1
        assert '"softmax"' in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["none.py"], "none.py cannot be imported: FileNotFoundError"),
            (["no_such_module"], "no_such_module cannot be imported: ModuleNotFoundError"),
            (["right.py:softmx"], "right.py:softmx cannot be imported: AttributeError"),
            (["syntax.py"], "syntax.py cannot be imported: SyntaxError"),
            (["exits.py"], "exits.py cannot be imported: SystemExit"),
            (["empty.py"], "expected functions of the contract"),
            (["right.py", "--only", "softmx"], "did you mean 'softmax'?"),
            (["right.py", "--follows", "marko"], "did you mean 'marco'?"),
            (["right.py", "--dtype", "float46"], "did you mean 'float64'?"),
            (["right.py:softmax", "--adapter", "none"], "expected adapter to be one of"),
            (["none.safetensors"], "none.safetensors"),
            (["text.safetensors"], "text.safetensors: expected"),
            (["text.npz"], "text.npz: expected"),
        ],
    )
    def test_what_cannot_be_compared_is_2_in_one_line(self, folder, capsys, arguments, words):
        (folder / "syntax.py").write_text("def softmax(x:\n")
        (folder / "exits.py").write_text("raise SystemExit(0)\n")
        (folder / "empty.py").write_text("")
        for name in ("text.safetensors", "text.npz"):
            (folder / name).write_text("neither the one nor the other")
        assert compare(*arguments) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        (line,) = printed.err.splitlines()
        assert line.startswith("mgt-np: ")
        assert words in line

    def test_a_function_that_exits_does_not_end_the_command(self, folder, capsys):
        (folder / "exits.py").write_text("def softmax(x):\n    raise SystemExit(0)\n")
        assert compare("exits.py") == 1
        assert "SystemExit" in capsys.readouterr().out


class TestReference:
    @pytest.fixture(autouse=True)
    def _is_there(self):
        if not vectors.frozen().is_file():
            pytest.skip("the frozen vectors are not made yet")

    @pytest.mark.parametrize("more", [[], ["--npz"]])
    def test_writes_the_vectors(self, folder, capsys, more):
        assert cli.main(["reference", "--out", "vectors", *more]) == 0
        names = capsys.readouterr().out.split()
        assert [name.rpartition("/")[0] for name in names] == ["vectors", "vectors"]
        assert names[1].endswith("manifest.json")
        manifest = json.loads((folder / names[1]).read_text(encoding="utf-8"))
        read = safetensors.read_npz if more else safetensors.read
        arrays, _ = read(folder / names[0])
        assert {name.rpartition("/")[0] for name in arrays} == {
            case["id"] for case in manifest["cases"]
        }
        # as it is, without results, it cannot be compared
        assert compare(names[0]) == 2
        assert "got none" in capsys.readouterr().err

    def test_a_folder_that_cannot_be_written_to_is_2(self, folder, capsys):
        assert cli.main(["reference", "--out", "right.py"]) == 2
        assert capsys.readouterr().err.startswith("mgt-np: ")

    def test_needs_a_folder(self):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["reference"])
        assert stopped.value.code == 2
