"""Cut a text into spans and chunks at the boundaries of its syntax by a rule on lines.

A *span* is a definition or a paragraph of statements. It has at most 384 tokens unless one line is
longer. Spans partition the text, and each has a vector. A *chunk* is a run of spans that a search
returns. It has at most `chunk_tokens` tokens and shares 10 to 15 % with the next one. The rule uses
no parser. See specs/memory.md, "Cutting".
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS = 6000, 12000
MIN_SPAN_TOKENS, MAX_SPAN_TOKENS = 16, 384
# A longer line is cut into pieces of this length, so that no chunk exceeds its limit.
MAX_LINE_BYTES = 4096
# The percentage of a chunk that the next one repeats.
MIN_OVERLAP, MAX_OVERLAP = 10, 15

Counter = Callable[[Sequence[bytes]], list[int]]

_TOKEN = re.compile(rb"[A-Za-z]{1,8}|[0-9]{1,3}|[^\sA-Za-z0-9]{1,4}|\n[ \t]*")
_DEFINITION = re.compile(
    rb"[ \t]*(?:(?:export|default|pub(?:\([a-z]+\))?|public|private|protected|static|final|abstract|async"
    rb"|unsafe|const|inline|virtual|extern|declare|type)[ \t]+)*"
    rb"(?:def|class|fn|func|function|struct|enum|trait|impl|interface|union|namespace|module|mod|macro_rules!"
    rb"|type)\b[ \t<(*&]*[A-Za-z_$]"
)
_LEAD = re.compile(rb"[ \t]*(?:@[A-Za-z_]|#\[|#(?!include|define|if|endif)|//|/\*|\*)")
_CONTINUED = re.compile(rb"[ \t]*(?:[)\]}]|(?:else|elif|except|finally|catch|case)\b)")
_HEADING = re.compile(rb"#{1,6}[ \t]")
_QUOTES = re.compile(rb'"""|' + rb"'''")

# The levels of a line as a place to cut, from the best to the worst.
TOP, INNER, PARAGRAPH, BLANK_BEFORE, UNINDENTED, ANY, NEVER = range(7)


@dataclass(frozen=True, slots=True)
class TextSpan:
    """Bytes [start, end) of a text; `line` counts from 1."""

    start: int
    end: int
    line: int
    n_tokens: int
    level: int


@dataclass(frozen=True, slots=True)
class SpanRange:
    """A chunk: the spans [first, end), and its tokens."""

    first: int
    end: int
    n_tokens: int


def count_tokens(lines: Sequence[bytes]) -> list[int]:
    """Return the tokens of each line by the built-in rule, without a tokenizer."""
    return [len(_TOKEN.findall(line)) for line in lines]


def split_lines(text: bytes) -> tuple[list[bytes], list[int]]:
    """Return the lines of a text with their ends, and the number of each. A long line is split into
    pieces between characters.
    """
    pieces: list[bytes] = []
    numbers: list[int] = []
    for number, line in enumerate(text.splitlines(keepends=True) if b"\r" not in text else _by_newline(text)):
        place = 0
        while len(line) - place > MAX_LINE_BYTES:
            end = place + MAX_LINE_BYTES
            while end > place + 1 and line[end] & 0xC0 == 0x80:
                end -= 1
            pieces.append(line[place:end])
            numbers.append(number + 1)
            place = end
        pieces.append(line[place:])
        numbers.append(number + 1)
    return pieces, numbers


