"""Kinds of figures: what is drawn is what the numbers say, and how many seeds is on it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from jaxrl_envs import BadInput
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from matplotlib.text import Annotation

import jaxrl_lab as lab
from jaxrl_lab import exact, plots
from jaxrl_lab.experiments.result import Result, assemble
from jaxrl_lab.experiments.statistics import mean_interval

SEEDS, POINTS = 5, 9
DESCRIBE = {
    "entropy": ("nats", "spread"),
    "reward": ("share", "of right answers"),
    "share": ("probability", "of each mode", ("mode",)),
}


def result_of(**curves: Any) -> Result:
    """A result of arms ``a, b, …`` with the given variables ``[arm, seed, point, …]``."""
    arms = [chr(ord("a") + i) for i in range(len(next(iter(curves.values()))))]
    by_arm = {arm: {n: x[i] for n, x in curves.items()} for i, arm in enumerate(arms)}
    alive = {arm: np.full(SEEDS, -1) for arm in arms}
    return Result(assemble(by_arm, alive, tuple(range(SEEDS)), 10, DESCRIBE))


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, SEEDS, POINTS))


def axes_of(figure: Figure) -> Any:
    return figure.axes[0]


def words(figure: Figure) -> str:
    """Everything that is written on a figure."""
    figure.draw_without_rendering()
    found = [t.get_text() for ax in figure.axes for t in ax.texts]
    for ax in figure.axes:
        legend = ax.get_legend()
        found += [t.get_text() for t in legend.get_texts()] if legend else []
        found += [ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left"), ax.get_title()]
    return "\n".join([*found, figure.get_suptitle(), figure.get_supxlabel()])


def test_curves_are_means_over_seeds(noise: np.ndarray) -> None:
    result = result_of(entropy=noise[:2])
    figure = plots.curves(result, "entropy")
    for line, values in zip(axes_of(figure).lines, noise[:2], strict=True):
        np.testing.assert_allclose(line.get_xdata(), np.arange(POINTS) * 10)
        np.testing.assert_allclose(line.get_ydata(), values.mean(0))
    assert "mean over 5 seeds; shade: 95 % t interval" in words(figure)
    assert "entropy (nats)" in words(figure)
    assert len(axes_of(plots.curves(result, "entropy", ["b"])).lines) == 1


def test_a_figure_of_several_kinds_is_possible(noise: np.ndarray) -> None:
    result = result_of(entropy=noise[:2])
    with plots.panels.styled():
        figure, panels = plots.panels.new_figure(1, 2, "title", "note")
    assert plots.curves(result, "entropy", ax=panels[0, 0]) is figure
    assert plots.finals(result, "entropy", ax=panels[0, 1]) is figure
    assert len(figure.axes) == 2


def test_finals_show_every_seed_and_the_interval(noise: np.ndarray) -> None:
    values = noise[:2].copy()
    values[1, 0, -1] = np.nan
    figure = plots.finals(result_of(entropy=values), "entropy")
    ax = axes_of(figure)
    points = [line for line in ax.lines if line.get_marker() == "."]
    for i, line in enumerate(points):
        ends = values[i, np.isfinite(values[i, :, -1]), -1]
        np.testing.assert_allclose(np.sort(line.get_xdata()), np.sort(ends))
        found = mean_interval(ends)
        bar = ax.containers[i][2][0].get_segments()[0]
        np.testing.assert_allclose(bar[:, 0], [found.low, found.high])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert "5 seeds as points" in words(figure)


def test_a_heat_map_has_the_grid_of_the_sweep(noise: np.ndarray) -> None:
    result = result_of(entropy=noise)
    axes = {"recipe.group": [4, 8], "recipe.surrogate.high": [0.2, 0.4]}
    figure = plots.heat_map(result, "entropy", axes)
    ends = noise[:, :, -1]
    shown = np.asarray(axes_of(figure).images[0].get_array())
    np.testing.assert_allclose(shown, ends.mean(1).reshape(2, 2))
    for end in ends:
        found = mean_interval(end)
        assert f"{found.mean:.3g}\n±{found.high - found.mean:.2g}" in words(figure)
    assert axes_of(figure).get_ylabel() == "recipe.group"
    for wrong in ({"a": [1]}, {"a": [1, 2], "b": [1, 2, 3]}):
        with pytest.raises(BadInput, match=r"^axes = "):
            plots.heat_map(result, "entropy", wrong)


def test_modes_are_ranked_in_each_seed() -> None:
    """Every seed ends on another mode: the average hides it, ranks show it."""
    ends = np.eye(SEEDS)
    path = np.linspace(0.2, 1.0, POINTS)[:, None]
    shares = np.stack([(1 - path) / SEEDS + path * end for end in ends])[None]
    result = result_of(share=shares)
    ranked = plots.mode_shares(result, "share", "a")
    winner = axes_of(ranked).lines[0].get_ydata()
    np.testing.assert_allclose(winner, shares[0, 0, :, 0])
    plain = plots.mode_shares(result, "share", "a", ranked=False)
    np.testing.assert_allclose(axes_of(plain).lines[0].get_ydata(), 1 / SEEDS)
    assert "ranked in each seed" in words(ranked)
    assert "ranked" not in words(plain)
    with pytest.raises(BadInput, match=r"^entropy = "):
        plots.mode_shares(result_of(entropy=shares[..., 0]), "entropy", "a")


def test_pass_at_k_is_exact() -> None:
    p = np.random.default_rng(1).uniform(size=(SEEDS, 3))
    figure = plots.pass_at_k({"base": p, "one": p[:1]}, ks=(1, 3, 9))
    expected = [np.mean(1 - (1 - p) ** k) for k in (1, 3, 9)]
    np.testing.assert_allclose(axes_of(figure).lines[0].get_ydata(), expected, rtol=1e-5)
    assert "1–5 seeds, exact for each" in words(figure)
    for wrong in (p[0], p + 1.0):
        with pytest.raises(BadInput, match=r"^success.base = "):
            plots.pass_at_k({"base": wrong})


def test_the_law_is_laid_over_what_it_predicts() -> None:
    """Where the law is exact, the fit lies on the curve and explains all of the rest."""
    entropy = np.linspace(2.0, 0.5, POINTS) + 0.01 * np.arange(SEEDS)[:, None]
    reward = -0.1 * np.exp(entropy) + 1.0
    result = result_of(entropy=entropy[None], reward=reward[None])
    figure = plots.entropy_law(result, "entropy", "reward", fraction=0.4)
    gray, curve, ring = axes_of(figure).lines
    np.testing.assert_allclose(gray.get_ydata(), curve.get_ydata(), atol=1e-6)
    np.testing.assert_allclose(curve.get_xdata(), entropy.mean(0))
    assert ring.get_xdata() == pytest.approx(entropy.mean(0)[3])  # the fourth of nine points
    assert "a: R² 1.00 [1.00, 1.00]" in words(figure)


def test_costs_have_their_exponent() -> None:
    sizes = np.array([1.0, 10.0, 100.0, 1000.0])
    spread = np.array([0.5, 1.0, 2.0])[:, None]
    figure = plots.cost(sizes, {"square": spread * sizes**2, "flat": spread + 0 * sizes})
    assert {"square: exponent 2.00", "flat: exponent 0.00"} <= set(words(figure).splitlines())
    middle = axes_of(figure).containers[0][0].get_ydata()
    np.testing.assert_allclose(middle, sizes**2, rtol=1e-12)
    assert "3 repetitions" in words(figure)
    alone = plots.cost(sizes, {"once": sizes[None]})
    assert np.all(np.isfinite(axes_of(alone).get_ylim()))
    for wrong in (sizes, sizes[None, :2], -sizes[None]):
        with pytest.raises(BadInput, match=r"^seconds.x = "):
            plots.cost(sizes, {"x": wrong})


def push(logp: np.ndarray) -> np.ndarray:
    """Exact policy gradient of a bandit that pays 0, 0 and 1: π_a (r_a - r̄)."""
    p = np.exp(logp)
    return p * (np.array([0.0, 0.0, 1.0]) - p[:, 2:])


def test_the_simplex_has_the_exact_field() -> None:
    start = np.log([[0.5, 0.3, 0.2]])
    times = jnp.linspace(0.0, 20.0, 30)
    flow = exact.softmax_flow(jnp.asarray(start), jnp.array([[0.0, 0.0, 1.0]]), times)
    path = np.asarray(jnp.moveaxis(jax.nn.softmax(flow, axis=-1), 0, 1))
    figure = plots.simplex({"flow": path}, push)
    ax = axes_of(figure)
    (field,) = [c for c in ax.collections if isinstance(c, Quiver)]
    # The exact flow runs along the arrows: compare its direction with the nearest arrow's.
    drawn = ax.lines[0].get_xydata()
    top = np.array([0.5, np.sqrt(0.75)])
    assert np.linalg.norm(drawn[-1] - top) < np.linalg.norm(drawn[0] - top)
    for k in range(0, 20, 4):
        near = np.argmin(np.linalg.norm(field.get_offsets() - drawn[k], axis=1))
        arrow, step = np.array([field.U[near], field.V[near]]), drawn[k + 1] - drawn[k]
        cosine = arrow @ step / np.linalg.norm(arrow) / np.linalg.norm(step)
        assert cosine > 0.95
    assert "1 seed, thin" in words(figure)
    assert "exact expected update" in words(figure)
    assert "exact" not in words(plots.simplex({"flow": path}))
    with pytest.raises(BadInput, match=r"^paths.flow = "):
        plots.simplex({"flow": path[0]})


def test_corners_are_the_sure_policies() -> None:
    sure = np.eye(3)[:, None]
    ax = axes_of(plots.simplex({"sure": sure}, arms=("x", "y", "z")))
    names = {t.get_text(): t.xy for t in ax.texts if isinstance(t, Annotation)}
    for line, name in zip(ax.lines[:3], ("x", "y", "z"), strict=True):
        np.testing.assert_allclose(line.get_xydata()[0], names[name])


def test_a_policy_on_a_grid_is_all_three_maps() -> None:
    env = je.make("gridworld/two_goals")
    logp = np.full((env.observation_space.n, env.action_space.n), -np.log(4.0))
    figure = plots.policy_on_grid(env, env.default_params, 0, logp)
    assert {"Policy", "Occupancy", "Value"} <= set(words(figure).splitlines())
    assert "one policy, exact" in words(figure)


@pytest.mark.parametrize("call", ["curves", "finals"])
def test_what_a_result_does_not_have_is_refused(noise: np.ndarray, call: str) -> None:
    result = result_of(entropy=noise[:2])
    draw = getattr(plots, call)
    with pytest.raises(BadInput, match="nearest valid name: entropy"):
        draw(result, "entropi")
    with pytest.raises(BadInput, match=r"^arm = 'c'"):
        draw(result, "entropy", ["c"])


def test_figures_are_saved_twice_and_alike(noise: np.ndarray, tmp_path: Path) -> None:
    result = result_of(entropy=noise[:2])
    for name in ("one", "two"):
        plots.save(plots.curves(result, "entropy"), tmp_path / name)
    for suffix in (".png", ".svg"):
        first, second = ((tmp_path / n).with_suffix(suffix) for n in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()
    with pytest.raises(BadInput, match=r"^path = "):
        plots.save(plots.curves(result, "entropy"), tmp_path / "no" / "such")


def test_style_stays_inside(noise: np.ndarray) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    result = result_of(entropy=noise[:2])
    for draw in (plots.curves, plots.finals):
        draw(result, "entropy")
    assert dict(mpl.rcParams) == before


def test_the_kinds_are_at_the_front_door() -> None:
    kinds = ("curves", "finals", "heat_map", "simplex", "mode_shares", "pass_at_k", "entropy_law")
    for kind in itertools.chain(kinds, ("cost", "policy_on_grid", "save")):
        assert callable(getattr(lab.plots, kind))
