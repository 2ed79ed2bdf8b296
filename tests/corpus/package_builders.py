"""Builds archives and packages in memory, honest and hostile ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from sevenfold.corpus.fetch.lock import Kind, Pin
from sevenfold.corpus.fetch.store import PackageStore

Files = dict[str, bytes]


def zip_of(files: Files, **options: Any) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tar_of(
    files: Files, extra: list[tarfile.TarInfo] | None = None, format: int = tarfile.PAX_FORMAT
) -> bytes:
    """A plain tar; `extra` are members without bytes (links, devices)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra or []:
            archive.addfile(info)
    return buffer.getvalue()


def ar_of(members: Files) -> bytes:
    """An ar archive."""
    parts = [b"!<arch>\n"]
    for name, data in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode())
        parts.append(data + b"\n" * (len(data) % 2))
    return b"".join(parts)


def deb_of(files: Files) -> bytes:
    """A Debian binary package."""
    control = gzip.compress(tar_of({"./control": b"Package: x\n"}))
    data = lzma.compress(tar_of({f"./{name}": data for name, data in files.items()}))
    return ar_of({"debian-binary": b"2.0\n", "control.tar.gz": control, "data.tar.xz": data})


def stored(store: PackageStore, kind: Kind, files: Files, name: str = "pack", **about: Any) -> Pin:
    """A package of these files, put into a store as if it had been fetched."""
    store.directory.mkdir(parents=True, exist_ok=True)
    if kind == "pypi":
        data, file = zip_of(files), f"{name}-1.0-py3-none-any.whl"
    elif kind == "npm":
        data, file = gzip.compress(tar_of({f"package/{path}": body for path, body in files.items()})), ""
    elif kind == "deb":
        data, file = deb_of(files), ""
    else:
        return _source(store, files, name, **about)
    algorithm = "sha512" if kind == "npm" else "sha256"
    digest = hashlib.new(algorithm, data).hexdigest()
    (store.directory / f"{algorithm}-{digest}").write_bytes(data)
    return Pin(kind=kind, name=name, version="1.0", file=file, algorithm=algorithm, digest=digest, **about)


def _source(store: PackageStore, files: Files, name: str, **about: Any) -> Pin:
    """A Debian source package: `debian/` apart from the rest."""
    upstream = {f"{name}-1.0/{path}": body for path, body in files.items() if not path.startswith("debian/")}
    packaging = {path: body for path, body in files.items() if path.startswith("debian/")}
    lines = ["Format: 3.0 (quilt)", f"Source: {name}", "Checksums-Sha256:"]
    for ending, content in (("orig", upstream), ("debian", packaging)):
        data = lzma.compress(tar_of(content))
        digest = hashlib.sha256(data).hexdigest()
        (store.directory / f"sha256-{digest}").write_bytes(data)
        version = "1.0" if ending == "orig" else "1.0-1"
        lines.append(f" {digest} {len(data)} {name}_{version}.{ending}.tar.xz")
    dsc = ("\n".join(lines) + "\n").encode()
    digest = hashlib.sha256(dsc).hexdigest()
    (store.directory / f"sha256-{digest}").write_bytes(dsc)
    return Pin(
        kind="dsc",
        name=name,
        version="1.0-1",
        file=f"{name}_1.0-1.dsc",
        algorithm="sha256",
        digest=digest,
        **about,
    )


def store_in(base: Path) -> PackageStore:
    """An empty store."""
    store = PackageStore(base / "packages")
    store.directory.mkdir(parents=True, exist_ok=True)
    return store
