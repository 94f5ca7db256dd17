"""Links between the repository's files, made links between the site's pages."""

import posixpath
import re

from .repository import ROOT, listing_of, page_of

FENCE = re.compile(r"^(```+|~~~+)", re.MULTILINE)
LINK = re.compile(r"(!?)(\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^()\s]+)\)")
RAW_LINK = re.compile(r'(<a href=")([^"]+)')


def outside_fences(text, change):
    """Apply `change` to the parts of a Markdown text that are no fenced code."""
    parts, here, fence = [], 0, None
    for found in FENCE.finditer(text):
        if fence is None:
            parts.append(change(text[here : found.start()]))
            here, fence = found.start(), found[1]
        elif found[1] == fence:
            parts.append(text[here : found.end()])
            here, fence = found.end(), None
    parts.append(text[here:] if fence else change(text[here:]))
    return "".join(parts)


def links_of(text):
    """The targets of a text's links and pictures, outside fenced code."""
    found = []
    outside_fences(text, lambda part: found.extend(m[3] for m in LINK.finditer(part)) or part)
    return found


class Site:
    """The pages and copies that links have asked for so far, beside the pages that there are."""

    def __init__(self):
        self.listings, self.copies = set(), set()

    def place_of(self, path):
        """Where a file or folder of the repository stands on the site; asked for from now on."""
        page = page_of(path)
        if page is None and (page := listing_of(path)) is not None:
            self.listings.add(path)
        if page is None:
            self.copies.add(path)
        return page or path

    def rewritten(self, text, path, page):
        """A text of the file `path` as it stands on `page`: its links lead to the site's pages."""

        def link(found):
            picture, words, address = found.groups()
            return f"{picture}{words}({self.address(address, path, page)})"

        def raw_link(found):
            there = self.address(found[2], path, page)
            return f"{found[1]}{re.sub(r'[.](md|ipynb)(?=#|$)', '.html', there)}"

        return outside_fences(text, lambda part: RAW_LINK.sub(raw_link, LINK.sub(link, part)))

    def address(self, address, path, page):
        """Where a link of the file `path` leads to from its page."""
        file, mark, anchor = address.partition("#")
        if not file or "://" in address:
            return address
        folder = "" if file.startswith("/") else posixpath.dirname(path)
        place = posixpath.normpath(posixpath.join(folder, file.lstrip("/")))
        if not (ROOT / place).exists():
            raise ValueError(f"{path}: expected a file of the repository, got {address}")
        there = posixpath.relpath(self.place_of(place), posixpath.dirname(page) or ".")
        return f"{there}{mark}{anchor}"
