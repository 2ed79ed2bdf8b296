"""Compute the hybrid attention of specs/training-arithmetic.md in exact rational arithmetic: summaries
of strides, the columns that a row reads, and single results of one key/value head.

It shares no code with the kernels. Vectors are those that the operator was given, padded to whole
lanes. Cost: a weight takes one or two chains over a vector, and the gradient of a summary visits all
rows that read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from sevenfold.audit.exact import rational as law

Row = list[float]
Rows = list[Row]
ROWS_OF_A_BLOCK = 48
LANES = 16


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The sizes that decide what a row reads: positions of the window, positions of a stride, the
    newest summaries, and the factors of their scores.
    """

    window: int
    stride: int
    ring: int
    temper: float


@dataclass(frozen=True)
class Summary:
    """One summary: its first position, the weights of its positions, their mean, the factor of the
    mean, and the result.
    """

    first: int
    weights: Row
    mean: Row
    factor: float
    value: Row


@dataclass(frozen=True)
class SummarySlope:
    """The gradients through a summary. Position j gets `weights[j] * through`, then `shares[j]` times
    its vector, and the gradient of its score.
    """

    through: Row
    shares: Row
    scores: Row


@dataclass(frozen=True)
class Columns:
    """The columns of a row's block, keys and then summaries, and which of them the row reads."""

    keys: range
    summaries: range
    read: range
    recalled: range

    @property
    def are_read(self) -> list[bool]:
        """Return for each column whether the row reads it."""
        return [j in self.read for j in self.keys] + [c in self.recalled for c in self.summaries]


def length(x: Sequence[float]) -> float:
    """Return |x|."""
    return law.sqrt(law.add(law.row_sum_of_products(x, x), law.f32(1e-12)))


def column(rows: Sequence[Row], channel: int) -> Row:
    """Return one channel of all rows."""
    return [row[channel] for row in rows]


def summary(x: Rows, score: Row, number: int, stride: int) -> Summary:
    """Return the summary with this number, which covers its stride and the one before."""
    first, end = max(0, (number - 1) * stride), (number + 1) * stride
    own, scores = x[first:end], score[first:end]
    most = max(scores)
    e = [law.exp(law.sub(v, most)) for v in scores]
    total = law.row_sum(e)
    w = [law.div(v, total) for v in e]
    mean = [law.chain(w, column(own, channel)) for channel in range(len(x[0]))]
    factor = law.div(law.chain(w, [length(row) for row in own]), length(mean))
    return Summary(first, w, mean, factor, [law.mul(m, factor) for m in mean])


def summary_slope(one: Summary, x: Rows, grad: Row) -> SummarySlope:
    """Return the gradients through a summary whose own gradient is `grad`."""
    n = length(one.mean)
    along = law.row_sum_of_products(grad, one.mean)
    share = law.div(along, n)
    back = law.mul(law.div(law.div(law.mul(along, one.factor), n), n), -1.0)
    through = [law.fma(m, back, law.mul(g, one.factor)) for m, g in zip(one.mean, grad, strict=True)]
    own = x[one.first : one.first + len(one.weights)]
    slopes = [law.fma(share, length(row), law.row_sum_of_products(through, row)) for row in own]
    middle = law.chain(one.weights, slopes)
    shares = [law.div(law.mul(share, w), length(row)) for w, row in zip(one.weights, own, strict=True)]
    scores = [law.mul(w, law.sub(s, middle)) for w, s in zip(one.weights, slopes, strict=True)]
    return SummarySlope(through, shares, scores)


