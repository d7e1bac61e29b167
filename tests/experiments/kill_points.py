"""What a kill would leave on disk: a copy of a folder before every change that is made in it.

Python tells a hook of every file it is about to create, move or remove. Between two such moments
only the content of a file under way can change, which stands beside its place until it is moved.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_watched: list[tuple[str, Callable[[], None]]] = []
_looking = threading.local()


@contextlib.contextmanager
def before_every_change(folder: Path, look: Callable[[], None]) -> Iterator[None]:
    """Call ``look`` before anything in ``folder`` is created, moved or removed."""
    if not hasattr(sys, "_jaxrl_lab_kill_points"):
        sys.addaudithook(_hook)  # for good: there is no way to take one back
        sys._jaxrl_lab_kill_points = True  # type: ignore[attr-defined]
    _watched.append((str(folder), look))
    try:
        yield
    finally:
        _watched.pop()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched or event not in CHANGES or getattr(_looking, "now", False):
        return
    if event == "open" and not arguments[2] & WRITING:
        return
    folder, look = _watched[-1]
    if any(str(a).startswith(folder) for a in arguments if isinstance(a, str | os.PathLike)):
        _looking.now = True
        try:
            look()
        finally:
            _looking.now = False
