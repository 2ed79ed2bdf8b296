"""Make the items of the band from attempts of the corpus generators, and from skeletons that no
corpus has.

An item depends only on the generator, the row and the number of its attempt. The first items of a
row are therefore the same for every number of items.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice, zip_longest

from sevenfold.core.hashing import Json, sha256
from sevenfold.evals.band import draws
from sevenfold.evals.band.draws import ROWS, Revalued, Row
from sevenfold.evals.band.execution import together
from sevenfold.evals.band.held_out import question
from sevenfold.evals.tasks.cards import Item
from sevenfold.recipe.corpus_schema import SyntheticSource
from sevenfold.sandbox.executor import Sandbox
from sevenfold.sandbox.request import ExecutionRequest, Outcome
from sevenfold.synthetic.generators import python
from sevenfold.synthetic.generators.arithmetic import Worked
from sevenfold.synthetic.generators.mutate import bugs
from sevenfold.synthetic.generators.python import PythonTask
from sevenfold.synthetic.rng import SeededChoices
from sevenfold.synthetic.sample import INSTRUCTION, RESPONSE, SyntheticSample, fenced
from sevenfold.synthetic.table import GENERATORS
from sevenfold.synthetic.variety import code_shape, text_shape

# The seed of the synthetic sources of recipes/s7/_corpus.yaml, whose tasks are the row `seen`.
SEED = 7
# At least 1,000 remain after dropping the items that a corpus lacks, or contains by chance.
ITEMS_PER_ROW = 1150
# A prompt and an answer must fit a context of 512 tokens.
MAX_INSTRUCTION, MAX_RESPONSE = 800, 700
# The number of samples of one shape that a corpus keeps.
PER_SHAPE: int = SyntheticSource.model_fields["max_per_shape"].default
N_BUGS = 3
# The number of attempts of each generator. A family with few skeletons has fewer items than
# requested, because a corpus holds PER_SHAPE of each.
LAST_ATTEMPT = 16_000
# The number of attempts whose programs are executed together.
AT_ONCE = 32
_FENCE = re.compile(r"```\w*\n(.*?)\n```", re.DOTALL)
_NAME = re.compile(r"`(\w+)`")
_MARKED = re.compile(r"(?:<FINAL>|</scratchpad>)\s*(-?[\d/]+)\s*$")

Making = Generator[ExecutionRequest, Outcome, "Made | None"]


@dataclass(frozen=True, kw_only=True)
class Made:
    """One task with its grading data, the answer of its generator, and its skeleton."""

    instruction: str
    response: str
    skeleton: str
    # The shape by which the corpus counts it; "" for a task that no corpus has.
    shape: str = ""
    target: dict[str, Json] = field(default_factory=dict)
    # The held-out function.
    program: str = ""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of tasks. `generators` are those of the corpus, which are used in turn."""

    generators: tuple[str, ...]
    make: Callable[[str, Row, SeededChoices], Making]


class _OtherFamily(Exception):  # noqa: N818  (an outcome that the caller handles)
    """An attempt belongs to another family."""


PythonDraws = dict[Row, python.Drawer]
_ANY: PythonDraws = {"new-skeleton": draws.new_task, "new-composition": draws.two_tasks}
_PROGRAMS: PythonDraws = {"new-skeleton": draws.new_program, "new-composition": draws.two_programs}
_ALGORITHMS: PythonDraws = {"new-skeleton": draws.new_algorithm, "new-composition": draws.two_algorithms}


def _python(
    maker: Callable[..., Generator[ExecutionRequest, Outcome, SyntheticSample | None]],
    new: PythonDraws,
    targets: Callable[[PythonTask, SyntheticSample], dict[str, Json]],
    *,
    is_algorithm: bool | None = None,
) -> Callable[[str, Row, SeededChoices], Making]:
    """Return a function that makes tasks with a maker of the corpus. The row decides how functions
    are drawn.
    """

    def make(_name: str, row: Row, rng: SeededChoices) -> Making:
        tasks: list[PythonTask] = []

        def draw(choices: SeededChoices) -> PythonTask:
            task = new[row](choices) if row in new else python.drawn(choices)
            if row not in new and is_algorithm not in (None, task.other_style == python.OTHER):
                raise _OtherFamily
            tasks.append(task)
            return task

        results: list[str] = []
        making = maker(rng, draw)
        try:
            request = next(making)
            while True:
                outcome = yield request
                results = list(outcome.get("source", results))
                request = making.send(outcome)
        except StopIteration as end:
            sample: SyntheticSample | None = end.value
        if sample is None:
            return None
        task = tasks[0]
        found = targets(task, sample)
        if "bugs" in found:
            found["bugs"] = yield from _shown_bugs(task, results)
            if not found["bugs"]:
                return None
        target = {"entry": task.name, "calls": list(task.calls), "results": results, **found}
        return Made(
            instruction=sample.instruction,
            response=sample.response,
            skeleton=code_shape(task.source, "python"),
            shape=sample.shape,
            target=target,
            program=task.source if row == "new-skeleton" else "",
        )

    return make


