"""The example file of specs/artifact.md, byte by byte, and the golden bytes of the writer.

PYTHONPATH=src:tests/attacks python tests/artifact/annotated_example.py
writes both anew after a change of version
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from packing import pack_file, pack_record

from sevenfold.artifact import Contents, Tensor, layout, write_artifact

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden_tiny.hex"
SPEC = HERE.parents[1] / "specs" / "artifact.md"
BEGIN, END = "<!-- example: begin -->\n```\n", "```\n<!-- example: end -->"


def example_bytes() -> bytes:
    """DICT and one FIELD lane of two tensors in the published form, version 2:
    the least that holds weights.
    """
    records = [
        pack_record(b"embedding.weight", [1, 2], 0.5, b"\x01\xff", padded=True),
        pack_record(b"lm_head.weight", [1, 2], 0.25, b"\x7f\x81", padded=True),
    ]
    return pack_file([(1, b"{}"), (2, b"".join(records))], version=2, class_=2, flags=5)


def _fields(data: bytes) -> list[tuple[int, int, str]]:
    """(offset, size, meaning) of every field of the example."""
    sizes = [
        (4, "magic S7LM"),
        (2, "version 2"),
        (1, "class 0x02 MoE"),
        (1, "flags: bit 0 INT8, bit 2 MoE"),
        (32, "root"),
    ]
    sizes += [(1, "lane id 1, DICT"), (4, "payload length 2"), (2, "payload"), (32, "SHA-256 of the payload")]
    sizes += [(1, "lane id 2, FIELD"), (4, "payload length 124")]
    for name in ("embedding.weight", "lm_head.weight"):
        sizes += [
            (2, f"name length {len(name)}"),
            (len(name), name),
            (1, "rank 2"),
            (4, "dim 1"),
            (4, "dim 2"),
        ]
        scale, values = ("0.5", "1, -1") if name[0] == "e" else ("0.25", "127, -127")
        sizes += [(4, f"scale {scale}"), (2, f"data {values}"), (30, "zeros up to 32 bytes")]
    sizes += [(32, "SHA-256 of the payload")]
    fields, offset = [], 0
    for size, meaning in sizes:
        fields.append((offset, size, meaning))
        offset += size
    if offset != len(data):
        raise ValueError(f"the fields cover {offset} bytes of {len(data)}")
    return fields


def annotated() -> str:
    """The example as `offset  hex  meaning` lines, 16 bytes at most each."""
    data, lines = example_bytes(), []
    for offset, size, meaning in _fields(data):
        for start in range(offset, offset + size, 16):
            raw = data[start : min(start + 16, offset + size)]
            lines.append(f"{start:04x}  {raw.hex(' '):<47}  {meaning if start == offset else ''}".rstrip())
    return "\n".join(lines) + "\n"


def golden_contents() -> Contents:
    """Every kind of lane, as small as it gets."""
    return Contents(
        class_=layout.ModelClass.MOE,
        padded=False,
        dictionary=b'{"vocab":["a"]}',
        tensors=[
            Tensor("lm_head.weight", (1, 3), 2.0, np.array([[4, 5, -6]], np.int8)),
            Tensor("a.scale", (1, 4), 1.0, np.array([0, 1, 2, -128], np.int8)),
            Tensor("embedding.weight", (3, 1), 0.1, np.array([1, 2, -3], np.int8)),
        ],
        graph={"operations": [{"op": "embed", "fold": "COMPUTE", "writes": []}]},
        control={"records": []},
        provenance={"identity": {"recipe_name": "tiny"}},
        trace={"projection": True, "rows": [{"loss": 1.5, "step": 0}]},
        batch={"rows": []},
    )


def golden_bytes() -> bytes:
    """What the writer makes of `golden_contents`."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "tiny.s7l"
        write_artifact(path, golden_contents())
        return path.read_bytes()


def main() -> None:
    text = SPEC.read_text(encoding="ascii")
    before, rest = text.split(BEGIN)
    SPEC.write_text(before + BEGIN + annotated() + END + rest.split(END)[1], encoding="ascii")
    raw = golden_bytes().hex()
    GOLDEN.write_text("".join(raw[i : i + 96] + "\n" for i in range(0, len(raw), 96)), encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
