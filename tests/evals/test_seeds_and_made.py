"""Several seeds in one run; items that need no data; fill-in-middle; grading beside decoding."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from sevenfold.core.errors import UsageError
from sevenfold.core.process.log import Silent
from sevenfold.engine.sampling import DecodingLaw
from sevenfold.engine.session import Model
from sevenfold.evals.decoding.decoder import EvaluationDecoder
from sevenfold.evals.grading import failures, graders
from sevenfold.evals.leaks import NOT_CHECKABLE
from sevenfold.evals.run import EvaluationSettings, evaluate, read_run
from sevenfold.evals.scoring.scores import choice_scores, ending_scores, sample_scores
from sevenfold.evals.seeds import evaluate_seeds, over_seeds
from sevenfold.evals.suites import make_task
from sevenfold.evals.tasks import builders, made
from sevenfold.evals.tasks.cards import Card, Item, Task, cards, task_root
from sevenfold.runs.job import Job
from sevenfold.sandbox import grading
from sevenfold.sandbox.grading import GradingVerdict

LAW = DecodingLaw.parse("0.9", 0, "0", "0.95", 4)
PROGRAM = "def f(x):\n    y = x\n    y += 1\n    return y\n"
ROW = {
    "task_id": "made/0",
    "entry_point": "f",
    "prompt": 'def f(x):\n    """Add one."""\n',
    "canonical_solution": "    y = x\n    y += 1\n    return y\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}


@pytest.fixture(scope="module")
def model(dense_run: Job) -> Model:
    return Model.open(dense_run.out / "model.s7l")


def task_of(n: int) -> Task:
    card = Card(
        name="made", set="gsm8k", protocol="a test", kind="generate", build="gsm8k", stops=("\n\n",),
        max_tokens=6, extract=("gsm8k-flexible",), grade="number",
    )  # fmt: skip
    items = tuple(Item(id=f"i{i}", prompt=f"x = {i}", target={"answer": "#### 1"}) for i in range(n))
    return Task(card=card, items=items, n_in_set=n, root=task_root(card, items))


def test_seeds_are_runs_of_their_own_and_one_over_them(model: Model, tmp_path: Path) -> None:
    decoder, settings = EvaluationDecoder(model), EvaluationSettings(law=LAW, n_samples=2, n_workers=2)
    found = evaluate_seeds(decoder, task_of(5), tmp_path, settings, 3, NOT_CHECKABLE, Silent())
    assert read_run(tmp_path / "made.eval.json") == found
    alone = [
        evaluate(
            decoder,
            task_of(5),
            tmp_path / f"alone-{seed}",
            replace(settings, law=replace(LAW, seed=seed)),
            NOT_CHECKABLE,
            Silent(),
        )
        for seed in (4, 5, 6)
    ]
    assert found["runs"] == [
        {"seed": seed, "root": run["root"]} for seed, run in zip((4, 5, 6), alone, strict=True)
    ]
    assert len({run["root"] for run in alone}) == 3
    assert found["law"]["seeds"] == [4, 5, 6]
    assert all(len(score["by_seed"]) == 3 for score in found["scores"])
    with pytest.raises(UsageError, match="3 seeds at temperature 0"):
        evaluate_seeds(decoder, task_of(1), tmp_path, EvaluationSettings(), 3, NOT_CHECKABLE, Silent())


def test_the_mean_over_seeds_is_exact() -> None:
    rows = [
        [{"metric": "pass@1", "extract": "completion", "exact": share, "n": 8}]
        for share in ("1/4", "1/2", "1/2")
    ]
    (score,) = over_seeds(rows)
    assert score["exact"] == "5/12"
    assert score["by_seed"] == [0.25, 0.5, 0.5]
    assert score["spread"] == 0.25
    assert score["sd"] == pytest.approx(0.144338)
    assert score["low"] < 5 / 12 < score["high"]


def test_sums_have_three_digits_and_are_right() -> None:
    task = make_task(cards()["addition-3"], None)
    assert len({item.id for item in task.items}) == len(task.items) == made.N_SUMS
    for item in task.items:
        a, b = map(int, item.id.split("+"))
        assert min(a, b) >= 100
        assert max(a, b) <= 999
        assert f"What is {a} + {b}?" in item.prompt
        assert item.target["answer"] == str(a + b)
    item = task.items[0]
    card = task.card
    assert graders.judge(card, item, f"<FINAL> {item.target['answer']}", "marked")[1].verdict == "pass"
    assert graders.judge(card, item, "<FINAL> 1", "marked")[1].verdict == "fail"


@pytest.mark.parametrize("name", ["probe-needle", "probe-definition"])
def test_probes_hold_what_they_ask_for_at_their_distance(name: str) -> None:
    task = make_task(cards()[name], None)
    assert len(task.items) == made.N_PROBES * len(made.DISTANCES)
    for item in task.items:
        distance = int(str(item.target["row"]).split()[1])
        first, _, rest = item.prompt.partition(".")
        assert distance <= len(rest) < distance + 150
        right = item.choices[int(item.target["answer"])].strip()
        assert len(set(item.choices)) == 4
        if name == "probe-needle":
            assert first.endswith(f" is {right}")
            assert right not in rest
        else:
            word = made.WORDS[int(right) - 2]
            assert f" {word} apples" in first
            assert word not in rest
            assert right not in item.prompt
    # The first items have every distance.
    assert len({item.target["row"] for item in task.items[:4]}) == 4


def test_choices_have_a_score_for_each_row() -> None:
    card = cards()["probe-needle"]
    items = [
        Item(id=str(i), prompt="x", choices=("a", "b"), target={"answer": 0, "row": f"distance {i % 2}"})
        for i in range(4)
    ]
    rows = {item.id: {"likelihoods": [[-1 - int(item.id) % 2, 1, True], [-1.5, 1, False]]} for item in items}
    found = {score["metric"]: score["value"] for score in choice_scores(card, items, rows)}
    assert found == {"acc": 0.5, "acc distance 0": 1.0, "acc distance 1": 0.0}


def test_answers_that_end_by_themselves_are_counted_by_row() -> None:
    items = [Item(id=str(i), prompt="x", target={"row": "ab"[i % 2]}) for i in range(4)]
    endings = {"0": ["end", "stop"], "1": ["length", "context"], "2": ["end", "end"], "3": ["end", "stop"]}
    outputs = {name: {"answers": [{"ended": ended} for ended in row]} for name, row in endings.items()}
    found = {score["metric"]: score["exact"] for score in ending_scores(items, outputs)}
    assert found == {"ends_by_itself a": "3/4", "ends_by_itself b": "1/4"}


def spans(order: str) -> list[Item]:
    import json

    return list(builders.BUILDERS[f"infilling-multi-{order}"]({"f": json.dumps(ROW).encode()}))


def test_spans_of_lines_make_the_solution_whole() -> None:
    items = spans("psm")
    assert [item.id for item in items] == [item.id for item in spans("spm")]
    assert len(items) == 2
    for item in items:
        target = item.target
        whole = ROW["prompt"] + ROW["canonical_solution"]
        assert f"{item.prompt}{target['middle']}{item.suffix}" == whole
        assert str(target["middle"]).count("\n") >= 2
        ast.parse(whole)
    assert {item.order for item in items} == {"PSM"}
    assert {item.order for item in spans("spm")} == {"SPM"}


def test_an_infilling_is_equal_up_to_spaces_around_it() -> None:
    card = cards()["infilling-multi-psm"]
    items = spans("psm")
    middle = str(items[0].target["middle"])
    verdicts = {
        items[0].id: [[f"{middle}\n", "pass", ""], ["y", "fail", ""]],
        items[1].id: [["y", "fail", ""], ["", "fail", ""]],
    }
    found = {
        score["metric"]: score["exact"] for score in sample_scores(card, items, verdicts, "completion", (1,))
    }
    assert found == {"pass@1": "1/4", "exact_match": "1/4"}


class Marked:
    """A vocabulary with the marks of fill-in-middle; every character is an id."""

    special_tokens = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def special_id(self, name: str) -> int:
        return -1 - self.special_tokens.index(name)


@pytest.mark.parametrize(
    ("order", "expected"), [("PSM", [-1, 97, -2, 98, -3]), ("SPM", [-2, 98, -1, 97, -3])]
)
def test_the_parts_of_a_fill_in_middle_prompt_have_the_order_of_the_card(
    model: Model, monkeypatch: pytest.MonkeyPatch, order: str, expected: list[int]
) -> None:
    item = Item(id="a", prompt="a", suffix="b", order=order)
    decoder = EvaluationDecoder(model)
    with pytest.raises(UsageError, match=r"no token <.fim_prefix.>"):
        decoder.prompt_of(item, "a")
    monkeypatch.setattr(decoder, "tokenizer", Marked())
    assert decoder.prompt_of(item, "a") == expected


def test_a_text_that_is_no_program_starts_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graders, "judge_python", lambda *_: pytest.fail("it was executed"))
    item = Item(id="a", prompt=ROW["prompt"], target=ROW)
    _, verdict = graders.judge(cards()["humaneval"], item, "    return (", "completion")
    assert (verdict.verdict, verdict.reason) == ("fail", "import: SyntaxError")


@pytest.mark.parametrize("source", ["def f(", "def f():\nreturn 1", "if 1:\n    a\n  b"])
def test_the_sandbox_says_the_same_of_a_text_that_is_no_program(source: str) -> None:
    with pytest.raises(SyntaxError) as raised:
        ast.parse(source)
    task = grading.PythonTests(source=source, prelude="", tests="", functions=("f",))
    assert grading.judge_python(task, graders.LIMITS).reason == f"import: {raised.type.__name__}"


def test_equal_answers_of_an_item_are_executed_once(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []

    def judge(item: Item, _: str) -> GradingVerdict:
        judged.append(item.id)
        return GradingVerdict(verdict="pass")

    monkeypatch.setitem(graders.GRADERS, "number", judge)
    settings = EvaluationSettings(law=DecodingLaw.parse("0.01", 1), n_samples=4, n_workers=2)
    found = evaluate(EvaluationDecoder(model), task_of(3), tmp_path, settings, NOT_CHECKABLE, Silent())
    assert sorted(judged) == ["i0", "i1", "i2"]
    assert found["scores"][0]["exact"] == "1/1"


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("import: SyntaxError", "syntax"),
        ("f(1) gave !IndentationError", "syntax"),
        ("missing: f", "no function"),
        ("import: ModuleNotFoundError", "import"),
        ("NameError", "name"),
        ("f([]) gave !UnboundLocalError", "name"),
        ("f([]) gave !TypeError", "type"),
        ("IndexError", "index or key"),
        ("ZeroDivisionError", "arithmetic"),
        ("f(1) gave !RecursionError", "recursion"),
        ("limit: processor time", "time"),
        ("f(1) gave !OutOfTime", "time"),
        ("limit: memory", "memory or output"),
        ("build: error[E0425]", "compiler"),
        ("diff: hunk 1 does not apply", "diff"),
        ("form", "form"),
        ("the sample ended", "ended"),
        ("AssertionError", "wrong value"),
        ("f(1) gave 7", "wrong value"),
        ("'12'", "wrong value"),
        ("a reason of another kind", "other"),
    ],
)
def test_a_reason_has_one_class(reason: str, name: str) -> None:
    assert failures.failure_class(reason) == name


def test_failures_are_counted_by_class() -> None:
    rows = {
        "a": [["", "fail", "NameError"], ["", "pass", ""]],
        "b": [["", "fail", "NameError"], ["", "fail", "x"]],
    }
    assert failures.failure_counts(rows) == {"name": 2, "other": 1}


def test_reasons_of_the_sandbox_have_a_class() -> None:
    for source, name in (
        ("def f(x): return y", "name"),
        ("def f(x): return [][x]", "index or key"),
        ("def f(x): return 1 / 0", "arithmetic"),
        ("def g(x): return x", "no function"),
        ("import nothing_here", "import"),
        ("def f(x): return x", "wrong value"),
        ("def f(x): return f(x)", "recursion"),
    ):
        task = grading.PythonTests(source=source, prelude="", tests="assert f(1) == 2", functions=("f",))
        assert failures.failure_class(grading.judge_python(task, graders.LIMITS).reason) == name
