"""Store the items of a family in the user's cache. Making them takes minutes, because programs are
executed.

A file ends with the digest of its items, and the root of the task checks them again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from sevenfold.core.files import write_bytes
from sevenfold.core.hashing import canonical_json, digest, sha256
from sevenfold.evals.band.items import ITEMS_PER_ROW, SEED
from sevenfold.evals.tasks.cards import Item
from sevenfold.synthetic.table import made_with

# The version of the items. Raise it when they change.
VERSION = 1
_END = "sha256"
_FIELDS = ("id", "prompt", "target", "program", "beginning", "is_of_corpus")


def line_of(item: Item) -> bytes:
    """Return an item as a line of a file."""
    return canonical_json({name: getattr(item, name) for name in _FIELDS}) + b"\n"


def kept_items(family: str, n_per_row: int, make: Callable[[], list[Item]]) -> list[Item]:
    """Return the first items of each row of a family from the user's cache. When they are not
    there, make and store them.

    The items of a smaller number are the first ones of a larger number, so a stored larger set is
    used as well.

    Raises as `make`.
    """
    for n in dict.fromkeys((ITEMS_PER_ROW, n_per_row)):
        file = _file(family, n)
        if (found := _read(file)) is not None:
            return first_of_rows(found, n_per_row)
    found = make()
    body = b"".join(map(line_of, found))
    write_bytes(file, body + canonical_json({_END: sha256(body).hex()}) + b"\n")
    return found


def _file(family: str, n_per_row: int) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    asked = [family, n_per_row, SEED, VERSION]
    name = digest("sevenfold/band/1", made_with(), canonical_json(asked))
    return Path(root, "sevenfold", "band", f"{name}.jsonl")


def first_of_rows(items: Sequence[Item], n_per_row: int) -> list[Item]:
    """Return the items whose number in their row is below `n_per_row`."""
    return [item for item in items if int(item.id.rpartition("/")[2]) < n_per_row]


def _read(file: Path) -> list[Item] | None:
    try:
        *lines, end = file.read_bytes().splitlines(keepends=True)
        if json.loads(end) != {_END: sha256(b"".join(lines)).hex()}:
            return None
    except (OSError, ValueError):
        return None
    return [Item(**json.loads(line)) for line in lines]
