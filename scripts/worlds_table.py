"""Write the table of worlds into README.md and docs/worlds.md, from measurements and the registry.

    python benchmarks/worlds.py --json docs/benchmarks/worlds.json
    python scripts/worlds_table.py            # writes; --check fails where a page is out of date

Every registered world gets a row: what it is, bytes of a packed state, steps per second, which
exact answers it has, and which phenomena use it.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs
import yaml
from jaxrl_envs.core import factory_of

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT / "docs" / "benchmarks" / "worlds.json"
BEGIN, END = "<!-- worlds: begin -->", "<!-- worlds: end -->"
FACTS = {
    "optimal_value": "optimum",
    "tabular": "table",
    "solutions": "solutions",
    "pass_rate": "difficulty",
}
"""Optional members, and what the table calls them."""


def main() -> int:
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    pages = {
        ROOT / "README.md": _between(ROOT / "README.md", short_table(measured)),
        ROOT / "docs" / "worlds.md": long_page(measured),
    }
    if "--check" in sys.argv:
        stale = [p for p, text in pages.items() if p.read_text(encoding="utf-8") != text]
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run python scripts/worlds_table.py")
        return len(stale)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return 0


def short_table(measured: dict[str, Any]) -> str:
    """One line per world."""
    users = used_by()
    lines = [
        "| world | state | million steps/s | exact answers | used by |",
        "| --- | --- | --- | --- | --- |",
    ]
    for world in jaxrl_envs.registered():
        found = measured["worlds"][world]
        line = [
            f"[`{world}`](docs/worlds.md#{_anchor(world)}): {_headline(world)}",
            f"{found['state_bytes']} B",
            _best(found),
            ", ".join(_facts(world)) or "none",
            ", ".join(users.get(world, ())) or "no phenomenon yet",
        ]
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join([*lines, "", _how(measured)])


def race_table(measured: dict[str, Any]) -> str:
    """Worlds against peers, one line per size."""
    lines = [
        "| world | against | instances | generator | ours | theirs | ratio | goal |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for r in measured["races"]:
        static = ", ".join(f"{k}={v}" for k, v in r["static"].items())
        lines.append(
            f"| `{r['world']}` ({static}) | {r['peer']} | {r['n']} | {r['generator']} | "
            f"{r['ours'] / 1e6:.1f} | {r['theirs'] / 1e6:.2f} | {r['ratio']:.1f} | {r['goal']:g} |"
        )
    return "\n".join(lines)


def long_page(measured: dict[str, Any]) -> str:
    """A section per world: what it is, how it looks, what can be swept, how fast it is."""
    parts = [
        "# Worlds",
        "Made by `python scripts/worlds_table.py`. A static option is given to `make`; a param is "
        "an array, so a sweep over it compiles once.",
        _how(measured),
        "## Against other suites",
        "Million steps per second, both sides in one process. Ratios below their goal are shown "
        "like the others.",
        race_table(measured),
    ]
    for world in jaxrl_envs.registered():
        env, found = jaxrl_envs.make(world), measured["worlds"][world]
        rates = ", ".join(
            f"{int(n):,} instances: {r['median'] / 1e6:.1f} "
            f"[{r['low'] / 1e6:.1f}, {r['high'] / 1e6:.1f}]"
            for n, r in found["steps_per_second"].items()
        )
        parts += [
            f"## {world}",
            inspect.getdoc(type(env)) or "",
            "```text\n" + _picture(env) + "\n```",
            f"- static: {_static(env)}",
            f"- params: {', '.join(f'`{n}`' for n in _params(env)) or 'none'}",
            f"- exact answers: {', '.join(_facts(world)) or 'none'}",
            f"- bytes: state {found['state_bytes']}, observation {found['observation_bytes']}; "
            f"compile {found['compile_seconds']:.2f} s (reset and 100 steps)",
            f"- million steps/s: {rates}",
        ]
    # List items of one world stand together; everything else is a paragraph.
    text = "\n\n".join(parts) + "\n"
    while "\n\n- " in text:
        text = text.replace("\n\n- ", "\n- ")
    return text.replace("```\n- static", "```\n\n- static")


def used_by() -> dict[str, list[str]]:
    """Phenomena by world, from their configurations."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        for world in sorted(_ids(yaml.safe_load(path.read_text(encoding="utf-8")))):
            found.setdefault(world, []).append(path.stem)
    return found


def _ids(node: Any) -> set[str]:
    if isinstance(node, dict):
        here = {node["id"]} if node.get("id") in jaxrl_envs.registered() else set()
        return here.union(*(_ids(v) for v in node.values()))
    if isinstance(node, list):
        return set().union(*(_ids(v) for v in node))
    return set()


def _headline(world: str) -> str:
    doc = inspect.getdoc(factory_of(world)) or ""
    return doc.split("\n\n")[0].replace("\n", " ").rstrip(".").replace("|", "\\|")


def _facts(world: str) -> list[str]:
    return [name for member, name in FACTS.items() if hasattr(factory_of(world), member)]


def _best(found: dict[str, Any]) -> str:
    rates = [r["median"] / 1e6 for r in found["steps_per_second"].values()]
    return f"{max(rates):.0f}" if max(rates) >= 10 else f"{max(rates):.1f}"


def _picture(env: Any) -> str:
    params, number = env.default_params, env.level_ids("train").start
    level = env.make_level(params, jnp.int32(number))
    state = env.reset(params, level, env.draw_reset(jax.random.key(0), ()))
    return str(env.render(params, level, state)).rstrip()


def _static(env: Any) -> str:
    given = [f"`{f.name} = {getattr(env, f.name)!r}`" for f in dataclasses.fields(env)]
    return ", ".join(given) or "none"


def _params(env: Any) -> list[str]:
    params = env.default_params
    return [f.name for f in dataclasses.fields(params)] if dataclasses.is_dataclass(params) else []


def _anchor(world: str) -> str:
    return world.replace("/", "")


def _how(measured: dict[str, Any]) -> str:
    about = measured["about"]
    return (
        "Random actions with automatic restarts, one jitted scan, best of the sizes measured; "
        f"{about['cores']} cores of {about['device']}, jax {about['jax']}, "
        f"Python {about['python']} (`python benchmarks/worlds.py`)."
    )


def _between(path: Path, text: str) -> str:
    whole = path.read_text(encoding="utf-8")
    head, rest = whole.split(BEGIN)
    return head + BEGIN + "\n" + text + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    sys.exit(main())
