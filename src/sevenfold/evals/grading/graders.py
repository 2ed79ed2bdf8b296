"""Turn the text of an answer into a verdict by an extraction rule and a grader.

An extraction rule is a pure function with a name in the card. Graders that compare texts decide in
this process. Graders of programs make a task for the sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sevenfold.core.hashing import Json
from sevenfold.evals.band import execution
from sevenfold.evals.band import graders as band
from sevenfold.evals.grading.rust import judge_rust
from sevenfold.evals.tasks.cards import Card, Item
from sevenfold.evals.tasks.programs import parsed
from sevenfold.sandbox.confined import ProcessLimits, bubblewrap
from sevenfold.sandbox.grading import GradingVerdict, PythonTests, executor_facts, judge_python

PASS, FAIL = "pass", "fail"
# The slowest reference solution (MBPP/123) takes 1.5 s on a Zen 5 and 4 s on a busy server of 2.3 GHz.
# With a lower limit the verdict would depend on the machine.
LIMITS = ProcessLimits(processor_seconds=12)
MAX_PARSE_LINES = 400
_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")


def cut(text: str, stops: Sequence[str]) -> str:
    """Return a text up to the first of the stop texts."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def _completion(_item: Item, text: str) -> str:
    return text


def _parsing_prefix(item: Item, text: str) -> str:
    """Return the longest prefix of lines with which the prompt is a program. Return the text if
    there is none.
    """
    lines = text.splitlines(keepends=True)[:MAX_PARSE_LINES]
    for n in range(len(lines), 0, -1):
        candidate = "".join(lines[:n])
        try:
            parsed(item.prompt + candidate)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return candidate
    return text


def _number(match: re.Match[str] | None) -> str:
    return "" if match is None else next((g for g in match.groups() if g), "")


def _strict(_item: Item, text: str) -> str:
    return _number(_STRICT.search(text))


def _flexible(_item: Item, text: str) -> str:
    found = list(_FLEXIBLE.finditer(text))
    return _number(found[-1] if found else None)


def boxed(text: str) -> str:
    r"""Return the content of the last \boxed{...} of a text, or else what follows the last "answer
    is".
    """
    start = text.rfind(r"\boxed{")
    if start < 0:
        _, found, rest = text.rpartition("answer is")
        return rest.strip().split("\n")[0].rstrip(".") if found else ""
    depth, begin = 0, start + len(r"\boxed{")
    for place in range(begin - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place]
    return ""


EXTRACTIONS: dict[str, Callable[[Item, str], str]] = {
    "completion": _completion,
    "parsing-prefix": _parsing_prefix,
    "gsm8k-strict": _strict,
    "gsm8k-flexible": _flexible,
    "boxed": lambda _item, text: boxed(text),
    "fenced": lambda _item, text: band.fenced(text),
    "marked": lambda _item, text: band.marked(text),
}


def plain_number(text: str) -> str:
    """Return a number as lm-eval compares it: without `,`, `$` and a final point."""
    return re.sub(r"\.$", "", text.replace(",", "").replace("$", "")).strip().lower()


def plain_math(text: str) -> str:
    """Return a formula in the form in which formulas are compared, without layout and units that
    carry no meaning.
    """
    for old, new in (
        ("\\left", ""), ("\\right", ""), ("\\!", ""), ("\\,", ""), ("\\ ", ""), ("\\;", ""), ("$", ""),
        ("^\\circ", ""),
        ("\\%", ""), ("%", ""), ("tfrac", "frac"), ("dfrac", "frac"), ("\\cdot", "*"), (" ", ""), ("\n", ""),
    ):  # fmt: skip
        text = text.replace(old, new)
    text = re.sub(r"\\(?:text|mathrm|mbox|textbf)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\frac([0-9a-z])([0-9a-z])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"(?<![0-9])(-?)0?(\.[0-9]+)", r"\g<1>0\2", text)
    text = re.sub(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))", "", text)
    return re.sub(r"^[a-z]=", "", text).rstrip(".")


def _grade_number(item: Item, found: str) -> GradingVerdict:
    expected = str(item.target["answer"]).rpartition("#### ")[2]
    is_right = found != "" and plain_number(found) == plain_number(expected)
    return GradingVerdict(verdict=PASS if is_right else FAIL, reason="" if is_right else f"{found[:40]!r}")


