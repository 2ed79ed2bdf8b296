"""CM-1: the parser is total, the gate is open between STX and ETX only, and forbidden characters are named."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.artifact import Frame, Gate, control, frame, layout, parse, visible_text
from sevenfold.artifact.control import State, character_name, check_text
from sevenfold.core.errors import GateError, SevenfoldError

CONTROLS = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) == "Cc"]
ALLOWED = {"\t", "\n", "\r"}
text = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")) | st.sampled_from("\t\n\r"), max_size=40
)
line = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=40)


@given(text, line)
def test_round_trip_and_visible_text(prompt: str, header: str) -> None:
    stream = frame(prompt, header)
    assert parse(stream) == Frame(header, prompt)
    assert visible_text(stream.decode()) == header + prompt
    assert visible_text(prompt) == prompt


def test_bytes_of_a_frame() -> None:
    assert frame("def ", "v1") == b"\x01v1\x02def \x03\x04"
    assert frame("") == b"\x01\x02\x03\x04"


@pytest.mark.parametrize("character", sorted(set(CONTROLS) - ALLOWED), ids=lambda c: f"{ord(c):02x}")
def test_every_other_control_character_is_refused(character: str) -> None:
    name = character_name(ord(character))
    with pytest.raises(GateError) as caught:
        frame(f"ab{character}c")
    assert name in str(caught.value)
    assert "offset 2" in str(caught.value)
    assert "remove the character" in str(caught.value)
    raw = b"\x01\x02ab" + character.encode() + b"c\x03\x04"
    with pytest.raises(GateError, match=r"offset [45]"):
        parse(raw)
    assert visible_text(f"a{character}b") == "ab"


@pytest.mark.parametrize(
    ("character", "name"), [("\b", "BS"), ("\v", "VT"), ("\f", "FF"), ("\x18", "CAN"), ("\x1a", "SUB")]
)
def test_names(character: str, name: str) -> None:
    with pytest.raises(GateError, match=rf"{name} \(U\+00{ord(character):02X}\) at offset 0"):
        frame(character)


@pytest.mark.parametrize("character", sorted(ALLOWED))
def test_white_space_is_text_in_the_body_only(character: str) -> None:
    assert parse(frame(f"a{character}b")).body == f"a{character}b"
    with pytest.raises(GateError, match="header"):
        frame("a", f"x{character}")
    with pytest.raises(GateError, match="offset 2"):
        parse(b"\x01x" + character.encode() + b"\x02\x03\x04")


MALFORMED = {
    "nothing": (b"", "state start"),
    "no SOH": (b"\x02a\x03\x04", r"STX \(U\+0002\) at offset 0; SOH opens"),
    "text first": (b"a\x01\x02\x03\x04", "text at offset 0"),
    "SOH twice": (b"\x01\x01\x02\x03\x04", "offset 1; STX ends"),
    "no STX": (b"\x01abc\x03\x04", "ETX .* offset 4; STX ends"),
    "STX twice": (b"\x01\x02a\x02b\x03\x04", "STX .* offset 3"),
    "EOT before ETX": (b"\x01\x02a\x04", "EOT .* offset 3"),
    "no ETX": (b"\x01\x02a", "ends at offset 3 in state body"),
    "no EOT": (b"\x01\x02a\x03", "state closed"),
    "text after ETX": (b"\x01\x02a\x03b\x04", "text at offset 4"),
    "text after EOT": (b"\x01\x02a\x03\x04b", "text at offset 5"),
    "frame after EOT": (b"\x01\x02\x03\x04\x01\x02\x03\x04", "offset 4; nothing follows"),
    "not UTF-8": (b"\x01\x02a\xff\x03\x04", "offset 3 are not UTF-8"),
    "UTF-8 cut": (b"\x01\x02a\xe2\x82\x03\x04", "offset 3 are not UTF-8"),
    "UTF-8 too long": (b"\x01\x02\xc0\xaf\x03\x04", "offset 2 are not UTF-8"),
    "surrogate": (b"\x01\x02\xed\xa0\x80\x03\x04", "offset 2 are not UTF-8"),
    "header too long": (b"\x01" + b"h" * 1025 + b"\x02\x03\x04", "1025 bytes"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_streams_that_are_no_frame(name: str) -> None:
    stream, message = MALFORMED[name]
    with pytest.raises(GateError, match=message):
        parse(stream)


def test_sizes_are_bounded() -> None:
    with pytest.raises(GateError, match="body has"):
        frame("x" * (layout.MAX_BODY_BYTES + 1))
    with pytest.raises(GateError, match="header has"):
        frame("x", "h" * 1025)
    assert len(parse(frame("x" * layout.MAX_BODY_BYTES)).body) == layout.MAX_BODY_BYTES


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(GateError, match=r"U\+D800 at offset 1"):
        frame("a\ud800")


streams = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from([b"\x01", b"\x02", b"\x03", b"\x04", b"a", b"\xc2\x9b", b"\n", b"\x0e"])).map(
        b"".join
    ),
)


@given(streams)
def test_parser_is_total(stream: bytes) -> None:
    try:
        found = parse(stream)
    except SevenfoldError:
        return
    assert frame(found.body, found.header) == stream


@given(streams, st.lists(st.integers(0, 60), max_size=4))
def test_pieces_do_not_matter(stream: bytes, cuts: list[int]) -> None:
    def outcome(pieces: list[bytes]) -> tuple[str, str, str, int]:
        gate = Gate()
        try:
            for piece in pieces:
                gate.feed(piece)
        except GateError:
            return ("refused", "", "", 0)
        return (gate.state.value, gate.header, gate.body, gate.offset)

    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert outcome([stream]) == outcome([stream[a:b] for a, b in pairwise(edges)])


def test_offsets_over_pieces() -> None:
    gate = Gate()
    gate.feed(b"\x01\x02a\xc2")
    with pytest.raises(GateError, match=r"C1 control \(U\+009B\) at offset 3"):
        gate.feed(b"\x9b")


def test_the_gate_is_open_between_stx_and_etx_only() -> None:
    gate = Gate()
    for piece, is_open in (
        (b"", False),
        (b"\x01h", False),
        (b"\x02", True),
        (b"a", True),
        (b"\x03", False),
        (b"\x04", False),
    ):
        gate.feed(piece)
        assert gate.is_open is is_open
        if is_open:
            gate.require_open()
        else:
            with pytest.raises(GateError, match=r"outside STX\.\.ETX"):
                gate.require_open("a forward step")
    assert gate.state is State.ENDED


def test_a_refused_gate_stays_shut() -> None:
    gate = Gate()
    with pytest.raises(GateError):
        gate.feed(b"\x01\x02\x1a")
    for piece in (b"\x03", b"\x01\x02", b"a"):
        with pytest.raises(GateError):
            gate.feed(piece)
    with pytest.raises(GateError, match="refused"):
        gate.require_open()


def test_call_opens_the_gate_for_one_call() -> None:
    gate = Gate()
    with gate.call("def f():\n", "v1") as body:
        gate.require_open()
        assert (body, gate.header) == ("def f():\n", "v1")
    assert gate.state is State.ENDED
    with pytest.raises(GateError), gate.call("again"):
        pytest.fail("the gate opened twice")


def test_call_shuts_the_gate_when_the_caller_fails() -> None:
    gate = Gate()
    with pytest.raises(KeyError), gate.call("x"):
        raise KeyError
    assert not gate.is_open
    with pytest.raises(GateError), Gate().call("\b"):
        pytest.fail("the gate opened for BS")


def test_the_transition_table_is_the_four_arrows() -> None:
    assert len(control._ARROWS) == 4
    for state in State:
        for code in range(0x20):
            gate = Gate()
            gate.state = state
            allowed = (state, code) in control._ARROWS or (state is State.BODY and chr(code) in ALLOWED)
            if allowed:
                gate.feed(bytes((code,)))
            else:
                with pytest.raises(GateError):
                    gate.feed(bytes((code,)))


def test_check_text_says_what_it_is_about() -> None:
    with pytest.raises(GateError, match="golden prompt"):
        check_text("\x1b", "golden prompt")
