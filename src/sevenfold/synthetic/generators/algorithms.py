"""Well-known algorithms with parameters, each written in two ways that must agree. `{k}` is a
number that the generator chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sevenfold.synthetic.data_files import read_data
from sevenfold.synthetic.generators.words import TOPICS
from sevenfold.synthetic.rng import SeededChoices


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An algorithm. `ways` are sources with `{f}` for the name of the function. `inputs` makes the
    arguments of a call. `takes` names the arguments and their bounds.
    """

    name: str
    words: str
    ways: tuple[str, ...]
    inputs: Callable[[SeededChoices], str]
    k: tuple[int, int] = (2, 9)
    takes: tuple[Any, ...] = ()


def _number(low: int, high: int) -> Callable[[SeededChoices], str]:
    return lambda rng: f"({rng.between(low, high)},)"


def _numbers(n_values: int) -> Callable[[SeededChoices], str]:
    return lambda rng: str(tuple(rng.between(1, 90) for _ in range(n_values)))


def _list(rng: SeededChoices) -> str:
    return f"({[rng.between(-20, 60) for _ in range(rng.below(9))]!r},)"


def _list_and_one(rng: SeededChoices) -> str:
    values = [rng.between(0, 25) for _ in range(rng.between(1, 9))]
    return f"({values!r}, {rng.between(0, 30)})"


def _sorted_and_one(rng: SeededChoices) -> str:
    values = sorted({rng.between(0, 40) for _ in range(rng.between(1, 9))})
    return f"({values!r}, {rng.pick(values) if rng.chance(0.5) else rng.between(0, 40)})"


def _text(rng: SeededChoices) -> str:
    samples = TOPICS[rng.pick(tuple(TOPICS))].samples
    return f"({' '.join(rng.pick(samples) for _ in range(rng.below(4)))!r},)"


def _runs(rng: SeededChoices) -> str:
    return f"({''.join(rng.pick('abc') * rng.between(1, 4) for _ in range(rng.below(6)))!r},)"


def _brackets(rng: SeededChoices) -> str:
    pieces = rng.pick((("()", "[]", "([])"), ("(", ")", "[", "]"), ("[()]", "(", "]")))
    return f"({''.join(rng.pick(pieces) for _ in range(rng.below(6)))!r},)"


def _matrix(rng: SeededChoices) -> str:
    width, height = rng.between(1, 4), rng.between(1, 4)
    return f"({[[rng.between(0, 9) for _ in range(width)] for _ in range(height)]!r},)"


def _two_lists(rng: SeededChoices) -> str:
    return (
        f"({sorted(rng.between(0, 30) for _ in range(rng.below(6)))!r},"
        f" {sorted(rng.between(0, 30) for _ in range(rng.below(6)))!r})"
    )


_INPUTS: dict[str, Callable[..., str]] = {
    "brackets": _brackets,
    "list": _list,
    "list_and_one": _list_and_one,
    "matrix": _matrix,
    "runs": _runs,
    "sorted_and_one": _sorted_and_one,
    "text": _text,
    "two_lists": _two_lists,
}
_INPUTS_WITH_BOUNDS: dict[str, Callable[..., Callable[[SeededChoices], str]]] = {
    "number": _number,
    "numbers": _numbers,
}


def algorithm_of(row: dict[str, Any]) -> Algorithm:
    """Return the algorithm of a row of the data file."""
    name, *bounds = row["inputs"]
    inputs = _INPUTS_WITH_BOUNDS[name](*bounds) if bounds else _INPUTS[name]
    low, high = row.get("k", (2, 9))
    return Algorithm(row["name"], row["words"], tuple(row["ways"]), inputs, (low, high), tuple(row["inputs"]))


ALGORITHMS = tuple(algorithm_of(row) for row in read_data("generators/algorithms.toml")["algorithms"])
