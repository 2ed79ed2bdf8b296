"""Grade Rust samples outside of their process.

The tests of MultiPL-E are `assert_eq!(candidate(...), expected)` in the `main` of the sample's
program. There a sample could end the process with success. The asserts are therefore split: a
program with the sample prints the value of each call, a program without it prints each expected
value, and the two outputs are compared here. A trait of ours prints values, and equal values have
the same text.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib.resources import files

from sevenfold.sandbox.confined import Ending, ProcessLimits
from sevenfold.sandbox.grading import GradingVerdict, run_program

LIMITS = ProcessLimits()
_SIGNATURE = re.compile(r"^fn\s+(\w+)\s*\((?:.|\n)*?\)\s*(?:->\s*((?:.|\n)*?))?\s*\{\s*$", re.MULTILINE)
_CALL = "assert_eq!(candidate("


@cache
def _show() -> str:
    return files(__package__).joinpath("show.rs").read_text(encoding="utf-8")


def asserts_of(tests: str) -> list[tuple[str, str]]:
    """Return (arguments, expected) of each assert of a test program."""
    found, place = [], 0
    while (place := tests.find(_CALL, place)) >= 0:
        begin = place + len(_CALL)
        end = _closing(tests, begin)
        last = _closing(tests, end + 1)
        expected = tests[end + 1 : last].lstrip().removeprefix(",").strip()
        found.append((tests[begin:end], expected))
        place = last
    return found


def _closing(text: str, begin: int) -> int:
    """Return the place of the bracket that closes the one before `begin`."""
    depth, is_text, place = 0, False, begin
    while place < len(text):
        letter = text[place]
        if is_text:
            place += letter == "\\"
            is_text = letter != '"'
        elif letter == '"':
            is_text = True
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            if depth == 0:
                return place
            depth -= 1
        place += 1
    return len(text)


def _imports(prompt: str) -> str:
    return "".join(line for line in prompt.splitlines(keepends=True) if line.startswith("use "))


@lru_cache(maxsize=512)
def expected_values(prompt: str, tests: str) -> tuple[str, ...] | None:
    """Return the printed expected values of a task; None when they do not compile.

    Raises:
        SandboxError, UsageError: it cannot be executed here.
    """
    signature = _SIGNATURE.search(prompt)
    kind = (signature.group(2) if signature else None) or "()"
    lines = "".join(
        f'    {{ let e: {kind} = {expected}; println!("{{}}", e.s7()); }}\n'
        for _, expected in asserts_of(tests)
    )
    found = run_program("rust", f"{_imports(prompt)}{_show()}fn main() {{\n{lines}}}\n", LIMITS)
    if found.exit_code != 0 or found.ending is not Ending.EXIT:
        return None
    return tuple(found.out.decode("utf-8", "replace").splitlines())


def judge_rust(prompt: str, completion: str, tests: str) -> GradingVerdict:
    """Return the verdict on a sample. It passes when each call returns the expected value.

    Raises:
        SandboxError, UsageError: it cannot be executed here.
    """
    expected = expected_values(prompt, tests)
    if expected is None:
        return GradingVerdict(verdict="none", reason="the task's own values do not build")
    named = re.search(r"let candidate = (\w+);", tests)
    name = named.group(1) if named else ""
    lines = "".join(
        f'    println!("{{}}", {name}({arguments}).s7());\n' for arguments, _ in asserts_of(tests)
    )
    source = f"{prompt}{completion}\n}}\n{_show()}\nfn main() {{\n{lines}}}\n"
    found = run_program("rust", source, LIMITS)
    if found.ending is Ending.NONE:
        return GradingVerdict(verdict="none", reason="the machine stopped it", seconds=found.seconds)
    if found.error.startswith("build:"):
        return GradingVerdict(verdict="fail", reason="build", seconds=found.seconds)
    if found.ending is not Ending.EXIT:
        return GradingVerdict(verdict="fail", reason=f"limit: {found.ending.value}", seconds=found.seconds)
    is_right = found.exit_code == 0 and tuple(found.out.decode("utf-8", "replace").splitlines()) == expected
    reason = "" if is_right else ("values" if found.exit_code == 0 else "panic")
    return GradingVerdict(verdict="pass" if is_right else "fail", reason=reason, seconds=found.seconds)
