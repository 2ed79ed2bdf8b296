"""Classify why answers failed, by the reasons of their verdicts.

The judge, the sandbox or a grader writes a reason. Its class is the first one whose pattern
matches, so the order of the table matters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from sevenfold.core.hashing import Json

CLASSES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("syntax", r"(?:import: |gave !|right function: !|^)(?:SyntaxError|IndentationError|TabError)"),
        ("no function", r"^missing: |gave !KeyError$|^no tests|not a function"),
        ("import", r"import: (?:ModuleNotFoundError|ImportError)|gave !(?:ModuleNotFoundError|ImportError)"),
        ("name", r"(?:NameError|UnboundLocalError)$"),
        ("type", r"(?:TypeError|AttributeError)$"),
        ("index or key", r"(?:IndexError|KeyError|StopIteration)$"),
        ("arithmetic", r"(?:ZeroDivisionError|OverflowError|FloatingPointError)$"),
        ("recursion", r"RecursionError$"),
        ("time", r"limit: (?:processor time|idle)|OutOfTime$"),
        ("memory or output", r"limit: (?:memory|output)|MemoryError$|TooLong$"),
        ("compiler", r"^build"),
        ("diff", r"^diff: |no unified diff|the program as it was given"),
        ("form", r"^form$"),
        ("ended", r"the sample ended|gave !Lost$|SystemExit$"),
        ("wrong value", r"AssertionError$|gave |^values$|no bug is found|right function|^'"),
    )
)
OTHER = "other"


def failure_class(reason: str) -> str:
    """Return the class of a reason."""
    return next((name for name, pattern in CLASSES if pattern.search(reason)), OTHER)


def failure_counts(verdicts: Mapping[str, Iterable[Json]]) -> dict[str, int]:
    """Return how many failed samples each class has, the most frequent class first.

    `verdicts` has, for each item, the rows [extracted, verdict, reason, ..] of its samples.
    """
    found = Counter(
        failure_class(str(sample[2])) for row in verdicts.values() for sample in row if sample[1] == "fail"
    )
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
