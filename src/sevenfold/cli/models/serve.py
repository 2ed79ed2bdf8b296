"""The verbs serve and verify-answer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sevenfold.cli.base import JsonOption, app, guarded, named_model, named_models, print_json
from sevenfold.cli.models.tools import DomainsOption, LogOption, MemoryOption, ToolsOption, host_of
from sevenfold.core.errors import StorageError, storage

MAX_RECEIPT_BYTES = 64 << 20
EXIT_BY_VERDICT = {"ACCEPT": 0, "REJECT": 3, "UNVERIFIABLE": 4, "MALFORMED": 3}


def _path(flag: str, text: str) -> Any:
    return typer.Option(flag, metavar="FILE", readable=False, help=text)


def _count(flag: str, text: str, most: int, least: int = 1) -> Any:
    return typer.Option(flag, metavar="N", min=least, max=most, help=text)


Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        readable=False,
        callback=named_models,
        help="Sealed models; each is served under its name.",
    ),
]
Host = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")]
Port = Annotated[int, _count("--port", "Port; 0 chooses a free one.", 65535, 0)]
KeyFile = Annotated[
    Path | None, _path("--api-key-file", "File of API keys, one on each line; every route then needs one.")
]
AdminKeyFile = Annotated[
    Path | None, _path("--admin-key-file", "File of the key of /admin; without it there is no /admin.")
]
HostNames = Annotated[
    list[str] | None,
    typer.Option("--host-name", metavar="NAME", help="A further host name that is answered."),
]
Origins = Annotated[
    list[str] | None, typer.Option("--origin", metavar="URL", help="An origin whose pages may read answers.")
]
Threads = Annotated[int | None, _count("--threads", "Threads of the engine.", 64)]
ReceiptKey = Annotated[Path | None, _path("--receipt-key", "Private key (s7 keygen) that signs receipts.")]
Parallel = Annotated[int, _count("--parallel", "Sequences that run at once.", 1024)]
Queue = Annotated[int, _count("--queue", "Requests that may wait.", 65536)]
CacheMegabytes = Annotated[int, _count("--cache-mb", "Most megabytes of the prefix cache.", 1 << 20, 0)]
Speculate = Annotated[
    str,
    typer.Option(
        "--speculate", metavar="MODE", help="Guessing of tokens: auto (where it saves time), off or always."
    ),
]
Draft = Annotated[Path | None, _path("--draft", "A smaller sealed model with the same vocabulary.")]
NoLog = Annotated[
    bool, typer.Option("--no-log", help="Write no log line for each request. Log lines hold no prompts.")
]


@app.command()
@guarded
def serve(
    files: Files,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    key_file: KeyFile = None,
    admin_key_file: AdminKeyFile = None,
    host_names: HostNames = None,
    origins: Origins = None,
    threads: Threads = None,
    receipt_key: ReceiptKey = None,
    parallel: Parallel = 32,
    queue: Queue = 256,
    cache_mb: CacheMegabytes = 256,
    speculate: Speculate = "auto",
    draft: Draft = None,
    no_log: NoLog = False,
    tools: ToolsOption = None,
    memory: MemoryOption = None,
    domains: DomainsOption = None,
    tool_log: LogOption = None,
) -> None:
    """Serve models over HTTP with the protocols of OpenAI and llama.cpp. Equal requests get equal
    answers.
    """
    from sevenfold.serve.limits import ServerLimits
    from sevenfold.serve.program import Options, listen, make_server, run

    password = os.environ.get("S7_KEY_PASSWORD", "").encode() or None
    with host_of(tools, memory, domains, tool_log) as hosted:
        options = Options(
            files=tuple(files),
            host=host,
            port=port,
            keys=_keys(key_file),
            admin_key=next(iter(_keys(admin_key_file)), ""),
            host_names=tuple(host_names or ()),
            origins=tuple(origins or ()),
            threads=threads,
            speculate=speculate,
            draft=draft,
            log=not no_log,
            hosted=hosted,
            receipt_key=receipt_key,
            password=password,
            limits=ServerLimits(parallel=parallel, queue=queue, cache_bytes=cache_mb << 20),
        )
        server = make_server(options)
        bound = listen(host, port)
        for served in server.registry.all():
            print(f"s7: {served.name}: root {served.root}, {served.model.engine.detail}", file=sys.stderr)
        print(f"s7: listening on http://{host}:{bound.getsockname()[1]}", file=sys.stderr, flush=True)
        run(options, server, bound)


def _keys(path: Path | None) -> tuple[str, ...]:
    """Return the keys in a file that has one key on each line. Raises StorageError for a file
    without a key.
    """
    if path is None:
        return ()
    with storage(path):
        keys = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    if not keys:
        raise StorageError("the file holds no key", where=str(path), remedy="write one key on a line")
    return keys


@app.command("verify-answer")
@guarded
def verify_answer(
    receipt: Annotated[
        Path, typer.Argument(metavar="RECEIPT", readable=False, help="A receipt of `s7 serve`.")
    ],
    model: Annotated[
        Path,
        typer.Option(
            "--model", metavar="FILE", readable=False, callback=named_model, help="The sealed model."
        ),
    ],
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", readable=False, help="Public key; its signature must be there and hold."
        ),
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", metavar="NAME", help="Engine: native, torch or reference.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the receipt of an answer with one prefill. Prints ACCEPT, REJECT, UNVERIFIABLE or
    MALFORMED.
    """
    from sevenfold.engine.session import Model
    from sevenfold.release import dsse
    from sevenfold.serve.receipt_check import verify_answer as check

    with storage(receipt), receipt.open("rb") as stream:
        data = stream.read(MAX_RECEIPT_BYTES + 1)
    public = None if key is None else dsse.load_public_key(key)
    verdict = check(data, Model.open(model, backend=backend), public)
    if as_json:
        print_json(
            {
                "verdict": verdict.word,
                "why": verdict.why,
                "step": verdict.step,
                "signers": list(verdict.signers),
            }
        )
    else:
        signed = f"; signed by {', '.join(name[:16] for name in verdict.signers)}" if verdict.signers else ""
        print(f"{verdict.word}: {verdict.why}{signed}")
    if code := EXIT_BY_VERDICT[verdict.word]:
        raise typer.Exit(code)
