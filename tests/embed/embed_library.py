"""libsevenfold through ctypes, for the tests: built once, its calls as Python sees them."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from ctypes import POINTER, byref, c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native"
HEADER = NATIVE / "embed" / "sevenfold.h"
CXX = os.environ.get("CXX", "g++").split()


class Error(ctypes.Structure):
    """s7f_error."""

    _fields_ = [
        ("status", c_int32),
        ("what", c_char * 240),
        ("where", c_char * 120),
        ("remedy", c_char * 160),
    ]


class Rule(ctypes.Structure):
    """s7f_rule."""

    _fields_ = [("id", c_char * 4), ("verdict", c_int32), ("detail", c_char * 300)]


class Info(ctypes.Structure):
    """s7f_info."""

    _fields_ = [
        ("root", c_char * 65),
        *(
            (name, c_int32)
            for name in ("vocab_size", "context", "d_model", "n_layers", "n_experts", "isa", "n_threads")
        ),
        ("weight_bytes", c_int64),
        *((name, c_int32) for name in ("boundary", "begin", "pad", "n_ends")),
        ("ends", c_int32 * 64),
    ]


READ = ctypes.CFUNCTYPE(c_int64, c_void_p, c_uint64, c_void_p, c_size_t)
ON_TEXT = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(c_char), c_size_t)
VERDICTS = ("pass", "fail", "skipped")


def statuses() -> dict[int, str]:
    """Every code of the header by its number: S7F_LANE_ID."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(encoding="utf-8"), flags=re.DOTALL)
    body = re.search(r"typedef enum \{(.*?)\} s7f_status;", text, re.DOTALL)
    assert body is not None
    found, next_value = {}, 0
    for entry in body[1].split(","):
        name, _, value = entry.strip().partition("=")
        next_value = int(value) if value else next_value
        found[next_value] = name.strip()
        next_value += 1
    return found


STATUSES = statuses()


def error_class(status: int) -> str:
    """The class of `sevenfold.artifact.errors` that a code stands for: S7F_LANE_ID is LaneIdError."""
    return "".join(word.capitalize() for word in STATUSES[status].removeprefix("S7F_").split("_")) + "Error"


def build(out: Path, *flags: str, script: Path = NATIVE / "embed" / "build.sh", **environment: str) -> Path:
    """Build the library into `out`."""
    subprocess.run(
        [script, out, *flags],
        check=True,
        capture_output=True,
        env=os.environ | environment,
    )
    return out


@dataclass(frozen=True)
class Verdict:
    """What the library says of a file: the class of its refusal, or the status of each rule."""

    refused: str
    rules: tuple[str, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.refused and "fail" not in self.rules


class Library:
    """The calls that the tests need."""

    def __init__(self, path: Path) -> None:
        self.calls: Any = ctypes.CDLL(str(path))
        self.calls.s7f_status_text.restype = c_char_p
        self.calls.s7f_version.restype = c_char_p
        self.calls.s7f_file_root.restype = c_char_p

    def verdict(self, data: bytes, replay: bool = False) -> Verdict:
        """What opening and verifying gives."""
        file, error = c_void_p(), Error()
        status = self.calls.s7f_file_open_memory(data, c_size_t(len(data)), byref(file), byref(error))
        if status:
            assert error.status == status
            assert error.what
            assert error.remedy
            return Verdict(error_class(status), (), (error.what.decode(), error.where.decode()))
        rules = (Rule * 8)()
        status = self.calls.s7f_file_verify(file, int(replay), rules, byref(error))
        self.calls.s7f_file_close(byref(file))
        assert not file
        verdicts = tuple(VERDICTS[rule.verdict] for rule in rules)
        assert STATUSES[status] == ("S7F_UNVERIFIED" if "fail" in verdicts else "S7F_OK")
        return Verdict("", verdicts, tuple(rule.detail.decode("ascii") for rule in rules))
