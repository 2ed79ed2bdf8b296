"""Licence texts within a text: which licences of the library's list are written out in it, and how far.

The texts are those of `identify` (choosealicense.com's list). Its own matcher answers for a whole file that is one
licence; a copy in a comment, or one of several in a file, is found here by the share of the licence's
word 6-grams that the text holds. A licence whose 6-grams another, better one explains (BSD-2-Clause in
BSD-3-Clause) is not counted again.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache, lru_cache

from sevenfold.core.errors import UsageError

WORDS_IN_A_GRAM = 6
MIN_SHARE = 0.75
MIN_NEW = 0.25  # of its 6-grams that no better licence explains

_WORD = re.compile(r"[a-z0-9]+")
# How `identify` names the GNU licences says nothing of later versions; a bare text allows none.
_ONLY = {"GPL-2.0", "GPL-3.0", "LGPL-2.1", "LGPL-3.0", "AGPL-3.0"}


def grams(text: str) -> set[str]:
    """The word 6-grams of a text, case and punctuation aside."""
    words = _WORD.findall(text.lower())
    return {" ".join(words[i : i + WORDS_IN_A_GRAM]) for i in range(len(words) - WORDS_IN_A_GRAM + 1)}


@cache
def _library() -> tuple[dict[str, list[str]], dict[str, int]]:
    """6-gram -> licences that hold it; licence -> number of its 6-grams."""
    try:
        from identify.vendor.licenses import LICENSES
    except ImportError as error:
        raise UsageError(
            f"licence texts need identify, which is not installed ({error})",
            remedy="pip install 'sevenfold[train]'",
        ) from error
    owners: dict[str, list[str]] = {}
    sizes = {}
    for name, text in LICENSES:
        found = grams(re.sub(r"\[[a-z ]+\]|copyright \(c\)", " ", text.lower()))
        sizes[name] = len(found)
        for gram in found:
            owners.setdefault(gram, []).append(name)
    return owners, sizes


@lru_cache(maxsize=256)
def find_texts(text: str) -> tuple[str, ...]:
    """SPDX identifiers of the licences that are written out in `text`, best match first."""
    owners, sizes = _library()
    held = {gram: owners[gram] for gram in grams(text) if gram in owners}
    counts = Counter(name for names in held.values() for name in names)
    shares = {name: n / sizes[name] for name, n in counts.items()}
    found: list[str] = []
    for name in sorted(shares, key=lambda name: (-shares[name], -sizes[name], name)):
        if shares[name] < MIN_SHARE:
            break
        mine = [gram for gram, names in held.items() if name in names]
        if len(mine) >= MIN_NEW * sizes[name]:
            found.append(_exact(name, text))
            for gram in mine:
                del held[gram]
    return tuple(found)


def _exact(name: str, text: str) -> str:
    # The third clause is worded in many ways, and shorter than what two clauses share.
    if name == "BSD-2-Clause" and re.search(r"neither\s+the\s+names?\s", text, re.IGNORECASE):
        return "BSD-3-Clause"
    return f"{name}-only" if name in _ONLY else name
