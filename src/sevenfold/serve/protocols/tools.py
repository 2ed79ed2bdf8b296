"""Tool calls of a chat. A grammar forces them, so that they always match the schema of the tool.

A client that names a tool, or requires a call, gets a call. When the choice is left to the model,
the answer is text, and `warnings` says so, because none of our models is trained to choose.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from sevenfold.serve.errors import RequestError
from sevenfold.serve.protocols.fields import Fields
from sevenfold.tokenizer.chat.calls import CallError, call_schema, parse_calls

MAX_TOOLS = 64


def _read(tool: Any, place: int) -> tuple[str, dict[str, Any]]:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    schema = function.get("parameters", {"type": "object"}) if isinstance(function, dict) else None
    if not isinstance(name, str) or not 1 <= len(name) <= 64 or not isinstance(schema, dict):
        raise RequestError(
            "it is not a function with a name and parameters",
            where=f"tools[{place}]",
            remedy="send type function",
        )
    return name, schema


def schema_of_call(fields: Fields, off: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return the JSON schema of the forced call; None when the answer is text.

    Args:
        off: the names of tools that an operator switched off.

    Raises:
        RequestError: a tool or a choice does not have OpenAI's form.
    """
    tools, choice = fields.get("tools"), fields.get("tool_choice")
    if not isinstance(choice, str | dict | None):
        raise RequestError(f"{choice!r:.80} names no tool", where="tool_choice", remedy="name one of tools")
    if tools in (None, []) or choice == "none":
        return None
    if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
        raise RequestError(f"it is not a list of at most {MAX_TOOLS} tools", where="tools")
    read = dict(_read(tool, place) for place, tool in enumerate(tools))
    for name in sorted(read.keys() & {*off}):
        del read[name]
        fields.warn(f"the tool {name!r} is switched off on this server")
    if not read:
        return None
    if choice in (None, "auto"):
        fields.warn("tools were offered, and the answer is text: set tool_choice to force a call")
        return None
    if choice != "required":
        named = choice.get("function", {}).get("name") if isinstance(choice, dict) else None
        if named not in read:
            raise RequestError(
                f"{choice!r:.80} names no tool", where="tool_choice", remedy="name one of tools"
            )
        read = {named: read[named]}
    calls = [call_schema(name, schema) for name, schema in read.items()]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def call_of(text: str) -> list[dict[str, Any]] | None:
    """Return `tool_calls` of an answer; None when the answer ended before the call was complete."""
    try:
        (call,) = parse_calls(text)
    except (CallError, ValueError):
        return None
    arguments = json.dumps(call.arguments, separators=(",", ":"))
    function = {"name": call.name, "arguments": arguments}
    return [{"index": 0, "id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}]
