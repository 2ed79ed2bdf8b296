"""Find the licences of a library's list whose texts are in a text.

The texts are those of `identify` (choosealicense.com's list). Its own matcher handles a whole file
that is one licence. A copy in a comment, or one of several in a file, is found here by the share of
the licence's word 6-grams that the text holds. A licence whose 6-grams a better one explains
(BSD-2-Clause in BSD-3-Clause) is not counted again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from sevenfold.core.process.modules import require_module
from sevenfold.corpus.licences.policy import base_name
from sevenfold.corpus.text.ngrams import ngram_hashes, unique, word_hashes

WORDS_IN_A_GRAM = 6
MIN_SHARE = 0.75
# The share of its 6-grams that no better licence may explain.
MIN_NEW = 0.25

# The names of `identify` for the GNU licences do not tell about later versions. A bare text allows
# none.
_ONLY = {"GPL-2.0", "GPL-3.0", "LGPL-2.1", "LGPL-3.0", "AGPL-3.0"}


def grams(text: str) -> np.ndarray:
    """Return u64[G], ascending: hashes of the word 6-grams of a text, without case and punctuation.

    Words are runs of ASCII letters and digits. Characters that separate words here and not in
    `shingles` are replaced first.
    """
    separated = text.lower().encode("ascii", "replace").replace(b"_", b" ")
    return unique(ngram_hashes(word_hashes(separated), WORDS_IN_A_GRAM))


@dataclass(frozen=True, slots=True)
class _Library:
    """Legend: K known 6-grams, L licences."""

    names: tuple[str, ...]
    # 6-grams of each licence.
    sizes: tuple[int, ...]
    grams_K: np.ndarray  # u64, ascending  # noqa: N815 - shape suffix
    owners_KL: np.ndarray  # bool: which licences hold it  # noqa: N815 - shape suffix


@cache
def _library() -> _Library:
    licences = require_module("identify.vendor.licenses", "licence texts need identify").LICENSES
    found = [grams(re.sub(r"\[[a-z ]+\]|copyright \(c\)", " ", text.lower())) for _, text in licences]
    known = unique(np.concatenate(found))
    owners = np.stack([np.isin(known, held, assume_unique=True) for held in found], axis=1)
    return _Library(tuple(name for name, _ in licences), tuple(map(len, found)), known, owners)


@lru_cache(maxsize=256)
def find_texts(text: str) -> tuple[str, ...]:
    """Return SPDX identifiers of the licences that are written out in `text`, best match first."""
    known, held = _library(), grams(text)
    places = np.searchsorted(known.grams_K, held)
    places = places[known.grams_K[np.minimum(places, len(known.grams_K) - 1)] == held]
    if len(places) < MIN_SHARE * min(known.sizes):
        return ()
    # The owners of the 6-grams that no better licence explains so far.
    owners = known.owners_KL[places]
    shares = [int(n) / size for n, size in zip(owners.sum(axis=0), known.sizes, strict=True)]
    found: list[str] = []
    for i in sorted(range(len(shares)), key=lambda i: (-shares[i], -known.sizes[i], known.names[i])):
        if shares[i] < MIN_SHARE:
            break
        mine = owners[:, i]
        if mine.sum() >= MIN_NEW * known.sizes[i]:
            found.append(_exact(known.names[i], text))
            owners = owners[~mine]
    return tuple(found)


def _exact(name: str, text: str) -> str:
    # The third clause has many wordings, and is shorter than the text that both licences share.
    if name == "BSD-2-Clause" and re.search(r"neither\s+the\s+names?\s", text, re.IGNORECASE):
        return "BSD-3-Clause"
    return f"{name}-only" if name in _ONLY else name


@cache
def _texts_by_name() -> dict[str, str]:
    _library()
    from identify.vendor.licenses import LICENSES

    return dict(LICENSES)


def library_text(name: str) -> str:
    """Return the text of a licence that `find_texts` names, or "" when the library lacks it."""
    return _texts_by_name().get(base_name(name), "")


_WORD = re.compile(r"[a-z0-9]+")


@cache
def _runs(name: str) -> frozenset[tuple[str, ...]]:
    return frozenset(_runs_of(_WORD.findall(library_text(name).lower())))


def _runs_of(words: list[str]) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + WORDS_IN_A_GRAM]) for i in range(len(words) - WORDS_IN_A_GRAM + 1)]


def words_beyond(text: str, names: Iterable[str]) -> str:
    """Return the words of `text` that are in no run of six words of the named licences' texts. A full
    stop replaces each such run.
    """
    known = [_runs(name) for name in names]
    words = _WORD.findall(text.lower())
    is_known = [False] * len(words)
    for i, run in enumerate(_runs_of(words)):
        if any(run in runs for runs in known):
            is_known[i : i + WORDS_IN_A_GRAM] = [True] * WORDS_IN_A_GRAM
    kept = [" . " if known else word for word, known in zip(words, is_known, strict=True)]
    return re.sub(r"(?: \. )[\s.]*", " . ", " ".join(kept)).strip(" .")
