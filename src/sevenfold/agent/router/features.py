"""Features of a question and of the calls until now, as places of a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from sevenfold.core.hashing import sha256

N_PLACES = 32768
MAX_QUESTION = 2000
_PREFIX = 5
# Kinds of tokens, the first that matches; a name in braces stands for all of its kind.
_TOKEN = re.compile(
    r"(?P<url>https?://\S+)|(?P<site>\b(?:[a-z0-9-]+\.)+(?:org|com|net|io|dev|rs)\b)"
    r"|(?P<date>\b\d{4}-\d\d-\d\d\b)|(?P<name>`[^`]{1,80}`)|(?P<quote>\"[^\"]{1,80}\")"
    r"|(?P<number>\d+(?:\.\d+)?)|(?P<word>[a-z]+(?:'[a-z]+)?)|(?P<mark>[-+*/%^=!?<>()\[\]{};:.,#&|\\])"
)
_IDENTIFIER = re.compile(r"`[A-Za-z_][\w.]*`")


def tokens_of(text: str) -> list[str]:
    """Return the tokens of a question: words, and marks for what only counts by its kind."""
    found = []
    for match in _TOKEN.finditer(text[:MAX_QUESTION].lower()):
        kind = str(match.lastgroup)
        if kind in ("word", "mark"):
            found.append(match.group())
        elif kind == "name":
            found.append("{identifier}" if _IDENTIFIER.fullmatch(match.group()) else "{code}")
            # What stands in backquotes is code of some language.
            found += [f"`{token}" for token in re.findall(r"[a-z]+|[^\sa-z0-9`]+", match.group())]
        else:
            found.append(f"{{{kind}}}")
    return found


@lru_cache(maxsize=1 << 16)
def place_of(feature: str) -> int:
    """Return the place of a feature: the first four bytes of its SHA-256, big-endian, modulo."""
    return int.from_bytes(sha256(feature.encode())[:4], "big") % N_PLACES


def state_of(steps: Sequence[tuple[str, str]]) -> str:
    """Return the calls until now as one word: tool and outcome of each of the last four, in order."""
    return " ".join(f"{name}:{outcome}" for name, outcome in steps[-4:])


def places_of(question: str, steps: Sequence[tuple[str, str]]) -> list[int]:
    """Return the distinct places of a question and its state, ascending.

    Features are tokens, pairs of neighbours and beginnings of words. Each is bound to the outcome of
    the last call, so what a question needs next has other weights than what it needs first; tokens
    are bound to the whole state as well.
    """
    tokens = ["{begin}", *tokens_of(question), "{end}"]
    words = {f"1 {token}" for token in tokens}
    grams = words | {f"2 {a} {b}" for a, b in pairwise(tokens)}
    grams |= {f"p {token[:_PREFIX]}" for token in tokens if token.isalpha() and len(token) > _PREFIX}
    state, last = state_of(steps), steps[-1][1] if steps else ""
    features = {f"{last}|{gram}" for gram in grams} | {f"{state}|{word}" for word in words}
    return sorted({place_of(feature) for feature in (*features, f"state {state}")})
