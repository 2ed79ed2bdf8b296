"""Choose a token from integer logits, in integers (specs/sampling.md).

The order is fixed: temperature, top-k, min-p, top-p, then the largest perturbed score (Gumbel-max).
A draw depends only on the logits of its own row, the law, the seed, the position and the number of
the sample. Any batch, thread count and backend therefore gives the same tokens. Greedy is
temperature 0 and draws nothing.

Shape suffixes: V vocabulary, N candidate tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from fractions import Fraction
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from sevenfold.core.errors import UsageError
from sevenfold.core.numbers.fixed import INT32_MAX, MAX_SHIFT, Ints, as_ints, bit_length, mulsh, rshift
from sevenfold.engine.ops import LOGIT_FRACTION
from sevenfold.engine.philox import WORD, words_of_draws, words_of_tokens
from sevenfold.engine.reference import argmax

LAW_VERSION = 1
# Fraction bits of scores, in log2 units.
SCORE_BITS = 20
# Weight of the most likely token: 2^WEIGHT_BITS.
WEIGHT_BITS = 24
TABLE_BITS = 8
# A distance beyond this is 1,024 halvings, which no draw reaches.
MAX_DISTANCE = 1 << 30
MAX_TERM = (1 << 16) - 1
# The number of tokens that are sorted first, because top-p usually keeps few.
_FIRST_SORTED = 64
MAX_SEED = (1 << 64) - 1
_CONTEXT = Context(prec=50)
_NUMBER = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5})?", re.ASCII)


def _entries(n: int, value: str) -> Ints:
    """Return the `n` entries of a table of section 3. `value` is its name there."""
    with localcontext(_CONTEXT):
        ln2 = Decimal(2).ln()

        def exact(i: int) -> Decimal:
            x = Decimal(i) / (1 << TABLE_BITS)
            if value == "log2":
                return (1 << SCORE_BITS) * (1 + x).ln() / ln2
            if value == "exp2":
                return (1 << WEIGHT_BITS) * (-x * ln2).exp()
            # The ratio of -log2(1 - e) to e, for e = x / 2; its limit at 0 is log2(e).
            ratio = -(1 - x / 2).ln() / ln2 / (x / 2) if i else 1 / ln2
            return (1 << SCORE_BITS) * ratio.ln() / ln2

        return as_ints([int(exact(i).to_integral_value(ROUND_HALF_UP)) for i in range(n)])


@cache
def table(name: str) -> Ints:
    """Return one of the tables `log2`, `exp2` or `ratio`, 257 entries."""
    return _entries((1 << TABLE_BITS) + 1, name)


def _between(name: str, index: Ints, rest: Ints, bits: int) -> Ints:
    """Interpolate between the entries `index` and `index` + 1 of a table, at `rest` of 2^bits."""
    entries = table(name)
    low = entries[index]
    return low + rshift((entries[index + 1] - low) * rest, bits)


def log2(n: Ints) -> Ints:
    """Return LOG2(n), the binary logarithm of 1 <= n < 2^33, with SCORE_BITS fraction bits."""
    k = bit_length(n) - 1
    fraction = ((n << (33 - k)) >> 9) & 0xFFFFFF
    return (k << SCORE_BITS) + _between("log2", fraction >> 16, fraction & 0xFFFF, 16)


@cache
def _exp2_steps() -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return the entries of `exp2`, each one's distance to the next, and half of each power of two."""
    entries = table("exp2").astype(np.int32)
    halves = np.array([(1 << shift) >> 1 for shift in range(32)], np.int64).astype(np.int32)
    return entries[:-1], np.diff(entries), halves


def weights(distance: Ints) -> Ints:
    """Return 2^(WEIGHT_BITS - distance) for a distance of 0 to MAX_DISTANCE in score units.

    Interpolates between entries of `exp2`, as `_between` does; no term leaves 32 bits.
    """
    entries, steps, halves = _exp2_steps()
    d = distance.astype(np.int32)
    index = (d >> 12) & 0xFF
    value = entries[index] + ((steps[index] * (d & 0xFFF) + (1 << 11)) >> 12)
    shift = np.minimum(d >> SCORE_BITS, 31)
    return as_ints((value + halves[shift]) >> shift)


def gumbel(words: Ints) -> Ints:
    """Return Gumbel variates of random words, in score units:
    -log2(-log2(u)), u = (2 word + 1) / 2^33.

    Above one half the logarithm of u is the distance to 1 times a smooth ratio, so that no
    precision is lost near 1.
    """
    is_high = words >> 31 == 1
    rest = np.where(is_high, WORD - words, 0)
    below = np.where(is_high, 0, words)
    inner = (33 << SCORE_BITS) - log2(2 * below + 1)
    low = log2(np.maximum(inner, 1)) - (SCORE_BITS << SCORE_BITS)
    high = log2(2 * rest + 1) - (33 << SCORE_BITS) + _between("ratio", rest >> 23, (rest >> 7) & 0xFFFF, 16)
    return -np.where(is_high, high, low)


