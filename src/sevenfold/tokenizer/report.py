"""Measure a tokenizer on held-out documents: tokens, exact decoding, cut symbols, and the targets
of C2.

Figures are sums over documents, grouped by domain and by extension, so two tokenizers can be
compared on the same documents. For fertility, a word is a run of characters without a blank. An
identifier is a letter or `_` followed by letters, digits and `_`. No byte is out of vocabulary, so
that rate counts tokens that are one byte of a longer character, which is how an unknown character
is encoded.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from sevenfold.core.documents import Document
from sevenfold.core.errors import StorageError
from sevenfold.core.hashing import Json
from sevenfold.tokenizer.codec import Tokenizer

_WORD, _IDENTIFIER = re.compile(r"\S+"), re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Distinct identifiers, in the order of their first occurrence. Each is weighted by its count.
MAX_IDENTIFIERS = 50_000
MIN_ROUND_TRIP, MAX_OOV, MAX_BYTES_PER_TOKEN = 0.9999, 1e-4, 1.2


@dataclass
class Figures:
    """Sums over documents."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, text: str, n_tokens: int, n_fallback: int, *, came_back: bool) -> None:
        """Count one document."""
        n_bytes = len(text.encode())
        self.counts.update(
            documents=1, bytes=n_bytes, tokens=n_tokens, fallback=n_fallback, lines=text.count("\n") + 1,
            words=sum(1 for _ in _WORD.finditer(text)), bytes_back=n_bytes if came_back else 0,
        )  # fmt: skip

    def rates(self) -> dict[str, Json]:
        """Return the sums as rates."""
        of = self.counts
        return {
            "n_documents": of["documents"],
            "n_bytes": of["bytes"],
            "n_tokens": of["tokens"],
            "bytes_per_token": of["bytes"] / max(1, of["tokens"]),
            "tokens_per_line": of["tokens"] / max(1, of["lines"]),
            "fertility": of["tokens"] / max(1, of["words"]),
            "round_trip": of["bytes_back"] / max(1, of["bytes"]),
            "oov": of["fallback"] / max(1, of["tokens"]),
        }


def measure(tokenizer: Tokenizer, documents: Iterable[Document]) -> dict[str, Json]:
    """Return the figures of a tokenizer on documents: in all, by domain, by extension, and of
    identifiers.

    Raises:
        StorageError: there are no documents.
    """
    total = Figures()
    groups: dict[str, dict[str, Figures]] = {
        "domains": defaultdict(Figures),
        "extensions": defaultdict(Figures),
    }
    identifiers: Counter[str] = Counter()
    partial = frozenset(
        i for i in range(tokenizer.vocab_size) if _is_part_of_a_character(tokenizer.token_bytes(i))
    )
    for document in documents:
        ids = tokenizer.encoding_of(document)(document.text)
        came_back = tokenizer.decode_bytes(ids) == document.text.encode()
        n_fallback = sum(1 for i in ids if i in partial)
        extension = PurePosixPath(document.path).suffix.lstrip(".") or "none"
        for figures in (total, groups["domains"][document.domain], groups["extensions"][extension]):
            figures.add(document.text, len(ids), n_fallback, came_back=came_back)
        for name in _IDENTIFIER.findall(document.text):
            if name in identifiers or len(identifiers) < MAX_IDENTIFIERS:
                identifiers[name] += 1
    if not total.counts["documents"]:
        raise StorageError("no documents to measure on", where="holdout")
    return {
        "vocab_size": tokenizer.vocab_size,
        "all": total.rates(),
        **{name: {key: group[key].rates() for key in sorted(group)} for name, group in groups.items()},
        "identifiers": _fragmentation(tokenizer, identifiers),
    }


def _is_part_of_a_character(token: bytes) -> bool:
    return len(token) == 1 and token[0] >= 0x80


def _fragmentation(tokenizer: Tokenizer, identifiers: Mapping[str, int]) -> dict[str, Json]:
    pieces = {name: len(tokenizer.encode(name)) for name in identifiers}
    n_total = sum(identifiers.values())
    long = {
        name: n for name, n in identifiers.items() if "_" in name.strip("_") or re.search("[a-z][A-Z]", name)
    }
    return {
        "n_distinct": len(identifiers),
        "n_total": n_total,
        "mean_tokens": sum(pieces[name] * n for name, n in identifiers.items()) / max(1, n_total),
        "share_whole": sum(n for name, n in identifiers.items() if pieces[name] == 1) / max(1, n_total),
        "mean_tokens_of_compound": sum(pieces[name] * n for name, n in long.items())
        / max(1, sum(long.values())),
    }


def targets(figures: Json, other: Json | None) -> list[dict[str, Json]]:
    """Return the targets of C2 as rows {target, wanted, found, state, note}; state is "met", "not
    met" or "not measured".

    `other` holds the figures of the second tokenizer of the A/B plan, on the same documents.
    """
    code = figures["domains"].get("code", figures["all"])
    back, oov = figures["all"]["round_trip"], figures["all"]["oov"]
    rows: list[tuple[str, str, float, bool, str]] = [
        (
            "bytes/token on code",
            f"<= {MAX_BYTES_PER_TOKEN}",
            code["bytes_per_token"],
            code["bytes_per_token"] <= MAX_BYTES_PER_TOKEN,
            "taken literally it forbids nearly every token of more than a byte; larger is better here",
        ),
        ("round trip of bytes", f">= {MIN_ROUND_TRIP}", back, back >= MIN_ROUND_TRIP, ""),
        ("out of vocabulary", f"<= {MAX_OOV}", oov, oov <= MAX_OOV, "single bytes of longer characters"),
    ]
    found = [
        {
            "target": name,
            "wanted": wanted,
            "found": value,
            "state": "met" if good else "not met",
            "note": note,
        }
        for name, wanted, value, good, note in rows
    ]
    if other is None:
        lines: tuple[str, Json, str] = ("that of the second tokenizer", None, "not measured")
    else:
        ours, theirs = code["tokens_per_line"], other["domains"].get("code", other["all"])["tokens_per_line"]
        lines = (f"<= {theirs:.3f}", ours, "met" if ours <= theirs else "not met")
    found.append(
        {
            "target": "tokens/line on code",
            "wanted": lines[0],
            "found": lines[1],
            "state": lines[2],
            "note": "C2 names Llama-3's 128k",
        }
    )
    return found


def compare(a: Json, b: Json) -> list[dict[str, Json]]:
    """Return the A/B table: each figure of both tokenizers on the same groups, and b over a."""
    rows = []
    pairs = [("all", a["all"], b["all"])]
    for name in ("domains", "extensions"):
        pairs += [(f"{name[:-1]} {key}", a[name][key], b[name][key]) for key in a[name]]
    for group, ours, theirs in pairs:
        for key in ("bytes_per_token", "tokens_per_line", "fertility", "oov"):
            ratio = theirs[key] / ours[key] if ours[key] else None
            rows.append({"group": group, "figure": key, "a": ours[key], "b": theirs[key], "b_over_a": ratio})
    for key in ("mean_tokens", "share_whole", "mean_tokens_of_compound"):
        ours, theirs = a["identifiers"][key], b["identifiers"][key]
        rows.append(
            {
                "group": "identifiers",
                "figure": key,
                "a": ours,
                "b": theirs,
                "b_over_a": theirs / ours if ours else None,
            }
        )
    return rows
