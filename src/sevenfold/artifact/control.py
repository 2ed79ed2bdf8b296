"""The CM-1 gate: a total state machine over bytes that decides whether inference may run
(specs/control.md). CM-1 is part of the format: the DICT and the rules of a file assume it.

    START -SOH-> HEADER -STX-> BODY -ETX-> CLOSED -EOT-> ENDED          anything else -> REFUSED
                               BODY -SO-> SHIFTED -SI-> BODY            to a set depth, balanced
                   BODY, SHIFTED -DLE-> LITERAL -one of the seven-> back

The gate is open only in BODY and SHIFTED. A control character without an arrow from the state refuses
the call, and the gate then stays shut. TAB, LF and CR are text. Every other control character
(category Cc: C0, DEL, C1) is not.
Invariant: `visible_text(stream.decode()) == header + visible_text(body)`. Cost: one pass, O(bytes).
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from sevenfold.artifact import layout
from sevenfold.core.errors import GateError

# fmt: off
_NAMES = (
    "NUL", "SOH", "STX", "ETX", "EOT", "ENQ", "ACK", "BEL", "BS", "TAB", "LF", "VT", "FF", "CR", "SO", "SI",
    "DLE", "DC1", "DC2", "DC3", "DC4", "NAK", "SYN", "ETB", "CAN", "EM", "SUB", "ESC", "FS", "GS", "RS", "US",
)
# fmt: on
_FRAMING = (layout.SOH, layout.STX, layout.ETX, layout.EOT, layout.SO, layout.SI, layout.DLE)
_REFUSED = [code for code in (*range(0x20), 0x7F) if code not in layout.TEXT_CONTROLS]
_CONTROL_BYTE = re.compile(b"[" + b"".join(rb"\x%02x" % code for code in _REFUSED) + b"]")
_ANY_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_CONTROL_CHARACTER = re.compile(
    "[" + "".join(f"\\x{code:02x}" for code in (*_REFUSED, *range(0x80, 0xA0))) + "]"
)
REMEDY = "remove the character from the prompt; of the control characters only TAB, LF and CR are text"
FRAME_REMEDY = "send SOH header STX body ETX EOT"


class State(Enum):
    """State of the gate."""

    START = "start"
    HEADER = "header"
    BODY = "body"
    SHIFTED = "shifted"
    LITERAL = "literal"
    CLOSED = "closed"
    ENDED = "ended"
    REFUSED = "refused"


# A transition to BODY goes to SHIFTED while a span is open.
_ARROWS: dict[tuple[State, int], State] = {
    (State.START, layout.SOH): State.HEADER,
    (State.HEADER, layout.STX): State.BODY,
    (State.BODY, layout.SO): State.SHIFTED,
    (State.BODY, layout.DLE): State.LITERAL,
    (State.BODY, layout.ETX): State.CLOSED,
    (State.SHIFTED, layout.SO): State.SHIFTED,
    (State.SHIFTED, layout.SI): State.BODY,
    (State.SHIFTED, layout.DLE): State.LITERAL,
    **{(State.LITERAL, code): State.BODY for code in _FRAMING},
    (State.CLOSED, layout.EOT): State.ENDED,
}
_EXPECTED = {
    State.START: "SOH opens a frame",
    State.HEADER: "STX ends the header",
    State.BODY: "ETX ends the body",
    State.SHIFTED: "SI closes the span that SO opened",
    State.LITERAL: "DLE makes SOH, STX, ETX, EOT, SO, SI or DLE text",
    State.CLOSED: "EOT ends the frame",
    State.ENDED: "nothing follows EOT",
    State.REFUSED: "the gate stays shut",
}
_CAPS = {State.HEADER: layout.MAX_HEADER_BYTES, State.BODY: layout.MAX_BODY_BYTES}


@dataclass(frozen=True)
class Frame:
    """Contents of one frame: the header line, and the body without SO and SI, with its literals."""

    header: str
    body: str


def character_name(code: int) -> str:
    """Return the name of a control character in messages, such as `BS (U+0008)`."""
    if code < len(_NAMES):
        name = _NAMES[code]
    else:
        name = "DEL" if code == 0x7F else "a C1 control"
    return f"{name} (U+{code:04X})"


def check_text(text: str, what: str = "prompt", *, line: bool = False) -> None:
    """Refuse control characters that are not text, and characters that UTF-8 cannot encode.

    Args:
        text: the text to be framed.
        what: the name of the text in messages.
        line: whether TAB, LF and CR are refused as well.

    Raises:
        GateError: names the character and its offset in characters, from 0.
    """
    found = (_ANY_CONTROL if line else _CONTROL_CHARACTER).search(text)
    if found:
        raise GateError(
            f"control character {character_name(ord(found.group()))} at offset {found.start()}",
            where=what,
            remedy=REMEDY,
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise GateError(
            f"character U+{ord(text[error.start]):04X} at offset {error.start} has no UTF-8 form",
            where=what,
            remedy="remove the character",
        ) from error


def visible_text(text: str) -> str:
    """Return the text without control characters. TAB, LF and CR are text and stay."""
    return _CONTROL_CHARACTER.sub("", text)


def frame(prompt: str, header: str = "") -> bytes:
    """Return SOH header STX prompt ETX EOT, as UTF-8.

    Args:
        prompt: any text without control characters but TAB, LF, CR; at most 16 MiB.
        header: one line without any control character; at most 1024 bytes.

    Raises:
        GateError: names the character, its offset and the remedy.
    """
    return _opening(prompt, header) + bytes((layout.ETX, layout.EOT))


def _opening(prompt: str, header: str) -> bytes:
    check_text(prompt)
    check_text(header, "header", line=True)
    head, body = header.encode(), prompt.encode()
    _check_size(State.HEADER, len(head))
    _check_size(State.BODY, len(body))
    return bytes((layout.SOH,)) + head + bytes((layout.STX,)) + body


def _check_size(state: State, n_bytes: int) -> None:
    if n_bytes > _CAPS[state]:
        raise GateError(
            f"the {state.value} has {n_bytes} bytes, the gate takes {_CAPS[state]}",
            where="CM-1 stream",
            remedy="shorten it",
        )


def parse(stream: bytes) -> Frame:
    """Read exactly one frame. Any other bytes are refused.

    Raises:
        GateError: names the character and the byte offset, or says where the stream ends too early.
    """
    gate = Gate()
    gate.feed(stream)
    if gate.state is not State.ENDED:
        raise GateError(
            f"the stream ends at offset {len(stream)} in state {gate.state.value}: {_EXPECTED[gate.state]}",
            where="CM-1 stream",
            remedy=FRAME_REMEDY,
        )
    return Frame(gate.header, gate.body)


class Gate:
    """The state machine of the gate. It takes a stream in pieces.

    The gate starts closed. It is open between STX and ETX, except between DLE and the character
    after it. It never opens twice. After a refusal every later call is refused as well (fail
    closed).
    """

    def __init__(self) -> None:
        self.state = State.START
        # Bytes read so far.
        self.offset = 0
        # Number of open spans.
        self.depth = 0
        self._text = {State.HEADER: io.StringIO(), State.BODY: io.StringIO()}
        self._n_bytes = {State.HEADER: 0, State.BODY: 0}
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")

    @property
    def is_open(self) -> bool:
        """Return whether an inference call may run in this state."""
        return self.state in (State.BODY, State.SHIFTED)

    @property
    def header(self) -> str:
        """Return the header bytes read so far, as text."""
        return self._text[State.HEADER].getvalue()

    @property
    def body(self) -> str:
        """Return the body bytes read so far, as text."""
        return self._text[State.BODY].getvalue()

    def require_open(self, call: str = "an inference call") -> None:
        """Refuse a call outside the open gate. Raises GateError."""
        if not self.is_open:
            raise GateError(
                f"{call} outside STX..ETX (the gate is in state {self.state.value})",
                where="CM-1 gate",
                remedy="open the gate with SOH header STX first, and call before ETX",
            )

    def feed(self, data: bytes) -> None:
        """Read the next bytes of the stream.

        Raises:
            GateError: the bytes do not continue a frame. The gate stays in REFUSED from then on.
        """
        try:
            self._feed(data)
        except GateError:
            self.state = State.REFUSED
            raise

    @contextmanager
    def call(self, prompt: str, header: str = "") -> Iterator[str]:
        """Feed SOH, header, STX and prompt, yield the body while the gate is open, then feed ETX
        EOT.

        Raises:
            GateError: the prompt is refused, or this gate was used before.
        """
        self.feed(_opening(prompt, header))
        try:
            yield self.body
        finally:
            if self.is_open:
                self.feed(bytes((layout.ETX, layout.EOT)))

    def _feed(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            found = _CONTROL_BYTE.search(data, position)
            end = found.start() if found else len(data)
            if end > position:
                self._take_text(data[position:end])
            if found is None:
                return
            self._take_control(data[end])
            position = end + 1

    def _take_control(self, code: int) -> None:
        following = _ARROWS.get((self.state, code))
        expected = _EXPECTED[self.state]
        if following is State.SHIFTED and self.depth == layout.SHIFT_DEPTH:
            following, expected = None, f"spans are nested to {layout.SHIFT_DEPTH} at most"
        if following is None:
            raise GateError(
                f"control character {character_name(code)} at offset {self.offset}; {expected}",
                where="CM-1 stream",
                remedy=FRAME_REMEDY if code in _FRAMING else REMEDY,
            )
        self._finish_text()
        if self.state is State.LITERAL:
            self._keep(State.BODY, chr(code), 1)
        elif code in (layout.SO, layout.SI):
            self.depth += 1 if code == layout.SO else -1
        self.state = State.SHIFTED if following is State.BODY and self.depth else following
        self.offset += 1

    @property
    def _region(self) -> State:
        """Return the buffer that takes the text of this state."""
        return State.BODY if self.state is State.SHIFTED else self.state

    def _keep(self, region: State, text: str, n_bytes: int) -> None:
        self._n_bytes[region] += n_bytes
        _check_size(region, self._n_bytes[region])
        self._text[region].write(text)

    def _take_text(self, raw: bytes) -> None:
        region = self._region
        if region not in self._text:
            raise GateError(
                f"text at offset {self.offset}; {_EXPECTED[self.state]}",
                where="CM-1 stream",
                remedy=FRAME_REMEDY,
            )
        # Bytes of a character that began in an earlier piece.
        held = len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(raw)
        except UnicodeDecodeError as error:
            raise self._not_utf8(self.offset - held + error.start) from error
        self._check_characters(text, self.offset - held)
        self._keep(region, text, len(raw))
        self.offset += len(raw)

    def _finish_text(self) -> None:
        held = len(self._decoder.getstate()[0])
        if held:
            raise self._not_utf8(self.offset - held)

    def _check_characters(self, text: str, offset: int) -> None:
        # Control characters that are refused here: C1 (two bytes each in UTF-8) and, in the header,
        # white space.
        pattern = _ANY_CONTROL if self.state is State.HEADER else _CONTROL_CHARACTER
        found = pattern.search(text)
        if found:
            at = offset + len(text[: found.start()].encode())
            raise GateError(
                f"control character {character_name(ord(found.group()))} at offset {at}",
                where="CM-1 stream",
                remedy=REMEDY,
            )

    @staticmethod
    def _not_utf8(offset: int) -> GateError:
        return GateError(
            f"the bytes at offset {offset} are not UTF-8", where="CM-1 stream", remedy="send UTF-8"
        )
