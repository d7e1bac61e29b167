# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Write your own world in thirty lines
#
# **The question.** What does a world have to say so that everything in the laboratory works on it:
# a million copies in one compiled program, exact answers beside the sampled ones, every learner,
# other people's trainers, and the table of tests the built-in worlds pass?
#
# We write a corridor with a small consolation prize at one end and the real one at the other,
# without touching the package.

# %%
# # %pip install jaxrl-lab
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import jaxrl_envs as envs
import matplotlib.pyplot as plt
import numpy as np
from jaxrl_envs import Discrete, TabularMDP, Transition
from jaxrl_envs.testing import Case, check, midpoints

import jaxrl_lab as lab
from jaxrl_lab.plots import panels

# %matplotlib inline
plt.rcParams.update(panels.STYLE)

# %% [markdown]
# ## The contract
#
# Four things are kept apart, because they change at different times:
#
# * the **structure** (the length of the corridor) shapes arrays, so it lives in the frozen object;
# * the **params** (slip, consolation) are numbers that a sweep may vary: arrays in a pytree;
# * the **level** is what all rollouts of one prompt share, rebuilt from a number: here, the cell
#   the walk starts in;
# * the **state** is what changes while walking, in the smallest integers that fit.
#
# Every method is written for one instance; the callers `vmap`. Only `draw` sees the whole batch, so
# that a million instances cost one call of the random generator.


# %%
@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Params:
    slip: jax.Array  # probability that a step goes the other way
    consolation: jax.Array  # what the left end pays; the right end pays 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Level:
    id: jax.Array
    start: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    cell: jax.Array  # uint8
    clock: jax.Array  # uint8


# %% [markdown]
# And the world itself. Ends are absorbing and pay on the way in; an episode that takes too long is
# *truncated*, which is not the same as *terminated*: a critic may look beyond it.


# %%
@dataclass(frozen=True)
class Corridor:
    """Walk left or right along ``length`` cells; both ends pay, the right one more."""

    length: int = 9
    horizon: int = 40
    truncates = True
    default_params = Params(jnp.float32(0.125), jnp.float32(0.25))

    def level_ids(self, split):
        envs.errors.expect(split in ("train", "test"), "split", split, "train or test")
        return range(self.length - 2) if split == "train" else range(0)

    observation_space = property(lambda self: Discrete(self.length))
    action_space = Discrete(2)

    def make_level(self, params, level_id):
        return Level(jnp.int32(level_id), jnp.uint8(level_id + 1))

    def draw_reset(self, key, shape):
        return ()

    def draw(self, key, shape):
        return jax.random.uniform(key, shape)

    def reset(self, params, level, noise):
        return State(jnp.asarray(level.start, jnp.uint8), jnp.uint8(0))

    def step(self, params, level, state, action, noise):
        right = (jnp.clip(action, 0, 1) == 1) ^ (noise < params.slip)
        over = (state.cell == 0) | (state.cell == self.length - 1)
        moved = jnp.where(right, state.cell + 1, state.cell - 1).astype(jnp.uint8)
        cell = jnp.where(over, state.cell, moved)
        clock = jnp.minimum(state.clock + 1, self.horizon).astype(jnp.uint8)
        won, lost = cell == self.length - 1, cell == 0
        pay = jnp.where(won, 1.0, jnp.where(lost, params.consolation, 0.0))
        reward = {"true": jnp.where(over, 0.0, pay).astype(jnp.float32)}
        info = {"correct": won, "mode_id": jnp.where(won, 0, -1)}
        return Transition(State(cell, clock), reward, won | lost, clock >= self.horizon, info)

    def observe(self, params, level, state):
        return state.cell.astype(jnp.int32)

    def render(self, params, level, state):
        return "".join("A" if i == int(state.cell) else "." for i in range(self.length))

    # ---- exact facts: optional, and worth it
    def tabular(self, params, level):
        cells = jnp.arange(self.length)
        ends = (cells == 0) | (cells == self.length - 1)
        pay = jnp.where(cells == 0, params.consolation, 0.0).at[-1].set(1.0)
        left, right = jnp.clip(cells - 1, 0), jnp.clip(cells + 1, 0, self.length - 1)
        one_hot = jnp.eye(self.length)[jnp.stack([left, right], axis=1)]
        P = (1 - params.slip) * one_hot + params.slip * one_hot[:, ::-1]
        P = jnp.where(ends[:, None, None], jnp.eye(self.length)[:, None], P)
        start = jnp.eye(self.length)[level.start]
        reward = jnp.where(ends[:, None], 0.0, P @ pay)
        return TabularMDP(reward, start, ends, row=cells, P=P, horizon=self.horizon)

    def state_index(self, params, level, state):
        return state.cell.astype(jnp.int32)

    def optimal_value(self, params, level):
        mdp = self.tabular(params, level)
        return jnp.sum(mdp.start * lab.exact.optimal(mdp).v[0])


envs.register("tutorial/corridor", Corridor)
env = envs.make("tutorial/corridor", length=9)
level = env.make_level(env.default_params, jnp.int32(3))
print(env.render(env.default_params, level, env.reset(env.default_params, level, ())))

# %% [markdown]
# ## A million of them
#
# `stream_step` steps all instances and restarts those that ended. The state is two bytes, so a
# million corridors fit into the cache of a laptop.

