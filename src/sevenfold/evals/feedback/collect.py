"""Ask a sealed model for answers to tasks, run their tests, and keep what programs verified.

Four files come of it. `answers.jsonl` holds answers that pass, to tune on (rejection sampling).
`repairs.jsonl` holds a program that fails, what its tests saw, and the patch to one that passes.
`choices.jsonl` holds pairs of answers: passing before failing, and of two that pass the shorter one.
`samples.parquet` holds every sample in the columns of requirement C4. `collect.json` says how they
were made: model root, tasks, decoding law, executor, counts, kinds of failures, digests of the files.

The model, the tasks and the law decide every byte. A sample without a verdict ends the collection:
a fault of the machine is no failure of an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sevenfold.core.errors import SevenfoldError, UsageError, storage
from sevenfold.core.files import write_bytes, write_json
from sevenfold.core.hashing import Json, canonical_json, digest, sha256, sha256_file
from sevenfold.core.process.log import Progress
from sevenfold.corpus.text.contamination_index import ContaminationIndex
from sevenfold.corpus.text.ngrams import word_hashes
from sevenfold.engine.sampling import DecodingLaw
from sevenfold.evals.band.graders import fenced
from sevenfold.evals.decoding.decoder import Answer, EvaluationDecoder
from sevenfold.evals.feedback.tasks import FeedbackTask, Teacher, tasks_root
from sevenfold.evals.grading.failures import failure_class
from sevenfold.evals.grading.graders import LIMITS
from sevenfold.evals.tasks.cards import Item
from sevenfold.sandbox import warm
from sevenfold.sandbox.grading import GradingVerdict, PythonTests, executor_facts, judge_python
from sevenfold.synthetic.generators.python import unified
from sevenfold.tokenizer.chat.template import INSTRUCTION, ChatTemplate
from sevenfold.tune.conversations import ConversationError, check, of_lines, pairs_of_lines

FORMAT = 1
ANSWERS, REPAIRS, CHOICES = "answers.jsonl", "repairs.jsonl", "choices.jsonl"
SAMPLES, RECORD = "samples.parquet", "collect.json"
# The columns of C4, in order.
COLUMNS = (
    "task_id", "prompt", "files", "tests", "candidate", "passed", "rationale", "tool_calls", "confidence",
)  # fmt: skip
_REPAIR = "A test fails. Give a patch. {said}\n\n```python\n{program}```"


class NoFeedbackError(SevenfoldError):
    """A collection in which the machine failed a sample: nothing is written."""

    exit_code = 6


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An answer to a task, its program, and what its tests decided."""

    text: str
    n_tokens: int
    ended: str
    program: str
    verdict: GradingVerdict

    @property
    def passed(self) -> bool:
        """Return whether the answer ended by itself, and its program passes."""
        return self.verdict.verdict == "pass" and self.ended == "end"


@dataclass(frozen=True, kw_only=True)
class CollectSettings:
    """How answers are drawn and kept.

    Attributes:
        most: lines of a task in each file.
        teachers: whose recorded replies are candidates beside the samples of the model.
        min_confidence: least share of a task's candidates that pass, so that any of them is kept.
    """

    law: DecodingLaw
    n_samples: int
    max_tokens: int = 256
    most: int = 4
    teachers: tuple[Teacher, ...] = ()
    min_confidence: float = 0.0
    n_workers: int = 2

    def __post_init__(self) -> None:
        if self.n_samples > 1 and self.law.is_greedy:
            raise UsageError(
                f"{self.n_samples} samples at temperature 0",
                where="--samples",
                remedy="greedy samples are all the same: give --temperature, or ask for one",
            )


