"""The public names of the laboratory with their signatures, as one text file.

    python scripts/public_api.py            # write tests/public_api.txt
    python scripts/public_api.py --check    # exit code 1 where it is not up to date

A change of that file is a change that users meet: it belongs into CHANGELOG.md, and what is taken
away or renamed follows the rule in CONTRIBUTING.md.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jaxrl_envs

import jaxrl_lab as lab
from jaxrl_lab import mechanisms

SNAPSHOT = Path(__file__).resolve().parents[1] / "tests" / "public_api.txt"
MODULES = ("exact", "measures", "plots", "policies", "rollouts", "statistics")


def listing() -> str:
    """One line per name: modules first, then mechanisms by slot, then recipes and worlds."""
    lines = [*_members("jaxrl_envs", jaxrl_envs), *_members("lab", lab)]
    for name in MODULES:
        lines += _members(f"lab.{name}", getattr(lab, name))
    for slot, found in mechanisms.catalog().items():
        lines += [f"recipe.{slot}: {name}{_fields(kind)}" for name, kind in sorted(found.items())]
    lines += [f"recipe {name}" for name in sorted(lab.recipes.names())]
    lines += [f"world {name}" for name in sorted(jaxrl_envs.registered())]
    return "\n".join(lines) + "\n"


def _members(title: str, module: ModuleType) -> Iterator[str]:
    for name in sorted(module.__all__):
        yield f"{title}.{name}{_fields(getattr(module, name))}"


def _fields(thing: Any) -> str:
    """The names of its parameters, with ``=`` where they have a default."""
    if isinstance(thing, ModuleType) or not callable(thing):
        return ""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return ""
    prefix = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    words = [
        prefix.get(p.kind, "") + p.name + ("=" if p.default is not inspect.Parameter.empty else "")
        for p in parameters
    ]
    return f"({', '.join(words)})"


def main() -> None:
    """Write the snapshot, or compare with it."""
    if "--check" not in sys.argv[1:]:
        SNAPSHOT.write_text(listing(), encoding="utf-8")
    elif SNAPSHOT.read_text(encoding="utf-8") != listing():
        sys.exit("tests/public_api.txt is not up to date: python scripts/public_api.py")


if __name__ == "__main__":
    main()
