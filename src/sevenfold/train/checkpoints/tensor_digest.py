"""Compute the digest of named tensors and of the facts about them, in memory or in a file."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from sevenfold.core.hashing import digest_of

# The errors that the libraries raise for damaged bytes.
DAMAGE = (
    SafetensorError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    struct.error,
)


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of an open safetensors file. They are read on request, so one is in memory at a
    time.
    """

    def __init__(self, file: Any) -> None:
        self._file, self._names = file, tuple(file.keys())

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor, row by row."""
    dense = tensor.detach().cpu().contiguous().reshape(-1)
    data: memoryview = dense.view(torch.uint8).numpy().data
    return data


def tensors_digest(tag: str, tensors: Mapping[str, Tensor], meta: bytes) -> str:
    """Return the hex digest of `meta`, and of names, dtypes, shapes and bytes in the order of the
    names.

    `tensors` may read them one at a time.
    """

    def parts() -> Iterator[bytes | memoryview | str]:
        yield meta
        for name in sorted(tensors):
            tensor = tensors[name]
            yield from (name, str(tensor.dtype), str(list(tensor.shape)))
            yield tensor_bytes(tensor)

    return digest_of(tag, parts())
