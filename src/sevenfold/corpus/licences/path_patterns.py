"""Match patterns of paths in three dialects (PEP 639, REUSE, Debian). A hostile pattern cannot make
the match slow.

A regular expression with several stars tries their combinations. So only a pattern with at most two
stars becomes a regular expression. Others are matched token by token with the set of positions at
which the tokens so far can end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

_MAX_REGEX_STARS = 2

# The kinds of tokens: fixed characters, one character of a class, any characters within a name, any
# number of whole folders, any characters.
Kind = Literal["text", "class", "within", "folders", "any"]
_STARS = {"within": "[^/]*", "folders": "(?:.*/)?", "any": ".*"}


@dataclass(frozen=True, slots=True)
class Token:
    """A token. `text` holds its characters, or the regular expression of a class of one character."""

    kind: Kind
    text: str = ""

    def regex(self) -> str:
        """Return the token as a regular expression."""
        if self.kind == "text":
            return re.escape(self.text)
        return _STARS.get(self.kind, self.text)

    def ends(self, path: str, starts: set[int]) -> set[int]:
        """Return the positions of a path where the token can end, from those where it may begin."""
        if self.kind == "text":
            return {start + len(self.text) for start in starts if path.startswith(self.text, start)}
        if self.kind == "class":
            one = re.compile(self.text, re.DOTALL)
            return {start + 1 for start in starts if start < len(path) and one.match(path[start])}
        if self.kind == "any":
            return set(range(min(starts), len(path) + 1)) if starts else set()
        if self.kind == "folders":
            first = min(starts, default=len(path))
            return starts | {place + 1 for place in range(first, len(path)) if path[place] == "/"}
        ends, is_on = set[int](), False
        for place in range(len(path) + 1):
            is_on = is_on or place in starts
            if is_on:
                ends.add(place)
            if place < len(path) and path[place] == "/":
                is_on = False
        return ends


class PathPattern:
    """A pattern of whole paths."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens = tokens
        n_stars = sum(token.kind in _STARS for token in tokens)
        text = "".join(token.regex() for token in tokens)
        self._regex = re.compile(text, re.DOTALL) if n_stars <= _MAX_REGEX_STARS else None

    def matches(self, path: str) -> bool:
        """Return whether the whole path matches."""
        if self._regex is not None:
            return self._regex.fullmatch(path) is not None
        places = {0}
        for token in self._tokens:
            places = token.ends(path, places)
            if not places:
                return False
        return len(path) in places


_ONE = Token("class", ".")
_ONE_WITHIN = Token("class", "[^/]")
_PEP639 = re.compile(r"(\*\*/|\*\*|\*|\?|\[[!^]?\]?[^\]/]{0,255}\])")


@lru_cache(maxsize=1024)
def pep639_pattern(glob: str) -> PathPattern:
    """Return a glob of `license-files`: `*`, `?` and `[...]` match within a name, `**` matches any
    number of folders.

    Raises:
        ValueError: a class of characters is malformed.
    """
    stars = {"**/": Token("folders"), "**": Token("any"), "*": Token("within"), "?": _ONE_WITHIN}
    return PathPattern(tuple(stars.get(part) or _class_or_text(part) for part in _PEP639.split(glob) if part))


def _class_or_text(part: str) -> Token:
    if not (part.startswith("[") and part.endswith("]") and len(part) > 2):
        return Token("text", part)
    inner = re.sub(r"^!", "^", part[1:-1]).replace("\\", r"\\").replace("[", r"\[")
    try:
        re.compile(f"[{inner}]")
    except re.error as error:
        raise ValueError(f"{part!r} is no class of characters: {error}") from error
    return Token("class", f"[{inner}]")


@lru_cache(maxsize=4096)
def reuse_pattern(glob: str) -> PathPattern:
    """Return a path of REUSE.toml. `*` matches any characters but a slash, `**` any characters, and a
    backslash makes them literal.
    """
    stars = {"**": Token("any"), "*": Token("within")}
    return PathPattern(tuple(
        stars.get(part) or Token("text", part[1:] if part.startswith("\\") and len(part) > 1 else part)
        for part in re.split(r"(\\.|\*\*|\*)", glob) if part
    ))  # fmt: skip


@lru_cache(maxsize=4096)
def debian_pattern(glob: str) -> PathPattern:
    """Return a glob of DEP-5. `*` matches any characters with slashes, `?` matches one, and a
    backslash makes them literal.
    """
    stars = {"*": Token("any"), "?": _ONE}
    return PathPattern(tuple(
        stars.get(part) or Token("text", part[1:] if re.fullmatch(r"\\[*?\\]", part) else part)
        for part in re.split(r"(\\[*?\\]|[*?])", glob) if part
    ))  # fmt: skip
