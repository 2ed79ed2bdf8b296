"""Write a lock from names: each package is fetched once in the version offered now, and its version
and hash are recorded.

Names may be in a file, one on a line, each with the licence that a person concluded. Hashes may be
taken from a larger lock. The new lock is then a selection of it, and no registry is asked for
packages that are present.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from sevenfold.core.errors import RecipeError, StorageError, UsageError
from sevenfold.core.files import read_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.process.log import Progress
from sevenfold.corpus.fetch.client import FetchFailure, run_client
from sevenfold.corpus.fetch.grammar import KINDS
from sevenfold.corpus.fetch.lock import Pin, source_files
from sevenfold.corpus.fetch.registries import NPM_SAYS_WHY, Apt, pip_download
from sevenfold.corpus.fetch.run import fetch_all
from sevenfold.corpus.fetch.store import PackageStore, file_digest
from sevenfold.corpus.licences import is_valid

_REQUEST = re.compile(r"(?P<kind>pypi|npm|deb|dsc):(?P<name>[^=\s]+)(?:=(?P<version>\S+))?")


def parse_request(text: str) -> Pin:
    """Return `KIND:NAME` or `KIND:NAME=VERSION` as a pin without a hash.

    Raises:
        UsageError: the text has another form.
    """
    found = _REQUEST.fullmatch(text)
    if found is None:
        raise _no_package(text)
    kind = next(kind for kind in KINDS if kind == found["kind"])
    try:
        return Pin(
            kind=kind,
            name=found["name"],
            version=found["version"] or "",
            file="",
            algorithm="sha256",
            digest="",
        )
    except RecipeError as error:
        raise _no_package(text, f": {error.what}") from None


def _no_package(text: str, why: str = "") -> UsageError:
    return UsageError(
        f"{text!r} names no package{why}",
        remedy=f"KIND:NAME or KIND:NAME=VERSION, the kind one of {', '.join(KINDS)}: pypi:attrs=26.1.0",
    )


def read_names(path: Path) -> list[Pin]:
    """Return the requests of a file with lines `KIND:NAME[=VERSION] [LICENCE]`.

    LICENCE is an SPDX expression that was concluded for the package. Comments begin with #.

    Raises:
        StorageError: the file cannot be read.
        UsageError: a line names no package.
        RecipeError: a licence is not an SPDX expression.
    """
    requests = []
    for number, line in enumerate(read_bytes(path).decode("utf-8", "replace").splitlines(), 1):
        name, _, licence = line.partition("#")[0].strip().partition(" ")
        if not name:
            continue
        if licence and not is_valid(licence.strip()):
            raise RecipeError(
                f"{licence.strip()!r} is no SPDX expression",
                where=f"{path}:{number}",
                remedy="see spdx.org/licenses",
            )
        requests.append(replace(parse_request(name), concluded=licence.strip() or None))
    return requests


def pin_from(
    requests: Sequence[Pin], lock: Iterable[Pin], store: PackageStore, progress: Progress
) -> list[Pin]:
    """Return the pins of a lock for the requests, with the concluded licences of the requests, and
    fetch them.

    Raises:
        UsageError: the lock has no such package, or several.
        StorageError: a package cannot be fetched with its pinned hash.
    """
    known = list(lock)
    pins = []
    for request in requests:
        found = [
            pin
            for pin in known
            if (pin.kind, pin.name) == (request.kind, request.name) and request.version in ("", pin.version)
        ]
        if len(found) != 1:
            versions = ", ".join(pin.version for pin in found) or "none"
            raise UsageError(
                f"{request.source}: one wanted, the lock has {versions}",
                where="--from",
                remedy="name a version, or pin it without --from",
            )
        pins.append(replace(found[0], concluded=request.concluded))
    for outcome in fetch_all(pins, store.directory, progress):
        if outcome.status == "failed":
            raise StorageError(
                f"{outcome.pin.label}: {outcome.reason}: {outcome.detail}",
                remedy="leave it out of the names, or pin it again without --from",
            )
    return pins


def pin_all(requests: Iterable[Pin], store: PackageStore, progress: Progress) -> list[Pin]:
    """Fetch each package into the store and pin it.

    Raises:
        StorageError: a package cannot be fetched; the reason is that of the client.
    """
    requests = list(requests)
    apt = Apt(store.directory / "apt")
    if any(request.kind in ("deb", "dsc") for request in requests):
        with store.staging():
            apt.refresh()
    progress.start("pin", len(requests), "packages")
    pins = []
    for number, request in enumerate(requests, 1):
        try:
            with store.staging() as staging:
                pins.append(_bring(request, staging, store, apt))
        except FetchFailure as failure:
            raise StorageError(
                f"{request.source}: {failure.reason}: {failure.detail}",
                remedy="check the name and the version",
            ) from failure
        progress.advance(number)
    return pins


def _bring(request: Pin, staging: Path, store: PackageStore, apt: Apt) -> Pin:
    exact = f"{request.name}={request.version}" if request.version else request.name
    if request.kind == "pypi":
        pip_download(exact.replace("=", "=="), [], staging)
    elif request.kind == "npm":
        command = ["npm", "pack", exact.replace("=", "@"), "--ignore-scripts", "--json", *NPM_SAYS_WHY]
        told = json.loads(run_client([*command, "--cache", str(staging / "cache")], staging))[0]
        pin = replace(request, version=str(told["version"]), algorithm="sha512")
    elif request.kind == "deb":
        apt.client(["apt-get", "download", "-q", exact], staging)
    else:
        apt.client(["apt-get", "source", "--download-only", "--only-source", "-q", exact], staging)
    files = sorted(path for path in staging.iterdir() if path.is_file())
    main = [path for path in files if path.suffix == ".dsc"] if request.kind == "dsc" else files
    if len(main) != 1:
        raise FetchFailure("not found", f"the client brought {len(main)} files")
    file = main[0]
    if request.kind == "pypi":
        pin = replace(request, file=file.name, version=file.name.split("-")[1], name=request.name)
    elif request.kind == "deb":
        pin = replace(request, version=unquote(file.name.split("_")[1]))
    elif request.kind == "dsc":
        pin = replace(request, file=file.name, version=file.name.removesuffix(".dsc").partition("_")[2])
        for name, digest in source_files(file.read_bytes()):
            if not (staging / name).is_file() or not store.adopt(staging / name, "sha256", digest):
                raise FetchFailure("hash differs", name)
    pin = replace(pin, digest=file_digest(file, pin.algorithm))
    store.adopt(file, pin.algorithm, pin.digest)
    return pin


def lock_of(pins: Iterable[Pin]) -> dict[str, Json]:
    """Return the lock that `read_lock` would read as these pins, each list sorted by name."""
    lock: dict[str, Json] = {"lock": 1}
    for pin in sorted(pins, key=lambda pin: (pin.kind, pin.name, pin.version)):
        entry: dict[str, Json] = {"licence": " AND ".join(pin.licence) or None}
        if pin.concluded is not None:
            entry["concluded"] = pin.concluded
        if pin.kind == "dsc":
            entry |= {"source": pin.name, "dsc": pin.file, "sha256": pin.digest}
        else:
            entry |= {"name": pin.name, "version": pin.version}
            if pin.kind == "npm":
                entry["integrity"] = "sha512-" + base64.b64encode(bytes.fromhex(pin.digest)).decode()
            else:
                entry["sha256"] = pin.digest
            if pin.kind == "pypi":
                entry["file"] = pin.file
        lock.setdefault(pin.kind, []).append(entry)
    return lock
