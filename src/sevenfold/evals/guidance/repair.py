"""Rounds of repair (C10): run the tests in the prompt, report what failed, apply a patch, run again.

The prompt has the form of the repairs in the corpus, and the model answers with a unified diff. The
hidden tests decide the score and are never shown. A round is a greedy answer for each program that
still fails. A patch that does not apply leaves its program unchanged.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from sevenfold.core.hashing import Json
from sevenfold.engine.sampling import GREEDY
from sevenfold.evals.band.graders import fenced
from sevenfold.evals.decoding.decoder import EvaluationDecoder
from sevenfold.evals.grading import graders
from sevenfold.evals.grading.failures import failure_class
from sevenfold.evals.guidance.guided import visible_tests
from sevenfold.evals.scoring import statistics
from sevenfold.evals.tasks.cards import Card, Item
from sevenfold.evals.tasks.data import plain
from sevenfold.sandbox.grading import GradingVerdict, PythonTests, judge_python
from sevenfold.synthetic.generators.python import apply

MAX_PATCH_TOKENS = 256
_STOPS = ("\n### ",)
_SHOWN = re.compile(r"(\d+) (raises|returns) (.*)", re.DOTALL)
_PROMPT = "### Instruction:\nA test fails. Give a patch. {said}\n\n```python\n{program}```\n\n### Response:\n"
# Each test in the prompt reports its number and its result in the name of the exception that it
# raises.
_TEST = """
try:
    seen = {call}
except Exception as error:
    raise type("{number} raises " + type(error).__name__, (Exception,), {{}})
if not seen == {wanted}:
    raise type("{number} returns " + repr(seen)[:100], (Exception,), {{}})
