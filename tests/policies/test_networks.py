"""What is particular to one architecture: encoders, windows, sizes, refusals."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxrl_envs import BadInput, Box, Discrete, MultiDiscrete
from jaxrl_envs import make as make_env
from policy_cases import (
    FIELDS,
    PLANES,
    ROWS,
    experience,
    largest_difference,
    loud_params,
    play,
    random_obs,
    unroll,
)

from jaxrl_lab.experiments.plan import peak_bytes
from jaxrl_lab.policies import GRU, MLP, Transformer, make, options
from jaxrl_lab.policies.encoder import Encoder, _skeleton, orthogonal, over_rows
from jaxrl_lab.policies.transformer import rotate, timeline, turns


def test_fields_are_read_like_one_hot_vectors():
    space = MultiDiscrete((200, 3, 200))  # offsets do not fit the uint8 of the observation
    encoder = Encoder(space, 6, rngs=nnx.Rngs(0))
    obs = jnp.array([[199, 2, 199], [0, 0, 0]], jnp.uint8)
    table = encoder.table.embedding[...]
    expected = table[jnp.array([199, 0])] + table[jnp.array([202, 200])]
    expected += table[jnp.array([402, 203])]
    np.testing.assert_allclose(encoder(obs), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (16, 16), (1, 4), (64, 50)], ids=str)
def test_orthogonal_matrices_are_orthogonal_and_have_no_preferred_direction(shape):
    make = jax.jit(jax.vmap(lambda key: orthogonal(2.0)(key, shape)))
    matrix = np.asarray(make(jax.random.split(jax.random.key(0), 400)), np.float64)
    few = matrix if shape[0] <= shape[1] else np.swapaxes(matrix, 1, 2)
    gram = few @ np.swapaxes(few, 1, 2)
    np.testing.assert_allclose(gram, np.broadcast_to(4 * np.eye(min(shape)), gram.shape), atol=2e-5)
    # Every entry of a uniform frame has mean 0 and mean square gain² / max(shape).
    assert abs(matrix.mean(0)).max() < 5 * 2 / np.sqrt(max(shape) * 400)
    np.testing.assert_allclose((matrix**2).mean((1, 2)), 4 / max(shape), rtol=1e-4)


@pytest.mark.parametrize("name", ["mlp", "gru", "transformer"])
def test_no_initializer_calls_lapack(name):
    """Batched LAPACK calls side by side can wait for each other forever in jaxlib 0.10.2."""
    policy = make(name, make_env("bandit/modes", observation="features"))
    keys = jax.random.split(jax.random.key(0), 4)
    assert "lapack" not in jax.jit(jax.vmap(policy.init)).lower(keys).as_text()
    with_qr = jax.jit(jax.vmap(jax.numpy.linalg.qr)).lower(jnp.ones((4, 3, 3)))
    assert "lapack" in with_qr.as_text() or jax.default_backend() != "cpu"


@pytest.mark.parametrize("space", [ROWS, FIELDS, PLANES, Box(0.0, 1.0, ())], ids=repr)
def test_encoders_keep_leading_axes_and_unit_scale(space):
    encoder = Encoder(space, 512, rngs=nnx.Rngs(0))
    obs = random_obs(space, (4, 2, 3))
    read = encoder(obs)
    assert read.shape == (4, 2, 3, 512)
    np.testing.assert_allclose(read[1, 1, 2], encoder(obs[1, 1, 2]), rtol=1e-5, atol=1e-6)
    if not isinstance(space, Box):
        assert float(jnp.std(read)) == pytest.approx(1.0, abs=0.1)


def count(policy):
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes))


K, R, W = 5, ROWS.n, 16
HEAD = W * K + K
BLOCK = 3 * W * W + (W * W + W) + (4 * W * W + 4 * W) + (4 * W * W + W) + 4 * W


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (MLP(ROWS, K, hidden=(8, W)), R * 8 + (8 * W + W) + HEAD),
        (MLP(ROWS, K, hidden=(W,), value=True), 2 * R * W + HEAD + W + 1),
        (MLP(ROWS, K, hidden=(W,), value=True, shared=True), R * W + HEAD + W + 1),
        (MLP(FIELDS, K, hidden=(W,)), (7 + 3 + 11) * W + HEAD),
        (MLP(PLANES, K, hidden=(W,)), (6 * W + W) + HEAD),
        (GRU(ROWS, K, width=W), R * W + (W * 3 * W + 3 * W) + W * 3 * W + HEAD),
        (GRU(ROWS, K, width=W, value=True), R * W + 6 * W * W + 3 * W + HEAD + W + 1),
        (Transformer(ROWS, K, layers=3, width=W), R * W + 3 * BLOCK + 2 * W + HEAD),
        (
            Transformer(ROWS, K, layers=1, width=W, context=99, features=True),
            R * W + BLOCK + 2 * W + HEAD,
        ),
    ],
    ids=repr,
)
def test_number_of_parameters(policy, expected):
    assert count(policy) == expected


@pytest.mark.parametrize("policy", [MLP(ROWS, K), GRU(ROWS, K), Transformer(ROWS, K)], ids=repr)
def test_policies_start_near_uniform(policy):
    params = jax.jit(policy.init)(jax.random.key(0))
    obs = jnp.arange(R)[None]
    resets = jnp.zeros(obs.shape, bool)
    logp = unroll(policy, params, obs, resets, policy.start((1,)))["logp"]
    np.testing.assert_allclose(logp, -np.log(K), atol=0.3)
    assert float(jnp.std(logp)) > 1e-4


def test_attention_reaches_exactly_its_window():
    policy = Transformer(ROWS, K, layers=1, width=W, heads=2, context=4)
    params, moved = loud_params(policy), 3
    obs = random_obs(ROWS, (12,))
    changed = obs.at[moved].set((obs[moved] + 1) % R)
    quiet = jnp.zeros(12, bool)
    for run in (unroll, lambda *x: play(*x)[1]):
        a, b = (run(policy, params, x, quiet, policy.start(()))["logp"] for x in (obs, changed))
        touched = np.flatnonzero(np.max(np.abs(a - b), axis=-1) > 1e-5)
        np.testing.assert_array_equal(touched, np.arange(moved, moved + 4))


def test_attention_knows_order_but_not_the_date():
    # With two layers the causal mask alone would tell the order.
    policy = Transformer(ROWS, K, layers=1, width=W, heads=2, context=4)
    params, quiet = loud_params(policy), jnp.zeros(40, bool)
    obs = jnp.tile(random_obs(ROWS, (5,)), 8)
    logp = unroll(policy, params, obs, quiet, policy.start(()))["logp"]
    settled = 4 - 1
    np.testing.assert_allclose(logp[settled:-5], logp[settled + 5 :], atol=1e-5)
    swapped = obs.at[jnp.array([0, 1])].set(obs[jnp.array([1, 0])])
    other = unroll(policy, params, swapped, quiet, policy.start(()))["logp"]
    assert float(jnp.max(jnp.abs(other[2] - logp[2]))) > 1e-4


def test_rotated_scores_depend_on_the_lag_only():
    query, key = jax.random.normal(jax.random.key(0), (2, 1, 1, 8))

    def score(i, j):
        a, b = (rotate(x, turns(jnp.array([at]), 8, x.dtype)) for x, at in ((query, i), (key, j)))
        return float(jnp.sum(a * b))

    assert score(7, 3) == pytest.approx(score(104, 100), abs=1e-4)
    assert abs(score(7, 3) - score(3, 7)) > 1e-3
    assert score(5, 5) == pytest.approx(float(jnp.sum(query * key)), abs=1e-5)


def test_timeline_of_a_ring_that_has_turned():
    """Five observations seen, context 3: slots hold numbers 3, 4, 2; a reset comes at time 2."""
    resets = jnp.array([False, False, True, False])
    position, visible = timeline(resets, jnp.int32(5), 3)
    np.testing.assert_array_equal(position, [5, 6, 0, 1])
    expected = [
        [1, 1, 0, 1, 0, 0, 0],
        [0, 1, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 1],
    ]
    np.testing.assert_array_equal(visible, np.array(expected, bool))


def test_the_cached_skeleton_holds_no_arrays():
    policy = GRU(ROWS, K, width=4)
    params, obs = jax.jit(policy.init)(jax.random.key(0)), jnp.zeros((2, 3), jnp.int32)
    unroll(policy, params, obs, obs == 1, policy.start((2,)))
    leaves = jax.tree.leaves(_skeleton(policy)[1])
    assert leaves
    assert all(isinstance(x, jax.ShapeDtypeStruct) for x in leaves)


REFUSED = [
    (MLP, "hidden", ()),
    (MLP, "hidden.1", (8, 0)),
    (MLP, "activation", "swish"),
    (GRU, "width", 0),
    (GRU, "width", True),
    (GRU, "actions", 0),
    (GRU, "space", MultiDiscrete(())),
    (GRU, "space", Discrete(0)),
    (GRU, "space", Box(0.0, 1.0, (3, 0))),
    (GRU, "space", "rows"),
    (Transformer, "layers", 0),
    (Transformer, "heads", -1),
    (Transformer, "context", 0),
    (Transformer, "context", 2.5),
    (Transformer, "width", 30),
    (Transformer, "width", 12),
]


@pytest.mark.parametrize(("architecture", "key", "value"), REFUSED)
def test_impossible_structures_are_refused(architecture, key, value):
    given = {"space": ROWS, "actions": K} | {key.partition(".")[0]: value}
    with pytest.raises(BadInput) as refusal:
        architecture(**given)
    assert refusal.value.key == key


@pytest.mark.parametrize("policy_id", ["mlp", "gru", "transformer"])
@pytest.mark.parametrize("observation", ["prompt", "features"])
def test_make_reads_the_spaces_of_the_world(policy_id, observation):
    env = make_env("bandit/modes", observation=observation)
    policy = make(policy_id, env, value=True)
    assert (policy.space, policy.actions) == (env.observation_space, env.action_space.n)
    assert policy == dataclasses.replace(policy, value=True)
    assert {"value", "features"} <= set(options(policy_id))
    with pytest.raises(BadInput, match="nearest valid name: value"):
        make(policy_id, env, valu=True)


def test_make_takes_what_yaml_gives():
    env = make_env("bandit/modes")
    assert make("mlp", env, hidden=[32, "16"]).hidden == (32, 16)
    assert hash(make("mlp", env, hidden=[32])) == hash(make("mlp", env, hidden=(32,)))


# ------------------------------------------------------------------ precision and memory

NETWORKS = {
    "mlp": MLP(PLANES, 5, hidden=(32, 32), value=True, features=True),
    "gru": GRU(FIELDS, 5, width=32, value=True, features=True),
    "transformer": Transformer(FIELDS, 5, layers=2, width=32, heads=2, context=4, value=True),
}


def gradient(policy, seen):
    """Of a loss of all outputs of ``unroll``, flat."""

    def loss(params):
        out = unroll(policy, params, *seen, policy.start(seen[1].shape[:-1]))
        return sum(jnp.mean(x**2) for x in out.values())

    tree = jax.grad(loss)(loud_params(policy))
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_is_close_and_leaves_as_float32(name):
    exact = NETWORKS[name]
    half = dataclasses.replace(exact, precision="bfloat16")
    params, seen = loud_params(exact), experience(exact)
    assert {x.dtype for x in jax.tree.leaves(half.init(jax.random.key(0)))} == {np.dtype("float32")}
    start = half.start(seen[1].shape[:-1])
    assert all(x.dtype != jnp.float32 for x in jax.tree.leaves(start))
    a = unroll(exact, params, *seen, exact.start(seen[1].shape[:-1]))
    b = unroll(half, params, *seen, start)
    assert {x.dtype for x in b.values()} == {np.dtype("float32")}
    assert 1e-6 < largest_difference(a, b) < 0.15
    ours, theirs = gradient(half, seen), gradient(exact, seen)
    assert ours @ theirs > 0.99 * np.linalg.norm(ours) * np.linalg.norm(theirs)
    _, acted = play(half, params, *seen, start)
    assert largest_difference(acted, b) < 0.15


def test_recomputing_blocks_saves_memory_and_changes_nothing():
    plain = Transformer(FIELDS, 5, layers=4, width=32, heads=2, context=32, value=True)
    frugal = dataclasses.replace(plain, remat=True)
    seen = experience(plain)
    np.testing.assert_allclose(gradient(frugal, seen), gradient(plain, seen), rtol=1e-4, atol=1e-5)

    def bytes_of(policy):
        def loss(params):
            out = policy.unroll(params, *seen, policy.start(seen[1].shape[:-1]))
            return jnp.sum(out.dist.logp_all**2)

        # Of the equations: XLA on a CPU merges what was computed twice.
        return peak_bytes(jax.make_jaxpr(jax.grad(loss))(loud_params(policy)).jaxpr)

    assert bytes_of(frugal) < 0.7 * bytes_of(plain)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 0, 3), (2, 1, 3, 4)])
def test_over_rows_is_the_product_and_its_derivatives(lead):
    x = jax.random.normal(jax.random.key(0), (*lead, 5))
    kernel = jax.random.normal(jax.random.key(1), (5, 2))
    cotangent = jax.random.normal(jax.random.key(2), (*lead, 2))
    plain, pull = jax.vjp(jnp.matmul, x, kernel)
    ours, our_pull = jax.vjp(lambda x, k: over_rows(x, k, None), x, kernel)
    np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)
    for a, b in zip(our_pull(cotangent), pull(cotangent), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
