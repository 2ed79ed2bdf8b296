"""Read the fields of a request. Each value is checked, and fields that nothing reads are named in
`warnings`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sevenfold.serve.errors import RequestError

# Fields that clients send and that change no answer here. They give no warning.
HARMLESS = frozenset(
    ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "id_slot",
     "cache_prompt", "lora", "parallel_tool_calls", "timings_per_token", "best_of", "samplers")
)  # fmt: skip


class Fields:
    """The fields of one object. Reading a field marks it as known."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self._taken: set[str] = set()
        self.warnings: list[str] = []

    def get(self, name: str) -> Any:
        """Return the value of a field; None when it is missing or null."""
        self._taken.add(name)
        return self.values.get(name)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number in [low, high]. Raises RequestError."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise RequestError(f"{value!r:.80} is not a whole number", where=name, remedy="send an integer")
        if not low <= value <= high:
            raise RequestError(
                f"{value} is outside {low} to {high}", where=name, remedy="send a number inside"
            )
        return value

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a number in [low, high]. Raises RequestError."""
        value = self.get(name)
        if value is None:
            return default
        if type(value) not in (int, float):
            raise RequestError(f"{value!r:.80} is no number", where=name, remedy="send a number")
        if not low <= value <= high:
            raise RequestError(
                f"{value} is outside {low} to {high}", where=name, remedy="send a number inside"
            )
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean. Raises RequestError."""
        value = self.get(name)
        if value is None:
            return default
        if type(value) is not bool:
            raise RequestError(f"{value!r:.80} is no boolean", where=name, remedy="send true or false")
        return value

    def text(self, name: str, default: str = "") -> str:
        """Return a text. Raises RequestError."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise RequestError(f"{value!r:.80} is no text", where=name, remedy="send a string")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object; an empty one when it is missing. Raises RequestError."""
        value = self.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise RequestError(f"{value!r:.80} is no object", where=name, remedy="send an object")
        return value

    def texts(self, name: str) -> list[str] | None:
        """Return a list of strings; None when it is missing. Raises RequestError."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise RequestError(f"{value!r:.80} is no list of strings", where=name, remedy="send strings")
        return value

    def warn(self, text: str) -> None:
        """Add a warning to the answer that something was not done as requested."""
        self.warnings.append(text)

    def leave(self, names: Iterable[str]) -> None:
        """Mark fields as known that nothing reads."""
        self._taken.update(names)

    def said(self) -> list[str]:
        """Return all warnings, including those about unknown fields."""
        unknown = sorted(self.values.keys() - self._taken - HARMLESS)
        return [
            *self.warnings,
            *(f"the field {name!r:.80} is unknown and was ignored" for name in unknown),
        ]
