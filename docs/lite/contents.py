"""The lessons as JupyterLite has them: another kernel, no outputs, no links out of their folder."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "lessons").glob("*.ipynb"))
KERNEL = {"display_name": "Python (Pyodide)", "language": "python", "name": "python"}
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def write_contents(folder):
    """Write all lessons into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in LESSONS:
        text = json.dumps(lesson(json.loads(path.read_text(encoding="utf-8"))), ensure_ascii=False)
        (folder / path.name).write_text(text, encoding="utf-8")


def lesson(stored):
    """A lesson to be run: whoever is asked for a prediction has not seen the result yet."""
    stored["metadata"]["kernelspec"] = KERNEL
    for cell in stored["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
        else:
            cell["source"] = LINK.sub(only_to_lessons, "".join(cell["source"]))
    return stored


def only_to_lessons(found):
    """A link if it leads to a lesson or out of the site, else its words: no other file is there."""
    words, address = found.groups()
    stays = "://" in address or address in {path.name for path in LESSONS}
    return found[0] if stays else words
