"""A ZIP file of which the same contents are always the same bytes (specs/programme.md, section 5).

Entries are stored without compression, because the output of zlib differs between its versions. They
have no time, one mode and no extra fields.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from sevenfold.core.errors import ArtifactError, StorageError, storage
from sevenfold.core.files import atomic_writer, read_bytes
from sevenfold.core.hashing import Json, canonical_json, digest, sha256, sha256_file

MANIFEST_NAME = "handover.json"
FORMAT = 1
# The first date that the format can express.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644 << 16
_UNIX = 3
# A pack is held in memory, and the format without extensions counts to 4 GiB.
MAX_FILES, MAX_BYTES = 4096, (1 << 32) - 1
# Magic, versions, flags, method, time, date, CRC, stored size, size, lengths of name and extra field.
_LOCAL_MAGIC, _LOCAL = b"PK\x03\x04", struct.Struct("<4sHHHHHIIIHH")
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")


class PackError(ArtifactError):
    """A handover pack that is refused."""


def pack_error(path: Path, what: str) -> PackError:
    """Return the refusal of a pack."""
    return PackError(f"the pack is refused: {what}", where=str(path), remedy="get it again from its maker")


def file_rows(files: Mapping[str, bytes]) -> list[Json]:
    """Return path, size and SHA-256 of each file, in order of the paths."""
    return [
        {"path": path, "n_bytes": len(data), "sha256": sha256(data).hex()}
        for path, data in sorted(files.items())
    ]


def pack_root(manifest: Json) -> str:
    """Return the digest of a manifest, which binds every file of the pack."""
    return digest("sevenfold/handover/1", canonical_json(manifest))


def write_pack(out: Path, manifest: Json, files: Mapping[str, bytes]) -> None:
    """Write a pack, atomically: the manifest first, then the files in order of their paths.

    Raises StorageError: it cannot be written, or would have 4 GiB.
    """
    if sum(map(len, files.values())) > MAX_BYTES >> 1:
        raise StorageError(
            f"a pack has at most {MAX_BYTES >> 1} bytes", where=str(out), remedy="hand the model over alone"
        )
    with storage(out), atomic_writer(out) as target, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as pack:
        for name, data in ((MANIFEST_NAME, canonical_json(manifest)), *sorted(files.items())):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr, entry.create_system = _MODE, _UNIX
            pack.writestr(entry, data)


def read_pack(path: Path) -> tuple[Json, dict[str, bytes]]:
    """Return the manifest and the files of a pack, every byte of it proved.

    Only the local headers are read. Then the pack is written again and compared, so that a bit of any
    other header counts, too.

    Raises:
        PackError: it is no pack, or a byte differs from what its manifest says.
        StorageError: it cannot be read.
    """
    with storage(path):
        if path.stat().st_size > MAX_BYTES:
            raise pack_error(path, f"it has more than {MAX_BYTES} bytes")
    files = _entries(path, read_bytes(path))
    try:
        manifest = json.loads(files.pop(MANIFEST_NAME))
    except (KeyError, ValueError, RecursionError) as error:
        raise pack_error(path, f"no manifest ({type(error).__name__})") from error
    if not isinstance(manifest, dict) or manifest.get("handover") != FORMAT:
        raise pack_error(path, f"no manifest of format {FORMAT}")
    if manifest.get("files") != file_rows(files):
        raise pack_error(path, "a file is missing, added, or other than its manifest says")
    with TemporaryDirectory(prefix="s7-pack-") as folder:
        again = Path(folder) / "pack.zip"
        write_pack(again, manifest, files)
        if sha256_file(again) != sha256_file(path):
            raise pack_error(path, "its bytes are not those that its contents give")
    return manifest, files


def _entries(path: Path, data: bytes) -> dict[str, bytes]:
    """Return the files of a ZIP file by name. Raises PackError."""
    files: dict[str, bytes] = {}
    start = 0
    while data[start : start + 4] == _LOCAL_MAGIC and len(files) <= MAX_FILES:
        if start + _LOCAL.size > len(data):
            raise pack_error(path, "it ends inside a header")
        *_, size, _, n_name, n_extra = _LOCAL.unpack_from(data, start)
        begin = start + _LOCAL.size + n_name + n_extra
        name = data[start + _LOCAL.size : start + _LOCAL.size + n_name].decode("ascii", "replace")
        if not _PATH.fullmatch(name) or name in files or begin + size > len(data):
            raise pack_error(path, f"an entry that a pack cannot have: {name[:80]!a}")
        files[name] = data[begin : begin + size]
        start = begin + size
    return files