def _by_newline(text: bytes) -> list[bytes]:
    # Editors do not count a lone carriage return as a line end.
    lines = [line + b"\n" for line in text.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def line_levels(lines: Sequence[bytes], language: str) -> list[int]:
    """Return the level of the start of each line as a place to cut."""
    levels: list[int] = []
    blank, inside = True, False
    for line in lines:
        levels.append(NEVER if inside or not line.strip() else _level(line, blank, language))
        blank = not line.strip()
        if language == "python" and len(_QUOTES.findall(line)) % 2:
            inside = not inside
    _raise_leads(lines, levels)
    return levels


def _level(line: bytes, blank: bool, language: str) -> int:
    indent = len(line) - len(line.lstrip(b" \t"))
    if language == "markdown" and _HEADING.match(line):
        return TOP
    if _CONTINUED.match(line):
        return NEVER
    if _DEFINITION.match(line):
        return TOP if indent == 0 else INNER
    if blank:
        return PARAGRAPH if indent == 0 else BLANK_BEFORE
    return UNINDENTED if indent == 0 else ANY


def _raise_leads(lines: Sequence[bytes], levels: list[int]) -> None:
    """Move the cut before a definition above its decorators and comments."""
    for i, level in enumerate(levels):
        if level > INNER:
            continue
        first = i
        while first and levels[first - 1] > INNER and _LEAD.match(lines[first - 1]):
            first -= 1
        if first < i:
            levels[i], levels[first] = NEVER, level


def cut_spans(text: bytes, language: str, counter: Counter = count_tokens) -> list[TextSpan]:
    """Return the spans of a text, in order; [] for an empty one."""
    lines, numbers = split_lines(text)
    if not lines:
        return []
    counts, levels = counter(lines), line_levels(lines, language)
    tokens = [0, *accumulate(counts)]
    starts = [0]
    for i, level in enumerate(levels):
        if level <= INNER and tokens[i] - tokens[starts[-1]] >= MIN_SPAN_TOKENS:
            starts.append(i)
    cuts = [0]
    for first, end in pairwise([*starts, len(lines)]):
        cuts += _halved(first, end, tokens, levels)
    places = [0, *accumulate(map(len, lines))]
    return [
        TextSpan(places[a], places[b], numbers[a], tokens[b] - tokens[a], levels[a])
        for a, b in pairwise(cuts)
    ]


def _halved(first: int, end: int, tokens: list[int], levels: list[int]) -> list[int]:
    """Return the ends of the pieces of lines [first, end). No piece is longer than a span may be."""
    ends: list[int] = []
    waiting = [(first, end)]
    while waiting:
        a, b = waiting.pop()
        if tokens[b] - tokens[a] <= MAX_SPAN_TOKENS or b - a == 1:
            ends.append(b)
            continue
        total = tokens[b] - tokens[a]
        low = min(max(bisect_left(tokens, tokens[a] + total // 4, a + 1, b), a + 1), b - 1)
        high = min(max(bisect_left(tokens, tokens[a] + 3 * total // 4, a + 1, b), low), b - 1)
        middle = tokens[a] + total // 2
        cut = min(range(low, high + 1), key=lambda i: (levels[i], abs(tokens[i] - middle), i))
        waiting += [(cut, b), (a, cut)]
    return ends


def cut_chunks(spans: Sequence[TextSpan], chunk_tokens: int) -> list[SpanRange]:
    """Return the chunks of a text. Each is as long as the limit allows, and is cut at the best
    boundary of its last quarter.
    """
    tokens = [0, *accumulate(span.n_tokens for span in spans)]
    chunks: list[SpanRange] = []
    first = 0
    while first < len(spans):
        end = _end_of(first, spans, tokens, chunk_tokens)
        chunks.append(SpanRange(first, end, tokens[end] - tokens[first]))
        if end == len(spans):
            break
        first = _next_start(first, end, spans, tokens)
    return chunks


def _end_of(first: int, spans: Sequence[TextSpan], tokens: list[int], limit: int) -> int:
    last = bisect_left(tokens, tokens[first] + limit + 1, first + 1) - 1
    if last >= len(spans):
        return len(spans)
    last = max(last, first + 1)
    soonest = max(bisect_left(tokens, tokens[first] + limit * 3 // 4, first + 1, last), first + 1)
    return min(range(soonest, last + 1), key=lambda i: (spans[i].level, -i))


def _next_start(first: int, end: int, spans: Sequence[TextSpan], tokens: list[int]) -> int:
    size = tokens[end] - tokens[first]
    shares = [(i, (tokens[end] - tokens[i]) * 100) for i in range(first + 1, end)]
    inside = [i for i, share in shares if MIN_OVERLAP * size <= share <= MAX_OVERLAP * size]
    if inside:
        return min(inside, key=lambda i: (spans[i].level, -i))
    # There is no boundary in this range. Take the shortest longer overlap, but never more than
    # half.
    longer = [i for i, share in shares if MAX_OVERLAP * size < share <= 50 * size]
    return max(longer, default=end)
