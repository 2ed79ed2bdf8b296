"""Hold the skeletons of tasks that no corpus has: tables in the form of those of the generators,
and questions.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from fractions import Fraction
from importlib.resources import files

from sevenfold.synthetic.generators import portable
from sevenfold.synthetic.generators.algorithms import algorithm_of
from sevenfold.synthetic.generators.arithmetic import Worked
from sevenfold.synthetic.generators.parts import Reduction
from sevenfold.synthetic.generators.stories import event_of
from sevenfold.synthetic.rng import SeededChoices

_TABLES = tomllib.loads(files(__package__).joinpath("held_out.toml").read_text(encoding="utf-8"))

FOLDS = tuple(
    Reduction(
        words=row["words"],
        code=row["code"],
        start=row["start"],
        update=tuple(row["update"]),
        result=row.get("result", "{acc}"),
        a=tuple(row.get("a", (0, 0))),
        kinds=tuple(row.get("kinds", ("int", "str"))),
        verb=row["verb"],
    )
    for row in _TABLES["folds"]
)
ALGORITHMS = tuple(algorithm_of(row) for row in _TABLES["algorithms"])
EVENTS = tuple(event_of(row) for row in _TABLES["events"])
RUST_FOLDS: Mapping[str, portable.PortableReduction] = {
    row["key"]: portable.PortableReduction(row["words"], row["start"], row["update"], "", row["rust"])
    for row in _TABLES["rust"]
}
_FORMULAS: Mapping[str, Callable[[Fraction, int, int], Fraction]] = {
    "{q} * {a} + {b}": lambda q, a, b: q * a + b,
    "{q} / {a} + {b}": lambda q, a, b: q / a + b,
    "({q} + {a}) * {b}": lambda q, a, b: (q + a) * b,
    "({q} - {a}) / {b}": lambda q, a, b: (q - a) / b,
    "{q} * 2 - {a}": lambda q, a, _b: q * 2 - a,
    "{q} * 3 + {b}": lambda q, _a, b: q * 3 + b,
}
# Questions and answers over three numbers.
QUESTIONS: tuple[tuple[str, Callable[[int, int, int], Fraction | int]], ...] = (
    ("What is the mean of {a}, {b} and {c}, as a fraction or a whole number?",
     lambda a, b, c: Fraction(a + b + c, 3)),
    ("What is {a} percent of {b}, as a fraction or a whole number?", lambda a, b, _c: Fraction(a * b, 100)),
    ("A rectangle is {a} long and {b} wide. What is its perimeter?", lambda a, b, _c: 2 * (a + b)),
    ("A box is {a} long, {b} wide and {c} high. What is its volume?", lambda a, b, c: a * b * c),
    ("What is the sum of all whole numbers from 1 to {a}?", lambda a, _b, _c: a * (a + 1) // 2),
    ("What is the square of {a} minus the square of {b}?", lambda a, b, _c: a * a - b * b),
    ("Halve {a}, then add {b}. What is the result, as a fraction or a whole number?",
     lambda a, b, _c: Fraction(a, 2) + b),
    ("How many minutes are {a} hours and {b} minutes?", lambda a, b, _c: 60 * a + b),
    ("Write {a}, {b} and {c} one behind the other. What is the sum of all digits?",
     lambda a, b, c: sum(map(int, f"{a}{b}{c}"))),
    ("Which number lies halfway between {a} and {b}, as a fraction or a whole number?",
     lambda a, b, _c: Fraction(a + b, 2)),
    ("What is the product of {a} and the number that follows {b}?", lambda a, b, _c: a * (b + 1)),
    ("By how much is the largest of {a}, {b} and {c} larger than the smallest?",
     lambda a, b, c: max(a, b, c) - min(a, b, c)),
    ("What is {a} times {b}, plus {b} times {c}?", lambda a, b, c: a * b + b * c),
    ("A train travels {a} km in each of {b} hours and has {c} km left. How long is the way in km?",
     lambda a, b, c: a * b + c),
)  # fmt: skip


def applied(formula: str, q: Fraction, a: int, b: int) -> Fraction:
    """Return an event of EVENTS on exact numbers."""
    return _FORMULAS[formula](q, a, b)


def question(rng: SeededChoices) -> Worked:
    """Return one of the questions with its answer."""
    text, answer = rng.pick(QUESTIONS)
    a, b, c = (rng.between(2, 99) for _ in range(3))
    return Worked(text.format(a=a, b=b, c=c), "", (), Fraction(answer(a, b, c)))
