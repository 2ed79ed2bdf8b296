"""Make items that need no data: sums of three-digit numbers, and probes of a long context.

They depend only on this file, and the root of the task binds them. Draws are SHA-256 of a name and
a number, so they are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sevenfold.core.hashing import digest
from sevenfold.evals.tasks.cards import Item

N_SUMS = 1000
# The number of items for each distance of a probe.
N_PROBES = 100
# The characters between a fact and the question about it. They all fit a context of 512 tokens.
DISTANCES = (100, 300, 600, 900)
_SUM = "### Instruction:\nWhat is {a} + {b}?\n\n### Response:\n"
NAMES = ("Ana", "Boris", "Chen", "Dora", "Emil", "Fatima", "Goran", "Hana", "Ivo", "Jana", "Karim", "Lena")
WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
_FILLER = (
    "The road to the lake was closed in spring.", "A new bridge opened last year.",
    "The library keeps its books on long shelves.", "Rain fell on the hills all morning.",
    "The train stops at every village.", "Old maps show a mill beside the river.",
    "The market is held on the square.", "Children play under the tall trees.",
    "The baker opens his shop before dawn.", "Boats lie along the quiet shore.",
)  # fmt: skip


def _draw(name: str, number: int, below: int) -> int:
    """Return a number from 0 to `below` - 1."""
    return int(digest("sevenfold/eval-made/1", name, str(number))[:16], 16) % below


def sums() -> Iterator[Item]:
    """Yield sums of two three-digit numbers, in the form of the corpus' instructions."""
    seen: set[tuple[int, int]] = set()
    number = 0
    while len(seen) < N_SUMS:
        a, b = (100 + _draw(f"sum {side}", number, 900) for side in "ab")
        number += 1
        if (a, b) not in seen:
            seen.add((a, b))
            yield Item(id=f"{a}+{b}", prompt=_SUM.format(a=a, b=b), target={"answer": str(a + b)})


def _filler(name: str, number: int, n_characters: int) -> str:
    """Return sentences with at least `n_characters` characters. Each begins with a space."""
    text, turn = "", 0
    while len(text) < n_characters:
        text += " " + _FILLER[_draw(f"filler {name} {turn}", number, len(_FILLER))]
        turn += 1
    return text


def _choices(name: str, number: int, right: str, others: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Return four choices, of which three are wrong, and the index of the right one."""
    wrong = sorted(others, key=lambda other: digest("sevenfold/eval-made/1", name, str(number), other))[:3]
    place = _draw(f"place {name}", number, 4)
    return (*wrong[:place], right, *wrong[place:]), place


def needles() -> Iterator[Item]:
    """Yield needles: a sentence states a code, and at a distance the same words ask for it."""
    for number in range(N_PROBES):
        for distance in DISTANCES:
            name = NAMES[_draw(f"needle {distance}", number, len(NAMES))]
            codes = [str(1000 + _draw(f"code {distance} {i}", number, 9000)) for i in range(8)]
            codes = list(dict.fromkeys(codes))
            choices, answer = _choices(f"needle {distance}", number, codes[0], codes[1:])
            told = f"The code of {name} is {codes[0]}."
            prompt = f"{told}{_filler(f'needle {distance}', number, distance)} The code of {name} is"
            yield Item(
                id=f"needle/{distance}/{number}",
                prompt=prompt,
                choices=tuple(f" {choice}" for choice in choices),
                target={"answer": answer, "row": f"distance {distance}", "skeleton": "needle"},
            )


def definitions() -> Iterator[Item]:
    """Yield definitions: a fact, and at a distance a question about it in other words. The fact
    spells its number, and the answer is a digit.

    Fact and question share only the name.
    """
    for number in range(N_PROBES):
        for distance in DISTANCES:
            name = NAMES[_draw(f"definition {distance}", number, len(NAMES))]
            place = _draw(f"weight {distance}", number, len(WORDS))
            digits = [str(i + 2) for i in range(len(WORDS))]
            others = [digit for digit in digits if digit != digits[place]]
            choices, answer = _choices(f"definition {distance}", number, digits[place], others)
            told = f"There are {WORDS[place]} apples in the basket that {name} carries."
            filler = _filler(f"definition {distance}", number, distance)
            prompt = f"{told}{filler} Question: how much fruit does {name} have? Answer:"
            yield Item(
                id=f"definition/{distance}/{number}",
                prompt=prompt,
                choices=tuple(f" {choice}" for choice in choices),
                target={"answer": answer, "row": f"distance {distance}", "skeleton": "definition"},
            )


MADE: dict[str, Callable[[], Iterator[Item]]] = {
    "sums": sums,
    "needles": needles,
    "definitions": definitions,
}
