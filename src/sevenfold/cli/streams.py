"""Handle standard streams that are closed, full, limited to ASCII, or without a reader, for all
verbs.

A closed stream becomes the null device, so that no file that is opened later gets its number.
Characters that an output cannot encode are escaped. A failed write to standard output ends the
program with the exit code of a failed output. If the reader is gone, the program ends without a
message. After a failed write to standard error the work continues without progress.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any

from sevenfold.core.errors import EXIT_OK, SevenfoldError, storage_error


class ReaderGoneError(SevenfoldError):
    """The reader of standard output (head, less) is gone. The program ends without a message."""

    exit_code = EXIT_OK


class _Stream:
    """A text stream that raises the errors of this program.

    Other attributes are those of the wrapped stream.
    """

    def __init__(self, stream: Any, *, is_output: bool) -> None:
        self._stream, self._is_output = stream, is_output
        # The first failure is kept, because a library may have suppressed it.
        self._failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text. Raises ReaderGoneError or StorageError, for standard output only."""
        try:
            return int(self._stream.write(text))
        except (OSError, ValueError) as error:
            return self._failed(error, len(text))

    @property
    def plain(self) -> Any:
        """Return the wrapped stream."""
        return self._stream

    def writelines(self, lines: Any) -> None:
        """Write each text. Raises as `write` does."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream to its reader.

        Raises as `write` does, also for an earlier write that failed.
        """
        if self._failure is not None:
            raise self._failure
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._failed(error, 0)

    def _failed(self, error: Exception, n_written: int) -> int:
        silence(self._stream)
        if not self._is_output:
            return n_written
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            self._failure = storage_error(error, "standard output")
        else:
            self._failure = ReaderGoneError("the reader of standard output is gone")
        raise self._failure from error


def silence(stream: Any) -> None:
    """Redirect the stream to the null device, with what it still buffers."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _null(mode: str) -> Any:
    # Closed streams are reopened from 0 on, so each gets the number that the system expects of it.
    return open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123  (open until the process ends)


def prepare() -> None:
    """Make the three standard streams usable. Call it once, before anything is read or written."""
    if sys.stdin is None:
        sys.stdin = _null("r")
    if sys.stdout is None:
        sys.stdout = _null("w")
    if sys.stderr is None:
        sys.stderr = _null("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout = _Stream(sys.stdout, is_output=True)
    sys.stderr = _Stream(sys.stderr, is_output=False)


def restore() -> None:
    """Restore the streams, so that the last flush of the interpreter meets no failure again."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, _Stream):
            with suppress(SevenfoldError):
                stream.flush()
            setattr(sys, name, stream.plain)