def _shown_bugs(task: PythonTask, results: Sequence[str]) -> Generator[ExecutionRequest, Outcome, list[Json]]:
    """Yield bugs of a function that some input reveals; none for a function that may not terminate."""
    known = [] if "while" in task.source else bugs(task.source)[:N_BUGS]
    if not known:
        return []
    outcome = yield ExecutionRequest(
        {str(i): bug.source for i, bug in enumerate(known)}, task.name, task.calls
    )
    return [bug.source for i, bug in enumerate(known) if list(outcome[str(i)]) != list(results)]


def _given(sample: SyntheticSample) -> str:
    """Return the program that an instruction contains."""
    found = _FENCE.search(sample.instruction)
    return f"{found[1]}\n" if found else ""


def _worked(new: dict[Row, Callable[[SeededChoices], Worked]]) -> Callable[[str, Row, SeededChoices], Making]:
    """Return a function that makes exercises, which are graded by their answer."""

    def make(name: str, row: Row, rng: SeededChoices) -> Making:
        if row in new:
            yield from ()
            work = new[row](rng)
            sample = SyntheticSample(work.question, f"<FINAL> {work.answer}", "text", "")
        else:
            found = yield from GENERATORS[name].make(rng)
            if found is None:
                return None
            sample = found
        marked = _MARKED.search(sample.response)
        if marked is None:
            return None
        return Made(
            instruction=sample.instruction,
            response=sample.response,
            skeleton=text_shape(sample.instruction),
            shape=sample.shape,
            target={"answer": marked[1]},
        )

    return make


def _rust(name: str, row: Row, rng: SeededChoices) -> Making:
    """Make a task for a Rust function. The function is not executed."""
    new = {"new-skeleton": draws.new_rust, "new-composition": draws.two_rust}
    shape = ""
    if row in new:
        yield from ()
        instruction, source = new[row](rng)
    else:
        sample = yield from GENERATORS[name].make(rng)
        if sample is None:
            return None
        shape = sample.shape
        instruction, source = sample.instruction, _FENCE.sub(r"\1", sample.response) + "\n"
    entry = _NAME.search(instruction)
    return Made(
        instruction=instruction,
        response=fenced(source, "rust"),
        skeleton=code_shape(source, "rust"),
        shape=shape,
        target={"entry": entry[1] if entry else ""},
    )


FAMILIES: dict[str, Family] = {
    "functions": Family(
        generators=("python-function",),
        make=_python(python.function, _PROGRAMS, lambda _t, _s: {}, is_algorithm=False),
    ),
    "loops": Family(
        generators=("python-function",),
        make=_python(python.function, _ALGORITHMS, lambda _t, _s: {}, is_algorithm=True),
    ),
    "refactors": Family(
        generators=("python-refactor",),
        make=_python(python.refactoring, _ANY, lambda _t, sample: {"given": _given(sample)}),
    ),
    "repairs": Family(
        generators=("python-repair",),
        make=_python(python.repair, _ANY, lambda _t, sample: {"given": _given(sample)}),
    ),
    "tests": Family(
        generators=("python-tests",),
        make=_python(python.unit_tests, _ANY, lambda task, _s: {"given": task.source, "bugs": []}),
    ),
    "arithmetic": Family(
        generators=("arithmetic", "arithmetic", "methods"),
        make=_worked({"new-skeleton": question, "new-composition": draws.two_sums}),
    ),
    "word-problems": Family(
        generators=("word-problems",),
        make=_worked({"new-skeleton": draws.new_story, "new-composition": draws.two_stories}),
    ),
    "rust": Family(generators=("rust-function",), make=_rust),
}
# The family of forms uses the questions of these in turn and checks only the form of the answer.
FORMS = {"functions": "python", "repairs": "diff", "word-problems": "answer", "rust": "rust"}
NAMES = (*FAMILIES, "format")


def _choices(family: str, generator: str, row: Row, number: int) -> SeededChoices:
    if row == "seen":
        return SeededChoices(SEED, f"synthetic/{generator}/{number}")
    if row == "new-values":
        purpose = f"band/new-values/{generator}/{number}"
        return Revalued(SEED, f"synthetic/{generator}/{number}", purpose)
    return SeededChoices(SEED, f"band/{row}/{family}/{number}")


