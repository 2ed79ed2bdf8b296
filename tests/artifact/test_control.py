"""CM-1: the parser is total, the gate is open between STX and ETX only, and
forbidden characters are named.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import control_oracle as oracle
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sevenfold.artifact import Frame, Gate, frame, layout, parse, visible_text
from sevenfold.artifact.control import State, character_name, check_text
from sevenfold.core.errors import GateError

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
    with pytest.raises(GateError, match=r"offset [456]"):
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
    "SI without SO": (b"\x01\x02a\x0f\x03\x04", r"SI \(U\+000F\) at offset 3; ETX ends"),
    "SO without SI": (b"\x01\x02\x0ea\x03\x04", "ETX .* offset 4; SI closes"),
    "SO in the header": (b"\x01\x0e\x02\x03\x04", "SO .* offset 1; STX ends"),
    "spans too deep": (b"\x01\x02" + b"\x0e" * 16, "SO .* offset 17; spans are nested to 15"),
    "a literal BS": (b"\x01\x02\x10\x08\x03\x04", "BS .* offset 3; DLE makes"),
    "a literal letter": (b"\x01\x02\x10a\x03\x04", "text at offset 3; DLE makes"),
    "a literal in the header": (b"\x01\x10\x02\x02\x03\x04", "DLE .* offset 1; STX ends"),
    "DLE at the end": (b"\x01\x02\x10", "ends at offset 3 in state literal"),
    "ETX that was made text": (b"\x01\x02a\x10\x03\x04", "EOT .* offset 5; ETX ends"),
    "UTF-8 cut by SO": (b"\x01\x02\xc3\x0e", "offset 2 are not UTF-8"),
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


BYTES = [bytes((code,)) for code in range(0x20)] + [
    b"a",
    b"\x7f",
    b"\xc2\x9b",
    b"\xe2\x82\xac",
    b"\xe2",
    b"\xff",
]
FRAMING = "\x01\x02\x03\x04\x0e\x0f\x10"


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, str]:
    """(bytes between STX and ETX, the text they carry): text, literals and balanced spans."""
    literal = st.sampled_from(FRAMING).map(lambda c: (b"\x10" + c.encode(), c))
    piece = st.recursive(
        text.map(lambda t: (t.encode(), t)) | literal,
        lambda inner: st.lists(inner, max_size=3).map(
            lambda ps: (b"\x0e" + b"".join(p[0] for p in ps) + b"\x0f", "".join(p[1] for p in ps))
        ),
        max_leaves=6,
    )
    pieces = draw(st.lists(piece, max_size=4))
    return b"".join(p[0] for p in pieces), "".join(p[1] for p in pieces)


# Streams that are frames, nearly frames, and anything: the machine has an answer to all.
frames = st.builds(
    lambda head, body: b"\x01" + head.encode() + b"\x02" + body[0] + b"\x03\x04", line, bodies()
)
nearly = st.builds(
    lambda stream, at, byte: stream[: at % len(stream)] + byte + stream[at % len(stream) + 1 :],
    frames,
    st.integers(0, 1000),
    st.sampled_from(BYTES),
)
inside = st.lists(st.sampled_from(BYTES), max_size=12).map(lambda parts: b"\x01\x02" + b"".join(parts))
streams = st.one_of(st.binary(max_size=60), inside, nearly, frames)


def parsed(stream: bytes) -> Frame | None:
    """What the parser says of a stream. Any exception but GateError escapes, and fails the test."""
    try:
        return parse(stream)
    except GateError:
        return None


@given(streams)
@example(b"\x01" + b"h" * 1025 + b"\x02\x03\x04")
@example(b"\x01\x02" + b"\x0e" * 15 + b"\x0f" * 15 + b"\x03\x04")
@example(b"\x01\x02" + b"\x0e" * 16 + b"\x0f" * 16 + b"\x03\x04")
def test_parser_is_total_and_says_what_the_page_says(stream: bytes) -> None:
    machine = oracle.run(stream)
    assert machine.state in ("accept", "refused")
    expected = Frame(machine.header, machine.body) if machine.state == "accept" else None
    assert parsed(stream) == expected


@given(streams)
def test_the_gate_is_open_where_the_page_says(stream: bytes) -> None:
    gate, machine = Gate(), oracle.Machine()
    for class_, character in oracle.characters(stream)[:-1]:
        machine.take(class_, character)
        try:
            gate.feed(character.encode())
        except GateError:
            assert machine.state == "refused"
        assert (gate.state.value, gate.is_open) == (machine.state, machine.is_open)
        if machine.state != "refused":
            assert (gate.header, gate.body, gate.depth) == (machine.header, machine.body, machine.depth)


@given(line, bodies())
def test_spans_and_literals_round_trip_and_leave_the_visible_text(
    header: str, body: tuple[bytes, str]
) -> None:
    stream = b"\x01" + header.encode() + b"\x02" + body[0] + b"\x03\x04"
    assert parse(stream) == Frame(header, body[1])
    assert visible_text(stream.decode()) == header + visible_text(body[1])


@given(st.text(max_size=60))
def test_visible_text_taken_again_is_the_same(any_text: str) -> None:
    once = visible_text(any_text)
    assert visible_text(once) == once
    assert not (set(once) & (set(CONTROLS) - ALLOWED))
    assert [c for c in any_text if c in once or c not in CONTROLS] == list(once)


@given(frames)
def test_what_a_frame_carries_is_balanced_and_holds_no_forbidden_character(stream: bytes) -> None:
    found = parse(stream)
    gate = Gate()
    gate.feed(stream[:-2])  # all but ETX EOT
    assert (gate.depth, gate.is_open) == (0, True)
    assert not (set(found.header + found.body) & (set(CONTROLS) - ALLOWED - set(FRAMING)))


@pytest.mark.parametrize("character", FRAMING, ids=lambda c: f"{ord(c):02x}")
def test_a_prompt_does_not_speak_the_protocol(character: str) -> None:
    for prompt in (f"a{character}b", f"\x10{character}", "\x0ea\x0f"):
        with pytest.raises(GateError, match="remove the character"):
            frame(prompt)


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


def test_the_table_of_the_page_is_complete_and_is_the_machine() -> None:
    assert [state.value for state in State] == oracle.STATES
    assert oracle._HEAD[1:] == [*oracle.CLASSES, "gate"]
    entered = {
        "start": b"",
        "header": b"\x01h",
        "body": b"\x01\x02",
        "shifted": b"\x01\x02\x0e",
        "closed": b"\x01\x02\x03",
    }
    entered |= {"literal": b"\x01\x02\x10", "ended": b"\x01\x02\x03\x04", "refused": b""}
    sample = {
        c: [ch.encode() for ch in map(chr, range(0x100)) if oracle.class_of(ch) == c] for c in oracle.CLASSES
    }
    sample["malformed"] = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"]
    settled = {"down": "shifted", "up": "body", "back": "body", "-": "refused"}
    for state in oracle.STATES:
        for class_ in set(oracle.CLASSES) - {"end"}:
            for piece in sample[class_]:
                gate = Gate()
                gate.feed(entered[state])
                if state == "refused":
                    gate.state = State.REFUSED
                cell = oracle.CELLS[state, class_]
                if cell == "-":
                    with pytest.raises(GateError):
                        gate.feed(piece)
                else:
                    gate.feed(piece)
                assert gate.state.value == settled.get(cell, cell), (state, class_, piece)
        accepted = parsed(entered[state]) is not None
        assert accepted is (oracle.CELLS[state, "end"] == "accept")


def test_check_text_says_what_it_is_about() -> None:
    with pytest.raises(GateError, match="golden prompt"):
        check_text("\x1b", "golden prompt")
