"""Documents in Parquet: the same rows give the same bytes, rows stream both
ways, and a bad file is refused.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.core import documents
from sevenfold.core.documents import (
    DOCUMENT_COLUMNS,
    ROWS_PER_GROUP,
    Columns,
    Document,
    count_rows,
    read_documents,
    read_rows,
    write_documents,
    write_rows,
)
from sevenfold.core.errors import SevenfoldError, StorageError, UsageError


def document(text: str) -> Document:
    return Document(hashlib.sha256(text.encode()).hexdigest(), text, "code", "stdlib", "a.py")


def in_order(texts: list[str]) -> list[Document]:
    return sorted({document(text) for text in texts}, key=lambda d: d.id)


def test_twice_the_same_bytes_in_another_process_too(tmp_path: Path) -> None:
    rows = in_order([f"text {i}\n" * (i % 7 + 1) for i in range(2 * ROWS_PER_GROUP + 3)])
    write_documents(tmp_path / "a.parquet", rows)
    write_documents(tmp_path / "b.parquet", iter(rows))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    script = (
        "import sys; from pathlib import Path; from sevenfold.core.documents import *\n"
        "write_documents(Path(sys.argv[2]), read_documents(Path(sys.argv[1])))"
    )
    subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.parquet", tmp_path / "c.parquet"],
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
        timeout=60,
    )
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "c.parquet").read_bytes()


def test_no_clock_and_no_foreign_metadata_in_the_file(tmp_path: Path) -> None:
    write_documents(tmp_path / "a.parquet", [document("x")])
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    assert metadata.metadata is None
    assert metadata.row_group(0).column(1).compression == "ZSTD"
    assert metadata.row_group(0).column(1).statistics is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(), max_size=8, unique=True))
def test_round_trip_of_any_text(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("documents") / "a.parquet"
    rows = in_order(texts)
    assert write_documents(path, rows).n_rows == len(rows)
    assert list(read_documents(path)) == rows
    assert count_rows(path) == len(rows)


def test_the_digest_of_rows_is_that_of_the_page(tmp_path: Path) -> None:
    def text(value: str) -> bytes:
        return struct.pack(">Q", len(value.encode())) + value.encode()

    columns: Columns = {"path": "string", "n": "int64"}
    rows = [(f"\u00e9{i}", -i) for i in range(ROWS_PER_GROUP + 3)]
    cells = [text("sevenfold/rows/1"), struct.pack(">q", 2), *map(text, ("path", "string", "n", "int64"))]
    cells += [cell for name, n in rows for cell in (text(name), struct.pack(">q", n))]
    written = write_rows(tmp_path / "a.parquet", columns, rows)
    assert written.content == hashlib.sha256(b"".join(cells)).hexdigest()
    # A value that moves to the next column or row is another content.
    other = write_rows(tmp_path / "b.parquet", {"a": "string", "b": "string"}, [("xy", "z")])
    assert (
        other.content
        != write_rows(tmp_path / "c.parquet", {"a": "string", "b": "string"}, [("x", "yz")]).content
    )


def test_rows_stream_one_group_at_a_time(tmp_path: Path) -> None:
    rows = in_order([str(i) for i in range(3 * ROWS_PER_GROUP)])
    write_documents(tmp_path / "a.parquet", rows)
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 3
    reader = read_documents(tmp_path / "a.parquet")
    assert next(reader) == rows[0]
    reader.close()


@pytest.mark.parametrize("rows", [[document("b"), document("a")], [document("a"), document("a")]])
def test_order_is_part_of_the_format(tmp_path: Path, rows: list[Document]) -> None:
    if rows[0] != rows[1]:
        rows = sorted(rows, key=lambda d: d.id, reverse=True)
    with pytest.raises(SevenfoldError, match="ids must ascend"):
        write_documents(tmp_path / "a.parquet", rows)
    assert list(tmp_path.iterdir()) == []


def test_a_lone_surrogate_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not Unicode"):
        write_rows(tmp_path / "a.parquet", {"text": "string"}, [("\ud800",)])
    assert list(tmp_path.iterdir()) == []


def test_missing_file(tmp_path: Path) -> None:
    for read in (count_rows, lambda path: list(read_documents(path))):
        with pytest.raises(StorageError, match="no such file"):
            read(tmp_path / "absent.parquet")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all" * 20])
def test_not_parquet(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    for read in (count_rows, lambda path: list(read_documents(path))):
        with pytest.raises(StorageError, match="not a readable Parquet file"):
            read(path)


def test_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_documents(path, in_order([str(i) * 50 for i in range(300)]))
    whole = path.read_bytes()
    for n_bytes in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:n_bytes])
        with pytest.raises(StorageError):
            list(read_documents(path))


def test_other_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["x"], "text": ["y"]}), path)
    with pytest.raises(StorageError, match="its columns are"):
        list(read_rows(path, DOCUMENT_COLUMNS))


def test_without_pyarrow_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"sevenfold\[train\]"):
        documents.pyarrow_version()


def test_importing_the_module_does_not_load_pyarrow() -> None:
    script = "import sys, sevenfold.core.documents; sys.exit('pyarrow' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={"PYTHONPATH": ":".join(sys.path)}, timeout=60
    )


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom sevenfold.core.documents import write_rows\n"
        "from sevenfold.core.errors import StorageError\nimport random\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))\n"
        "rows = [(random.randbytes(500).hex(),) for _ in range(600)]\n"
        "try:\n    write_rows(Path(sys.argv[1]), {'text': 'string'}, rows)\n"
        "except StorageError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.parquet"],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
        timeout=60,
    )
    assert "the file would grow past the allowed size" in done.stdout
    assert list(tmp_path.iterdir()) == []
