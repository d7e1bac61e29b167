"""The table of worlds: one row per configuration, collected from every ``cases_*.py`` beside this.

A new world gets every check by adding a module with a list ``WORLDS``.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from jaxrl_envs.testing import Case as World
from jaxrl_envs.testing import midpoints

__all__ = ["World", "collect", "midpoints"]


def collect() -> list[World]:
    modules = sorted(Path(__file__).parent.glob("cases_*.py"))
    return [row for path in modules for row in importlib.import_module(path.stem).WORLDS]
