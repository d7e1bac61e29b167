"""A progress bar that moves between chunks, and stays away from files and pipes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm


class Progress:
    """Updates done, members trained, time left; one bar over all programs of an experiment."""

    def __init__(self, quiet: bool = False, label: str = "") -> None:
        self.quiet = quiet or not sys.stderr.isatty()
        self.label = label
        self._bar: Any = None
        self._members, self._done = 0, 0

    def start(self, updates: int, members: int) -> None:
        """Announce the work: updates of each member, and members (arms × seeds) in all."""
        self._bar = tqdm(
            total=updates * members,
            disable=self.quiet,
            desc=self.label,
            unit=" policy updates",
            unit_scale=True,
            leave=False,
        )

    def program(self, names: Sequence[str], members: int) -> None:
        """A program begins to run."""
        self._members, self._done = members, 0
        self._bar.set_postfix_str(", ".join(names)[:40])

    def chunk(self, updates_done: int) -> None:
        """A chunk ended."""
        self._bar.update((updates_done - self._done) * self._members)
        self._done = updates_done

    def finish(self) -> None:
        """The experiment is over, or was given up."""
        if self._bar is not None:
            self._bar.close()
