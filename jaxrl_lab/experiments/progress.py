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
        self._members: Sequence[int] = ()
        self._current, self._done, self._updates = 0, 0, 0

    def start(self, programs: int, updates: int, members: Sequence[int]) -> None:
        """Announce the work: members of each program (arms × seeds), and updates for each."""
        self._members, self._updates = members, updates
        self._bar = tqdm(
            total=updates * sum(members),
            disable=self.quiet,
            desc=self.label,
            unit=" policy updates",
            unit_scale=True,
            leave=False,
        )

    def program(self, number: int, names: Sequence[str]) -> None:
        """A program begins; its first chunk includes the compile."""
        self._current, self._done = number, 0
        self._bar.set_postfix_str(", ".join(names)[:40])

    def chunk(self, updates_done: int) -> None:
        """A chunk ended."""
        self._bar.update((updates_done - self._done) * self._members[self._current])
        self._done = updates_done

    def finish(self) -> None:
        """The experiment is over."""
        self._bar.close()
