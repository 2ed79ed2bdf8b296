"""Turn a span or a question into weighted features: names that are defined, called or used, and
their words.

A feature is the first 8 bytes of BLAKE2b over its kind and its name. Weights are small integers.
specs/memory.md, "Features".
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

DEFINED, CALLED, USED, WORD = b"d", b"c", b"i", b"w"
NAME_BIT = 1 << 63
# The weight of each kind in a span. W_TITLE is for the words of a name that the span defines.
W_DEFINED, W_CALLED, W_USED, W_WORD, W_SCOPE, W_TITLE, W_PATH = 12, 2, 2, 2, 4, 8, 4
# The weights of a name in a question: the requested kind, the other kinds, and its words.
Q_WANTED, Q_OTHER, Q_WORD = 6, 2, 1

_NAME = re.compile(rb"([A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)([ \t]*\()?")
_PARTS = re.compile(rb"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[\x80-\xff]+|[0-9]+")
DEFINITION = re.compile(
    rb"^[ \t]*(?:[a-z]+(?:\([a-z]+\))?[ \t]+){0,4}?(?:def|class|fn|func|function|struct|enum|trait|interface"
    rb"|union|namespace|module|mod|type)[ \t]+([A-Za-z_$][A-Za-z0-9_$]*)",
    re.MULTILINE,
)
_BLANKS = re.compile(rb"(?:[ \t]*\n)*([ \t]*)")
_ASSIGNED = re.compile(rb"^([A-Za-z_][A-Za-z0-9_]*)[ \t]*(?::[^=\n]+)?=(?!=)", re.MULTILINE)
_IS_NAME = re.compile(rb"[A-Za-z0-9]_[A-Za-z0-9]|[a-z][A-Z]|^_|[0-9]$|[A-Z]{2,}")
_QUOTED = re.compile(rb"`([^`\n]+)`")
_ASKS_DEFINITION = re.compile(
    rb"\b(?:defin|declar|implement|signature|where is the (?:class|function|method))", re.IGNORECASE
)
_ASKS_USE = re.compile(rb"\b(?:us(?:e|ed|es|age|ing)|call(?:s|ed|er|ers)?|invok\w*)\b", re.IGNORECASE)
# Words that occur in most questions and programs and carry no information.
STOP_WORDS = frozenset(
    b"a an and are as at be been but by can code could define defined definition do does example"
    b" file find for from function get give given has have how if in into is it its let me method"
    b" of on one or out return returns self show so that the their them then there these they this"
    b" those to us use used uses using was what when where which who will with would you your"
    b" class call called calls def import none true false declared implemented implement"
    b" implements implementation usage functions helper helpers methods classes examples calling".split()
)

# From a 64-bit feature to its weight.
Weights = dict[int, int]


class NameFeatures(NamedTuple):
    """The features of one name."""

    used: int
    called: int
    defined: int
    words: tuple[int, ...]


def feature(kind: bytes, name: bytes) -> int:
    """Return the 64-bit feature of a name. Its highest bit is 0 for a word and 1 for a whole name."""
    value = int.from_bytes(hashlib.blake2b(kind + b":" + name, digest_size=8).digest(), "big")
    return value & (NAME_BIT - 1) if kind == WORD else value | NAME_BIT


def stem(word: bytes) -> bytes:
    """Return a word without the endings of number and tense."""
    for ending, shortest in ((b"ies", 5), (b"ing", 6), (b"ed", 5), (b"es", 5), (b"s", 4)):
        if len(word) >= shortest and word.endswith(ending) and not word.endswith(b"ss"):
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word.endswith(b"e"):
        word = word[:-1]
    return word


def words_of(name: bytes) -> list[bytes]:
    """Return the words of a name in lower case. The words of `readHTMLFile_2` are read, html, file,
    2.
    """
    return [part.lower() for part in _PARTS.findall(name)]


@lru_cache(maxsize=1 << 18)
def features_of(name: bytes) -> NameFeatures:
    """Return the features of a name. Stop words have no feature of their own."""
    words = tuple(
        feature(WORD, stem(word)) for word in words_of(name) if len(word) > 1 and word not in STOP_WORDS
    )
    return NameFeatures(
        feature(USED, name), feature(CALLED, name), feature(DEFINED, name), tuple(dict.fromkeys(words))
    )


def damped(count: int) -> int:
    """Return 2 for one occurrence, and one more for each doubling, up to 7."""
    return min(1 + count.bit_length(), 7)


def defined_names(text: bytes) -> list[bytes]:
    """Return the names that a text defines, in order, by the rule for lines."""
    return [match[1] for match in DEFINITION.finditer(text)] + [
        match[1] for match in _ASSIGNED.finditer(text)
    ]


def called_names(text: bytes) -> list[bytes]:
    """Return the distinct names, in order, that are followed by a parenthesis and not defined
    there.
    """
    own = set(defined_names(text))
    found = (match[1] for match in _NAME.finditer(text) if match[2])
    return [name for name in dict.fromkeys(found) if name not in own and name not in STOP_WORDS]


def path_hint(path: str) -> bytes:
    """Return the last two parts of a path without the ending, as a hint about its text."""
    parts = path.split("/")[-2:]
    parts[-1] = parts[-1].rpartition(".")[0] or parts[-1]
    return "/".join(parts).encode("utf-8", "surrogateescape")


def span_features(text: bytes, scopes: tuple[bytes, ...] = (), hint: bytes = b"") -> Weights:
    """Return the weights of the features of a span, which is inside `scopes` in a file with `hint`."""
    uses: Counter[bytes] = Counter()
    calls: Counter[bytes] = Counter()
    words: Counter[int] = Counter()
    for name, call in _NAME.findall(text):
        uses[name] += 1
        if call:
            calls[name] += 1
    weights: Weights = {}
    for name, n in uses.items():
        of = features_of(name)
        if name not in STOP_WORDS:
            weights[of.used] = W_USED * damped(n)
        for word in of.words:
            words[word] += n
    for name, n in calls.items():
        weights[features_of(name).called] = W_CALLED * damped(n)
    for word, n in words.items():
        weights[word] = W_WORD * damped(n)
    for name in defined_names(text):
        of = features_of(name)
        weights[of.defined] = W_DEFINED
        _add(weights, of.words, W_TITLE)
    for scope in scopes:
        of = features_of(scope)
        _add(weights, (of.used, *of.words), W_SCOPE)
    for match in _NAME.finditer(hint):
        _add(weights, features_of(match[1]).words, W_PATH)
    return weights


def _add(weights: Weights, features: Iterable[int], weight: int) -> None:
    for one in features:
        weights[one] = weights.get(one, 0) + weight


def query_features(text: bytes) -> Weights:
    """Return the weights of the features of a question."""
    wants_definition = _ASKS_DEFINITION.search(text) is not None
    wants_use = not wants_definition and _ASKS_USE.search(text) is not None
    names = set(names_in(text))
    weights: Weights = {}
    for match in _NAME.finditer(text):
        name, of = match[1], features_of(match[1])
        is_name = name in names
        if is_name:
            _add(weights, (of.defined,), Q_WANTED if wants_definition else Q_OTHER)
            _add(weights, (of.called, of.used), Q_WANTED if wants_use else Q_OTHER)
        _add(weights, of.words, Q_WORD if is_name or names else 2 * Q_WORD)
    return weights


def scopes_of(text: bytes, starts: list[int]) -> list[tuple[bytes, ...]]:
    """Return the names of the definitions around each start of a span, by indentation."""
    definitions = [(m.start(), _indent(text, m.start()), m[1]) for m in DEFINITION.finditer(text)]
    stack: list[tuple[int, bytes]] = []
    found: list[tuple[bytes, ...]] = []
    seen = 0
    for start in starts:
        while seen < len(definitions) and definitions[seen][0] < start:
            _, depth, name = definitions[seen]
            stack = [*(one for one in stack if one[0] < depth), (depth, name)]
            seen += 1
        depth = _indent(text, start)
        found.append(tuple(name for there, name in stack if there < depth))
    return found


def text_features(text: bytes, places: list[tuple[int, int]], hint: bytes) -> list[Weights]:
    """Return the features of each span [start, end) of a text."""
    scopes = scopes_of(text, [start for start, _ in places])
    return [
        span_features(text[start:end], around, hint)
        for (start, end), around in zip(places, scopes, strict=True)
    ]


def _indent(text: bytes, start: int) -> int:
    """Return the indentation of the first line at `start` or after it that is not blank."""
    match = _BLANKS.match(text, start)
    return 0 if match is None else len(match[1])


def names_in(text: bytes) -> list[bytes]:
    """Return the names in a question: quoted words, and words that are spelled like a name."""
    inside = {m[1] for part in _QUOTED.findall(text) for m in _NAME.finditer(part)}
    found = dict.fromkeys(m[1] for m in _NAME.finditer(text))
    return [name for name in found if name in inside or _IS_NAME.search(name)]
