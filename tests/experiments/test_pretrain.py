"""Base policies do exactly what was prescribed, and come back from the cache bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest

from jaxrl_lab import policies
from jaxrl_lab.exact import solutions
from jaxrl_lab.experiments import pass_rate, pretrain
from jaxrl_lab.experiments.pass_rate import pass_rates, prompt_ids
from jaxrl_lab.experiments.pretrain import BaseSpec, base_policy

BANDIT = {"prompts": 12, "test_prompts": 3, "arms": 8, "modes": 3, "decoys": 2}
FEATURES = {"prompts": 12, "arms": 8, "modes": 3, "observation": "features"}
SMALL = {"modulus": 5, "vocabulary": 5, "length": 3}
AFFINE = SMALL | {"operators": "affine", "prompts": 15, "test_prompts": 5}
TOKENS = AFFINE | {"operators": "add", "observation": "tokens"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JAXRL_LAB_CACHE", str(tmp_path))
    return tmp_path / "base"


def world(env_id: str, static: dict[str, Any]) -> tuple[Any, Any]:
    env = je.make(env_id, **static)
    return env, env.default_params


def prescribed(env: Any, params: Any, split: str = "train") -> np.ndarray:
    rate = jax.jit(jax.vmap(lambda i: env.pass_rate(params, env.make_level(params, i))))
    return np.asarray(rate(prompt_ids(env, split)))


def bandit_rows(env: Any, params: Any, table: Any) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities ``[B, K]`` and which arms are correct."""
    ids = prompt_ids(env, "train")
    good = jax.jit(jax.vmap(lambda i: env.correct(env.make_level(params, i))))(ids)
    return np.exp(table["logits"])[np.asarray(ids)], np.asarray(good)


def same_bits(a: Any, b: Any) -> bool:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs)


# ------------------------------------------------------------------ tabular: exact


@pytest.mark.parametrize(
    "fields",
    [{}, {"prior": "incorrect", "prior_strength": 5.0}],
    ids=str,
)
@pytest.mark.parametrize(
    ("env_id", "static"),
    [("bandit/modes", BANDIT), ("reasoning/modular_chain", AFFINE)],
    ids=["bandit", "chain"],
)
def test_tabular_pass_rates_are_as_prescribed(
    env_id: str, static: dict[str, Any], fields: dict[str, Any]
) -> None:
    """Train and test rows, whatever the prior; mean over the table is not enough: per prompt."""
    env, params = world(env_id, static)
    params = replace(params, hardest=jnp.float32(1e-3), easiest=jnp.float32(0.99))
    policy = policies.make("tabular", env, value=True)
    base = base_policy(policy, env, params, BaseSpec(**fields))
    for split in ("train", "test"):
        reached = pass_rates(policy, env, params, base, split)
        np.testing.assert_allclose(reached, prescribed(env, params, split), atol=1e-4, rtol=1e-3)
    assert not np.any(base["value"])
    total = np.exp(base["logits"]).sum(-1)
    written = np.abs(total - 1) < 1e-5
    assert np.all(written | (np.ptp(base["logits"], axis=-1) == 0))


def test_a_constant_spectrum() -> None:
    env, params = world("reasoning/modular_chain", SMALL | {"prompts": 5})
    params = replace(params, hardest=jnp.float32(0.3), easiest=jnp.float32(0.3))
    base = pretrain.pretrain("tabular", env, params)
    reached = pass_rates(policies.make("tabular", env), env, params, base)
    np.testing.assert_allclose(reached, 0.3, atol=1e-5)


def test_without_a_prior_all_solutions_are_equally_likely() -> None:
    """Effective number of solutions exp(H⁺) = number of solutions, also in several steps."""
    env, params = world("bandit/modes", BANDIT)
    p, good = bandit_rows(env, params, pretrain.pretrain("tabular", env))
    share = np.where(good, p, 0.0) / np.sum(np.where(good, p, 0.0), -1, keepdims=True)
    entropy = -np.sum(share * np.log(np.where(good, share, 1.0)), -1)
    np.testing.assert_allclose(entropy, np.log(3), atol=1e-5)

    env, params = world("reasoning/modular_chain", AFFINE)
    base = pretrain.pretrain("tabular", env)
    table = jax.nn.log_softmax(base["logits"])

    def spread(i: Any) -> Any:
        mdp = env.tabular(params, env.make_level(params, i))
        return jnp.exp(solutions.success_entropy(mdp, table)), solutions.solution_count(mdp)

    used, count = jax.jit(jax.vmap(spread))(prompt_ids(env, "train"))
    np.testing.assert_allclose(used, count, rtol=1e-4)


@pytest.mark.parametrize("strength", [1.0, 4.0])
def test_a_correct_prior_adds_its_log_odds(strength: float) -> None:
    env, params = world("bandit/modes", BANDIT)
    base = pretrain.pretrain("tabular", env, prior="correct", prior_strength=strength)
    p, good = bandit_rows(env, params, base)
    for row, right in zip(p, good, strict=True):
        first, *others = row[right]
        np.testing.assert_allclose(np.log(first / np.array(others)), strength, rtol=1e-4)
        assert np.ptp(row[~right]) < 1e-6


