"""Draw the tasks of each row of the band: tasks of a corpus, their skeletons with other values,
skeletons that no corpus has, and two skeletons of a corpus in one task.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from sevenfold.evals.band import held_out
from sevenfold.synthetic.generators import portable, python, stories
from sevenfold.synthetic.generators.algorithms import ALGORITHMS
from sevenfold.synthetic.generators.arithmetic import Worked, expression, method
from sevenfold.synthetic.generators.programs import (
    N_INPUTS,
    Program,
    inputs,
    program,
    render,
    step_in_words,
    styles,
)
from sevenfold.synthetic.generators.python import PythonTask
from sevenfold.synthetic.generators.stories import story
from sevenfold.synthetic.rng import SeededChoices

Row = Literal["seen", "new-values", "new-skeleton", "new-composition"]
ROWS: tuple[Row, ...] = ("seen", "new-values", "new-skeleton", "new-composition")


class Revalued(SeededChoices):
    """A stream that repeats the choices of another one and draws only numbers between two bounds
    anew.
    """

    def __init__(self, seed: int, purpose: str, purpose_of_values: str) -> None:
        super().__init__(seed, purpose)
        self._values = SeededChoices(seed, purpose_of_values)

    def between(self, low: int, high: int) -> int:
        """Return a number of the second stream. The first stream also advances."""
        super().between(low, high)
        return self._values.between(low, high)


def new_task(rng: SeededChoices) -> PythonTask:
    """Return a function with a held-out skeleton."""
    if rng.chance(python.ALGORITHM_SHARE):
        return new_algorithm(rng)
    return new_program(rng)


def new_program(rng: SeededChoices) -> PythonTask:
    """Return a composed program that ends in a held-out fold."""
    return python.program_task(rng, program(rng, held_out.FOLDS))


def new_algorithm(rng: SeededChoices) -> PythonTask:
    """Return a held-out algorithm."""
    return python.algorithm_task(rng, held_out.ALGORITHMS)


def two_tasks(rng: SeededChoices) -> PythonTask:
    """Return a function that combines two functions of a corpus."""
    return two_algorithms(rng) if rng.chance(python.ALGORITHM_SHARE) else two_programs(rng)


def two_programs(rng: SeededChoices) -> PythonTask:
    """Return a function that gives the results of two composed programs over one list."""
    first, second = program(rng), program(rng)
    while second.kind != first.kind or second.fold.verb == first.fold.verb:
        second = program(rng)
    second = replace(
        second, one=first.one, many=first.many, names=first.names, topic=first.topic,
        name=f"{second.fold.verb}_{first.many}",
    )  # fmt: skip
    first = replace(first, name=f"{first.fold.verb}_{first.many}")
    name = f"{first.fold.verb}_and_{second.name}"
    what = {"int": "integers", "str": "strings"}[first.kind]
    words = (
        f"Write a Python function `{name}({first.many})`. `{first.many}` is a list of {what}. "
        f"First result: {_steps(first, rng)}; return {first.fold.words}. "
        f"Second result, from the same list: {_steps(second, rng)}; return {second.fold.words}. "
        "Return a tuple of the two results."
    )
    ways = [rng.some(styles(made), 2) for made in (first, second)]
    sources = [
        "\n\n".join([render(first, ways[0][i]), render(second, ways[1][i]), _pair(name, first, second)])
        for i in range(2)
    ]
    return PythonTask(name, words, sources[0], sources[1], python.OTHER, inputs(first, rng))


def _steps(made: Program, rng: SeededChoices) -> str:
    return "; then ".join(step_in_words(step, rng) for step in made.steps)


def _pair(name: str, first: Program, second: Program) -> str:
    many = first.many
    return f"def {name}({many}):\n    return {first.name}({many}), {second.name}({many})\n"


def two_algorithms(rng: SeededChoices) -> PythonTask:
    """Return a function that gives the results of two algorithms for the same arguments."""
    first = rng.pick([one for one in ALGORITHMS if sum(o.takes == one.takes for o in ALGORITHMS) > 1])
    second = rng.pick([one for one in ALGORITHMS if one.takes == first.takes and one is not first])
    name = f"{first.name}_and_{second.name}"
    ks = [rng.between(*one.k) for one in (first, second)]
    sources = []
    for way in range(2):
        parts = [
            one.ways[way].replace("{f}", one.name).replace("{k}", str(k))
            for one, k in zip((first, second), ks, strict=True)
        ]
        call = f"def {name}(*arguments):\n    return {first.name}(*arguments), {second.name}(*arguments)\n"
        sources.append("\n".join([*parts, call]))
    does = [one.words.replace("{k}", str(k)) for one, k in zip((first, second), ks, strict=True)]
    words = (
        f"Write a Python function `{name}` that returns a tuple of two results for its arguments. "
        f"The first is the result of a function that {does[0]}. "
        f"The second is the result of a function that {does[1]}."
    )
    calls = tuple(first.inputs(rng) for _ in range(N_INPUTS))
    return PythonTask(name, words, sources[0], sources[1], python.OTHER, calls)


def two_sums(rng: SeededChoices) -> Worked:
    """Return two exercises whose answers are added."""
    first, second = (method(rng) if rng.chance(1 / 3) else expression(rng) for _ in range(2))
    return _added(first, second)


def new_story(rng: SeededChoices) -> Worked:
    """Return a word problem of held-out events."""
    return story(rng, held_out.EVENTS, held_out.applied)


def two_stories(rng: SeededChoices) -> Worked:
    """Return two word problems whose answers are added."""
    return _added(stories.story(rng), stories.story(rng))


def _added(first: Worked, second: Worked) -> Worked:
    question = f"{first.question} {second.question} Give the sum of both answers."
    return Worked(question, "", (), first.answer + second.answer)


def new_rust(rng: SeededChoices) -> tuple[str, str]:
    """Return the prompt for a Rust function with a held-out fold, and the function."""
    task = portable.portable_task(rng, "rust", held_out.RUST_FOLDS)
    return portable.asked(task, "rust", rng), task.source


def two_rust(rng: SeededChoices) -> tuple[str, str]:
    """Return the prompt for a Rust function that returns two results, and the two functions."""
    first, second = (portable.portable_task(rng, "rust") for _ in range(2))
    wish = (
        f"Write a Rust function `both_of_{first.many}`. Its input, `{first.many}`, holds integers of at "
        f"least 0. First result: {'; then '.join(first.steps)}; return {first.final}. "
        f"Second result, from the same input: {'; then '.join(second.steps)}; return {second.final}. "
        "Return a tuple of the two results."
    )
    return wish, first.source + second.source
