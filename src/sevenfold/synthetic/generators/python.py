"""Make the Python tasks of A6: functions, unit tests, explanations of bugs, repairs as diffs,
refactorings. Every sample is executed.

A function is kept when two independent renderings agree on all inputs and have different results. A
test module is kept when the function passes it and a bug does not. A bug is kept when an input shows
it, a repair when the patched text gives the right results, and a refactoring when old and new agree.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal

from sevenfold.sandbox.request import ExecutionRequest, Outcome
from sevenfold.synthetic.generators.algorithms import ALGORITHMS, Algorithm
from sevenfold.synthetic.generators.mutate import Bug, bugs
from sevenfold.synthetic.generators.programs import (
    N_INPUTS,
    Program,
    Style,
    in_words,
    inputs,
    program,
    render,
    styles,
)
from sevenfold.synthetic.rng import SeededChoices
from sevenfold.synthetic.sample import SampleRoutine, SyntheticSample, failed, fenced
from sevenfold.synthetic.variety import code_shape

# A program that judges a function by the results of its calls in another process. The function is not
# in it. {given} stands for pairs of arguments and the answer of the sandbox.
_JUDGE = """
import ast

_GIVEN = {given}


def {name}(*arguments):
    for known, shown in _GIVEN:
        if repr(known) == repr(arguments):
            return ast.literal_eval(shown)
    raise LookupError(arguments)


{tests}


def check_all():
    for name, value in list(globals().items()):
        if name.startswith("test_"):
            value()
    return "passed"
