"""The verb memory: remember texts, search them, and prove what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sevenfold.cli.base import JsonOption, app, guarded, named_model, print_json
from sevenfold.core.errors import StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sevenfold.agent.memory import MemoryHit
    from sevenfold.core.hashing import Json

memory_app = typer.Typer(
    help="Remember texts, search them by an exact integer scan, and prove what was found.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(memory_app, name="memory")

StoreArg = Annotated[Path, typer.Argument(metavar="DIR", readable=False, help="The directory of a memory.")]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="FILE",
        readable=False,
        callback=named_model,
        help="The model that reads the chunks: its tokenizer counts the tokens, and its family must match.",
    ),
]
RootOption = Annotated[str, typer.Option("--root", metavar="HEX", help="Refuse a memory with another root.")]

NameOption = Annotated[
    str,
    typer.Option("--source", metavar="NAME", help="Name of the source; default: the last part of its path."),
]
LicenceOption = Annotated[
    str, typer.Option("--licence", metavar="SPDX", help="Licence of files that state none.")
]
TrustOption = Annotated[
    int,
    typer.Option(
        "--trust", metavar="0..8", help="Trust in the source; chunks of a higher trust rank higher."
    ),
]
TimeOption = Annotated[
    int | None,
    typer.Option(
        "--time", metavar="SECONDS", help="Seconds since 1970, or a date; default: that of the commit."
    ),
]
ChunkOption = Annotated[
    int,
    typer.Option(
        "--chunk-tokens", metavar="N", help="Tokens of a chunk, 6000 to 12000; fixed by the first addition."
    ),
]


@memory_app.command()
@guarded
def add(
    memory: StoreArg,
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", readable=False, help="A git repository (HEAD), or a directory."),
    ],
    name: NameOption = "",
    licence: LicenceOption = "",
    trust: TrustOption = 4,
    time: TimeOption = None,
    chunk_tokens: ChunkOption = 8192,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Update a memory to what a source holds now. Only what changed is read and embedded."""
    from sevenfold.agent.memory import Addition, add_source, open_source
    from sevenfold.agent.memory.chunks import count_tokens
    from sevenfold.agent.memory.index import RULE

    counter, counter_name = (count_tokens, RULE) if model is None else _counter(model)
    how = Addition(
        licence=licence,
        trust=trust,
        time=time,
        chunk_tokens=chunk_tokens,
        counter=counter,
        counter_name=counter_name,
    )
    with open_source(source, name) as opened:
        report = add_source(memory, opened, how)
    value: dict[str, Json] = {
        key.removeprefix("n_"): getattr(report, key)
        for key in ("source", "commit", "root", "n_in", "n_added", "n_changed", "n_unchanged", "n_removed")
    } | {
        "duplicates": report.n_duplicates,
        "embedded": report.n_embedded,
        "tokens": report.n_tokens,
        "dropped": dict(sorted(report.dropped.items())),
    }
    if as_json:
        print_json(value)
        return
    print(
        f"{report.source}: {report.n_in:,} in = {report.n_added:,} added + {report.n_changed:,} changed"
        f" + {report.n_unchanged:,} unchanged + {sum(report.dropped.values()):,} dropped;"
        f" {report.n_removed:,} removed, {report.n_duplicates:,} known texts, {report.n_tokens:,} new tokens"
    )
    for reason, n in sorted(report.dropped.items()):
        print(f"  {reason}: {n:,}")
    print(f"root {report.root}")


def _counter(model: Path) -> tuple[Callable[[Sequence[bytes]], list[int]], str]:
    from sevenfold.agent.memory.policy import counter_of

    return counter_of(model)


def _seconds(text: str, option: str) -> int:
    """Return a time in seconds since 1970 from a number or a date."""
    from datetime import UTC, datetime

    if not text or text.isdecimal():
        return int(text or 0)
    try:
        return max(int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()), 0)
    except ValueError:
        raise UsageError(
            f"{option} {text!r}", remedy="give a date such as 2026-01-31, or seconds since 1970"
        ) from None


