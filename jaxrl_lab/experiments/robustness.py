"""In which cells of a box each claim holds: what a box found, without what trains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxrl_lab.experiments.box import Box, parse_box
from jaxrl_lab.experiments.claims import Claim


@dataclass(frozen=True)
class BoxReport:
    """The metric of every claim in every cell.

    Attributes:
        estimate: mean over the seeds of a cell, ``[claims, *box.shape]``; NaN where too few
            seeds arrived.
    """

    box: Box
    claims: tuple[Claim, ...]
    estimate: np.ndarray

    @property
    def holds(self) -> np.ndarray:
        """Whether the mean lies beyond the smallest effect, as claimed; NaN without a mean."""
        signs = [1.0 if c.direction == "greater" else -1.0 for c in self.claims]
        effects = [c.effect for c in self.claims]
        over = (slice(None), *[None] * len(self.box.shape))
        margin = np.array(signs)[over] * (self.estimate - np.array(effects)[over])
        return np.where(np.isfinite(margin), margin > 0, np.nan)

    def share(self, claim: int, axis: int | None = None, level: int = 0) -> float:
        """Share of the cells (of one level of an axis) in which a claim holds; NaN if of none."""
        cells = self.holds[claim]
        cells = cells if axis is None else np.take(cells, level, axis)
        known = cells[np.isfinite(cells)]
        return float(known.mean()) if known.size else float("nan")

    def rows(self) -> list[tuple[str, str, int, float, list[list[float]]]]:
        """Per claim: id, effect, cells without an answer, share, and share by axis and level."""
        return [
            (
                claim.id,
                f"{'>' if claim.direction == 'greater' else '<'} {claim.effect:g}",
                int(np.isnan(self.holds[i]).sum()),
                self.share(i),
                [[self.share(i, a, k) for k in range(n)] for a, n in enumerate(self.box.shape)],
            )
            for i, claim in enumerate(self.claims)
        ]

    def __str__(self) -> str:
        cells = int(np.prod(self.box.shape))
        width = max(len(c.id) for c in self.claims)
        each = f"{self.box.seeds} seeds each"
        lines = [f"Robustness: share of {cells} cells where the claim holds ({each})"]
        for name, _, unknown, share, axes in self.rows():
            never = f", {unknown} cells without an answer" if unknown else ""
            lines.append(f"  {name:<{width}}  {percent(share)}{never}")
            for (axis, levels), shares in zip(self.box.axes.items(), axes, strict=True):
                by = ", ".join(f"{k}: {percent(s)}" for k, s in zip(levels, shares, strict=True))
                lines.append(f"  {'':<{width}}    {axis}: {by}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The report as strict JSON has it."""
        means = np.where(np.isfinite(self.estimate), self.estimate, np.nan).astype(object)
        means[np.isnan(self.estimate)] = None
        return {
            "box": self.box.to_mapping(),
            "estimate": {c.id: m.tolist() for c, m in zip(self.claims, means, strict=True)},
        }


def percent(share: float) -> str:
    """A share in per cent; a dash where it is of nothing."""
    return "—" if np.isnan(share) else f"{100 * share:.0f} %"


def read_box(data: Mapping[str, Any], claims: tuple[Claim, ...]) -> BoxReport:
    """A report from what :meth:`BoxReport.as_dict` wrote."""
    box = parse_box(data["box"])
    rows = [np.array(data["estimate"][c.id], dtype=np.float64) for c in claims]
    return BoxReport(box, claims, np.stack(rows).reshape(-1, *box.shape))