"""
_PASSED = ["'passed'"]
# The number of different results that a task must have, so that its tests can fail.
MIN_DIFFERENT = 3
N_CANDIDATES = 3
ALGORITHM_SHARE = 0.12
# The style of a function that was not composed.
OTHER: Literal["other"] = "other"


@dataclass(frozen=True, slots=True)
class PythonTask:
    """A function written in two ways, and the results of its calls."""

    name: str
    words: str
    source: str
    other: str
    other_style: str
    calls: tuple[str, ...]
    results: tuple[str, ...] = ()

    def call(self, index: int) -> str:
        """Return a call as it is written in a test."""
        return f"{self.name}({self.calls[index][1:-1].rstrip(',')})"


def drawn(rng: SeededChoices) -> PythonTask:
    """Return the task of a sample: a composed program, or an algorithm."""
    return algorithm_task(rng) if rng.chance(ALGORITHM_SHARE) else program_task(rng, program(rng))


def program_task(rng: SeededChoices, made: Program) -> PythonTask:
    """Return a task of a composed program, in two of its styles."""
    words, (first, second) = in_words(made, rng), rng.some(styles(made), 2)
    hints = rng.chance(0.4)
    source, other = (render(made, style, hints=hints) for style in (first, second))
    return PythonTask(made.name, words, source, other, second, inputs(made, rng))


def algorithm_task(rng: SeededChoices, algorithms: tuple[Algorithm, ...] = ALGORITHMS) -> PythonTask:
    """Return a task of one of the algorithms."""
    chosen = rng.pick(algorithms)
    k = rng.between(*chosen.k)
    name = rng.pick(("", "", "find_", "get_", "my_", "compute_")) + chosen.name
    first, second = (way.replace("{f}", name).replace("{k}", str(k)) for way in rng.some(chosen.ways, 2))
    opening = rng.pick(
        ("Write a Python function `{}` that", "Implement `{}` in Python: it", "Define a function `{}` which")
    )
    words = f"{opening.format(name)} {chosen.words.replace('{k}', str(k))}."
    calls = tuple(chosen.inputs(rng) for _ in range(N_INPUTS))
    return PythonTask(name, words, first, second, OTHER, calls)


# A function that draws a task.
Drawer = Callable[[SeededChoices], PythonTask]


def _solved(
    rng: SeededChoices, draw: Drawer | None = None
) -> Generator[ExecutionRequest, Outcome, PythonTask | None]:
    """Return a task whose two renderings agree, with its results. Return None when they do not agree,
    or when the results differ too little.
    """
    task = (draw or drawn)(rng)
    outcome = yield ExecutionRequest({"source": task.source, "other": task.other}, task.name, task.calls)
    results = outcome["source"]
    if failed(results) or results != outcome["other"] or len(set(results)) < MIN_DIFFERENT:
        return None
    return PythonTask(
        task.name, task.words, task.source, task.other, task.other_style, task.calls, tuple(results)
    )


def _buggy(
    rng: SeededChoices, draw: Drawer | None = None
) -> Generator[ExecutionRequest, Outcome, tuple[PythonTask, Bug, int, str] | None]:
    """Return a task, a bug in it, the first input that shows the bug, and the wrong result there."""
    task = yield from _solved(rng, draw)
    # A bug there may loop for ever.
    if task is None or "while" in task.source:
        return None
    known = bugs(task.source)
    if not known:
        return None
    candidates = rng.some(known, min(N_CANDIDATES, len(known)))
    outcome = yield ExecutionRequest(
        {str(i): bug.source for i, bug in enumerate(candidates)}, task.name, task.calls
    )
    for i, bug in enumerate(candidates):
        for index, (right, wrong) in enumerate(zip(task.results, outcome[str(i)], strict=True)):
            if wrong not in (right, "!SyntaxError", "!OutOfTime", "!Lost", "!TooLong"):
                return task, bug, index, wrong
    return None


def function(rng: SeededChoices, draw: Drawer | None = None) -> SampleRoutine:
    """Make a task of writing a function."""
    task = yield from _solved(rng, draw)
    if task is None:
        return None
    instruction, index = task.words, rng.below(len(task.calls))
    if rng.chance(0.5):
        instruction += f" For example, `{task.call(index)}` returns `{task.results[index]}`."
    response = fenced(task.source, "python")
    if rng.chance(0.3):
        response += f"\n\nCheck: `{task.call(index)}` gives `{task.results[index]}`."
    return SyntheticSample(instruction, response, "python", code_shape(task.source, "python"))


def unit_tests(rng: SeededChoices, draw: Drawer | None = None) -> SampleRoutine:
    """Make a task of writing unit tests. The tests must pass on the function and fail on a bug."""
    task = yield from _solved(rng, draw)
    if task is None:
        return None
    chosen = rng.some(range(len(task.calls)), 3 + rng.below(3))
    style = rng.pick(("functions", "one", "table"))
    tests = _test_module(task, sorted(chosen), style)
    known = [] if "while" in task.source else bugs(task.source)
    broken = {str(i): bug.source for i, bug in enumerate(rng.some(known, min(N_CANDIDATES, len(known))))}
    calls = tuple(task.calls[index] for index in chosen)
    gave = {"right": [task.results[index] for index in chosen]}
    if broken:
        gave |= yield ExecutionRequest(broken, task.name, calls)
    judges = {key: _judge(task.name, tests, calls, results) for key, results in gave.items()}
    verdict = yield ExecutionRequest(judges, "check_all", ("()",))
    if verdict["right"] != _PASSED or (broken and all(verdict[key] == _PASSED for key in broken)):
        return None
    opening = rng.pick(
        (
            "Write unit tests for this function.",
            "Add tests for the function below.",
            "Test this code with plain asserts.",
        )
    )
    instruction = f"{opening}\n\n{fenced(task.source, 'python')}"
    return SyntheticSample(
        instruction,
        fenced(tests, "python"),
        "python",
        f"{style}{len(chosen)} {code_shape(task.source, 'python')}",
    )


def _judge(name: str, tests: str, calls: tuple[str, ...], results: list[str]) -> str:
    """Return the program that runs the tests on the results of a function's calls. Results that are
    not literals are left out, so a test that asks for one fails.
    """
    given = "".join(f"    ({call}, {shown!r}),\n" for call, shown in zip(calls, results, strict=True))
    return _JUDGE.format(given=f"[\n{given}]", name=name, tests=tests)


def _test_module(task: PythonTask, chosen: list[int], style: str) -> str:
    cases = [(task.call(index), task.results[index]) for index in chosen]
    if style == "one":
        return "\n".join(
            [f"def test_{task.name}():", *(f"    assert {call} == {result}" for call, result in cases)]
        )
    if style == "table":
        rows = [f"    ({task.calls[index]}, {task.results[index]})," for index in chosen]
        loop = [
            f"def test_{task.name}():",
            "    for arguments, expected in CASES:",
            f"        assert {task.name}(*arguments) == expected",
        ]
        return "\n".join(["CASES = [", *rows, "]", "", "", *loop])
    functions = [
        f"def test_{task.name}_{i}():\n    assert {call} == {result}"
        for i, (call, result) in enumerate(cases, 1)
    ]
    return "\n\n\n".join(functions)


def explanation(rng: SeededChoices, draw: Drawer | None = None) -> SampleRoutine:
    """Make a task of explaining a bug: its line, the mistake, an input that shows it, and the
    corrected function.
    """
    found = yield from _buggy(rng, draw)
    if found is None:
        return None
    task, bug, index, wrong = found
    opening = rng.pick(
        (
            "This function has a bug. Find and explain it.",
            "What is wrong with this code?",
            "Explain the bug in this function.",
        )
    )
    instruction = f"{opening} Task: {task.words}\n\n{fenced(bug.source, 'python')}"
    response = (
        f"Line {bug.line}, `{bug.now.strip()}`: {bug.why}. {_evidence(task, index, wrong, rng)}"
        f" The line should be `{bug.was.strip()}`.\n\n{fenced(task.source, 'python')}"
    )
    return SyntheticSample(
        instruction, response, "python", f"{bug.kind}{bug.line} {code_shape(bug.source, 'python')}"
    )


def _evidence(task: PythonTask, index: int, wrong: str, rng: SeededChoices) -> str:
    gives = f"raises {wrong[1:]}" if wrong.startswith("!") else f"returns `{wrong}`"
    return rng.pick(
        (
            f"For example, `{task.call(index)}` {gives}, but the right result is `{task.results[index]}`.",
            f"`{task.call(index)}` shows it: it {gives} instead of `{task.results[index]}`.",
        )
    )


def repair(rng: SeededChoices, draw: Drawer | None = None) -> SampleRoutine:
    """Make a task of repairing a bug with a unified diff. The diff is applied to the buggy text, and
    the result is executed.
    """
    found = yield from _buggy(rng, draw)
    if found is None:
        return None
    task, bug, index, wrong = found
    diff = unified(bug.source, task.source)
    patched = apply(bug.source, diff)
    outcome = yield ExecutionRequest({"patched": patched}, task.name, task.calls)
    if tuple(outcome["patched"]) != task.results:
        return None
    gives = f"raises {wrong[1:]}" if wrong.startswith("!") else f"returns {wrong}"
    complaint = f"`{task.call(index)}` {gives}, expected {task.results[index]}."
    opening = rng.pick(
        (
            "Repair this function; answer with a diff.",
            "A test fails. Give a patch.",
            "Fix the bug and show the unified diff.",
        )
    )
    instruction = f"{opening} {complaint}\n\n{fenced(bug.source, 'python')}"
    response = fenced(diff, "diff")
    if rng.chance(0.5):
        response += f"\n\nBefore, {bug.why}."
    return SyntheticSample(
        instruction, response, "python", f"{bug.kind}{bug.line} {code_shape(bug.source, 'python')}"
    )


def unified(old: str, new: str) -> str:
    """Return a unified diff of two sources, with one line of context."""
    return "".join(
        difflib.unified_diff(
            old.splitlines(True), new.splitlines(True), "a/solution.py", "b/solution.py", n=1
        )
    )


def apply(old: str, diff: str) -> str:
    """Return `old` with a unified diff applied. Raises ValueError when a line of context or of the old
    text is missing.
    """
    lines, result, at = old.splitlines(True), [], 0
    for line in diff.splitlines(True)[2:]:
        if line.startswith("@@"):
            start = int(line.split()[1][1:].split(",")[0]) - 1
            result += lines[at:start]
            at = start
            continue
        if line[0] in " -":
            if lines[at] != line[1:]:
                raise ValueError(f"{line!r} is not line {at + 1}")
            at += 1
        if line[0] in " +":
            result.append(line[1:])
    return "".join([*result, *lines[at:]])


_TARGETS: dict[Style | str, tuple[str, ...]] = {
    "stages": (
        "Refactor it so that each step is one comprehension with a name.",
        "Rewrite it in clear stages, one line each.",
    ),
    "chain": (
        "Make it shorter: one expression.",
        "Refactor it into a single return statement if that stays readable.",
    ),
    "loops": (
        "Rewrite it with plain loops only.",
        "Refactor it without comprehensions, so that each step can be stepped through.",
    ),
    "fused": ("Refactor it to pass over the data once.", "Use a single loop with early `continue`."),
    "functions": ("Rewrite it with `map` and `filter`.", "Refactor it in a functional style."),
    "generator": (
        "Refactor it so that a generator yields the accepted values.",
        "Use an inner generator function.",
    ),
    "other": (
        "Rewrite it in another way that gives the same results.",
        "Refactor it; the behaviour must not change.",
    ),
}


def refactoring(rng: SeededChoices, draw: Drawer | None = None) -> SampleRoutine:
    """Make a task of refactoring to another style with equal results."""
    task = yield from _solved(rng, draw)
    if task is None or task.source == task.other:
        return None
    wish = rng.pick(_TARGETS[task.other_style])
    closing = rng.pick(("", " It must return the same results."))
    instruction = f"{wish}{closing}\n\n{fenced(task.source, 'python')}"
    shape = f"{code_shape(task.source, 'python')} {code_shape(task.other, 'python')}"
    return SyntheticSample(instruction, fenced(task.other, "python"), "python", shape)