def attempts(
    family: str, generator: str, row: Row, numbers: Sequence[int], box: Sandbox
) -> list[Made | None]:
    """Return attempts of a row. An attempt is None when a check fails or the task belongs to
    another family.
    """
    makings = [
        FAMILIES[family].make(generator, row, _choices(family, generator, row, number)) for number in numbers
    ]
    found: list[Made | None] = [None] * len(makings)
    waiting: dict[int, ExecutionRequest] = {}

    def go_on(i: int, outcome: Outcome | None) -> None:
        try:
            waiting[i] = next(makings[i]) if outcome is None else makings[i].send(outcome)
        except StopIteration as end:
            found[i] = end.value
        except _OtherFamily:
            found[i] = None

    for i in range(len(makings)):
        go_on(i, None)
    while waiting:
        asked, waiting = waiting, {}
        for i, outcome in zip(asked, together(list(asked.values()), box), strict=True):
            go_on(i, outcome)
    return found


def _fits(made: Made) -> bool:
    return len(made.instruction) <= MAX_INSTRUCTION and len(made.response) <= MAX_RESPONSE


def _of_corpus(family: str, row: Row, generator: str, box: Sandbox) -> Iterator[Made]:
    """Yield the tasks that a corpus holds of a generator, or the same tasks with other values."""
    seen: set[bytes] = set()
    shapes: Counter[str] = Counter()
    for start in range(0, LAST_ATTEMPT, AT_ONCE):
        kept: dict[int, Made] = {}
        numbers = range(start, start + AT_ONCE)
        for number, made in zip(numbers, attempts(family, generator, "seen", numbers, box), strict=True):
            if made is None:
                continue
            key = sha256(f"{made.instruction}\0{made.response}".encode())[:8]
            if key not in seen and shapes[made.shape] < PER_SHAPE:
                seen.add(key)
                shapes[made.shape] += 1
                kept[number] = made
        if row == "seen":
            yield from filter(_fits, kept.values())
            continue
        others = attempts(family, generator, row, list(kept), box)
        for made, other in zip(kept.values(), others, strict=True):
            if other is not None and _is_same_skeleton(made, other) and _fits(other):
                yield other


def _is_same_skeleton(made: Made, other: Made) -> bool:
    return other.skeleton == made.skeleton and other.instruction != made.instruction


def _new(family: str, row: Row, box: Sandbox) -> Iterator[Made]:
    seen: set[str] = set()
    for start in count(0, AT_ONCE):
        for made in attempts(family, "", row, range(start, start + AT_ONCE), box):
            if made is not None and _fits(made) and made.instruction not in seen:
                seen.add(made.instruction)
                yield made


def made_of(family: str, row: Row, box: Sandbox) -> Iterator[Made]:
    """Yield the tasks of a row of a family, as long as there are any."""
    if row in ("new-skeleton", "new-composition"):
        yield from _new(family, row, box)
        return
    generators = FAMILIES[family].generators
    streams = {name: _of_corpus(family, row, name, box) for name in set(generators)}
    for turn in count():
        found = next(streams[generators[turn % len(generators)]], None)
        if found is None:
            return
        yield found


def _item(family: str, row: Row, number: int, made: Made, form: str = "") -> Item:
    prompt = f"{INSTRUCTION}\n{made.instruction}\n\n{RESPONSE}\n"
    target = {**made.target, "row": row, "skeleton": made.skeleton}
    return Item(
        id=f"{family}/{row}/{number}",
        prompt=prompt,
        target={**target, "form": form} if form else target,
        program=made.program,
        beginning=prompt,
        is_of_corpus=row == "seen",
    )


def items_of(family: str, n_per_row: int) -> list[Item]:
    """Return the first items of each row of a family. The rows alternate.

    Raises:
        SandboxError: programs cannot be executed safely here.
    """
    rows: list[list[Item]] = []
    with Sandbox() as box:
        for row in ROWS:
            if family == "format":
                streams = {name: made_of(name, row, box) for name in FORMS}
                names = [list(FORMS)[i % len(FORMS)] for i in range(n_per_row)]
                chosen = [(next(streams[name]), FORMS[name]) for name in names]
            else:
                chosen = [(made, "") for made in islice(made_of(family, row, box), n_per_row)]
            rows.append([_item(family, row, i, made, form) for i, (made, form) in enumerate(chosen)])
    return [item for group in zip_longest(*rows) for item in group if item is not None]
