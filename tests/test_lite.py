"""What JupyterLite's site is made of: verified wheels, a lock, lessons; and the button to it."""

import hashlib
import json
import zipfile
from types import SimpleNamespace

import pytest
from lite import contents, locking, wheels
from lite.building import KERNEL, site_settings
from lite.gathering import take
from lite.runtime import CDN, LIBRARIES, OTHERS, VERSION, needed
from pages.running import LITE, add_button, button

DIGEST = hashlib.sha256(b"a wheel").hexdigest()


def entry(name, *depends, digest=DIGEST):
    """A package as Pyodide's lock has it."""
    return {
        "name": name,
        "version": "1.0",
        "file_name": f"{name.replace('-', '_')}-1.0-py3-none-any.whl",
        "sha256": digest,
        "imports": [name],
        "depends": list(depends),
    }


# ---- gathering


def test_a_wheel_is_taken_with_its_digest_alone(tmp_path):
    take(b"a wheel", entry("numpy"), tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"a wheel"]
    with pytest.raises(ValueError, match=f"numpy-1.0.*expected the digest {DIGEST}"):
        take(b"another", entry("numpy"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_package_depends_on_is_needed():
    packages = {name: {"depends": depends} for name, depends in [("a", ["B_c"]), ("b-c", ["a"])]}
    packages["d"] = {"depends": []}
    assert needed(packages, ["a"]) == ["a", "b-c"]


# ---- the lock


@pytest.fixture
def gathered(tmp_path, monkeypatch):
    """A folder as `gather` leaves it, with wheels of a few bytes."""
    names = (*LIBRARIES, *locking.KERNEL, "traitlets")
    packages = {name: entry(name) for name in names}
    packages["pandas"] = entry("pandas", "numpy")
    packages["ipython"]["depends"] = ["traitlets"]
    # Pyodide's copy of this one has another digest than PyPI's.
    packages["jedi"]["sha256"] = "0" * 64
    files = tmp_path / "files"
    for folder in ("pyodide", "official", "pure"):
        (files / folder).mkdir(parents=True)
    for name in set(names) - {"jedi", "pydoc-data"}:
        (files / "official" / packages[name]["file_name"]).write_bytes(b"a wheel")
    for name in ("jedi", *OTHERS):
        (files / "pure" / entry(name)["file_name"]).write_bytes(b"from PyPI")
    lock = {"info": {"python": "3.14.0"}, "packages": packages}
    (files / "pyodide" / "pyodide-lock.json").write_text(json.dumps(lock))

    def package(folder):
        wheel = folder / "mgt_np-0.1.0-py3-none-any.whl"
        wheel.write_bytes(b"ours")
        return wheel

    monkeypatch.setattr(wheels, "package", package)
    return files


def lock_in(folder):
    return json.loads((folder / "pyodide-lock.json").read_text())["packages"]


def test_the_lock_of_a_whole_site_names_files_beside_it(gathered, tmp_path):
    locking.write_lock(gathered, tmp_path / "out")
    packages = lock_in(tmp_path / "out")
    assert "pandas" not in packages
    for each in packages.values():
        data = (tmp_path / "out" / each["file_name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == each["sha256"]
    assert packages["numpy"]["sha256"] == DIGEST
    assert packages["mgt-np"]["imports"] == ["mgt_np"]
    assert {"numpy", "autograd", "ipywidgets"} <= set(packages["mgt-np"]["depends"])
    assert all(set(each["depends"]) <= set(packages) for each in packages.values())


def test_the_lock_for_publishing_leaves_pyodide_on_its_cdn_with_the_same_digests(
    gathered, tmp_path
):
    locking.write_lock(gathered, tmp_path / "out", cdn="https://cdn/")
    packages = lock_in(tmp_path / "out")
    assert packages["numpy"]["file_name"] == "https://cdn/numpy-1.0-py3-none-any.whl"
    assert packages["pandas"]["file_name"].startswith("https://cdn/")
    assert packages["jedi"]["sha256"] == "0" * 64
    for name in (*OTHERS, "mgt-np", "mgt-np-rows"):
        assert (tmp_path / "out" / packages[name]["file_name"]).is_file()
    assert len(list((tmp_path / "out").glob("*.whl"))) == len(OTHERS) + 2


def test_a_wheel_that_was_changed_after_gathering_is_refused(gathered, tmp_path):
    (gathered / "official" / entry("numpy")["file_name"]).write_bytes(b"changed")
    with pytest.raises(ValueError, match=r"numpy-1.0.* is not the file of Pyodide's lock"):
        locking.write_lock(gathered, tmp_path / "out")


def test_a_wheel_that_was_not_gathered_is_named(gathered, tmp_path):
    (gathered / "pure" / entry("autograd")["file_name"]).unlink()
    with pytest.raises(ValueError, match="no wheel of autograd was gathered: make lite-files"):
        locking.write_lock(gathered, tmp_path / "out")


def test_the_site_takes_pyodide_from_itself_or_from_an_address():
    def kernel(cdn):
        return site_settings(cdn)["jupyter-config-data"]["litePluginSettings"][KERNEL]

    assert kernel(None) == {"disablePyPIFallback": True}
    address = CDN.format(version=VERSION)
    assert kernel(address)["pyodideUrl"] == f"{address}pyodide.mjs"
    assert kernel(address)["disablePyPIFallback"]


# ---- wheels that are made here


def test_rows_that_lessons_read_are_a_wheel(tmp_path):
    with zipfile.ZipFile(wheels.rows(tmp_path)) as archive:
        rows = [name for name in archive.namelist() if name.endswith(".csv")]
        assert rows == ["figures/full/language-model.csv", "figures/full/rungs.csv"]
        for name in rows:
            assert archive.read(name) == (wheels.ROOT / name).read_bytes()


def test_topics_are_a_wheel(tmp_path):
    with zipfile.ZipFile(wheels.topics(tmp_path)) as archive:
        assert b"topics = {" in archive.read("pydoc_data/topics.py")


# ---- lessons


@pytest.mark.parametrize("path", contents.LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_the_browser_s_kernel_and_no_outputs(path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    code = ["".join(c["source"]) for c in stored["cells"] if c["cell_type"] == "code"]
    made = contents.lesson(stored)
    assert made["metadata"]["kernelspec"]["name"] == "python"
    cells = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert ["".join(cell["source"]) for cell in cells] == code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_links_stay_that_lead_to_lessons_or_elsewhere():
    def linked(text):
        cell = {"cell_type": "markdown", "source": [text]}
        return contents.lesson({"metadata": {}, "cells": [cell]})["cells"][0]["source"]

    for kept in ("[5](05-deep-delta-learning.ipynb)", "[a [b]](https://arxiv.org/abs/1)"):
        assert linked(f"see {kept}.") == f"see {kept}."
    assert linked("in [the rows](../figures/rows.csv), [map](README.md)") == "in the rows, map"


# ---- the button


def context_of(page, lite):
    context = {"body": "<h1>Lesson</h1>"}
    app = SimpleNamespace(config=SimpleNamespace(mgt_np_lite=lite))
    add_button(app, page, "page.html", context, None)
    return context["body"]


def test_a_lesson_has_a_button_where_jupyterlite_is_beside_the_site():
    page = "lessons/04-delta-operator"
    with_button = context_of(page, True)
    assert with_button == button(page) + "<h1>Lesson</h1>"
    assert f'href="../{LITE}/notebooks/index.html?path=04-delta-operator.ipynb"' in with_button
    assert "Clear Browser Data" in with_button
    assert context_of(page, False) == "<h1>Lesson</h1>"


@pytest.mark.parametrize("page", ["index", "lessons/index", "lessons/sheets/04-delta-operator"])
def test_other_pages_have_none(page):
    assert context_of(page, True) == "<h1>Lesson</h1>"
