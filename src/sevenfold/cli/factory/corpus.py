"""The verbs of the corpus: the stage itself (`s7 corpus RECIPE`), fetch, pin, licences, notice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from sevenfold.cli.base import (
    JsonOption,
    OutOption,
    RecipeArg,
    WorkersOption,
    app,
    guarded,
    make_job,
    print_json,
)
from sevenfold.cli.factory.make import ForceOption, run_one
from sevenfold.core.errors import StorageError, UsageError

if TYPE_CHECKING:
    from sevenfold.corpus.fetch import PackageStore, Pin

STAGE = "build"


class _StageByDefault(TyperGroup):
    """A group that runs the stage when its first word is a recipe and not a verb."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = [STAGE, *args]
        return super().parse_args(ctx, args)


corpus_app = typer.Typer(
    cls=_StageByDefault,
    help=(
        "Stage 1: documents, licences, held-out split (`s7 corpus RECIPE --out DIR`); and what goes into it."
    ),
    no_args_is_help=False,
    rich_markup_mode=None,
)
app.add_typer(corpus_app, name="corpus")

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        readable=False,
        help="Directory of the packages; default: $S7_PACKAGES, or the cache.",
    ),
]
LedgerArg = Annotated[
    Path, typer.Argument(metavar="RUN", readable=False, help="A run directory, or a ledger (.parquet).")
]


@corpus_app.command(STAGE)
@guarded
def build(
    recipe: RecipeArg,
    out: OutOption,
    force: ForceOption = False,
    workers: WorkersOption = "1",
    offline: Annotated[
        bool, typer.Option("--offline", help="Use no network: what the locks pin must be here.")
    ] = False,
    taken_from: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            readable=False,
            help="Copy the corpus of a run whose recipe differs only in its mix.",
        ),
    ] = None,
) -> None:
    """Stage 1: fetch what the locks pin, then make documents, licences, the held-out split, and a
    page about them.
    """
    from sevenfold.corpus.missing_packages import fetch_missing
    from sevenfold.report.console import close_progress
    from sevenfold.report.corpus import write_corpus_report

    if force and taken_from:
        raise UsageError(
            "--force and --from", remedy="use one of them: run the stage again, or copy its result"
        )
    job = make_job(recipe, out, workers=workers)
    if not offline:
        try:
            fetch_missing(job.recipe.corpus, job.recipe_dir, job.progress)
        finally:
            close_progress(job.progress)
    run_one("corpus", job, force, taken_from)
    print(f"report: {write_corpus_report(out)}")


