"""Decode one sequence greedily, for sessions and benchmarks.

The native engine can take several steps in one call, beyond what was requested. The tokens wait
here. The result is that of single steps: the same tokens, logits and held positions. Tokens
computed ahead are dropped when something else follows. The number of steps ahead doubles from call
to call, so a caller that takes one token pays for one. It ends at `MOST_AHEAD` tokens, or at what
fits `BURST_SECONDS`, a delay that a reader does not notice.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from sevenfold.core.errors import GateError
from sevenfold.core.numbers.fixed import Ints, as_ints
from sevenfold.engine import native, reference
from sevenfold.engine.backends import Engine

MOST_AHEAD = 32
BURST_SECONDS = 0.04


class GreedyDecoder:
    """One KV cache and the greedy tokens after its prompt. One caller at a time may use it.

    `tokens` are the ids that were taken. `n_held` counts the positions in the cache that belong to
    the caller. The last taken token is appended when the next one is requested.

    Args:
        stops: ids after which nothing is computed ahead; more tokens may be taken after one.
    """

    def __init__(self, engine: Engine, stops: Collection[int] = ()) -> None:
        self.tokens: list[int] = []
        self.n_held = 0
        self._cache = engine.session()
        self._stops = tuple(stops)
        # The last taken token, until it is appended.
        self._pending: list[int] = []
        # Tokens that were computed ahead and the logits of each. Those before `_next` were taken.
        self._ahead: list[int] = []
        self._rows: Any = None
        self._next = 0
        # Whether the cache may hold more than `n_held` positions.
        self._is_ahead = False
        self._n_wanted = 1
        # The logits as the engine returned them, and as a caller read them.
        self._row: Any = None
        self._logits: Ints | None = None

    @property
    def logits(self) -> Ints | None:
        """Return the logits of the next token, or those of the last taken one: [V] int64; None
        before the first `append`.
        """
        if self._logits is None and self._row is not None:
            self._logits = as_ints(self._row)
        return self._logits

    @property
    def n_used(self) -> int:
        """Return the number of held positions plus the token that waits."""
        return self.n_held + len(self._pending)

    def close(self) -> None:
        """Free the cache."""
        self._cache.close()

    def append(self, ids: Sequence[int]) -> None:
        """Append ids after what was read and taken. Raises GateError for what the engine refuses;
        nothing is changed then.
        """
        new = [*self._pending, *ids]
        self._drop_ahead()
        row = self._cache.forward(np.array(new, np.int64), last_only=True)[0]
        self._set_row(row)
        self.n_held += len(new)
        self._pending = []
        self._n_wanted = 1

    def step(self) -> int:
        """Return the next token. Raises GateError as `take`."""
        return self._given(1, MOST_AHEAD)[0]

    def take(self, n_most: int) -> list[int]:
        """Return the next tokens: at least one, at most `n_most`, as many as are ready.

        Raises:
            GateError: nothing was read, or the context is full.
        """
        return self._given(n_most, n_most)

    def _given(self, n_most: int, n_coming: int) -> list[int]:
        """Return up to `n_most` tokens. At most `n_coming` are computed ahead."""
        if self._row is None:
            raise GateError(
                "a step before a prompt was read", remedy="give `session` a prompt, or call `prefill`"
            )
        if self._next == len(self._ahead) and not (self._pending and self._compute(n_coming)):
            if self._pending:
                self.append(())
            return self._taken([reference.argmax(as_ints(self._row))])
        begin, self._next = self._next, min(self._next + n_most, len(self._ahead))
        # The token before each of them was appended.
        self.n_held += self._next - begin
        self._set_row(self._rows[self._next - 1])
        return self._taken(self._ahead[begin : self._next])

    def _taken(self, tokens: list[int]) -> list[int]:
        self._pending = tokens[-1:]
        self.tokens += tokens
        return tokens

    def _set_row(self, row: Any) -> None:
        self._row, self._logits = row, None

    def _compute(self, n_most: int) -> bool:
        """Compute up to `n_most` steps ahead. Return False where the engine has no such call, or
        the context has no room.
        """
        cache = self._cache
        if not isinstance(cache, native.NativeSession):
            return False
        n = min(self._n_wanted, n_most, cache.engine.model.shape.context - self.n_held)
        if n < 1:
            return False
        self._drop_ahead()
        self._is_ahead = True
        began = time.perf_counter()
        self._ahead, self._rows = cache.generate(np.array(self._pending), n, self._stops)
        a_step = (time.perf_counter() - began) / len(self._ahead)
        self._n_wanted = max(1, min(2 * n, MOST_AHEAD, int(BURST_SECONDS / a_step)))
        return True

    def _drop_ahead(self) -> None:
        """Remove from the cache what was computed and not taken, also after an interrupted call."""
        if self._is_ahead and isinstance(self._cache, native.NativeSession):
            self._cache.truncate(self.n_held)
        self._is_ahead, self._ahead, self._next = False, [], 0
