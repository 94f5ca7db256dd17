"""Build the site into a folder, without network: `python docs/make_site.py build/site`.

MathJax's tex-svg.js is taken from `--mathjax FILE`, or from where `make docs` puts it; without it
formulas stay as they are written. With `--lite FOLDER`, JupyterLite's site as `make_lite.py` builds
it, lessons get a button that opens them there.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pages.running import LITE
from pages.staging import stage

HERE = Path(__file__).parent
MATHJAX = Path(sys.prefix) / "mathjax" / "node_modules" / "mathjax" / "es5" / "tex-svg.js"


def build(out, mathjax=None, lite=None):
    """Build the site; return Sphinx's exit code. Warnings are errors."""
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / "pages"
        stage(staged)
        options = ["-W", "--keep-going", "--quiet", "-j", "auto", "-b", "html", "-c", str(HERE)]
        options += ["-d", str(Path(folder) / "doctrees"), "-D", f"mgt_np_lite={int(bool(lite))}"]
        command = [sys.executable, "-m", "sphinx", *options, str(staged), str(out)]
        done = subprocess.run(command, check=False).returncode
    if done == 0 and mathjax is not None:
        place = Path(out) / "_static" / "mathjax"
        place.mkdir()
        shutil.copy(mathjax, place)
    if done == 0 and lite is not None:
        shutil.copytree(lite, Path(out) / LITE)
    return done


def main():
    parser = argparse.ArgumentParser(description="Build the site.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--mathjax", type=Path, default=MATHJAX if MATHJAX.exists() else None)
    parser.add_argument("--lite", type=Path)
    options = parser.parse_args()
    if options.mathjax is None:
        print("without MathJax: formulas stay as they are written (npm brings it: make docs)")
    return build(options.out, options.mathjax, options.lite)


if __name__ == "__main__":
    sys.exit(main())
