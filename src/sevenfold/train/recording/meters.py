"""Figures for the progress view of a run, and the rule that stops a run.

Neither changes a bit of the weights.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from sevenfold.core.hashing import Json
from sevenfold.core.process.log import Progress

# Number of losses whose median a new loss is compared with.
WINDOW = 50
_SMOOTHING = 0.95


@dataclass(kw_only=True)
class LossGuard:
    """Decides whether a step may be taken. `spike` is how many nats above the median of the last
    WINDOW losses stop the run; 0 never stops it.

    The losses are part of a checkpoint, so a resumed run stops at the same step as an uninterrupted
    one.
    """

    spike: float = 0.0
    losses: list[float] = field(default_factory=list)

    def judge(self, loss: float, norm: float) -> str:
        """Return why the step must not be taken. Return "" when it may be taken, and remember its
        loss.
        """
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return f"loss {loss}, gradient norm {norm}"
        if self.spike and len(self.losses) == WINDOW and loss > median(self.losses) + self.spike:
            return f"loss {loss:.4f}, {loss - median(self.losses):.4f} above the median of {WINDOW} steps,"
        if self.spike:
            self.losses = [*self.losses, loss][-WINDOW:]
        return ""


@dataclass(kw_only=True)
class ThroughputMeter:
    """Figures for the progress view: smoothed losses, tokens per second, MFU, memory.

    Args:
        flops_per_token: model FLOPs of a trained token, forward and backward.
        peak_flops: the peak of the hardware in the recipe; 0 leaves MFU out.
    """

    flops_per_token: float = 0.0
    peak_flops: float = 0.0
    smoothed: dict[str, float] = field(default_factory=dict)
    _began: float = 0.0
    _first: int = 0

    def begin(self, step: int) -> None:
        """Start measuring at `step`."""
        self._began, self._first = time.monotonic(), step

    def _smooth(self, name: str, value: float) -> float:
        before = self.smoothed.get(name, value)
        self.smoothed[name] = _SMOOTHING * before + (1 - _SMOOTHING) * value
        return self.smoothed[name]

    def report(self, progress: Progress, row: Mapping[str, Json]) -> None:
        """Report a step to the listener."""
        step = row["step"]
        elapsed = max(time.monotonic() - self._began, 1e-9)
        rate = (step - self._first) * (row["tokens"] / step) / elapsed
        figures: dict[str, float | str] = {
            "loss": self._smooth("loss", row["loss"]),
            "tokens_per_second": rate,
        }
        for group in ("objectives", "domains"):
            for name, value in row.get(group, {}).items():
                self._smooth(f"{group}/{name}", value)
        # A domain without a row in this step stays in the view.
        figures |= {
            name.partition("/")[2]: f"{value:.3f}" for name, value in self.smoothed.items() if "/" in name
        }
        if self.peak_flops:
            figures["MFU"] = f"{rate * self.flops_per_token / self.peak_flops:.1%}"
        figures["memory"] = f"{peak_memory() / 2**30:.2f} GiB"
        progress.advance(step, **figures)


def peak_memory() -> int:
    """Return the largest amount of memory that this process has held, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
