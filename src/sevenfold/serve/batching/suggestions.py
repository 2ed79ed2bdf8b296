"""Remember the last suggestions for editors, because users often type the beginning of one.

An editor asks again after each character. When that character agrees with the suggestion, the rest
of the suggestion is a guess of the new answer, which the engine checks in one pass
(engine.speculation). A wrong guess costs only time, so texts are compared by length and hash, and
no prompt is stored. Suggestions of one salt are never used for another.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import NamedTuple

# The numbers of suggestions of a salt, and of salts, that are kept.
EACH, SALTS = 8, 128


class _Suggestion(NamedTuple):
    n_prefix: int
    prefix: int
    suffix: int
    text: str


class Suggestions:
    """The last suggestions by salt. Safe from any thread."""

    def __init__(self) -> None:
        self._by_salt: OrderedDict[str, deque[_Suggestion]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, salt: str, prefix: str, suffix: str, text: str) -> None:
        """Store the suggestion between a prefix and a suffix."""
        if not text:
            return
        with self._lock:
            kept = self._by_salt.setdefault(salt, deque(maxlen=EACH))
            kept.appendleft(_Suggestion(len(prefix), hash(prefix), hash(suffix), text))
            self._by_salt.move_to_end(salt)
            while len(self._by_salt) > SALTS:
                self._by_salt.popitem(last=False)

    def find(self, salt: str, prefix: str, suffix: str) -> str:
        """Return the rest of a suggestion after what was typed of it; "" when there is none."""
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