Names = list[str] | None


@memory_app.command()
@guarded
def search(
    memory: StoreArg,
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help="A question in words, with names in backquotes.")
    ],
    k: Annotated[int, typer.Option("--k", metavar="N", help="Chunks to return, 1 to 64.")] = 6,
    hops: Annotated[
        int, typer.Option("--hops", metavar="1|2", help="Searches: 2 also follows the calls of a name.")
    ] = 2,
    path: Annotated[Names, typer.Option("--path", metavar="GLOB", help="Only these paths.")] = None,
    source: Annotated[Names, typer.Option("--source", metavar="NAME", help="Only these sources.")] = None,
    language: Annotated[Names, typer.Option("--language", metavar="NAME", help="Only these.")] = None,
    licence: Annotated[Names, typer.Option("--licence", metavar="SPDX", help="Only these.")] = None,
    since: Annotated[str, typer.Option("--since", metavar="DATE", help="Not older than this.")] = "",
    until: Annotated[str, typer.Option("--until", metavar="DATE", help="Not newer than this.")] = "",
    root: RootOption = "",
    text: Annotated[bool, typer.Option("--text", help="Also print the chunks.")] = False,
    proof: Annotated[
        Path | None,
        typer.Option("--proof", metavar="FILE", readable=False, help="Write a proof of the chunks."),
    ] = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question with chunks, each with its source, path, lines and licence."""
    from sevenfold.agent.memory import MemoryQuery, MemorySearch, open_memory, prove
    from sevenfold.core.files import write_json
    from sevenfold.core.ownership import is_json_of, refuse_foreign

    _check_model(model)
    if proof is not None:
        refuse_foreign(proof, is_json_of("proof", "root", "hits"), "proof")
    query = MemoryQuery(
        text=question,
        k=k,
        hops=hops,
        paths=tuple(path or ()),
        sources=tuple(source or ()),
        languages=tuple(language or ()),
        licences=tuple(licence or ()),
        since=_seconds(since, "--since"),
        until=_seconds(until, "--until"),
    )
    found = open_memory(memory, root)
    hits = MemorySearch(found).ask(query)
    if proof is not None:
        write_json(proof, prove(found, hits))
    if as_json:
        print_json(
            {
                "root": found.manifest.root,
                "question": question,
                "hits": [hit.value(with_text=text) for hit in hits],
            }
        )
        return
    _print_hits(hits, with_text=text)
    print(f"root {found.manifest.root}")


def _check_model(model: Path | None) -> None:
    if model is not None:
        from sevenfold.agent.memory.policy import check_model

        check_model(model)


def _print_hits(hits: Sequence[MemoryHit], *, with_text: bool) -> None:
    from sevenfold.core.process.log import escaped
    from sevenfold.report.console import print_table

    rows = [
        [
            *(f"{hit.entry.source}:{hit.entry.path}", f"{hit.lines[0]}-{hit.lines[1]}"),
            *(f"{hit.best_lines[0]}-{hit.best_lines[1]}", str(hit.hop), str(hit.similarity)),
            *(f"{hit.n_tokens:,}", hit.entry.licence or "unknown"),
        ]
        for hit in hits
    ]
    columns = ("file", "lines", "best", "hop", "similarity", "tokens", "licence")
    print_table(f"{len(hits)} chunks", columns, rows)
    for hit in hits if with_text else ():
        print(f"--- {hit.entry.source}:{hit.entry.path} {hit.lines[0]}-{hit.lines[1]}")
        print("\n".join(escaped(line) for line in hit.text.decode().splitlines()))


@memory_app.command()
@guarded
def stats(memory: StoreArg, root: RootOption = "", as_json: JsonOption = False) -> None:
    """Show what a memory holds: texts, tokens, sources, languages, licences, its root."""
    from sevenfold.agent.memory import open_memory
    from sevenfold.agent.memory.store import figures
    from sevenfold.report.console import print_table

    value = figures(open_memory(memory, root))
    if as_json:
        print_json(value)
        return
    plain = [
        [key, f"{one:,}" if isinstance(one, int) else str(one)]
        for key, one in value.items()
        if not isinstance(one, dict)
    ]
    print_table(str(memory), ("figure", "value"), plain)
    for key in ("sources", "languages", "licences"):
        print_table(key, (key, "files"), [[name or "unknown", f"{n:,}"] for name, n in value[key].items()])


@memory_app.command()
@guarded
def verify(memory: StoreArg, root: RootOption = "", as_json: JsonOption = False) -> None:
    """Check every byte of a memory, and check that its vectors are those of its texts."""
    from sevenfold.agent.memory import open_memory
    from sevenfold.agent.memory.store import check_vectors

    found = open_memory(memory, root)
    n_vectors = check_vectors(found)
    value = {
        "root": found.manifest.root,
        "segments": len(found.manifest.segments),
        "texts": len(found.blobs),
        "vectors": n_vectors,
    }
    if as_json:
        print_json(value)
    else:
        print(
            f"{memory}: {value['segments']} segments, {value['texts']:,} texts and {n_vectors:,} vectors,"
            " as they were made"
        )
        print(f"root {value['root']}")


@memory_app.command()
@guarded
def compact(
    memory: StoreArg,
    relearn: Annotated[
        bool, typer.Option("--relearn", help="Learn the table of word frequencies again, from all texts.")
    ] = False,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rewrite a memory without what is no longer used. The answers do not change unless --relearn
    is given.
    """
    from sevenfold.agent.memory import compact as compact_memory
    from sevenfold.agent.memory.chunks import count_tokens
    from sevenfold.agent.memory.index import RULE

    counter, name = (count_tokens, RULE) if model is None else _counter(model)
    found, n_dead = compact_memory(memory, relearn=relearn, counter=counter, counter_name=name)
    value = {"root": found.manifest.root, "left_out": n_dead, "segments": len(found.manifest.segments)}
    if as_json:
        print_json(value)
    else:
        print(f"{memory}: {n_dead:,} frames left out, {value['segments']} segments")
        print(f"root {value['root']}")


