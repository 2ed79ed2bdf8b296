"""Streamed safetensors: equal to the library's, and total."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from sevenfold.core.errors import StorageError
from sevenfold.export.store import narrow, open_tensors, widen, write_tensors

SHAPES = {"b.weight": (3, 4), "a.weight": (5,)}


def values(name: str) -> np.ndarray:
    return np.random.default_rng(len(name)).standard_normal(SHAPES[name]).astype(np.float32)


@pytest.mark.parametrize(
    ("dtype", "torch_type"), [("F32", "float32"), ("F16", "float16"), ("BF16", "bfloat16")]
)
def test_the_library_reads_what_we_write_and_we_what_it_writes(
    tmp_path: Path, dtype: str, torch_type: str
) -> None:
    kind = getattr(torch, torch_type)
    write_tensors(tmp_path / "ours", SHAPES, values, dtype, {"format": "pt", "k": "v"})
    wanted = {name: torch.from_numpy(values(name)).to(kind) for name in SHAPES}
    with safe_open(tmp_path / "ours", framework="pt") as file:
        assert file.metadata() == {"format": "pt", "k": "v"}
        assert {name: file.get_tensor(name).tolist() for name in file.keys()} == {  # noqa: SIM118  - a file
            name: tensor.tolist() for name, tensor in wanted.items()
        }
    save_file(wanted, tmp_path / "theirs")
    theirs = open_tensors(tmp_path / "theirs")
    for name in SHAPES:
        assert np.array_equal(theirs.read(name), wanted[name].float().numpy())


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_bf16_rounds_as_pytorch_does(numbers: list[float]) -> None:
    array = np.array(numbers, np.float32)
    want = torch.from_numpy(array).to(torch.bfloat16).float().numpy()
    assert np.array_equal(widen(narrow(array, "BF16", "x"), "BF16"), want)


def test_a_weight_beyond_f16_is_refused() -> None:
    with pytest.raises(StorageError, match="beyond the range of F16"):
        narrow(np.array([70000.0], np.float32), "F16", "x")


def damaged(data: bytes, how: str) -> bytes:
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    if how == "empty":
        return b""
    if how == "cut":
        return data[:-1]
    if how == "longer":
        return data + b"\0"
    if how == "huge header":
        return struct.pack("<Q", 1 << 60) + data[8:]
    if how == "not JSON":
        return data[:8] + b"x" + data[9:]
    entry = header["a.weight"]
    if how == "type":
        entry["dtype"] = "I64"
    if how == "overlap":
        entry["data_offsets"] = header["b.weight"]["data_offsets"]
        entry["shape"] = [12]
    if how == "negative":
        entry["shape"] = [-5]
    if how == "no shape":
        del entry["shape"]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


@pytest.mark.parametrize(
    "how", ["empty", "cut", "longer", "huge header", "not JSON", "type", "overlap", "negative", "no shape"]
)
def test_damage_is_one_line(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, SHAPES, values, "F32", {})
    path.write_bytes(damaged(path.read_bytes(), how))
    with pytest.raises(StorageError, match="not a safetensors file") as caught:
        open_tensors(path)
    assert "\n" not in str(caught.value)
