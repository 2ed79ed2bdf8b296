"""Keep the keys and values of prompts, so that a common beginning is not read again.

An entry is a session of the engine and its ids. A prompt takes a fork of the entry with the longest
common beginning. The bits are those of reading the prompt again (specs/arithmetic.md), so a hit
changes only the time. Entries of one salt are never used for another, which closes the timing side
channel. The cap on bytes is never exceeded: pages that entries share are counted for each entry.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import StorageError
from sevenfold.engine.native import NativeSession

# A shorter common beginning does not save enough time.
FEWEST = 16
MOST_ENTRIES = 128


@dataclass
class _Entry:
    salt: str
    ids: NDArray[np.int32]
    session: NativeSession
    n_bytes: int


class PrefixCache:
    """Least recently used entries, up to `cap_bytes`. Used by one thread."""

    def __init__(self, cap_bytes: int) -> None:
        self.cap_bytes = cap_bytes
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        # The keys of the entries by salt and first ids, by which they are found.
        self._alike: dict[tuple[str, bytes], list[int]] = {}
        self._next = 0
        self.n_bytes = 0
        self.n_queries = self.n_hits = self.n_tokens_saved = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, salt: str, ids: Sequence[int]) -> tuple[NativeSession, int] | None:
        """Return a new session that holds the beginning of `ids`, and its length; None without one.

        The last id is never part of it, because its logits are needed.
        """
        self.n_queries += 1
        wanted, best, length = np.array(ids[:-1], np.int32), -1, FEWEST - 1
        for key in self._alike.get(_beginning(salt, wanted), ()):
            entry = self._entries[key]
            n = min(len(entry.ids), len(wanted))
            if n <= length:
                continue
            differs = np.flatnonzero(entry.ids[:n] != wanted[:n])
            common = int(differs[0]) if differs.size else n
            if common > length and entry.session.nearest(common) == common:
                best, length = key, common
        if best < 0:
            return None
        self._entries.move_to_end(best)
        try:
            session = self._entries[best].session.fork(length)
        except StorageError:
            self.shrink(0)
            return None
        self.n_hits += 1
        self.n_tokens_saved += length
        return session, length

    def keep(self, salt: str, ids: Sequence[int], session: NativeSession) -> None:
        """Store a session that holds `ids`. It is closed when it does not fit or is too short."""
        n_bytes = session.n_bytes
        if len(ids) < FEWEST or n_bytes > self.cap_bytes:
            session.close()
            return
        held = np.array(ids, np.int32)
        # An entry that the new entry contains is dropped.
        for key in list(self._alike.get(_beginning(salt, held), ())):
            entry = self._entries[key]
            if len(entry.ids) <= len(held) and np.array_equal(entry.ids, held[: len(entry.ids)]):
                self._drop(key)
        self._entries[self._next] = _Entry(salt, held, session, n_bytes)
        self._alike.setdefault(_beginning(salt, held), []).append(self._next)
        self._next += 1
        self.n_bytes += n_bytes
        self.shrink(self.cap_bytes)
        while len(self._entries) > MOST_ENTRIES:
            self._drop(next(iter(self._entries)))

    def shrink(self, n_bytes: int) -> None:
        """Drop entries until they hold at most `n_bytes`, the least recently used first."""
        while self.n_bytes > n_bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: int) -> None:
        entry = self._entries.pop(key)
        beginning = _beginning(entry.salt, entry.ids)
        self._alike[beginning].remove(key)
        if not self._alike[beginning]:
            del self._alike[beginning]
        self.n_bytes -= entry.n_bytes
        entry.session.close()


def _beginning(salt: str, ids: NDArray[np.int32]) -> tuple[str, bytes]:
    return salt, ids[:FEWEST].tobytes()