@corpus_app.command()
@guarded
def fetch(
    lock: Annotated[
        Path, typer.Argument(metavar="LOCK", readable=False, help="A lock (specs/corpus-lock.md).")
    ],
    out: StoreOption = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="KIND|NAME",
            help="Only pypi, npm, deb or dsc; or a name, in which * stands for any letters.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the packages that a lock pins and check their hashes. Nothing of them is run."""
    from sevenfold.corpus.fetch import fetch_all, read_lock, select, store_directory
    from sevenfold.report.console import close_progress, make_progress, print_table

    pins = select(read_lock(lock), only)
    directory = out or store_directory()
    progress = make_progress()
    try:
        outcomes = fetch_all(pins, directory, progress)
    finally:
        close_progress(progress)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    counts = {
        status: sum(o.status == status for o in outcomes) for status in ("present", "fetched", "failed")
    }
    n_bytes = sum(outcome.n_bytes for outcome in outcomes)
    if as_json:
        rows = [
            {
                "package": o.pin.label,
                "status": o.status,
                "n_bytes": o.n_bytes,
                "reason": o.reason,
                "detail": o.detail,
            }
            for o in outcomes
        ]
        print_json({"directory": str(directory), **counts, "n_bytes": n_bytes, "packages": rows})
    else:
        if failed:
            print_table(
                "missing",
                ("package", "reason", "what was said"),
                [[o.pin.label, o.reason, o.detail] for o in failed],
            )
        print(
            f"{counts['fetched']} fetched, {counts['present']} were here, {counts['failed']} missing;"
            f" {n_bytes / 1e6:,.1f} MB in {directory}"
        )
    if failed:
        raise StorageError(
            f"{len(failed)} of {len(outcomes)} packages are missing",
            where=str(lock),
            remedy="run the same command again to continue, or pin what is not found again",
        )


@corpus_app.command()
@guarded
def pin(
    out: Annotated[Path, typer.Option("--out", metavar="LOCK", readable=False, help="The lock to write.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KIND:NAME[=VERSION]...", help="pypi:attrs, npm:acorn=8.19.0, deb:..., dsc:..."
        ),
    ] = None,
    listed: Annotated[
        Path | None,
        typer.Option(
            "--names",
            metavar="FILE",
            readable=False,
            help="A file of names, each with the licence concluded for it (specs/corpus-lock.md).",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="LOCK",
            readable=False,
            help="Copy versions and hashes from a lock that has more packages.",
        ),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", metavar="DIR", readable=False, help="Directory of the packages, as in `fetch --out`."
        ),
    ] = None,
) -> None:
    """Write a lock: the versions and hashes of packages that their registries offer now."""
    from sevenfold.core.files import write_pretty_json
    from sevenfold.core.ownership import refuse_foreign
    from sevenfold.corpus.fetch import PackageStore, read_lock, store_directory
    from sevenfold.corpus.fetch.lock import is_lock
    from sevenfold.corpus.fetch.pin import lock_of, parse_request, pin_all, pin_from, read_names
    from sevenfold.report.console import close_progress, make_progress

    refuse_foreign(out, is_lock, "lock")
    requests = [parse_request(name) for name in names or ()] + (read_names(listed) if listed else [])
    if not requests:
        raise UsageError("no package is named", remedy="KIND:NAME, or --names FILE")
    packages = PackageStore(store or store_directory())
    progress = make_progress()
    try:
        if source:
            pins = pin_from(requests, read_lock(source), packages, progress)
        else:
            pins = pin_all(requests, packages, progress)
    finally:
        close_progress(progress)
    licensed = [_with_licence(found, packages) for found in pins]
    write_pretty_json(out, lock_of(licensed))
    print(f"{len(licensed)} packages pinned: {out}")


def _with_licence(pin: Pin, packages: PackageStore) -> Pin:
    """Return the pin with the licence from the metadata of its package, or with the concluded one.
    Return None when parts of the package differ. Print the licence.
    """
    from dataclasses import replace

    from sevenfold.core.process.log import one_line
    from sevenfold.corpus.licences import is_valid
    from sevenfold.corpus.sources.packages import survey_package

    seen = survey_package(pin, packages.files(pin) or [])[0].licence_of_package().expression
    licence = pin.concluded or (seen if seen and is_valid(seen) else None)
    print(f"{pin.label}  {one_line(licence or seen or 'no licence found')}")
    return replace(pin, licence=(licence,) if licence else ())


@corpus_app.command()
@guarded
def licences(
    run: LedgerArg,
    sql: Annotated[
        str | None,
        typer.Option("--sql", metavar="QUERY", help="A query of the table `ledger`, in the SQL of DuckDB."),
    ] = None,
    by: Annotated[
        str,
        typer.Option("--by", metavar="COLUMN", help="source, language, licence, evidence, reason or domain."),
    ] = "licence",
    as_json: JsonOption = False,
) -> None:
    """Query the ledger: what is in the corpus, under which licence, and what was left out."""
    from sevenfold.corpus.query import ledger_path, query, summary_sql
    from sevenfold.report.console import print_table

    path = ledger_path(run)
    columns, rows = query(path, sql or summary_sql(by))
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    print_table(str(path), columns, [["" if cell is None else str(cell) for cell in row] for row in rows])


@corpus_app.command()
@guarded
def notice(
    run: Annotated[Path, typer.Argument(metavar="RUN", readable=False, help="A run directory.")],
) -> None:
    """Print the notice of the sources of a corpus: what was kept, under which licence, and how that
    is known.
    """
    from sevenfold.core.manifest import read_manifest
    from sevenfold.release.documents import notice as notice_of

    manifest = read_manifest(run / "corpus")
    if manifest is None:
        raise StorageError(
            "no finished corpus here", where=str(run), remedy="run `s7 corpus RECIPE --out RUN` first"
        )
    value = {
        "recipe": {"name": manifest.recipe_name},
        "corpus": {"root": manifest.root},
        "sources": manifest.facts["groups"],
    }
    print(notice_of(value).decode(), end="")
