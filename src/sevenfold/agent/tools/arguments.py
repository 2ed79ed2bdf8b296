"""The arguments of each tool, as data: a JSON schema for grammars, and the check before a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sevenfold.core.hashing import Json
from sevenfold.tokenizer.chat.calls import hidden_characters


@dataclass(frozen=True, kw_only=True)
class ArgumentRule:
    """One argument: a text of 1 to `most` characters, one of `choices`, or an integer 1 to `most`."""

    kind: str
    most: int = 0
    choices: tuple[str, ...] = ()
    is_needed: bool = True

    def schema(self) -> dict[str, Any]:
        """Return it as a JSON schema."""
        if self.choices:
            return {"enum": list(self.choices)}
        if self.kind == "integer":
            return {"type": "integer", "minimum": 1, "maximum": self.most}
        return {"type": "string", "minLength": 1, "maxLength": self.most}

    def fault(self, value: Json) -> str:
        """Return what is wrong with a value; "" when nothing is."""
        if self.kind == "integer":
            is_good = type(value) is int and 1 <= value <= self.most
            return "" if is_good else f"it is no integer 1 to {self.most}"
        if not isinstance(value, str):
            return "it is no text"
        if self.choices:
            return "" if value in self.choices else f"use {', '.join(self.choices)}"
        if not 1 <= len(value) <= self.most:
            return f"{len(value)} characters; 1 to {self.most}"
        if hidden := hidden_characters(value):
            return f"it holds U+{ord(min(hidden)):04X}, which nobody sees"
        return ""


def arguments_schema(rules: Mapping[str, ArgumentRule]) -> dict[str, Any]:
    """Return the JSON schema of an object of arguments."""
    return {
        "type": "object",
        "properties": {name: rule.schema() for name, rule in rules.items()},
        "required": [name for name, rule in rules.items() if rule.is_needed],
        "additionalProperties": False,
    }


def fault_of(rules: Mapping[str, ArgumentRule], arguments: Mapping[str, Json]) -> str:
    """Return the first fault of the arguments of a call, by name; "" when there is none."""
    for name in arguments:
        if name not in rules:
            return f"no argument {name!a:.80}; use {', '.join(rules)}"
    for name, rule in rules.items():
        if name not in arguments:
            if rule.is_needed:
                return f"{name} is missing"
        elif fault := rule.fault(arguments[name]):
            return f"{name}: {fault}"
    return ""
