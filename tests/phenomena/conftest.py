"""One tiny run of a phenomenon, shared by every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest

import jaxrl_lab as lab
from jaxrl_lab.phenomena import Report

TINY = {
    "environment.prompts": 4,
    "environment.arms": 8,
    "environment.modes": 2,
    "interventions.updates": 40,
    "interventions.measure_every": 2,
    "breakdown.updates": 3,
}


@pytest.fixture(autouse=True, scope="package")
def light() -> Iterator[None]:
    """The caches of who runs the tests stay untouched, and compiling takes a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXRL_LAB_CACHE", "off")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Three seeds of everything, saved."""
    folder = tmp_path_factory.mktemp("phenomenon") / "deep" / "run"
    return lab.run("entropy_collapse", seeds=3, settings=TINY, out=folder)