def _ratio(text: str, what: str, most: int) -> tuple[int, int]:
    """Return a decimal number as a fraction in lowest terms, of terms below 2^16.

    Raises UsageError.
    """
    if not _NUMBER.fullmatch(text):
        raise UsageError(f"{what} {text[:40]!r} is not a number", remedy="use a number such as 0.8")
    value = Fraction(text)
    if not 0 <= value <= most or max(value.numerator, value.denominator) > MAX_TERM:
        raise UsageError(
            f"{what} {text}: outside 0 to {most}, or not a fraction of two numbers up to {MAX_TERM}",
            remedy="use fewer decimal places",
        )
    return value.numerator, value.denominator


@dataclass(frozen=True, kw_only=True)
class DecodingLaw:
    """The rule by which a token is chosen: integer fractions and a seed, without rounding.

    The default is greedy. `top_k` 0, `min_p` 0 and `top_p` 1 remove no token.
    """

    temperature: tuple[int, int] = (0, 1)
    top_k: int = 0
    min_p: tuple[int, int] = (0, 1)
    top_p: tuple[int, int] = (1, 1)
    seed: int = 0

    def __post_init__(self) -> None:
        for what, (a, b) in {
            "temperature": self.temperature,
            "min-p": self.min_p,
            "top-p": self.top_p,
        }.items():
            if not (0 <= a <= MAX_TERM and 1 <= b <= MAX_TERM) or (what != "temperature" and a > b):
                raise UsageError(f"{what} {a}/{b}", remedy="use a fraction of the law (specs/sampling.md)")
        if self.top_p[0] == 0 or self.top_k < 0 or not 0 <= self.seed <= MAX_SEED:
            raise UsageError(
                f"top-p {self.top_p[0]}/{self.top_p[1]}, top-k {self.top_k}, seed {self.seed}",
                remedy="top-p is above 0, top-k 0 or more, the seed 0 to 2^64 - 1",
            )

    @classmethod
    def parse(
        cls, temperature: str = "0", top_k: int = 0, min_p: str = "0", top_p: str = "1", seed: int = 0
    ) -> DecodingLaw:
        """Parse a law from decimal texts, which are exact ("0.8" is 4/5).

        Raises UsageError.
        """
        return cls(
            temperature=_ratio(temperature, "temperature", MAX_TERM),
            top_k=top_k,
            min_p=_ratio(min_p, "min-p", 1),
            top_p=_ratio(top_p, "top-p", 1),
            seed=seed,
        )

    @property
    def is_greedy(self) -> bool:
        """Return whether the most likely token is taken without a draw."""
        return self.temperature[0] == 0

    def facts(self) -> dict[str, object]:
        """Return the law as JSON, for cache keys and sealed runs."""
        if self.is_greedy:
            return {"law": LAW_VERSION, "kind": "greedy"}
        return {
            "law": LAW_VERSION,
            "kind": "gumbel-max",
            "temperature": list(self.temperature),
            "top_k": self.top_k,
            "min_p": list(self.min_p),
            "top_p": list(self.top_p),
            "seed": self.seed,
        }

    @cached_property
    def multiplier(self) -> tuple[int, int]:
        """Return (m, s), m in [2^15, 2^16): the score units for each unit of a logit are m / 2^s,
        with the temperature included.
        """
        with localcontext(_CONTEXT):
            one = Decimal(1 << (SCORE_BITS - LOGIT_FRACTION)) / Decimal(2).ln()
            exact = one * self.temperature[1] / self.temperature[0]
            s = 0
            while exact * 2**s < 1 << 15:
                s += 1
            while exact * Decimal(2) ** s >= 1 << 16:
                s -= 1
            m = int((exact * Decimal(2) ** s).to_integral_value(ROUND_HALF_UP))
        return (m >> 1, s - 1) if m == 1 << 16 else (m, s)

    def _distance(self, gap_V: Ints) -> Ints:
        """Return gaps of logits, 0 to INT32_MAX, in score units: MULSH, MAX_DISTANCE at most."""
        m, s = self.multiplier
        if 1 <= s <= MAX_SHIFT:
            return as_ints(np.minimum((gap_V * m + (1 << (s - 1))) >> s, MAX_DISTANCE))
        return as_ints(np.minimum(mulsh(gap_V, m, s), MAX_DISTANCE))

    def kept(self, logits_V: Ints) -> tuple[Ints, Ints]:
        """Return the ids of the tokens that may be drawn, and the distance of each from the most
        likely one.

        Returns:
            (ids_N, distance_N): score units; ids ascend.
        """
        gap_V = np.minimum(np.max(logits_V) - logits_V, INT32_MAX)
        distance_V = self._distance(gap_V)
        ids = np.arange(len(logits_V))
        is_nucleus = self.top_p[0] < self.top_p[1]
        if self.is_nucleus_alone:
            ids = self._nucleus(gap_V, weights(distance_V))
            return ids, distance_V[ids]
        if self.top_k or is_nucleus:
            # The most likely token comes first, and of equal ones the lower id.
            ids = np.argsort(gap_V, kind="stable")
        if self.top_k:
            ids = ids[: self.top_k]
        if self.min_p[0]:
            a, b = self.min_p
            ids = ids[weights(distance_V[ids]) * b >= a << WEIGHT_BITS]
        if is_nucleus:
            a, b = self.top_p
            sums = np.cumsum(weights(distance_V[ids]))
            # The token with which the share is reached is the last one kept.
            ids = ids[: int(np.argmax(sums * b >= sums[-1] * a)) + 1]
        ids = np.sort(ids)
        return as_ints(ids), distance_V[ids]

    @property
    def is_nucleus_alone(self) -> bool:
        """Return whether top-p cuts, and nothing else does."""
        return self.top_p[0] < self.top_p[1] and not self.top_k and not self.min_p[0]

    def _nucleus(self, gap_V: Ints, weights_V: Ints) -> Ints:
        """Return the ids that top-p alone keeps, in ascending order, without sorting all of them.

        The first of the stable order are those up to some gap, equal ones included, so a few are
        sorted first, and more only while the share is not reached.
        """
        a, b = self.top_p
        wanted = int(weights_V.sum()) * a
        n = _FIRST_SORTED
        while True:
            if n < len(gap_V):
                some = np.flatnonzero(gap_V <= np.partition(gap_V, n - 1)[n - 1])
            else:
                some = np.arange(len(gap_V))
            some = some[np.argsort(gap_V[some], kind="stable")]
            sums = np.cumsum(weights_V[some])
            if n >= len(gap_V) or int(sums[-1]) * b >= wanted:
                return as_ints(np.sort(some[: int(np.argmax(sums * b >= wanted)) + 1]))
            n *= 8

    def choose(self, logits_V: Ints, *, position: int, sample: int = 0) -> int:
        """Return the next token.

        Args:
            logits_V: int32 values with 16 fraction bits, in natural units.
            position: ids before this token, those of the prompt included.
            sample: number of the sample, when one prompt has several.
        """
        if self.is_greedy:
            return argmax(logits_V)
        ids, distance = self.kept(logits_V)
        words = words_of_tokens(ids, position=position, sample=sample, seed=self.seed)
        # argmax returns the first of equals, which has the lowest id.
        return int(ids[np.argmax(gumbel(words) - distance)])

    def choose_of_each(
        self, logits_BV: Ints, *, positions: Sequence[int], samples: Sequence[int], seeds: Sequence[int]
    ) -> list[int]:
        """Return the next token of each row, each with a position, a sample and a seed of its own.

        They are the tokens that `choose` gives row by row. Where top-p alone cuts, few tokens are
        left of each row, and the rows are computed together.
        """
        if not self.is_nucleus_alone or self.is_greedy:
            draws = zip(logits_BV, positions, samples, seeds, strict=True)
            return [replace(self, seed=s).choose(row, position=p, sample=n) for row, p, n, s in draws]
        gap_BV = np.minimum(np.max(logits_BV, axis=1, keepdims=True) - logits_BV, INT32_MAX)
        distance_BV = self._distance(gap_BV)
        kept = [self._nucleus(*row) for row in zip(gap_BV, weights(distance_BV), strict=True)]
        sizes = [len(ids) for ids in kept]
        ids_N, row_N = np.concatenate(kept), np.repeat(np.arange(len(kept)), sizes)
        words = words_of_draws(
            ids_N,
            np.array(positions, np.int64)[row_N],
            np.array(samples, np.int64)[row_N],
            np.array(seeds, np.uint64)[row_N],
        )
        scores = np.split(gumbel(words) - distance_BV[row_N, ids_N], np.cumsum(sizes)[:-1])
        return [int(ids[np.argmax(score)]) for ids, score in zip(kept, scores, strict=True)]


GREEDY = DecodingLaw()
