"""GRPO of a small transformer in the lab against a plain PyTorch loop on the same cores.

2 layers of width 64, 4 heads, rotary positions, 16 generated tokens, 8 rollouts per prompt, one
Adam step per batch: modular chains of 16 tokens, of which the model sees the time, the target, the
first residue and its last token. The loop is what one would write in PyTorch: the same model,
generation with a KV cache and without gradients, group-normalized rewards, the clipped surrogate
with the probabilities of generation as the old ones, one backward pass. Both generate, score and
learn, from the same observations and rewards; the rate is generated tokens per second of all of
that. Contestants take turns, and both have to have learned: on easier chains, of ten residues,
because one right answer in a hundred teaches slowly. A third row has the products with the weights
alone, without which no float32 update of this model can be: what would be left if attention,
normalization and all else took no time.

    pip install torch                          # a CPU build will do; without it the lab runs alone
    python benchmarks/transformer.py           # minutes
    python benchmarks/transformer.py --quick   # 64 prompts only
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from typing import Any

os.environ["JAXRL_LAB_CACHE"] = "off"

import jax
import jax.numpy as jnp
import jaxrl_envs
import numpy as np
import timing

from jaxrl_lab import policies, recipes
from jaxrl_lab.experiments.bench import take_turns
from jaxrl_lab.experiments.population import Arm, compile_program, group_arms, run_program
from jaxrl_lab.experiments.run import no_measure

try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = None  # type: ignore[assignment]

LAYERS, WIDTH, HEADS = 2, 64, 4
LENGTH, GROUP, VOCABULARY, MODULUS, EASY = 16, 8, 3, 100, 10
RATE, CLIP, EPS = 1e-3, 0.2, 1e-6
BASE = 10_000.0
Tree = Any


def main() -> None:
    options = timing.options(__doc__, "64 prompts only").parse_args()
    sizes = (64,) if options.quick else (64, 512, 4096)
    report: dict[str, Any] = {"about": timing.about()}
    report["about"]["torch"] = torch.__version__ if torch else "not installed"
    print(timing.heading(report["about"]))
    print("\ngenerated tokens per second with learning: median [lowest, highest]")
    report["sizes"] = {}
    for n in sizes:
        report["sizes"][str(n)] = race(n, options.repeats, torch and n <= 512)
        _print_race(n, report["sizes"][str(n)])
    report["learning"] = learning(64, 8 if options.quick else 60)
    _print_learning(report["learning"])
    timing.save(report, options.json)


def race(prompts: int, repeats: int, with_torch: bool) -> dict[str, Any]:
    """Generated tokens per second of both at one size, and what the lab's program took to make."""
    updates = max(1, 512 // prompts)
    compiled = lab_program(prompts, updates)
    runs: dict[str, Callable[[], Any]] = {
        "lab": lambda: run_program(compiled, range(1))[1]["return"]
    }
    product = products(prompts)
    runs["products"] = lambda: [product() for _ in range(updates)]
    if with_torch:
        loop = Loop(prompts)
        runs["loop"] = lambda: [loop.update() for _ in range(updates)]
    times, _ = take_turns(runs, repeats)
    tokens = updates * prompts * GROUP * LENGTH
    rates = {name: [tokens / t for t in seconds] for name, seconds in times.items()}
    found: dict[str, Any] = {
        "updates": updates,
        "tokens_per_second": {name: timing.spread(values) for name, values in rates.items()},
        "compile": {"trace": compiled.trace_seconds, "compile": compiled.compile_seconds},
        "peak_memory_mib": round(timing.peak_memory()),
    }
    if with_torch:
        pairs = zip(rates["lab"], rates["loop"], strict=True)
        found["ratio"] = statistics.median(a / b for a, b in pairs)
        pairs = zip(rates["products"], rates["loop"], strict=True)
        found["bound"] = statistics.median(a / b for a, b in pairs)
    return found


def products(prompts: int) -> Callable[[], Any]:
    """All products of one update with the weights of the blocks: to generate, and to learn."""
    sizes = [(WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)] * LAYERS
    key, *keys = jax.random.split(jax.random.key(0), 1 + len(sizes))
    weights = [0.1 * jax.random.normal(k, size) for k, size in zip(keys, sizes, strict=True)]
    x = jax.random.normal(key, (prompts * GROUP * LENGTH, WIDTH))

    def forward(weights: list[Any], x: Any) -> list[tuple[Any, Any]]:
        """Input and output of every product; inputs of other widths are made of x."""
        read = [x if w.shape[0] == WIDTH else jnp.tile(x, (1, 4)) for w in weights]
        return [(a, a @ w) for a, w in zip(read, weights, strict=True)]

    @jax.jit
    def update(weights: list[Any], x: Any) -> Any:
        def token(now: Any, _: None) -> tuple[Any, None]:
            # A maximum, because XLA knows how to do without a product whose sum is wanted.
            most = [jnp.max(y, axis=-1, keepdims=True) for _, y in forward(weights, now)]
            return now + sum(most), None

        last, _ = jax.lax.scan(token, x[: len(x) // LENGTH], None, length=LENGTH)
        seen = zip(forward(weights, x), weights, strict=True)
        return last, [(y @ w.T, a.T @ y) for (a, y), w in seen]

    return lambda: jax.block_until_ready(update(weights, x))


def learning(prompts: int, updates: int, modulus: int = EASY) -> dict[str, Any]:
    """Mean reward of the first and of the last fifth of a training, three seeds, of both."""
    seeds, fifth = 3, max(1, updates // 5)
    compiled = lab_program(prompts, updates, seeds, modulus)
    curves = {"lab": run_program(compiled, range(seeds))[1]["return"][0][:, 1:]}
    if torch:
        loops = [Loop(prompts, seed, modulus) for seed in range(seeds)]
        curves["loop"] = np.array([[loop.update() for _ in range(updates)] for loop in loops])
    return {
        "setting": f"{prompts} prompts, {modulus} residues, {updates} updates, {seeds} seeds",
        "first": {k: v[:, :fifth].mean(1).tolist() for k, v in curves.items()},
        "last": {k: v[:, -fifth:].mean(1).tolist() for k, v in curves.items()},
    }


def world(prompts: int, modulus: int = MODULUS) -> Any:
    """Chains of 16 tokens, the operators +1, +3 and times 2."""
    return jaxrl_envs.make(
        "reasoning/modular_chain",
        modulus=modulus,
        vocabulary=VOCABULARY,
        length=LENGTH,
        operators="affine",
        observation="tokens",
        prompts=prompts,
    )


def lab_program(prompts: int, updates: int, seeds: int = 1, modulus: int = MODULUS) -> Any:
    """The lab's program."""
    env = world(prompts, modulus)
    policy = policies.make(
        "transformer", env, layers=LAYERS, width=WIDTH, heads=HEADS, context=LENGTH
    )
    recipe = recipes.recipe(
        "grpo", group=GROUP, epochs=1, optimizer=[{"adam": {"learning_rate": RATE}}]
    )
    (program,) = group_arms({"grpo": Arm(env, env.default_params, policy, recipe)})
    return compile_program(program, range(seeds), updates, 1, no_measure)


class Loop:
    """The plain loop in PyTorch."""

    def __init__(self, prompts: int, seed: int = 0, modulus: int = MODULUS) -> None:
        torch.manual_seed(seed)
        env = world(prompts, modulus)
        levels = jax.vmap(env.make_level, (None, 0))(env.default_params, np.arange(prompts))
        self.first = torch.tensor(np.asarray(levels.first)).long().repeat_interleave(GROUP)
        self.target = torch.tensor(np.asarray(levels.target)).long().repeat_interleave(GROUP)
        self.ahead = torch.tensor(np.asarray(env._tables.next).astype(np.int64))
        self.model = _model(modulus)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE)

    def update(self) -> float:
        """Generate, score, learn; the mean reward."""
        seen, tokens, old, reward = self._generate()
        grouped = reward.view(-1, GROUP)
        mean, std = grouped.mean(1, keepdim=True), grouped.std(1, keepdim=True)
        advantage = ((grouped - mean) / (std + EPS)).view(-1, 1)
        logits, _ = self.model(seen, None, 0)
        logp = functional.log_softmax(logits, -1).gather(-1, tokens[..., None])[..., 0]
        ratio = torch.exp(logp - old)
        clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
        loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(reward.mean())

    def _generate(self) -> tuple[Any, Any, Any, Any]:
        residue, last = self.first.clone(), torch.zeros_like(self.first)
        cache, seen, tokens, old = None, [], [], []
        with torch.no_grad():
            for t in range(LENGTH):
                now = torch.stack([torch.full_like(last, t), self.target, self.first, last], -1)
                logits, cache = self.model(now[:, None], cache, t)
                logp = functional.log_softmax(logits[:, 0], -1)
                token = torch.multinomial(logp.exp(), 1)
                seen.append(now)
                tokens.append(token[:, 0])
                old.append(logp.gather(-1, token)[:, 0])
                residue, last = self.ahead[residue, token[:, 0]], token[:, 0] + 1
        reward = (residue == self.target).float()
        return *(torch.stack(x, 1) for x in (seen, tokens, old)), reward


def _model(modulus: int) -> Any:
    nn = torch.nn
    sizes = (LENGTH + 1, modulus, modulus, VOCABULARY + 1)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.project = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
            self.mix = nn.Linear(WIDTH, WIDTH)
            self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any, cache: Any, start: int) -> Any:
            n, t, _ = x.shape
            q, k, v = (
                y.view(n, t, HEADS, -1).transpose(1, 2)
                for y in self.project(self.before(x)).chunk(3, -1)
            )
            q, k = _rotate(q, start), _rotate(k, start)
            if cache is not None:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            read = functional.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
            x = x + self.mix(read.transpose(1, 2).reshape(n, t, WIDTH))
            return x + self.narrow(functional.gelu(self.widen(self.between(x)))), (k, v)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.ModuleList([nn.Embedding(size, WIDTH) for size in sizes])
            self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
            self.last, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY)
            with torch.no_grad():  # near uniform at first, as in the lab: else it learns faster
                self.head.weight *= 0.01
                self.head.bias *= 0.0

        def forward(self, seen: Any, cache: Any, start: int) -> Any:
            x = sum(table(seen[..., i]) for i, table in enumerate(self.embed))
            kept = []
            for i, block in enumerate(self.blocks):
                x, pair = block(x, None if cache is None else cache[i], start)
                kept.append(pair)
            return self.head(self.last(x)), kept

    return Model()


def _rotate(x: Any, start: int) -> Any:
    half = x.shape[-1] // 2
    rate = BASE ** (-torch.arange(half) / half)
    angle = torch.outer(torch.arange(start, start + x.shape[-2]).float(), rate)
    a, b = x[..., :half], x[..., half:]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def _print_race(n: int, row: dict[str, Any]) -> None:
    for name, s in row["tokens_per_second"].items():
        print(f"  {n:>5} prompts  {name:8} {timing.in_brackets(s, 1, unit=1e-3, width=7)} k/s")
    if "ratio" in row:
        print(f"  {n:>5} prompts  ratio {row['ratio']:.2f}, of the products {row['bound']:.2f}")
    made = row["compile"]
    print(f"{'':16} trace {made['trace']:.1f} s, compile {made['compile']:.1f} s", flush=True)


def _print_learning(row: dict[str, Any]) -> None:
    print(f"\nmean reward, {row['setting']}, first and last fifth of the training")
    for name, first in row["first"].items():
        cells = (f"{a:.3f} -> {b:.3f}" for a, b in zip(first, row["last"][name], strict=True))
        print(f"  {name:4} {', '.join(cells)}")


if __name__ == "__main__":
    sys.exit(main())
