"""From sources to the file that a browser opens."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from jaxrl_envs.errors import BadInput

from jaxrl_lab.atlas.cards import collect
from jaxrl_lab.atlas.page import MARK, render


def build(sources: Iterable[str | Path], out: str | Path) -> Path:
    """Write the page of some sources: ``atlas.build(["runs"], "atlas.html")``.

    Args:
        sources: run directories, folders of them, or a folder with ``verdicts/`` and ``figures/``;
            the published verdicts of this checkout where there are none.
        out: the file to write. An atlas that stands there is replaced, anything else is not.

    Raises:
        BadInput: a source that is no such thing or is damaged, or a place that cannot be written.
    """
    page, target = render(collect([Path(s) for s in sources])), Path(out)
    try:
        if os.path.lexists(target) and not _is_atlas(target):
            raise BadInput("out", str(target), "a file that does not exist yet, or an atlas")
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, page)
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        if isinstance(error, BadInput):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput("out", str(target), f"a writable place ({reason})") from None
    return target


def _is_atlas(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return MARK.encode() in stream.read(1000)


def _write(target: Path, page: str) -> None:
    """Beside its place and moved there: a reader meets the old page or the new one."""
    handle, beside = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(page.encode("utf-8", "replace"))  # half a surrogate pair is a "?"
        os.chmod(beside, 0o644)
        os.replace(beside, target)
    except BaseException:
        os.unlink(beside)
        raise
