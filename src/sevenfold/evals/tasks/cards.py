"""Define protocol cards, and the items that a card makes from a set.

A card contains everything that decides a score besides the model. The root of a task binds the
card, the digest of the data, and the prompt and choices of each item.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from sevenfold.core.hashing import Json, canonical_json, digest, digest_of, sha256
from sevenfold.evals.tasks.data import sets

KINDS = ("generate", "choice", "text")


@dataclass(frozen=True, kw_only=True)
class Card:
    """One protocol."""

    name: str
    set: str
    protocol: str
    kind: str
    build: str
    stops: tuple[str, ...] = ()
    max_tokens: int = 0
    extract: tuple[str, ...] = ()
    grade: str = ""
    metrics: tuple[str, ...] = ()

    def facts(self) -> dict[str, Json]:
        """Return the card as JSON, without its name."""
        return {
            "set": self.set,
            "protocol": self.protocol,
            "kind": self.kind,
            "build": self.build,
            "stops": list(self.stops),
            "max_tokens": self.max_tokens,
            "extract": list(self.extract),
            "grade": self.grade,
            "metrics": list(self.metrics),
        }


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question. `choices` are continuations that are scored, and `target` is the input of the
    grader.

    `suffix` and `order` belong to fill-in-middle. `suffix` follows the answer. `order` is the order
        of prefix, suffix and middle (PSM or SPM), or "" for another prompt. The card contains the
        order and the target contains the suffix, so the root binds both.

    `texts`, `program` and `beginning` are searched in a corpus (`leaks`): parts of texts, functions
        up to their names, and the complete beginning of a document. An item `is_of_corpus` if a
        document must have this beginning. They follow from the data, whose digest is in the root,
        so the root of a task does not contain them.
    """

    id: str
    prompt: str
    choices: tuple[str, ...] = ()
    target: Mapping[str, Json] = field(default_factory=dict)
    suffix: str = ""
    order: str = ""
    texts: tuple[str, ...] = ()
    program: str = ""
    beginning: str = ""
    is_of_corpus: bool = False


@dataclass(frozen=True, kw_only=True)
class Task:
    """A card with its items and the root that binds them."""

    card: Card
    items: tuple[Item, ...]
    n_in_set: int
    root: str


@cache
def cards() -> dict[str, Card]:
    """Return the table of cards, by name."""
    table = tomllib.loads(files(__package__).joinpath("cards.toml").read_text(encoding="utf-8"))
    return {name: _card(name, row) for name, row in table["card"].items()}


def _card(name: str, row: Mapping[str, Json]) -> Card:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
    }
    return Card(**{"name": name, **values})


def task_root(card: Card, items: Sequence[Item]) -> str:
    """Return the digest of a card, of the digest of its data, and of every item."""
    parts: list[bytes | str] = [
        canonical_json(card.facts()),
        sets()[card.set].digest if card.set in sets() else card.set,
    ]
    for item in items:
        row = [item.id, sha256(item.prompt.encode()).hex(), list(item.choices)]
        parts.append(canonical_json(row) + canonical_json(dict(item.target)))
    return digest_of("sevenfold/eval-task/1", parts)


def run_key(model_root: str, task: str, law: Json) -> str:
    """Return the key of the outputs of a run, from model root, task root and decoding law."""
    return digest("sevenfold/eval-key/1", model_root, task, canonical_json(law))
