"""Run one task, and seal its outputs, verdicts and scores as one object.

Outputs are stored under a key of model root, task root and decoding law. They are therefore never
those of another model or prompt. An interrupted run resumes where it stopped. The key of verdicts
also contains the executor and the extraction rule.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sevenfold.core.errors import SevenfoldError, StorageError, UsageError
from sevenfold.core.files import read_json, write_json
from sevenfold.core.hashing import Json, canonical_json, digest, sha256
from sevenfold.core.process.log import Progress
from sevenfold.engine.sampling import GREEDY, DecodingLaw
from sevenfold.evals.decoding import bits
from sevenfold.evals.decoding.decoder import EvaluationDecoder
from sevenfold.evals.grading import graders
from sevenfold.evals.grading.failures import failure_counts
from sevenfold.evals.grading.pool import VerdictPool
from sevenfold.evals.guidance.guided import GUIDED, choose, guided_score
from sevenfold.evals.guidance.repair import repaired
from sevenfold.evals.journal import Journal
from sevenfold.evals.leaks import Leaks
from sevenfold.evals.scoring import scores
from sevenfold.evals.tasks.cards import Item, Task, run_key
from sevenfold.evals.tasks.data import sets
from sevenfold.sandbox.grading import executor_facts

FORMAT = 1
_ITEMS_PER_ROUND = 16


class NoVerdictError(SevenfoldError):
    """The machine failed a sample, so the run has no score."""

    exit_code = 6


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """The settings of a run. Only the law decides its outputs.

    `rules` replaces the extraction rules of the card; () keeps them.
    """

    law: DecodingLaw = GREEDY
    n_samples: int = 1
    ks: tuple[int, ...] = (1,)
    rules: tuple[str, ...] = ()
    is_guided: bool = False
    # The rounds of repair of the first answer, by the tests in the prompt.
    n_repairs: int = 0
    # The run directory of the model, for its FP32 weights.
    run: Path | None = None
    n_workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def __post_init__(self) -> None:
        if self.n_samples < 1 or (self.law.is_greedy and self.n_samples > 1):
            raise UsageError(
                f"{self.n_samples} samples at temperature 0",
                where="--samples",
                remedy="greedy samples are all the same: give --temperature, or ask for one",
            )
        if self.is_guided and self.n_samples < 2:
            raise UsageError(
                "guidance chooses among samples", where="--guided", remedy="ask for --samples 2 or more"
            )
        if any(not 1 <= k <= self.n_samples for k in self.ks):
            raise UsageError(
                f"pass@{max(self.ks)} of {self.n_samples} samples does not exist",
                where="--k",
                remedy="draw more samples with --samples",
            )
        if unknown := [rule for rule in self.rules if rule not in graders.EXTRACTIONS]:
            raise UsageError(
                f"no rule of extraction {unknown[0]!r}",
                where="--rescore",
                remedy=f"use one of {', '.join(graders.EXTRACTIONS)}",
            )


def evaluate(
    decoder: EvaluationDecoder,
    task: Task,
    out: Path,
    settings: EvaluationSettings,
    leaks: Leaks,
    progress: Progress,
) -> Json:
    """Run a task, seal it as `OUT/NAME.eval.json`, and return the object.

    Raises:
        NoVerdictError: a sample has no verdict. The object is written without scores.
        SandboxError: programs cannot be confined here.  GateError, StorageError: as below.
    """
    card = task.card
    if card.kind == "generate":
        # Do not generate anything when the grader cannot run.
        graders.check_executor(card.grade)
    law = (
        decoder.facts(settings.law, settings.n_samples)
        if card.kind == "generate"
        else decoder.facts(GREEDY, 1)
    )
    model_root = decoder.model.artifact.root
    key = run_key(model_root, task.root, law)
    items = [item for item in task.items if item.id not in leaks.dropped]
    folder = out / f"{card.name}-{key[:16]}"
    # The requested rule comes after those of the card.
    rules = list(dict.fromkeys((*card.extract, *settings.rules))) if card.kind == "generate" else []
    with VerdictPool(task, rules, folder, settings.n_workers, progress) as pool:
        outputs = _outputs(decoder, task, items, folder / "outputs.jsonl", settings, progress, pool)
        found = pool.finish()
    body: dict[str, Json] = {
        "eval": FORMAT,
        "name": card.name,
        "card": card.facts(),
        "task": {"root": task.root, "n_items": len(task.items), "n_in_set": task.n_in_set},
        "data": {"digest": sets()[card.set].digest, "licence": sets()[card.set].licence}
        if card.set in sets()
        else {},
        "model": {"root": model_root},
        "law": law,
        "key": key,
        "leaks": leaks.facts(),
    }
    evidence: Json = {"backend": decoder.model.engine.detail, "batch": decoder.batch}
    if card.kind == "text":
        body["executor"] = None
        body["items"] = [{"id": item.id, **item.target, "sums": outputs[item.id]["sums"]} for item in items]
        body["scores"] = bits.text_scores(items, outputs)
        body["context_rule"] = f"{bits.RULE}; context {decoder.model.context}"
        evidence["fp32"] = _floats(decoder, items, settings, progress)
        return sealed(body, evidence, out / f"{card.name}.eval.json")
    if card.kind == "choice":
        body["executor"] = None
        body["items"] = [_choice_row(item, outputs[item.id]) for item in items]
        body["scores"] = scores.choice_scores(card, items, outputs)
        return sealed(body, evidence, out / f"{card.name}.eval.json")
    return _judged(body, evidence, task, items, outputs, found, folder, decoder, settings, out)


def _floats(
    decoder: EvaluationDecoder, items: Sequence[Item], settings: EvaluationSettings, progress: Progress
) -> Json:
    """Return the figures of the FP32 weights; None when the weights are not available."""
    score = None if settings.run is None else bits.float_scorer(decoder, settings.run)
    if score is None:
        return None
    progress.start("the same windows in FP32", len(items), "texts")
    rows: dict[str, Json] = {}
    for row in bits.measured(decoder, items, score):
        rows[row["item"]] = row
        progress.advance(len(rows))
    return bits.float_figures(items, rows)


def _choice_row(item: Item, row: Json) -> Json:
    return {"id": item.id, "prompt": sha256(item.prompt.encode()).hex(), "likelihoods": row["likelihoods"]}


def _outputs(
    decoder: EvaluationDecoder,
    task: Task,
    items: Sequence[Item],
    path: Path,
    settings: EvaluationSettings,
    progress: Progress,
    pool: VerdictPool,
) -> dict[str, Json]:
    """Return the output row of each item. Rows of an earlier call are used again.

    Answers are graded while the next ones are decoded.
    """
    journal = Journal(path)
    by_id = {item.id: item for item in items}

    def grade(row: Json) -> None:
        if "answers" in row:
            pool.submit(by_id[row["item"]], [decoder.tokenizer.decode(a["ids"]) for a in row["answers"]])

    try:
        missing = [item for item in items if item.id not in journal.rows]
        progress.start(f"eval {task.card.name}", len(items), "items")
        for row in journal.rows.values():
            if row["item"] in by_id:
                grade(row)
        done: list[Json] = []
        for row in _made(decoder, task, missing, settings):
            done.append(row)
            grade(row)
            if len(done) == _ITEMS_PER_ROUND:
                journal.add(done)
                done = []
                progress.advance(len(journal.rows))
        if done:
            journal.add(done)
        progress.advance(len(journal.rows))
        return journal.rows
    finally:
        journal.close()


def _made(
    decoder: EvaluationDecoder, task: Task, items: Sequence[Item], settings: EvaluationSettings
) -> Iterator[Json]:
    card = task.card
    if card.kind == "text":
        yield from bits.measured(decoder, items, bits.integer_scorer(decoder))
        return
    if card.kind == "choice":
        for item, found in decoder.likelihoods(items):
            yield {"item": item.id, "likelihoods": [[x.total, x.n_tokens, x.is_greedy] for x in found]}
        return
    for item, answers in decoder.generate(
        items, card.stops, card.max_tokens, settings.law, settings.n_samples
    ):
        yield {"item": item.id, "answers": [{"ids": list(a.ids), "ended": a.ended} for a in answers]}


def _judged(
    body: dict[str, Json],
    evidence: Json,
    task: Task,
    items: Sequence[Item],
    outputs: dict[str, Json],
    found: dict[str, dict[str, Json]],
    folder: Path,
    decoder: EvaluationDecoder,
    settings: EvaluationSettings,
    out: Path,
) -> Json:
    card = task.card
    executor, all_rules = graders.executor(card.grade), list(found)
    body["executor"] = executor
    body["rescored"] = bool(settings.rules)
    body["items"] = [
        {
            "id": item.id,
            "prompt": item.prompt,
            "answers": outputs[item.id]["answers"],
            "verdicts": {rule: [list(v[:3]) for v in found[rule][item.id]] for rule in all_rules},
        }
        for item in items
    ]
    body["failures"] = {
        rule: failure_counts({item.id: found[rule][item.id] for item in items}) for rule in all_rules
    }
    evidence["seconds"] = {
        rule: {i: [v[3] for v in row] for i, row in found[rule].items()} for rule in all_rules
    }
    evidence["ended"] = dict(Counter(a["ended"] for item in items for a in outputs[item.id]["answers"]))
    path = out / f"{card.name}.eval.json"
    missing = [
        item.id for item in items for rule in all_rules for v in found[rule][item.id] if v[1] == "none"
    ]
    if missing:
        sealed({**body, "scores": []}, evidence, path)
        raise _no_verdict(missing, path)
    guided: list[Json] = []
    if settings.is_guided and card.grade in GUIDED:
        texts = {
            item.id: [decoder.tokenizer.decode(answer["ids"]) for answer in outputs[item.id]["answers"]]
            for item in items
        }
        chosen = _chosen(task, items, texts, all_rules[0], folder, settings)
        body["guided"] = {item.id: chosen[item.id] for item in items}
        guided = [guided_score(items, found[all_rules[0]], chosen, all_rules[0])]
    if settings.n_repairs and card.grade in GUIDED:
        rule = all_rules[0]
        body["repaired"], score = repaired(decoder, card, items, found[rule], rule, settings.n_repairs)
        guided.append(score)
    body["scores"] = guided + [
        row for rule in all_rules for row in scores.sample_scores(card, items, found[rule], rule, settings.ks)
    ]
    body["scores"] += scores.ending_scores(items, outputs)
    return sealed(body, evidence, path)


def _no_verdict(missing: Sequence[str], path: Path) -> NoVerdictError:
    return NoVerdictError(
        f"{len(missing)} samples have no verdict ({missing[0]} is the first), because the machine failed",
        where=str(path),
        remedy="run the same command again; existing verdicts are kept",
    )


def _chosen(
    task: Task,
    items: Sequence[Item],
    texts: dict[str, list[str]],
    rule: str,
    folder: Path,
    settings: EvaluationSettings,
) -> dict[str, list[int]]:
    """Return [the index of the chosen sample, the number of executed samples] of each item."""
    executor = canonical_json(executor_facts(graders.LIMITS))
    journal = Journal(folder / f"guided-{digest('sevenfold/eval-guided/1', rule, executor)[:16]}.jsonl")
    try:
        missing = [item for item in items if item.id not in journal.rows]
        with ThreadPoolExecutor(settings.n_workers) as pool:
            found = pool.map(lambda item: choose(task.card, item, texts[item.id], rule), missing)
            for item, row in zip(missing, found, strict=True):
                journal.add([{"item": item.id, "chosen": row}])
        return {item_id: row["chosen"] for item_id, row in journal.rows.items()}
    finally:
        journal.close()


def sealed(body: dict[str, Json], evidence: Json, path: Path) -> Json:
    """Write a run as one object with its root, and return it. Raises StorageError."""
    root = digest("sevenfold/eval/1", canonical_json(body))
    found = {**body, "root": root, "evidence": evidence}
    write_json(path, found)
    return found


def read_run(path: Path) -> Json:
    """Return a sealed run after checking its root.

    Raises:
        StorageError: it is not a run, or its root is not that of its content.
    """
    found = read_json(path)
    if not isinstance(found, dict) or found.get("eval") != FORMAT:
        raise StorageError("no run of `s7 eval`", where=str(path), remedy="name a file NAME.eval.json")
    body = {key: value for key, value in found.items() if key not in ("root", "evidence")}
    if digest("sevenfold/eval/1", canonical_json(body)) != found.get("root"):
        raise StorageError(
            "the run was altered: its root is not that of its content", where=str(path), remedy="run it again"
        )
    return found
