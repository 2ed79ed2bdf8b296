"""The error root: one line that says what, where and what to do; exit codes that are documented."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sevenfold.core import errors
from sevenfold.core.errors import (
    EXIT_CODES,
    PolicyError,
    SevenfoldError,
    StorageError,
    storage,
    storage_error,
)

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, SevenfoldError)
]


def test_the_classes_are_here() -> None:
    assert len(CLASSES) >= 9


@pytest.mark.parametrize("kind", CLASSES, ids=lambda k: k.__name__)
def test_exit_codes_are_documented(kind: type[SevenfoldError]) -> None:
    assert kind.exit_code in EXIT_CODES
    assert kind.exit_code != errors.EXIT_OK
    # Only the root, which nothing raises by itself, shares the code of a defect of ours.
    assert (kind.exit_code == errors.EXIT_INTERNAL) == (kind is SevenfoldError)


def test_each_code_stands_for_one_thing() -> None:
    assert {code for code in EXIT_CODES if code not in (0, 1, 130)} == {
        kind.exit_code for kind in CLASSES if kind is not SevenfoldError
    }
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    by_code: dict[int, set[str]] = {}
    for kind in CLASSES:
        by_code.setdefault(kind.exit_code, set()).add(kind.__name__)
    assert by_code == {
        1: {"SevenfoldError"},
        2: {"UsageError", "RecipeError", "PolicyError"},
        3: {"ArtifactError"},
        4: {"StorageError"},
        5: {"GateError"},
        6: {"TrainingError", "QualityError"},
    }


@pytest.mark.parametrize("kind", [k for k in CLASSES if k is not PolicyError], ids=lambda k: k.__name__)
def test_a_message_is_one_line_of_three_parts(kind: type[SevenfoldError]) -> None:
    assert str(kind("it is 7")) == "it is 7"
    assert str(kind("it is 7", where="file:3")) == "file:3: it is 7"
    assert str(kind("it is 7", remedy="make it 8")) == "it is 7 (make it 8)"
    full = kind("it is 7", where="file:3", remedy="make it 8")
    assert str(full) == "file:3: it is 7 (make it 8)"
    assert (full.what, full.where, full.remedy) == ("it is 7", "file:3", "make it 8")


def test_policy_errors_name_their_rule() -> None:
    error = PolicyError("D2", "no mixture of experts", where="demo.yaml:4", remedy="remove `moe`")
    assert str(error) == "demo.yaml:4: rule D2: no mixture of experts (remove `moe`)"
    assert error.rule == "D2"


@pytest.mark.parametrize(
    "code",
    [
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.EFBIG,
    ],
)
def test_common_failures_have_a_remedy(code: int) -> None:
    error = storage_error(OSError(code, os.strerror(code)), Path("/some/file"))
    assert error.where == "/some/file"
    assert error.remedy
    assert "\n" not in str(error)
    assert "Errno" not in str(error)


def test_rare_failures_keep_the_system_text() -> None:
    assert str(storage_error(OSError(errno.EIO, "Input/output error", "a"))) == "a: Input/output error"
    assert str(storage_error(OSError("odd"))) == "odd"


def test_the_path_given_wins_over_the_systems() -> None:
    assert storage_error(OSError(errno.ENOENT, "x", "inner"), "outer").where == "outer"
    assert storage_error(OSError(errno.ENOENT, "x", "inner")).where == "inner"


def test_storage_translates_os_errors_only() -> None:
    with pytest.raises(StorageError) as caught, storage("here"):
        raise PermissionError(errno.EACCES, "no")
    assert caught.value.exit_code == 4
    assert isinstance(caught.value.__cause__, PermissionError)
    with pytest.raises(ZeroDivisionError), storage("here"):
        raise ZeroDivisionError
    with storage("here"):
        pass
