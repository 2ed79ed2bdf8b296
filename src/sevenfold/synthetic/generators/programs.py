"""Compose Python functions from parts. Each is written in several styles that must agree when they
are executed.

A program takes one list, passes it through one to four steps (keep, change, a step over the whole
list) and returns a reduction of the rest. The styles are independent renderings: `stages` and `chain`
use comprehensions, `loops` has a loop for each step, `fused` one loop with early `continue`, and
`functions` uses map and filter. Two styles that agree on every input are evidence that both do what
the words say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sevenfold.synthetic.generators.parts import (
    CHANGES,
    FOLDS,
    TESTS,
    WHOLES,
    Kind,
    Part,
    Reduction,
    fill,
    numbers,
    part,
)
from sevenfold.synthetic.generators.words import TOPICS, Topic
from sevenfold.synthetic.rng import SeededChoices

N_INPUTS = 8
STEP_KINDS = ("keep", "keep", "change", "change", "whole")
_IMPORTS = {
    "Counter(": "from collections import Counter",
    "reduce(": "from functools import reduce",
    "accumulate(": "from itertools import accumulate",
}
_LATER = ("kept", "changed", "result", "current", "selected", "values", "rest", "found", "chosen", "output")


@dataclass(frozen=True, slots=True)
class ProgramStep:
    """A step. `keep` tests each value, `change` gives each a new value, `whole` works on the list."""

    kind: Literal["keep", "change", "whole"]
    part: Part


@dataclass(frozen=True, slots=True)
class Program:
    """A task before it is written down. The numbers of `fold` are filled in. `one` and `many` are the
    singular and the plural of its noun.
    """

    name: str
    one: str
    many: str
    kind: Kind
    steps: tuple[ProgramStep, ...]
    fold: Reduction
    names: tuple[str, ...]
    topic: Topic

    @property
    def is_fusible(self) -> bool:
        """Return whether one loop can do all steps, because none needs the whole list."""
        return all(step.kind != "whole" for step in self.steps)


def program(rng: SeededChoices, folds: tuple[Reduction, ...] = FOLDS) -> Program:
    """Compose a program that returns one of `folds`."""
    topic = TOPICS[rng.pick(tuple(TOPICS))]
    kind: Kind = "int" if rng.chance(0.6) else "str"
    one, many = rng.pick(topic.numbers if kind == "int" else topic.texts)
    steps, now = [], kind
    for _ in range(rng.pick((1, 2, 2, 3, 3, 4))):
        step = _step(rng, now)
        steps.append(step)
        now = step.part.gives or now
    fold = rng.pick(tuple(fold for fold in folds if now in fold.kinds))
    first, second, letter = numbers(rng, fold.a, (0, 0))
    fold = Reduction(
        words=fill(fold.words, first, second, letter),
        code=fill(fold.code, first, second, letter),
        start=fill(fold.start, first, second, letter),
        update=tuple(fill(line, first, second, letter) for line in fold.update),
        result=fill(fold.result, first, second, letter),
        verb=fold.verb,
    )
    adjective = rng.pick(("", "", "selected_", "chosen_", "clean_", "final_", "valid_", "daily_"))
    return Program(
        f"{fold.verb}_{adjective}{many}", one, many, kind, tuple(steps), fold, _names(rng, one, many), topic
    )


def _names(rng: SeededChoices, *taken: str) -> tuple[str, ...]:
    return tuple(rng.some([name for name in _LATER if name not in taken], 6))


def _step(rng: SeededChoices, kind: Kind) -> ProgramStep:
    chosen = rng.pick(STEP_KINDS)
    if chosen == "whole":
        return ProgramStep("whole", part(rng, WHOLES[kind]))
    if chosen == "change":
        return ProgramStep("change", part(rng, CHANGES[kind]))
    test = part(rng, TESTS[kind])
    if rng.chance(0.35):
        other, join = part(rng, TESTS[kind]), rng.pick(("and", "or"))
        test = Part(f"{test.words} {join} {other.words}", f"{_operand(test)} {join} {_operand(other)}")
    elif rng.chance(0.15):
        test = Part(f"fails this test: it {test.words}", f"not ({test.code})")
    return ProgramStep("keep", test)


def _operand(test: Part) -> str:
    return f"({test.code})" if " and " in test.code or " or " in test.code else test.code


def in_words(task: Program, rng: SeededChoices) -> str:
    """Return the task in words, as a person would ask for it."""
    what = {"int": "integers", "str": "strings"}[task.kind]
    steps = [step_in_words(step, rng) for step in task.steps]
    opening = rng.pick(
        (
            f"Write a Python function `{task.name}({task.many})`. `{task.many}` is a list of {what}.",
            f"Implement `{task.name}` in Python. It takes `{task.many}`, a list of {what}.",
            (
                f"I have a list of {what} called `{task.many}` and need a Python function"
                f" `{task.name}({task.many})`."
            ),
            f"Define `{task.name}({task.many})` for a list of {what}.",
        )
    )
    if rng.chance(0.5):
        body = " ".join(f"{i}. {step[0].upper()}{step[1:]}." for i, step in enumerate(steps, 1))
        return f"{opening} Steps: {body} Return {task.fold.words}."
    body = "; then ".join(steps)
    return f"{opening} {body[0].upper()}{body[1:]}. Finally return {task.fold.words}."


def step_in_words(step: ProgramStep, rng: SeededChoices) -> str:
    """Return one step in words, as a person would ask for it."""
    if step.kind == "whole":
        return step.part.words
    if step.kind == "keep":
        return rng.pick(("keep each value that {}", "select the values for which this holds: it {}")).format(
            step.part.words
        )
    return rng.pick(("for each value, {}", "take each value and {}")).format(step.part.words)


Style = Literal["stages", "chain", "loops", "fused", "functions", "generator"]


def styles(task: Program) -> tuple[Style, ...]:
    """Return the styles in which this program can be written."""
    fusible: tuple[Style, ...] = ("fused", "generator") if task.is_fusible else ()
    functions: tuple[Style, ...] = ("functions",) if len(task.steps) <= 3 else ()
    chain: tuple[Style, ...] = ("chain",) if len(task.steps) <= 2 else ()
    return ("stages", "loops", *chain, *fusible, *functions)


def render(task: Program, style: Style, *, hints: bool = False, doc: str = "") -> str:
    """Return the source of the program in one style, imports first."""
    body = {
        "stages": _stages, "chain": _chain, "loops": _loops,
        "fused": _fused, "functions": _functions, "generator": _generator,
    }[style](task)  # fmt: skip
    signature = f"{task.many}: list[{task.kind}]" if hints else task.many
    lines = [
        f"def {task.name}({signature}):",
        *([f'    """{doc}"""'] if doc else ()),
        *(f"    {line}".rstrip() for line in body),
    ]
    code = "\n".join(lines) + "\n"
    imports = [line for call, line in _IMPORTS.items() if re.search(rf"(?<!\w){re.escape(call)}", code)]
    return "\n".join([*imports, "", "", code]) if imports else code


def _comprehension(step: ProgramStep, source: str, item: str) -> str:
    if step.kind == "whole":
        return step.part.of(source)
    if step.kind == "keep":
        return f"[{item} for {item} in {source} if {step.part.of(item)}]"
    return f"[{step.part.of(item)} for {item} in {source}]"


def _stages(task: Program) -> list[str]:
    lines, now = [], task.many
    for step, name in zip(task.steps, task.names, strict=False):
        lines.append(f"{name} = {_comprehension(step, now, task.one)}")
        now = name
    return [*lines, f"return {_of(task.fold.code, now)}"]


def _chain(task: Program) -> list[str]:
    now = task.many
    for step in task.steps:
        now = _comprehension(
            step, f"({now})" if step.kind == "whole" and now.endswith(":1]") else now, task.one
        )
    if task.fold.code.count("{v}") > 1:
        return [f"{task.names[0]} = {now}", f"return {_of(task.fold.code, task.names[0])}"]
    return [f"return {_of(task.fold.code, now)}"]


def _functions(task: Program) -> list[str]:
    lines, now = [], task.many
    for step, name in zip(task.steps, task.names, strict=False):
        if step.kind == "whole":
            lines.append(f"{name} = {step.part.of(now)}")
        else:
            call = "filter" if step.kind == "keep" else "map"
            lines.append(f"{name} = list({call}(lambda {task.one}: {step.part.of(task.one)}, {now}))")
        now = name
    return [*lines, f"return {_of(task.fold.code, now)}"]


def _loops(task: Program) -> list[str]:
    lines, now = [], task.many
    for step, name in zip(task.steps, task.names, strict=False):
        if step.kind == "whole":
            lines.append(f"{name} = {step.part.of(now)}")
        else:
            lines += [f"{name} = []", f"for {task.one} in {now}:"]
            if step.kind == "keep":
                lines += [f"    if {step.part.of(task.one)}:", f"        {name}.append({task.one})"]
            else:
                lines.append(f"    {name}.append({step.part.of(task.one)})")
        now = name
    return [*lines, *_fold_loop(task, now)]


def _fold_loop(task: Program, source: str) -> list[str]:
    fold, acc = task.fold, task.names[-1]
    update = [f"    {_of_acc(line, acc, task.one)}" for line in fold.update]
    return [
        f"{acc} = {fold.start}",
        f"for {task.one} in {source}:",
        *update,
        f"return {_of_acc(fold.result, acc, task.one)}",
    ]


def _fused(task: Program) -> list[str]:
    fold, acc, value = task.fold, task.names[-1], "value"
    lines, now = [f"{acc} = {fold.start}", f"for {task.one} in {task.many}:"], task.one
    for step in task.steps:
        if step.kind == "keep":
            lines += [f"    if not ({step.part.of(now)}):", "        continue"]
        else:
            lines.append(f"    {value} = {step.part.of(now)}")
            now = value
    lines += [f"    {_of_acc(line, acc, now)}" for line in fold.update]
    return [*lines, f"return {_of_acc(fold.result, acc, now)}"]


def _generator(task: Program) -> list[str]:
    lines, now, indent = ["def accepted():", f"    for {task.one} in {task.many}:"], task.one, "        "
    for step in task.steps:
        if step.kind == "keep":
            lines.append(f"{indent}if {step.part.of(now)}:")
            indent += "    "
        else:
            lines.append(f"{indent}value = {step.part.of(now)}")
            now = "value"
    lines += [f"{indent}yield {now}", ""]
    return [*lines, f"{task.names[0]} = list(accepted())", f"return {_of(task.fold.code, task.names[0])}"]


def _of(code: str, value: str) -> str:
    return code.replace("{v}", value)


def _of_acc(code: str, acc: str, item: str) -> str:
    return code.replace("{acc}", acc).replace("{x}", item)


def inputs(task: Program, rng: SeededChoices) -> tuple[str, ...]:
    """Return argument tuples for a program as Python literals: lists with no value, with one, with
    some that repeat, and with many.
    """
    sizes = (0, 1, 3, 4, 5, 7, 9, 12)[:N_INPUTS]
    return tuple(f"({_values(task, rng, size)!r},)" for size in sizes)


def _values(task: Program, rng: SeededChoices, size: int) -> list[int] | list[str]:
    if task.kind == "str":
        return [rng.pick(task.topic.samples) for _ in range(size)]
    spread = rng.pick((9, 30, 60, 200))
    return [rng.between(-spread // 3, spread) for _ in range(size)]