def test_an_incorrect_prior_makes_a_wrong_answer_the_likeliest() -> None:
    env, params = world("bandit/modes", BANDIT | {"test_prompts": 0})
    params = replace(params, hardest=jnp.float32(0.05), easiest=jnp.float32(0.6))
    base = pretrain.pretrain("tabular", env, params, prior="incorrect", prior_strength=6.0)
    p, good = bandit_rows(env, params, base)
    top = np.argmax(p, axis=-1)
    levels = jax.jit(jax.vmap(lambda i: env.make_level(params, i)))(prompt_ids(env, "train"))
    reward = np.asarray(levels.reward)
    for b, arm in enumerate(top):
        assert arm == np.flatnonzero(reward[b] == np.float32(0.9))[0], "the first near-optimal arm"
    np.testing.assert_allclose((p * good).sum(-1), prescribed(env, params), atol=1e-5)
    assert np.ptp(np.where(good, p, np.nan)[0][good[0]]) < 1e-6


def test_an_incorrect_prior_prefers_one_wrong_sequence() -> None:
    """Where every token is still right (all but the last), the preferred one is token 0."""
    env, params = world("reasoning/modular_chain", SMALL | {"prompts": 6})
    base = pretrain.pretrain("tabular", env, prior="incorrect", prior_strength=8.0)
    step = jax.jit(lambda level, state, action: env.step(params, level, state, action, ()))
    for i in range(6):
        level = env.make_level(params, jnp.int32(i))
        state = env.reset(params, level, ())
        for t in range(3):
            probs = jax.nn.softmax(base["logits"][env.observe(params, level, state)])
            after = [step(level, state, jnp.int32(a)) for a in range(5)]
            wrong = [a for a in range(5) if not bool(after[a].info["alive"])]
            liked = wrong[0] if wrong else 0
            others = [float(probs[a]) for a in (wrong or range(5)) if a != liked]
            assert float(probs[liked]) > 50 * max(others), (i, t)
            state = after[liked].state


# ------------------------------------------------------------------ networks: fitted


def test_a_network_learns_the_spectrum_of_a_bandit() -> None:
    env, params = world("bandit/modes", FEATURES)
    policy = policies.make("mlp", env, hidden=(32,))
    fields: dict[str, Any] = {"prior": "incorrect", "prior_strength": 3.0, "steps": 800}
    base = pretrain.pretrain(policy, env, tolerance=0.01, learning_rate=1e-2, batch=24, **fields)
    reached = pass_rates(policy, env, params, base)
    assert np.mean(np.abs(reached - prescribed(env, params))) <= 0.01


def test_a_policy_with_memory_learns_the_spectrum_of_a_chain() -> None:
    env, params = world("reasoning/modular_chain", TOKENS)
    policy = policies.make("gru", env, width=32)
    fields: dict[str, Any] = {"learning_rate": 1e-2, "batch": 64}
    base = pretrain.pretrain(policy, env, steps=1200, tolerance=0.05, **fields)
    reached = pass_rates(policy, env, params, base, seed=1)
    assert np.mean(np.abs(reached - prescribed(env, params))) <= 0.06


def test_test_prompts_leave_no_trace() -> None:
    """The same parameters, bit for bit, whether or not there are test prompts."""
    fields: dict[str, Any] = {"steps": 20, "batch": 8, "tolerance": 1.0}
    alone, more = (je.make("bandit/modes", **FEATURES | {"test_prompts": n}) for n in (0, 4))
    assert alone != more
    policy = policies.make("mlp", alone, hidden=(8,))
    a, b = (pretrain.pretrain(policy, env, **fields) for env in (alone, more))
    assert same_bits(a, b)


# ------------------------------------------------------------------ pass rates


def test_exact_and_sampled_rates_agree() -> None:
    """Exact where the state tells the observation; sampled where the observation tells more."""
    static = AFFINE | {"observation": "residue"}
    env, params = world("reasoning/modular_chain", static)
    policy = policies.make("mlp", env, hidden=(8,))
    weights = jax.tree.map(lambda x: 3.0 * x, jax.jit(policy.init)(jax.random.key(2)))
    ids, key = prompt_ids(env, "train"), jax.random.key(0)
    exact, complete = pass_rate._exact_rates(env, policy, params, weights, ids)
    assert bool(jnp.all(complete))
    sampled = pass_rate._sampled_rates(env, policy, params, weights, ids, key, 4096)
    np.testing.assert_allclose(exact, sampled, atol=0.04)  # 5 standard errors
    assert np.array_equal(pass_rates(policy, env, params, weights), exact)
    assert pass_rates(policy, *world("reasoning/modular_chain", static | {"test_prompts": 0}),
                      weights, "test").shape == (0,)  # fmt: skip

    env, params = world("reasoning/modular_chain", TOKENS)
    policy = policies.make("mlp", env, hidden=(8,))
    weights = jax.jit(policy.init)(jax.random.key(2))
    _, complete = pass_rate._exact_rates(env, policy, params, weights, ids)
    assert not bool(jnp.any(complete)), "the last token is shown, and the table does not know it"
    assert np.all(pass_rates(policy, env, params, weights) > 0)


