"""Store fetched packages: one file for each hash, which is its name.

A file is whole or absent. Its path is `<directory>/<algorithm>-<hex>`. Downloads in progress are in
`<directory>/staging` and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sevenfold.core.errors import storage
from sevenfold.core.files import sync_directory
from sevenfold.corpus.fetch.lock import Pin, source_files

DIRECTORY_VARIABLE = "S7_PACKAGES"
# Names that `tempfile.mkdtemp` returns.
_STAGED = "tmp*"


def store_directory() -> Path:
    """Return the directory of the store: `S7_PACKAGES`, else `sevenfold/packages` in the cache
    directory of the user.
    """
    if given := os.environ.get(DIRECTORY_VARIABLE):
        return Path(given).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(cache, "sevenfold", "packages").absolute()


def file_digest(path: Path, algorithm: str) -> str:
    """Return the hex digest of the bytes of a file. Raises StorageError."""
    with storage(path), path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


class PackageStore:
    """A store of packages by hash."""

    def __init__(self, directory: Path) -> None:
        # The clients run in directories of their own, where a relative path would mean another
        # place.
        self.directory = directory.absolute()

    def path(self, algorithm: str, digest: str) -> Path:
        """Return the path of the file with this hash, present or not."""
        return self.directory / f"{algorithm}-{digest}"

    def pinned(self, pin: Pin) -> Path:
        """Return the path of the file of the pin, present or not. For a Debian source this is its
        .dsc.
        """
        return self.path(pin.algorithm, pin.digest)

    def files(self, pin: Pin) -> list[tuple[str, Path]] | None:
        """Return (name, path) of the archives of a package, or None when one is missing.

        Hashes are not checked.
        """
        path = self.pinned(pin)
        if not path.is_file():
            return None
        if pin.kind != "dsc":
            return [(archive_name(pin), path)]
        with storage(path):
            parts = [(name, self.path("sha256", digest)) for name, digest in source_files(path.read_bytes())]
        return parts if parts and all(part.is_file() for _, part in parts) else None

    def check(self, path: Path) -> bool:
        """Return whether a file of the store matches the hash in its name. A file that does not is
        removed.
        """
        algorithm, _, digest = path.name.partition("-")
        if not path.is_file():
            return False
        if file_digest(path, algorithm) == digest:
            return True
        with storage(path):
            path.unlink()
        return False

    def complete(self, pin: Pin) -> bool:
        """Return whether the package is present with all its files. Each is hashed again."""
        if not self.check(self.pinned(pin)):
            return False
        files = self.files(pin)
        return files is not None and all(self.check(path) for _, path in files)

    def adopt(self, file: Path, algorithm: str, digest: str) -> bool:
        """Move a staged file into the store if it has this hash. Raises StorageError when the disk
        is full.
        """
        if file_digest(file, algorithm) != digest:
            return False
        with storage(file):
            handle = os.open(file, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            file.replace(self.path(algorithm, digest))
            sync_directory(self.directory)
        return True

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield an empty directory on the file system of the store. It is removed at the end of the
        block.
        """
        base = self.directory / "staging"
        with storage(base):
            base.mkdir(parents=True, exist_ok=True)
            directory = Path(tempfile.mkdtemp(dir=base))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def clear_staging(self) -> None:
        """Remove what an interrupted fetch left in the staging directory, and nothing else."""
        base = self.directory / "staging"
        for leftover in base.glob(_STAGED):
            shutil.rmtree(leftover, ignore_errors=True)
        with suppress(OSError):
            base.rmdir()


def archive_name(pin: Pin) -> str:
    """Return a name whose ending states the kind of the archive."""
    if pin.kind == "npm":
        return f"{pin.name.replace('/', '-').lstrip('@')}-{pin.version}.tgz"
    return pin.file or f"{pin.name}_{pin.version}.deb"