@memory_app.command("check-proof")
@guarded
def check_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="A proof that search wrote.")],
    root: Annotated[str, typer.Option("--root", metavar="HEX", help="The root of the memory.")],
    as_json: JsonOption = False,
) -> None:
    """Check that chunks came from the memory with this root, without the memory."""
    from sevenfold.agent.memory import check_proof as check
    from sevenfold.core.files import read_json

    rows = check(read_json(file), root)
    if as_json:
        print_json({"root": root, "hits": rows})
        return
    for row in rows:
        first, last = row["lines"]
        print(f"{row['source']}:{row['path']} {first}-{last} {row['licence'] or 'unknown'}")
    print(f"{len(rows)} chunks are of the memory with the root {root}")


@memory_app.command()
@guarded
def outline(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", readable=False, help="A text file, such as a program.")
    ],
    language: Annotated[
        str,
        typer.Option(
            "--language", metavar="NAME", help="Its language; default: by the ending of the file name."
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Compress a program to imports, signatures and calls, each with its byte range."""
    from sevenfold.agent.memory.scratchpad import compress
    from sevenfold.core.files import read_bytes
    from sevenfold.core.process.log import escaped
    from sevenfold.corpus.document import language_of

    if not file.is_file():
        raise StorageError("no such file", where=str(file), remedy="check the path")
    pad = compress(read_bytes(file), language or language_of(str(file)), where=str(file))
    if as_json:
        print_json(pad.value())
        return
    print("\n".join(escaped(line) for line in pad.text.splitlines()))
    print(f"{pad.n_text:,} bytes to {len(pad.text.encode()):,}, {len(pad.facts):,} facts")
