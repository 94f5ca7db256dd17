"""The lessons in the reader's browser: in Pyodide under Node, and on the site in Chromium.

By `make browser-test`, which gathers Pyodide and JupyterLite. The browser has no network: names
resolve to nothing, so that whatever is not in the site is missed.
"""

import base64
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = Path(sys.prefix) / "lite-files"
LESSONS = sorted((ROOT / "lessons").glob("*.ipynb"))
RUNNER = ROOT / "tests" / "support" / "in_pyodide.mjs"
NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
PACKAGES = ("jupyterlite_core", "jupyterlite_pyodide_kernel", "sphinx", "myst_nb", "furo")
SECONDS = 600  # against a lesson that hangs; what one takes is printed and decides nothing

pytestmark = [
    pytest.mark.skipif(
        not FILES.is_dir(), reason="Pyodide's files are not gathered: make browser-test"
    ),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in PACKAGES),
        reason="JupyterLite or Sphinx is not installed: make browser-test",
    ),
]


def made(script, *arguments):
    """Run one of the scripts in docs/."""
    command = [sys.executable, str(ROOT / "docs" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    """JupyterLite's site, with all that it needs in it."""
    folder = tmp_path_factory.mktemp("lite") / "lite"
    made("make_lite.py", "build", FILES, folder)
    return folder


@pytest.mark.skipif(NODE is None, reason="node is not there")
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_in_pyodide(lesson, lite):
    """All cells, without an error and without a warning."""
    command = [NODE, str(RUNNER), str(lite / "static" / "pyodide"), str(lesson)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-5000:]
    report = json.loads(done.stdout.splitlines()[-1])
    print(report)
    assert report["failed"] is None
    assert report["errors"] == []
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    assert report["cells"] == sum(cell["cell_type"] == "code" for cell in cells) > 10


@pytest.fixture(scope="module")
def page(lite, tmp_path_factory):
    """Lesson 04 in Chromium, opened by the button on its page; all cells have run."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("chromium or chromedriver is not there")
    pytest.importorskip("selenium")
    from lite_page import Lesson, chromium, served

    folder = tmp_path_factory.mktemp("site")
    made("make_site.py", folder / "html", "--lite", lite)
    with (
        served(folder / "html") as address,
        chromium(CHROMIUM, DRIVER, folder / "profile") as browser,
    ):
        browser.get(f"{address}/lessons/04-delta-operator.html")
        button = browser.find_element("css selector", ".run-lesson a.run")
        start = time.monotonic()
        button.click()
        lesson = Lesson(browser)
        lesson.run_all(SECONDS)
        lesson.seconds = time.monotonic() - start
        yield lesson


def test_all_cells_of_lesson_04_run_in_the_browser(page):
    print(f"from the button to the last cell: {page.seconds:.1f} s")
    assert page.errors() == []
    cells = page.code_cells()
    assert [cell["count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert "at most" in page.text_of("measure-spectrum")


def test_pictures_are_shown_in_the_browser(page):
    pictures = page.pictures()
    assert len(pictures) == 4
    for picture in pictures:
        assert base64.b64decode(picture).startswith(b"\x89PNG")


def test_an_exercise_answers_in_the_browser(page):
    def said(source):
        return page.answer("exercise-1", f"def inverse_beta(beta):\n    {source}", "check-1")

    assert "dots" in said("return ...")
    assert said("return beta / (beta - 1.0)") == "exercise 04.1: right.\n"
    assert "not yet: 1/β inverts the number" in said("return 1.0 / beta")


def test_a_prediction_is_kept_in_the_browser(page):
    said = page.answer("predict-a", 'predict("04.a", "one")', "reveal-a")
    assert "it is two" in said
    assert "You said one." in said


def test_a_slider_moves_its_picture_in_the_browser(page):
    before = page.wait(lambda: page.slider("slider-circle"), 60, "there is no slider")
    page.press_right("slider-circle")

    def moved():
        now = page.slider("slider-circle")
        return now is not None and now["picture"] != before["picture"] and now

    after = page.wait(moved, 120, "the slider does not move its picture")
    assert float(after["value"]) == pytest.approx(float(before["value"]) + 0.1)
    assert after["picture"].startswith("data:image/png;base64,iVBOR")