@dataclass(kw_only=True)
class Collected:
    """What is kept, by file, and what is counted."""

    lines: dict[str, list[dict[str, Json]]] = field(
        default_factory=lambda: {name: [] for name in (ANSWERS, REPAIRS, CHOICES)}
    )
    rows: list[dict[str, Json]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


def program_of(text: str) -> str:
    """Return the program of an answer: its first fenced block, or the answer where it has none."""
    return fenced(text) or text


def rationale_of(text: str) -> str:
    """Return what an answer says before its first fenced block; "" where it has none."""
    before, fence, _ = text.partition("```")
    return before.strip() if fence else ""


def judged(task: FeedbackTask, answer: Answer, text: str) -> Candidate:
    """Return an answer with the verdict of its tests. Raises SandboxError."""
    program = program_of(text)
    tests = "\n".join([task.setup, *task.tests])
    verdict = judge_python(
        PythonTests(source=program, prelude="", tests=tests, functions=task.functions), LIMITS
    )
    return Candidate(
        text=text, n_tokens=len(answer.ids), ended=answer.ended, program=program, verdict=verdict
    )


def keep(
    task: FeedbackTask,
    prompt: str,
    candidates: Sequence[Candidate],
    settings: CollectSettings,
    into: Collected,
) -> None:
    """Add what the candidates of one task give."""
    most = settings.most
    passing = _first_of_each([one for one in candidates if one.passed])
    failing = _first_of_each([one for one in candidates if one.verdict.verdict != "pass"])
    into.counts.update(tasks=1, samples=len(candidates), passed=sum(one.passed for one in candidates))
    into.counts["tasks_solved"] += bool(passing)
    into.failures.update(failure_class(one.verdict.reason) for one in candidates if not one.passed)
    share = sum(one.passed for one in candidates) / max(len(candidates), 1)
    for one in candidates:
        into.rows.append(
            {
                "task_id": task.id,
                "prompt": prompt,
                "files": [],
                "tests": list(task.tests),
                "candidate": one.text,
                "passed": one.passed,
                "rationale": rationale_of(one.text),
                "tool_calls": [],
                # Of a passing answer: the share of the candidates that pass with it.
                "confidence": share if one.passed else 0.0,
            }
        )
    if share < settings.min_confidence:
        into.counts["tasks_doubted"] += bool(passing)
        return
    asked = {"instruction": task.instruction}
    into.lines[ANSWERS] += [asked | {"response": one.text} for one in passing[:most]]
    pairs = [(good, bad, "correctness") for good in passing for bad in failing if bad.text.strip()]
    by_length = sorted(passing, key=lambda one: (one.n_tokens, one.text))
    if len(by_length) > 1 and by_length[0].n_tokens < by_length[-1].n_tokens:
        pairs.insert(0, (by_length[0], by_length[-1], "brevity"))
    into.lines[CHOICES] += [
        asked | {"chosen": good.text, "rejected": bad.text, "kind": kind} for good, bad, kind in pairs[:most]
    ]
    into.lines[REPAIRS] += [
        {
            "instruction": _REPAIR.format(said=_said(bad), program=bad.program),
            "response": f"```diff\n{unified(bad.program, passing[0].program)}```",
        }
        for bad in failing[:most]
        if passing and bad.program.endswith("\n") and bad.program != passing[0].program
    ]


def _said(failing: Candidate) -> str:
    """Return what is said of a program that fails."""
    return f"It does not pass: {failing.verdict.reason}."


def _first_of_each(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates in order, of equal texts the first."""
    found: dict[str, Candidate] = {}
    for one in candidates:
        found.setdefault(one.text, one)
    return list(found.values())


def collect(
    decoder: EvaluationDecoder,
    tasks: Sequence[FeedbackTask],
    out: Path,
    settings: CollectSettings,
    progress: Progress,
    known: ContaminationIndex | None = None,
) -> dict[str, Json]:
    """Write the files of the module's docstring to `out`, and return the record.

    `known` are hashes of evaluation sets: a task that shares 13 words with one is left
    out and counted.

    Raises:
        NoFeedbackError: a sample has no verdict.
        SandboxError: programs cannot be confined here.  GateError: a prompt does not fit.
    """
    left_out = [task.id for task in tasks if known is not None and _is_known(task, known)]
    asked = {task.id: task for task in tasks if task.id not in set(left_out)}
    template = decoder.template or INSTRUCTION
    prompts = {name: template.prompt([("user", task.instruction)]) for name, task in asked.items()}
    items = [Item(id=name, prompt=prompt) for name, prompt in prompts.items()]
    found = Collected()
    progress.start("collect", len(items), "tasks")
    drawn = decoder.generate(items, (), settings.max_tokens, settings.law, settings.n_samples)
    try:
        with ThreadPoolExecutor(settings.n_workers) as pool:
            for number, (item, answers) in enumerate(drawn, start=1):
                task = asked[item.id]
                texts = [decoder.tokenizer.decode(answer.ids) for answer in answers]
                said = [text for one in settings.teachers for text in one.replies.get(item.id, ())]
                texts += said
                answers = [*answers, *(Answer(ids=_ids(decoder, text), ended="end") for text in said)]
                candidates = list(pool.map(judged, [task] * len(texts), answers, texts))
                if lost := [one for one in candidates if one.verdict.verdict == "none"]:
                    raise NoFeedbackError(
                        f"a sample has no verdict: {lost[0].verdict.reason}",
                        where=item.id,
                        remedy="free the machine and collect again: nothing was written",
                    )
                keep(task, item.prompt, candidates, settings, found)
                progress.advance(number)
    finally:
        warm.release()
    return _written(decoder, list(tasks), out, settings, found, left_out, known)


def _ids(decoder: EvaluationDecoder, text: str) -> tuple[int, ...]:
    return tuple(decoder.tokenizer.encode(text))


def _is_known(task: FeedbackTask, known: ContaminationIndex) -> bool:
    text = "\n".join([task.instruction, *task.tests])
    return bool(len(known.common_ngrams(word_hashes(text.encode()))))


def _written(
    decoder: EvaluationDecoder,
    tasks: list[FeedbackTask],
    out: Path,
    settings: CollectSettings,
    found: Collected,
    left_out: list[str],
    known: ContaminationIndex | None,
) -> dict[str, Json]:
    with storage(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / RECORD).unlink(missing_ok=True)
    template = decoder.template or INSTRUCTION
    for name, lines in found.lines.items():
        lines[:] = _usable(lines, name == CHOICES, template, decoder, found.counts)
        write_bytes(out / name, b"".join(canonical_json(line) + b"\n" for line in lines))
    write_samples_table(out / SAMPLES, found.rows)
    body: dict[str, Json] = {
        "collect": FORMAT,
        "model": {"root": decoder.model.artifact.root},
        "tasks": {"root": tasks_root(tasks), "n_tasks": len(tasks)},
        "template": template.as_json(),
        "law": decoder.facts(settings.law, settings.n_samples),
        "teachers": [teacher.facts() for teacher in settings.teachers],
        "min_confidence": settings.min_confidence,
        "max_tokens": settings.max_tokens,
        "most": settings.most,
        "executor": executor_facts(LIMITS),
        "evaluation": {"sha256": None if known is None else known.sha256, "left_out": left_out},
        "counts": dict(sorted(found.counts.items())),
        "failures": dict(sorted(found.failures.items())),
        "lines": {name: len(lines) for name, lines in found.lines.items()},
        "files": {name: sha256_file(out / name) for name in (*found.lines, SAMPLES)},
    }
    body["root"] = digest("sevenfold/collect/1", sha256(canonical_json(body)).hex())
    write_json(out / RECORD, body)
    return body


def _usable(
    lines: Sequence[dict[str, Json]],
    is_paired: bool,
    template: ChatTemplate,
    decoder: EvaluationDecoder,
    counts: Counter[str],
) -> list[dict[str, Json]]:
    """Return the lines that a tuning takes, each once; count the others."""
    specials, found = decoder.tokenizer.special_tokens, dict[str, dict[str, Json]]()
    for line in lines:
        data = canonical_json(line)
        try:
            if is_paired:
                for _, pair in pairs_of_lines(data, ""):
                    check(pair.chosen, template, specials, "")
                    check(pair.rejected, template, specials, "")
                    found.setdefault(pair.id, line)
            else:
                for _, conversation in of_lines(data, ""):
                    found.setdefault(check(conversation, template, specials, "").id, line)
        except ConversationError:
            counts["lines_left_out"] += 1
    return list(found.values())


def write_samples_table(path: Path, rows: Sequence[dict[str, Json]]) -> None:
    """Write rows in the columns of C4 as Parquet. Raises UsageError: pyarrow is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UsageError("samples are a Parquet file", remedy="install sevenfold[train]") from error
    texts = pa.list_(pa.string())
    kinds = {
        "files": texts,
        "tests": texts,
        "tool_calls": texts,
        "passed": pa.bool_(),
        "confidence": pa.float64(),
    }
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    with storage(path):
        parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")
