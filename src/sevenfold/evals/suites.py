"""Read suites (files that name several cards), and make the task of a card from its items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sevenfold.core.errors import RecipeError, StorageError, UsageError
from sevenfold.core.files import read_bytes
from sevenfold.evals.band.draws import ROWS
from sevenfold.evals.band.items import ITEMS_PER_ROW, items_of
from sevenfold.evals.band.store import kept_items
from sevenfold.evals.tasks import texts
from sevenfold.evals.tasks.builders import BUILDERS
from sevenfold.evals.tasks.cards import Card, Item, Task, cards, task_root
from sevenfold.evals.tasks.data import read_set, sets
from sevenfold.evals.tasks.made import MADE
from sevenfold.recipe.shipped import SUITES, recipes_directory

# The name of the set of cards whose items are made by the generators of this project.
BAND = "band"
# The sets of cards whose items need nothing but this package.
MADE_SET = "made"


class Suite(BaseModel):
    """A file of recipes/suites: the cards, each with the number of its first items (null: all), and
    the roots of the tasks of whole cards.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    suite: Literal[1]
    name: str
    summary: str
    cards: dict[str, int | None]
    roots: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_cards(self) -> Suite:
        if unknown := [name for name in (*self.cards, *self.roots) if name not in cards()]:
            raise ValueError(f"no card {unknown[0]!r}")
        return self


@cache
def suites() -> dict[str, Suite]:
    """Return the suites that ship, by name. Raises RecipeError, StorageError."""
    found = {}
    for path in sorted((recipes_directory() / SUITES).glob("*.yaml")):
        try:
            found[path.stem] = Suite.model_validate(yaml.safe_load(read_bytes(path)))
        except (yaml.YAMLError, ValidationError, RecursionError, UnicodeDecodeError) as error:
            said = " ".join(str(error).split())[:300]
            raise RecipeError(
                f"not a suite: {said}", where=str(path), remedy="see specs/evaluation.md"
            ) from error
    return found


def resolve(names: Sequence[str]) -> list[tuple[Card, int | None]]:
    """Return the cards of suites, each with the number of its first items.

    Raises:
        UsageError: there is no such suite, or its data may not be redistributed.
    """
    found: list[tuple[Card, int | None]] = []
    for name in names:
        if name in suites():
            found += [(cards()[card], n) for card, n in suites()[name].cards.items()]
        elif name in cards():
            found.append((cards()[name], None))
        elif name in sets() and not sets()[name].is_given:
            raise UsageError(f"suite {name!r} is skipped: its data {sets()[name].licence}", where="--suite")
        else:
            raise UsageError(
                f"no suite {name!r}",
                where="--suite",
                remedy=f"use {', '.join([*cards(), *suites()])}",
            )
    return found


def needs_data(card: Card) -> bool:
    """Return whether a card needs a set that the user has to provide."""
    return card.set in sets()


def make_task(
    card: Card, directory: Path | None, n_first: int | None = None, corpus: Path | None = None
) -> Task:
    """Return the task of a card over its set, or over the first `n_first` items.

    Args:
        directory: the directory of the sets; None for a card that needs none.
        corpus: the corpus stage of the model, where it is known.

    Raises:
        StorageError: the set is missing or altered, or the items differ from those that a suite
            promises.
        SandboxError: items must be made, and programs cannot be executed safely here.
        UsageError: the card is about the corpus of the model, and none is given.
    """
    if card.kind == "text":
        items = tuple(_texts(card, corpus))
        chosen = items[:n_first]
        return Task(card=card, items=chosen, n_in_set=len(items), root=task_root(card, chosen))
    if card.set == BAND:
        return _band_task(card, n_first)
    if card.set == MADE_SET:
        made = tuple(MADE[card.build]())
        return Task(card=card, items=made[:n_first], n_in_set=len(made), root=task_root(card, made[:n_first]))
    if directory is None:
        raise StorageError("no evaluation data", where="--data")
    items = tuple(BUILDERS[card.build](read_set(card.set, directory)))
    chosen = items[:n_first]
    return Task(card=card, items=chosen, n_in_set=len(items), root=task_root(card, chosen))


def _texts(card: Card, corpus: Path | None) -> Iterator[Item]:
    if card.build == "standard-library":
        return texts.standard_library()
    if card.build == "installed-packages":
        return texts.installed_packages()
    if corpus is None:
        raise UsageError(
            f"{card.name} is about the held-out split of the model's own corpus",
            where="--corpus",
            remedy="name the run directory in which the model was made",
        )
    return texts.heldout(corpus)


def _band_task(card: Card, n_first: int | None) -> Task:
    n_in_set = ITEMS_PER_ROW * len(ROWS)
    n = min(n_first or n_in_set, n_in_set)
    n_per_row = -(-n // len(ROWS))

    def make() -> list[Item]:
        return items_of(card.build, n_per_row)

    items = kept_items(card.build, n_per_row, make)
    n_in_set = len(items) if n == n_in_set else n_in_set
    task = Task(card=card, items=tuple(items[:n]), n_in_set=n_in_set, root=task_root(card, items[:n]))
    promised = next((s.roots[card.name] for s in suites().values() if card.name in s.roots), None)
    if n >= n_in_set and promised not in (None, task.root):
        raise StorageError(
            (
                f"the items of {card.name} are not those of the suite: their root"
                f" is {task.root[:16]}, not {promised[:16]}"
            ),
            where=str(recipes_directory() / SUITES),
            remedy="use the release, and the version of Python, that the suite was made with",
        )
    return task
