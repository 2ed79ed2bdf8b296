"""Chunks are proved by a root alone, and a changed byte of a proof is refused."""

from __future__ import annotations

import base64
import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memories import remember, write_files

from sevenfold.agent.memory import MemoryQuery, MemorySearch, check_proof, open_memory, prove
from sevenfold.agent.memory.errors import DamagedMemoryError, ForeignMemoryError
from sevenfold.agent.memory.frames import read_frames
from sevenfold.agent.memory.proof import follow, merkle_path
from sevenfold.core.errors import ArtifactError
from sevenfold.core.merkle import merkle_root

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, list[str]]:
    folder = tmp_path_factory.mktemp("proof")
    source = write_files(folder / "source")
    remember(folder / "memory", source)
    write_files(source, {"more.py": b"def read_more(table):\n    return table\n"})
    remember(folder / "memory", source)
    memory = open_memory(folder / "memory")
    hits = MemorySearch(memory).ask(MemoryQuery(text="Where is `read_table` defined?"))
    value = json.loads(json.dumps(prove(memory, hits)))
    return value, memory.manifest.root, [hit.text.decode().rstrip("\n") for hit in hits]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 13])
def test_paths_lead_to_the_root(n: int) -> None:
    leaves = [bytes([i]) * 32 for i in range(n)]
    for i, leaf in enumerate(leaves):
        path = [list(step) for step in merkle_path(leaves, i)]
        assert follow(leaf, path) == merkle_root(leaves)
        assert follow(b"x", path) != merkle_root(leaves)


def test_a_proof_gives_the_texts(proved: tuple[dict[str, Any], str, list[str]]) -> None:
    value, root, texts = proved
    rows = check_proof(value, root)
    assert [row["text"].rstrip("\n") for row in rows] == texts
    assert rows[0]["path"] == "pkg/tables.py"
    assert rows[0]["licence"] == "MIT"


def test_forged_proofs(proved: tuple[dict[str, Any], str, list[str]]) -> None:
    value, root, _ = proved
    with pytest.raises(ForeignMemoryError):
        check_proof(value, "00" * 32)
    rng = random.Random(3)
    for part in ("entry", "blob"):
        for _ in range(25):
            forged = copy.deepcopy(value)
            data = bytearray(base64.b64decode(forged["hits"][0][part]["frame"]))
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            forged["hits"][0][part]["frame"] = base64.b64encode(data).decode()
            with pytest.raises(DamagedMemoryError):
                check_proof(forged, root)
    forged = copy.deepcopy(value)
    forged["hits"][0]["blob"] = forged["hits"][1]["blob"]
    with pytest.raises(DamagedMemoryError, match="another text"):
        check_proof(forged, root)
    forged = copy.deepcopy(value)
    forged["hits"][0]["entry"], forged["hits"][0]["blob"] = (
        forged["hits"][0]["blob"],
        forged["hits"][0]["entry"],
    )
    with pytest.raises(DamagedMemoryError, match="other kinds"):
        check_proof(forged, root)
    for lines in ([0, 1], [1, 10_000], [2, 1], "x", [1]):
        forged = copy.deepcopy(value)
        forged["hits"][0]["lines"] = lines
        with pytest.raises(DamagedMemoryError):
            check_proof(forged, root)


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_any_json_is_refused_by_name(value: Any) -> None:
    for one in (value, {"proof": 1, "root": "r", "hits": value}, {"proof": 1, "root": "r", "hits": [value]}):
        if isinstance(one, dict) and one.get("hits") == []:
            continue
        with pytest.raises(ArtifactError):
            check_proof(one, "r")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_the_reader_of_segments_is_total(tmp_path_factory: pytest.TempPathFactory, seed: int, n: int) -> None:
    """Bytes of a segment are changed, cut and repeated: it is read as it was, or refused by name."""
    whole = segment(tmp_path_factory)
    rng = random.Random(seed)
    data = bytearray(whole)
    for _ in range(n):
        a, b = sorted(rng.sample(range(len(data)), 2))
        match rng.randrange(4):
            case 0:
                data[a] ^= rng.randrange(1, 256)
            case 1:
                del data[a : min(b, a + 64)]
            case 2:
                data[a:a] = data[a : min(b, a + 64)]
            case _:
                data[a : a + 4] = rng.randbytes(4)
    try:
        frames = read_frames(bytes(data), "x")
    except DamagedMemoryError:
        return
    # Whole frames may have been taken out or doubled; the root of the segment refuses that.
    assert {frame.digest for frame in frames} <= {frame.digest for frame in read_frames(whole, "x")}


_SEGMENT: list[bytes] = []


def segment(factory: pytest.TempPathFactory) -> bytes:
    """Return a segment without the table, which is most of the bytes of a small one."""
    if not _SEGMENT:
        folder: Path = factory.mktemp("segment")
        source = write_files(folder / "source", {"a.txt": b"one\n"})
        remember(folder / "memory", source)
        remember(folder / "memory", write_files(source))
        listed = open_memory(folder / "memory").manifest.segments[1]
        _SEGMENT.append((folder / "memory" / "segments" / listed.file).read_bytes())
    return _SEGMENT[0]
