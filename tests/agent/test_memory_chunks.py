"""Spans partition a text, chunks keep their limits, and both are cut where the syntax allows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.agent.memory.chunks import (
    MAX_LINE_BYTES,
    MAX_SPAN_TOKENS,
    TOP,
    count_tokens,
    cut_chunks,
    cut_spans,
    line_levels,
)

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "sevenfold" / "core").glob("*.py"))
PARTS = st.sampled_from(
    ["def f(x):\n", "class A:\n", "    y = x + 1\n", "\n", "x" * 50, '"""', " ", "\t", "}\n"]
)


def long_text(n: int) -> bytes:
    return b"".join(
        b"def name_%d(a, b):\n    c = a * %d + b\n    return c.value(%d)\n\n\n" % (i, i, i) for i in range(n)
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(PARTS, max_size=60), st.sampled_from(["python", "c", "markdown", "unknown"]))
def test_spans_partition_any_text(parts: list[str], language: str) -> None:
    text = "".join(parts).encode()
    spans = cut_spans(text, language)
    assert b"".join(text[span.start : span.end] for span in spans) == text
    assert all(a.end == b.start for a, b in pairwise(spans))
    assert all(span.start < span.end for span in spans)
    assert [span.line for span in spans] == [1 + text[: span.start].count(b"\n") for span in spans]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_spans_of_programs_are_short_and_begin_at_definitions(path: Path) -> None:
    text = path.read_bytes()
    spans = cut_spans(text, "python")
    assert all(span.n_tokens <= MAX_SPAN_TOKENS for span in spans)
    assert sum(span.n_tokens for span in spans) == sum(count_tokens(text.splitlines(keepends=True)))
    starts = {text[span.start :].lstrip().split(b"\n")[0] for span in spans}
    definitions = [line for line in text.split(b"\n") if line.startswith(b"def ")]
    # A definition behind a decorator begins at the decorator, a tiny one stays with its neighbour.
    assert sum(line in starts for line in definitions) >= len(definitions) // 2


@pytest.mark.parametrize("limit", [6000, 8192, 12000])
def test_chunks_keep_length_and_overlap(limit: int) -> None:
    spans = cut_spans(long_text(3000), "python")
    chunks = cut_chunks(spans, limit)
    assert len(chunks) > 3
    assert chunks[0].first == 0
    assert chunks[-1].end == len(spans)
    for chunk in chunks[:-1]:
        assert limit * 3 // 4 <= chunk.n_tokens <= limit
        assert spans[chunk.end].level == TOP
    for a, b in pairwise(chunks):
        assert a.first < b.first < a.end < b.end
        shared = sum(span.n_tokens for span in spans[b.first : a.end])
        assert 0.10 <= shared / a.n_tokens <= 0.15


def test_a_small_file_is_one_chunk() -> None:
    spans = cut_spans(long_text(5), "python")
    assert [(chunk.first, chunk.end) for chunk in cut_chunks(spans, 6000)] == [(0, len(spans))]
    assert cut_spans(b"", "python") == []
    assert cut_chunks([], 6000) == []


def test_a_line_without_end_is_cut_between_characters() -> None:
    text = "\u00e9\u4e2d".encode() * 40_000
    spans = cut_spans(text, "unknown")
    assert b"".join(text[span.start : span.end] for span in spans) == text
    for span in spans:
        text[span.start : span.end].decode()
        assert span.end - span.start <= MAX_LINE_BYTES
        assert span.line == 1
    chunks = cut_chunks(spans, 6000)
    assert max(chunk.n_tokens for chunk in chunks) <= 6000


def test_a_string_is_no_place_to_cut() -> None:
    lines = b'x = """\ndef no():\n"""\ndef yes():\n    pass\n'.splitlines(keepends=True)
    levels = line_levels(lines, "python")
    assert levels[3] == TOP
    assert levels[1] > TOP
