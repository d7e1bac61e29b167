"""Strict switches: implicit dtype or rank promotion raises, and two CPU devices are faked.

Nearly all of the suite's time is compilation, so programs are compiled without XLA's dear
optimizations; ``JAXRL_LAB_TEST_OPTIMIZED=1`` (as ``make test-slow`` sets it) compiles them as users
get them.
"""

import os
from collections.abc import Iterator

from jaxrl_lab.compiling import cheap_flags

flags = [os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=2"]
if os.environ.get("JAXRL_LAB_TEST_OPTIMIZED", "") != "1":
    flags += cheap_flags()
os.environ["XLA_FLAGS"] = " ".join(flags)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402  # only after the flags are set

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# Same examples on every machine, and no example is too slow: compiling takes what it takes.
settings.register_profile(
    "lab", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lab")


from jaxrl_lab.programs import forget_programs  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def few_programs() -> Iterator[None]:
    """One process runs hundreds of tests, each of which compiles programs of its own."""
    yield
    forget_programs()


THOROUGH = {"atlas", "docs", "envs", "exact", "measures", "mechanisms", "phenomena", "plots"}
"""Folders whose tests are about facts that do not depend on the interpreter or on jax's version."""

EVERY_PYTHON = {
    "test_vector", "test_compat", "test_refusals", "test_counter", "test_threefry",
    "test_exact_gradients", "test_phenomenon_core", "test_collapse_cli",
}  # fmt: skip
"""Tests in these folders that are about more than that."""

ONE_PYTHON = {
    "test_pretrain", "test_branches", "test_probe_worlds", "test_worlds_table", "test_spec",
    "test_expected_update", "test_recipe_options", "test_public_api", "test_own_experiments",
    "test_sweep", "test_plan", "test_soak", "test_devices", "test_processes", "test_result",
    "test_debug", "test_scaling",
}  # fmt: skip
"""Tests elsewhere that are not."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        facts = item.path.parent.name in THOROUGH and item.path.stem not in EVERY_PYTHON
        if facts or item.path.stem in ONE_PYTHON:
            item.add_marker(pytest.mark.thorough)
