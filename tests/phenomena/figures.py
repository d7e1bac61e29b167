"""What every figure of a phenomenon is held to."""

from __future__ import annotations

import warnings
from typing import Any

from jaxrl_lab.phenomena import Report
from jaxrl_lab.plots import panels


def render(report: Report) -> Any:
    """The figure, drawn without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = report.figure()
        with panels.styled():
            figure.draw_without_rendering()
    return figure


def check_panels(figure: Any, note: str, panels: int = 6, x_labels: bool = True) -> None:
    """So many panels, each with a title and labels, and a note that begins with ``note``."""
    assert len(figure.axes) == panels
    for ax in figure.axes:
        assert ax.get_title(loc="left"), "a title"
        assert ax.get_xlabel() or not x_labels
        assert ax.get_ylabel()
    assert figure.get_supxlabel().startswith(note)
    assert "95 %" in figure.get_supxlabel()
