"""The folder that Sphinx reads: every page of the repository, with links that lead within the site.

Nothing is kept twice in the repository: lessons, claims, changelog and tables are taken from where
they stand. A line `<!-- section FILE: Heading -->` in a page stands for that section of a file, and
`<!-- claims: verdict -->` for the claims that got this verdict.
"""

import ast
import json
import posixpath
import re
import shutil
from pathlib import Path

from mgt_np.experiments import EXPERIMENTS, recorded

from . import equations, names
from .docstrings import inline
from .links import Site, outside_fences
from .repository import ROOT, SHEETS, entries_of, listing_of, page_of, pages

SECTION = re.compile(r"^<!-- section (\S+): (.+?) -->.*$", re.MULTILINE)
CLAIMS = re.compile(r"^<!-- claims: (.+?) -->.*$", re.MULTILINE)
MARKS = re.compile(r"^<!-- [\w ]+: (begin|end) -->\n", re.MULTILINE)


def stage(folder):
    """Write all pages into a new folder, and the files that they show or offer."""
    site, folder = Site(), Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    for path, page in pages().items():
        text = (ROOT / path).read_text(encoding="utf-8")
        make = notebook if path.endswith(".ipynb") else markdown
        write(folder / page, make(site, text, path, page))
    write(folder / page_of(SHEETS), sheets())
    site.listings.update(listed_by_directives())
    done = set()
    while left := sorted(site.listings - done):
        for path in left:
            write(folder / listing_of(path), listing(site, path))
        done.update(left)
    for path in site.copies:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, folder / path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# ---- Markdown


def markdown(site, text, path, page):
    """A page of Markdown as the site has it."""
    text = SECTION.sub(lambda found: section(site, found[1], found[2], page), text)
    text = CLAIMS.sub(lambda found: claims_with(found[1]), text)
    text = with_pages(site.rewritten(MARKS.sub("", text), path, page), path)
    if path == "figures/claims.md":
        text = with_figures(site, text)
    if path == "lessons/README.md":
        lessons = sorted(path.stem for path in (ROOT / "lessons").glob("*.ipynb"))
        text += toctree([*lessons, "sheets/index"])
    return text


def section(site, path, heading, page):
    """The text below a heading of a file, its links made those of `page` already."""
    text = (ROOT / path).read_text(encoding="utf-8")
    found = re.search(
        rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,6}} |\Z)", text, re.MULTILINE | re.DOTALL
    )
    if found is None:
        raise ValueError(f"{page}: expected a heading {heading!r} in {path}")
    return absolute(found[2], path).strip()


def absolute(text, path):
    """Links of a file as seen from the repository's root, marked by a slash in front."""
    folder = path.rpartition("/")[0]
    pattern = re.compile(r"(\]\()(?![a-z]+://|#)([^()\s]+\))")
    return outside_fences(
        text, lambda part: pattern.sub(rf"\g<1>/{folder and folder + '/'}\2", part)
    )


TOCTREE = re.compile(r"^```\{toctree\}\n.*?^```$", re.MULTILINE | re.DOTALL)


def with_pages(text, path):
    """Toctrees that name files of the repository, name the pages that those are."""
    folder = posixpath.dirname(path)

    def page(found):
        file = posixpath.normpath(posixpath.join(folder, found[2]))
        return f"{found[1]}<{page_of(file)}>"

    return TOCTREE.sub(lambda tree: re.sub(r"(.*)<(.+)>", page, tree[0]), text)


def toctree(pages, hidden=True):
    """A list of pages for the bar at the side; for the page itself too unless `hidden`."""
    options = [":hidden:"] if hidden else []
    return "\n".join(["", "```{toctree}", *options, ":maxdepth: 1", "", *pages, "```", ""])


def sheets():
    """The page that leads to the lecturers' sheets."""
    listed = sorted(path.stem for path in (ROOT / SHEETS).glob("*.md"))
    return f"# For lecturers: a sheet a lesson\n{toctree(listed, hidden=False)}"


# ---- claims


def with_figures(site, text):
    """The page of claims with each experiment's figure below its question, told in words."""
    figures = {each.name: f"figures/{each.figure}" for each in all_results()}

    def with_figure(found):
        name = found[2]
        path = figures[name]
        alt = EXPERIMENTS[name].alt.replace("[", "(").replace("]", ")")
        question = re.sub(r"\[figure\]\([^)]+\), ", "", found[1])  # it is shown below
        return f"{question}\n![{alt}]({site.place_of(path)})\n\n{made(path)}\n"

    return re.sub(r"^(## ([\w-]+)\n\n[^\n]+\n)", with_figure, text, flags=re.MULTILINE)


def all_results():
    return recorded(EXPERIMENTS, ROOT / "figures")


def made(path):
    """By which command a figure was made, and with which versions."""
    record = json.loads((ROOT / path).with_suffix(".json").read_text(encoding="utf-8"))
    versions = record["versions"]
    parts = ", ".join(f"{name} {versions[name]}" for name in ("mgt-np", "python", "numpy"))
    return f"Made by `{record['command']}` with {parts}."


def claims_with(verdict):
    """The claims that got a verdict, as a table; those on models trained too briefly left out."""
    lines = ["| claim | source | measured |", "| --- | --- | --- |"]
    for result in all_results():
        for each in result.claims if not result.brief else ():
            if each.verdict == verdict:
                cells = (text.replace("|", "\\|") for text in (each.source, each.measured))
                claim = each.claim.replace("|", "\\|")
                address = f"/figures/claims.md#{result.name}"
                lines.append(f"| [{claim}]({address}) | {' | '.join(cells)} |")
    return "\n".join(lines)


# ---- lessons


def notebook(site, text, path, page):
    """A lesson with links of the site, and its pictures' words where myst-nb looks for them."""
    stored = json.loads(text)
    for cell in stored["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            cell["source"] = site.rewritten(source, path, page)
        for output in cell.get("outputs", []):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            if alt:
                cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
    return json.dumps(stored, ensure_ascii=False)


# ---- listings


def listed_by_directives():
    """The files that the reference and the index of equations link to."""
    rows = [row for family in equations.index() for row in family.rows]
    found = {test.path for row in rows for test in row.tests}
    found |= {row.fused.path for row in rows if row.fused}
    found |= {rule.place.path for rule in equations.rules()}
    return found | names.files()


def listing(site, path):
    """A page for a file's lines, or for a folder's files with the first line of each."""
    head = f"---\norphan: true\nno-search: true\n---\n\n# {path}\n\n"
    if not (ROOT / path).is_dir():
        return f"{head}```{{listing}} {path}\n```\n"
    return head + "\n".join(entry_line(site, entry) for entry in entries_of(path)) + "\n"


def entry_line(site, entry):
    """A line of a folder's page: tests are listed where a page links to them, all else here too."""
    name = entry.rpartition("/")[2]
    if not entry.startswith("tests/"):
        site.listings.add(entry)
    target = f"{name}/index.md" if (ROOT / entry).is_dir() else f"{name}.md"
    shown = f"[`{name}`]({target})" if entry in site.listings else f"`{name}`"
    return f"- {shown}{first_line(ROOT / entry)}"


def first_line(file):
    """What a module says that it is, after a colon; its characters mean nothing to Markdown."""
    file = file / "__init__.py" if file.is_dir() else file
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    parts = inline(docstring.partition("\n")[0])
    said = "".join(f"`{part}`" if is_code else plain(part) for part, is_code in parts)
    return f": {said}" if said else ""


def plain(text):
    return re.sub(r"([*_`<|$#^\\\[\]])", r"\\\1", text)
