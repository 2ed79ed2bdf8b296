"""The ledger: one row for every document seen, and the reasons for which documents are dropped.

In = kept + every named drop, for each source and licence. `reconcile` compares what the sources
yielded with what was decided and with what was written. No document can therefore be lost between
two of these without an error. Format: specs/dataset.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from sevenfold.core.documents import Columns
from sevenfold.core.errors import SevenfoldError
from sevenfold.core.hashing import Json

Reason = Literal[
    "unreadable",
    "corrupt",
    "bomb",
    "trailing_data",
    "no_documents",
    "unsafe_path",
    "duplicate_name",
    "duplicate_key",
    "link",
    "encrypted",
    "pointer",
    "too_large",
    "licence_unknown",
    "licence_not_allowed",
    "empty",
    "too_small",
    "not_utf8",
    "forbidden_control",
    "vendored",
    "minified",
    "generated",
    "long_lines",
    "too_many_lines",
    "not_alphabetic",
    "language_not_wanted",
    "syntax_error",
    "low_quality_prose",
    "low_quality_code",
    "secret",
    "personal_data",
    "benchmark",
    "duplicate",
    "near_duplicate",
    "perplexity",
]

# Reasons in the order in which they are tested. The first that applies is recorded.
REASONS: Mapping[Reason, str] = {
    "unreadable": "the file cannot be opened, or the record is not an object with a text",
    "corrupt": "an archive, or a file of one, that is damaged or of an unknown form",
    "bomb": "an archive that unfolds to more than its size allows, or has too many entries",
    "trailing_data": (
        "bytes of an archive that belong to none of its entries, such as a second archive after the first"
    ),
    "no_documents": "a package in which no file is asked for",
    "unsafe_path": "an archive names a path that is absolute, leaves it, or is none",
    "duplicate_name": "an archive names the same path a second time",
    "duplicate_key": "a record, or an object in it, that names a key a second time",
    "link": "a link, a device or another entry that is no regular file",
    "encrypted": "an encrypted file of an archive",
    "pointer": "a file of git-lfs or git-annex that points to another one",
    "too_large": "more bytes than corpus.max_bytes",
    "licence_unknown": "no licence, or not a valid SPDX expression",
    "licence_not_allowed": "the SPDX expression cannot be satisfied by corpus.licences",
    "empty": "no bytes, or white space only",
    "too_small": "fewer bytes than corpus.min_bytes",
    "not_utf8": "not valid UTF-8",
    "forbidden_control": "a C0 control character other than TAB, LF, FF and CR",
    "vendored": "it lies in a folder for other projects' files",
    "minified": "a minified file, by its name or its mean line",
    "generated": "its name or its head says that a program wrote it",
    "long_lines": "a line of a program, or the mean of its lines, is longer than corpus.steps.lines allows",
    "too_many_lines": "more lines than corpus.steps.lines.max_lines",
    "not_alphabetic": "fewer letters than corpus.steps.lines.min_alphabetic",
    "language_not_wanted": "prose in a language that corpus.steps.prose_languages does not list",
    "syntax_error": "a program that its grammar cannot read",
    "low_quality_prose": "prose that breaks a rule of quality",
    "low_quality_code": "a program that breaks a rule of quality",
    "secret": "a key or a password, and corpus.steps.secrets is drop",
    "personal_data": "data of a person, and corpus.steps.personal is drop",
    "benchmark": "text or a function of an evaluation set",
    "duplicate": "the same bytes as a document kept earlier in canonical order",
    "near_duplicate": (
        "in the cluster of a kept document: verified Jaccard similarity of corpus.steps.near_duplicates or"
        " more"
    ),
    "perplexity": "bits per byte outside of corpus.steps.perplexity",
}

LEDGER_COLUMNS: Columns = {
    "source": "string",
    "version": "string",
    "path": "string",
    "licence": "string",
    "licence_evidence": "string",
    "language": "string",
    "n_bytes": "int64",
    "sha256": "string",
    "domain": "string",
    "split": "string",
    "status": "string",
    "reason": "string",
}


class LedgerRow(NamedTuple):
    """One document seen. Its fields are `LEDGER_COLUMNS`. `split` is "" unless kept, `reason` ""
    when kept, `sha256` "" if unread.
    """

    source: str
    version: str
    path: str
    licence: str
    licence_evidence: str
    language: str
    n_bytes: int
    sha256: str
    domain: str
    split: Literal["train", "heldout", ""]
    status: Literal["kept", "dropped"]
    reason: Reason | Literal[""]


@dataclass
class Count:
    """Documents and their bytes."""

    n_documents: int = 0
    n_bytes: int = 0

    def add(self, n_bytes: int, n_documents: int = 1) -> None:
        """Add one document, or several with this total size."""
        self.n_documents += n_documents
        self.n_bytes += n_bytes


Condensed = Sequence[tuple[LedgerRow, Count]]


def condense(rows: Iterable[LedgerRow]) -> Condensed:
    """Group rows that differ only in path, size and hash. Return the first of each group and its
    count.
    """
    found: dict[tuple[str | int, ...], tuple[LedgerRow, Count]] = {}
    for row in rows:
        # All columns but path, n_bytes and sha256.
        key = row[:2] + row[3:6] + row[8:]
        known = found.get(key)
        if known is None:
            known = found[key] = (row, Count())
        known[1].add(row.n_bytes)
    return list(found.values())


def summarise(rows: Condensed) -> list[Json]:
    """Return the documents and bytes per (source, version, licence, domain): seen, per split, per
    reason. Sorted.
    """
    groups: dict[tuple[str, ...], dict[str, Count]] = defaultdict(lambda: defaultdict(Count))
    evidence: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row, count in rows:
        key = (row.source, row.version, row.licence, row.domain)
        evidence[key].add(row.licence_evidence)
        for name in ("seen", row.split or row.reason):
            groups[key][name].add(count.n_bytes, count.n_documents)
    return [
        {
            **dict(zip(("source", "version", "licence", "domain"), key, strict=True)),
            "licence_evidence": sorted(evidence[key]),
            "seen": asdict(counts["seen"]),
            "train": asdict(counts["train"]),
            "heldout": asdict(counts["heldout"]),
            "dropped": {reason: asdict(counts[reason]) for reason in REASONS if reason in counts},
        }
        for key, counts in sorted(groups.items())
    ]


def tally(rows: Condensed) -> list[Json]:
    """Return the documents and bytes per (domain, language, licence): kept, and dropped by reason.

    Sorted.
    """
    groups: dict[tuple[str, str, str], dict[str, Count]] = defaultdict(lambda: defaultdict(Count))
    for row, count in rows:
        groups[row.domain, row.language, row.licence][row.reason].add(count.n_bytes, count.n_documents)
    return [
        {
            **dict(zip(("domain", "language", "licence"), key, strict=True)),
            "kept": asdict(counts[""]),
            "dropped": {reason: asdict(counts[reason]) for reason in REASONS if reason in counts},
        }
        for key, counts in sorted(groups.items())
    ]


def reconcile(seen: Mapping[tuple[str, str], Count], rows: Condensed, written: Mapping[str, Count]) -> None:
    """Check that in = kept + every named drop, per source and licence, and that what was kept was
    written.

    Args:
        seen: documents and bytes per (source, licence) as the sources yielded them.
        rows: the ledger.
        written: documents and bytes per split as the document files received them.

    Raises:
        SevenfoldError: the figures do not reconcile, which is a defect of this program and not of
            the input.
    """
    decided: dict[tuple[str, str], Count] = defaultdict(Count)
    kept: dict[str, Count] = defaultdict(Count)
    for row, count in rows:
        is_kept = row.status == "kept" and row.split and not row.reason
        is_dropped = row.status == "dropped" and not row.split and row.reason in REASONS
        if not (is_kept or is_dropped):
            raise SevenfoldError(
                f"status {row.status!r}, split {row.split!r} and reason {row.reason!r} contradict each other",
                where=f"{row.source}: {row.path}",
            )
        decided[row.source, row.licence].add(count.n_bytes, count.n_documents)
        if row.split:
            kept[row.split].add(count.n_bytes, count.n_documents)
    _require_equal("seen", seen, decided)
    _require_equal("written", written, kept)


def _require_equal(what: str, found: Mapping[Any, Count], ledger: Mapping[Any, Count]) -> None:
    for key in sorted({*found, *ledger}):
        ours, theirs = found.get(key, Count()), ledger.get(key, Count())
        if ours != theirs:
            raise SevenfoldError(
                f"{what} {ours}, in the ledger {theirs}: they do not reconcile", where=f"corpus, {key}"
            )
