"""Programs: compiled ahead by threads of their own, and given up before they are too many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
T = TypeVar("T")

COMPILERS = 2
"""XLA compiles outside the interpreter lock: while one program is compiled another is traced."""
MOST_MAPS = 25_000
"""Memory maps at which compiled programs are given up; Linux allows a process 65 530."""

_working = threading.Semaphore(COMPILERS)


@cache
def _compilers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(COMPILERS, thread_name_prefix="jaxrl-lab-compile")


def run_ahead(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Do something beside the training, after the work that already waits."""

    def alone() -> T:
        with _working:
            return work(*args, **kwargs)

    return _compilers().submit(alone)


def forget_programs() -> None:
    """Drop compiled programs that nobody runs, where they come near the limit of memory maps.

    Every program on a CPU holds some hundred maps, and jax keeps all it ever compiled: a process
    that compiles a few hundred of them would be ended by LLVM's "Cannot allocate memory".
    """
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        with ExitStack() as nobody_compiles:  # jax's caches must not grow while they are cleared
            for _ in range(COMPILERS):
                nobody_compiles.enter_context(_working)
            jax.clear_caches()
