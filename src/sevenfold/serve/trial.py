"""Try a new root beside the model in service, as a canary or as a shadow.

A canary answers a share of the requests. A shadow answers no request. It repeats requests that were
answered, and the first token that differs is reported. Answers are exact, so with the same weights
nothing would differ, and every difference comes from the new weights. Reports hold ids and digests,
but no text.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sevenfold.core.hashing import sha256
from sevenfold.serve.batching.request import Event, Finished, Generation, GenerationJob
from sevenfold.serve.errors import RequestError

if TYPE_CHECKING:
    from sevenfold.serve.registry import Served

CANARY, SHADOW = "canary", "shadow"
# A share is counted in parts of this number.
WHOLE = 1000
# The number of replays that may wait. More are dropped and counted, so that a shadow never delays
# answers.
MOST_WAITING = 8
MOST_REPORTS = 16
# The golden ratio spreads a share evenly over the requests: 1 of 10 is about every tenth.
SPREAD, WORD = 0x9E3779B97F4A7C15, 1 << 64


def first_difference(ours: tuple[int, ...], theirs: tuple[int, ...]) -> int:
    """Return the first position at which two answers differ; -1 when they are equal."""
    if ours == theirs:
        return -1
    pairs = zip(ours, theirs, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))


@dataclass(kw_only=True)
class Trial:
    """A model on trial. `share` is of WHOLE."""

    kind: str
    served: Served
    share: int
    n_seen: int = 0
    n_taken: int = 0
    n_left_out: int = 0
    n_failed: int = 0
    n_compared: int = 0
    n_different: int = 0
    reports: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MOST_REPORTS))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def takes(self) -> bool:
        """Return whether the next request belongs to the share."""
        with self._lock:
            self.n_seen += 1
            is_taken = self.n_seen * SPREAD % WORD < self.share * WORD // WHOLE
            self.n_taken += is_taken
        return is_taken

    def replay(self, generation: Generation, answered: Finished) -> None:
        """Repeat the request of an answer, if it belongs to the share."""
        if self.kind != SHADOW or answered.index or answered.reason not in ("stop", "length"):
            return
        # A time limit ended the answer, and another run would end at another token.
        if answered.rule == "time" or not self.takes():
            return
        scheduler = self.served.scheduler
        again = replace(generation, n=1, n_logprobs=None, echo=False, receipt=False, guess=())
        try:
            if scheduler.n_waiting >= MOST_WAITING:
                self.n_left_out += 1
                return
            scheduler.submit(GenerationJob(again, lambda events: self._compare(again, answered, events)))
        except RequestError:
            self.n_left_out += 1

    def _compare(self, generation: Generation, answered: Finished, events: list[Event]) -> None:
        """Compare a finished replay. The thread of the new model's scheduler calls this."""
        finished = next((event for event in events if isinstance(event, Finished)), None)
        if finished is None:
            return
        if finished.error is not None or finished.reason == "cancelled":
            self.n_failed += 1
            return
        self.n_compared += 1
        place = first_difference(answered.ids, finished.ids)
        if place < 0:
            return
        self.n_different += 1
        prompt = b"".join(i.to_bytes(4, "big") for i in generation.ids)
        self.reports.append(
            {
                "prompt_sha256": sha256(prompt).hex(),
                "step": place,
                "answered": answered.ids[place] if place < len(answered.ids) else None,
                "trial": finished.ids[place] if place < len(finished.ids) else None,
            }
        )

    def as_json(self) -> dict[str, Any]:
        """Return the results so far."""
        return {
            "kind": self.kind,
            "root": self.served.root,
            "share": self.share / WHOLE,
            "seen": self.n_seen,
            "taken": self.n_taken,
            "left_out": self.n_left_out,
            "failed": self.n_failed,
            "compared": self.n_compared,
            "different": self.n_different,
            "first_differences": list(self.reports),
        }
