"""Convert the position scaling of Llama 3 to and from GGUF, which stores one divisor for the
frequency of each pair (`rope_freqs.weight`).

The divisors do not determine the original keys. Reading them returns a scaling that has the same
divisors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from sevenfold.core.errors import UsageError
from sevenfold.core.hashing import Json
from sevenfold.core.numbers.tables import llama3_frequencies, rope_frequencies
from sevenfold.export.store import Floats
from sevenfold.recipe.rotation import frequencies
from sevenfold.recipe.schema import ModelSpec

NAME = "rope_freqs.weight"
# The relative tolerance. float32 holds a divisor to 6e-8.
_SAME = 1e-6
# The original context that is tried first.
_LONG = 1 << 20
# The values of low and high in every Llama 3.
_USUAL = (1.0, 4.0)


def divisors(spec: ModelSpec) -> Floats:
    """Return float32 [head_dim / 2], the factor by which each pair rotates more slowly than without
    scaling.
    """
    plain = rope_frequencies(spec.head_dim, spec.rope_theta)
    scaled = frequencies(spec.head_dim, spec.rope_theta, spec.rope_scaling)
    return np.array([float(a / b) for a, b in zip(plain, scaled, strict=True)], np.float32)


def scaling_of(found: Floats, head_dim: int, theta: float, where: str) -> dict[str, Json] | None:
    """Return the scaling of a recipe that has these divisors; None when all are 1.

    Raises:
        UsageError: no scaling of the form of Llama 3 has these divisors.
    """
    factor = float(found.max())
    if not np.isfinite(found).all() or found.min() < 1 - _SAME:
        raise _refusal(where, "a divisor below 1")
    if factor <= 1 + _SAME:
        return None
    real = found.astype(np.float64)
    if found.min() >= factor * (1 - _SAME):
        return {"kind": "linear", "factor": factor}
    for low, high, original in _candidates(real, head_dim, theta):
        if not 0 < low < high or original < 1:
            continue
        scaled = llama3_frequencies(head_dim, theta, factor, low, high, original)
        plain = rope_frequencies(head_dim, theta)
        made = np.array([float(a / b) for a, b in zip(plain, scaled, strict=True)])
        if np.abs(made / real - 1).max() <= _SAME:
            keys = {"low_frequency": low, "high_frequency": high, "original_context": original}
            return {"kind": "llama3", "factor": factor, **keys}
    raise _refusal(where, "divisors of another scaling than Llama 3's")


def _candidates(real: np.ndarray, head_dim: int, theta: float) -> Iterator[tuple[float, float, int]]:
    """Yield the candidates: numbers of turns (low, high) within an original context."""
    # Try the numbers of all known models first, because few mixed pairs do not determine them.
    for exponent in range(13, 4, -1):
        yield (*_USUAL, 1 << exponent)
    for exponent in range(14, 21):
        yield (*_USUAL, 1 << exponent)
    # 1 / divisor is linear in the turns of a pair. It is 1 / factor up to `low` turns, and 1 from
    # `high` turns.
    rates = np.array([float(f) for f in rope_frequencies(head_dim, theta)]) / (2 * math.pi)
    kept, full = real <= 1 + _SAME, real >= real.max() * (1 - _SAME)
    mixed = ~kept & ~full
    slowest_kept, fastest_full = rates[kept].min(initial=math.inf), rates[full].max()
    share = (1 / real[mixed] - 1 / real.max()) / (1 - 1 / real.max())
    if mixed.sum() > 1:
        slope, start = np.polyfit(rates[mixed], share, 1)
        low, high = -start / slope, (1 - start) / slope
        if low > 0:
            yield 1.0, round(high / low, 3), round(1 / low)
    elif mixed.sum() == 1:
        rate, part = float(rates[mixed][0]), float(share[0])
        low = max(fastest_full, rate - part / (1 - part) * (slowest_kept - rate))
        high = low + (rate - low) / part
    else:
        low, high = (2 * fastest_full + slowest_kept) / 3, (fastest_full + 2 * slowest_kept) / 3
    yield float(low) * _LONG, float(high) * _LONG, _LONG


def _refusal(where: str, what: str) -> UsageError:
    return UsageError(
        f"tensor {NAME!r} (Llama 3's position scaling) holds {what}",
        where=where,
        remedy="import the Hugging Face directory that it was made from",
    )
