"""Grade answers of the band by executing programs, comparing exact numbers, compiling, or checking
the form.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from fractions import Fraction

from sevenfold.evals.band.execution import MachineFault, results
from sevenfold.evals.tasks.cards import Item
from sevenfold.evals.tasks.programs import parsed
from sevenfold.sandbox.confined import Ending
from sevenfold.sandbox.grading import GradingVerdict, compiles
from sevenfold.synthetic.generators.python import apply
from sevenfold.synthetic.variety import parses

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:\n```|\Z)", re.DOTALL)
_MARKED = re.compile(r"(?:<FINAL>|</scratchpad>)\s*(-?\d+(?:/\d+)?)")
_PASSED = "'passed'"
# Runs the tests that a model wrote for a function.
_CHECK = """
def check_all():
    tests = [value for name, value in list(globals().items()) if name.startswith("test_")]
    for value in tests:
        value()
    return "passed" if tests else "no tests"
"""
# The errors that parsers raise for a text that is not a program or a number.
_NO_PROGRAM = (SyntaxError, ValueError, RecursionError, MemoryError)


def fenced(text: str) -> str:
    """Return the content of the first fenced block, up to the end of the text if it is not closed;
    "" without a block.
    """
    found = _FENCE.search(text)
    return f"{found[1]}\n" if found else ""


def marked(text: str) -> str:
    """Return the last number after a marker of an answer; "" if there is none."""
    found = _MARKED.findall(text)
    return found[-1] if found else ""


def _verdict(is_right: bool, reason: str) -> GradingVerdict:
    return GradingVerdict(verdict="pass" if is_right else "fail", reason="" if is_right else reason)


def _same(shown: str, expected: str) -> bool:
    """Return whether two values are equal as literals, or as text."""
    if shown == expected:
        return True
    try:
        first, second = ast.literal_eval(shown), ast.literal_eval(expected)
        return type(first) is type(second) and bool(first == second)
    except _NO_PROGRAM:
        return False


def _called(item: Item, source: str) -> GradingVerdict:
    """Return whether every call of a program returns the expected value."""
    target = item.target
    try:
        parsed(source)
    except SyntaxError as error:
        # The sandbox would report the same for the first call.
        return _verdict(False, f"{target['calls'][0][:60]} gave !{type(error).__name__}")
    except _NO_PROGRAM:
        pass
    found = results({"sample": source}, str(target["entry"]), target["calls"])["sample"]
    for call, shown, expected in zip(target["calls"], found, target["results"], strict=True):
        if not _same(shown, expected):
            return _verdict(False, f"{call[:60]} gave {shown[:60]}")
    return _verdict(True, "")


def calls(item: Item, source: str) -> GradingVerdict:
    """Return the verdict on a function."""
    return _called(item, source)


def refactor(item: Item, source: str) -> GradingVerdict:
    """Return the verdict on a refactoring. It passes with the same results from another program."""
    try:
        is_same = ast.dump(parsed(source)) == ast.dump(parsed(str(item.target["given"])))
    except _NO_PROGRAM as error:
        return _verdict(False, type(error).__name__)
    return _verdict(False, "the program as it was given") if is_same else _called(item, source)


def _patched(item: Item, diff: str) -> str:
    """Apply a diff to the given program and return it. Raises ValueError when it does not apply."""
    try:
        return apply(str(item.target["given"]), diff)
    except IndexError as error:
        raise ValueError("no unified diff") from error


def repair(item: Item, diff: str) -> GradingVerdict:
    """Return the verdict on a repair. It passes when the diff applies and gives the right results."""
    if not diff.startswith("--- "):
        return _verdict(False, "no unified diff")
    try:
        source = _patched(item, diff)
    except ValueError as error:
        return _verdict(False, f"diff: {error}"[:80])
    return _called(item, source)


def tests(item: Item, source: str) -> GradingVerdict:
    """Return the verdict on unit tests. They pass when the function passes them and a bug in it
    does not.
    """
    target = item.target
    programs = {"right": f"{target['given']}\n\n{source}{_CHECK}"}
    programs |= {str(i): f"{bug}\n\n{source}{_CHECK}" for i, bug in enumerate(target["bugs"])}
    found = results(programs, "check_all", ("()",))
    if found["right"] != [_PASSED]:
        return _verdict(False, f"the right function: {found['right'][0][:60]}")
    missed = all(found[key] == [_PASSED] for key in programs if key != "right")
    return _verdict(not missed, "no bug is found")


def answer(item: Item, found: str) -> GradingVerdict:
    """Return the verdict on a number, which must be exactly the right one."""
    try:
        is_right = Fraction(found) == Fraction(str(item.target["answer"]))
    except (ValueError, ZeroDivisionError):
        is_right = False
    return _verdict(is_right, f"{found[:40]!r}")


def rust(item: Item, source: str) -> GradingVerdict:
    """Return the verdict on Rust. It passes when it compiles and has the requested function."""
    entry = str(item.target["entry"])
    ending, said = compiles("rust", f"{source}\n#[allow(unused_imports)]\nuse self::{entry} as asked_for;\n")
    if ending is Ending.NONE:
        return GradingVerdict(verdict="none", reason="the machine stopped the compiler")
    return _verdict(ending is Ending.EXIT and not said, f"build: {said[:80]}")


def form(item: Item, text: str) -> GradingVerdict:
    """Return the verdict on the form of an answer. Its meaning is not checked."""
    return _verdict(_FORMS[str(item.target["form"])](item, text), "form")


def _is_python(item: Item, text: str) -> bool:
    if not text.startswith("```python\n"):
        return False
    try:
        body = parsed(fenced(text)).body
    except _NO_PROGRAM:
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == item.target["entry"] for node in body)


def _is_diff(item: Item, text: str) -> bool:
    diff = fenced(text)
    if not text.startswith("```diff\n") or not diff.startswith("--- "):
        return False
    try:
        return _patched(item, diff) != str(item.target["given"])
    except ValueError:
        return False


def _is_rust(item: Item, text: str) -> bool:
    code = fenced(text)
    is_named = re.search(rf"\bfn\s+{re.escape(str(item.target['entry']))}\b", code) is not None
    return text.startswith("```rust\n") and is_named and parses(code, "rust")


_FORMS: dict[str, Callable[[Item, str], bool]] = {
    "python": _is_python,
    "diff": _is_diff,
    "rust": _is_rust,
    "answer": lambda _item, text: marked(text) != "",
}


def _guarded(judge: Callable[[Item, str], GradingVerdict]) -> Callable[[Item, str], GradingVerdict]:
    """Return a grader that gives no verdict when the machine failed."""

    def guarded(item: Item, found: str) -> GradingVerdict:
        try:
            return judge(item, found)
        except MachineFault as error:
            return GradingVerdict(verdict="none", reason=str(error))

    return guarded


# The graders that execute programs in the worker sandbox.
WORKER: dict[str, Callable[[Item, str], GradingVerdict]] = {
    "band-calls": _guarded(calls),
    "band-refactor": _guarded(refactor),
    "band-repair": _guarded(repair),
    "band-tests": _guarded(tests),
}
OTHERS: dict[str, Callable[[Item, str], GradingVerdict]] = {
    "band-answer": answer,
    "band-rust": rust,
    "band-form": form,
}
