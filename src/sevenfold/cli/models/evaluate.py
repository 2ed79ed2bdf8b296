"""The verbs eval and scorecard, which evaluate models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import FileArg, JsonOption, app, guarded, print_json
from sevenfold.core.errors import SevenfoldError, UsageError

if TYPE_CHECKING:
    from sevenfold.core.hashing import Json
    from sevenfold.evals.decoding.decoder import EvaluationDecoder
    from sevenfold.evals.gates import GateState
    from sevenfold.evals.run import EvaluationSettings
    from sevenfold.evals.tasks.cards import Card


SuiteOption = Annotated[
    str, typer.Option("--suite", metavar="NAME[,NAME]", help="The cards or suites to run.")
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        readable=False,
        help="Directory of the evaluation sets; default: SEVENFOLD_DATA/eval.",
    ),
]
RunsOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", readable=False, help="Directory of the runs; default: eval/ beside FILE."
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=1, help="Only the first N items, which is a task of its own."),
]
TemperatureOption = Annotated[
    str, typer.Option("--temperature", help="A decimal number, taken exactly; 0 is greedy.")
]
TopKOption = Annotated[int, typer.Option("--top-k", min=0, help="How many tokens may be drawn; 0: all.")]
MinPOption = Annotated[
    str, typer.Option("--min-p", help="The smallest share of the largest probability that may be drawn.")
]
TopPOption = Annotated[str, typer.Option("--top-p", help="The probability mass that may be drawn.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="The seed of the draws.")]
SeedsOption = Annotated[
    int,
    typer.Option(
        "--seeds", metavar="N", min=1, max=16, help="Number of seeds from --seed on; prints mean and spread."
    ),
]
SamplesOption = Annotated[int, typer.Option("--samples", metavar="N", min=1, help="Answers for each item.")]
KOption = Annotated[str, typer.Option("--k", metavar="K[,K]", help="The k of pass@k.")]
RescoreOption = Annotated[
    str,
    typer.Option(
        "--rescore", metavar="RULE", help="Extract answers by another rule from the stored outputs."
    ),
]
GuidedOption = Annotated[
    bool,
    typer.Option("--guided", help="Answer with the first sample that passes the tests in the prompt."),
]
RepairOption = Annotated[
    int,
    typer.Option("--repair", metavar="N", min=0, max=8, help="Rounds of patches after a failed test."),
]
CorpusOption = Annotated[
    Path | None,
    typer.Option(
        "--corpus",
        metavar="RUN",
        readable=False,
        help="The run of the model, by which items that leaked are dropped.",
    ),
]
TruncateOption = Annotated[
    str,
    typer.Option(
        "--truncate", metavar="RULE", help="How to cut prompts longer than the context: none or left."
    ),
]
BatchOption = Annotated[
    int, typer.Option("--batch", metavar="N", min=1, help="Sequences in one call; changes no score.")
]
BackendOption = Annotated[
    str | None, typer.Option("--backend", metavar="NAME", help="The engine; changes no score.")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads", metavar="N", min=1, max=64, help="Threads of the native engine; changes no score."
    ),
]
PictureOption = Annotated[
    Path | None,
    typer.Option("--png", metavar="FILE", readable=False, help="Draw the scores as a picture."),
]


@app.command(name="eval")
@guarded
def evaluate(
    file: FileArg,
    suite: SuiteOption,
    data: DataOption = None,
    out: RunsOption = None,
    limit: LimitOption = None,
    temperature: TemperatureOption = "0",
    top_k: TopKOption = 0,
    min_p: MinPOption = "0",
    top_p: TopPOption = "1",
    seed: SeedOption = 0,
    seeds: SeedsOption = 1,
    samples: SamplesOption = 1,
    k: KOption = "1",
    rescore: RescoreOption = "",
    guided: GuidedOption = False,
    repair: RepairOption = 0,
    corpus: CorpusOption = None,
    truncate: TruncateOption = "none",
    batch: BatchOption = 16,
    backend: BackendOption = None,
    threads: ThreadsOption = None,
    png: PictureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score a sealed model under named protocols. Each run is one sealed file."""
    from sevenfold.core.ownership import is_picture, refuse_foreign
    from sevenfold.engine.sampling import DecodingLaw
    from sevenfold.engine.session import Model
    from sevenfold.evals.decoding.decoder import EvaluationDecoder
    from sevenfold.evals.run import EvaluationSettings
    from sevenfold.evals.suites import resolve

    law = DecodingLaw.parse(temperature, top_k, min_p, top_p, seed)
    rules = (rescore,) if rescore else ()
    settings = EvaluationSettings(
        law=law,
        n_samples=samples,
        ks=_numbers(k),
        rules=rules,
        is_guided=guided,
        n_repairs=repair,
        run=corpus,
    )
    chosen = [(card, limit or n) for card, n in resolve([name for name in suite.split(",") if name])]
    if not chosen:
        raise UsageError("no suite is named", where="--suite")
    if png is not None:
        refuse_foreign(png, is_picture, "picture")
    model = Model.open(file, backend=backend, n_threads=threads)
    decoder = EvaluationDecoder(model, batch=batch, truncation=truncate)
    folder = out or file.parent / "eval"
    runs, failed = _run_all(decoder, chosen, data, corpus, folder, settings, seeds)
    _show(runs, folder, png, as_json=as_json)
    if failed is not None:
        raise failed


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise UsageError(f"{text!r} is not a list of numbers", where="--k", remedy="use numbers, as in 1,10")
    return tuple(map(int, parts))


