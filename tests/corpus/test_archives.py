"""Archives are read in memory: honest ones whole, hostile ones by the name of what
is wrong, and never a crash.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import random
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from package_builders import ar_of, deb_of, tar_of, zip_of

from sevenfold.corpus.archives import Entry, entry, read_archive
from sevenfold.corpus.archives.entry import DAMAGE

FILES = {"a.py": b"a = 1\n", "b/c.txt": b"text\n", "b/empty": b""}


def read(data: bytes, max_bytes: int = 1000, name: str = "pack.x") -> list[Entry]:
    return list(read_archive(io.BytesIO(data), name, lambda path: True, max_bytes))


def faults(data: bytes, max_bytes: int = 1000) -> dict[str, str | None]:
    return {found.path: found.fault for found in read(data, max_bytes)}


def zstd(data: bytes) -> bytes:
    sink = io.BytesIO()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
        stream.flush()
        return sink.getvalue() or data


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, bytes], ids=["gz", "bz2", "xz", "plain"]
)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_tar_in_every_compression(pack, form: int) -> None:
    found = read(pack(tar_of(FILES, format=form)))
    assert {e.path: e.data for e in found} == FILES
    assert all(
        e.sha256 == hashlib.sha256(FILES[e.path]).hexdigest() and e.n_bytes == len(FILES[e.path])
        for e in found
    )


def test_tar_in_zstd() -> None:
    codec = pyarrow.Codec("zstd")
    assert {e.path: e.data for e in read(codec.compress(tar_of(FILES), asbytes=True))} == FILES


def test_streams_of_several_members_are_one_stream() -> None:
    tar = tar_of(FILES)
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        assert {e.path: e.data for e in read(pack(tar[:700]) + pack(tar[700:]))} == FILES


def test_zip_and_deb() -> None:
    assert {e.path: e.data for e in read(zip_of(FILES))} == FILES
    assert {e.path: e.data for e in read(deb_of(FILES))} == FILES


def test_only_what_is_wanted_is_read() -> None:
    for data in (zip_of(FILES), tar_of(FILES)):
        found = list(read_archive(io.BytesIO(data), "x", lambda path: path.endswith(".py"), 1000))
        assert [e.path for e in found] == ["a.py"]


UNSAFE = [
    "/etc/passwd",
    "../up",
    "a/../../up",
    "C:/x",
    "c:x",
    "\\\\host\\x",
    "..\\up",
    "a\\..\\..\\b",
    "..",
    "//x",
]


@pytest.mark.parametrize("name", UNSAFE)
def test_a_path_that_leaves_the_archive(name: str) -> None:
    for data in (zip_of({name: b"x", "ok": b"y"}), tar_of({name: b"x", "ok": b"y"})):
        found = read(data)
        assert [e.fault for e in found] == ["unsafe_path", None]
        assert found[0].data is None


def test_a_name_with_a_nul_is_no_shorter_name() -> None:
    found = read(zip_of({"n_ul": b"x", "n": b"y"}).replace(b"n_ul", b"n\0ul"))
    assert [(e.path, e.fault) for e in found] == [("n\\x00ul", "unsafe_path"), ("n", None)]


def test_links_devices_and_pipes_of_a_tar_are_named() -> None:
    extra = []
    for name, kind, target in (
        ("link", tarfile.SYMTYPE, "/etc/passwd"),
        ("hard", tarfile.LNKTYPE, "ok"),
        ("pipe", tarfile.FIFOTYPE, ""),
        ("dev", tarfile.CHRTYPE, ""),
        ("block", tarfile.BLKTYPE, ""),
        ("loop", tarfile.SYMTYPE, "loop"),
    ):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        extra.append(info)
    found = faults(tar_of({"ok": b"y"}, extra))
    assert found == {"ok": None} | dict.fromkeys(("link", "hard", "pipe", "dev", "block", "loop"), "link")


def test_links_of_a_zip_are_named() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("ok", "y")
    assert faults(buffer.getvalue()) == {"link": "link", "ok": None}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names_are_read_once() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "first")
        archive.writestr("a", "second")
        archive.writestr("./b/../b", "third")
    tar = tar_of({"a": b"first"})[:1024] + tar_of({"./a": b"second"})
    for data in (buffer.getvalue(), tar):
        found = read(data)
        assert [(e.data, e.fault) for e in found[:2]] == [(b"first", None), (None, "duplicate_name")]


def test_encrypted_entries_are_named() -> None:
    data = bytearray(zip_of({"secret": b"x" * 50, "ok": b"y"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(signature)
        struct.pack_into("<H", data, at + offset, struct.unpack_from("<H", data, at + offset)[0] | 1)
    assert faults(bytes(data)) == {"secret": "encrypted", "ok": None}


def test_names_in_odd_encodings_are_spelled_in_ascii() -> None:
    info = tarfile.TarInfo("caf\udce9")
    info.size = 1
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape"
    ) as archive:
        archive.addfile(info, io.BytesIO(b"x"))
    assert [e.path for e in read(buffer.getvalue())] == ["caf\\xe9"]
    assert [e.path for e in read(zip_of({"caf\u00e9": b"x"}))] == ["caf\u00e9"]
    assert [e.path for e in read(tar_of({"bell\x07\x1b[2J": b"x"}))] == ["bell\\x07\\x1b[2J"]
    broken = zip_of({"caf\u00e9": b"x"}).replace("caf\u00e9".encode(), b"caf\xff\xff")
    assert faults(broken) == {"pack.x": "corrupt"}


def test_a_wrong_checksum_is_the_fault_of_one_entry() -> None:
    data = bytearray(zip_of({"bad": b"x" * 100, "ok": b"y"}))
    struct.pack_into("<L", data, data.index(b"PK\x01\x02") + 16, 12345)
    assert faults(bytes(data)) == {"bad": "corrupt", "ok": None}


def test_an_unknown_method_is_the_fault_of_one_entry() -> None:
    data = bytearray(zip_of({"bad": b"x" * 100, "ok": b"y"}))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", data, data.index(signature) + offset, 77)
    assert faults(bytes(data)) == {"bad": "corrupt", "ok": None}


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
def test_a_half_downloaded_archive_is_named(pack) -> None:
    data = pack(tar_of({f"f{i}": random.Random(i).randbytes(5000) for i in range(20)}))
    found = read(data[: len(data) // 2], max_bytes=10000)
    assert found[-1].fault == "corrupt"
    assert found[-1].path == "pack.x"
    assert all(e.fault is None for e in found[:-1])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        b"not an archive",
        b"\x1f\x8b",
        b"!<arch>\n",
        b"!<arch>\nshort",
        ar_of({"x": b"y"}),
        b"\xfd7zXZ\x00",
    ],
)
def test_what_is_no_archive_is_named(data: bytes) -> None:
    assert faults(data) == {"pack.x": "corrupt"}


def test_an_ar_member_longer_than_the_file() -> None:
    data = ar_of({"data.tar.xz": b"x" * 10}).replace(b"10        `", b"1000000   `")
    assert faults(data) == {"pack.x": "corrupt"}


def test_a_longer_file_is_counted_and_hashed_but_not_held() -> None:
    body = b"x" * 5000
    for data in (zip_of({"long": body}), gzip.compress(tar_of({"long": body}))):
        [found] = read(data, max_bytes=4999)
        assert (found.fault, found.data, found.n_bytes) == ("too_large", None, 5000)
        assert found.sha256 == hashlib.sha256(body).hexdigest()
        [whole] = read(data, max_bytes=5000)
        assert whole.data == body


def test_a_bomb_is_stopped_and_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "FREE_UNFOLDED", 1 << 20)
    monkeypatch.setattr(entry, "MAX_RATIO", 20)
    zeros = b"\0" * (30 << 20)
    for data in (
        zip_of({"big": zeros}),
        gzip.compress(tar_of({"big": zeros})),
        lzma.compress(tar_of({"big": zeros})),
    ):
        tracemalloc.start()
        found = read(data, max_bytes=1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [e.fault for e in found] == ["bomb"]
        assert peak < 16 << 20


def test_overlapping_files_of_a_zip_bomb_are_paid_for_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "FREE_UNFOLDED", 1 << 20)
    monkeypatch.setattr(entry, "MAX_RATIO", 20)
    data = zip_of({"a": b"\0" * (900 << 10)})
    end = data.index(b"PK\x05\x06")
    central = data[data.index(b"PK\x01\x02") : end]
    many = b"".join(central[:46] + bytes([98 + i]) + central[47:] for i in range(20))
    forged = data[: data.index(b"PK\x01\x02")] + many
    forged += struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 20, 20, len(many), data.index(b"PK\x01\x02"), 0)
    found = read(forged)
    assert found[-1].fault in ("bomb", "corrupt")
    assert all(e.fault for e in found)


def test_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "MAX_ENTRIES", 10)
    for data in (zip_of({f"f{i}": b"" for i in range(11)}), tar_of({f"f{i}": b"" for i in range(11)})):
        assert read(data)[-1].fault == "bomb"


def test_a_header_that_promises_gigabytes_costs_nothing() -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 6 << 30
    data = gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 4096)
    tracemalloc.start()
    assert faults(data) == {"pack.x": "corrupt"}
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_xz_that_wants_gigabytes_of_memory_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    try:
        data = lzma.compress(tar_of(FILES), format=lzma.FORMAT_XZ, filters=filters)
    except MemoryError:
        pytest.skip("this machine cannot build it")
    assert faults(data) == {"pack.x": "corrupt"}


def test_nothing_is_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for data in (zip_of({"../x": b"1"} | FILES), tar_of({"../x": b"1"} | FILES), deb_of(FILES)):
        read(data)
    assert list(tmp_path.rglob("*")) == []


SEEDS = [
    zip_of(FILES),
    tar_of(FILES),
    gzip.compress(tar_of(FILES)),
    lzma.compress(tar_of(FILES)),
    deb_of(FILES),
]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, len(SEEDS) - 1),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=12),
    st.integers(0, 4000),
)
def test_damaged_archives_never_crash(seed: int, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(SEEDS[seed])
    for at, value in changes:
        data[at % len(data)] = value
    for found in read(bytes(data[: max(1, len(data) - cut % len(data))])):
        assert (found.data is None) == (found.fault is not None)
        assert found.data is None or hashlib.sha256(found.data).hexdigest() == found.sha256


@settings(max_examples=150, deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_any_name_is_safe_or_told(name: str) -> None:
    path = entry.safe_path(name)
    shown = entry.shown(name)
    assert shown.encode()
    assert not any(ord(c) < 32 for c in shown)
    if path is not None:
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        assert path == entry.safe_path(path)


def test_canary_without_the_list_of_damage_a_broken_archive_would_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tarfile.TarError in DAMAGE
    monkeypatch.setattr("sevenfold.corpus.archives.read.DAMAGE", ())
    with pytest.raises(tarfile.TarError):
        read(b"not an archive")
