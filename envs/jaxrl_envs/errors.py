"""The one error a user of the lab sees: it names the key, the value, and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class BadInput(ValueError):  # noqa: N818 (what a user reads, not a fault of ours)
    """A value the user gave cannot be used.

    Args:
        key: dotted path of the offending entry, for example ``environment.modes``.
        value: what was given.
        expected: what would have been accepted, in words.
        names: where a name was expected, all valid names; the nearest is suggested.
        name: the text to compare with ``names``; the value itself unless given.
    """

    def __init__(
        self,
        key: str,
        value: Any,
        expected: str,
        names: Iterable[str] = (),
        name: str | None = None,
    ) -> None:
        self.key, self.value, self.expected, self.names = key, value, expected, tuple(names)
        self.name = str(value) if name is None else name
        super().__init__(str(self))

    @property
    def nearest(self) -> str | None:
        """The valid name most like the value, or None where nothing comes close."""
        close = difflib.get_close_matches(self.name, self.names, n=1, cutoff=0.4)
        return close[0] if close else None

    def within(self, prefix: str) -> BadInput:
        """The same complaint, seen from one level further out."""
        key = f"{prefix}.{self.key}" if self.key else prefix
        return BadInput(key, self.value, self.expected, self.names, self.name)

    def __str__(self) -> str:
        shown = repr(self.value)
        # Both ends, because a long path says most in its last part.
        shown = shown if len(shown) <= 80 else f"{shown[:50]}...{shown[-27:]}"
        text = f"{self.key} = {shown}: expected {self.expected}"
        return f"{text}; nearest valid name: {self.nearest}" if self.nearest else text


def unknown_key(key: str, value: Any, names: Iterable[str], name: str = "") -> BadInput:
    """The complaint about a key that nobody reads.

    ``key`` may be a dotted path, of which ``name`` is the unknown part: the last unless given.
    """
    names = tuple(names)
    expected = f"one of the keys {', '.join(names)}" if names else "no keys here"
    return BadInput(key, value, expected, names, name=name or key.rpartition(".")[2])


def expect(ok: bool, key: str, value: Any, expected: str) -> None:
    """Raise :class:`BadInput` unless ``ok``."""
    if not ok:
        raise BadInput(key, value, expected)
