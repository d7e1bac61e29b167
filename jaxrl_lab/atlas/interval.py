"""Small drawings of verdicts as SVG: one as an interval, many as a bar of their outcomes.

Every claim has a unit of its own, and so an axis of its own; zero is on each.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from jaxrl_lab.atlas.cards import Decided

WIDTH, HEIGHT, MARGIN = 240.0, 26.0, 12.0


def number(x: float | None, missing: str = "—") -> str:
    """Three digits, with a true minus sign; ``missing`` where there is none."""
    return missing if x is None else f"{x:.3g}".replace("-", "−")


def draw(verdict: Decided) -> str:
    """An SVG of the interval, the estimate, the claimed side (shaded) and zero."""
    if verdict.estimate is None:
        return ""
    shown = [0.0, verdict.effect, verdict.estimate]
    shown += [x for x in (verdict.low, verdict.high) if x is not None]
    least, most = min(shown), max(shown)
    span = (most - least) or 1.0

    def at(x: float | None, edge: float) -> float:
        inside = MARGIN + (WIDTH - 2 * MARGIN) * ((edge if x is None else x) - least) / span
        return edge if x is None else round(inside, 1)

    effect, zero, mean = (at(x, 0.0) for x in (verdict.effect, 0.0, verdict.estimate))
    low, high = at(verdict.low, 0.0), at(verdict.high, WIDTH)
    left, width = (effect, WIDTH - effect) if verdict.direction == "greater" else (0.0, effect)
    middle = HEIGHT / 2
    about = (
        f"{number(verdict.estimate)}, from {number(verdict.low, '−∞')} to "
        f"{number(verdict.high, '∞')}; the claimed side of {number(verdict.effect)} is shaded"
    )
    return (
        f'<svg class="interval" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" '
        f'aria-label="{escape(about)}">'
        f'<rect class="claimed" x="{left:g}" y="1" width="{width:g}" height="{HEIGHT - 2:g}"/>'
        f'<line class="axis" x1="0" x2="{WIDTH:g}" y1="{middle:g}" y2="{middle:g}"/>'
        f'<line class="zero" x1="{zero:g}" x2="{zero:g}" y1="1" y2="{HEIGHT - 1:g}"/>'
        f'<line class="effect" x1="{effect:g}" x2="{effect:g}" y1="1" y2="{HEIGHT - 1:g}"/>'
        f'<line class="span" x1="{low:g}" x2="{high:g}" y1="{middle:g}" y2="{middle:g}"/>'
        f'<circle class="mean" cx="{mean:g}" cy="{middle:g}" r="4.5"/></svg>'
    )


def bar(counts: Mapping[str, int]) -> str:
    """An SVG with a part per outcome, as wide as it is frequent."""
    whole, begin, parts = max(1, sum(counts.values())), 0.0, []
    for outcome, n in counts.items():
        share = n / whole
        parts.append(f'<rect class="{outcome}" x="{begin:.4f}" width="{share:.4f}" height="1"/>')
        begin += share
    inside = "".join(parts)
    return (
        '<svg class="bar" viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true">'
        f"{inside}</svg>"
    )
