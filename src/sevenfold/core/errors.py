"""Define the root of all errors, and the exit codes of the command line.

Every error that a user can cause derives from `SevenfoldError` and states three things: what is
wrong, where, and the remedy. The command line prints that one line and exits with the code of the
class. Any other exception that escapes is a defect of this program and exits with 1.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_INTERRUPTED = 130

EXIT_CODES: dict[int, str] = {
    0: "success",
    1: "a defect of Sevenfold itself; please report it",
    2: "bad usage, or a recipe that is refused",
    3: (
        "an artifact that is refused: corrupt, truncated, newer than this reader, not verified, or found"
        " different by audit, or a statement about it that is refused"
    ),
    4: "input or output failed: a missing file, no permission, a full disk, an empty corpus",
    5: "a prompt or a call that the CM-1 gate or the context refuses",
    6: "the model is not good enough: the loss is not finite, or the quality gate is not met",
    130: "interrupted; run the same command again to go on",
}


class SevenfoldError(Exception):
    """Root of all errors raised on purpose.

    Args:
        what: what is wrong, with the offending value.
        where: the file, offset, key or tensor it concerns ("" when `what` says it already).
        remedy: what the user can do ("" when nothing can be done but replace the input).
    """

    exit_code = EXIT_INTERNAL

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what, where, remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross processes, and unpickling an exception calls __init__ without keywords.
        return _made_again, (type(self), self.what, self.where, self.remedy), self.__dict__

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.remedy})" if self.remedy else text


def _made_again(kind: type[SevenfoldError], what: str, where: str, remedy: str) -> SevenfoldError:
    error = kind.__new__(kind)
    SevenfoldError.__init__(error, what, where=where, remedy=remedy)
    return error


class UsageError(SevenfoldError):
    """A wrong argument."""

    exit_code = 2


class RecipeError(SevenfoldError):
    """A recipe that cannot be read, or breaks the schema."""

    exit_code = 2


class PolicyError(RecipeError):
    """A recipe that breaks a rule of its family; `rule` is the rule's id."""

    def __init__(self, rule: str, what: str, *, where: str = "", remedy: str = "") -> None:
        self.rule = rule
        super().__init__(f"rule {rule}: {what}", where=where, remedy=remedy)


class ArtifactError(SevenfoldError):
    """A sealed file that is refused. Subclasses live in `sevenfold.artifact.errors`, one per cause."""

    exit_code = 3


class StorageError(SevenfoldError):
    """A file or directory that cannot be read or written, or holds nothing usable."""

    exit_code = 4


class GateError(SevenfoldError):
    """A call outside the CM-1 gate, a forbidden control character, or a prompt past the context."""

    exit_code = 5


class TrainingError(SevenfoldError):
    """Training that must stop: a loss that is not finite, or one that jumped."""

    exit_code = 6


class QualityError(SevenfoldError):
    """A model that lost more in quantisation than its recipe allows."""

    exit_code = 6


_OS_TEXT = {
    errno.ENOENT: ("no such file or directory", "check the path"),
    errno.EACCES: ("permission denied", "check the owner and mode, or choose another path"),
    errno.EPERM: ("operation not permitted", "check the owner and mode, or choose another path"),
    errno.EROFS: ("the file system is read-only", "choose another path"),
    errno.ENOSPC: ("no space left on the device", "free some space, then run the same command again"),
    errno.EDQUOT: ("disk quota exceeded", "free some space, then run the same command again"),
    errno.EISDIR: ("it is a directory, a file was expected", "name a file"),
    errno.ENOTDIR: ("a part of the path is a file, not a directory", "check the path"),
    errno.EFBIG: ("the file would grow past the allowed size", "raise the limit (ulimit -f)"),
}


def storage_error(error: OSError, path: Path | str | None = None) -> StorageError:
    """Turn an `OSError` into the one-line `StorageError` that names the path and the remedy."""
    where = str(path if path is not None else error.filename or "")
    what, remedy = _OS_TEXT.get(error.errno or 0, (error.strerror or str(error), ""))
    return StorageError(what, where=where, remedy=remedy)


@contextmanager
def storage(path: Path | str | None = None) -> Iterator[None]:
    """Turn an `OSError` of this block into a `StorageError` about `path`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error
