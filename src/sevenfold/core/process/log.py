"""Report progress without knowing who listens.

A stage calls these methods. The command line displays them, a test records them, a service may log
them. Nothing here decides a byte.
"""

from __future__ import annotations

import unicodedata
from typing import Protocol


class Progress(Protocol):
    """A listener."""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """Begin a stage, or a section of one, of `total` units if that is known."""

    def advance(self, done: int, **fields: float | str) -> None:
        """Report that `done` units are done. `fields` are figures to show (loss,
        tokens_per_second).
        """

    def note(self, text: str) -> None:
        """Report one line to keep."""


class Silent:
    """A listener that ignores everything."""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """Ignore."""

    def advance(self, done: int, **fields: float | str) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""


def escaped(text: str) -> str:
    """Return a foreign text in a form safe for a terminal: control and format characters as `\\xNN`
    or `\\uNNNN`, line ends unchanged.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text
    )


def one_line(text: str) -> str:
    """Return a foreign name as one line: control and format characters as in `escaped`, line ends
    as well. Other blanks (U+3000) stay.
    """
    if text.isprintable():
        return text
    return "".join(
        c
        if c.isprintable() or unicodedata.category(c) == "Zs"
        else c.encode("unicode_escape").decode("ascii")
        for c in text
    )
