"""What every world promises, as checks that run on yours too: ``check(Case("my/world"))``.

A :class:`Case` is one configuration of a registered world; the checks together are the table of
tests that the built-in worlds pass.
"""

from __future__ import annotations

from jaxrl_envs.testing.case import Case, midpoints
from jaxrl_envs.testing.checks import CHECKS, NEEDS

__all__ = ["CHECKS", "Case", "applicable", "check", "midpoints"]


def check(case: Case) -> list[str]:
    """Run every check that applies to the world and return their names.

    Raises:
        AssertionError: where the world breaks its contract.
    """
    names = applicable(case)
    for name in names:
        try:
            CHECKS[name](case)
        except AssertionError as error:
            raise AssertionError(f"{case} breaks {name}: {error}") from error
    return names


def applicable(case: Case) -> list[str]:
    """The checks that apply: those of tables and pass rates need the member."""
    env = case.make()
    return [name for name in CHECKS if hasattr(env, NEEDS.get(name, "step"))]
