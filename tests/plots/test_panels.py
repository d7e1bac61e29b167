"""Panels: told apart without color, honest about missing seeds, quiet when drawn."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from jaxrl_lab.experiments.statistics import mean_interval
from jaxrl_lab.plots import panels

NAN = np.nan


@pytest.fixture
def ax() -> Axes:
    with panels.styled():
        _, axes = panels.new_figure(1, 1, "title", "note")
    return axes[0, 0]


def draw(ax: Axes) -> None:
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    with panels.styled():
        figure.draw_without_rendering()


def test_every_series_looks_different_in_gray() -> None:
    looks = [panels.look(i) for i in range(6)]
    gray = [float(np.dot(to_rgb(look["color"]), (0.299, 0.587, 0.114))) for look in looks]
    assert len({round(g, 2) for g in gray}) == 6
    assert len({str(look["linestyle"]) for look in looks}) == 6
    assert len(set(panels.MARKERS)) == len(panels.MARKERS)
    many = [panels.look(i) for i in range(15)]
    assert many[0]["color"] == many[len(panels.COLORS)]["color"], "more series start again"
    assert len({str(look) for look in many}) == 15, "with other dashes"


def test_a_band_is_the_mean_and_its_interval(ax: Axes) -> None:
    y = np.array([[1.0, 2.0, NAN], [3.0, 2.0, NAN], [2.0, 5.0, 1.0]])
    panels.band(ax, np.arange(3), y, "arm", 0)
    (line,) = ax.get_lines()
    np.testing.assert_allclose(line.get_ydata(), [2.0, 3.0, 1.0])
    (shade,) = ax.collections
    path = shade.get_paths()[0].vertices
    exact = mean_interval(y[:, 0])
    assert path[path[:, 0] == 0, 1].min() == pytest.approx(exact.low)
    assert path[path[:, 0] == 0, 1].max() == pytest.approx(exact.high)
    panels.finish(ax, "t", "x", "y (nats)")
    draw(ax)


@pytest.mark.parametrize(
    "y",
    [np.ones((1, 3)), np.full((2, 3), NAN), np.array([[NAN, 1.0, 2.0], [NAN, NAN, 3.0]])],
    ids=["one seed", "no seed", "some seeds"],
)
def test_a_band_of_few_seeds_is_drawn_quietly(ax: Axes, y: np.ndarray) -> None:
    panels.band(ax, np.arange(3), y, "arm", 1)
    panels.finish(ax, "t", "x", "y")
    draw(ax)
    assert all(np.isfinite(ax.get_ylim()))


def test_dots_leave_out_what_never_arrived(ax: Axes) -> None:
    samples = [np.array([1.0, 3.0]), np.array([NAN, NAN]), np.array([NAN, 2.0])]
    panels.dots(ax, [0.0, 1.0, 2.0], samples, "arm", 2)
    (line,) = [x for x in ax.get_lines() if len(x.get_xdata()) and x.get_marker() == "^"]
    np.testing.assert_allclose(line.get_xdata(), [0.0, 2.0])
    np.testing.assert_allclose(line.get_ydata(), [2.0, 2.0])
    panels.dots(ax, [0.0], [np.array([NAN])], "nobody", 3)
    panels.finish(ax, "t", "x", "y")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["arm"]
    draw(ax)


@pytest.mark.parametrize(("sample", "lines"), [([1.0, 2.0], 1), ([1.0, NAN], 1), ([NAN], 0)])
def test_a_level_is_drawn_where_there_is_one(ax: Axes, sample: list[float], lines: int) -> None:
    panels.level(ax, np.array(sample), "arm", 0)
    assert len(ax.get_lines()) == lines
    draw(ax)


def test_a_reference_carries_its_name(ax: Axes) -> None:
    panels.reference(ax, 0.5, "exact")
    assert [t.get_text() for t in ax.texts] == ["exact"]
    draw(ax)


def test_a_figure_has_title_note_and_labels() -> None:
    with panels.styled():
        figure, axes = panels.new_figure(2, 3, "title", "8 seeds")
    panels.finish(axes[0, 0], "a", "x", "y", legend=False)
    ax = axes[0, 0]
    assert axes.shape == (2, 3)
    assert figure.get_suptitle() == "title"
    assert figure.get_supxlabel() == "8 seeds"
    assert (ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()) == ("", "x", "y") or (
        ax.get_title() or ax.get_title(loc="left")
    ) == "a"
    assert ax.get_legend() is None


def test_the_style_stays_inside_its_block() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with panels.styled():
        assert mpl.rcParams["savefig.dpi"] == panels.STYLE["savefig.dpi"]
    assert dict(mpl.rcParams) == before
