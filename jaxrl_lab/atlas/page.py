"""An atlas as one HTML file: every text of a card is escaped, and only our own script may run."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from string import Template

from jaxrl_lab.atlas.cards import Card, Decided
from jaxrl_lab.atlas.interval import bar, draw, number
from jaxrl_lab.experiments.claims import tally
from jaxrl_lab.experiments.robustness import percent

MARK = '<meta name="generator" content="jaxrl-lab atlas">'
"""Tells an atlas from any other file."""

OUTCOMES = ("reproduced", "refuted", "inconclusive")
ARXIV = re.compile(r"(?:arXiv[: ])?\b(\d{4}\.\d{4,5})\b")


def render(cards: Sequence[Card]) -> str:
    """The page of some cards, with style, script and figures inside."""
    style, script = _part("atlas.css"), _part("atlas.js")
    outcomes = [v.outcome for card in cards for v in card.said.verdicts]
    return Template(_part("page.html")).substitute(
        mark=MARK,
        # Whatever a run directory smuggles in, the browser runs and loads nothing but these.
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        summary=escape(f"{_count(len(cards), 'phenomenon', 'phenomena')}, {_tally(outcomes)}"),
        cards="\n".join(_card(card) for card in cards),
    )


def _card(card: Card) -> str:
    said = card.said
    outcomes: list[str] = [v.outcome for v in said.verdicts]
    counts = {o: outcomes.count(o) for o in OUTCOMES}
    fields = {
        "name": card.name,
        "question": said.question,
        "tally": _tally(outcomes),
        "command": card.command,
        "run": _about(card),
        "minutes": _duration(said.seconds),
        "seconds": f"{said.seconds:.0f}",
        **{o: str(n) for o, n in counts.items()},
    }
    return _fill(
        "card.html",
        fields,
        bar=bar(counts),
        papers=ARXIV.sub(_link, escape(card.source)) or "—",
        notes="".join(f"<p class='warning'>{escape(note)}</p>" for note in _notes(card)),
        claims="\n".join(_claim(card, v) for v in said.verdicts),
        image="data:image/png;base64," + base64.b64encode(card.figure).decode(),
    )


def _claim(card: Card, verdict: Decided) -> str:
    facts = [f"{verdict.n} seeds" + f" ({verdict.missing} missing)" * (verdict.missing > 0)]
    if verdict.claim in card.shares:
        facts.append(f"holds in {percent(card.shares[verdict.claim])} of {card.cells} cells")
    fields = {
        "claim": verdict.claim,
        "text": card.said.claims[verdict.claim],
        "outcome": verdict.outcome,
        "estimate": number(verdict.estimate),
        "interval": f"[{number(verdict.low, '−∞')}, {number(verdict.high, '∞')}]",
        "unit": verdict.unit,
        "claimed": f"{'>' if verdict.direction == 'greater' else '<'} {number(verdict.effect)}",
        "facts": ", ".join(facts),
        "note": verdict.note,
        "level": f"{100 * verdict.level:.3g} % interval",
    }
    return _fill("claim.html", fields, interval_drawn=draw(verdict))


def _notes(card: Card) -> list[str]:
    """What a reader has to know before the verdicts are believed."""
    given = ", ".join(f"{k} = {v}" for k, v in card.said.changed.items())
    return [f"Not the settings the claims are about: {given}."] if given else []


def _about(card: Card) -> str:
    versions = card.said.versions
    parts = [f"tier {card.said.tier}"]
    if "device" in versions:
        parts.append(f"{versions.get('cores', '?')} cores ({versions['device']})")
    parts += [f"{name} {versions[name]}" for name in ("jax", "python") if name in versions]
    if card.said.claims_hash:
        parts.append(f"claims {card.said.claims_hash}")
    if card.others:
        parts.append(f"{_count(card.others, 'further run', 'further runs')} not shown")
    return ", ".join(parts)


def _tally(outcomes: Sequence[str]) -> str:
    return f"{_count(len(outcomes), 'claim', 'claims')}: {tally(outcomes) or 'no verdicts'}"


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _link(found: re.Match[str]) -> str:
    return f'<a href="https://arxiv.org/abs/{found[1]}">arXiv {found[1]}</a>'


def _fill(part: str, texts: Mapping[str, str], **markup: str) -> str:
    """A template with texts, which are escaped, and markup, which is ours already."""
    safe = {name: escape(text) for name, text in texts.items()}
    return Template(_part(part)).substitute(safe, **markup)


def _hash(text: str) -> str:
    """How a content security policy names an inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _part(name: str) -> str:
    return (resources.files(__package__) / "template" / name).read_text(encoding="utf-8")
