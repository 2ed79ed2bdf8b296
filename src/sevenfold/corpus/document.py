"""A document as its source holds it, the record that sources give to steps."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from sevenfold.core.hashing import sha256
from sevenfold.corpus.archives import Entry, Fault
from sevenfold.corpus.licences import Licence, combine
from sevenfold.corpus.licences.wording.own import licences_in

BLOCK = 1 << 20
Problem = Literal["unreadable"] | Fault

_EXTENSIONS = {
    "agda": "agda", "bash": "bash sh", "c": "c h", "cpp": "cc cpp hpp", "css": "css", "go": "go",
    "html": "html",
    "java": "java", "javascript": "js mjs", "json": "json", "markdown": "md", "python": "py pyi",
    "restructuredtext": "rst", "rust": "rs", "sql": "sql", "text": "txt", "toml": "toml",
    "typescript": "ts", "yaml": "yaml yml",
}  # fmt: skip
LANGUAGES = {
    f".{ending}": language for language, endings in _EXTENSIONS.items() for ending in endings.split()
}


def name_of(path: str) -> str:
    """Return `PurePosixPath(path).name`, which would be slow to compute."""
    name = path.rpartition("/")[2]
    return name if name not in ("", ".") else PurePosixPath(path).name


def language_of(path: str) -> str:
    """Return the language by file extension, or "unknown" when the table has none."""
    name, dot, ending = name_of(path).rpartition(".")
    return LANGUAGES.get(dot + ending.lower(), "unknown") if name else "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOrigin:
    """The source of documents, and its terms.

    `licence` is the declared one, or None when nothing declares one.
    """

    source: str
    version: str
    licence: str | None
    licence_evidence: str
    domain: str

    def under(self, licence: Licence) -> SourceOrigin:
        """Return the same origin with another licence."""
        return replace(self, licence=licence.expression, licence_evidence=licence.evidence)

    def with_own(self, data: bytes) -> SourceOrigin:
        """Return the origin of a file with these bytes. A licence that the file states itself is
        added, so the stricter one applies.
        """
        own, how = licences_in(data)
        if not own:
            return self
        declared = (self.licence,) if self.licence else ()
        expression = combine((*declared, *own))
        if expression in declared or (declared and expression == combine(declared)):
            return self
        evidence = f"{self.licence_evidence}; {how}" if declared else how
        return replace(self, licence=expression, licence_evidence=evidence)


MAX_POINTER_BYTES = 1024
_POINTER = re.compile(
    rb"\s*version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/[^\n]*\n"
    rb"(?:ext-[^\n]*\n)*oid [a-z0-9]+:[0-9a-f]+\s"
    rb"|[./]*(?:git)?/annex/objects/\S+\s*\Z"
)


def is_pointer(data: bytes) -> bool:
    """Return whether a file is a pointer of git-lfs or git-annex to content kept elsewhere."""
    return len(data) <= MAX_POINTER_BYTES and _POINTER.match(data) is not None


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One document as its source holds it. `data` is None exactly when `problem` says why.

    Documents of one `group` belong together, such as those of one repository; "" means that the
    source is the group. `stated_language` is the language given by the source; "" means that the
    extension decides.
    """

    origin: SourceOrigin
    path: str
    n_bytes: int
    sha256: str
    data: bytes | None
    problem: Problem | None = None
    group: str = ""
    stated_language: str = ""

    @property
    def language(self) -> str:
        """Return the language given by the source, else the one by file extension, or "unknown"."""
        return self.stated_language or language_of(self.path)


def entry_document(origin: SourceOrigin, entry: Entry) -> SourceDocument:
    """Return a file of an archive as a document."""
    return SourceDocument(origin, entry.path, entry.n_bytes, entry.sha256, entry.data, entry.fault)


def text_document(
    origin: SourceOrigin, path: str, text: str, max_bytes: int, group: str = "", language: str = ""
) -> SourceDocument:
    """Return a text of a record as a document."""
    # Half of a surrogate pair, written as an escape, becomes bytes that are not UTF-8. A later step
    # drops such a text.
    data = text.encode("utf-8", "surrogatepass")
    kept, problem = (data, None) if len(data) <= max_bytes else (None, "too_large")
    return SourceDocument(
        origin, path, len(data), sha256(data).hex(), kept, "too_large" if problem else None, group, language
    )


def read_file(origin: SourceOrigin, path: str, file: Path, max_bytes: int) -> SourceDocument:
    """Return a file as a document. A file beyond the limit is hashed and counted and not held."""
    try:
        with file.open("rb") as handle:
            # The size of the file is requested and not max_bytes, because a buffer of a megabyte
            # for each small file would cost more than reading it.
            size = os.fstat(handle.fileno()).st_size
            data = handle.read(min(size, max_bytes) + 1)
            # The file grew, or it has no size.
            if size < len(data) <= max_bytes:
                data += handle.read(max_bytes + 1 - len(data))
            if len(data) <= max_bytes:
                return SourceDocument(origin, path, len(data), sha256(data).hex(), data)
            hasher, n_bytes = hashlib.sha256(data), len(data)
            while block := handle.read(BLOCK):
                hasher.update(block)
                n_bytes += len(block)
            return SourceDocument(origin, path, n_bytes, hasher.hexdigest(), None, "too_large")
    except OSError:
        return SourceDocument(origin, path, 0, "", None, "unreadable")
