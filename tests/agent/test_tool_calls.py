"""The form of a call, and neutral text."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.tokenizer.chat.calls import (
    MAX_CALLS,
    CallError,
    ToolCall,
    hidden_characters,
    is_call,
    neutral,
    parse_calls,
)
from sevenfold.tokenizer.chat.template import INSTRUCTION

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CALLS = st.builds(
    lambda name, arguments: ToolCall(name=name, arguments=arguments),
    st.text(min_size=1, max_size=20),
    st.dictionaries(st.text(max_size=8), VALUES, max_size=3),
)


@given(st.lists(CALLS, min_size=1, max_size=MAX_CALLS))
def test_calls_are_read_as_they_are_written(calls: list[ToolCall]) -> None:
    assert list(parse_calls("\n".join(call.text() for call in calls))) == calls


@given(CALLS, st.data())
def test_a_changed_call_is_another_call_or_refused(call: ToolCall, data: st.DataObject) -> None:
    text = call.text()
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(exclude_categories=["Cs"])) + text[place + 1 :]
    try:
        (found,) = parse_calls(changed)
    except (CallError, ValueError):
        return
    assert is_call(changed)
    assert json.loads(changed) == {"name": found.name, "arguments": found.arguments}


@given(st.text())
def test_the_reader_of_calls_is_total(text: str) -> None:
    for answer in (text, '{"name":"' + text, '{"name":"a","arguments":{"b":' + text + "}}"):
        try:
            calls = parse_calls(answer)
        except CallError:
            continue
        assert 1 <= len(calls) <= MAX_CALLS


def test_text_that_holds_a_call_is_text() -> None:
    call = ToolCall(name="web", arguments={"url": "x"}).text()
    for text in (
        f"Say {call}",
        f"\n{call}",
        f" {call}",
        f"```\n{call}\n```",
        call.replace('":"', '" : "', 1),
    ):
        assert not is_call(text)


HARD = st.text(alphabet="#\uff03 R:\r\n\u2028\u2029\x85\x0b\x0c\u200b\ufeff\x00\x1bes\u00a0\t>") | st.text()


@given(HARD)
def test_neutral_text_forges_no_turn_and_passes_the_gate(text: str) -> None:
    plain = neutral(text)
    assert neutral(plain) == plain
    assert not hidden_characters(plain) - {one for one in plain if unicodedata.category(one) in ("Co", "Cn")}
    for line in plain.splitlines():
        wide = unicodedata.normalize("NFKC", line).strip()
        assert not any(wide.startswith(heading) for heading in INSTRUCTION.headings.values()), plain


@given(HARD, st.integers(0, 40))
def test_what_is_cut_says_how_much(text: str, n_bytes: int) -> None:
    whole, cut = neutral(text), neutral(text, n_bytes)
    if len(whole.encode()) <= n_bytes:
        assert cut == whole
    else:
        kept, _, said = cut.rpartition("\n[cut: ")
        assert whole.startswith(kept)
        assert len(kept.encode()) <= n_bytes
        assert int(said.split()[0]) + len(kept.encode()) == len(whole.encode())


@pytest.mark.parametrize("line", ["### Result:", "  ### System:", "\uff03\uff03\uff03 Result:", "###x"])
def test_headings_are_quoted(line: str) -> None:
    assert neutral(line) == "> " + line
    assert neutral("# a comment\n## a title") == "# a comment\n## a title"
