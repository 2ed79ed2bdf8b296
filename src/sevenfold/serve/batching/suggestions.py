"""The last suggestions that editors got: what a user types of one is the beginning of the next.

An editor asks again behind each character. Where that character stood in the suggestion, the rest of
it is a guess at the new answer, which the engine checks in one pass (engine.speculation). A wrong
guess costs time alone, so texts are compared by length and hash, and no prompt is kept. Suggestions
of one salt are never used for another.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import NamedTuple

# Suggestions of one salt, and salts.
EACH, SALTS = 8, 128


class _Suggestion(NamedTuple):
    n_prefix: int
    prefix: int
    suffix: int
    text: str


class Suggestions:
    """The last ones by salt. Used from any thread."""

    def __init__(self) -> None:
        self._by_salt: OrderedDict[str, deque[_Suggestion]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, salt: str, prefix: str, suffix: str, text: str) -> None:
        """Remember what stood between a prefix and a suffix."""
        if not text:
            return
        with self._lock:
            kept = self._by_salt.setdefault(salt, deque(maxlen=EACH))
            kept.appendleft(_Suggestion(len(prefix), hash(prefix), hash(suffix), text))
            self._by_salt.move_to_end(salt)
            while len(self._by_salt) > SALTS:
                self._by_salt.popitem(last=False)

    def find(self, salt: str, prefix: str, suffix: str) -> str:
        """Return what is left of a suggestion behind what was typed of it; "" where there is none."""
        with self._lock:
            kept = list(self._by_salt.get(salt, ()))
        for old in kept:
            typed = prefix[old.n_prefix :]
            if (
                len(prefix) >= old.n_prefix
                and old.suffix == hash(suffix)
                and old.text.startswith(typed)
                and hash(prefix[: old.n_prefix]) == old.prefix
            ):
                return old.text[len(typed) :]
        return ""
