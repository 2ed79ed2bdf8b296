"""The kernels of native/train/cuda, built for the processor: the same text, one thread after the
other.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sevenfold.model import native

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "native" / "train" / "cuda" / "build.sh"
NAME = native.LIBRARIES["cuda"].name
CXX = os.environ.get("CXX", "g++")
# What a GPU's library leaves to the CPU's: it is computed once, and copied.
ON_THE_CPU = ("s7_normal", "s7_rotation_tables", "s7_arithmetic_isa")


class EmulatedGpu:
    """The calls of a GPU's library, and those of the CPU's that it leaves out by design."""

    def __init__(self, path: Path) -> None:
        self.own, self.cpu = ctypes.CDLL(str(path)), native.library()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cpu if name in ON_THE_CPU else self.own, name)


@cache
def emulated_gpu() -> EmulatedGpu:
    """Return the library, built once for all tests. Skips the test without a compiler."""
    if shutil.which(CXX) is None:
        pytest.skip("there is no C++ compiler here")
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([str(BUILD), out], env=os.environ | {"S7_EMULATED": "1", "CXX": CXX}, check=True)
        return EmulatedGpu(Path(out) / NAME)


def use_emulated_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operators of this test call the GPU's kernels for tensors of the CPU."""
    found = emulated_gpu()
    monkeypatch.setattr(native, "library", lambda _kind="cpu": found)
