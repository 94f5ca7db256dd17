"""Where the repository's files stand on the site: a page, a listing, or a copy to download.

The rule for a link from one file to another: to a page if the file is one; to a listing of its
lines if it is some other text, and of its names if it is a folder; else to a copy of it.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]

SHEETS = "lessons/sheets"  # a folder with a page of its own, which leads to the sheets
# Files that are pages under a name of their own.
NAMED = {
    "README.md": "index.md",  # what the README says stands on the site's home and its pages
    "lessons/README.md": "lessons/index.md",
    "figures/claims.md": "claims.md",
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    SHEETS: "lessons/sheets/index.md",
}
TEXT = {"", ".py", ".toml", ".cff", ".cpp", ".rs", ".jl"}  # "": Makefile, LICENSE


def page_of(path):
    """The page that a file of the repository is, or None: both as paths with slashes."""
    if path in NAMED:
        return NAMED[path]
    folder, _, name = path.rpartition("/")
    if folder in ("docs", "docs/api") and name.endswith(".md"):
        return path.removeprefix("docs/")
    if (folder == "lessons" and name.endswith(".ipynb")) or folder == SHEETS:
        return path
    return None


def pages():
    """All files that are pages, and the page of each; docs/index.md stands for the README."""
    patterns = ("*.md", "docs/*.md", "docs/api/*.md", "lessons/*.md", "lessons/*.ipynb")
    patterns += ("lessons/sheets/*.md", "figures/*.md", "benchmarks/*.md")
    found = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
    named = {as_path(path): page_of(as_path(path)) for path in found}
    return {path: page for path, page in named.items() if page and path != "README.md"}


def as_path(path):
    """A file's path in the repository, with slashes."""
    return path.relative_to(ROOT).as_posix()


def listing_of(path):
    """The page that lists the lines of a file, or the names in a folder; None for other files."""
    file = ROOT / path
    if file.is_dir():
        return f"source/{path}/index.md"
    return f"source/{path}.md" if file.suffix in TEXT else None


def entries_of(folder):
    """The files and folders that a folder's page names: modules, and packages of the package."""
    files = sorted((ROOT / folder).glob("*.py"))
    if folder.startswith("mgt_np"):
        files += sorted(file.parent for file in (ROOT / folder).glob("*/__init__.py"))
    return [as_path(file) for file in files]