@lru_cache(maxsize=4096)
def columns(row: int, n_rows: int, reading: Reading) -> Columns:
    """Return the columns of the block of a row, and those that the row reads."""
    start = row // ROWS_OF_A_BLOCK * ROWS_OF_A_BLOCK
    end = min(start + ROWS_OF_A_BLOCK, n_rows)
    newest, complete = (start + 1) // reading.stride, (row + 1) // reading.stride
    return Columns(
        keys=range(max(0, start + 1 - reading.window) // LANES * LANES, end),
        summaries=range(max(0, newest - reading.ring) // LANES * LANES, end // reading.stride),
        read=range(max(0, row + 1 - reading.window), row + 1),
        recalled=range(max(0, complete - reading.ring), complete),
    )


def sum_of_columns(at: Columns, weights: Sequence[float]) -> float:
    """Return the row sum of weights. Both runs of columns begin at a multiple of 16."""
    lanes = [0.0] * LANES
    for number, weight in zip([*at.keys, *at.summaries], weights, strict=True):
        lanes[number % LANES] = law.add(lanes[number % LANES], weight)
    return law.tree(lanes)


@dataclass(frozen=True, kw_only=True)
class Given:
    """The inputs of one key/value head, with queries by head. Only gradients use the last three."""

    q: list[Rows]
    q_turned: list[Rows]
    k: Rows
    k_turned: Rows
    v: Rows
    key_score: Row
    value_score: Row
    scaled_dim: int
    y: list[Rows] = field(default_factory=list)
    grad: list[Rows] = field(default_factory=list)
    log_sum: Rows = field(default_factory=list)


class HybridHead:
    """One key/value head over one document. A column is a key, or a summary where `far` is set."""

    def __init__(self, given: Given, reading: Reading) -> None:
        self.given, self.reading, self.n_rows = given, reading, len(given.k)
        self.scale = law.div(1.0, law.sqrt(float(given.scaled_dim)))
        self.temper = law.f32(reading.temper)
        self._pairs: dict[tuple[int, int, bool, int], tuple[float, float]] = {}
        self._alongs: dict[tuple[int, int], float] = {}
        self._summaries: dict[tuple[int, bool], Summary] = {}

    def summary(self, number: int, *, of_values: bool) -> Summary:
        """Return a summary of keys or of values."""
        if (number, of_values) not in self._summaries:
            x, score = self.given.k, self.given.key_score
            if of_values:
                x, score = self.given.v, self.given.value_score
            self._summaries[number, of_values] = summary(x, score, number, self.reading.stride)
        return self._summaries[number, of_values]

    def _key_of(self, number: int) -> Row:
        return self.summary(number, of_values=False).value

    def _columns(self, row: int) -> Columns:
        return columns(row, self.n_rows, self.reading)

    def _score(self, query: int, row: int, far: bool, number: int) -> float:
        if far:
            return law.mul(law.chain(self.given.q[query][row], self._key_of(number)), self.temper)
        return law.chain(self.given.q_turned[query][row], self.given.k_turned[number])

    def _value(self, far: bool, number: int) -> Row:
        return self.summary(number, of_values=True).value if far else self.given.v[number]

    def _softmax(self, query: int, row: int) -> tuple[list[tuple[bool, int]], Row, float, float]:
        """Return the columns of a row, their weights, the sum of the weights, and the number that was
        subtracted from the scores.
        """
        at = self._columns(row)
        places = [(False, j) for j in at.keys] + [(True, c) for c in at.summaries]
        scores = [
            self._score(query, row, *place) if is_read else None
            for place, is_read in zip(places, at.are_read, strict=True)
        ]
        top = law.mul(max(s for s in scores if s is not None), self.scale)
        w = [0.0 if s is None else law.exp(law.sub(law.mul(s, self.scale), top)) for s in scores]
        return places, w, sum_of_columns(at, w), top

    def output(self, query: int, row: int, channel: int) -> float:
        """Return an element of the output."""
        places, w, total, _top = self._softmax(query, row)
        return law.div(law.chain(w, [self._value(*place)[channel] for place in places]), total)

    def log_sum(self, query: int, row: int) -> float:
        """Return the logarithm of the sum of a row."""
        _places, _w, total, top = self._softmax(query, row)
        return law.add(law.f32(law.ln(total)), top)

    def _along(self, query: int, row: int) -> float:
        if (query, row) not in self._alongs:
            y, grad = self.given.y[query][row], self.given.grad[query][row]
            self._alongs[query, row] = law.row_sum_of_products(y, grad)
        return self._alongs[query, row]

    def _pair(self, query: int, row: int, far: bool, number: int) -> tuple[float, float]:
        """Return the weight of a column in a row, and the gradient of its score."""
        key = (query, row, far, number)
        if key not in self._pairs:
            at, weight = self._columns(row), 0.0
            if number in (at.recalled if far else at.read):
                score = law.mul(self._score(query, row, far, number), self.scale)
                weight = law.exp(law.sub(score, self.given.log_sum[query][row]))
            e = law.chain(self.given.grad[query][row], self._value(far, number))
            u = law.mul(law.mul(weight, law.sub(e, self._along(query, row))), self.scale)
            self._pairs[key] = weight, law.mul(u, self.temper) if far else u
        return self._pairs[key]

    def slope_of_q_turned(self, query: int, row: int, channel: int) -> float:
        """Return the gradient of a rotated query, which comes through the window."""
        keys = self._columns(row).keys
        slopes = [self._pair(query, row, False, j)[1] for j in keys]
        return law.chain(slopes, [self.given.k_turned[j][channel] for j in keys])

    def slope_of_q(self, query: int, row: int, channel: int) -> float:
        """Return the gradient of a query before rotation, which comes through summaries."""
        summaries = self._columns(row).summaries
        slopes = [self._pair(query, row, True, c)[1] for c in summaries]
        return law.chain(slopes, [self._key_of(c)[channel] for c in summaries])

    def _over_rows(self, far: bool, number: int, channel: int, by: list[Rows], *, which: int) -> float:
        """Return the chain over all rows whose blocks hold a column. It multiplies the first or the
        second result of `_pair` with vectors by head and row.
        """
        total = 0.0
        for query, vectors in enumerate(by):
            for row in range(self.n_rows):
                at = self._columns(row)
                if number in (at.summaries if far else at.keys):
                    total = law.fma(self._pair(query, row, far, number)[which], vectors[row][channel], total)
        return total

    def slope_of_k_turned(self, position: int, channel: int) -> float:
        """Return the gradient of a rotated key."""
        return self._over_rows(False, position, channel, self.given.q_turned, which=1)

    def _through(self, number: int, *, of_values: bool) -> tuple[Summary, SummarySlope]:
        """Return a summary of keys or of values, and the gradients through it."""
        one, x, by, which = self.summary(number, of_values=of_values), self.given.k, self.given.q, 1
        if of_values:
            x, by, which = self.given.v, self.given.grad, 0
        grad = [self._over_rows(True, number, channel, by, which=which) for channel in range(len(x[0]))]
        return one, summary_slope(one, x, grad)

    def _summaries_with(self, position: int) -> range:
        """Return the numbers of the summaries that contain a position."""
        own = position // self.reading.stride
        return range(own, min(own + 2, self.n_rows // self.reading.stride))

    def slope_of_vector(self, position: int, channel: int, *, of_values: bool) -> float:
        """Return the gradient of a value, or of a key before rotation."""
        x, total = self.given.k[position][channel], 0.0
        if of_values:
            x = self.given.v[position][channel]
            total = self._over_rows(False, position, channel, self.given.grad, which=0)
        for number in self._summaries_with(position):
            one, slope = self._through(number, of_values=of_values)
            j = position - one.first
            total = law.fma(one.weights[j], slope.through[channel], total)
            total = law.fma(x, slope.shares[j], total)
        return total

    def slope_of_score(self, position: int, *, of_values: bool) -> float:
        """Return the gradient of the score of a position, for its value or for its key."""
        total = 0.0
        for number in self._summaries_with(position):
            one, slope = self._through(number, of_values=of_values)
            total = law.add(total, slope.scores[position - one.first])
        return total