def test_rates_of_a_world_without_a_clock_in_its_table() -> None:
    env, params = world("gridworld/two_goals", {"size": 3, "horizon": 4})
    policy = policies.make("tabular", env)
    uniform = jax.jit(policy.init)(jax.random.key(0))
    (exact,) = pass_rates(policy, env, params, uniform)
    key = jax.random.key(0)
    sampled = pass_rate._sampled_rates(
        env, policy, params, uniform, prompt_ids(env, "train"), key, 8192
    )
    np.testing.assert_allclose(sampled[0], exact, atol=0.03)


# ------------------------------------------------------------------ the cache


def test_the_cache_returns_the_same_bits_without_computing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields: dict[str, Any] = {"steps": 5, "batch": 4, "tolerance": 1.0}
    env = je.make("bandit/modes", **FEATURES)
    policy = policies.make("mlp", env, hidden=(8, 8), value=True)
    first = pretrain.pretrain(policy, env, **fields)
    (file,) = cache.iterdir()
    assert file.suffix == ".npz"
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "_make", lambda *_: pytest.fail("computed again"))
        assert same_bits(pretrain.pretrain(policy, env, **fields), first)
    whole = file.read_bytes()
    for damaged in (b"", b"not an archive", whole[: len(whole) // 2], whole[:60] + b"\0" * 60):
        file.write_bytes(damaged)
        assert same_bits(pretrain.pretrain(policy, env, **fields), first)
        assert [f.name for f in cache.iterdir()] == [file.name], "nothing half-written is left"
        assert file.read_bytes() != damaged
    np.savez(file, other=np.zeros(3))  # a sound archive of something else
    assert same_bits(pretrain.pretrain(policy, env, **fields), first)
    for other in ({"seed": 1}, {"learning_rate": 0.01}):
        assert not same_bits(pretrain.pretrain(policy, env, **fields | other), first)
    assert len(list(cache.iterdir())) == 3


def test_params_of_the_world_are_part_of_the_name(cache: Path) -> None:
    env, params = world("bandit/modes", BANDIT)
    easier = replace(params, hardest=jnp.float32(0.5))
    a, b = (pretrain.pretrain("tabular", env, p) for p in (params, easier))
    assert len(list(cache.iterdir())) == 2
    assert not same_bits(a, b)


def test_without_a_usable_cache_it_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = je.make("bandit/modes", **BANDIT)
    cached = pretrain.pretrain("tabular", env)
    (tmp_path / "file").write_text("")
    for setting in ("off", str(tmp_path / "file")):
        monkeypatch.setenv("JAXRL_LAB_CACHE", setting)
        assert same_bits(pretrain.pretrain("tabular", env), cached)


# ------------------------------------------------------------------ complaints


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"stepz": 3}, "pretrain.stepz"),
        ({"steps": 0}, "pretrain.steps"),
        ({"steps": "many"}, "pretrain.steps"),
        ({"learning_rate": -1.0}, "pretrain.learning_rate"),
        ({"prior": "wrong"}, "pretrain.prior"),
        ({"prior_strength": 2.0}, "pretrain.prior_strength"),
        ({"prior": "correct", "prior_strength": -1.0}, "pretrain.prior_strength"),
        ({"tolerance": 0.0}, "pretrain.tolerance"),
        ({"tolerance": float("nan")}, "pretrain.tolerance"),
        ({"batch": 0}, "pretrain.batch"),
        ({"seed": -1}, "pretrain.seed"),
        ({"spectrum": "flat"}, "pretrain.spectrum"),
    ],
    ids=str,
)
def test_bad_specifications_are_refused_by_name(data: dict[str, Any], key: str) -> None:
    with pytest.raises(je.BadInput) as caught:
        BaseSpec.parse(data)
    assert caught.value.key == key


def test_numbers_written_as_text_are_read() -> None:
    assert BaseSpec.parse({"learning_rate": "1e-3"}).learning_rate == 1e-3


def test_worlds_without_pass_rates_are_refused() -> None:
    with pytest.raises(je.BadInput, match=r"bandit/modes.*reasoning/modular_chain") as caught:
        pretrain.pretrain("tabular", "gridworld/two_goals")
    assert caught.value.key == "pretrain.spectrum"


def test_a_prompt_that_cannot_fail_is_refused() -> None:
    env = je.make("bandit/modes", prompts=2, arms=3, modes=3)
    with pytest.raises(je.BadInput, match="not always solved") as caught:
        pretrain.pretrain("tabular", env)
    assert caught.value.key == "pretrain.spectrum"


def test_a_network_that_has_not_learned_enough_is_refused(cache: Path) -> None:
    env = je.make("bandit/modes", **FEATURES)
    with pytest.raises(je.BadInput, match="after 1 steps") as caught:
        pretrain.pretrain("mlp", env, steps=1, tolerance=0.01)
    assert caught.value.key == "pretrain.tolerance"
    assert not cache.exists()
