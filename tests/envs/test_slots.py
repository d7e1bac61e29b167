"""``bandit/slots`` against enumeration of all sentences, written independently in NumPy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxrl_envs.bandits.slots import Slots

i32, f32 = jnp.int32, jnp.float32
SMALL = {"slots": 4, "vocabulary": 4, "choices": 2, "fork_choices": 1, "forks": 1, "fillers": 1}


def params_of(env: Slots, **given: float) -> Any:
    return replace(env.default_params, **{k: f32(v) for k, v in given.items()})


@partial(jax.jit, static_argnums=0)
def build(env: Slots, index: Any) -> Any:
    return env.make_level(env.default_params, index)


def level_of(env: Slots, index: int = 0) -> Any:
    return build(env, i32(index))


@dataclass(frozen=True)
class Sentence:
    """What a whole sentence is worth, by the words of the docstring."""

    actions: tuple[int, ...]
    scores: tuple[float, ...]

    def pays(self, kind: str, needed: float) -> float:
        right = sum(s == 1.0 for s in self.scores)
        return {
            "conjunction": float(right == len(self.scores)),
            "fraction": sum(self.scores) / len(self.scores),
            "threshold": float(right >= needed),
            "min": min(self.scores),
        }[kind]


def sentences(env: Slots, level: Any, near_score: float) -> list[Sentence]:
    """All of them: T words, or fewer and a stop."""
    rank, T, V = np.asarray(level.rank), env.slots, env.vocabulary
    kinds = env.render(env.default_params, level, env.reset((), level, ())).split()[3]
    sizes = [{"F": env.fork_choices, ".": env.choices, "_": V}[k] for k in kinds]

    def score(t: int, word: int) -> float:
        if rank[t, word] < sizes[t]:
            return 1.0
        return near_score if rank[t, word] < sizes[t] + env.near else 0.0

    found = []
    for length in range(0 if env.stop else T, T + 1):
        for words in itertools.product(range(V), repeat=length):
            scores = [score(t, w) for t, w in enumerate(words)]
            scores += [float(sizes[t] == V) for t in range(length, T)]
            actions = words if length == T else (*words, V)
            found.append(Sentence(actions, tuple(scores)))
    return found


def played(env: Slots, params: Any, level: Any, actions: np.ndarray) -> Any:
    """Rewards and info over time of padded action sequences ``[N, T]``."""

    def one(actions: Any) -> Any:
        def body(state: Any, action: Any) -> Any:
            after = env.step(params, level, state, action, ())
            return after.state, (after.reward, after.info, after.terminated)

        return jax.lax.scan(body, env.reset(params, level, ()), actions)[1]

    return jax.jit(jax.vmap(one))(jnp.asarray(actions, i32))


def padded(env: Slots, found: list[Sentence]) -> tuple[np.ndarray, np.ndarray]:
    """Actions with junk behind their end, and lengths."""
    length = np.array([len(s.actions) for s in found])
    actions = [(*s.actions, *(0,) * (env.slots - len(s.actions))) for s in found]
    return np.array(actions), length


@given(
    vocabulary=st.integers(2, 4),
    slots=st.integers(1, 4),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    forks=st.integers(0, 3),
    fillers=st.integers(0, 3),
    near=st.integers(0, 2),
    stop=st.booleans(),
    kind=st.sampled_from(["conjunction", "fraction", "threshold", "min"]),
    score=st.sampled_from([0.0, 0.25, 0.75]),
    seed=st.integers(0, 5),
)
@settings(max_examples=7, deadline=None)
def test_all_sentences(
    vocabulary: int, slots: int, sizes: tuple[int, int], forks: int, fillers: int, near: int,
    stop: bool, kind: Any, score: float, seed: int,
) -> None:  # fmt: skip
    """Pay, process, solutions, labels, success and the distribution of right slots."""
    choices, fork_choices = (min(m, vocabulary - 1) for m in sizes)
    fillers = min(fillers, slots - 1)
    env = Slots(
        slots=slots, vocabulary=vocabulary, choices=choices, fork_choices=fork_choices,
        forks=min(forks, slots - fillers), fillers=fillers, stop=stop, reward=kind,
        near=min(near, vocabulary - max(choices, fork_choices)), prompts=6,
    )  # fmt: skip
    params, level = params_of(env, near_score=score), level_of(env, seed)
    env.check_params(params)
    needed = float(params.needed)
    found = sentences(env, level, score)
    actions, length = padded(env, found)
    pay = np.array([s.pays(kind, needed) for s in found])

    policy = np.random.RandomState(seed).dirichlet(np.ones(env.action_space.n), slots)

    @jax.jit
    def facts(actions: Any, length: Any, policy: Any) -> Any:
        solutions = env.solutions(params, level)
        label = jax.vmap(solutions.label, (None, 0, 0))
        codes, early = label((), actions, length), label((), actions, length - 1)
        success = env.success(params, level, policy)
        run = played(env, params, level, actions)
        return run, solutions.count, codes, early, env.rights(level, policy), success

    out = facts(jnp.asarray(actions, i32), jnp.asarray(length, i32), f32(policy))
    (reward, info, ended), modes, codes, early, rights, success = jax.tree.map(np.asarray, out)
    last = (np.arange(len(found)), length - 1)
    np.testing.assert_allclose(reward["true"][last], pay, atol=1e-6)
    np.testing.assert_allclose(reward["true"].sum(1), pay, atol=1e-6)
    fraction = [s.pays("fraction", needed) for s in found]
    np.testing.assert_allclose(reward["process"].sum(1), fraction, atol=1e-6)
    assert np.array_equal(ended, np.arange(slots)[None] >= length[:, None] - 1)
    best = pay == 1.0
    assert np.array_equal(info["correct"][last], best)
    assert np.array_equal(info["alive"][last], best)

    assert modes == best.sum()
    assert np.array_equal(codes >= 0, best)
    assert len(np.unique(codes[best])) == best.sum()
    assert np.all(early == -1)

    chance = np.array([np.prod([policy[t, a] for t, a in enumerate(s.actions)]) for s in found])
    count = np.array([sum(x == 1.0 for x in s.scores) for s in found])
    np.testing.assert_allclose(rights, np.bincount(count, chance, slots + 1), atol=1e-5)
    assert success == pytest.approx(chance[best].sum(), abs=1e-5)


def test_the_first_error_is_where_hope_ends() -> None:
    """`alive` turns false at the first step after which no completion pays the optimum."""
    for kind, stop in (("conjunction", False), ("threshold", True)):
        env = Slots(**SMALL, reward=kind, stop=stop)  # type: ignore[arg-type]
        level, params = level_of(env, 3), params_of(env, needed=3.0)
        found = sentences(env, level, 0.5)
        actions, length = padded(env, found)
        alive = np.asarray(played(env, params, level, actions)[1]["alive"])
        good = [s.actions for s in found if s.pays(kind, 3.0) == 1.0]
        for i in range(0, len(found), 7):
            for t in range(length[i]):
                prefix = found[i].actions[: t + 1]
                assert alive[i, t] == any(g[: t + 1] == prefix for g in good)


def test_gradient_of_the_conjunction() -> None:
    """dp/dtheta_{t,a} = p (1[a in C_t]/q_t - 1) pi_t(a)."""
    env = Slots(**SMALL)
    level, params = level_of(env, 1), env.default_params
    theta = np.random.RandomState(0).randn(env.slots, 4)
    policy = np.exp(theta) / np.exp(theta).sum(1, keepdims=True)
    right = np.asarray(env.right(level))
    q = (policy * right).sum(1, keepdims=True)
    expected = np.prod(q) * (right / q - 1.0) * policy
    value = lambda x: env.success(params, level, jax.nn.softmax(x, axis=-1))  # noqa: E731
    np.testing.assert_allclose(jax.grad(value)(f32(theta)), expected, atol=1e-6)


@pytest.mark.parametrize("stop", [False, True])
def test_base_policy_succeeds_as_often_as_prescribed(stop: bool) -> None:
    env = Slots(stop=stop, forks=3, fork_choices=1)
    level, params = level_of(env, 2), env.default_params
    for rate in (1e-4, 0.3, 1.0):
        policy = env.base_policy(level, f32(rate))
        np.testing.assert_allclose(policy.sum(1), 1.0, atol=1e-5)
        assert float(env.success(params, level, policy)) == pytest.approx(rate, rel=1e-4)


def test_the_table_has_the_value_of_a_slot_policy() -> None:
    """Evaluation of the whole table against Π q_t, at a size nobody can enumerate."""
    env = Slots(slots=12, vocabulary=16, choices=8, fork_choices=4, forks=3, fillers=5)
    level, params = level_of(env, 5), env.default_params
    mdp = jax.jit(env.tabular)(params, level)
    policy = np.random.RandomState(1).dirichlet(np.ones(16), 12)
    at = policy[np.asarray(mdp.row) - 5 * 12]
    value = np.zeros(mdp.num_states)
    for _ in range(12):
        ahead = np.where(np.asarray(mdp.terminal)[mdp.next], 0.0, value[np.asarray(mdp.next)])
        value = (at * (np.asarray(mdp.reward) + ahead)).sum(1)
        value[np.asarray(mdp.terminal)] = 0.0
    assert value[0] == pytest.approx(float(env.success(params, level, f32(policy))), rel=1e-4)
    assert value[0] > 0


def test_kinds_of_slots_are_as_many_as_asked_and_mixed() -> None:
    env = Slots(slots=12, forks=4, fillers=4)
    right = np.asarray(jax.vmap(lambda i: env.right(build(env, i)))(jnp.arange(64)))
    sizes = right.sum(2)
    assert np.all(sizes == sizes[0])
    assert sorted(sizes[0].tolist()) == [2] * 4 + [4] * 4 + [8] * 4
    assert sizes[0].tolist() != sorted(sizes[0].tolist())
    share = right[:, sizes[0] == 2].mean((0, 1))  # which words are right changes with the prompt
    assert np.all(np.abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / (64 * 4)))
    stopped = Slots(slots=12, forks=4, fillers=4, stop=True)
    assert np.asarray(stopped.right(level_of(stopped))).sum(1)[-4:].tolist() == [9] * 4


def test_the_fork_flag_marks_the_word_just_written() -> None:
    env = Slots(**SMALL)
    level, params = level_of(env), env.default_params
    fork = np.asarray(played(env, params, level, np.zeros((1, 4), int))[1]["fork"][0])
    assert np.array_equal(fork, np.asarray(env.right(level)).sum(1) == 1)


def test_counts_and_codes_of_long_sentences() -> None:
    """Modes are the product of m_t; codes that do not fit are refused, counts are not."""
    env = Slots(slots=64, vocabulary=64, choices=1, forks=10, fillers=0)
    solutions = env.solutions(env.default_params, level_of(env))
    assert float(solutions.count) == 2.0**10
    level = level_of(env)
    best = jnp.argsort(level.rank, axis=1)[:, 0].astype(i32)
    assert int(solutions.label((), best, i32(64))) == 0
    wide = Slots(slots=64, vocabulary=64, choices=2)
    solutions = wide.solutions(wide.default_params, level_of(wide))
    assert float(solutions.count) == 64.0**4 * 2.0**60
    with pytest.raises(je.BadInput, match="slots"):
        solutions.label((), best, i32(64))


def test_features_tell_prompt_and_slot() -> None:
    env = Slots(**SMALL, observation="features", features=3, prompts=2)
    params = env.default_params
    for i in range(2):
        level = level_of(env, i)
        state = env.reset(params, level, ())
        for t in range(5):
            obs = np.asarray(env.observe(params, level, state))
            np.testing.assert_array_equal(obs[:3], level.features)
            np.testing.assert_array_equal(obs[3:], np.eye(4)[min(t, 3)])
            state = env.step(params, level, state, i32(0), ()).state


def test_render() -> None:
    env = Slots(**SMALL, near=1, stop=True)
    level, params = level_of(env, 7), env.default_params
    state = env.reset(params, level, ())
    text = env.render(params, level, state)
    assert text.split()[3].endswith("_")
    assert sorted(text.split()[3]) == sorted("F.._")
    state = env.step(params, level, state, i32(env.vocabulary), ()).state
    assert env.render(params, level, state).endswith("step 4/4  right 1  near 0")


BAD = [
    ("slots", {"slots": 0}), ("slots", {"slots": 65}), ("vocabulary", {"vocabulary": 1}),
    ("choices", {"choices": 8}), ("fork_choices", {"fork_choices": 0}),
    ("fillers", {"fillers": 8}), ("forks", {"forks": 5}), ("near", {"near": 5}),
    ("reward", {"reward": "sum"}), ("observation", {"observation": "tokens"}),
    ("features", {"features": 0}), ("prompts", {"prompts": 0}),
    ("test_prompts", {"test_prompts": -1}),
]  # fmt: skip


@pytest.mark.parametrize(("key", "static"), BAD, ids=str)
def test_bad_structure_is_refused_by_name(key: str, static: Any) -> None:
    with pytest.raises(je.BadInput) as caught:
        je.make("bandit/slots", **static)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("key", "value"), [("near_score", 1.0), ("near_score", -0.1), ("needed", 4), ("needed", 9)]
)
def test_bad_params_are_refused_by_name(key: str, value: float) -> None:
    env = Slots()
    env.check_params(env.default_params)
    with pytest.raises(je.BadInput) as caught:
        env.check_params(params_of(env, **{key: value}))
    assert caught.value.key == key


def test_min_without_near_misses_is_the_conjunction() -> None:
    outcomes = []
    for kind in ("min", "conjunction"):
        env = Slots(**SMALL, reward=kind)  # type: ignore[arg-type]
        level = level_of(env)
        actions, _ = padded(env, sentences(env, level, 0.5))
        outcomes.append(np.asarray(played(env, env.default_params, level, actions)[0]["true"]))
    assert np.array_equal(*outcomes)
    assert outcomes[0].any()


def test_levels_are_cheap_to_batch() -> None:
    env = Slots(prompts=3)
    levels = jax.vmap(partial(env.make_level, env.default_params))(jnp.arange(3))
    assert levels.rank.dtype == jnp.uint8
    assert levels.rank.shape == (3, 8, 8)
    assert np.all(np.sort(levels.rank, axis=2) == np.arange(8))
