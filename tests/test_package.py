"""The wheel and the source archive: what is in them, and that what the README shows runs from them.

They are built and installed with what the package index has, in minutes: `make package-test`.
"""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build", reason="build is not installed: make package-test")

ROOT = Path(__file__).parents[1]
# Beside the package: what a build needs, and what tells who made it and how to cite it.
IN_ARCHIVE = {"mgt_np", "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO"}
IN_ARCHIVE |= {"pyproject.toml", ".gitignore"}  # the latter is always put in by hatchling
MOST_BYTES = 3e6


def run(*command, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel, built from the source archive, and the archive."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, archive


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The programs of a new environment with the wheel and what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", built[0])
    return folder / "bin"


def test_the_wheel_holds_the_package_alone(built):
    names = zipfile.ZipFile(built[0]).namelist()
    of_package = {name for name in names if name.startswith("mgt_np/")}
    rest = {name.partition("/")[0] for name in names if name not in of_package}
    assert all(re.fullmatch(r"mgt_np-[\d.]+\.dist-info", folder) for folder in rest), rest
    tracked = run("git", "ls-files", "mgt_np", cwd=ROOT).splitlines()
    assert of_package == set(tracked)
    assert built[0].stat().st_size < MOST_BYTES


def test_the_archive_holds_what_a_user_builds(built):
    with tarfile.open(built[1]) as archive:
        names = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert names == IN_ARCHIVE
    assert built[1].stat().st_size < MOST_BYTES


def test_metadata_are_those_of_the_project(installed):
    code = "from importlib.metadata import metadata; print(metadata('mgt-np'))"
    printed = run(installed / "python", "-c", code)
    for minor in range(11, 15):
        assert f"Programming Language :: Python :: 3.{minor}" in printed
    assert "License-Expression: MIT" in printed
    assert re.search(r"^# mgt-np$", printed, re.MULTILINE)  # the README


def test_its_commands_run_in_an_empty_folder(installed, tmp_path):
    assert "numpy" in run(installed / "mgt-np", "info", cwd=tmp_path)
    run(installed / "mgt-np", "reproduce", "delta-spectrum", cwd=tmp_path)
    assert (tmp_path / "figures" / "delta-spectrum.png").exists()
    run(installed / "mgt-np", "reference", "--out", tmp_path / "vectors", cwd=tmp_path)
    command = "train --data copy --layers 2 --steps 4 --out trained/copy"
    run(installed / "mgt-np", *command.split(), cwd=tmp_path)
    assert (tmp_path / "trained" / "copy" / "log.csv").exists()


def test_the_readme_s_example_runs(installed, tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert run(installed / "python", "-c", code, cwd=tmp_path).strip() == "[-1.  1.]"
