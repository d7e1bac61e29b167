"""Sphinx extension: what the site has beside its hand-written pages.

Generated pages are written into docs/ before Sphinx looks for sources. The contents of the front
page are completed by the pages that it does not name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paper_page
import reference_pages
import slot_pages
from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parents[1]
REST = "{every other page of this folder}"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", lambda app: write())
    app.connect("source-read", lambda app, name, source: list_the_rest(name, source))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def list_the_rest(name: str, source: list[str]) -> None:
    """Name the other pages of docs/ in the last table of contents of the front page."""
    if REST in source[0] and name == "docs/index":
        listed = {*source[0].splitlines(), "index"}
        rest = sorted(page.stem for page in DOCS.glob("*.md") if page.stem not in listed)
        source[0] = source[0].replace(REST, "\n".join(rest))


def write(docs: Path = DOCS) -> None:
    """Write what has changed, and remove pages of what is no more."""
    wanted = slot_pages.pages() | reference_pages.pages() | paper_page.pages()
    for path, text in wanted.items():
        page = docs / path
        page.parent.mkdir(exist_ok=True)
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
    for folder in ("slots", "reference"):
        for page in (docs / folder).glob("*.md"):
            if f"{folder}/{page.name}" not in wanted:
                page.unlink()
