"""The table of mechanisms that every general test runs over, and random batches to call them on.

Rows of mechanisms with a file of their own come from the ``cases_*.py`` beside this.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import pytest

from jaxrl_lab.learners import slots
from jaxrl_lab.mechanisms.core import Spec, canonical, each
from jaxrl_lab.policies import Categorical
from jaxrl_lab.recipes import parse_slot, recipe
from jaxrl_lab.types import Batch, Context, LearnerState, Outputs, Plan, PolicyOutput

K = 4
WORLD = jaxrl_envs.make("bandit/modes", prompts=8, arms=K, modes=2)

ARGUMENTS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "task": {"dynamic_sampling": [{}]},
    "reward": {
        "channel": [{"name": "proxy"}],
        "overlong": [{"limit": 4.0, "cache": 3.0}],
        "kl_in_reward": [{"coefficient": 0.1}],
    },
    "advantage": {
        "batch_baseline": [{}],
        "leave_one_out": [{}],
        "group_centered": [{}],
        "group_normalized": [{}, {"ddof": 0}],
        "reward_to_go": [{"discount": 0.9}],
        "gae": [{}],
        "whiten": [{}, {"over": "responses"}],
    },
    "credit": {"filter_groups": [{}]},
    "surrogate": {
        "score_function": [{}],
        "importance_weighted": [{}],
        "clip": [{}, {"low": 0.1, "high": 0.3, "dual": 1.5}],
        "sequence_clip": [{"low": 0.1, "high": 0.2}],
        "truncated_weight": [{}],
    },
    "weight": {
        "clip_cov": [
            {"fraction": 0.3, "low": 0.0},
            {"fraction": 0.2, "low": 0.5, "high": 1.0, "band": "quantile"},
        ],
        "random_drop": [{"fraction": 0.3}],
    },
    "regularizer": {
        "entropy_bonus": [{"coefficient": 0.1}],
        "kl_cov": [{"fraction": 0.4}],
        "kl_to_reference": [
            {"coefficient": 0.1, "estimator": e} for e in ("k1", "k2", "k3", "exact")
        ],
        "value_loss": [{}, {"clip": 0.1}],
    },
    "aggregate": {
        "token_mean": [{}],
        "sequence_mean": [{}],
        "sequence_sum": [{}],
        "constant_length": [{"length": 3.0}],
    },
    "optimizer": {
        "sgd": [{"learning_rate": 0.1}, {"learning_rate": 0.1, "momentum": 0.9}],
        "adam": [{"learning_rate": 0.1}, {"learning_rate": 0.1, "weight_decay": 0.01}],
        "clip_by_global_norm": [{"max_norm": 0.5}],
    },
    "update": {"refresh_reference": [{"every": 3}]},
}

for _path in sorted(Path(__file__).parent.glob("cases_*.py")):
    for _slot, _names in importlib.import_module(_path.stem).ARGUMENTS.items():
        assert not ARGUMENTS[_slot].keys() & _names.keys(), _path
        ARGUMENTS[_slot] |= _names

CASES = [
    pytest.param(slot, name, given, id=f"{name}-{i}" if i else name)
    for slot, names in ARGUMENTS.items()
    for name, variants in names.items()
    for i, given in enumerate(variants)
]
every_mechanism = pytest.mark.parametrize(("slot", "name", "given"), CASES)


def every(*slots: str) -> pytest.MarkDecorator:
    """The cases of some slots only."""
    some = [case for case in CASES if case.values[0] in slots]
    return pytest.mark.parametrize(("slot", "name", "given"), some)


def build(slot: str, name: str, given: dict[str, Any]) -> Any:
    (mech,) = parse_slot(slot, [{name: given}])
    return mech


@dataclass(frozen=True)
class Case:
    """A random batch, the current policy's logits and values on it, and the reference policy's."""

    logits: jax.Array
    value: jax.Array
    reference: jax.Array
    batch: Batch
    ctx: Context

    def out(self, logits: Any = None, value: Any = None) -> Outputs:
        dist = Categorical.from_logits(self.logits if logits is None else logits)
        value = self.value if value is None else value
        reference = {"reference": PolicyOutput(Categorical.from_logits(self.reference))}
        passes = self.ctx.passes | reference
        policy = PolicyOutput(dist, value)
        return Outputs(dist.logp(self.batch.action), policy, passes)


@cache
def random_case(
    shape: tuple[int, int, int],
    seed: int = 0,
    *,
    ragged: bool = True,
    invalid: bool = False,
    step: float = 0.4,
    binary: bool = False,
) -> Case:
    """Episodes of random lengths; ``step`` is how far the policy is from the old one."""
    rng = np.random.default_rng(seed)
    b, g, t = shape
    lengths = rng.integers(1, t + 1, (b, g)) if ragged else np.full((b, g), t)
    valid = np.ones((b, g), bool)
    if invalid:
        valid = rng.random((b, g)) < 0.7
        valid[:, :2] = True
    running = np.arange(t) < lengths[..., None]
    ends = np.arange(t) == lengths[..., None] - 1
    late = rng.random((b, g, 1)) < 0.3
    mask = running & valid[..., None]

    def normal(*extra: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=(*shape, *extra)), jnp.float32)

    old = normal(K)
    action = jnp.asarray(rng.integers(0, K, shape), jnp.int32)
    logp_old = Categorical.from_logits(old).logp(action)
    pay = rng.integers(0, 2, shape) if binary else rng.normal(size=shape)
    true = jnp.asarray(np.where(running, pay, 0.0), jnp.float32)
    dist = Categorical.from_logits(normal(K))
    batch = Batch(
        level_id=jnp.arange(b, dtype=jnp.int32)[:, None, None],
        state=(),
        action=action,
        logp_behavior=logp_old,
        mask=jnp.asarray(mask),
        resets=jnp.asarray(np.broadcast_to(np.arange(t) == 0, shape)),
        terminated=jnp.asarray(ends & ~late),
        truncated=jnp.asarray(ends & late),
        channels={"true": true, "proxy": true + jnp.where(running, normal(), 0.0)},
        reward=true,
        info={},
        carry=(),
        valid=jnp.asarray(valid),
        source=jnp.zeros((b, g), jnp.int8),
        logp_old=logp_old,
        value=normal(),
        next_value=normal(),
        advantage=jnp.where(mask, normal(), 0.0),
        target=normal(),
    )
    key = jax.random.key(seed)
    passes = {"reference": PolicyOutput(dist)}
    passes["old"] = PolicyOutput(Categorical.from_logits(old))
    ctx = Context(jnp.int32(5), jnp.float32(0.25), key, (), passes)
    return Case(old + step * normal(K), normal(), dist.logp_all, batch, ctx)


SHAPES = {
    "ragged": {"shape": (3, 4, 5)},
    "invalid": {"shape": (3, 5, 4), "invalid": True},
    "one-token": {"shape": (4, 3, 1), "ragged": False},
    "stream": {"shape": (6, 1, 7), "ragged": False},
}


def first_memory(mech: Any, case: Case) -> Any:
    """What a mechanism remembers before its first update."""
    if not hasattr(mech, "init"):
        return ()
    return mech.init(Spec(WORLD, None, recipe(), *case.batch.action.shape))


def call(slot: str, mech: Any, case: Case) -> Any:
    """The mechanism called with the signature of its slot; the arrays it gives back."""
    out, batch, ctx = case.out(), case.batch, case.ctx
    ctx = replace(ctx, memory=first_memory(mech, case))
    aux = {"clipped": batch.mask & (batch.action == 0)}
    if slot == "task":
        b, g = batch.valid.shape
        plan = Plan(jnp.arange(b, dtype=jnp.int32), batch.valid, jnp.zeros((b, g), jnp.int8))
        return mech(plan, ctx), mech.keep(batch) if hasattr(mech, "keep") else ()
    if slot in ("reward", "advantage", "credit"):
        return mech(batch, ctx)
    if slot == "surrogate":
        return mech(out, batch, ctx)
    if slot in ("weight", "regularizer"):
        return mech(out, batch, aux, ctx)
    if slot == "aggregate":
        return mech(out.logp, batch.mask)
    if slot == "optimizer":
        params = {"logits": case.logits, "value": case.value}
        with jax.numpy_dtype_promotion("standard"):
            tx = mech.tx()
            opt = tx.init(params)
            change, opt = tx.update(jax.tree.map(jnp.sin, params), opt, params)
            return tx.update(change, opt, params)
    before, after = (_state(jax.tree.map(lambda x, s=s: x + s, case.logits)) for s in (0.0, 1.0))
    return mech(before, after, {"objective": jnp.float32(0.0)}, ctx)


def _state(params: Any) -> LearnerState:
    trees = {"reference": -params}
    return LearnerState(params, (), {}, trees, (), jnp.bool_(True), jnp.int32(-1))


def whole_objective(chosen: dict[str, tuple[Any, ...]], case: Case, logits: Any, value: Any) -> Any:
    """The scalar that the learner maximizes, from the reward slot on."""
    built = canonical(recipe(**chosen))
    memory = {f"{slot}.{i}": first_memory(mech, case) for slot, i, mech in each(built)}
    state: Any = SimpleNamespace(memory=memory)
    batch = case.batch
    for slot in ("reward", "advantage", "credit"):
        batch = slots.chain(built, slot, batch, state, case.ctx, None)
    case = replace(case, batch=batch)
    return slots.objective(built, case.out(logits, value), batch, state, case.ctx)[0]
