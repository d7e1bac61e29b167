"""What a run leaves behind: policies of any moment, runs put together, text, arrays, logs."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pandas as pd
import pytest
from experiment_cases import GROUP, PROMPTS, BreakAt, experiment
from experiment_cases import light as light
from jaxrl_envs import BadInput

import jaxrl_lab as lab
from jaxrl_lab.experiments import store
from jaxrl_lab.experiments.noise import Noise
from jaxrl_lab.experiments.policy_view import PolicyView
from jaxrl_lab.experiments.result import Result, assemble

ACTIONS, UPDATES = 6, 6
ARMS = {"slow": {}, "fast, ü": {"recipe.optimizer.learning_rate": 2.0}}


def probabilities(env: Any, policy: Any, world: Any, first: Any, before: Any, after: Any) -> Any:
    """What the policy does at the first two prompts, ``[2, K]``."""
    return {"pi": jax.nn.softmax(after.params["logits"][:2], axis=-1)}


DESCRIBE = {"pi": ("probability", "of each arm at two prompts", ("prompt", "action"))}
OPTIONS: dict[str, Any] = {"updates": UPDATES, "every": 2, "measure": probabilities}


def trained(seeds: Any = 3, arms: Any = None, **options: Any) -> Result:
    what = experiment(ARMS if arms is None else arms, actions=ACTIONS)
    given = OPTIONS | {"seeds": seeds, "describe": DESCRIBE} | options
    return lab.sweep(what, {"recipe.group": [GROUP]}, **given)


@pytest.fixture(scope="module")
def result() -> Result:
    return trained()


def first_arm(result: Result) -> str:
    return next(iter(result.arms))


# ---------------------------------------------------------------- arrays as measures


def test_a_measure_may_be_an_array_with_named_dimensions(result: Result) -> None:
    pi = result.dataset["pi"]
    assert pi.dims == ("arm", "seed", "update", "prompt", "action")
    assert pi.shape == (2, 3, UPDATES // 2 + 1, 2, ACTIONS)
    assert (pi.attrs["units"], pi.attrs["description"]) == DESCRIBE["pi"][:2]
    np.testing.assert_allclose(pi.sum("action"), 1.0, atol=1e-6)
    arm = first_arm(result)
    assert result.curve("pi", arm).shape == pi.shape[1:]
    end = jax.nn.softmax(result.params[arm]["logits"][:, :2], axis=-1)
    np.testing.assert_allclose(result.curve("pi", arm)[:, -1], end, atol=1e-6)


def test_dimensions_without_names_are_numbered_and_wrong_ones_refused() -> None:
    values = np.arange(24.0).reshape(2, 3, 4)
    made = assemble({"a": {"pi": values}}, {"a": np.array([-1, -1])}, (0, 1), 1, {})
    assert made["pi"].dims[3:] == ("pi_0",)
    with pytest.raises(BadInput, match=r"describe.pi = \['prompt'\]: expected the names of 2"):
        trained(1, describe={"pi": ("probability", "of each arm", ("prompt",))})


def test_an_array_of_a_frozen_member_is_blank() -> None:
    values, stopped = np.ones((2, 3, 4)), {"a": np.array([-1, 2])}
    pi = assemble({"a": {"pi": values}}, stopped, (0, 1), 2, {})["pi"].values[0]
    assert np.isfinite(pi[0]).all()
    assert np.isfinite(pi[1, :2]).all()
    assert np.isnan(pi[1, 2:]).all()


# ---------------------------------------------------------------- the policy of a moment


def test_the_last_policy_is_the_one_that_was_kept(result: Result) -> None:
    for arm, (i, seed) in itertools.product(result.arms, enumerate(result.seeds)):
        kept = result.params[arm]["logits"][i]
        for found in (result.policy(arm, seed), result.policy(arm, seed, UPDATES)):
            np.testing.assert_array_equal(found.params["logits"], kept)


@pytest.mark.parametrize("common", [True, False])
def test_an_earlier_policy_is_the_one_that_was_measured(result: Result, common: bool) -> None:
    ran = result if common else trained(2, common_noise=False)
    for arm, (i, seed) in itertools.product(ran.arms, enumerate(ran.seeds)):
        for point, update in enumerate(ran.update):
            pi = np.exp(ran.policy(arm, seed, int(update)).table()[:2])
            np.testing.assert_allclose(pi, ran.curve("pi", arm)[i, point], atol=1e-5)


def test_trained_again_to_the_end_it_is_the_same(result: Result) -> None:
    bare = replace(result, params={})
    for arm in result.arms:
        again = bare.policy(arm, 2)
        np.testing.assert_allclose(
            again.params["logits"], result.params[arm]["logits"][2], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"arm": "slo"}, "arm"),
        ({"seed": 3}, "seed"),
        ({"update": UPDATES + 1}, "update"),
        ({"update": -1}, "update"),
    ],
)
def test_moments_outside_the_run_are_refused(
    result: Result, change: dict[str, Any], key: str
) -> None:
    with pytest.raises(BadInput) as caught:
        result.policy(**({"arm": first_arm(result), "seed": 0, "update": 0} | change))
    assert (caught.value.key, caught.value.value) == (key, change[key])


def test_curves_alone_say_what_they_lack(result: Result) -> None:
    with pytest.raises(BadInput, match=r"arm = 'slow': expected an arm .* can train again"):
        Result(result.dataset).policy("slow", 0)


# ---------------------------------------------------------------- what a policy in the hand does


@pytest.fixture(scope="module")
def view(result: Result) -> PolicyView:
    return result.policy(first_arm(result), 1)


def test_play_samples_from_the_policy(view: PolicyView) -> None:
    batch = view.play([2, 0], rollouts=4000, seed=5)
    assert batch.action.shape == (2, 4000, 1)
    pi = np.exp(view.table())
    for row, prompt in enumerate((2, 0)):
        share = np.bincount(np.asarray(batch.action[row, :, 0]), minlength=ACTIONS) / 4000
        np.testing.assert_allclose(share, pi[prompt], atol=4 * 0.5 / np.sqrt(4000))
    again = view.play([2, 0], rollouts=4000, seed=5)
    np.testing.assert_array_equal(batch.action, again.action)
    assert np.any(batch.action != view.play([2, 0], rollouts=4000, seed=6).action)


def test_score_is_the_log_probability(view: PolicyView) -> None:
    every = np.arange(ACTIONS)[:, None]
    np.testing.assert_allclose(view.score(3, every)[:, 0], view.table()[3], atol=1e-6)
    assert view.score(3, [4]).shape == (1, 1)


def test_show_says_what_was_done_and_paid(view: PolicyView) -> None:
    level = view.env.make_level(view.env_params, jnp.int32(1))
    right = int(np.argmax(np.asarray(level.mode) == 0))
    text = view.show(1, actions=[right])
    logp = view.table()[1, right]
    assert view.env.render(view.env_params, level, ()) in text
    assert f"step 0: action {right}, probability {np.exp(logp):.3g}, reward 1" in text
    assert text.endswith(f"return 1, log-probability {logp:.3g}, ended")


@pytest.mark.parametrize("policy_id", ["tabular", "gru"])
def test_sequences_of_several_steps_are_scored_as_they_were_played(policy_id: str) -> None:
    """What a rollout says of itself is what it gets when it is handed in again."""
    env = je.make("gridworld/two_goals")
    policy = lab.policies.make(policy_id, env, **({"width": 4} if policy_id == "gru" else {}))
    params = jax.jit(policy.init)(jax.random.key(0))
    own = PolicyView(env, env.default_params, policy, params)
    batch = own.play(0, rollouts=5, seed=3)
    mask = np.asarray(batch.mask[0])
    scored = own.score(0, np.asarray(batch.action[0]), seed=3)
    np.testing.assert_allclose(scored, np.where(mask, batch.logp_behavior[0], 0.0), atol=1e-6)
    actions = np.asarray(batch.action[0, 0])[mask[0]]
    text = own.show(0, seed=3, actions=actions.tolist())
    assert text.count("\nstep ") == len(actions)
    if policy_id == "gru":
        with pytest.raises(BadInput, match="policy without memory"):
            own.table()


@pytest.mark.parametrize(
    ("call", "key"),
    [
        (lambda v: v.play(PROMPTS), "level_id"),
        (lambda v: v.play([]), "level_ids"),
        (lambda v: v.play(0, rollouts=0), "rollouts"),
        (lambda v: v.score(-1, [0]), "level_id"),
        (lambda v: v.score(0, [ACTIONS]), "actions"),
        (lambda v: v.score(0, [0, 0]), "actions"),
        (lambda v: v.score(0, [0.5]), "actions"),
        (lambda v: v.show(0, actions=[-1]), "actions"),
    ],
)
def test_what_a_world_does_not_have_is_refused(view: PolicyView, call: Any, key: str) -> None:
    with pytest.raises(BadInput) as caught:
        call(view)
    assert caught.value.key == key


# ---------------------------------------------------------------- runs put together


def seeds_of(result: Result, *places: int) -> Result:
    """What a run of some of the seeds would have been."""
    here = list(places)
    return replace(
        result,
        dataset=result.dataset.isel(seed=here),
        seeds=tuple(result.seeds[i] for i in here),
        params={a: jax.tree.map(lambda x: x[np.array(here)], p) for a, p in result.params.items()},
    )


def test_seeds_of_two_runs_are_one_run(result: Result) -> None:
    merged = lab.merge(seeds_of(result, 2), seeds_of(result, 0, 1))
    assert merged.seeds == (0, 1, 2)
    assert merged.dataset.identical(result.dataset)
    assert list(merged.dataset.data_vars) == list(result.dataset.data_vars)
    for name, content in merged.dataset.data_vars.items():
        assert content.dtype == result.dataset[name].dtype
    for arm, seed in itertools.product(result.arms, result.seeds):
        kept = result.params[arm]["logits"][seed]
        np.testing.assert_array_equal(merged.policy(arm, seed).params["logits"], kept)


def test_arms_of_two_runs_are_one_run(result: Result) -> None:
    slow, fast = result.arms
    merged = lab.merge(result.part({fast: fast}), seeds_of(result.part({slow: slow}), 0, 1))
    assert list(merged.arms) == [fast, slow] == merged.dataset["arm"].values.tolist()
    np.testing.assert_array_equal(merged.curve("pi", fast), result.curve("pi", fast))
    assert np.isfinite(merged.curve("pi", slow)[:2]).all()
    assert np.isnan(merged.curve("pi", slow)[2]).all(), "never ran"
    assert merged.frozen() == []
    assert list(merged.params) == [fast], "those that every seed has"


def test_what_does_not_fit_is_not_merged(result: Result) -> None:
    slow, fast = result.arms
    shorter = replace(result, dataset=result.dataset.isel(update=slice(2)), updates=2)
    cases = {
        "seed": (result, seeds_of(result, 1)),
        "arm": (result.part({slow: slow}), result.part({fast: slow})),
        "update": (seeds_of(result, 0), seeds_of(shorter, 1)),
        "noise": (seeds_of(result, 0), replace(seeds_of(result, 1), noise=Noise(common=False))),
        "results": (),
    }
    for key, given in cases.items():
        with pytest.raises(BadInput) as caught:
            lab.merge(*given)
        assert caught.value.key == key


# ---------------------------------------------------------------- text


def test_a_table_has_one_row_per_member_and_update(result: Result, tmp_path: Path) -> None:
    result.to_csv(tmp_path / "run.csv")
    frame = pd.read_csv(tmp_path / "run.csv")
    assert len(frame) == 2 * 3 * (UPDATES // 2 + 1)
    for row in frame.sample(10, random_state=0).to_dict("records"):
        at = {k: row[k] for k in ("arm", "seed", "update")}
        here = result.dataset.sel(at)
        assert row["return"] == pytest.approx(float(here["return"]), nan_ok=True)
        assert row["stopped"] == -1
        for prompt, action in itertools.product(range(2), range(ACTIONS)):
            value = float(here["pi"][prompt, action])
            assert row[f"pi[{prompt}, {action}]"] == pytest.approx(value)
    with pytest.raises(BadInput) as caught:
        result.to_csv(tmp_path / "no" / "such.csv")
    assert caught.value.key == "path"


# ---------------------------------------------------------------- parameters on disk


def test_parameters_come_back_as_they_were(result: Result, tmp_path: Path) -> None:
    params = {"main": result.params, "a/b": {"x": {"deep": {"er": jnp.arange(3)}}}}
    store.write_params(tmp_path, params)
    again = store.read_params(tmp_path)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    for found, known in zip(jax.tree.leaves(again), jax.tree.leaves(params), strict=True):
        assert found.dtype == known.dtype
        np.testing.assert_array_equal(found, known)


def test_large_parameters_are_not_stored(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_PARAMS", 100)
    store.write_params(tmp_path, {"main": result.params})
    assert list(tmp_path.iterdir()) == []
    assert store.read_params(tmp_path) == {}


@pytest.mark.parametrize("content", [b"", b"PK", b"\x00" * 1000])
def test_damaged_parameters_are_a_complaint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / store.PARAMS).write_bytes(content)
    with pytest.raises(BadInput, match=r"a readable params\.npz") as caught:
        store.read_params(tmp_path)
    assert caught.value.key == "DIR"


@pytest.mark.parametrize("name", ["logits", "[]", '["a"', '{"a": 1}', "3"])
def test_parameters_of_another_program_are_a_complaint(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / store.PARAMS, **{name: np.ones(2)})
    with pytest.raises(BadInput, match=r"a readable params\.npz"):
        store.read_params(tmp_path)


# ---------------------------------------------------------------- looking on


class Listener:
    def __init__(self) -> None:
        self.chunks: list[list[dict[str, Any]]] = []

    def log(self, rows: Any) -> None:
        self.chunks.append(list(rows))


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Listener, Path]:
    """Two arms of one program, and one of another that breaks in its third update."""
    heard, file = Listener(), tmp_path_factory.mktemp("log") / "log.jsonl"
    arms = {"a": {}, "b": ARMS["fast, ü"], "breaks": {"recipe.regularizer": [BreakAt(at=2.0)]}}
    return trained(arms=arms, log=[heard, lab.JsonLines(file)]), heard, file


def test_loggers_are_told_what_the_dataset_will_say(logged: Any) -> None:
    ran, heard, file = logged
    rows = [row for chunk in heard.chunks for row in chunk]
    assert len(heard.chunks) == 2 * (1 + UPDATES // 2), "the start, then chunk by chunk"
    assert [json.loads(line) for line in file.read_text().splitlines()] == rows
    whole = [row for row in rows if "breaks" not in row["arm"]]
    assert len(whole) == 2 * (1 + UPDATES // 2)
    for row in whole:
        here = ran.dataset.sel(arm=row["arm"], update=row["update"])
        for name in set(row) - {"arm", "update"}:
            assert row[name] == pytest.approx(float(here[name].mean()), rel=1e-5), name
    assert {"return", "tokens", "objective"} <= set(whole[-1])
    assert "pi" not in whole[-1], "arrays are for the dataset"
    assert "return" not in whole[0], "nothing is known before the first update"


def test_members_that_broke_are_left_out_of_the_log(logged: Any) -> None:
    _, heard, _ = logged
    broken = [row for chunk in heard.chunks for row in chunk if "breaks" in row["arm"]]
    assert ["return" in row for row in broken] == [False, True, False, False]


def test_the_console_has_one_line_per_arm_and_chunk(
    logged: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ran, heard, _ = logged
    for chunk in heard.chunks:
        lab.Console(names=("return", "nothing")).log(chunk)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 * (1 + UPDATES // 2)
    (arm, *_) = ran.arms
    last = ran.curve("return", arm)[:, -1].mean()
    assert f"{arm}: update {UPDATES}  return {last:.4g}" in lines


def test_a_log_that_cannot_be_written_costs_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match=r"^log = "):
        lab.JsonLines(tmp_path / "no" / "log.jsonl")
    logger = lab.JsonLines(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").unlink()
    (tmp_path / "log.jsonl").mkdir()
    for _ in range(2):
        logger.log([{"arm": "a", "update": 1}])
    assert capsys.readouterr().err.count("no more log") == 1
