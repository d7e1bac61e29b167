"""The policy-gradient learner: one update, from the plan to the new parameters.

Read top to bottom: :meth:`PolicyGradient.update` is the whole algorithm, and every named method
(REINFORCE, PPO, GRPO, DAPO, …) is a recipe whose mechanisms fill the slots it calls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxrl_envs import Environment, threefry
from jaxtyping import Array, Bool, Float, Int

from jaxrl_lab.groups import EqualGroups, is_informative
from jaxrl_lab.keys import named
from jaxrl_lab.learners import pieces, slots
from jaxrl_lab.mechanisms.core import OLD, each, resolve
from jaxrl_lab.mechanisms.optimizer import SGD
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.recipes import Recipe
from jaxrl_lab.rollouts import (
    World,
    collect_episodes,
    collect_stream,
    make_world,
    observe,
    refill,
    with_branches,
)
from jaxrl_lab.rollouts.stream import start_stream
from jaxrl_lab.types import (
    Batch,
    Context,
    LearnerState,
    Outputs,
    Plan,
    PolicyOutput,
    Tree,
    masked_mean,
)


@dataclass(frozen=True)
class PolicyGradient:
    """Static facts of a learner; recipes, worlds and states are arguments, so they can be vmapped.

    Attributes:
        env, policy: what acts where.
        split: whose prompts are trained on.
    """

    env: Environment
    policy: Policy
    split: str = "train"

    # ------------------------------------------------------------------ set-up

    def world(self, env_params: Tree) -> World:
        """The environment as the updates see it; computed once, outside the scan over updates."""
        return make_world(self.env, env_params)

    def init(
        self, recipe: Recipe, world: World, key: Array, base: Tree | None = None
    ) -> LearnerState:
        """A learner before its first update, from fresh or from pretrained parameters."""
        params = self.policy.init(named(key, "init")) if base is None else base
        spec = recipe.spec(self.env, self.policy)
        memory = {
            f"{slot}.{i}": mech.init(spec)
            for slot, i, mech in each(recipe)
            if hasattr(mech, "init")
        }
        stream: Tree = ()
        if recipe.rollout == "stream":
            n = spec.prompts
            stream = start_stream(self.env, self.policy, world, self.split, named(key, "stream"), n)
        # Copies, not aliases: a donated buffer may appear once only.
        trees = {n: jax.tree.map(jnp.copy, params) for n in recipe.passes if n != OLD}
        with jax.numpy_dtype_promotion("standard"):
            opt = _optimizer(resolve(recipe, jnp.float32(0.0))).init(params)
        return LearnerState(params, opt, memory, trees, stream, jnp.bool_(True), jnp.int32(-1))

    # ------------------------------------------------------------------ the algorithm

    def update(
        self,
        recipe: Recipe,
        world: World,
        state: LearnerState,
        key: Array,
        update: Int[Array, ""],
        total: Int[Array, ""],
        tape: slots.Tape | None = None,
    ) -> tuple[LearnerState, dict[str, Float[Array, ""]]]:
        """One outer update: collect a batch, look back at it, improve the policy on it.

        Args:
            key: of this update, ``fold_in(seed_key, update)``.
            update, total: index of the update and length of the training.
            tape: where every slot's input and output is written, for a replay without jit.

        Returns:
            The next state and the update's scalars. A state whose loss or parameters would not
            be finite is frozen instead, and ``stopped`` says when.
        """
        progress = update.astype(jnp.float32) / jnp.maximum(total - 1, 1).astype(jnp.float32)
        recipe = resolve(recipe, progress)
        ctx = Context(update, progress, key)

        stream, batch, described = self._collect(recipe, world, state, ctx, tape)
        batch, passes, look = self._look_back(recipe, world, state, batch)
        ctx = replace(ctx, passes=passes)
        batch = slots.chain(recipe, "reward", batch, state, ctx, tape)
        described |= {"informative_groups": _informative(batch)}  # before credit masks anything
        batch = replace(batch, advantage=jnp.where(batch.mask, batch.returns[..., None], 0.0))
        for slot in ("advantage", "credit"):
            batch = slots.chain(recipe, slot, batch, state, ctx, tape)

        params, opt, fit = self._improve(recipe, world, state, batch, look, ctx, tape)
        fit |= described
        candidate = replace(state, params=params, opt=opt, stream=stream)
        for i, mech in enumerate(recipe.update):
            mech_ctx = slots.context_of(ctx, "update", i, state)
            before, candidate = candidate, mech(state, candidate, fit, mech_ctx)
            slots.write(tape, "update", mech, before, candidate)
        memory = dict(state.memory)
        for slot, i, mech in each(recipe):
            if hasattr(mech, "advance"):
                name = f"{slot}.{i}"
                mech_ctx = slots.context_of(ctx, slot, i, state)
                memory[name] = mech.advance(state.memory[name], batch, fit, mech_ctx)
        candidate = replace(candidate, memory=memory)
        return _freeze_unless_finite(state, candidate, fit["objective"], update), fit

    # ------------------------------------------------------------------ its parts

    def _collect(
        self,
        recipe: Recipe,
        world: World,
        state: LearnerState,
        ctx: Context,
        tape: slots.Tape | None,
    ) -> tuple[Tree, Batch, dict[str, Float[Array, ""]]]:
        """Slot ``task`` and the rollouts: the stream, the batch, return and tokens."""
        env, policy, params = self.env, self.policy, state.params
        bootstrap = "value" in recipe.needs
        if recipe.rollout == "stream":
            steps = recipe.spec(env, policy).horizon
            key = named(ctx.key, "rollout")
            stream, batch = collect_stream(
                env,
                policy,
                world,
                params,
                state.stream,
                self.split,
                key,
                steps,
                bootstrap=bootstrap,
            )
            return stream, batch, _describe(batch)

        def collect(round_: Int[Array, ""]) -> Batch:
            round_ctx = replace(ctx, key=threefry.fold_in(ctx.key, round_))
            plan = self._default_plan(recipe, named(round_ctx.key, "prompts"))
            plan = slots.chain(recipe, "task", plan, state, round_ctx, tape)
            plan = pieces.spread(plan, len(plan.level_ids))
            key = named(round_ctx.key, "rollout")
            batch = collect_episodes(env, policy, world, params, plan, key, bootstrap=bootstrap)
            return self._branch(recipe, world, state, batch, round_ctx, key)

        samplers = [m for m in recipe.task if hasattr(m, "keep")]
        if not samplers:
            batch = collect(jnp.int32(0))
            return (), batch, _describe(batch)

        def keep(batch: Batch) -> Bool[Array, "B"]:
            return jnp.all(jnp.stack([m.keep(batch) for m in samplers]), axis=0)

        batch, first, tokens, _ = refill(collect, keep, max(m.rounds for m in samplers))
        return (), batch, _describe(first) | {"tokens": tokens}

    def _branch(
        self,
        recipe: Recipe,
        world: World,
        state: LearnerState,
        batch: Batch,
        ctx: Context,
        key: Array,
    ) -> Batch:
        """The batch with the rollouts that mechanisms of slot ``task`` begin inside its own."""
        for i, mech in enumerate(recipe.task):
            if hasattr(mech, "points"):
                out = self._unroll(world, state.params, batch)
                points = mech.points(batch, out, slots.context_of(ctx, "task", i, state))
                run = self.env, self.policy, world, state.params
                bootstrap = "value" in recipe.needs
                batch = with_branches(*run, batch, points, mech.branches, key, bootstrap=bootstrap)
        return batch

    def _default_plan(self, recipe: Recipe, key: Array) -> Plan:
        """All prompts in order where the batch is as large as the split, else a uniform draw."""
        ids = self.env.level_ids(self.split)
        spec = recipe.spec(self.env, self.policy)
        b, shape = spec.prompts, (spec.prompts, spec.group)
        if b == len(ids):
            chosen = jnp.arange(b, dtype=jnp.int32)
        elif b < len(ids) <= 65536:
            chosen = jax.random.permutation(key, len(ids))[:b].astype(jnp.int32)
        else:
            chosen = jax.random.randint(key, (b,), 0, len(ids), jnp.int32)
        level_ids = ids.start + ids.step * chosen
        return Plan(level_ids, jnp.ones(shape, bool), jnp.zeros(shape, jnp.int8))

    def _look_back(
        self, recipe: Recipe, world: World, state: LearnerState, batch: Batch
    ) -> tuple[Batch, dict[str, PolicyOutput], pieces.Look | None]:
        """Evaluate the batch under the collecting parameters and under every further tree.

        A single step begins where this looks: it is handed the look instead of looking again.
        """
        single = recipe.epochs * recipe.minibatches == 1
        look = self._look(world, state.params, batch) if single else None
        out = look.out if look else self._unroll(world, state.params, batch)
        passes = {
            name: out if name == OLD else self._unroll(world, state.trees[name], batch)
            for name in recipe.passes
        }
        looked = replace(batch, logp_old=out.dist.logp(batch.action), value=out.value)
        return looked, passes, look

    def _unroll(self, world: World, params: Tree, batch: Batch) -> PolicyOutput:
        unroll = partial(self._unroll_at_once, world)
        return pieces.forward(unroll, params, batch, pieces.count(unroll, params, batch))

    def _look(self, world: World, params: Tree, batch: Batch) -> pieces.Look:
        unroll = partial(self._unroll_at_once, world)
        return pieces.look(unroll, params, batch, pieces.count(unroll, params, batch))

    def _unroll_at_once(self, world: World, params: Tree, batch: Batch) -> PolicyOutput:
        b, g, t = batch.action.shape
        obs = observe(self.env, world, batch.level_id, batch.state, (b, g, t))
        return self.policy.unroll(params, obs, batch.resets, batch.carry)

    def _improve(
        self,
        recipe: Recipe,
        world: World,
        state: LearnerState,
        batch: Batch,
        look: pieces.Look | None,
        ctx: Context,
        tape: slots.Tape | None,
    ) -> tuple[Tree, Tree, dict[str, Float[Array, ""]]]:
        """Epochs of minibatch ascent; whole groups stay inside one minibatch."""
        tx = _optimizer(recipe)
        prompts = batch.action.shape[0]

        def one_step(
            learned: tuple[Tree, Tree],
            at: tuple[Int[Array, ""], Int[Array, "b"] | None],
            look: pieces.Look | None = None,
        ) -> tuple[tuple[Tree, Tree], dict[str, Float[Array, ""]]]:
            params, opt = learned
            i, index = at
            part, passes = batch, ctx.passes
            if index is not None:
                part = batch.take(index)
                passes = {name: out.take(index) for name, out in ctx.passes.items()}
                part, passes = pieces.spread((part, passes), len(index))
            step_ctx = replace(ctx, key=threefry.fold_in(named(ctx.key, "loss"), i))

            def negative(out: PolicyOutput) -> tuple[Float[Array, ""], Float[Array, ""]]:
                outputs = Outputs(out.dist.logp(part.action), out, passes)
                objective, aux = slots.objective(recipe, outputs, part, state, step_ctx)
                return -objective, masked_mean(aux["clipped"].astype(jnp.float32), part.mask)

            look = look or self._look(world, params, part)
            (loss, clipped), grads = pieces.value_and_grad(negative, look)
            if tape is not None:  # once more outside the gradient, where values are concrete
                outputs = Outputs(look.out.dist.logp(part.action), look.out, passes)
                slots.objective(recipe, outputs, part, state, step_ctx, tape)
            # Optax mixes Python numbers and arrays in ways strict promotion refuses.
            with jax.numpy_dtype_promotion("standard"):
                change, opt = tx.update(grads, opt, params)
                params = optax.apply_updates(params, change)
            for mech in recipe.optimizer[-1:]:  # the chain acts as one
                slots.write(tape, "optimizer", mech, grads, change)
            scalars = {
                "objective": -loss,
                "clipped": clipped,
                "gradient_norm": optax.tree.norm(grads),
            }
            return (params, opt), scalars

        if look is not None:
            seen = look if look.is_of(batch) else None  # a mechanism may have put in other rollouts
            learned, scalars = one_step((state.params, state.opt), (jnp.int32(0), None), seen)
            return *learned, scalars
        steps = recipe.epochs * recipe.minibatches
        index = None
        if recipe.minibatches > 1:
            keys = jax.random.split(named(ctx.key, "shuffle"), recipe.epochs)
            order = jax.vmap(lambda k: jax.random.permutation(k, prompts))(keys)
            index = order.reshape(steps, prompts // recipe.minibatches)
        learned, scalars = jax.lax.scan(
            one_step, (state.params, state.opt), (jnp.arange(steps, dtype=jnp.int32), index)
        )
        return *learned, jax.tree.map(jnp.mean, scalars)


def _optimizer(recipe: Recipe) -> optax.GradientTransformation:
    parts = recipe.optimizer or (SGD(learning_rate=1.0),)
    return optax.chain(*(m.tx() for m in parts))


def _describe(batch: Batch) -> dict[str, Float[Array, ""]]:
    """Scalars every run reports; ``true`` whatever the learner was allowed to see."""
    true = jnp.where(batch.mask, batch.channels["true"], 0.0)
    ended = batch.mask & (batch.terminated | batch.truncated)
    episodes = jnp.sum(ended, dtype=jnp.float32)
    return {
        "return": jnp.sum(true) / jnp.maximum(episodes, 1.0),
        "tokens": jnp.sum(batch.mask, dtype=jnp.float32),
    }


def _informative(batch: Batch) -> Float[Array, ""]:
    """Share of groups whose rollouts were not all rewarded alike."""
    informative = is_informative(EqualGroups(batch.valid), batch.returns)
    return jnp.mean(informative.astype(jnp.float32))


def _freeze_unless_finite(
    state: LearnerState,
    candidate: LearnerState,
    objective: Float[Array, ""],
    update: Int[Array, ""],
) -> LearnerState:
    """The candidate, or the old state for good once something is not finite."""
    finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(candidate.params)]
    healthy = jnp.isfinite(objective) & jnp.all(jnp.stack(finite))
    go_on = state.alive & healthy
    kept = jax.tree.map(lambda new, old: jnp.where(go_on, new, old), candidate, state)
    stopped = jnp.where(state.alive & ~healthy, update.astype(jnp.int32), state.stopped)
    return replace(kept, alive=go_on, stopped=stopped)
