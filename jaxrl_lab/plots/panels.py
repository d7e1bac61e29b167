"""One style and the panels that figures are made of.

Legible in grayscale and for color-blind readers: every series has its own lightness, dash and
marker. Intervals are shaded or drawn as bars, and the number of seeds stands on the figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxrl_envs import BadInput
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxrl_lab.experiments.statistics import curve_band, mean_interval

# Okabe-Ito hues in an order of clearly different lightness.
COLORS = ("#000000", "#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#7F7F7F")
DASHES: tuple[Any, ...] = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (3, 1)),
    (0, (1, 1)),
    "-",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

EXACT: dict[str, Any] = {"color": "#7F7F7F", "linewidth": 5, "alpha": 0.45, "zorder": 0}
"""An exact curve: wide and gray, so that sampled ones can be seen to lie on it."""

STYLE: Any = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxrl_lab",
}


class ShownFigure(Figure):
    """A figure that a notebook shows without a plotting backend."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        with styled():
            self.savefig(buffer, format="png", dpi=STYLE["figure.dpi"])
        return buffer.getvalue()


def new_figure(rows: int, columns: int, title: str, note: str) -> tuple[Figure, np.ndarray]:
    """A figure with a title and a note line (seeds, intervals) below it."""
    figure = ShownFigure(figsize=(4.1 * columns, 3.2 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color="#444444")
    return figure, axes


def own(ax: Axes | None, width: float = 5.2, height: float = 3.7) -> Axes:
    """The panel to draw on: the one given, or one on a figure of its own (inches)."""
    if ax is not None:
        return ax
    figure = ShownFigure(figsize=(width, height), layout="constrained")
    return figure.add_subplot()


def figure_of(ax: Axes) -> Figure:
    """The figure that a panel is on."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # panels are made on figures
    return figure


def many(counts: Iterable[int], what: str = "seed") -> str:
    """How many there are of something over several samples: ``64 seeds``, or ``16–64 seeds``."""
    found = sorted(set(counts)) or [0]
    text = "–".join(str(n) for n in dict.fromkeys([found[0], found[-1]]))
    return f"{text} {what}" + "s" * (found[-1] != 1)


def save(figure: Figure, path: str | Path) -> None:
    """``path.png`` and ``path.svg``, in the style.

    Raises:
        BadInput: a place that cannot be written.
    """
    try:
        write(figure, path)
    except OSError as error:
        raise BadInput("path", str(path), f"a writable place ({error.strerror})") from None


def write(figure: Figure, path: str | Path) -> None:
    """What :func:`save` does.

    Raises:
        OSError: a place that cannot be written.
    """
    with styled():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once is enough for both files
        figure.savefig(f"{path}.png")
        figure.savefig(f"{path}.svg", metadata={"Date": None})


def styled() -> AbstractContextManager[None]:
    """The style, for everything drawn or saved inside ``with styled():``."""
    return mpl.rc_context(STYLE)


def look(i: int) -> dict[str, Any]:
    """Color and dash of the i-th series; when the colors start again, the dashes are shifted."""
    dash = DASHES[(i + i // len(COLORS)) % len(DASHES)]
    return {"color": COLORS[i % len(COLORS)], "linestyle": dash}


def band(ax: Axes, x: np.ndarray, y: np.ndarray, label: str, i: int, level: float = 0.95) -> None:
    """Mean over seeds ``y[S, T]`` as a line, its interval as a shade."""
    shown = curve_band(y, level)
    style = look(i)
    ax.plot(x, shown.mean, label=label, **style)
    ax.fill_between(x, shown.low, shown.high, color=style["color"], alpha=0.2, linewidth=0)


def dots(
    ax: Axes,
    x: Sequence[float] | np.ndarray,
    samples: Sequence[np.ndarray],
    label: str | None,
    i: int,
    level: float = 0.95,
    join: bool = True,
) -> None:
    """Mean of each sample of seeds as a marker, its interval as a bar; empty ones left out."""
    rows = [(a, s[np.isfinite(s)]) for a, s in zip(x, samples, strict=True)]
    rows = [(a, s) for a, s in rows if len(s)]
    if not rows:
        return
    intervals = [mean_interval(s, level) for _, s in rows]
    at = np.array([a for a, _ in rows])
    mean = np.array([v.mean for v in intervals])
    low = np.array([v.low if np.isfinite(v.low) else v.mean for v in intervals])
    high = np.array([v.high if np.isfinite(v.high) else v.mean for v in intervals])
    style = look(i)
    ax.errorbar(
        at,
        mean,
        yerr=np.stack([mean - low, high - mean]),
        label=label,
        marker=MARKERS[(i + i // len(COLORS)) % len(MARKERS)],
        markersize=4.5,
        capsize=2,
        color=style["color"],
        linestyle=style["linestyle"] if join else "none",
        linewidth=1.2,
    )


def level(ax: Axes, sample: np.ndarray, label: str, i: int) -> None:
    """A sample of seeds that has no place on the x axis: a line with its interval shaded."""
    arrived = sample[np.isfinite(sample)]
    if not len(arrived):
        return
    interval, style = mean_interval(arrived), look(i)
    ax.axhline(interval.mean, label=label, **style)
    if np.isfinite(interval.low):
        ax.axhspan(interval.low, interval.high, color=style["color"], alpha=0.2, linewidth=0)


def reference(ax: Axes, at: float, text: str) -> None:
    """An exact value as a thin line with its name on it."""
    ax.axhline(at, color="#444444", linewidth=1, linestyle=(0, (6, 2)))
    where = ax.get_yaxis_transform()
    ax.text(0.99, at, text, ha="right", va="bottom", fontsize=7.5, transform=where)


def finish(
    ax: Axes, title: str, x: str, y: str, legend: bool = True, note: str | None = None
) -> None:
    """Title, labels with units, and the legend where something has a name.

    Args:
        note: below the title: how many seeds, and what bars and shades are.
    """
    ax.set_title(title, pad=16 if note else None)
    if note:
        ax.annotate(
            note, (0, 1), xytext=(0, 4), xycoords="axes fraction", textcoords="offset points",
            fontsize=7.5, color="#444444",
        )  # fmt: skip
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if legend and ax.get_legend_handles_labels()[0]:
        ax.legend()
