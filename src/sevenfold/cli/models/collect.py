"""The verb collect: answers that programs verified, to tune on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import FileArg, JsonOption, app, guarded, print_json
from sevenfold.cli.models.evaluate import (
    BackendOption,
    BatchOption,
    MinPOption,
    SamplesOption,
    SeedOption,
    TemperatureOption,
    ThreadsOption,
    TopKOption,
    TopPOption,
)
from sevenfold.core.errors import UsageError

if TYPE_CHECKING:
    from sevenfold.core.hashing import Json
    from sevenfold.corpus.text.contamination_index import ContaminationIndex
    from sevenfold.evals.feedback.tasks import FeedbackTask


CollectedOption = Annotated[
    Path, typer.Option("--out", metavar="DIR", readable=False, help="Where the files go.")
]
TasksOption = Annotated[
    Path | None,
    typer.Option("--tasks", metavar="FILE", readable=False, help="Tasks with tests, one a line."),
]
DrawOption = Annotated[
    int | None, typer.Option("--draw", metavar="N", min=1, help="Draw N tasks instead, from --seed.")
]
HashesOption = Annotated[
    Path | None,
    typer.Option("--eval-hashes", metavar="FILE", readable=False, help="Leave out tasks of evaluation sets."),
]
RepliesOption = Annotated[
    list[Path] | None,
    typer.Option("--replies", metavar="FILE", readable=False, help="Recorded replies of a teacher, too."),
]
ConfidenceOption = Annotated[
    float,
    typer.Option(
        "--min-confidence", metavar="R", min=0.0, max=1.0, help="Least share of candidates that pass."
    ),
]
AnswerTokensOption = Annotated[int, typer.Option("--max-tokens", metavar="N", min=1, help="Of an answer.")]
MostOption = Annotated[int, typer.Option("--most", metavar="N", min=1, help="Lines kept of a task.")]


@app.command()
@guarded
def collect(
    file: FileArg,
    out: CollectedOption,
    tasks: TasksOption = None,
    draw: DrawOption = None,
    hashes: HashesOption = None,
    replies: RepliesOption = None,
    confidence: ConfidenceOption = 0.0,
    samples: SamplesOption = 8,
    temperature: TemperatureOption = "0.8",
    top_k: TopKOption = 0,
    min_p: MinPOption = "0",
    top_p: TopPOption = "0.95",
    seed: SeedOption = 0,
    max_tokens: AnswerTokensOption = 256,
    most: MostOption = 4,
    batch: BatchOption = 16,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a model, run the tests of its answers, keep what passes: files for `s7 tune`."""
    from sevenfold.core.files import read_bytes
    from sevenfold.engine.sampling import DecodingLaw
    from sevenfold.engine.session import Model
    from sevenfold.evals.decoding.decoder import EvaluationDecoder
    from sevenfold.evals.feedback.collect import CollectSettings
    from sevenfold.evals.feedback.collect import collect as collect_answers
    from sevenfold.evals.feedback.tasks import read_replies
    from sevenfold.report.console import close_progress, make_progress

    settings = CollectSettings(
        law=DecodingLaw.parse(temperature, top_k, min_p, top_p, seed),
        n_samples=samples,
        max_tokens=max_tokens,
        most=most,
        teachers=tuple(read_replies(read_bytes(path), path.name) for path in replies or ()),
        min_confidence=confidence,
        n_workers=len(os.sched_getaffinity(0)),
    )
    chosen, known = _tasks(tasks, draw, seed), _evaluated(hashes)
    decoder = EvaluationDecoder(Model.open(file, backend=backend, n_threads=threads), batch=batch)
    progress = make_progress()
    try:
        record = collect_answers(decoder, chosen, out, settings, progress, known)
    finally:
        close_progress(progress)
    print_json(record) if as_json else _show(record, out)


def _show(record: dict[str, Json], out: Path) -> None:
    from sevenfold.report.console import print_table

    counts, lines = record["counts"], record["lines"]
    title = f"collected in {out}, root {record['root'][:16]}"
    print_table(title, ("file", "lines"), [[name, str(n)] for name, n in lines.items()])
    print(
        f"{counts.get('passed', 0)} of {counts.get('samples', 0)} samples pass,"
        f" {counts.get('tasks_solved', 0)} of {counts.get('tasks', 0)} tasks are solved"
    )


def _evaluated(path: Path | None) -> ContaminationIndex | None:
    """Return the hashes of evaluation sets in a file; None without one. Raises StorageError."""
    from sevenfold.core.files import read_bytes
    from sevenfold.core.hashing import sha256
    from sevenfold.corpus.text.contamination_index import read

    return None if path is None else read(path, sha256(read_bytes(path)).hex())


def _tasks(path: Path | None, draw: int | None, seed: int) -> list[FeedbackTask]:
    """Return the tasks of a file, or drawn ones. Raises UsageError."""
    from sevenfold.core.files import read_bytes
    from sevenfold.evals.band import execution
    from sevenfold.evals.feedback.tasks import draw_tasks, read_tasks

    if (path is None) == (draw is None):
        raise UsageError("name --tasks FILE, or --draw N", remedy="one of the two")
    if path is not None:
        return read_tasks(read_bytes(path), path.name)
    try:
        return list(draw_tasks(draw or 0, seed))
    finally:
        execution.release()
