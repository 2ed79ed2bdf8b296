"""Load the libraries of `native/train`, which compute training on the CPU and on a GPU beside
PyTorch.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch

from sevenfold.core.errors import SevenfoldError
from sevenfold.core.process.library import open_library

# By kind of device. That of GPUs is there after `make cuda`, and has the operators of
# specs/training-arithmetic.md except hybrid attention.
LIBRARIES = {
    "cpu": Path(__file__).parent / "_native" / "libs7train.so",
    "cuda": Path(__file__).parent / "_native" / "libs7train_cuda.so",
}
ABI = 4
MAX_HEAD_DIM, LANES = 256, 16
MAX_THREADS = 64
FAILURES = {
    1: "a shape outside its bounds",
    2: "no memory for its scratch",
    3: "an instruction set that is not here",
    4: "a floating-point mode that it cannot set",
    5: "an error that the GPU reported",
}


@cache
def library(kind: str = "cpu") -> ctypes.CDLL | None:
    """Return the library for a kind of device, or None where there is none, it was not built or it
    cannot be loaded.
    """
    return open_library(LIBRARIES[kind], "s7_train_abi", ABI) if kind in LIBRARIES else None


def is_available(name: str, kind: str = "cpu") -> bool:
    """Return whether the library is loaded and its function `name` reports that the device can run
    these kernels.
    """
    found = library(kind)
    return found is not None and bool(getattr(found, name)())


def fits(head_dim: int) -> bool:
    """Return whether the FP32 attention kernel takes heads of this width. BF16 kernels also require
    whole lanes.
    """
    return head_dim <= MAX_HEAD_DIM


def fits_whole(head_dim: int) -> bool:
    """Return whether all attention kernels take heads of this width without padding."""
    return head_dim % LANES == 0 and fits(head_dim)


def n_threads() -> int:
    """Return the number of threads of a call, which is that of PyTorch."""
    return min(torch.get_num_threads(), MAX_THREADS)


def reduced_dtype(x: torch.Tensor) -> torch.dtype | None:
    """Return the type in which autocast computes products on the device of x; None outside
    autocast.
    """
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def call(device: torch.device, name: str, *arguments: Any) -> None:
    """Call the kernel for a device. Raises SevenfoldError when it refuses."""
    if code := getattr(library(device.type), name)(*arguments):
        raise SevenfoldError(f"the kernel refused {FAILURES.get(code, code)}", where=name)
