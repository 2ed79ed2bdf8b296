"""Execution guidance (C10): choose the first of several samples that passes the tests in the prompt.

The tests in a prompt are its examples: calls with their values in a docstring, or asserts. The
hidden tests decide the score but choose nothing, so a user with the same prompt could do the same.
When no sample passes, or the prompt has no example, the first sample is the answer.
"""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from sevenfold.core.hashing import Json
from sevenfold.core.numbers.intervals import DIGITS
from sevenfold.evals.grading import graders
from sevenfold.evals.scoring import statistics
from sevenfold.evals.tasks.cards import Card, Item
from sevenfold.sandbox.grading import PythonTests, judge_python

# The graders of Python programs whose prompts contain tests.
GUIDED = ("humaneval", "mbpp")
_QUOTES = re.compile("\"{3}|'{3}")


def visible_tests(item: Item) -> list[str]:
    """Return the tests in the prompt as asserts."""
    if "tests" in item.target:
        return [test for test in item.target["tests"] if test in item.prompt]
    name, found = str(item.target["entry_point"]), []
    try:
        # The value of the last example ends with the docstring.
        examples = doctest.DocTestParser().get_examples(_QUOTES.sub("\n\n", item.prompt))
    except ValueError:
        return []
    for example in examples:
        source, want = example.source.strip(), example.want.strip()
        try:
            ast.literal_eval(want)
            ast.parse(source, mode="eval")
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if f"{name}(" in source:
            found.append(f"assert ({source}) == ({want})")
    return found


def choose(card: Card, item: Item, texts: Sequence[str], rule: str) -> list[int]:
    """Return [the index of the chosen sample, the number of executed samples].

    Raises:
        SandboxError: programs cannot be confined here.
    """
    tests = visible_tests(item)
    if not tests:
        return [0, 0]
    target = item.target
    functions = tuple(target["functions"]) if "functions" in target else (str(target["entry_point"]),)
    setup = str(target.get("setup", ""))
    prelude = "" if "tests" in target else f"{target['prompt']}    pass\n"
    for number, text in enumerate(texts):
        found = graders.EXTRACTIONS[rule](item, graders.cut(text, card.stops))
        source = found if "tests" in target else item.prompt + found
        task = PythonTests(
            source=source, prelude=prelude, tests="\n".join([setup, *tests]), functions=functions
        )
        if judge_python(task, graders.LIMITS).verdict == "pass":
            return [number, number + 1]
    return [0, len(texts)]


def guided_score(
    items: Sequence[Item], verdicts: Mapping[str, Json], chosen: Mapping[str, Sequence[int]], rule: str
) -> Json:
    """Return pass@1 of the chosen samples, the use of the budget, and how many failures of first
    samples were repaired.

    `verdicts` are those of the hidden tests.
    """
    passed = [verdicts[item.id][chosen[item.id][0]][1] == "pass" for item in items]
    first = [verdicts[item.id][0][1] == "pass" for item in items]
    failed = [now for was, now in zip(first, passed, strict=True) if not was]
    executed = [chosen[item.id][1] for item in items]
    figure = statistics.figure(statistics.mean([Fraction(x) for x in passed]), len(items))
    return {
        "metric": "pass@1 guided",
        "extract": rule,
        **figure,
        "unguided": round(float(statistics.mean([Fraction(x) for x in first])), DIGITS),
        "samples_executed": sum(executed),
        "items_with_visible_tests": sum(1 for n in executed if n),
        "first_failures_mended": f"{sum(failed)}/{len(failed)}",
    }
