"""The one form of a tool call in an answer, and the neutral form of what goes back to the model
(specs/tools.md).

An answer is a call when it begins with `CALL_START`. Then all of it is calls, one on each line, and
what is not understood is refused as a whole. An answer that begins otherwise is text, whatever it
holds. Training, the server, `s7 chat` and the tools read calls with this module alone.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from typing import Any

from sevenfold.core.errors import SevenfoldError
from sevenfold.core.files import unique_keys
from sevenfold.core.hashing import Json

CALL_START = '{"name":"'
MAX_CALLS = 4
MAX_CALL_BYTES = 32 << 10
MAX_CALL_DEPTH = 16
MAX_NAME = 64
QUOTE = "> "


class CallError(SevenfoldError):
    """An answer that begins as a call and is none."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One call: the name of a tool, and its arguments by name."""

    name: str
    arguments: dict[str, Json]

    def text(self) -> str:
        """Return the call as it stands in an answer."""
        value = {"name": self.name, "arguments": self.arguments}
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def call_schema(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a call, from the schema of its arguments. Its keys are in order."""
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def is_call(answer: str) -> bool:
    """Return whether an answer is to be read as calls."""
    return answer.startswith(CALL_START)


def parse_calls(answer: str) -> tuple[ToolCall, ...]:
    """Return the calls of an answer, in order.

    Raises:
        CallError: it is not calls and nothing else; the cause is named.
    """
    if not is_call(answer):
        raise CallError(f"it does not begin with {CALL_START}", where="call")
    lines = answer.removesuffix("\n").split("\n")
    if len(lines) > MAX_CALLS:
        raise CallError(f"{len(lines)} calls at once", where="call", remedy=f"{MAX_CALLS} at most")
    return tuple(_parsed(line) for line in lines)


def _parsed(line: str) -> ToolCall:
    try:
        n_bytes = len(line.encode())
    except UnicodeEncodeError as error:
        raise CallError("it is no UTF-8", where="call") from error
    if n_bytes > MAX_CALL_BYTES:
        raise CallError(f"it has {n_bytes} bytes", where="call", remedy=f"{MAX_CALL_BYTES} at most")
    if not line.startswith(CALL_START) or line != line.rstrip():
        raise CallError("a line is no call", where="call", remedy="a call on each line, and nothing else")
    try:
        value = json.loads(line, object_pairs_hook=unique_keys, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise CallError("it is not one JSON object", where="call", remedy="see specs/tools.md") from error
    if list(value) != ["name", "arguments"]:
        raise CallError("its keys are not name and arguments", where="call", remedy="those two, in order")
    name, arguments = value["name"], value["arguments"]
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise CallError("its name is no text of 1 to 64 characters", where="call")
    if not isinstance(arguments, dict):
        raise CallError("its arguments are no object", where="call")
    _check_value(value, MAX_CALL_DEPTH)
    return ToolCall(name=name, arguments=arguments)


def _refused(text: str) -> Json:
    raise ValueError(f"{text} is no number of JSON")


def _check_value(value: Json, depth: int) -> None:
    """Refuse deep nesting, and escapes of half a character. Raises CallError."""
    if isinstance(value, dict | list):
        if depth == 0:
            raise CallError("it is nested too deeply", where="call", remedy=f"{MAX_CALL_DEPTH} at most")
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_value(item, depth - 1)
    elif isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise CallError("it holds half of a character", where="call")


def neutral(text: str, max_bytes: int | None = None) -> str:
    r"""Return a text that can stand in any turn: it forges no turn, and no gate refuses it.

    Line ends become `\n`. Control and format characters other than tab, and halves of characters,
    become U+FFFD. A line that looks like a heading gets `QUOTE` in front. What is past `max_bytes`
    of UTF-8 is cut, and a last line says how much that was.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    clean = "".join(map(_neutral_character, lines))
    quoted = "\n".join(QUOTE + line if _is_heading(line) else line for line in clean.split("\n"))
    data = quoted.encode()
    if max_bytes is None or len(data) <= max_bytes:
        return quoted
    kept = data[:max_bytes].decode("utf-8", "ignore")
    return f"{kept}\n[cut: {len(data) - len(kept.encode())} bytes more]"


def hidden_characters(text: str) -> set[str]:
    """Return the characters of a text that a reader does not see: controls but tab, CR and LF, format
    characters (such as those that change the direction), halves, private and unassigned ones.
    """
    kinds = ("Cc", "Cf", "Cs", "Co", "Cn")
    return {one for one in set(text) - {*"\n\t\r"} if unicodedata.category(one) in kinds}


def _neutral_character(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs"):
        return character
    return "\ufffd"


def _is_heading(line: str) -> bool:
    """Return whether a line reads as a heading, also in wide letters or behind blanks."""
    return unicodedata.normalize("NFKC", line).lstrip(" \t\ufffd\u00a0").startswith("###")
