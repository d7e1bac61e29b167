"""Pages made from docstrings and verdicts: nothing is lost on the way or becomes markup."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from jaxrl_lab import phenomena, recipes
from jaxrl_lab.mechanisms import catalog

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

import docstrings  # noqa: E402
import paper_page  # noqa: E402
import reference_pages  # noqa: E402
import slot_pages  # noqa: E402

pytestmark = pytest.mark.thorough


def test_a_docstring_becomes_text_with_code_and_links() -> None:
    doc = """Weights A*B_c <x> and $5$, see :class:`~.weight.ClipCov` and ``a_b*``.

    *Not* code: ρ* = 1.

        y = f(x)

    * ``one``: first
      goes on
    * two

    Raises:
        BadInput: a size below 1,
            or above 2.
    Source: DAPO, arXiv 2503.14476.
    """
    text = docstrings.markdown(doc, {"ClipCov": "there"})
    assert text.startswith(r"Weights A\*B\_c \<x\> and \$5\$, see [`ClipCov`](#there) and `a_b*`.")
    assert "*Not* code: ρ\\* = 1." in text
    assert "```text\ny = f(x)\n```" in text
    assert "- `one`: first goes on\n- two" in text
    assert "**Raises**\n\n- `BadInput`: a size below 1, or above 2." in text
    link = "[arXiv\N{NO-BREAK SPACE}2503.14476](https://arxiv.org/abs/2503.14476)"
    assert f"*Source:* DAPO, {link}." in text


def test_every_mechanism_and_every_field_is_on_its_page() -> None:
    pages = slot_pages.pages()
    for slot, known in catalog().items():
        page = pages[f"slots/{slot}.md"]
        for name, cls in known.items():
            section = page.partition(f"### `{name}`\n")[2].partition("\n### ")[0]
            assert section, name
            fields = dataclasses.fields(cls)
            assert all(f"| `{field.name}` |" in section for field in fields), name
            assert not getattr(cls, "formula", "") or "```text\n" in section, name


def test_the_equation_names_its_numbers() -> None:
    page = slot_pages.pages()["slots/surrogate.md"]
    assert "min(ρA, clip(ρ, 1−low, 1+high)·A)" in page
    assert "| `high` | `0.2` | is one program |" in page


def test_labels_are_told_apart_without_case() -> None:
    names = [(m, n) for m in reference_pages.MODULES for n, _ in reference_pages.members(m)]
    labels = [reference_pages.label(m, n).lower() for m, n in names]
    assert len(set(labels)) == len(labels)


def test_papers_name_what_implements_them() -> None:
    papers = paper_page.collect()
    assert papers["2503.14476"].name() == ["DAPO"]
    assert ("task", "dynamic_sampling") in papers["2503.14476"].mechanisms
    assert "dr_grpo" in papers["2503.20783"].recipes
    named = {recipe for paper in papers.values() for recipe in paper.recipes}
    assert {"grpo", "dapo", "gspo", "cispo", "rloo"} <= named <= set(recipes.names())
    for name in phenomena.names():
        source = phenomena.load_study(name, "default").source
        for number in docstrings.ARXIV.findall(source):
            assert name in papers[number].about


def test_a_verdict_of_the_index_is_the_published_one() -> None:
    said = json.loads((ROOT / "docs" / "verdicts" / "dead_groups.json").read_text(encoding="utf-8"))
    outcomes = {v["claim"]: v["outcome"] for v in said["verdicts"]}
    (page,) = paper_page.pages().values()
    row = next(line for line in page.splitlines() if "2509.25849" in line)
    for claim in ("knapsack_learns", "knapsack_saves_tokens"):
        assert f"`{claim}` {outcomes[claim]}" in row
