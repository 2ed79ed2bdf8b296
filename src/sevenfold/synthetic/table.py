"""The table of generators: the name for recipes, the domain of the samples, and the function that
makes them.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass

from sevenfold.synthetic.generators import python
from sevenfold.synthetic.generators.arithmetic import expression, maker, method
from sevenfold.synthetic.generators.portable import repairing, rust_reasoning, writing
from sevenfold.synthetic.generators.stories import story
from sevenfold.synthetic.sample import Maker

# Raise it when a generator's samples change.
VERSION = 1


def made_with() -> str:
    """Return the version of the generators, and that of the interpreter whose results samples
    quote.
    """
    return f"{VERSION}, {platform.python_implementation()} {'.'.join(platform.python_version_tuple()[:2])}"


@dataclass(frozen=True, slots=True)
class Generator:
    """A generator. `domain` is the domain of its samples in the mix. `extension` ends the names of its
    documents and tells their language. `checked` says how samples are checked.
    """

    domain: str
    extension: str
    checked: str
    make: Maker
    # Its share of a count that names no generator.
    share: int = 1


GENERATORS: Mapping[str, Generator] = {
    "python-function": Generator("instructions", "md", "executed", python.function, 6),
    "python-tests": Generator("instructions", "md", "executed", python.unit_tests, 3),
    "python-explain": Generator("instructions", "md", "executed", python.explanation, 3),
    "python-repair": Generator("instructions", "md", "executed", python.repair, 4),
    "python-refactor": Generator("instructions", "md", "executed", python.refactoring, 3),
    "javascript-function": Generator("instructions", "md", "parsed", writing("javascript"), 2),
    "javascript-repair": Generator("instructions", "md", "parsed", repairing("javascript")),
    "c-function": Generator("instructions", "md", "parsed", writing("c"), 2),
    "c-repair": Generator("instructions", "md", "parsed", repairing("c")),
    "bash-function": Generator("instructions", "md", "parsed", writing("bash")),
    "rust-function": Generator("instructions", "md", "parsed", writing("rust")),
    "rust-repair": Generator("instructions", "md", "parsed", repairing("rust")),
    "rust-reasoning": Generator("reasoning", "md", "parsed", rust_reasoning, 2),
    "arithmetic": Generator("math", "md", "evaluated", maker(expression), 4),
    "methods": Generator("math", "md", "evaluated", maker(method), 2),
    "word-problems": Generator("math", "md", "evaluated", maker(story), 5),
}
