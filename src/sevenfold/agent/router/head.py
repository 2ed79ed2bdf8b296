"""The head: a table of int8 weights, summed in integers; and its file.

score[a] = sum over the distinct places of the question of weights[a][place]. The action with the
greatest score is taken, the first of equal ones. No floating point.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sevenfold.agent.router.features import N_PLACES, places_of
from sevenfold.agent.router.suite import ANSWER
from sevenfold.core.errors import StorageError
from sevenfold.core.files import read_json
from sevenfold.core.hashing import Json, canonical_json, digest

SHIPPED = Path(__file__).with_name("head.json")
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class RouterHead:
    """The head. `weights_AP`: int8 [actions, places]."""

    actions: tuple[str, ...]
    weights_AP: NDArray[np.int8]

    def scores(self, question: str, steps: Sequence[tuple[str, str]]) -> NDArray[np.int32]:
        """Return the score of each action, int32 [actions]."""
        found: NDArray[np.int32] = self.weights_AP[:, places_of(question, steps)].sum(axis=1, dtype=np.int32)
        return found

    def choose(self, question: str, steps: Sequence[tuple[str, str]]) -> str:
        """Return the tool that is called next; "" for an answer."""
        action = self.actions[int(np.argmax(self.scores(question, steps)))]
        return "" if action == ANSWER else action

    def as_json(self) -> dict[str, Json]:
        """Return the head as its file holds it."""
        value: dict[str, Json] = {
            "format": FORMAT,
            "actions": list(self.actions),
            "weights": base64.b64encode(self.weights_AP.tobytes()).decode(),
        }
        return value | {"digest": digest("sevenfold/router-head/1", canonical_json(value))}


def read_head(path: Path) -> RouterHead:
    """Return the head of a file.

    Raises:
        StorageError: it cannot be read, or is no head.
    """
    value = read_json(path)
    try:
        rest = {key: value[key] for key in ("format", "actions", "weights")}
        is_whole = value["digest"] == digest("sevenfold/router-head/1", canonical_json(rest))
        raw = np.frombuffer(base64.b64decode(value["weights"], validate=True), np.int8)
        weights_AP = raw.reshape(len(value["actions"]), N_PLACES)
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(
            "it is no head of the router", where=str(path), remedy="install it again"
        ) from error
    if not is_whole or value["format"] != FORMAT:
        raise StorageError("the head was changed, or is of another format", where=str(path))
    return RouterHead(actions=tuple(value["actions"]), weights_AP=weights_AP)


def shipped_head() -> RouterHead:
    """Return the head that ships. Raises StorageError."""
    return read_head(SHIPPED)