def _run_all(
    decoder: EvaluationDecoder,
    chosen: list[tuple[Card, int | None]],
    data: Path | None,
    corpus: Path | None,
    folder: Path,
    settings: EvaluationSettings,
    n_seeds: int,
) -> tuple[list[Json], SevenfoldError | None]:
    """Return the sealed runs, and the first that has no verdict."""
    from sevenfold.evals.journal import exclusive
    from sevenfold.evals.leaks import NOT_CHECKABLE, corpus_of, find_leaks
    from sevenfold.evals.run import NoVerdictError
    from sevenfold.evals.seeds import evaluate_seeds
    from sevenfold.evals.suites import make_task, needs_data
    from sevenfold.evals.tasks.data import data_directory
    from sevenfold.report.console import close_progress, make_progress

    trained = None if corpus is None else corpus_of(decoder.model, corpus)
    runs: list[Json] = []
    failed: SevenfoldError | None = None
    progress = make_progress()
    try:
        with exclusive(folder):
            for card, n_first in chosen:
                sets = data_directory(data) if needs_data(card) else None
                task = make_task(card, sets, n_first, None if trained is None else trained.path.parent)
                leaks = NOT_CHECKABLE if trained is None else find_leaks(task.items, trained, progress)
                try:
                    runs.append(evaluate_seeds(decoder, task, folder, settings, n_seeds, leaks, progress))
                except NoVerdictError as error:
                    failed = failed or error
    finally:
        close_progress(progress)
    return runs, failed


def _show(runs: list[Json], folder: Path, png: Path | None, *, as_json: bool) -> None:
    from sevenfold.report.console import print_table
    from sevenfold.report.evals import float_rows, score_rows, write_page, write_plot

    write_page(folder / "evaluation.html", runs)
    if png is not None:
        write_plot(png, runs)
    if as_json:
        keys = ("name", "card", "task", "data", "model", "law", "key", "executor", "leaks", "scores", "root")
        rows = [{key: run.get(key) for key in keys} for run in runs]
        for row, run in zip(rows, runs, strict=True):
            row["fp32"] = run["evidence"].get("fp32")
        print_json(rows)
        return
    print_table("scores", ("suite", "metric", "value", "95 %", "n", "ties", "protocol"), score_rows(runs))
    if floats := float_rows(runs):
        head = ("suite", "metric", "INT8", "FP32", "INT8 above FP32")
        print_table("the FP32 weights on the same windows", head, floats)


@app.command()
@guarded
def scorecard(
    file: FileArg,
    gates: Annotated[
        str,
        typer.Option("--gates", metavar="NAME|FILE", help="The name of gates that ship, or a file of gates."),
    ] = "north-star",
    runs: Annotated[
        Path | None,
        typer.Option(
            "--runs",
            metavar="DIR",
            readable=False,
            help="Directory of the runs of `s7 eval`; default: eval/ beside FILE.",
        ),
    ] = None,
    require: Annotated[bool, typer.Option("--require", help="Exit with 6 unless every gate is met.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show each gate of a model: met, not met or not measured, and the run that decides it."""
    from sevenfold.engine.session import open_model
    from sevenfold.evals import gates as rules
    from sevenfold.report.console import print_table

    named = rules.load_gates(gates)
    root = open_model(file).root
    found, others = rules.runs_of(root, runs or file.parent / "eval")
    states = rules.scorecard(named, found)
    if as_json:
        rows = [state.facts() for state in states]
        print_json({"gates": named.name, "model": root, "rows": rows, "runs_left_out": others})
    else:
        head = ("gate", "state", "wanted", "figure", "95 %", "n", "run", "protocol or reason")
        print_table(f"{named.name} of {root[:16]}", head, [_gate_row(state) for state in states])
        for text in others:
            print(f"left out: {text}")
    if require:
        rules.require(states, str(file))


def _gate_row(state: GateState) -> list[str]:
    if state.figure is None:
        return [state.id, state.state, state.wanted, "-", "-", "-", "-", state.reason]
    interval = f"{state.low:.4f} to {state.high:.4f}"
    figures = [f"{state.figure:.4f}", interval, str(state.n), state.run[:16]]
    return [state.id, state.state, state.wanted, *figures, state.protocol]
