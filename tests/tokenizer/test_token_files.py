"""The token file: golden bytes, round trip, and a reader that accounts for every byte."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.tokenizer.token_file import HEADER_BYTES, open_tokens, write_tokens


def sealed(body: bytes, **fields: int | bytes) -> bytes:
    """A file whose digest is right whatever else is wrong."""
    values = {
        "magic": b"S7TK",
        "version": 1,
        "width": 2,
        "r7": 0,
        "vocab": 300,
        "r12": 0,
        "n_tokens": 3,
        "n_documents": 2,
    }
    head = struct.pack("<4sHBBIIQQ", *(values | fields).values())
    return head + hashlib.sha256(body + head).digest() + body


BODY = struct.pack("<3H2xQQQ", 0, 299, 0, 0, 2, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.tokens"


def test_golden_bytes(path: Path) -> None:
    assert write_tokens(path, [[0, 299], [0]], 300) == (3, 2)
    assert path.read_bytes() == sealed(BODY)
    assert path.read_bytes()[:32].hex() == "5337544b010002002c0100000000000003000000000000000200000000000000"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([257, 65536, 65537, 1 << 20]).flatmap(
        lambda vocab: st.tuples(
            st.just(vocab),
            st.lists(
                st.lists(st.integers(0, vocab - 1) | st.just(vocab - 1), min_size=1, max_size=9), max_size=6
            ),
        )
    )
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, case: tuple[int, list[list[int]]]) -> None:
    vocab, documents = case
    path = tmp_path_factory.mktemp("tokens") / "a.tokens"
    write_tokens(path, iter(documents), vocab)
    file = open_tokens(path)
    assert (file.n_documents, file.vocab_size) == (len(documents), vocab)
    assert [file.document(i).tolist() for i in range(file.n_documents)] == documents
    assert file.n_tokens == sum(map(len, documents))
    assert file.tokens.dtype == (np.uint16 if vocab <= 65536 else np.uint32)


def test_tokens_are_read_only(path: Path) -> None:
    write_tokens(path, [[1] * 1000], 300)
    with pytest.raises(ValueError, match="read-only"):
        open_tokens(path).tokens[0] = 5


def resident() -> int:
    """Bytes in memory now, mapped pages included."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="resident memory is read from /proc")
def test_memory_does_not_grow_with_what_is_read(path: Path) -> None:
    # 2 GB of zeros that take no disk; 40,000 reads all over them touch at least 160 MB of pages.
    n_tokens = 10**9
    header = struct.pack("<4sHBBIIQQ", b"S7TK", 1, 2, 0, 300, 0, n_tokens, 1)
    with path.open("wb") as stream:
        stream.write(header + bytes(32))
        stream.seek(2 * n_tokens, os.SEEK_CUR)
        stream.write(struct.pack("<QQ", 0, n_tokens))
    file = open_tokens(path, verify=False)
    before = resident()
    for number in range(40_000):
        start = number * 617_993 % (n_tokens - 513)
        assert len(file[start : start + 513]) == 513
    assert resident() - before < 48 << 20
    held = sum(int(file.tokens[start]) for start in range(0, n_tokens, n_tokens // 40_000))
    assert held == 0
    assert resident() - before > 100 << 20  # canary: read past `file`, the pages stay


def test_canary_every_flipped_byte_is_noticed(path: Path) -> None:
    write_tokens(path, [[0, 299, 7], [0], [0, 5, 6, 7]], 300)
    whole = path.read_bytes()
    for position in range(len(whole)):
        for mask in (0x01, 0x80):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ mask]) + whole[position + 1 :])
            with pytest.raises(StorageError, match="not a token file"):
                open_tokens(path)


def test_every_truncation_and_every_extension_is_noticed(path: Path) -> None:
    write_tokens(path, [[0, 299, 7], [0]], 300)
    whole = path.read_bytes()
    for n_bytes in range(len(whole)):
        path.write_bytes(whole[:n_bytes])
        for verify in (True, False):
            with pytest.raises(StorageError, match="not a token file"):
                open_tokens(path, verify=verify)
    for more in (b"\0", bytes(8), bytes(64)):
        path.write_bytes(whole + more)
        with pytest.raises(StorageError, match="cut or altered"):
            open_tokens(path, verify=False)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=160).map(lambda tail: b"S7TK\x01\x00\x02\x00" + tail))
def test_arbitrary_bytes_never_escape_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.tokens"
    path.write_bytes(data)
    for verify in (True, False):
        with pytest.raises(StorageError):
            open_tokens(path, verify=verify)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (sealed(BODY, magic=b"S7TL"), "magic b'S7TL' at offset 0"),
        (sealed(BODY, version=2), "version 2 at offset 4, this version reads 1"),
        (sealed(BODY, r7=1), "reserved bytes 1 at offset 7"),
        (sealed(BODY, r12=9), "9 at offset 12 are not zero"),
        (sealed(BODY, width=3), "width 3 at offset 6"),
        (sealed(BODY, width=4), "width 4 at offset 6"),
        (sealed(BODY, vocab=70000), "width 2 at offset 6 does not fit a vocabulary of 70000"),
        (sealed(BODY, vocab=0), "width 2 at offset 6 does not fit a vocabulary of 0"),
        (sealed(BODY, n_tokens=2**63), "cut or altered"),
        (sealed(BODY, n_documents=2**64 - 1), "cut or altered"),
        (sealed(BODY, n_tokens=4), "document offsets run from 0 to 3, expected 0 to 4"),
        (sealed(BODY, vocab=299), "token id 299 is outside a vocabulary of 299"),
        (sealed(struct.pack("<3H2xQQQ", 0, 299, 0, 1, 2, 3)), "offsets run from 1 to 3"),
        (sealed(struct.pack("<3H2xQQQ", 0, 299, 0, 0, 3, 3)), "do not ascend"),
        (sealed(struct.pack("<3HBxQQQ", 0, 299, 0, 1, 0, 2, 3)), "padding at offset 70 is not zero"),
    ],
)  # fmt: skip
def test_each_cause_has_its_own_message(path: Path, data: bytes, match: str) -> None:
    path.write_bytes(data)
    with pytest.raises(StorageError, match=match):
        open_tokens(path)


def test_missing_file(path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        open_tokens(path)


@pytest.mark.parametrize("document", [[], [300], [-1], [5, 70000]])
def test_the_writer_refuses_what_the_reader_would_and_leaves_nothing(path: Path, document: list[int]) -> None:
    with pytest.raises(UsageError, match="document 1 is empty or has an id outside"):
        write_tokens(path, [[1], document], 300)
    assert list(path.parent.iterdir()) == []


def test_no_documents_at_all(path: Path) -> None:
    assert write_tokens(path, [], 300) == (0, 0)
    assert path.stat().st_size == HEADER_BYTES + 8
    assert open_tokens(path).n_documents == 0
