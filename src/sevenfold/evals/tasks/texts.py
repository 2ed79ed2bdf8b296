"""Collect texts for bits per byte: the held-out split of a corpus, the standard library of the
running interpreter, and installed packages that no lock names.

Only the beginning of each document is scored, and only the first documents by digest of each domain
and language. A run therefore takes minutes for every size of corpus.
"""

from __future__ import annotations

import json
import platform
import re
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from sevenfold.core.documents import SYNTHETIC, read_documents, read_rows
from sevenfold.core.files import read_bytes
from sevenfold.core.hashing import sha256
from sevenfold.core.run_files import HELDOUT_DOCUMENTS, LEDGER
from sevenfold.corpus.ledger import LEDGER_COLUMNS
from sevenfold.evals.tasks.cards import Item
from sevenfold.evals.tasks.data import plain
from sevenfold.recipe.shipped import recipes_directory

DOCUMENTS_PER_GROUP = 64
MAX_CHARACTERS = 4096
FILES_PER_PACKAGE = 16
# From the licence with the fewest obligations to the one with the most.
_CLASSES = (
    ("public domain", re.compile(r"CC0|Unlicense|0BSD|MIT-0|BlueOak|WTFPL")),
    ("permissive", re.compile(r"MIT|BSD|ISC|Zlib|BSL|PSF|Python|PostgreSQL|HPND|X11|NCSA|Unicode|CNRI")),
    ("permissive with a patent grant", re.compile(r"Apache|UPL|MS-PL|ECL")),
    ("copyleft", re.compile(r"[AL]?GPL|MPL|EPL|CDDL|EUPL|OSL|CC-BY-SA")),
)
_NAME = re.compile(r"[-_.]+")


def licence_class(expression: str) -> str:
    """Return the class of an SPDX expression: that of its licence with the most obligations."""
    words = [word for word in re.split(r"[\s()]+", expression) if word not in ("", "AND", "OR", "WITH")]
    names = [name for name, _ in _CLASSES]
    found = [next((name for name, known in _CLASSES if known.match(word)), "") for word in words]
    return max(filter(None, found), key=names.index, default="other")


def _item(name: str, text: str, domain: str, language: str, licence: str, program: str = "") -> Item:
    shown = plain(text[:MAX_CHARACTERS])
    target = {
        "domain": domain,
        "language": language,
        "licence": licence_class(licence),
        "n_bytes": len(shown.encode()),
    }
    return Item(id=name, prompt=shown, target=target, program=program)


def _first(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the first items of each domain and language that have a text."""
    counts: Counter[tuple[str, str]] = Counter()
    for item in items:
        group = str(item.target["domain"]), str(item.target["language"])
        if item.prompt.strip() and counts[group] < DOCUMENTS_PER_GROUP:
            counts[group] += 1
            yield item


def heldout(folder: Path) -> Iterator[Item]:
    """Yield documents of the held-out split of a corpus stage, in the order of their ids.

    Raises:
        StorageError: a file of the stage cannot be read.
    """
    places = [list(LEDGER_COLUMNS).index(name) for name in ("source", "path", "language", "licence", "split")]
    known = {}
    for row in read_rows(folder / LEDGER, LEDGER_COLUMNS):
        source, path, language, licence, split = (row[place] for place in places)
        if split == "heldout":
            known[source, path] = language, licence
    yield from _first(
        _item(
            document.id,
            document.text,
            document.domain,
            # The samples of a generator count as a language of their own.
            document.path.split("/")[0] if document.source == SYNTHETIC else language or "unknown",
            licence,
        )
        for document in read_documents(folder / HELDOUT_DOCUMENTS)
        for language, licence in [known.get((document.source, document.path), ("unknown", ""))]
    )


def _by_digest(items: Iterable[Item]) -> list[Item]:
    return sorted(items, key=lambda item: sha256(item.prompt.encode()))


def _read(path: Path) -> str:
    return read_bytes(path).decode("utf-8", "replace")


def standard_library() -> Iterator[Item]:
    """Yield the top-level modules of the running interpreter's standard library. Raises
    StorageError.
    """
    folder, version = Path(sysconfig.get_path("stdlib")), platform.python_version()
    items = []
    for path in sorted(folder.glob("*.py")):
        text = _read(path)
        items.append(_item(f"{version}/{path.name}", text, "code", "python", "PSF-2.0", text))
    yield from _first(_by_digest(items))


def locked_names() -> set[str]:
    """Return the names of the Python packages that a lock names. Raises StorageError."""
    names = set()
    for path in sorted((recipes_directory() / "locks").glob("*.lock.json")):
        rows = json.loads(read_bytes(path)).get("pypi", [])
        names |= {_NAME.sub("-", row["name"]).lower() for row in rows}
    return names


def installed_packages() -> Iterator[Item]:
    """Yield a few Python files of each installed package that no lock names.

    Raises StorageError.
    """
    locked = locked_names()
    items = []
    for package in metadata.distributions():
        name = _NAME.sub("-", package.metadata["Name"] or "").lower()
        if not name or name in locked or name == "sevenfold":
            continue
        fields = package.metadata.json
        licence = str(fields.get("license_expression") or fields.get("license") or "")
        paths = [path for path in package.files or () if path.suffix == ".py" and "tests" not in path.parts]
        for path in sorted(paths, key=lambda one: sha256(str(one).encode()))[:FILES_PER_PACKAGE]:
            place = Path(str(path.locate()))
            if place.is_file():
                text = _read(place)
                named = f"{name}-{package.version}/{path.as_posix()}"
                items.append(_item(named, text, "code", "python", licence.split("\n")[0][:80], text))
    yield from _first(_by_digest(items))