# %%
N, STEPS = 1 << 20, 50
build = jax.vmap(partial(env.make_level, env.default_params))


@jax.jit
def walk(key):
    def step(stream, t):
        now = jax.random.fold_in(key, t)
        action = jax.random.bits(jax.random.fold_in(now, 7), (N,), jnp.uint8) % 2
        args = (env, env.default_params, build, "train", stream, action, now)
        stream, after = envs.stream_step(*args)
        return stream, jnp.mean(after.reward["true"])

    stream = envs.stream_reset(env, env.default_params, build, "train", key, N)
    return jax.lax.scan(step, stream, jnp.arange(STEPS))


last, pay = walk(jax.random.key(0))
state_bytes = sum(x.nbytes for x in jax.tree.leaves(last.state)) // N
print(f"{N * STEPS / 1e6:.0f} million steps, {state_bytes} bytes per corridor")

# %% [markdown]
# ## Exact answers
#
# Because the world states its transition table, nothing has to be estimated. **Prediction.** A
# walker who has forgotten everything (a uniform policy) meets either end by chance; near the left
# end the consolation is worth taking only if the way to the right is too long for the time limit or
# too slippery. With slip 1/8 and 40 steps it never should be: going right is optimal everywhere.

# %%
levels = build(jnp.arange(env.length - 2))
tables = jax.vmap(env.tabular, (None, 0))(env.default_params, levels)
uniform = jnp.full((env.length, 2), jnp.log(0.5))
by_chance = jax.vmap(lab.exact.expected_return, (0, None))(tables, uniform)
best = jax.vmap(env.optimal_value, (None, 0))(env.default_params, levels)
plan = lab.exact.optimal(jax.tree.map(lambda x: x[0], tables)).logp[0]
print("return by chance:", np.round(np.asarray(by_chance), 3))
print("optimal return:  ", np.round(np.asarray(best), 3))
print("go right where:  ", np.asarray(plan[1:-1, 1] > plan[1:-1, 0]))

# %% [markdown]
# ## Learning in it
#
# Recipes ask nothing special of a world. REINFORCE with leave-one-out baselines (`rloo`), a table
# of logits, 32 seeds, and the exact optimum as the line to reach.

# %%
SEEDS = 32
recipe = lab.recipe("rloo", group=16, optimizer={"sgd": {"learning_rate": 2.0}})
result = lab.train(env, "tabular", recipe, updates=150, seeds=SEEDS)
figure, ax = plt.subplots(figsize=(6, 3.4))
curve = result.curve("return", "rloo")
panels.band(ax, result.update, curve, "rloo, sampled return", 0)
panels.reference(ax, float(best.mean()), "exact optimum")
panels.reference(ax, float(by_chance.mean()), "exact value of a uniform policy")
panels.finish(
    ax, f"{SEEDS} seeds, 95 % intervals", "updates (batches)", "return (reward per episode)"
)
plt.show()

# %% [markdown]
# The curve starts at the exact value of chance and ends at the exact optimum.

# %% [markdown]
# ## The same world for other people's trainers
#
# `to_gymnax` returns a gymnax environment with gymnax's six-tuple `step`.

# %%
foreign = envs.to_gymnax(env)
params = foreign.default_params
obs, state = foreign.reset(jax.random.key(0), params)
obs, state, reward, terminated, truncated, info = foreign.step(
    jax.random.key(1), state, jnp.int32(1), params
)
print(type(foreign).__mro__[1].__name__, int(obs), float(reward), bool(terminated))

# %% [markdown]
# ## The table of tests
#
# `check` runs what every built-in world has to pass: the table equals `step` for every state,
# action and noise; a million random steps stay in the observation space; ended episodes stand
# still; params can be stacked; noise is addressed by instance; and more. A `Case` says what a check
# cannot know, such as how to list all states.

# %%
case = Case(
    "tutorial/corridor",
    {"length": 5},
    state=(jnp.uint8, jnp.uint8),
    other={"slip": 0.25, "consolation": 0.5},
    states=lambda env, level: State(
        jnp.arange(env.length, dtype=jnp.uint8), jnp.zeros(5, jnp.uint8)
    ),
    noise=midpoints,
)
for name in check(case):
    print("passed:", name)

# %% [markdown]
# **A test that cannot fail is none**, so we break the world: an end that keeps paying.


# %%
class KeepsPaying(Corridor):
    def step(self, params, level, state, action, noise):
        after = super().step(params, level, state, action, noise)
        return Transition(
            after.state,
            {"true": after.reward["true"] + 1.0},
            after.terminated,
            after.truncated,
            after.info,
        )


envs.register("tutorial/keeps_paying", KeepsPaying)
try:
    check(replace(case, id="tutorial/keeps_paying"))
except AssertionError as error:
    print("\n".join(str(error).split("\n")[:3]))

# %% [markdown]
# ## What to try next
#
# * Sweep the slip: `lab.sweep` takes `environment.…` entries of an experiment, all in one program.
#   Where does the optimal plan begin to prefer the consolation?
# * Add `solutions` (how many shortest walks there are, and which one a trajectory took) and look at
#   `lab.exact.success_entropy`.
# * Make the observation a vector (`Box`) and train `"mlp"`: does it learn faster than the table?
# * Put the class into a module of yours and name it in a YAML experiment by the id you registered.
