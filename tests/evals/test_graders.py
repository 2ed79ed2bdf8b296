"""Extraction rules and graders; with the sets, their reference solutions."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.evals.band import items
from sevenfold.evals.grading import graders
from sevenfold.evals.grading.rust import asserts_of, judge_rust
from sevenfold.evals.suites import make_task, resolve
from sevenfold.evals.tasks import data
from sevenfold.evals.tasks.builders import BUILDERS
from sevenfold.evals.tasks.cards import KINDS, Card, Item, cards, task_root
from sevenfold.evals.tasks.made import MADE

DATA = Path(os.environ.get("SEVENFOLD_DATA", "../shared/data")) / "eval"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the evaluation sets are not here (SEVENFOLD_DATA)")
needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
ITEM = Item(id="a", prompt="def f(x):\n", target={})


@pytest.mark.parametrize(
    ("rule", "text", "found"),
    [
        ("completion", "    return 1\n", "    return 1\n"),
        ("parsing-prefix", "    return 1\n\nx = (\n", "    return 1\n\n"),
        ("parsing-prefix", "(((", "((("),
        ("gsm8k-strict", "a\n#### 1,234.\n#### 9", "1,234."),
        ("gsm8k-strict", "so it is 12", ""),
        ("gsm8k-flexible", "so 3 apples cost $1,234.50", "$1,234.50"),
        ("gsm8k-flexible", "7", "7"),
        ("gsm8k-flexible", "none", ""),
        ("boxed", r"so \boxed{1} and \boxed{\frac{1}{2}} end", r"\frac{1}{2}"),
        ("boxed", r"\boxed{1", ""),
        ("boxed", "the answer is 4.\nx", "4"),
    ],
)
def test_extraction(rule: str, text: str, found: str) -> None:
    assert graders.EXTRACTIONS[rule](ITEM, text) == found


@pytest.mark.parametrize(
    ("a", "b", "is_same"),
    [
        (r"\frac12", r"\dfrac{1}{2}", True),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})", True),
        (r"10\%", "10", True),
        ("1,000", "1000", True),
        (".5", "0.5", True),
        (r"x=4", "4", True),
        (r"\text{yes}", "yes", True),
        ("(1,000)", "(1000)", True),
        ("(1,2)", "(12)", False),
        ("3", "4", False),
    ],
)
def test_formulas_are_compared_after_normalisation(a: str, b: str, is_same: bool) -> None:
    assert (graders.plain_math(a) == graders.plain_math(b)) is is_same


def test_an_answer_ends_at_the_first_stop() -> None:
    assert graders.cut("a\nclass b\ndef c", ("\ndef", "\nclass")) == "a"
    assert graders.cut("abc", ("x",)) == "abc"


def test_numbers() -> None:
    card, item = cards()["gsm8k"], Item(id="a", prompt="", target={"answer": "so\n#### 1,234"})
    assert graders.judge(card, item, " it is\n#### 1234.\n", "gsm8k-strict")[1].verdict == "pass"
    assert graders.judge(card, item, " it is\n#### 1235", "gsm8k-strict")[1].verdict == "fail"
    assert graders.judge(card, item, "", "gsm8k-flexible")[1].verdict == "fail"


def test_cards_are_whole() -> None:
    for card in cards().values():
        assert card.kind in KINDS
        own = MADE if card.set == "made" else items.NAMES
        makers = BUILDERS if card.set in data.sets() else own
        assert card.build in makers or card.kind == "text"
        assert set(card.extract) <= set(graders.EXTRACTIONS)
        assert card.protocol
        assert (card.kind == "generate") is bool(
            card.extract and card.max_tokens and card.grade in graders.GRADERS
        )
        # Spans of several lines are the one answer that no text ends.
        assert bool(card.stops) is (card.kind == "generate" and "-multi-" not in card.name)
        is_filled = card.name.startswith("infilling-")
        assert (card.kind != "generate" or is_filled) is bool(card.metrics)


def test_suites_are_resolved_and_wrong_names_are_refused() -> None:
    assert [card.name for card, _ in resolve(["quick"])] == [
        "humaneval",
        "mbpp-0shot",
        "gsm8k",
        "mmlu-cloze",
        "hellaswag",
    ]
    with pytest.raises(UsageError, match="may not be redistributed"):
        resolve(["arc"])
    with pytest.raises(UsageError, match="no suite 'x'"):
        resolve(["x"])


def test_the_root_of_a_task_binds_card_and_items() -> None:
    card, item = cards()["gsm8k"], Item(id="a", prompt="p", target={"answer": "1"})
    roots = {
        task_root(card, [item]),
        task_root(cards()["math500"], [item]),
        task_root(card, [Item(id="b", prompt="p", target={"answer": "1"})]),
        task_root(card, [Item(id="a", prompt="q", target={"answer": "1"})]),
        task_root(card, [Item(id="a", prompt="p", target={"answer": "2"})]),
        task_root(card, [Item(id="a", prompt="p", choices=("c",), target={"answer": "1"})]),
        task_root(card, [item, item]),
    }
    assert len(roots) == 7


def test_data_that_is_missing_or_altered_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not here"):
        data.read_set("gsm8k", tmp_path)
    (tmp_path / "math500").mkdir()
    (tmp_path / "math500" / "test.jsonl").write_text(json.dumps({"problem": "x"}))
    with pytest.raises(StorageError, match="not the one of the table"):
        data.read_set("math500", tmp_path)
    with pytest.raises(StorageError, match="no evaluation data"):
        data.data_directory(tmp_path / "nothing")


def test_control_characters_leave_prompts() -> None:
    assert data.plain("a\x0bb\x1b[0m\tc\n\x85") == "ab[0m\tc\n"


def test_asserts_of_rust_tests_are_taken_apart() -> None:
    tests = 'assert_eq!(candidate(vec![(1, 2)], String::from("a)\\"(")), Some(vec![3]));\n'
    tests += "assert_eq!(candidate(), ());"
    assert asserts_of(tests) == [('vec![(1, 2)], String::from("a)\\"(")', "Some(vec![3])"), ("", "()")]


@needs_data
def test_items_of_every_card_that_is_quick_to_make() -> None:
    counts = {
        "humaneval": 164,
        "mbpp": 500,
        "mbpp-0shot": 500,
        "math500": 500,
        "infilling": 1033,
        "multipl-e-rust": 156,
    }
    for name, n in counts.items():
        task = make_task(cards()[name], DATA)
        assert (len(task.items), len({item.id for item in task.items})) == (n, n)
    subset = make_task(cards()["humaneval"], DATA, 3)
    assert len(subset.items) == 3
    assert subset.root != make_task(cards()["humaneval"], DATA).root


def _reference_verdicts(card: Card, texts: list[str], step: int = 1) -> list[str]:
    items = make_task(card, DATA).items
    return [
        item.id
        for item, text in list(zip(items, texts, strict=True))[::step]
        if graders.GRADERS[card.grade](item, text).verdict != "pass"
    ]


@needs_data
@needs_bubblewrap
def test_reference_solutions_pass() -> None:
    rows = data.json_lines(data.read_set("humaneval", DATA)["humaneval/HumanEval.jsonl.gz"])
    assert _reference_verdicts(cards()["humaneval"], [row["canonical_solution"] for row in rows], 16) == []


@needs_data
@needs_bubblewrap
@pytest.mark.slow
def test_all_reference_solutions_pass() -> None:
    rows = data.json_lines(data.read_set("humaneval", DATA)["humaneval/HumanEval.jsonl.gz"])
    assert _reference_verdicts(cards()["humaneval"], [row["canonical_solution"] for row in rows]) == []
    rows = data.json_lines(next(iter(data.read_set("humaneval_infilling", DATA).values())))
    lines = [row["canonical_solution"].rstrip("\n") for row in rows]
    assert _reference_verdicts(cards()["infilling"], lines, 10) == []
    rows = [
        row
        for row in data.json_lines(next(iter(data.read_set("mbpp", DATA).values())))
        if 11 <= row["task_id"] <= 510
    ]
    assert _reference_verdicts(cards()["mbpp"], [row["code"] for row in rows]) == []


@needs_data
@needs_bubblewrap
@pytest.mark.slow
def test_rust_is_judged_outside_of_the_sample() -> None:
    pytest.importorskip("pyseccomp")
    row = next(iter(data.json_lines(next(iter(data.read_set("multipl_e", DATA).values())))))
    prompt, tests = row["prompt"], row["tests"]
    for completion, verdict in (
        ("    string.len() as isize", "pass"),
        ("    0", "fail"),
        ("    std::process::exit(0)", "fail"),
        ("    panic!()", "fail"),
        ("    loop {}", "fail"),
        ('    println!("0"); string.len() as isize', "fail"),
        ("    }\n    fn main() { std::process::exit(0)", "fail"),
        ("    no program", "fail"),
    ):
        assert judge_rust(prompt, completion, tests).verdict == verdict, completion
