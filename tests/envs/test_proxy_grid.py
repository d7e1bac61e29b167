"""``gridworld/proxy`` against every action sequence, played by rules written out in Python."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from grid_walks import walk
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs.gridworlds.proxy import ProxyGrid, State

LENGTH = 6
SEQUENCES = list(itertools.product(range(4), repeat=LENGTH))


class Played(NamedTuple):
    """Of one episode: ``gained`` goals and ``paid`` hacks (in shares) by step, and its end."""

    gained: list[float]
    paid: list[float]
    hacked: bool
    finished: bool


def play(kind: str, size: int, start: int, goals: list[int], hack: int, actions: Any) -> Played:
    cell, left, gained, paid, hacked = start, set(goals), [], [], False
    for action in actions:
        after = walk(size, cell, action)
        gained.append(1.0 / len(goals) if after in left else 0.0)
        left.discard(after)
        arrived = after == hack and after != cell
        share = len(left) / len(goals) if kind == "tamper" else 1.0
        paid.append(share if arrived else 0.0)
        hacked |= arrived and bool(left)
        cell = after
        if not left or (kind != "loop" and cell == hack):
            break
    return Played(gained, paid, hacked, not left)


def params_of(env: ProxyGrid, **given: float) -> Any:
    return replace(env.default_params, **{k: jnp.float32(v) for k, v in given.items()})


def level_of(env: ProxyGrid, index: int = 0) -> Any:
    return env.make_level(env.default_params, jnp.int32(index))


@cache
def every_game(kind: str, goals: int, index: int) -> list[Played]:
    """All 4^LENGTH action sequences on one 3×3 level (of the test split, where there is a coin)."""
    level = level_of(env_of(kind, goals), index)
    places = int(level.start), level.goals.tolist(), int(level.hack)
    return [play(kind, 3, *places, actions) for actions in SEQUENCES]


def env_of(kind: str, goals: int) -> ProxyGrid:
    return ProxyGrid(kind=kind, size=3, goals=goals, horizon=LENGTH, test_levels=5)  # type: ignore[arg-type]


GAMES = [("loop", 1, 1), ("loop", 2, 2), ("tamper", 1, 0), ("tamper", 3, 3), ("coin", 1, 0),
         ("coin", 1, 1), ("coin", 1, 4)]  # fmt: skip
games = pytest.mark.parametrize(("kind", "goals", "index"), GAMES)


@games
def test_every_sequence_is_paid_by_the_rules(kind: str, goals: int, index: int) -> None:
    env, (finish, hack, cost) = env_of(kind, goals), (0.5, 2.0, 0.125)
    params, level = params_of(env, finish=finish, hack=hack, step_cost=cost), level_of(env, index)

    def roll(actions: Any) -> Any:
        def body(state: Any, action: Any) -> Any:
            after = env.step(params, level, state, action, ())
            flags = after.terminated, after.info["correct"], after.info["hacked"]
            return after.state, (after.reward, flags, after.info["mode_id"])

        return jax.lax.scan(body, env.reset(params, level, ()), actions)[1]

    reward, flags, mode = jax.jit(jax.vmap(roll))(jnp.asarray(SEQUENCES, jnp.int32))
    terminated, correct, hacked = map(np.asarray, flags)
    for i, game in enumerate(every_game(kind, goals, index)):
        n = len(game.gained)
        gained, paid = np.zeros((2, LENGTH))
        gained[:n], paid[:n] = game.gained, game.paid
        price = cost * (np.arange(LENGTH) < n)
        np.testing.assert_allclose(reward["true"][i], gained - price, atol=1e-6)
        expected = finish * gained + hack * paid - price
        np.testing.assert_allclose(reward["proxy"][i], expected, atol=1e-6)
        tricked = kind != "loop" and not game.finished and game.paid[-1] > 0
        assert terminated[i].tolist() == [
            (game.finished or tricked) and t >= n - 1 for t in range(LENGTH)
        ]
        assert bool(correct[i, -1]) == game.finished
        assert bool(hacked[i].any()) == game.hacked
        assert int(mode[i, -1]) == (0 if game.finished else 1 if tricked else -1)


PRICES = st.sampled_from([(1.0, 1.0, 0.01), (0.0, 1.0, 0.0), (1.0, 0.0, 0.25), (1.0, 0.25, 0.0),
                          (0.5, 0.5, 0.125), (0.25, 2.0, 0.5), (1.0, -1.0, 0.01)])  # fmt: skip


@cache
def facts_of(kind: str, goals: int) -> Any:
    env = env_of(kind, goals)
    known = env.optimal_value, env.proxy_optimum, env.hacking_gap
    return jax.jit(lambda params, level: [fact(params, level) for fact in known])


@given(game=st.sampled_from(GAMES), prices=PRICES)
@settings(max_examples=30)
def test_both_optima_and_the_gap(game: Any, prices: tuple[float, float, float]) -> None:
    finish, hack, cost = prices
    env, (kind, goals, index) = env_of(*game[:2]), game
    played = every_game(kind, goals, index)
    true = np.array([sum(g.gained) - cost * len(g.gained) for g in played])
    proxy = np.array(
        [finish * sum(g.gained) + hack * sum(g.paid) - cost * len(g.gained) for g in played]
    )
    params, level = params_of(env, finish=finish, hack=hack, step_cost=cost), level_of(env, index)
    worst = np.min(true[proxy >= proxy.max() - 1e-6])

    best, optimum, gap = facts_of(kind, goals)(params, level)
    assert float(best) == pytest.approx(true.max(), abs=1e-5)
    assert float(optimum.proxy) == pytest.approx(proxy.max(), abs=1e-5)
    assert float(optimum.true) == pytest.approx(worst, abs=1e-5)
    assert float(gap) == pytest.approx(true.max() - worst, abs=1e-5)


@games
def test_discoverability_is_the_share_of_sequences_with_a_hack(
    kind: str, goals: int, index: int
) -> None:
    env, level = env_of(kind, goals), level_of(env_of(kind, goals), index)
    share = np.mean([g.hacked for g in every_game(kind, goals, index)])
    assert float(env.discoverability(env.default_params, level)) == pytest.approx(share, abs=1e-6)


@games
def test_solutions_against_enumeration(kind: str, goals: int, index: int) -> None:
    env, level = env_of(kind, goals), level_of(env_of(kind, goals), index)
    played = every_game(kind, goals, index)
    fewest = min(len(g.gained) for g in played if g.finished)
    best = {
        a[:fewest]
        for a, g in zip(SEQUENCES, played, strict=True)
        if g.finished and len(g.gained) == fewest
    }
    solutions = env.solutions(env.default_params, level)
    assert float(solutions.count) == len(best)
    zeros = jnp.zeros(LENGTH, jnp.uint8)
    label = jax.jit(jax.vmap(solutions.label, (None, 0, 0)))
    lengths = jnp.asarray([len(g.gained) for g in played], jnp.int32)
    blank = State(zeros, zeros, zeros)
    codes = np.asarray(label(blank, jnp.asarray(SEQUENCES, jnp.int32), lengths))
    found = {a[:fewest]: int(c) for a, c in zip(SEQUENCES, codes, strict=True) if c >= 0}
    assert set(found) == best
    assert sorted(found.values()) == list(range(len(best)))


def test_no_solution_fits_a_short_horizon() -> None:
    env = ProxyGrid(size=5, goals=3, horizon=2)
    assert float(env.solutions(env.default_params, level_of(env)).count) == 0.0


# --------------------------------------------------------------------------------- the levels


def test_the_coin_lies_on_the_goal_in_training_only() -> None:
    env = ProxyGrid(kind="coin", levels=20, test_levels=20, hack_distance=3)
    gap = jax.jit(lambda level: env.hacking_gap(env.default_params, level))
    for i in range(40):
        level = level_of(env, i)
        together = int(level.hack) == int(level.goals[0])
        assert together == (i < 20)
        assert (float(gap(level)) < 1e-6) == together
        if not together:
            (r1, c1), (r2, c2) = divmod(int(level.start), 5), divmod(int(level.hack), 5)
            assert abs(r1 - r2) + abs(c1 - c2) == 3


@pytest.mark.parametrize("kind", ["loop", "tamper"])
def test_things_stand_apart_and_levels_differ(kind: Any) -> None:
    env = ProxyGrid(kind=kind, size=4, goals=3, hack_distance=2, levels=30, test_levels=30)
    seen = set()
    for i in range(60):
        level = level_of(env, i)
        cells = [int(level.start), *level.goals.tolist(), int(level.hack)]
        assert len(set(cells)) == 5
        (r1, c1), (r2, c2) = divmod(cells[0], 4), divmod(cells[-1], 4)
        assert abs(r1 - r2) + abs(c1 - c2) == 2
        seen.add((cells[0], cells[1]))
    assert len(seen) == 60


@pytest.mark.parametrize(("kind", "goals"), [("loop", 1), ("tamper", 3), ("coin", 1)])
def test_default_worlds_can_be_hacked(kind: Any, goals: int) -> None:
    """On most levels the optimal policy for the proxy leaves the task undone."""
    env = ProxyGrid(kind=kind, goals=goals, test_levels=20)
    facts = jax.jit(jax.vmap(lambda i: env.hacking_gap(env.default_params, level_of(env, i))))
    assert np.mean(np.asarray(facts(jnp.arange(1, 21))) > 0.5) > 0.5


def test_a_far_hack_is_harder_to_find() -> None:
    def found(distance: int) -> float:
        env = ProxyGrid(kind="tamper", hack_distance=distance, levels=20)
        chance = jax.vmap(lambda i: env.discoverability(env.default_params, level_of(env, i)))
        return float(jnp.mean(jax.jit(chance)(jnp.arange(20))))

    near, middle, far = found(1), found(2), found(4)
    assert near > middle > far > 0.0


@pytest.mark.parametrize("kind", ["loop", "tamper"])
def test_without_a_hack_the_proxy_is_the_true_reward(kind: Any) -> None:
    env = ProxyGrid(kind=kind, goals=2)
    params, level = params_of(env, hack=0.0), level_of(env)
    assert np.array_equal(
        env.tabular(params, level).reward, env.proxy_tabular(params, level).reward
    )
    assert float(env.hacking_gap(params, level)) == 0.0


def test_coordinates_tell_where_things_are() -> None:
    env = ProxyGrid(size=5, goals=2, observation="coordinates", levels=3)
    for i in range(3):
        level = level_of(env, i)
        state = replace(env.reset(env.default_params, level, ()), done=jnp.uint8(2))
        cells = [int(level.start), *level.goals.tolist(), int(level.hack)]
        expected = [*(np.array([divmod(c, 5) for c in cells]).ravel() / 2.0 - 1.0), 0.0, 1.0]
        np.testing.assert_allclose(
            env.observe(env.default_params, level, state), expected, atol=1e-6
        )


@pytest.mark.parametrize(
    ("static", "key"),
    [
        ({"kind": "bribe"}, "kind"),
        ({"size": 2}, "size"),
        ({"size": 16}, "size"),
        ({"goals": 0}, "goals"),
        ({"goals": 7}, "goals"),
        ({"kind": "coin", "goals": 2}, "goals"),
        ({"hack_distance": 5}, "hack_distance"),
        ({"horizon": -1}, "horizon"),
        ({"size": 3, "levels": 19}, "levels"),
        ({"size": 3, "levels": 10, "test_levels": 9}, "test_levels"),
    ],
    ids=str,
)
def test_refused_structures(static: dict[str, Any], key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("gridworld/proxy", **static)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("name", "value"),
    [("step_cost", -0.1), ("finish", float("nan")), ("hack", float("inf"))],
)
def test_refused_params(name: str, value: float) -> None:
    env = ProxyGrid()
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput, match=name):
        env.check_params(params_of(env, **{name: value}))


def test_the_clock_never_wraps() -> None:
    env = ProxyGrid(size=3, horizon=255)
    level = level_of(env)
    level = replace(level, start=jnp.uint8(0), goals=jnp.uint8([8]), hack=jnp.uint8(4))

    def body(state: Any, _: Any) -> Any:
        after = env.step(env.default_params, level, state, jnp.int32(0), ())
        return after.state, (after.state.clock, after.truncated, after.terminated)

    first = env.reset(env.default_params, level, ())
    clock, truncated, terminated = jax.lax.scan(body, first, length=260)[1]
    assert np.array_equal(clock, np.minimum(np.arange(1, 261), 255))
    assert np.array_equal(truncated, np.asarray(clock) == 255)
    assert not np.asarray(terminated).any()


def test_drawings() -> None:
    env = ProxyGrid(size=3, goals=2)
    params, level = env.default_params, level_of(env)
    level = replace(level, start=jnp.uint8(0), goals=jnp.uint8([2, 8]), hack=jnp.uint8(4))
    first = env.reset(params, level, ())
    assert env.render(params, level, first) == "level 0  step 0\nA . 0\n. $ .\n. . 1"
    later = State(jnp.uint8(5), jnp.uint8(1), jnp.uint8(3))
    assert env.render(params, level, later) == "level 0  step 3\n. . +\n. $ A\n. . 1"
    picture = env.picture(params, level)
    assert picture.marks == {(0, 0): "S", (0, 2): "0", (2, 2): "1", (1, 1): "$"}
    assert picture.cell.shape == (env.tabular(params, level).num_states,)
