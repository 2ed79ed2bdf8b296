"""The lock: packages of registries, pinned by version and hash (specs/corpus-lock.md)."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from sevenfold.core.errors import RecipeError, UsageError
from sevenfold.core.files import RepeatedKey, read_bytes, unique_keys
from sevenfold.corpus.fetch.grammar import KINDS, MAX_LENGTH, Kind, fault
from sevenfold.recipe.fields import Section

MAX_LOCK_BYTES = 64 << 20

_Name = Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Integrity = Annotated[str, Field(pattern=r"^sha512-[A-Za-z0-9+/]{86}==$")]
_Figures = dict[str, float] | None


class _Entry(Section):
    # What the author of the lock saw. `kept_MB`, `tests_MB`, `complete` and `note` inform and
    # decide nothing.
    licence: str | tuple[str, ...] | None = None
    concluded: str | None = None
    kept_MB: _Figures = None  # noqa: N815  (a name of the format)
    tests_MB: _Figures = None  # noqa: N815  (a name of the format)
    note: str | None = None


class _PythonPackage(_Entry):
    name: _Name
    version: _Name
    file: _Name
    sha256: _Sha256


class _NpmPackage(_Entry):
    name: _Name
    version: _Name
    integrity: _Integrity


class _DebianBinary(_Entry):
    name: _Name
    version: _Name
    sha256: _Sha256


class _DebianSource(_Entry):
    source: _Name
    dsc: _Name
    sha256: _Sha256
    complete: bool = True


class _Lock(Section):
    lock: Literal[1] = 1
    pypi: tuple[_PythonPackage, ...] = ()
    npm: tuple[_NpmPackage, ...] = ()
    deb: tuple[_DebianBinary, ...] = ()
    dsc: tuple[_DebianSource, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One package. `file` is the name of a wheel, sdist or .dsc, or "" where the other fields
    determine it.

    `licence` is what the author of the lock saw. `concluded` is the licence that a person decided
    for the package.
    """

    kind: Kind
    name: str
    version: str
    file: str
    algorithm: Literal["sha256", "sha512"]
    # Hexadecimal digits.
    digest: str
    licence: tuple[str, ...] = ()
    concluded: str | None = None

    def __post_init__(self) -> None:
        """Refuse a name, version or file that is not exact, so that no client ever receives it.

        Raises RecipeError.
        """
        if wrong := fault(self.kind, self.name, self.version, self.file):
            raise RecipeError(
                wrong,
                where=f"{self.kind}:{self.name[:80]!a}",
                remedy="pin one exact version of a package by its registry's own name (specs/corpus-lock.md);"
                " addresses, folders, aliases, tags and ranges are none",
            )

    @property
    def label(self) -> str:
        """Return the name of the package in ledgers and messages: `npm:acorn 8.19.0`."""
        return f"{self.source} {self.version}"

    @property
    def source(self) -> str:
        """Return the source of its documents, without the version: `npm:acorn`."""
        return f"{self.kind}:{self.name}"


def is_lock(data: bytes) -> bool:
    """Return whether bytes are a lock."""
    try:
        _Lock.model_validate_json(data)
    except ValidationError:
        return False
    return True


def read_lock(path: Path) -> list[Pin]:
    """Return the pins of a lock file, in its order.

    Raises:
        StorageError: the file cannot be read.
        RecipeError: it is not a lock, or it pins a package to two hashes.
    """
    data = read_bytes(path)
    try:
        if len(data) > MAX_LOCK_BYTES:
            raise RecipeError(f"a lock of {len(data)} bytes, at most {MAX_LOCK_BYTES}", where=str(path))
        _require_unique_keys(data, path)
        lock = _Lock.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise RecipeError(
            f"not a lock: {place}: {first['msg']}", where=str(path), remedy="see specs/corpus-lock.md"
        ) from None
    pins: dict[tuple[str, str, str, str], Pin] = {}
    for kind in KINDS:
        for entry in getattr(lock, kind):
            try:
                pin = _pin(kind, entry)
            except RecipeError as error:
                raise RecipeError(
                    f"not a lock: {kind}: {error.what}", where=str(path), remedy=error.remedy
                ) from None
            first_pin = pins.setdefault((pin.kind, pin.name, pin.version, pin.file), pin)
            if first_pin.digest != pin.digest:
                raise RecipeError(
                    f"{pin.label} is pinned to two hashes", where=str(path), remedy="remove one"
                )
    return list(pins.values())


def _require_unique_keys(data: bytes, path: Path) -> None:
    """Refuse a lock that two readers could read differently. Raises RecipeError."""
    try:
        json.loads(data, object_pairs_hook=unique_keys)
    except RepeatedKey as error:
        raise RecipeError(f"not a lock: {error}", where=str(path), remedy="remove one") from None
    except (ValueError, RecursionError):
        # The reader of the schema reports the error.
        return


def _pin(kind: Kind, entry: Any) -> Pin:
    licence = entry.licence or ()
    shared: dict[str, Any] = {
        "kind": kind,
        "licence": (licence,) if isinstance(licence, str) else licence,
        "concluded": entry.concluded,
        "algorithm": "sha256",
    }
    if isinstance(entry, _NpmPackage):
        digest = _hexadecimal(entry.integrity)
        return Pin(
            name=entry.name,
            version=entry.version,
            file="",
            **shared | {"algorithm": "sha512", "digest": digest},
        )
    shared["digest"] = entry.sha256
    if isinstance(entry, _DebianSource):
        version = entry.dsc.removesuffix(".dsc").partition("_")[2]
        return Pin(name=entry.source, version=version, file=entry.dsc, **shared)
    file = entry.file if isinstance(entry, _PythonPackage) else ""
    return Pin(name=entry.name, version=entry.version, file=file, **shared)


def _hexadecimal(integrity: str) -> str:
    try:
        return base64.b64decode(integrity.removeprefix("sha512-"), validate=True).hex()
    except binascii.Error:
        # No file has this hash, so the package is reported as one whose hash differs.
        return ""


def select(pins: Iterable[Pin], only: str | None) -> list[Pin]:
    """Return the pins of one kind, or those whose name matches a glob; all if `only` is None.

    Raises:
        UsageError: no pin matches.
    """
    pins = list(pins)
    if only is None:
        return pins
    chosen = [p for p in pins if p.kind == only or fnmatch.fnmatchcase(p.name, only)]
    if not chosen:
        raise UsageError(
            f"no package {only!r} in the lock",
            where="--only",
            remedy=f"a kind ({', '.join(KINDS)}) or a name, with * for any letters",
        )
    return chosen


_CHECKSUM = re.compile(r"^ ([0-9a-f]{64}) +([0-9]+) +([A-Za-z0-9][A-Za-z0-9.+~!_-]*)$")


def source_files(dsc: bytes) -> list[tuple[str, str]]:
    """Return (name, SHA-256) of every file in a Debian source control file (.dsc), in its order."""
    found, inside = [], False
    for line in dsc.decode("utf-8", "replace").splitlines():
        if not line.startswith(" "):
            inside = line.strip().lower() == "checksums-sha256:"
        elif inside and (match := _CHECKSUM.match(line.rstrip())):
            found.append((match[3], match[1]))
    return found
