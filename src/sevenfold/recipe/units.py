"""Convert quantities as people write them ("4.9M tokens", "40 GiB", "2 %") to exact numbers in one
base unit for each field.

A field that carries a `Unit` accepts a plain number in the base unit, or text with one of the
spellings of the unit. The error about another unit names those that are allowed. Arithmetic is
decimal, so 4.9M is 4900000 and never 4899999.
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import Enum

from sevenfold.core.errors import RecipeError

_METRIC = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_FLOPS = {"GFLOP/s": 10**9, "TFLOP/s": 10**12, "PFLOP/s": 10**15}


class Unit(Enum):
    """The unit of a field. The value is (base unit, an example, spelling -> multiplier)."""

    TOKENS = ("tokens", "4.9M tokens", {f"{prefix} tokens".strip(): n for prefix, n in _METRIC.items()})
    BYTES = ("bytes", "40 GB", {"bytes": 1, **_BYTES})
    RATIO = ("a share: 1 is the whole", "2 %", {"%": Decimal("0.01")})
    MONEY = ("USD per GPU-hour", "2.5 USD/h", {"USD/h": 1})
    FLOPS = ("FLOP/s", "312 TFLOP/s", {"FLOP/s": 1, **_FLOPS})

    @property
    def base(self) -> str:
        """Return the unit of a plain number."""
        return str(self.value[0])

    @property
    def example(self) -> str:
        """Return one allowed text."""
        return str(self.value[1])

    @property
    def spellings(self) -> dict[str, Decimal | int]:
        """Return the allowed spelling -> multiplier to the base unit."""
        return dict(self.value[2])


class QuantityError(RecipeError):
    """Text that is not a quantity of the unit. The message says what is allowed."""


_TEXT = re.compile(r"([-+]?[0-9]{1,30}(?:\.[0-9]{1,30})?)\s*(\S.*)?")


def parse_quantity(text: str, unit: Unit) -> int | float:
    """Return the number in `text`, in the base unit: an int when it is whole, else a float.

    Raises:
        QuantityError: the text has no number, no unit, or a unit of another kind.
    """
    spellings = unit.spellings
    units = ", ".join(spellings)
    allowed = f"allowed: a number ({unit.base}), or text such as '{unit.example}' with one of {units}"
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise QuantityError(f"is not a quantity; {allowed}")
    number, spelling = Decimal(match[1]), " ".join((match[2] or "").split())
    if not spelling:
        raise QuantityError(f"is text without a unit; {allowed}")
    if spelling not in spellings:
        raise QuantityError(f"unit {spelling!r} is not allowed here; {allowed}")
    value = number * spellings[spelling]
    return int(value) if value == value.to_integral_value() else float(value)
