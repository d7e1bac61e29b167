"""Properties that every mechanism has; a new one gets these tests by being in the table."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from mechanism_cases import (
    ARGUMENTS,
    SHAPES,
    build,
    call,
    every,
    every_mechanism,
    random_case,
    whole_objective,
)

from jaxrl_lab.mechanisms import SLOTS, catalog
from jaxrl_lab.mechanisms.core import each, equation_of, numbers_of
from jaxrl_lab.recipes import recipe


def assert_close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            continue
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6)


def test_the_table_covers_the_catalog():
    assert {s: set(names) for s, names in ARGUMENTS.items()} == {
        s: set(names) for s, names in catalog().items()
    }
    assert tuple(ARGUMENTS) == SLOTS


@every_mechanism
def test_leaves_are_canonical(slot, name, given):
    for leaf in jax.tree.leaves(build(slot, name, given)):
        assert isinstance(leaf, jax.Array)
        assert leaf.dtype == jnp.float32
        assert leaf.shape == ()
        assert not leaf.weak_type


@every_mechanism
def test_every_number_is_a_leaf_and_stands_in_the_equation(slot, name, given):
    mech = build(slot, name, given)
    numbers = {k: v for k, v in numbers_of(mech).items() if isinstance(v, float)}
    assert len(jax.tree.leaves(mech)) == len(numbers)
    for field, number in given.items():
        shown = f"{number:g}" if isinstance(number, float) else str(number)
        assert shown in equation_of(mech), field
    for number in numbers.values():
        assert f"{number:g}" in equation_of(mech)


@every_mechanism
def test_jit_gives_what_plain_gives(slot, name, given):
    mech, case = build(slot, name, given), random_case((3, 5, 4), invalid=True)
    assert_close(call(slot, mech, case), jax.jit(lambda m: call(slot, m, case))(mech))


@every_mechanism
def test_results_are_finite_float32_in_every_shape(slot, name, given):
    mech = build(slot, name, given)
    cases = [random_case(**sizes) for sizes in SHAPES.values()]
    if slot in ("task", "credit"):  # a stream has no groups to choose from
        cases = [case for case in cases if case.batch.valid.shape[1] > 1]
    results = jax.jit(lambda m: [call(slot, m, case) for case in cases])(mech)
    for leaf in jax.tree.leaves(results):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            assert leaf.dtype == jnp.float32
            assert bool(jnp.all(jnp.isfinite(leaf)))


@every_mechanism
def test_a_stack_of_numbers_gives_what_a_loop_gives(slot, name, given):
    mech, case = build(slot, name, given), random_case((3, 4, 5))
    variants = [jax.tree.map(lambda x, f=f: x * f, mech) for f in (1.0, 0.9, 0.5)]
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *variants)
    together = jax.vmap(lambda m, _: call(slot, m, case))(stacked, jnp.arange(3))
    for i, variant in enumerate(variants):
        assert_close(jax.tree.map(lambda x, i=i: x[i], together), call(slot, variant, case))


@every("surrogate", "regularizer")
def test_gradients_are_finite_far_from_the_old_policy(slot, name, given):
    mech, cases = build(slot, name, given), [random_case(**s, step=3.0) for s in SHAPES.values()]

    def objective(logits, value):
        pairs = zip(cases, logits, value, strict=True)
        return sum(whole_objective({slot: (mech,)}, case, l, v) for case, l, v in pairs)

    at = [case.logits for case in cases], [case.value for case in cases]
    leaves = jax.tree.leaves(jax.jit(jax.grad(objective, argnums=(0, 1)))(*at))
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in leaves)
    assert any(bool(jnp.any(g != 0)) for g in leaves)


def disturbed(case):
    """The same batch with everything different where no token is."""
    batch, hidden = case.batch, ~case.batch.mask

    def disturb(x):
        if x.dtype == bool:
            return jnp.where(hidden, ~x, x)
        return jnp.where(hidden, 3 - x if jnp.issubdtype(x.dtype, jnp.integer) else x + 2.5, x)

    names = ("action", "logp_old", "value", "next_value", "target", "advantage", "reward")
    changes = {n: disturb(getattr(batch, n)) for n in (*names, "terminated", "truncated")}
    channels = {k: disturb(v) for k, v in batch.channels.items()}
    batch = replace(batch, channels=channels, **changes)
    logits = jnp.where(hidden[..., None], case.logits[..., ::-1] * 2.0, case.logits)
    return replace(case, batch=batch, logits=logits, value=disturb(case.value))


@every("reward", "advantage", "credit", "surrogate", "weight", "regularizer", "aggregate")
def test_masked_tokens_change_neither_value_nor_gradient(slot, name, given):
    case = random_case((3, 5, 4), 1, invalid=True)
    assert not bool(jnp.all(case.batch.mask))
    mech = build(slot, name, given)
    slots = {"surrogate": "importance_weighted", "aggregate": "token_mean"} | {slot: (mech,)}
    if slot in ("reward", "credit"):
        slots["advantage"] = "group_centered"

    def both(case):
        def f(logits, value):
            return whole_objective(slots, case, logits, value)

        return jax.value_and_grad(f, argnums=(0, 1))(case.logits, case.value)

    (value, grads), (other, others) = jax.jit(lambda: (both(case), both(disturbed(case))))()
    assert float(value) == float(other)
    for g, h in zip(grads, others, strict=True):
        mask = case.batch.mask.reshape(case.batch.mask.shape + (1,) * (g.ndim - 3))
        np.testing.assert_array_equal(jnp.where(mask, g, 0.0), jnp.where(mask, h, 0.0))
        assert not bool(jnp.any(jnp.where(mask, 0.0, g)))
        assert not bool(jnp.any(jnp.where(mask, 0.0, h)))


def test_each_lists_mechanisms_in_the_order_a_batch_meets_them():
    built = recipe("clip_cov", regularizer=["kl_cov", {"entropy_bonus": {"coefficient": 0.1}}])
    slots = [slot for slot, _, _ in each(built)]
    assert slots == sorted(slots, key=SLOTS.index)
    assert [i for slot, i, _ in each(built) if slot == "regularizer"] == [0, 1]
