"""Make word problems: a chain of two to six events that change a quantity. Each event is a sentence
of the story and a step of the calculation.

Events, people, places, things and numbers are drawn independently, so the shape of a story (its chain
of events and their wording) varies as well as its numbers. The quantity stays a whole number of at
least 0. An event that would break that is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sevenfold.synthetic.data_files import read_data
from sevenfold.synthetic.generators.arithmetic import Worked
from sevenfold.synthetic.generators.words import CONTAINERS, PEOPLE, PLACES, TOPICS
from sevenfold.synthetic.rng import SeededChoices

MAX_QUANTITY = 5000


@dataclass(frozen=True, slots=True)
class Scene:
    """The persons of a story, its place, and the things that are counted."""

    who: str
    friend: str
    place: str
    thing: str
    things: str
    box: str
    boxes: str


@dataclass(frozen=True, slots=True)
class Event:
    """A change: sentence templates, and the new quantity as a formula over {q}, {a} and {b}."""

    sentences: tuple[str, ...]
    formula: str
    a: tuple[int, int]
    b: tuple[int, int] = (0, 0)


_TABLES = read_data("generators/stories.toml")


def _bounds(pair: list[int]) -> tuple[int, int]:
    low, high = pair
    return low, high


def event_of(row: dict[str, Any]) -> Event:
    """Return the event of a row of the data file."""
    return Event(tuple(row["sentences"]), row["formula"], _bounds(row["a"]), _bounds(row.get("b", [0, 0])))


EVENTS = tuple(event_of(row) for row in _TABLES["events"])
_STARTS = tuple((row["sentence"], _bounds(row["q"])) for row in _TABLES["starts"])
_QUESTIONS = tuple(_TABLES["questions"])
_LABELS = tuple(_TABLES["labels"])


# A function that evaluates a formula exactly, from the formula, {q}, {a} and {b}.
Applied = Callable[[str, Fraction, int, int], Fraction]


def story(rng: SeededChoices, events: tuple[Event, ...] = EVENTS, applied: Applied | None = None) -> Worked:
    """Return one word problem, worked out event by event.

    Args:
        applied: computes the formulas of `events`; None: those of EVENTS.
    """
    applied = applied or _applied
    scene = _scene(rng)
    opening, span = rng.pick(_STARTS)
    start = quantity = rng.between(*span)
    exact = Fraction(start)
    sentences, steps = [_told(opening, scene, quantity, 0, 0)], []
    label = rng.pick(_LABELS)
    for i in range(1, rng.pick((2, 2, 3, 3, 4, 5, 6)) + 1):
        event, a, b = _event(rng, quantity, events, applied)
        formula = event.formula.replace("{q}", str(quantity)).replace("{a}", str(a)).replace("{b}", str(b))
        exact = applied(event.formula, exact, a, b)
        sentences.append(_told(rng.pick(event.sentences), scene, quantity, a, b))
        quantity = int(exact)
        steps.append(f"{label.format(i=i, things=scene.things)}: {formula} = {quantity}")
    question = _told(rng.pick(_QUESTIONS), scene, quantity, 0, 0)
    plan = rng.pick(
        (
            "Follow the events in order.",
            "Keep track of the number of {things}, starting with {q}.",
            "Start with {q} and apply one event after the other.",
        )
    )
    return Worked(" ".join([*sentences, question]), _told(plan, scene, start, 0, 0), tuple(steps), exact)


def _applied(formula: str, q: Fraction, a: int, b: int) -> Fraction:
    """Return the exact quantity after an event. It does not come from the text of the step, which is
    compared with it.
    """
    percent = Fraction(a, 100)
    return {
        "{q} + {a}": q + a,
        "{q} - {a}": q - a,
        "{q} + {a} * {b}": q + a * b,
        "{q} - {a} * {b}": q - a * b,
        "{q} * 2": 2 * q,
        "{q} * {a}": q * a,
        "{q} / 2": q / 2,
        "{q} / {a}": q / max(a, 1),
        "{q} - {q} / {a}": q - q / max(a, 1),
        "{q} - {q} * {a} / 100": q * (1 - percent),
        "{q} + {q} * {a} / 100": q * (1 + percent),
        "{q} - {a} + {b}": q - a + b,
    }[formula]


def _event(
    rng: SeededChoices, quantity: int, events: tuple[Event, ...], applied: Applied
) -> tuple[Event, int, int]:
    while True:
        event = rng.pick(events)
        a, b = rng.between(*event.a), rng.between(*event.b)
        if "100" in event.formula:
            a *= 5
        after = applied(event.formula, Fraction(quantity), a, b)
        if a < quantity and after.denominator == 1 and 1 <= after <= MAX_QUANTITY:
            return event, a, b


def _scene(rng: SeededChoices) -> Scene:
    who, friend = rng.some(PEOPLE, 2)
    thing, things = rng.pick(TOPICS[rng.pick(tuple(TOPICS))].things)
    box, boxes = rng.pick(tuple(pair for pair in CONTAINERS if pair[0] not in (thing, "shelf")))
    return Scene(who, friend, rng.pick(PLACES), thing, things, box, boxes)


def _told(text: str, scene: Scene, q: int, a: int, b: int) -> str:
    return text.format(
        who=scene.who,
        friend=scene.friend,
        place=scene.place,
        things=scene.things,
        boxes=scene.boxes,
        q=q,
        a=a,
        b=b,
    )
