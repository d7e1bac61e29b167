"""The code of the pages runs, and prints what the pages show; generated pages are well formed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUESTIONS = sorted((ROOT / "docs" / "questions").glob("*.md"))

pytestmark = pytest.mark.thorough


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load(ROOT / "scripts" / "pages.py")


PAGES = load(ROOT / "scripts" / "pages.py").pages()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_page_prints_what_it_shows(page: Path, script: ModuleType) -> None:
    text = page.read_text(encoding="utf-8")
    assert script.rendered(text) == text


def test_every_question_is_answered_first(script: ModuleType) -> None:
    """Question as title, the answer in one bold sentence, then why, an experiment, what to do."""
    index = (ROOT / "docs" / "questions" / "index.md").read_text(encoding="utf-8")
    for page in QUESTIONS:
        if page.stem == "index":
            continue
        text = page.read_text(encoding="utf-8")
        assert re.match(r"# [^\n]+\n\n\*\*((?!\n\n).)+\*\*\n\n## Why\n", text, re.S), page.stem
        assert "\n## See it\n" in text, page.stem
        assert "\n## What to do\n" in text, page.stem
        assert page in script.pages(), page.stem
        assert page.stem in index


def test_output_is_written_under_its_block(script: ModuleType) -> None:
    page = "```python\nx = 2\n```\n\ntext\n\n```python\nprint(x + 1)\n```\n"
    page += "\n```text\nold\n```\n\nend\n"
    assert script.rendered(page) == page.replace("old", "3")
    quiet = "```python\nx = 1\n```\n\nafter\n"
    assert script.rendered(quiet) == quiet
