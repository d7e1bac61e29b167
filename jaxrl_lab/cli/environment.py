"""The environment a run starts in: variables that would stop it are refused in one line."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from pathlib import Path

import click
from jaxrl_envs.errors import BadInput, expect, unknown_key

from jaxrl_lab.compiling import cheap_flags

VARIABLES = ("JAXRL_LAB_CACHE", "JAXRL_LAB_JOIN_SECONDS", "JAXRL_LAB_TEST_OPTIMIZED")
"""All variables of the laboratory's own."""


def start_jax(distributed: bool = False, out: Path | None = None, tier: str = "") -> None:
    """Import jax and find its devices, those of the other processes of a run among them.

    Args:
        distributed: join the other processes of the run.
        out: the folder of the run, to be named should the others get lost.
        tier: of the run; what is quick is compiled with few optimizations.

    Raises:
        BadInput: naming the variable that jax or the laboratory cannot use, or a run of several
            processes without a folder, of which each would choose another.
    """
    if distributed:
        expect(out is not None, "out", out, "a folder that all processes of --distributed see")
        _answer_for_a_child(out)
    for name, value in os.environ.items():
        if name.startswith("JAXRL_LAB_") and name not in VARIABLES:
            raise unknown_key(name, value, VARIABLES)
    if tier.startswith("quick"):
        _compile_cheaply()
    try:
        import jax

        if distributed:
            from jaxrl_lab.experiments.devices import join

            join()
        jax.devices()
    except (ImportError, RuntimeError, ValueError, AssertionError) as error:
        raise _complaint(error) from None
    _check_cache()


def _compile_cheaply() -> None:
    """Add what the user has not decided."""
    given = os.environ.get("XLA_FLAGS", "")
    added = [flag for flag in cheap_flags() if flag.partition("=")[0] not in given]
    os.environ["XLA_FLAGS"] = " ".join([given, *added]).strip()


def _answer_for_a_child(out: Path | None) -> None:
    """Go on in a child process, which XLA aborts when the first process of a run is lost.

    The parent passes signals on, says in one line what an abort means, and ends as the child did;
    the child ends when the parent is gone. Nothing of jax may be imported yet: it has threads.
    """
    lifeline, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        os.setsid()  # an interrupt of the terminal comes once, through the parent
        threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
        return
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGABRT:
        how = f"jaxrl-lab resume {out or 'DIR'}, on as many processes as there are"
        reason = "another process of the run is gone or never came, so XLA ended this one"
        click.echo(f"jaxrl-lab: {reason}; where a run had begun, go on with: {how}", err=True)
        code = 1
    os._exit(code if code >= 0 else 128 - code)


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


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
