"""A hostile file costs at most three times its size, or 12 MiB below 4 MiB: files at each cap of
the reader, their map counted.
"""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from build_attacks import sample_input
from packing import pack_sealed

from sevenfold.artifact import layout
from sevenfold.artifact.assemble import build_contents
from sevenfold.artifact.errors import ContentsError, LimitError
from sevenfold.artifact.reader import open_artifact, parse_artifact
from sevenfold.artifact.verify import verify
from sevenfold.artifact.writer import pack
from sevenfold.core.errors import ArtifactError

EDGE, FIELD = layout.LaneId.EDGE, layout.LaneId.FIELD
SMALL = 4 << 20
ITEMS = {  # a JSON value that grows, and how many of the counted bytes it takes
    "lists": (b"[]", 2),
    "objects": (b'{"a":0}', 2),
    "chains": (b'{"a":' * 28 + b"0" + b"}" * 28, 29),
    "floats": (b"1.5", 1),
}


def graph(body: bytes) -> tuple[int, bytes]:
    return EDGE, b'{"kind":"graph","x":' + body + b"}"


def records(n_bytes: int) -> bytes:
    """As many records as fit the cap, the last one as long as the rest of the file."""
    names = [b"embedding.weight", b"lm_head.weight"]
    names += [b"%x" % i for i in range(layout.max_tensors(n_bytes) - 3)]
    head = b"".join(
        struct.pack(">H", len(name)) + name + struct.pack(">B8If", 8, *[1] * 8, 1.0) + b"\0" for name in names
    )
    rest = n_bytes - len(head)
    return head + struct.pack(">H2sBIf", 2, b"zz", 1, rest, 1.0) + bytes(rest)


def worst(size: int) -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    n_values, n_bytes, wide = (
        f(size) for f in (layout.max_json_values, layout.max_json_bytes, layout.max_wide_bytes)
    )
    for name, (item, marks) in ITEMS.items():
        body = (
            b"[" + b",".join([item] * min((n_values - 64) // marks, n_bytes // (len(item) + 1) - 512)) + b"]"
        )
        yield name, [graph(body), (FIELD, bytes(size))]
    keys = b",".join(b'"%d":0' % i for i in range(n_values - 64))
    yield "keys", [graph(b"{" + keys + b"}"), (FIELD, bytes(size))]
    yield "one string", [graph(b'"' + b"x" * (n_bytes - 2048) + b'"'), (FIELD, bytes(size))]
    for name, character in (("wide", "\U0001f600".encode()), ("escaped", b"\\ud83d\\ude00")):
        yield name, [graph(b'"' + b"x" * (wide - 99) + character + b'"'), (FIELD, bytes(size))]
    yield "records", [(FIELD, records(size))]


NAMES = [name for name, _ in worst(SMALL)]


@pytest.mark.parametrize("size", [1 << 20, SMALL, 8 << 20])
@pytest.mark.parametrize("name", NAMES)
def test_memory_is_bounded_by_the_file(tmp_path: Path, name: str, size: int) -> None:
    path = tmp_path / "worst.s7l"
    path.write_bytes(pack_sealed(dict(worst(size))[name], chunk=1 << 24, records=False))
    n_bytes = path.stat().st_size
    tracemalloc.start()
    try:
        opened = open_artifact(path)  # none of these is refused for its size: they stand at the caps
        try:
            verify(opened.prove())
        except LimitError:
            raise
        except ArtifactError:
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n_bytes + peak < 3 * max(n_bytes, SMALL)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "records"])
def test_without_the_rest_of_the_file_it_is_refused(name: str) -> None:
    with pytest.raises(LimitError, match="more JSON"):
        parse_artifact(pack_sealed(dict(worst(8 << 20))[name][:1], chunk=1 << 24, records=False))


def test_the_writer_refuses_what_the_reader_would() -> None:
    rows = [{"step": i} for i in range(layout.FREE_JSON_VALUES)]
    with pytest.raises(ContentsError, match="JSON values"):
        pack(build_contents(sample_input(trace=rows)))
