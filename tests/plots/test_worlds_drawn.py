"""Drawings of worlds: what is on them is what the tables say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from jaxrl_envs import BadInput, Picture
from matplotlib.figure import Figure

from jaxrl_lab import exact, plots

ENV = je.make("gridworld/four_rooms", slippery=False)
PARAMS = ENV.default_params


@pytest.fixture
def ax():
    return Figure(figsize=(4, 4)).subplots()


def random_policy(env, scale=1.0):
    rows, actions = env.observation_space.n, env.action_space.n
    return jax.nn.log_softmax(scale * jax.random.normal(jax.random.key(0), (rows, actions)))


def test_level_shows_walls_and_names(ax):
    picture = plots.worlds.level(ax, ENV, PARAMS, 0)
    shown = np.asarray(ax.images[0].get_array())
    assert np.array_equal(shown < 0.5, picture.walls)
    at = {t.get_text(): t.get_position() for t in ax.texts}
    assert {"S", "G"} <= set(at)
    assert at["G"] == (ENV.goal_cell[1], ENV.goal_cell[0]), "x is the column, y the row"


def test_arrows_point_where_the_policy_goes(ax):
    """A policy that always goes right has one arrow of full length per free cell."""
    right = jnp.log(jnp.array([0.0, 1.0, 0.0, 0.0]) + 1e-30)
    logp = jnp.broadcast_to(right, (ENV.observation_space.n, 4))
    plots.worlds.arrows(ax, ENV, PARAMS, 0, logp)
    drawn = [c for c in ax.collections if hasattr(c, "U")]
    assert len(drawn) == 4
    lengths = [np.hypot(np.asarray(c.U), np.asarray(c.V)).max() for c in drawn]
    np.testing.assert_allclose(lengths, [0.0, 0.45, 0.0, 0.0], atol=1e-6)
    free = ~ENV.picture(PARAMS, ENV.make_level(PARAMS, jnp.int32(0))).walls
    assert np.sum(np.asarray(drawn[1].U) > 0.4) == free.sum()


def test_arrows_follow_the_labels_of_each_state(ax):
    """In a deep sea "right" is another action in every cell; whoever knows it dives diagonally."""
    env = je.make("gridworld/deep_sea", size=5)
    params = env.default_params
    level = env.make_level(params, jnp.int32(0))
    swapped = np.asarray(env.swapped(level, jnp.arange(env.cells)))
    assert 0 < swapped.sum() < len(swapped)
    best = np.append(np.where(swapped, 0, 1), 0)
    logp = jnp.log(jnp.asarray(np.eye(2)[best]) * (1 - 1e-30) + 1e-30)
    plots.worlds.arrows(ax, env, params, 0, logp)
    right, down = (sum(np.asarray(getattr(c, n)) for c in ax.collections) for n in "UV")
    cells = np.zeros((6, 6), bool)
    cells[tuple(np.tril_indices(5))] = True
    np.testing.assert_allclose(right, np.where(cells, 0.45, 0.0).ravel(), atol=1e-5)
    np.testing.assert_allclose(down, np.where(cells, 0.45, 0.0).ravel(), atol=1e-5)


@pytest.mark.parametrize("world", [w for w in je.registered() if w.startswith("gridworld/")])
def test_every_grid_can_be_drawn(ax, world):
    env = je.make(world)
    first = env.level_ids("train").start
    picture = plots.worlds.level(ax, env, env.default_params, first)
    assert picture.marks
    if hasattr(env, "tabular"):
        mdp = env.tabular(env.default_params, env.make_level(env.default_params, jnp.int32(first)))
        assert len(picture.cell) == mdp.reward.shape[0]
        assert picture.moves.shape[-2] == mdp.reward.shape[1]


def test_visits_and_values_are_the_exact_ones(ax):
    logp = random_policy(ENV)
    mdp = ENV.tabular(PARAMS, ENV.make_level(PARAMS, jnp.int32(0)))
    plots.worlds.visit_map(ax, ENV, PARAMS, 0, logp)
    shown = np.ma.filled(ax.images[-1].get_array(), 0.0)
    assert shown.sum() == pytest.approx(float(jnp.sum(exact.occupancy(mdp, logp))), rel=1e-4)
    other = Figure().subplots()
    plots.worlds.value_map(other, ENV, PARAMS, 0, logp)
    value = np.ma.filled(other.images[-1].get_array(), np.nan)
    expected = float(exact.expected_return(mdp, logp))
    assert value[ENV.start_cell] == pytest.approx(expected, rel=1e-4)


def test_states_that_share_a_cell_are_weighted_by_visits():
    picture = Picture(np.zeros((1, 2), bool), np.array([0, 0, 1, -1]), np.zeros((1, 2), int))
    values, mass = np.array([1.0, 4.0, 7.0, 99.0]), np.array([2.0, 1.0, 0.0, 5.0])
    assert picture.over_cells(values, mass)[0, 0] == pytest.approx(2.0)
    assert np.isnan(picture.over_cells(values, mass)[0, 1])
    np.testing.assert_array_equal(picture.sum_over_cells(mass), [[3.0, 0.0]])


def test_arms_show_pay_and_policy(ax):
    env = je.make("bandit/modes", prompts=3, arms=6, modes=2)
    logp = random_policy(env)
    plots.worlds.arms(ax, env, env.default_params, 2, logp)
    mode = np.asarray(env.make_level(env.default_params, jnp.int32(2)).mode)
    heights = [bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(heights, mode >= 0)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.exp(logp[2]), rtol=1e-6)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda ax: plots.worlds.level(ax, je.make("bandit/modes"), (), 0), "picture"),
        (lambda ax: plots.worlds.level(ax, ENV, PARAMS, 9), "level_id"),
        (lambda ax: plots.worlds.arms(ax, ENV, PARAMS, 0), "one step"),
    ],
)
def test_refusals_name_what_is_wrong(ax, draw, message):
    with pytest.raises(BadInput, match=message):
        draw(ax)
