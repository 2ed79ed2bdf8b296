"""Define which token ids begin, end and pad a text, where the files of an imported model decide it.

A vocabulary of this project needs no roles, because its names say them (`codec.BEGINNINGS`). An
import brings its own. They travel with the model: recipe (`tokenizer.roles`), sealed file (`tokens`
of the graph), run, and every export.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Token ids by their role.

    `begin` is put before a text (None: nothing is put there), and any of `ends` ends one. `bos` and
    `pad` are the tokens that the file calls by these names; they decide no answer.
    """

    begin: int | None
    bos: int | None
    ends: tuple[int, ...]
    pad: int | None

    @classmethod
    def read(cls, value: object) -> Roles:
        """Read the roles from JSON. Raises ValueError when it does not have the form of `as_json`."""
        if not isinstance(value, Mapping) or {*value} != {"begin", "bos", "ends", "pad"}:
            raise ValueError("roles of tokens are begin, bos, ends and pad")
        ends = value["ends"]
        if not isinstance(ends, list | tuple) or len(ends) > MAX_ENDS:
            raise ValueError(f"ends is a list of at most {MAX_ENDS} ids")
        singles = (value["begin"], value["bos"], value["pad"])
        if not all(_is_id(item) for item in ends) or not all(
            item is None or _is_id(item) for item in singles
        ):
            raise ValueError("a role is a token id, or null")
        return cls(begin=value["begin"], bos=value["bos"], ends=tuple(ends), pad=value["pad"])

    @classmethod
    def of(cls, written: Iterable[tuple[str, Any]] | None) -> Roles | None:
        """Return the roles in a recipe (`tokenizer.roles`); None where the names of the vocabulary
        say them.
        """
        return None if written is None else cls(**dict(written))

    def as_json(self) -> dict[str, Any]:
        """Return the roles as they are written in the recipe and in the graph."""
        return {"begin": self.begin, "bos": self.bos, "ends": list(self.ends), "pad": self.pad}

    @property
    def boundary(self) -> int | None:
        """Return the token between two documents: `begin`, else the first that ends a text, else
        `bos`, else None.
        """
        return next((i for i in (self.begin, *self.ends, self.bos) if i is not None), None)

    @property
    def largest(self) -> int:
        """Return the largest id, -1 when there is none."""
        return max([-1, *self.ends, *(i for i in (self.begin, self.bos, self.pad) if i is not None)])


MAX_ENDS = 64


def _is_id(value: object) -> bool:
    return type(value) is int and value >= 0
