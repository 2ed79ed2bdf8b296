"""The base of every recipe section, and the types that more than one file of the schema uses."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from sevenfold.recipe.units import Unit

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
MOST = 1 << 53  # every JSON reader holds integers up to here exactly
Positive = Annotated[int, Field(gt=0, le=MOST)]
FilePath = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
Root = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Ratio = Annotated[float, Field(ge=0.0, le=1.0), Unit.RATIO]
Tokens = Annotated[int, Field(gt=0, le=MOST), Unit.TOKENS]
Bytes = Annotated[int, Field(gt=0, le=MOST), Unit.BYTES]


def is_none(value: object) -> bool:
    """Return whether a key is not set.

    A key that a later version added is left out of the digest where it is not set, so the digest
    of an older recipe does not change.
    """
    return value is None


def is_zero(value: object) -> bool:
    """Return whether a number is 0. Such a key is left out of the digest."""
    return value == 0


class Section(BaseModel):
    """Base of every part of a recipe: no unknown keys, no coercion, no mutation."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, serialize_by_alias=True
    )


def keys_of(section: type[Section]) -> dict[str, FieldInfo]:
    """Return the fields of a section by their key in a recipe. The key of `origin` is `from`, which
    is a reserved word of Python.
    """
    return {field.alias or name: field for name, field in section.model_fields.items()}