def _grade_math(item: Item, found: str) -> GradingVerdict:
    is_right = found != "" and plain_math(found) == plain_math(str(item.target["answer"]))
    return GradingVerdict(verdict=PASS if is_right else FAIL, reason="" if is_right else f"{found[:40]!r}")


def _judged(task: PythonTests) -> GradingVerdict:
    """Return the verdict on a task. A text that is not a program needs no sandbox."""
    try:
        parsed(task.source)
    except SyntaxError as error:
        return GradingVerdict(verdict=FAIL, reason=f"import: {type(error).__name__}")
    except (ValueError, RecursionError, MemoryError):
        # The interpreter of the sandbox decides about this text.
        pass
    return judge_python(task, LIMITS)


def _check(item: Item, source: str) -> PythonTests:
    name = str(item.target["entry_point"])
    # The parts that the task defines: helpers above the function, and the head of the function.
    prelude = str(item.target.get("prelude", item.target["prompt"])) + "    pass\n"
    return PythonTests(
        source=source, prelude=prelude, tests=str(item.target["test"]), functions=(name,), check=name
    )


def _grade_humaneval(item: Item, found: str) -> GradingVerdict:
    return _judged(_check(item, item.prompt + found))


def _grade_infilling(item: Item, found: str) -> GradingVerdict:
    # The prompt asks for one line, so a newline follows it.
    return _grade_middle(item, f"{found}\n")


def _grade_middle(item: Item, found: str) -> GradingVerdict:
    target = item.target
    source = f"{target['prompt']}{found}{target['suffix']}"
    # All helpers of the task come before the head of the entry point.
    head = str(target["prompt"])
    place = head.rfind(f"def {target['entry_point']}(")
    end = head.find('"""', head.find('"""', place) + 3)
    end = head.find("'''", head.find("'''", place) + 3) if end < 0 else end
    prelude = head[: end + 3] + "\n"
    item = Item(id=item.id, prompt=item.prompt, target={**target, "prelude": prelude})
    return _judged(_check(item, source))


def _grade_mbpp(item: Item, found: str) -> GradingVerdict:
    target = item.target
    return _judged(
        PythonTests(
            source=found.replace("\r", ""),
            prelude="",
            # The setup may use classes of the sample.
            tests="\n".join([str(target["setup"]), *target["tests"]]),
            functions=tuple(target["functions"]),
        )
    )


def _grade_rust(item: Item, found: str) -> GradingVerdict:
    return judge_rust(str(item.target["prompt"]), found, str(item.target["tests"]))


GRADERS: dict[str, Callable[[Item, str], GradingVerdict]] = {
    "number": _grade_number,
    "math": _grade_math,
    "humaneval": _grade_humaneval,
    "infilling": _grade_infilling,
    "infilling-multi": _grade_middle,
    "mbpp": _grade_mbpp,
    "rust": _grade_rust,
    **band.WORKER,
    **band.OTHERS,
}
# The graders that execute programs under bubblewrap, with the languages that they need.
EXECUTES = {
    "humaneval": ("python",), "infilling": ("python",), "infilling-multi": ("python",),
    "mbpp": ("python",), "rust": ("rust",),
    "band-rust": ("rust",),
}  # fmt: skip


def is_of_programs(grade: str) -> bool:
    """Return whether a grader grades programs."""
    return grade in EXECUTES or grade in band.WORKER


def executor(grade: str) -> Json:
    """Return the facts that decide verdicts besides the sample; None when nothing is executed."""
    if grade in band.WORKER:
        return execution.facts()
    return executor_facts(LIMITS, EXECUTES[grade]) if grade in EXECUTES else None


def check_executor(grade: str) -> None:
    """Check that a grader can execute programs here. Raises SandboxError."""
    if grade in band.WORKER:
        execution.check()
    elif grade in EXECUTES:
        bubblewrap()


def judge_program(card: Card, item: Item, program: str) -> GradingVerdict:
    """Return the verdict of the hidden tests on a whole program, which includes its prompt.

    Raises:
        SandboxError: programs cannot be confined here.
    """
    return _grade_mbpp(item, program) if card.grade == "mbpp" else _judged(_check(item, program))


def judge(card: Card, item: Item, text: str, rule: str) -> tuple[str, GradingVerdict]:
    """Return the part of an answer that a rule extracts, and the verdict on it.

    Raises:
        SandboxError: programs cannot be confined here.
    """
    found = EXTRACTIONS[rule](item, cut(text, card.stops))
    return found, GRADERS[card.grade](item, found)
