"""Make the same tasks in JavaScript, C, Rust and Bash. A sample is kept when tree-sitter's grammar of
the language parses it without an error.

Values are integers of at least 0, for which `%`, `/` and comparison mean the same in all languages.
Each language is a table of templates: `{t}` is the test, `{c}` the change, `{x}` the value, `{v}` the
list, `{f}` the function. Rust comes with its reasoning as comments (D3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sevenfold.synthetic.data_files import read_data
from sevenfold.synthetic.generators.parts import CHANGES, TESTS, part
from sevenfold.synthetic.generators.words import TOPICS
from sevenfold.synthetic.rng import SeededChoices
from sevenfold.synthetic.sample import Maker, SampleRoutine, SyntheticSample, fenced
from sevenfold.synthetic.variety import code_shape, parses

_TESTS = tuple(row for row in TESTS["int"] if row.portable)
_CHANGES = tuple(row for row in CHANGES["int"] if row.portable)
SPOKEN = {"javascript": "JavaScript", "c": "C", "rust": "Rust", "bash": "Bash"}


@dataclass(frozen=True, slots=True)
class PortableReduction:
    """A reduction in words, with its start and update, and its method in the languages that have
    one.
    """

    words: str
    start: str
    update: str
    javascript: str
    rust: str


FOLDS = {
    "sum": PortableReduction("their sum", "0", "{acc} += {n};", ".reduce((sum, n) => sum + n, 0)", ".sum()"),
    "count": PortableReduction("how many there are", "0", "{acc} += 1;", ".length", ".count() as i64"),
    "max": PortableReduction(
        "the largest, or 0 if there is none",
        "0",
        "if ({n} > {acc}) { {acc} = {n}; }",
        ".reduce((m, n) => Math.max(m, n), 0)",
        ".max().unwrap_or(0)",
    ),
    "squares": PortableReduction(
        "the sum of their squares",
        "0",
        "{acc} += {n} * {n};",
        ".reduce((sum, n) => sum + n * n, 0)",
        ".map(|n| n * n).sum()",
    ),
    "xor": PortableReduction(
        "the exclusive or of them all",
        "0",
        "{acc} ^= {n};",
        ".reduce((bits, n) => bits ^ n, 0)",
        ".fold(0, |bits, n| bits ^ n)",
    ),
    "mod": PortableReduction(
        "their product modulo 97",
        "1",
        "{acc} = {acc} * {n} % 97;",
        ".reduce((p, n) => (p * n) % 97, 1)",
        ".fold(1, |p, n| p * n % 97)",
    ),
}

WRITINGS: Mapping[str, Mapping[str, str]] = read_data("generators/portable.toml")
_BASH_UPDATES = {
    "sum": "(( {acc} += {n} )) || true",
    "count": "(( {acc} += 1 ))",
    "max": "if (( {n} > {acc} )); then {acc}=${n}; fi",
    "squares": "{acc}=$(( {acc} + {n} * {n} ))",
    "xor": "{acc}=$(( {acc} ^ {n} ))",
    "mod": "{acc}=$(( {acc} * {n} % 97 ))",
}
_MISTAKES = (
    (" += ", " = ", "the result is overwritten instead of growing"),
    (" === ", " !== ", "the condition is inverted"),
    (" == ", " != ", "the condition is inverted"),
    (" > ", " < ", "the comparison points the wrong way"),
    (" <= ", " < ", "the boundary value is left out"),
    (" >= ", " > ", "the boundary value is left out"),
    (" && ", " || ", "one condition is enough, although both are needed"),
    (" || ", " && ", "both conditions are demanded, although one is enough"),
    (" % ", " / ", "it divides where it has to take the remainder"),
    (" * ", " + ", "it adds where it has to multiply"),
    ("i = 0", "i = 1", "the first value is skipped"),
)


@dataclass(frozen=True, slots=True)
class PortableTask:
    """A task in one language, with the steps in words."""

    name: str
    many: str
    source: str
    writing: str
    steps: tuple[str, ...]
    final: str


def portable_task(
    rng: SeededChoices, language: str, folds: Mapping[str, PortableReduction] = FOLDS
) -> PortableTask:
    """Return a task in a language that returns one of `folds`."""
    topic = TOPICS[rng.pick(tuple(TOPICS))]
    one, many = rng.pick(topic.numbers)
    key, acc = rng.pick(tuple(folds)), rng.pick(("result", "answer", "outcome", "acc", "state"))
    tests = [part(rng, _TESTS) for _ in range(rng.pick((1, 1, 2, 2, 3)))]
    changes = [part(rng, _CHANGES) for _ in range(rng.pick((1, 1, 2)))]
    joins = [rng.pick(("and", "or")) for _ in tests[1:]]
    test, words = tests[0].of("{x}"), tests[0].words
    for join, other in zip(joins, tests[1:], strict=True):
        # Each earlier condition is put in brackets, so that the words and the code group alike.
        test = f"({test}) {'&&' if join == 'and' else '||'} ({other.of('{x}')})"
        words = f"{words}, {join} it {other.words}"
    change = changes[0].of("{x}")
    for other in changes[1:]:
        change = other.of(f"({change})")
    if language == "javascript":
        test = re.sub(r"([!=])=", r"\1==", test)
        test = test.replace("<==", "<=").replace(">==", ">=")
    writing = rng.pick(tuple(WRITINGS[language]))
    fold, name = folds[key], _named(f"{key}_of_{many}" if rng.chance(0.5) else f"{many}_{key}", language)
    update = _BASH_UPDATES[key] if language == "bash" else fold.update
    method = fold.rust if language == "rust" else fold.javascript
    if language == "rust":
        update = re.sub(r"if \((.*?)\) ", r"if \1 ", update)
    holes = {
        "u": update,
        "t": test,
        "c": change,
        "m": method,
        "s": fold.start,
        "f": name,
        "v": many,
        "acc": acc,
        "n": "value",
        "x": _named(one, language),
    }
    source = WRITINGS[language][writing]
    for hole, text in holes.items():
        source = source.replace(f"{{{hole}}}", text)
    steps = (f"keep each value that {words}", *(change.words for change in changes))
    return PortableTask(name, many, source + "\n", writing, steps, fold.words)


def _named(name: str, language: str) -> str:
    """Return the spelling of a name: camel case in JavaScript."""
    if language != "javascript":
        return name
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def asked(task: PortableTask, language: str, rng: SeededChoices) -> str:
    """Return the task as a person would ask for it."""
    what = "arguments" if language == "bash" else f"`{task.many}`"
    if task.writing == "script":
        subject = "Write a Bash script. It reads integers of at least 0, one a line."
    else:
        subject = rng.pick(
            (
                (
                    f"Write a {SPOKEN[language]} function `{task.name}`. Its input, {what}, holds integers of"
                    " at least 0."
                ),
                (
                    f"Implement `{task.name}` in {SPOKEN[language]} for a list of non-negative integers"
                    f" ({what})."
                ),
                f"In {SPOKEN[language]}, define `{task.name}` over non-negative integers, {what}.",
            )
        )
    end = "Print" if language == "bash" else "Return"
    return f"{subject} {'; then '.join(task.steps).capitalize()}. {end} {task.final}."


def writing(language: str) -> Maker:
    """Return the maker of functions in a language."""

    def make(rng: SeededChoices) -> SampleRoutine:
        task = portable_task(rng, language)
        yield from ()
        if not parses(task.source, language):
            return None
        return SyntheticSample(
            asked(task, language, rng),
            fenced(task.source, language),
            language,
            code_shape(task.source, language),
        )

    return make


def repairing(language: str) -> Maker:
    """Return the maker of repairs in a language: a bug, its explanation, and the corrected
    function.
    """

    def make(rng: SeededChoices) -> SampleRoutine:
        task = portable_task(rng, language)
        yield from ()
        known = [mistake for mistake in _MISTAKES if task.source.count(mistake[0]) == 1]
        if not known:
            return None
        right, wrong, why = rng.pick(known)
        bug = task.source.replace(right, wrong)
        if not (parses(task.source, language) and parses(bug, language)):
            return None
        line = next(
            changed.strip()
            for changed, right_line in zip(bug.splitlines(), task.source.splitlines(), strict=True)
            if changed != right_line
        )
        opening = rng.pick(
            ("Find and repair the bug.", "This code gives wrong results. Correct it.", "Fix this function.")
        )
        instruction = f"{opening} Task: {asked(task, language, rng)}\n\n{fenced(bug, language)}"
        response = f"In `{line}`, {why}.\n\n{fenced(task.source, language)}"
        return SyntheticSample(instruction, response, language, f"{right}{code_shape(bug, language)}")

    return make


def rust_reasoning(rng: SeededChoices) -> SampleRoutine:
    """Make a Rust function with its reasoning as comments before and beside the code (D3)."""
    task = portable_task(rng, "rust")
    yield from ()
    empty = {"1": "one, the empty product", "0": "zero"}[("1" if "product" in task.final else "0")]
    thoughts = [
        f"The input is a borrowed sequence of {task.many}; nothing is changed in place.",
        *(f"Step {i}: {step}." for i, step in enumerate(task.steps, 1)),
        f"The result is {task.final}; an empty input gives {empty}.",
    ]
    heading = rng.pick(("// Reasoning:", "// Plan:", "// How it works:", "/// Reasoning."))
    mark = heading[: heading.index(" ")]
    bullet = rng.pick(("- ", "* ", ""))
    comments = "\n".join([heading, *(f"{mark} {bullet}{thought}" for thought in thoughts)])
    source = f"{comments}\n{task.source}"
    if rng.chance(0.5):
        lines = source.split("\n")
        source = "\n".join(
            (
                f"{line} // {rng.pick(('only these count', 'the condition'))}"
                if ".filter(" in line
                and "collect" not in line
                and not line.endswith("{m}")
                and ".map(" not in line
                else line
            )
            for line in lines
        )
    if not parses(source, "rust"):
        return None
    closing = rng.pick(
        (
            "Reason in comments first.",
            "Explain each step in comments.",
            "Put your reasoning into comments before the code.",
        )
    )
    return SyntheticSample(
        f"{asked(task, 'rust', rng)} {closing}",
        fenced(source, "rust"),
        "rust",
        f"{bullet}{mark}{code_shape(source, 'rust')}",
    )
