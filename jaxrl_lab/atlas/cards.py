"""What the cards of an atlas say, read from run directories and from published verdicts.

Run directories come from anywhere, so nothing in them is trusted: every field that is shown is
checked for its type here, and escaped where the page is written.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxrl_envs.errors import BadInput, expect
from jaxrl_envs.validate import coerce
from pydantic import FiniteFloat, NonNegativeInt

from jaxrl_lab import config
from jaxrl_lab.experiments.claims import Claim, Direction, Outcome
from jaxrl_lab.experiments.robustness import read_box

CONFIG, VERDICTS, FIGURE = "config.yaml", "verdicts.json", "figure.png"
LARGEST = 20_000_000
"""Bytes a file of a run directory may have to be shown; the largest of ours have half a million."""

TIERS = ("quick", "default", "verdict")
Number = FiniteFloat | None


@dataclass(frozen=True)
class Decided:
    """A verdict as JSON has it; numbers that are not finite are None."""

    claim: str
    outcome: Outcome
    direction: Direction
    effect: FiniteFloat
    estimate: Number = None
    low: Number = None
    high: Number = None
    level: FiniteFloat = 0.95
    n: NonNegativeInt = 0
    missing: NonNegativeInt = 0
    unit: str = ""
    note: str = ""


@dataclass(frozen=True)
class Said:
    """The part of a ``verdicts.json`` that a card shows."""

    phenomenon: str
    question: str
    tier: str
    claims: dict[str, str]
    verdicts: list[Decided]
    changed: dict[str, Any] = field(default_factory=dict)
    seconds: FiniteFloat = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    claims_hash: str = ""
    box: dict[str, Any] | None = None


@dataclass(frozen=True)
class Card:
    """One phenomenon of the atlas.

    Attributes:
        source: the papers it is about, as the configuration names them.
        command: what runs it again.
        figure: a PNG.
        shares: per claim, the share of the box's cells in which it holds; empty without a box.
        cells: how many cells that is of.
        others: further runs of the phenomenon that were found and are not shown.
    """

    said: Said
    source: str
    command: str
    figure: bytes
    shares: Mapping[str, float]
    cells: int
    origin: Path
    modified: float
    others: int = 0

    @property
    def name(self) -> str:
        """Of the phenomenon."""
        return self.said.phenomenon


def collect(sources: Sequence[Path]) -> list[Card]:
    """A card per phenomenon, by name.

    Of several runs of one the most telling is taken: settings of the claims before changed ones,
    then the higher tier, then the later run. Sweeps, and experiments without claims, are left out.

    Raises:
        BadInput: a source that holds no run with verdicts, or a damaged one.
    """
    found = [card for source in sources or [published_folder()] for card in _read(source)]
    runs: dict[str, dict[Path, Card]] = {}
    for card in found:
        runs.setdefault(card.name, {})[card.origin.resolve()] = card
    best = [replace(max(of.values(), key=_weight), others=len(of) - 1) for of in runs.values()]
    return sorted(best, key=lambda card: card.name)


def _weight(card: Card) -> tuple[bool, int, float]:
    return not card.said.changed, TIERS.index(card.said.tier), card.modified


def published_folder() -> Path:
    """The published verdicts of this checkout.

    Raises:
        BadInput: the package is installed without them.
    """
    folder = config.folder().parent / "docs"
    if not (folder / "verdicts").is_dir():
        raise BadInput("DIR", None, "a run directory: no verdicts are published with this install")
    return folder


def _read(source: Path) -> list[Card]:
    """The cards of a run directory, of the runs up to two folders below, or of ``docs``."""
    try:
        published = sorted((source / "verdicts").glob("*.json"))
        below = sorted(p.parent for depth in ("*", "*/*") for p in source.glob(f"{depth}/{CONFIG}"))
        itself = (source / CONFIG).is_file() or (source / VERDICTS).is_file()
        runs = [source] if itself else [p for p in below if (p / VERDICTS).is_file()]
        cards = [_read_run(p) for p in runs] or [_read_published(p) for p in published]
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        if isinstance(error, BadInput):
            raise
        raise BadInput("DIR", str(source), f"a readable folder ({error})") from None
    shown = [card for card in cards if _has_verdicts(card)]
    expect(bool(shown), "DIR", str(source), "a run directory with verdicts, or a folder of them")
    return shown


def _has_verdicts(card: Card) -> bool:
    """Whether it is about the claims of a phenomenon: sweeps ask them elsewhere, in their tier."""
    return bool(card.said.verdicts) and card.said.tier in TIERS


def _read_run(folder: Path) -> Card:
    study = config.read_yaml(folder / CONFIG)
    said = _read_verdicts(folder / VERDICTS)
    if study.get("phenomenon") != said.phenomenon:
        expected = f"verdicts of {study.get('phenomenon')}, as {CONFIG} says"
        raise BadInput("DIR", str(folder), expected)
    changed = coerce(f"{folder / CONFIG}: changed", study.get("changed", {}), dict[str, Any])
    command = _command(said.phenomenon, said.tier, changed)
    source = str(study.get("source", ""))
    return _card(said, source, command, folder / VERDICTS, folder / FIGURE)


def _read_published(file: Path) -> Card:
    said = _read_verdicts(file)
    ours = config.folder() / f"{file.stem}.yaml"
    source = str(config.read_yaml(ours).get("source", "")) if ours.is_file() else ""
    command = _command(said.phenomenon, said.tier, said.changed)
    return _card(said, source, command, file, file.parents[1] / "figures" / f"{file.stem}.png")


def _card(said: Said, source: str, command: str, verdicts: Path, figure: Path) -> Card:
    image = _bytes(figure, "a PNG (jaxrl-lab plot draws it again)")
    if not image.startswith(b"\x89PNG\r\n\x1a\n"):
        raise BadInput("DIR", str(figure), "a PNG (jaxrl-lab plot draws it again)")
    shares, cells = _shares(said, verdicts)
    when = verdicts.stat().st_mtime
    return Card(said, source, command, image, shares, cells, verdicts, when)


def _read_verdicts(file: Path) -> Said:
    try:
        data = json.loads(_bytes(file, "a run with verdicts"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput("DIR", str(file), f"readable JSON ({error})") from None
    said: Said = coerce(str(file), data, Said)
    for verdict in said.verdicts:
        if verdict.claim not in said.claims:
            raise BadInput(f"{file}: verdicts", verdict.claim, "one of its claims", said.claims)
    return said


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _shares(said: Said, file: Path) -> tuple[dict[str, float], int]:
    """Per claim the share of the box's cells in which it holds, and how many cells there are."""
    if said.box is None:
        return {}, 0
    claims = [
        Claim(v.claim, said.claims[v.claim], "", v.direction, v.effect, v.unit, "")
        for v in said.verdicts
    ]
    try:
        report = read_box(said.box, tuple(claims))
    except (BadInput, ValueError, KeyError, TypeError) as error:
        raise BadInput("DIR", str(file), f"a box that fits its claims ({error})") from None
    return {c.id: report.share(i) for i, c in enumerate(claims)}, report.estimate[0].size


def _command(name: str, tier: str, changed: Mapping[str, Any]) -> str:
    words = ["jaxrl-lab", "run", name] + ([f"--{tier}"] if tier != "default" else [])
    for key, value in changed.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        words += ["--set", f"{key}={text}"]
    return shlex.join(words)


def _bytes(file: Path, expected: str) -> bytes:
    """A whole file.

    Raises:
        BadInput: it is missing, not a file, or far larger than anything of ours.
    """
    if not file.is_file():
        raise BadInput("DIR", str(file), expected)
    size = file.stat().st_size
    expect(size <= LARGEST, "DIR", str(file), f"a file of at most {LARGEST} bytes, not {size}")
    return file.read_bytes()
