"""Grade answers in threads while others are still decoded, with a journal for each rule.

The engine and the sandbox release the interpreter's lock, so an item is executed while the next one
is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from sevenfold.core.hashing import Json, canonical_json, digest
from sevenfold.core.process.log import Progress
from sevenfold.evals.band import execution
from sevenfold.evals.grading import graders
from sevenfold.evals.journal import Journal
from sevenfold.evals.tasks.cards import Item, Task
from sevenfold.sandbox import warm
from sevenfold.sandbox.grading import GradingVerdict


class VerdictPool:
    """Grades the answers of a task under each extraction rule. Use it as a context manager.

    Verdicts are stored by rule and executor. A sample that the machine failed is tried again.
    """

    def __init__(
        self, task: Task, rules: Sequence[str], folder: Path, n_workers: int, progress: Progress
    ) -> None:
        self._task, self._progress = task, progress
        executor = canonical_json(graders.executor(task.card.grade))
        self._journals: dict[str, Journal] = {}
        for rule in rules:
            kept = digest("sevenfold/eval-verdicts/1", rule, executor)[:16]
            self._journals[rule] = Journal(folder / f"verdicts-{rule}-{kept}.jsonl")
        self._pool = ThreadPoolExecutor(n_workers)
        self._waiting: dict[Future[Json], str] = {}

    def __enter__(self) -> VerdictPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        execution.release()
        warm.release()
        for journal in self._journals.values():
            journal.close()

    def submit(self, item: Item, texts: Sequence[str]) -> None:
        """Grade the answers of an item under each rule under which they are not graded yet."""
        for rule, journal in self._journals.items():
            row = journal.rows.get(item.id)
            if row is None or any(sample[1] == "none" for sample in row["samples"]):
                self._waiting[self._pool.submit(self._grade, item, texts, rule)] = rule
        self._keep([future for future in self._waiting if future.done()])

    def finish(self) -> dict[str, dict[str, Json]]:
        """Wait for the remaining verdicts. Return [extracted, verdict, reason, seconds] of each
        sample of each item, by rule.

        Raises:
            SandboxError: programs cannot be confined here.
        """
        n_left = len(self._waiting)
        if n_left:
            self._progress.start(f"grade {self._task.card.name}", n_left, "items")
        for future in as_completed(list(self._waiting)):
            self._keep([future])
            self._progress.advance(n_left - len(self._waiting))
        return {
            rule: {item_id: row["samples"] for item_id, row in journal.rows.items()}
            for rule, journal in self._journals.items()
        }

    def _keep(self, futures: Sequence[Future[Json]]) -> None:
        rows: dict[str, list[Json]] = {}
        for future in futures:
            rows.setdefault(self._waiting.pop(future), []).append(future.result())
        for rule, found in rows.items():
            self._journals[rule].add(found)

    def _grade(self, item: Item, texts: Sequence[str], rule: str) -> Json:
        """Return the row of an item. Equal answers are executed once."""
        known: dict[str, list[Json]] = {}
        for text in texts:
            if text not in known:
                known[text] = _row(*graders.judge(self._task.card, item, text, rule))
        return {"item": item.id, "samples": [known[text] for text in texts]}


def _row(extracted: str, verdict: GradingVerdict) -> list[Json]:
    return [extracted, verdict.verdict, verdict.reason, verdict.seconds]