"""


@dataclass(kw_only=True)
class Mending:
    """A program in the rounds of repair. `classes` are those of its failures."""

    item: Item
    program: str
    tests: list[tuple[str, str]]
    said: str = ""
    n_rounds: int = 0
    classes: list[str] = field(default_factory=list)


def shown_pairs(item: Item) -> list[tuple[str, str]]:
    """Return (call, expected value) of each test in the prompt that is an equality."""
    found = []
    for test in visible_tests(item):
        try:
            (node,) = ast.parse(test).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare):
            compare = node.test
            if len(compare.ops) == 1 and isinstance(compare.ops[0], ast.Eq):
                found.append((ast.unparse(compare.left), ast.unparse(compare.comparators[0])))
    return found


def program_of(item: Item, answer: str) -> str:
    """Return the program of a prompt and an answer."""
    return answer if "tests" in item.target else item.prompt + answer


def run_shown(
    one: Mending, judge: Callable[[PythonTests], GradingVerdict] = lambda t: judge_python(t, graders.LIMITS)
) -> bool:
    """Return whether a program passes the tests in its prompt. Store the report and the class of a
    failure.

    Raises:
        SandboxError: programs cannot be confined here.
    """
    target = one.item.target
    is_mbpp = "tests" in target
    tests = "".join(
        _TEST.format(call=call, wanted=wanted, number=i) for i, (call, wanted) in enumerate(one.tests)
    )
    task = PythonTests(
        source=one.program,
        prelude="" if is_mbpp else f"{target['prompt']}    pass\n",
        tests="\n".join([str(target.get("setup", "")), tests]),
        functions=tuple(target["functions"]) if is_mbpp else (str(target["entry_point"]),),
    )
    verdict = judge(task)
    if verdict.verdict == "pass":
        return True
    shown = _SHOWN.fullmatch(verdict.reason)
    if shown is None:
        one.said = f"It does not run: {verdict.reason}."
        one.classes.append(failure_class(verdict.reason))
        return False
    call, wanted = one.tests[int(shown[1])]
    one.said = f"`{call}` {shown[2]} {shown[3]}, expected {wanted}."
    one.classes.append(failure_class(shown[3] if shown[2] == "raises" else "AssertionError"))
    return False


def patched(program: str, answer: str) -> str | None:
    """Apply the diff of an answer to a program and return it. Return None when the diff does not
    apply or changes nothing.
    """
    diff = fenced(graders.cut(answer, _STOPS))
    if not diff.startswith("--- "):
        return None
    try:
        new = apply(program, diff)
    except (ValueError, IndexError):
        return None
    return new if new != program else None


def repair(
    decoder: EvaluationDecoder, answers: Mapping[str, str], items: Sequence[Item], n_rounds: int
) -> list[Mending]:
    """Return the programs of some items after at most `n_rounds` rounds.

    Args:
        answers: the first answer of each item, as its extraction rule returned it.

    Raises:
        SandboxError, GateError: what the sandbox and the decoder raise.
    """
    found = [
        Mending(item=item, program=program_of(item, answers[item.id]), tests=shown_pairs(item))
        for item in items
    ]
    open_ones = [one for one in found if one.tests and not run_shown(one)]
    for _ in range(n_rounds):
        asked = [(one, Item(id=one.item.id, prompt=_prompt(one))) for one in open_ones]
        fitting = [(one, item) for one, item in asked if _fits(decoder, item)]
        answered = decoder.generate([item for _, item in fitting], _STOPS, MAX_PATCH_TOKENS, GREEDY)
        for (one, _), (_, (answer,)) in zip(fitting, answered, strict=True):
            one.n_rounds += 1
            new = patched(one.program, decoder.tokenizer.decode(answer.ids))
            if new is None:
                one.classes.append("diff")
            else:
                one.program = new
        open_ones = [one for one, _ in fitting if one.classes[-1] == "diff" or not run_shown(one)]
    return found


def _prompt(one: Mending) -> str:
    program = one.program if one.program.endswith("\n") else f"{one.program}\n"
    return plain(_PROMPT.format(said=one.said, program=program))


def _fits(decoder: EvaluationDecoder, item: Item) -> bool:
    """Return whether a prompt leaves room for a patch. Without room the program has no round."""
    return len(decoder.tokenizer.encode(item.prompt)) + 1 < decoder.model.context


def repaired(
    decoder: EvaluationDecoder,
    card: Card,
    items: Sequence[Item],
    verdicts: Mapping[str, Json],
    rule: str,
    n_rounds: int,
) -> tuple[dict[str, Json], Json]:
    """Return the outcome of the first answer of each item, and the score.

    `verdicts` are those of the hidden tests. They judge a program again after a round changed it.

    Raises:
        SandboxError, GateError: as `repair`.
    """
    answers = {item.id: str(verdicts[item.id][0][0]) for item in items}
    first = {item.id: verdicts[item.id][0][1] == "pass" for item in items}
    mended = repair(decoder, answers, items, n_rounds)
    passed = {
        one.item.id: first[one.item.id]
        if one.program == program_of(one.item, answers[one.item.id])
        else graders.judge_program(card, one.item, one.program).verdict == "pass"
        for one in mended
    }
    facts = {
        one.item.id: {"rounds": one.n_rounds, "failures": one.classes, "program": one.program}
        for one in mended
        if one.classes
    }
    return facts, repair_score(mended, first, passed, rule)


def repair_score(
    mended: Sequence[Mending], first: Mapping[str, bool], passed: Mapping[str, bool], rule: str
) -> Json:
    """Return pass@1 after the rounds, the use of the budget, and the classes of all failures in the
    rounds.
    """
    shares = [Fraction(passed[one.item.id]) for one in mended]
    failed = [passed[one.item.id] for one in mended if not first[one.item.id]]
    return {
        "metric": "pass@1 repaired",
        "extract": rule,
        **statistics.figure(statistics.mean(shares), len(mended)),
        "rounds": sum(one.n_rounds for one in mended),
        "items_with_visible_tests": sum(1 for one in mended if one.tests),
        "first_failures_mended": f"{sum(failed)}/{len(failed)}",
        "failures_seen": dict(sorted(Counter(name for one in mended for name in one.classes).items())),
    }
