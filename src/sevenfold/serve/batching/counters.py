"""The counters of a scheduler. The scheduler's thread writes them, and `metrics` reads them."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from sevenfold.serve.batching.request import GenerationJob

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass
class Histogram:
    """A histogram: counts by upper bound, the sum and the number of values."""

    bounds: tuple[float, ...] = SECONDS
    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    total: float = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass
class Counters:
    """The totals since the server started."""

    n_steps: int = 0
    n_prompt: int = 0
    n_generated: int = 0
    n_refused: int = 0
    by_reason: dict[str, int] = field(default_factory=dict)
    first_token: Histogram = field(default_factory=Histogram)
    queued: Histogram = field(default_factory=Histogram)
    whole: Histogram = field(default_factory=Histogram)

    def ended(self, reason: str, job: GenerationJob) -> None:
        """Count the end of a sample."""
        self.by_reason[reason] = self.by_reason.get(reason, 0) + 1
        self.whole.observe(max(0.0, job.ended_at - job.asked_at))
        if job.begun_at:
            self.queued.observe(job.begun_at - job.asked_at)
