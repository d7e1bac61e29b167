"""Publish runs: figure, verdicts, and the tables of docs/phenomena and README.md.

    jaxrl-lab run entropy_collapse --verdict --out runs/published
    python scripts/publish.py runs/published      # copies, and writes the tables
    python scripts/publish.py                     # writes the tables again
    python scripts/publish.py --check             # fails where one of them is out of date

What is published is what the run directory says: the numbers of a page are never typed.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl_lab import phenomena
from jaxrl_lab.experiments.claims import claims_hash, tally
from jaxrl_lab.phenomena.box import percent, read_box

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
BEGIN, END = "<!-- verdicts: begin -->", "<!-- verdicts: end -->"
LIST_BEGIN, LIST_END = "<!-- phenomena: begin -->", "<!-- phenomena: end -->"


def main(arguments: list[str]) -> int:
    check = arguments == ["--check"]
    for folder in [] if check else arguments:
        publish(Path(folder))
    wanted = {page(name): rendered(name) for name in published()} | {README: overview()}
    stale = [p for p, text in wanted.items() if p.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is out of date: run python scripts/publish.py")
        else:
            path.write_text(wanted[path], encoding="utf-8")
    return len(stale) if check else 0


def published() -> list[str]:
    """The phenomena with verdicts."""
    return [name for name in phenomena.names() if verdicts(name).exists()]


def publish(folder: Path) -> None:
    """Take over figure and verdicts of a run directory, and write them into the page."""
    report = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
    name = report["phenomenon"]
    if report["changed"]:
        raise SystemExit(f"{folder} is not the setting of the claims: {report['changed']}")
    report["folder"] = report["figure"] = None  # places on one machine
    verdicts(name).parent.mkdir(exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
    verdicts(name).write_text(text + "\n", encoding="utf-8")
    shutil.copyfile(folder / "figure.png", DOCS / "figures" / f"{name}.png")


def page(name: str) -> Path:
    return DOCS / "phenomena" / f"{name}.md"


def verdicts(name: str) -> Path:
    return DOCS / "verdicts" / f"{name}.json"


def rendered(name: str) -> str:
    """The page of a phenomenon with its tables as the published verdicts have them."""
    report = json.loads(verdicts(name).read_text(encoding="utf-8"))
    body = "\n\n".join([verdict_table(report), about(report), *box_table(name, report)])
    return _between(page(name), BEGIN, body, END)


def overview() -> str:
    """README.md with a line per phenomenon."""
    lines = ["| phenomenon | question | verdicts | notebook |", "| --- " * 4 + "|"]
    for name in published():
        report = json.loads(verdicts(name).read_text(encoding="utf-8"))
        outcomes = [v["outcome"] for v in report["verdicts"]]
        cells = (
            f"[`{name}`](docs/phenomena/{name}.md)",
            report["question"],
            tally(outcomes),
            f"[notebook](notebooks/{name}.ipynb)",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return _between(
        README, "<!-- phenomena: begin -->", "\n".join(lines), "<!-- phenomena: end -->"
    )


def _between(path: Path, begin: str, text: str, end: str) -> str:
    head, rest = path.read_text(encoding="utf-8").split(begin)
    return f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def verdict_table(report: dict[str, Any]) -> str:
    """A line per claim."""
    lines = ["| claim | verdict | estimate and interval | claimed | seeds |", "| --- " * 5 + "|"]
    for v in report["verdicts"]:
        than = ">" if v["direction"] == "greater" else "<"
        shown = [_number(v[k]) for k in ("estimate", "low", "high")]
        lines.append(
            f"| `{v['claim']}` | {v['outcome']} | {shown[0]} [{shown[1]}, {shown[2]}] {v['unit']} "
            f"| {than} {v['effect']:g} | {v['n']} of {v['n'] + v['missing']} |"
        )
    sentences = [f"* `{k}`: {text}" for k, text in report["claims"].items()]
    return "\n".join([*lines, "", *sentences])


def about(report: dict[str, Any]) -> str:
    """Where and when the verdicts come from."""
    v = report["versions"]
    return (
        f"Tier {report['tier']}, claims `{report['claims_hash']}`, {report['seconds']:.0f} s on "
        f"{v['cores']} cores ({v['device']}), jax {v['jax']}, Python {v['python']}. Intervals are "
        "at each claim's Holm level."
    )


def box_table(name: str, report: dict[str, Any]) -> list[str]:
    """Share of the box in which each claim holds, and by level of every axis."""
    claims = phenomena.find(name).claims
    if report["box"] is None or report["claims_hash"] != claims_hash(claims):
        return []
    box = read_box(report["box"], claims)
    heads = [f"{axis.rpartition('.')[2]}: {', '.join(ls)}" for axis, ls in box.box.axes.items()]
    lines = [
        f"Robustness box: {int(np.prod(box.box.shape))} cells of {box.box.seeds} seeds. Share of "
        "the cells in which the mean lies beyond the smallest effect, in all and by level:",
        "",
        "| claim | all | " + " | ".join(heads) + " |",
        "| --- " * (2 + len(heads)) + "|",
    ]
    for claim, _, unknown, share, axes in box.rows():
        left = f" ({unknown} without an answer)" if unknown else ""
        by = [", ".join(percent(s) for s in shares) for shares in axes]
        lines.append(f"| `{claim}` | {percent(share)}{left} | " + " | ".join(by) + " |")
    return ["\n".join(lines)]


def _number(x: float | None) -> str:
    return "—" if x is None else f"{x:.3f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
