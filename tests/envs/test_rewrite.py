"""``reasoning/rewrite`` against rewriting of Python text, and enumeration."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs.reasoning.rewrite import Rewrite, State
from jaxrl_envs.testing import CHECKS
from world_cases import World

SYSTEMS = {
    "confluent": "ba>ab ca>ac da>ad cb>bc db>bd dc>cd aa>a dd>d",
    "non_confluent": "ab>c bc>d cd>a da>b ba>ab cb>bc dc>cd ad>da",
    "reversible": "ab>ba ba>ab cd>dc dc>cd aa>c c>aa bb>d d>bb",
}
every_system = pytest.mark.parametrize("system", SYSTEMS)


def strings(longest: int) -> list[str]:
    return ["".join(x) for n in range(longest + 1) for x in itertools.product("abcd", repeat=n)]


def act(system: str, longest: int, text: str, action: int) -> str | None:
    """What an action makes of a string; None where it is illegal."""
    rule, position = divmod(action, longest)
    left, right = SYSTEMS[system].split()[rule].split(">")
    if not text[position:].startswith(left):
        return None
    made = text[:position] + right + text[position + len(left) :]
    return made if len(made) <= longest else None


@cache
def moves(system: str, longest: int, text: str) -> dict[int, str]:
    made = {a: act(system, longest, text, a) for a in range(8 * longest)}
    return {a: x for a, x in made.items() if x is not None}


@cache
def ways(system: str, longest: int, text: str, goal: str, steps: int) -> int:
    """Derivations of the goal in at most that many steps."""
    if text == goal:
        return 1
    if steps == 0:
        return 0
    ahead = moves(system, longest, text).values()
    return sum(ways(system, longest, x, goal, steps - 1) for x in ahead)


def visited(system: str, longest: int, start: str, steps: int, stop: str = "-") -> set[str]:
    seen, edge = {start}, {start}
    for _ in range(steps):
        edge = {x for y in edge if y != stop for x in moves(system, longest, y).values()} - seen
        seen |= edge
    return seen


def pack(texts: list[str], clock: int = 0) -> State:
    letters = [sum("abcd".index(c) * 4**i for i, c in enumerate(x)) for x in texts]
    return State(
        jnp.array(letters, jnp.uint16),
        jnp.array([len(x) for x in texts], jnp.uint8),
        jnp.full(len(texts), clock, jnp.uint8),
    )


def unpack(letters: Any, length: Any) -> str:
    return "".join("abcd"[int(letters) // 4**i % 4] for i in range(int(length)))


def params_of(env: Rewrite, **given: float) -> Any:
    return replace(env.default_params, **{k: jnp.float32(v) for k, v in given.items()})


@cache
def levels_of(env: Rewrite) -> Any:
    ids = jnp.arange(env.prompts + env.test_prompts)
    return jax.jit(jax.vmap(partial(env.make_level, env.default_params)))(ids)


def level_of(env: Rewrite, i: int) -> tuple[Any, str, str]:
    """A level, and its start and goal as text."""
    level = jax.tree.map(lambda x: x[i], levels_of(env))
    start, goal = (level.start, level.start_length), (level.goal, level.goal_length)
    return level, unpack(*start), unpack(*goal)


@pytest.mark.parametrize(("system", "longest"), [*((s, 4) for s in SYSTEMS), ("reversible", 8)])
def test_every_action_on_every_string(system: str, longest: int) -> None:
    env = Rewrite(system=system, max_length=longest, prompts=1)
    level, _, goal = level_of(env, 0)
    texts = strings(4)
    if longest > 4:
        rng = np.random.default_rng(0)
        texts = ["".join(rng.choice(list("abcd"), rng.integers(5, 9))) for _ in range(300)]
    texts = [x for x in texts if x != goal]
    step = jax.vmap(partial(env.step, env.default_params, level), (0, None, None))
    both = jax.jit(jax.vmap(step, (None, 0, None)))
    after = jax.device_get(both(pack(texts), jnp.arange(env.action_space.n), ()))
    legal = 0
    for a in range(env.action_space.n):
        for i, text in enumerate(texts):
            expected = act(system, longest, text, a)
            legal += expected is not None
            made = unpack(after.state.letters[a, i], after.state.length[a, i])
            assert made == (text if expected is None else expected)
            assert bool(after.reward["process"][a, i] == 1.0) == (expected is not None)
    assert float(after.reward["proxy"].sum()) == legal > 0
    assert np.all(np.abs(after.reward["process"]) == 1.0)


@pytest.mark.parametrize(("system", "ends"), [("confluent", 1), ("non_confluent", 4)])
def test_what_the_terminating_systems_promise(system: str, ends: int) -> None:
    """All derivations end; in one string, or in up to four."""

    @cache
    def normal_forms(text: str) -> frozenset[str]:  # an endless derivation would not return
        ahead = [normal_forms(x) for x in moves(system, 5, text).values()]
        return frozenset().union(*ahead) if ahead else frozenset([text])

    most = max(len(normal_forms(x)) for x in strings(5))
    assert most == 1 if ends == 1 else most >= ends


def test_every_reversible_step_can_be_undone() -> None:
    for text in strings(5):
        for made in moves("reversible", 5, text).values():
            assert text in moves("reversible", 5, made).values()


@pytest.mark.parametrize("longest", [4, 8])
@every_system
def test_prompts_can_be_solved(system: str, longest: int) -> None:
    env = Rewrite(system=system, max_length=longest, prompts=12, test_prompts=6)
    starts = set()
    for i in range(18):
        _, start, goal = level_of(env, i)
        starts.add(start)
        assert start != goal
        assert goal in visited(system, longest, start, env.horizon)
        assert system == "reversible" or not moves(system, longest, goal)
    assert len(starts) == 18
    more = Rewrite(system=system, max_length=longest, prompts=40)
    assert level_of(more, 17)[1:] == level_of(env, 17)[1:], "a prompt depends on its id alone"


@given(
    system=st.sampled_from(list(SYSTEMS)),
    longest=st.integers(2, 4),
    horizon=st.integers(1, 7),
    prompt=st.integers(0, 3),
)
@settings(max_examples=10, deadline=None)
def test_facts_of_any_structure(system, longest, horizon, prompt) -> None:  # type: ignore[no-untyped-def]
    env = Rewrite(system=system, max_length=longest, horizon=horizon, prompts=4)
    level, start, goal = level_of(env, prompt)
    texts = strings(longest)

    @jax.jit
    def facts() -> Any:
        params = env.default_params
        count = env.solutions(params, level).count
        return count, env.distance(level), env.reachable(params, level)

    count, distance, reachable = facts()
    number = np.asarray(jax.vmap(partial(env.state_index, None, level))(pack(texts)))
    assert sorted(number) == list(range(len(texts)))
    assert float(count) == ways(system, longest, start, goal, horizon) > 0
    for text, n in zip(texts, number, strict=True):
        found = [j for j in range(horizon + 1) if ways(system, longest, text, goal, j)]
        assert int(distance[n]) == min(found, default=horizon + 1)
    seen = visited(system, longest, start, horizon, stop=goal)
    assert {x for x, n in zip(texts, number, strict=True) if reachable[n]} == seen


def test_number_of_reduced_words() -> None:
    """Sorting dcba by 6 swaps of neighbors: 16 ways, the reduced words of the longest in S_4."""
    assert ways("confluent", 4, "dcba", "abcd", 6) == 16
    assert ways("confluent", 4, "dcba", "abcd", 5) == 0
    env = Rewrite(max_length=4, prompts=300)
    for i in range(300):
        level, start, goal = level_of(env, i)
        if start == "dcba":
            assert goal == "abcd"
            assert float(env.solutions(env.default_params, level).count) == 16.0
            return
    raise AssertionError("dcba is among the starts")


@every_system
def test_labels_number_all_derivations(system: str) -> None:
    """Every sequence of up to 4 actions of strings of up to 3 letters, 24^4 and fewer."""
    env = Rewrite(system=system, max_length=3, horizon=4, prompts=6)
    pick = [ways(system, 3, *level_of(env, i)[1:], 4) for i in range(6)]
    level, start, goal = level_of(env, int(np.argmax(pick)))
    assert max(pick) >= 2
    solutions = env.solutions(env.default_params, level)
    label = jax.jit(jax.vmap(lambda a, n: solutions.label((), a, n), (0, None)))
    coded = []
    for length in range(1, 5):
        sequences = np.stack(np.unravel_index(np.arange(24**length), (24,) * length), axis=1)
        padded = np.pad(sequences, ((0, 0), (0, 5 - length)), constant_values=1)
        codes = np.asarray(label(jnp.asarray(padded, jnp.int32), jnp.int32(length)))
        for row in np.flatnonzero(codes >= 0):
            path, text = sequences[row].tolist(), start
            for action in path:
                assert text != goal
                text = moves(system, 3, text)[action]
            assert text == goal
            coded.append((path, codes[row]))
    assert len(coded) == float(solutions.count) == max(pick)
    assert [code for _, code in sorted(coded)] == list(range(max(pick)))
    longer = jnp.asarray(np.pad(coded[0][0], (0, 6)), jnp.int32)
    assert int(solutions.label((), longer, jnp.int32(5))) == -1


def test_traps_are_where_derivations_part() -> None:
    """With steps enough, no string of a confluent system is lost, and some of the other are."""
    lost = {}
    for system in ("confluent", "non_confluent"):
        env = Rewrite(system=system, max_length=4, horizon=20, prompts=60)

        def dead(level: Any, env: Rewrite = env) -> Any:
            seen = env.reachable(env.default_params, level)
            return jnp.any(seen & (env.distance(level) > env.horizon))

        lost[system] = float(jnp.mean(jax.jit(jax.vmap(dead))(levels_of(env))))
    assert lost["confluent"] == 0.0
    assert 0.2 < lost["non_confluent"] < 1.0


@every_system
def test_episodes_of_random_actions(system: str) -> None:
    """Channels, flags and `alive` at every step, against text; legal actions are favored."""
    env = Rewrite(system=system, max_length=4, horizon=5, prompts=5)
    rng, params = np.random.default_rng(1), env.default_params
    step = jax.jit(partial(env.step, params))
    won = first_errors = 0
    for episode in range(40):
        level, text, goal = level_of(env, episode % 5)
        state, over, alive = env.reset(params, level, ()), False, True
        for t in range(env.horizon + 2):
            options = list(moves(system, 4, text))
            legal_wanted = options and rng.random() < 0.7
            action = int(rng.choice(options) if legal_wanted else rng.integers(32))
            made = moves(system, 4, text).get(action)
            after = step(level, state, jnp.int32(action), ())
            if not over and made is not None:
                text = made
            left = max(env.horizon - t - 1, 0)
            now = {k: float(v) for k, v in after.reward.items()}
            verdict = 0.0 if over else (1.0 if made is not None else -1.0)
            expected = {"true": float(text == goal and not over), "process": verdict}
            assert now == expected | {"proxy": max(verdict, 0.0)}
            assert unpack(after.state.letters, after.state.length) == text
            assert bool(after.terminated) == bool(after.info["correct"]) == (text == goal)
            assert int(after.info["mode_id"]) == (0 if text == goal else -1)
            assert bool(after.truncated) == (int(after.state.clock) >= env.horizon)
            possible = ways(system, 4, text, goal, left) > 0
            assert bool(after.info["alive"]) == possible
            first_errors += alive and not possible
            won += now["true"] == 1.0
            over = over or bool(after.terminated) or bool(after.truncated)
            state, alive = after.state, possible
    assert won > 0
    assert first_errors > 0


def test_the_last_step_may_reach_the_goal() -> None:
    env = Rewrite(max_length=4, horizon=3, prompts=30)
    prompts = [level_of(env, i) for i in range(30)]
    level, text, goal = next(p for p in prompts if not ways("confluent", 4, p[1], p[2], 2))
    state, flags = env.reset(env.default_params, level, ()), []
    for left in (2, 1, 0):
        options = moves("confluent", 4, text).items()
        action, text = next((a, x) for a, x in options if ways("confluent", 4, x, goal, left))
        after = env.step(env.default_params, level, state, jnp.int32(action), ())
        state = after.state
        flags.append((bool(after.terminated), bool(after.truncated)))
    assert flags == [(False, False), (False, False), (True, True)]


def test_verdicts_have_their_rates() -> None:
    env = Rewrite(system="reversible", max_length=3, prompts=1, noisy=True)
    params = params_of(env, false_positive=0.3, false_negative=0.1)
    level, start, _ = level_of(env, 0)
    n, state = 100_000, env.reset(params, level, ())
    noise = env.draw(jax.random.key(0), (n,))
    step = jax.jit(jax.vmap(partial(env.step, params, level, state), (None, 0)))
    ahead = moves("reversible", 3, start)
    good, bad = min(ahead), min(set(range(24)) - set(ahead))
    for action, praised in ((good, 0.9), (bad, 0.3)):
        after = step(jnp.int32(action), noise)
        assert set(np.unique(after.reward["process"])) == {-1.0, 1.0}
        assert abs(np.mean(after.reward["process"] == 1.0) - praised) < 0.008
        assert np.all(np.asarray(after.reward["proxy"]) == float(action == good))


def test_long_strings_without_tables() -> None:
    """Strings of 8 letters keep all promises that need no table, and refuse the others by name."""
    static = {"max_length": 8, "observation": "letters", "prompts": 6, "test_prompts": 2}
    case = World(
        "reasoning/rewrite", static, (jnp.uint16, jnp.uint8, jnp.uint8), other={"hardest": 0.1}
    )
    for name in (
        "observations_stay_in_their_space",
        "state_is_packed_and_keeps_its_types",
        "finished_episodes_stand_still",
        "vmapped_equals_looped_and_jit_equals_plain",
        "splits_are_disjoint_and_levels_differ",
    ):
        CHECKS[name](case)
    env = case.make()
    params, (level, _, _) = env.default_params, level_of(env, 0)
    after = env.step(params, level, env.reset(params, level, ()), jnp.int32(0), ())
    assert set(after.info) == {"correct", "mode_id"}
    for refused in (env.tabular, env.solutions, env.reachable):
        with pytest.raises(je.BadInput, match="max_length"):
            refused(params, level)
    with pytest.raises(je.BadInput, match="max_length"):
        env.distance(level)


def test_too_many_derivations_to_number() -> None:
    env = Rewrite(system="reversible", horizon=40)
    with pytest.raises(je.BadInput, match="horizon"):
        env.solutions(env.default_params, level_of(env, 0)[0])


def test_letters_show_the_string_and_the_goal() -> None:
    env = Rewrite(system="non_confluent", max_length=5, observation="letters", prompts=30)
    params = env.default_params
    for i in range(30):
        level, start, goal = level_of(env, i)
        obs = env.observe(params, level, env.reset(params, level, ()))
        numbers = [[1 + "abcd".index(c) for c in x] + [0] * (5 - len(x)) for x in (start, goal)]
        assert obs.tolist() == numbers[0] + numbers[1]


@pytest.mark.parametrize(
    ("static", "key"),
    [({"system": "confluents"}, "system"), ({"max_length": 1}, "max_length"),
     ({"max_length": 9}, "max_length"), ({"horizon": 0}, "horizon"), ({"horizon": 255}, "horizon"),
     ({"prompts": 0}, "prompts"), ({"max_length": 2, "prompts": 30}, "prompts"),
     ({"test_prompts": -1}, "test_prompts"), ({"observation": "text"}, "observation"),
     ({"max_length": 2, "prompts": 4, "test_prompts": 30}, "test_prompts")],
    ids=str,
)  # fmt: skip
def test_bad_structure_is_refused(static: Any, key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("reasoning/rewrite", **static)
    assert (caught.value.key, caught.value.value) == (key, static[key])


def test_all_starts_there_are() -> None:
    """Two letters: the 8 strings that a confluent rule applies to, and no ninth prompt."""
    env = Rewrite(max_length=2, prompts=8)
    movable = {x for x in strings(2) if moves("confluent", 2, x)}
    assert {level_of(env, i)[1] for i in range(8)} == movable
    with pytest.raises(je.BadInput, match="1 to 8"):
        Rewrite(max_length=2, prompts=9)


@pytest.mark.parametrize(
    ("noisy", "name", "value"),
    [(False, "false_positive", 0.1), (False, "false_negative", 0.1), (True, "false_negative", 1.5),
     (True, "false_positive", -0.1), (True, "hardest", 0.0), (True, "easiest", 1.0)],
)  # fmt: skip
def test_bad_params_are_refused(noisy: bool, name: str, value: float) -> None:
    env = Rewrite(noisy=noisy)
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput) as caught:
        env.check_params(params_of(env, **{name: value}))
    assert caught.value.key == name


def test_render() -> None:
    env = Rewrite(max_length=3, prompts=2)
    level, start, goal = level_of(env, 1)
    state = replace(env.reset(env.default_params, level, ()), clock=jnp.uint8(2))
    text = env.render(env.default_params, level, state)
    rules = SYSTEMS["confluent"].replace(">", "→")
    assert text == f"prompt 1  {start} → {goal}  step 2/8  string {start}  rules {rules}"
