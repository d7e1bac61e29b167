"""Base policies: what a policy can do before reinforcement learning begins, prescribed exactly.

Many claims of the field are about pretrained models: their pass@1 differs from prompt to prompt,
and they prefer some answers. Here both are chosen. For each prompt let ref be a policy that is
uniform but for the prior, W(s, a) the probability that ref succeeds after taking a in s, and V
its success probability from the start. The target is ref tilted toward success,

    π(a|s) ∝ ref(a|s) · (e^β W(s, a) + 1 − W(s, a)),    β = logit(pass@1) − logit(V).

In a deterministic world whose states know the time this is p(τ) ∝ ref(τ) e^{β·success(τ)}: the
success probability is pass@1 exactly, for every value in (0, 1) (β < 0 where ref is better than
prescribed), and without a prior all solutions are equally likely, as are all failures. Success
means a step that pays the largest reward of the prompt; a decoy is a failure like any other.

A tabular policy is set to the target. A network is fitted to it by minimizing the mean of
KL(target ‖ policy) over states that the target visits on train prompts; test prompts are never
seen, and a value head keeps its initial parameters.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import optax
from jaxrl_envs import BadInput, Environment, TabularMDP, require, threefry
from jaxrl_envs.errors import expect
from jaxrl_envs.validate import build
from jaxtyping import Array, Bool, Float, Int

from jaxrl_lab import policies
from jaxrl_lab.cache import cache_folder, load_arrays, save_arrays
from jaxrl_lab.exact import solutions, solve
from jaxrl_lab.experiments.pass_rate import most, over_prompts, pass_rates, per_state, prompt_ids
from jaxrl_lab.keys import named
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.policies.distributions import Categorical
from jaxrl_lab.policies.tabular import Tabular
from jaxrl_lab.rollouts.world import levels_at, make_world
from jaxrl_lab.types import Tree, masked_mean

FORMAT = 1
"""Part of the name of every cached policy: to be raised when the construction changes."""

EXACT = 1e-4
"""Largest rounding error of a prescribed pass@1."""


@dataclass(frozen=True)
class BaseSpec:
    """What a base policy can do, and how a network learns it.

    Attributes:
        spectrum: ``world``: the world's ``pass_rate(params, level)`` prescribes pass@1 of each
            prompt; its params ``hardest`` and ``easiest`` set the range.
        prior: which action of each state is preferred: none; ``correct``, the lowest-numbered
            optimal one; ``incorrect``, the best of those that are not optimal (the lowest-numbered
            among equals; action 0 where all are optimal). Pass@1 stays as prescribed.
        prior_strength: log-odds added to the preferred action, against the others of its kind.
        steps, learning_rate, batch: Adam updates of a network, its rate at the start (falling
            linearly to 0), and trajectories per update. Unused by tabular policies.
        seed: of the network's initial parameters and of the trajectories.
        tolerance: largest mean |pass@1 − prescribed| over the train prompts.

    Raises:
        BadInput: a number out of range, or a strength without a prior.
    """

    spectrum: Literal["world"] = "world"
    prior: Literal["none", "correct", "incorrect"] = "none"
    prior_strength: float = 0.0
    steps: int = 2000
    learning_rate: float = 3e-3
    batch: int = 256
    seed: int = 0
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        strength = self.prior_strength
        expect(0 <= strength <= 50, "prior_strength", strength, "log-odds from 0 to 50")
        given = self.prior != "none" or strength == 0
        expect(given, "prior_strength", strength, "0, or a prior (correct or incorrect)")
        expect(self.steps >= 1, "steps", self.steps, "at least 1 update")
        rate = self.learning_rate
        expect(0 < rate < float("inf"), "learning_rate", rate, "a positive number")
        expect(self.batch >= 1, "batch", self.batch, "at least 1 trajectory")
        expect(0 <= self.seed < 2**31, "seed", self.seed, "0 to 2^31 - 1")
        expect(self.tolerance > 0, "tolerance", self.tolerance, "a positive number")

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> BaseSpec:
        """A specification from plain data, such as a configuration file holds.

        Raises:
            BadInput: ``pretrain.<key>``, for an unknown key or a value that does not fit.
        """
        try:
            return build(cls, data)
        except BadInput as error:
            raise error.within("pretrain") from None


def pretrain(
    policy: str | Policy,
    env: str | Environment,
    env_params: Tree | None = None,
    **spec_fields: Any,
) -> Tree:
    """Parameters of a base policy: ``lab.pretrain("tabular", "bandit/modes", prior="correct")``.

    Args:
        spec_fields: fields of :class:`BaseSpec`.

    Raises:
        BadInput: as :func:`base_policy` and :meth:`BaseSpec.parse`.
    """
    world = jaxrl_envs.make(env) if isinstance(env, str) else env
    acting = policies.make(policy, world) if isinstance(policy, str) else policy
    params = world.default_params if env_params is None else env_params
    return base_policy(acting, world, params, BaseSpec.parse(spec_fields))


def base_policy(policy: Policy, env: Environment, env_params: Tree, spec: BaseSpec) -> Tree:
    """Parameters of ``policy`` with the prescribed abilities; from the cache where it has them.

    The same arguments give the same bits, cached or not.

    Raises:
        BadInput: a world without prescribed pass rates or exact tables, a pass rate that a prompt
            cannot have, or a network that has not come within ``spec.tolerance``.
    """
    env_params = jax.tree.map(jnp.asarray, env_params)
    file = _cache_file(policy, env, env_params, spec)
    like = jax.eval_shape(policy.init, jax.random.key(0))
    params = None if file is None else load_arrays(file, like)
    if params is None:
        params = _make(policy, env, env_params, spec)
        if file is not None:
            save_arrays(file, params)
    return params


def _make(policy: Policy, env: Environment, env_params: Tree, spec: BaseSpec) -> Tree:
    if hasattr(env, "check_params"):
        env.check_params(env_params)
    tabular, train = isinstance(policy, Tabular), prompt_ids(env, "train")
    # Rows of a table are independent, so test prompts can have theirs; a network never sees them.
    ids = jnp.concatenate([train, prompt_ids(env, "test")]) if tabular else train
    targets, wanted = _checked_targets(env, env_params, ids, spec)
    if isinstance(policy, Tabular):
        return _write_rows(env, policy, env_params, ids, targets)
    rate, key = jnp.float32(spec.learning_rate), jax.random.key(spec.seed)
    params = _fit(env, policy, env_params, targets, rate, key, spec.steps, spec.batch)
    reached = pass_rates(policy, env, env_params, params, "train")
    gap = float(jnp.mean(jnp.abs(reached - wanted)))
    if not gap <= spec.tolerance:  # so written, NaN fails too
        raise BadInput(
            "pretrain.tolerance",
            spec.tolerance,
            f"at least {gap:.4f}, the mean distance of pass@1 from the prescribed that was "
            f"reached after {spec.steps} steps (mean pass@1 {float(jnp.mean(reached)):.4f}, "
            f"prescribed {float(jnp.mean(wanted)):.4f}); more steps, a larger network or "
            "observations that tell the prompts apart may help",
        )
    return params


def target_policy(
    mdp: TabularMDP, rate: Float[Array, ""], prior: str = "none", strength: float = 0.0
) -> Float[Array, "S A"]:
    """Log-probabilities of the target in every state; the equation is in the module docstring.

    The clock is taken to be in the state: what is possible is judged with ``mdp.horizon`` steps
    left. NaN where ref always or never succeeds, so that no tilt reaches the rate.

    Raises:
        BadInput: in a stochastic world.
    """
    best = solve.optimal(mdp)
    good = best.logp[0] > -jnp.inf
    if prior == "incorrect":
        liked = jnp.argmax(jnp.where(good, -jnp.inf, best.q[0]), axis=-1)
    else:
        liked = jnp.argmax(good, axis=-1)
    ref = jax.nn.log_softmax(strength * jax.nn.one_hot(liked, mdp.num_actions), axis=-1)
    v, w = solutions.log_success(per_state(mdp), ref, most(mdp))
    succeed = jnp.minimum(w[0], 0.0)  # rounding must not make it likelier than certain
    fail = jnp.log(-jnp.expm1(succeed))
    chance = jnp.sum(mdp.start * jnp.exp(v[0]))
    beta = jax.scipy.special.logit(rate) - jax.scipy.special.logit(chance)
    return jax.nn.log_softmax(ref + jnp.logaddexp(beta + succeed, fail), axis=-1)


@partial(jax.jit, static_argnames=("env", "spec"))
def _targets(
    env: Any, env_params: Tree, ids: Int[Array, "B"], spec: BaseSpec
) -> tuple[Float[Array, "B S A"], Float[Array, "B"], Float[Array, "B"]]:
    def one(level_id: Array) -> tuple[Array, Array, Array]:
        level = env.make_level(env_params, level_id)
        mdp, rate = env.tabular(env_params, level), env.pass_rate(env_params, level)
        logp = target_policy(mdp, rate, spec.prior, spec.prior_strength)
        return logp, rate, solutions.success(per_state(mdp), logp, most(mdp))

    return over_prompts(one, ids, 256)


def _checked_targets(
    env: Environment, env_params: Tree, ids: Int[Array, "B"], spec: BaseSpec
) -> tuple[Float[Array, "B S A"], Float[Array, "B"]]:
    for member in ("pass_rate", "tabular", "state_index"):
        try:
            require(env, member)
        except BadInput as lack:
            raise BadInput("pretrain.spectrum", spec.spectrum, lack.expected) from None
    logp, wanted, reached = _targets(env, env_params, ids, spec)
    error = np.abs(np.asarray(reached) - np.asarray(wanted))
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    if not error[worst] <= EXACT:
        raise BadInput(
            "pretrain.spectrum",
            spec.spectrum,
            f"pass rates that every prompt can have; prompt {int(ids[worst])} has "
            f"{float(reached[worst]):.4f} where {float(wanted[worst]):.4f} is prescribed "
            "(every prompt must be solvable, not always solved, and its states must know the time)",
        )
    return logp, wanted


def _write_rows(
    env: Environment,
    policy: Tabular,
    env_params: Tree,
    ids: Int[Array, "B"],
    targets: Float[Array, "B S A"],
) -> dict[str, Array]:
    """The targets as rows of the table; rows of no state stay uniform."""

    def rows_of(level_id: Array) -> Array:
        mdp = require(env, "tabular")(env_params, env.make_level(env_params, level_id))
        # A finished state may share its row with a running one, which alone must be written.
        return jnp.where(mdp.terminal, policy.rows, mdp.row)

    @jax.jit
    def write(ids: Array, targets: Array) -> tuple[Array, Array]:
        rows = over_prompts(rows_of, ids, 256)
        table = jnp.zeros((policy.rows, policy.actions)).at[rows].set(targets, mode="drop")
        written = jnp.where((rows < policy.rows)[..., None], table[rows] - targets, 0.0)
        return table, jnp.all(written == 0)

    table, apart = write(ids, targets)
    expect(bool(apart), "pretrain.spectrum", "world", "observations that tell all states apart")
    return {"logits": table} | ({"value": jnp.zeros(policy.rows)} if policy.value else {})


@partial(jax.jit, static_argnames=("env", "policy", "steps", "batch"))
def _fit(
    env: Any,
    policy: Policy,
    env_params: Tree,
    targets: Float[Array, "N S A"],
    rate: Float[Array, ""],
    key: Array,
    steps: int,
    batch: int,
) -> Tree:
    """Adam on KL(target ‖ policy) along trajectories of the target on train prompts."""
    world, tx = make_world(env, env_params), optax.scale_by_adam()
    prompts, first = targets.shape[0], env.level_ids("train").start

    def update(carry: tuple[Tree, Any], t: Int[Array, ""]) -> tuple[tuple[Tree, Any], None]:
        params, opt = carry
        # Prompts take turns, so that all are met equally often.
        place = (t * batch + jnp.arange(batch, dtype=jnp.int32)) % prompts
        levels = levels_at(env, world, first + place)
        now = threefry.fold_in(named(key, "play"), t)
        obs, logp, mask, resets = _play(env, env_params, levels, targets[place], now)

        def loss(params: Tree) -> Float[Array, ""]:
            out = policy.unroll(params, obs, resets, policy.start((batch,)))
            kl = jnp.sum(jnp.exp(logp) * (logp - out.dist.logp_all), axis=-1)
            return masked_mean(kl, mask)

        # Optax mixes Python numbers and arrays in ways strict promotion refuses.
        with jax.numpy_dtype_promotion("standard"):
            direction, opt = tx.update(jax.grad(loss)(params), opt, params)
        size = rate * (1.0 - t.astype(jnp.float32) / steps)
        return (jax.tree.map(lambda p, d: p - size * d, params, direction), opt), None

    params = policy.init(named(key, "init"))
    times = jnp.arange(steps, dtype=jnp.int32)
    (params, _), _ = jax.lax.scan(update, (params, tx.init(params)), times)
    return params


def _play(
    env: Any, env_params: Tree, levels: Tree, target: Float[Array, "B S A"], key: Array
) -> tuple[Array, Float[Array, "B T A"], Bool[Array, "B T"], Bool[Array, "B T"]]:
    """One trajectory of the target per level: observations, target, mask and resets ``[B, T]``."""
    size = target.shape[0]
    over = partial(jax.vmap, axis_size=size)

    def step(carry: tuple[Tree, Array], t: Int[Array, ""]) -> tuple[Any, tuple[Array, ...]]:
        state, running = carry
        index = over(env.state_index, (None, 0, 0))(env_params, levels, state)
        logp = target[jnp.arange(size), index]
        obs = over(env.observe, (None, 0, 0))(env_params, levels, state)
        u = jax.random.uniform(threefry.fold_in(named(key, "act"), t), (size,))
        noise = env.draw(threefry.fold_in(named(key, "env"), t), (size,))
        action = Categorical(logp).sample(u)
        after = over(env.step, (None, 0, 0, 0, 0))(env_params, levels, state, action, noise)
        ahead = running & ~(after.terminated | after.truncated)
        return (after.state, ahead), (obs, logp, running, jnp.broadcast_to(t == 0, (size,)))

    noise = env.draw_reset(named(key, "reset"), (size,))
    state = over(env.reset, (None, 0, 0))(env_params, levels, noise)
    times = jnp.arange(env.horizon, dtype=jnp.int32)
    _, seen = jax.lax.scan(step, (state, jnp.ones(size, bool)), times)
    obs, logp, mask, resets = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), seen)
    return obs, logp, mask, resets


@cache
def _source(cls: type) -> str:
    """Its source text; reading a file again for every arm would cost more than the look-up."""
    return inspect.getsource(cls)


def _cache_file(policy: Policy, env: Environment, env_params: Tree, spec: BaseSpec) -> Path | None:
    """Where the policy would be; None where the cache is off or a class has no source to name."""
    folder = cache_folder()
    if folder is None:
        return None
    numbers, _ = jax.tree_util.tree_flatten_with_path(env_params)
    try:  # a class edited in a notebook keeps its repr but is another world
        sources = [_source(type(thing)) for thing in (env, policy)]
    except (OSError, TypeError):
        return None
    content = {
        "format": FORMAT,
        "environment": repr(env),
        "params": {jax.tree_util.keystr(path): np.asarray(x).tolist() for path, x in numbers},
        "policy": repr(policy),
        "sources": sources,
        "spec": dataclasses.asdict(spec),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return folder / "base" / f"{hashlib.sha256(text.encode()).hexdigest()}.npz"
