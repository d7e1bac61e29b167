"""The environment a run starts in: variables that would stop it are refused in one line."""

from __future__ import annotations

import os
import tempfile

from jaxrl_envs.errors import BadInput, unknown_key

VARIABLES = ("JAXRL_LAB_CACHE", "JAXRL_LAB_JOIN_SECONDS", "JAXRL_LAB_TEST_OPTIMIZED")
"""All variables of the laboratory's own."""


def start_jax(distributed: bool = False) -> None:
    """Import jax and find its devices, those of the other processes of a run among them.

    Raises:
        BadInput: naming the variable that jax or the laboratory cannot use.
    """
    for name, value in os.environ.items():
        if name.startswith("JAXRL_LAB_") and name not in VARIABLES:
            raise unknown_key(name, value, VARIABLES)
    try:
        import jax

        if distributed:
            from jaxrl_lab.experiments.devices import join

            join()
        jax.devices()
    except (ImportError, RuntimeError, ValueError, AssertionError) as error:
        raise _complaint(error) from None
    _check_cache()


def _complaint(error: Exception) -> BadInput:
    """Which variable jax failed over: the one whose name or value its message has."""
    reason = " ".join(str(error).split()) or type(error).__name__
    given = {name: value for name, value in os.environ.items() if name.startswith("JAX_")}
    for name, value in given.items():
        if name.lower() in reason.lower() or (value and repr(value) in reason) or len(given) == 1:
            return BadInput(name, value, f"a value with which jax starts ({reason})")
    return BadInput("jax", reason, "an installation that starts; jaxrl-lab doctor says more")


def _check_cache() -> None:
    from jaxrl_lab.cache import CACHE_VARIABLE, cache_folder

    folder = cache_folder()
    if folder is None or not os.environ.get(CACHE_VARIABLE):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        expected = f"a folder that can be written, or off ({reason})"
        raise BadInput(CACHE_VARIABLE, str(folder), expected) from None
