"""The index of papers: where each is implemented, and what came out where it was tested.

Read off the docstrings of the mechanisms, the comments of the recipes, the sources of the
phenomena and the published verdicts; nothing is kept here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slot_pages
from docstrings import ARXIV, arxiv_link

from jaxrl_lab import config, phenomena, recipes

DOCS = Path(__file__).resolve().parents[1]


@dataclass
class Paper:
    """What is known of one arXiv number.

    Attributes:
        names: what the docstrings call it.
        mechanisms: slot and name. recipes: names.
        about: phenomena whose question is the paper's.
        arms: arms by phenomenon that name a recipe or mechanism of the paper.
    """

    names: list[str] = field(default_factory=list)
    mechanisms: list[tuple[str, str]] = field(default_factory=list)
    recipes: list[str] = field(default_factory=list)
    about: list[str] = field(default_factory=list)
    arms: dict[str, set[str]] = field(default_factory=dict)

    def name(self) -> list[str]:
        """What it is called most often; all names, where it is called something else each time."""
        counts = Counter(self.names).most_common()
        return [name for name, n in counts if n == counts[0][1]]


def pages() -> dict[str, str]:
    """The page by its path below docs/."""
    lines = [
        "<!-- Made from docstrings, configurations and verdicts by docs/_ext/paper_page.py. -->",
        "",
        "# Papers",
        "",
        "Each paper that something here implements or tests: the mechanism, the *recipe* of that "
        "name in `configs/recipes/`, and the phenomenon in which it was tried. Where a claim is "
        "about an arm of the paper, its verdict stands here; else the tally of the phenomenon. "
        "What of a paper is missing here, and which numbers were rescaled, its mechanism and "
        "recipe say.",
        "",
        "| paper | mechanisms and *recipes* | phenomena and verdicts |",
        "| --- | --- | --- |",
    ]
    for number, paper in sorted(collect().items(), reverse=True):
        links = [f"[`{n}`](#{slot_pages.label(s, n)})" for s, n in paper.mechanisms]
        cells = (
            " ".join([f"**{n}**," for n in paper.name()] + [arxiv_link(number)]),
            ", ".join([*links, *(f"*{r}*" for r in paper.recipes)]) or "—",
            "; ".join(_outcomes(paper)) or "not tested yet",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return {"papers.md": "\n".join([*lines, ""])}


def collect() -> dict[str, Paper]:
    """Every paper that is mentioned as a source, by arXiv number."""
    found: dict[str, Paper] = {}
    for name in recipes.names():
        text = _comment(config.folder() / "recipes" / f"{name}.yaml")
        for number in ARXIV.findall(text):
            paper = found.setdefault(number, Paper())
            paper.recipes.append(name)
            paper.names += _name_before(number, text)
    for slot, name, cls in slot_pages.everything():
        _, _, source = (cls.__doc__ or "").partition("Source:")
        # A number in the text belongs to a part of the mechanism, one in the source to all of it.
        for number in dict.fromkeys(ARXIV.findall(source) or ARXIV.findall(cls.__doc__ or "")):
            paper = found.setdefault(number, Paper())
            paper.mechanisms.append((slot, name))
            paper.names += _name_before(number, source)
    for name in phenomena.names():
        study = phenomena.load_study(name, "verdict")
        for number in ARXIV.findall(study.source):
            found.setdefault(number, Paper()).about.append(name)
        for arm, used in _used(study):
            named = [
                n for n, p in found.items() if used & {*p.recipes, *(m for _, m in p.mechanisms)}
            ]
            if named:  # newer methods are made of older ones: an arm is the newest paper's
                found[max(named)].arms.setdefault(name, set()).add(arm)
    return found


def _used(study: Any) -> Iterator[tuple[str, set[str]]]:
    """Every arm with the recipes and mechanisms that its own settings name."""
    for experiment in study.experiments.values():
        for arm, own in experiment.arms.items():
            names = {own["recipe"]} if isinstance(own.get("recipe"), str) else set()
            for path, value in own.items():
                slotted = path.startswith("recipe.") and isinstance(value, list)
                for item in value if slotted else ():
                    names |= {item} if isinstance(item, str) else set(item)
            yield arm, names


def _outcomes(paper: Paper) -> list[str]:
    """A phrase per phenomenon: verdicts of the claims about the paper's arms, or the tally."""
    phrases = []
    for name in dict.fromkeys([*paper.about, *paper.arms]):
        page, verdicts = f"phenomena/{name}.md", DOCS / "verdicts" / f"{name}.json"
        link = f"[`{name}`]({page})" if (DOCS / page).exists() else f"`{name}`"
        if not verdicts.exists():
            phrases.append(f"{link}: not run yet")
            continue
        report = json.loads(verdicts.read_text(encoding="utf-8"))
        arms = {arm.replace(" ", "_") for arm in paper.arms.get(name, ())}
        own = [v for v in report["verdicts"] if v["claim"].startswith(tuple(f"{a}_" for a in arms))]
        if own:
            said = ", ".join(f"`{v['claim']}` {v['outcome']}" for v in own)
        else:
            counts = Counter(v["outcome"] for v in report["verdicts"])
            said = ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common())
            said += "" if name in paper.about else ", no claim of its own"
        phrases.append(f"{link}: {said}")
    return phrases


def _comment(path: Path) -> str:
    """The comment a recipe begins with, on one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))


def _name_before(number: str, text: str) -> list[str]:
    """What stands before ", arXiv NUMBER" or "(arXiv NUMBER)", if it looks like a name."""
    before = text.partition(number)[0].rstrip(" (,").removesuffix("arXiv").rstrip(" (,")
    name = " ".join(re.split(r"[;:,(]\s|\.\s", before)[-1].split())
    return [name] if re.fullmatch(r"[A-Z][\w.+\-†³]*( [\w.+\-†³]+)?", name) else []
