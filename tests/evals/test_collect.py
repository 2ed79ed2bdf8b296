"""Answers that programs verified: what is kept, in which form, the same twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.engine.sampling import GREEDY, DecodingLaw
from sevenfold.engine.session import Model
from sevenfold.evals.band import execution
from sevenfold.evals.decoding.decoder import Answer, EvaluationDecoder
from sevenfold.evals.feedback import collect as module
from sevenfold.evals.feedback.collect import COLUMNS, CollectSettings, NoFeedbackError, collect
from sevenfold.evals.feedback.tasks import FeedbackTask, draw_tasks, read_replies, read_tasks
from sevenfold.evals.tasks.cards import Item
from sevenfold.runs.job import Job
from sevenfold.sandbox.grading import GradingVerdict
from sevenfold.synthetic.generators.python import apply
from sevenfold.tune.conversations import of_lines, pairs_of_lines

TASK = FeedbackTask(
    id="add", instruction="Write add(a, b).", functions=("add",), tests=("assert add(1, 2) == 3",)
)
GOOD = "```python\ndef add(a, b):\n    return a + b\n```"
LONG = "```python\ndef add(a, b):\n    total = a + b\n    return total\n```"
BAD = "```python\ndef add(a, b):\n    return a - b\n```"


class Recorded(EvaluationDecoder):
    """A decoder whose answers are given; the model decides their ids only."""

    texts: Sequence[tuple[str, str]] = ()

    def generate(self, items: Any, *_: Any, **__: Any) -> Iterator[tuple[Item, list[Answer]]]:
        for item in items:
            yield (
                item,
                [Answer(ids=tuple(self.tokenizer.encode(text)), ended=ended) for text, ended in self.texts],
            )


@pytest.fixture
def decoder(finished_run: Job) -> Recorded:
    return Recorded(Model.open(finished_run.out / "model.s7l"))


def settings(n: int) -> CollectSettings:
    return CollectSettings(law=DecodingLaw.parse("0.8", 0, "0", "1", 1), n_samples=n)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_what_passes_is_kept_and_what_fails_is_patched(decoder: Recorded, tmp_path: Path) -> None:
    decoder.texts = [(GOOD, "end"), (BAD, "end"), (LONG, "end"), (GOOD, "end"), (GOOD, "length")]
    record = collect(decoder, [TASK], tmp_path, settings(5), Silent())
    assert [row["response"] for row in lines(tmp_path / "answers.jsonl")] == [GOOD, LONG]
    first, *others = lines(tmp_path / "choices.jsonl")
    assert (first["chosen"], first["rejected"], first["kind"]) == (GOOD, LONG, "brevity")
    assert [(row["chosen"], row["rejected"], row["kind"]) for row in others] == [
        (GOOD, BAD, "correctness"),
        (LONG, BAD, "correctness"),
    ]
    (repair,) = lines(tmp_path / "repairs.jsonl")
    diff = repair["response"].removeprefix("```diff\n").removesuffix("```")
    assert apply("def add(a, b):\n    return a - b\n", diff) == "def add(a, b):\n    return a + b\n"
    assert "return a - b" in repair["instruction"]
    assert record["counts"] == {"passed": 3, "samples": 5, "tasks": 1, "tasks_solved": 1}
    assert sum(record["failures"].values()) == 2
    table = parquet.read_table(tmp_path / "samples.parquet")
    assert tuple(table.column_names) == COLUMNS
    assert table["passed"].to_pylist() == [True, False, True, True, False]
    assert table["confidence"].to_pylist() == [0.6, 0.0, 0.6, 0.6, 0.0]
    # `s7 tune` reads them.
    assert len(list(of_lines((tmp_path / "answers.jsonl").read_bytes(), "x"))) == 2
    assert len(list(pairs_of_lines((tmp_path / "choices.jsonl").read_bytes(), "x"))) == 3


def test_replies_of_teachers_are_candidates_and_have_to_agree(decoder: Recorded, tmp_path: Path) -> None:
    decoder.texts = [(BAD, "end")]
    said = [{"task_id": "add", "reply": f"The sum.\n{GOOD}"}, {"task_id": "add", "reply": BAD}]
    cut = {"task_id": "add", "reply": LONG, "finish_reason": "length"}
    data = b"".join(json.dumps(row).encode() + b"\n" for row in (*said, cut))
    teacher = read_replies(data, "teacher.jsonl")
    for least, kept in ((0.3, 1), (0.5, 0)):
        wanted = replace(settings(1), teachers=(teacher,), min_confidence=least)
        record = collect(decoder, [TASK], tmp_path, wanted, Silent())
        assert len(lines(tmp_path / "answers.jsonl")) == kept
        assert record["counts"]["samples"] == 3
        assert record["teachers"][0]["n_replies"] == 2
    table = parquet.read_table(tmp_path / "samples.parquet")
    assert table["rationale"].to_pylist() == ["", "The sum.", ""]
    for wrong in (b"{", b'{"task_id": "add"}', b'{"task_id": 1, "reply": "x"}'):
        with pytest.raises(StorageError, match=r"teacher\.jsonl:1"):
            read_replies(wrong + b"\n", "teacher.jsonl")


def test_a_model_gives_the_same_files_twice(finished_run: Job, tmp_path: Path) -> None:
    for name, batch in (("a", 1), ("b", 4)):
        decoder = EvaluationDecoder(Model.open(finished_run.out / "model.s7l"), batch=batch)
        wanted = CollectSettings(law=settings(2).law, n_samples=2, max_tokens=6)
        collect(decoder, [TASK], tmp_path / name, wanted, Silent())
    for name in ("answers.jsonl", "repairs.jsonl", "choices.jsonl", "samples.parquet", "collect.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_fault_of_the_machine_writes_nothing(
    decoder: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder.texts = [(GOOD, "end")]
    lost: Callable[..., GradingVerdict] = lambda *_: GradingVerdict(verdict="none", reason="lost")  # noqa: E731  (a stub of one line)
    monkeypatch.setattr(module, "judge_python", lost)
    with pytest.raises(NoFeedbackError, match="no verdict: lost"):
        collect(decoder, [TASK], tmp_path / "out", settings(1), Silent())
    assert not (tmp_path / "out").exists()


def test_greedy_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="all the same"):
        CollectSettings(law=GREEDY, n_samples=2)


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b'{"instruction": "x"}', b'{"instruction": " ", "functions": ["f"], "tests": ["assert 1"]}',
     b'{"instruction": "x", "functions": [], "tests": ["assert 1"]}',
     b'{"instruction": "x", "functions": ["f"], "tests": [1]}', b""],
)  # fmt: skip
def test_a_line_that_is_no_task_is_refused_by_its_number(line: bytes) -> None:
    good = b'{"instruction": "x", "functions": ["f"], "tests": ["assert f() == 1"]}\n'
    with pytest.raises(StorageError, match=r"tasks\.jsonl:2"):
        read_tasks(good + line + b"\n", "tasks.jsonl")
    with pytest.raises(StorageError, match="it repeats line 1"):
        read_tasks(good + good, "tasks.jsonl")


def test_drawn_tasks_are_the_same_and_their_own_programs_pass() -> None:
    try:
        first = list(draw_tasks(3, 5))
        assert first == list(draw_tasks(3, 5))
    finally:
        execution.release()
    assert len({task.id for task in first}) == 3
    assert all(task.tests[0].startswith(f"assert {task.functions[0]}(") for task in first)
