"""Choices from one seed that are the same with every version of Python. They use only `random()`,
whose results the standard library promises not to change.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from sevenfold.core.numbers.rng import derive_seed

T = TypeVar("T")


class SeededChoices:
    """A stream of choices for one purpose. Two purposes never share a stream (core.numbers.rng).

    Generators draw numbers that are values with `between`, and everything that decides the structure
    of a sample with the other methods. So the same structure can be given other values.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        self._random = random.Random(derive_seed(seed, purpose)).random

    def below(self, n: int) -> int:
        """Return a number from 0 to n - 1 (n >= 1)."""
        return int(self._random() * n)

    def between(self, low: int, high: int) -> int:
        """Return a number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def chance(self, share: float) -> bool:
        """Return True in `share` of the calls."""
        return self._random() < share

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[T], n: int) -> list[T]:
        """Return `n` different places of `items`, in the order drawn (n <= len(items))."""
        pool = list(items)
        return [pool.pop(self.below(len(pool))) for _ in range(n)]
