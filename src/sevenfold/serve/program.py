"""Start the server: load the models, listen, and drain on SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sevenfold.core.errors import StorageError
from sevenfold.serve.app import Server, make_app
from sevenfold.serve.guard import LOOPBACK, Access
from sevenfold.serve.hosted import HostedTools
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.operation.records import JsonLines, RequestSpans
from sevenfold.serve.registry import Registry

MAX_HEADER_BYTES = 32 << 10
KEEP_ALIVE_SECONDS = 30
# The seconds for which a thread may keep the interpreter while another waits. They are few, so that
# the thread of the engine does not wait long for the event loop, which writes answers.
SWITCH_SECONDS = 0.0005


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of the command line."""

    files: tuple[Path, ...]
    host: str = "127.0.0.1"
    port: int = 8080
    keys: tuple[str, ...] = ()
    admin_key: str = ""
    host_names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    threads: int | None = None
    speculate: str = "auto"
    draft: Path | None = None
    receipt_key: Path | None = None
    password: bytes | None = None
    drain_seconds: int = 30
    # Whether each request is logged as a line of JSON on standard error.
    log: bool = True
    # Tools that the server calls itself.
    hosted: HostedTools | None = None
    limits: ServerLimits = field(default_factory=ServerLimits)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises StorageError when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # When the protocol is named, asyncio sends each piece at once (TCP_NODELAY). Without it a piece
    # waits up to 40 ms for the acknowledgement of the one before.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(512)
    except OSError as error:
        bound.close()
        raise StorageError(
            f"cannot listen: {error.strerror or error}",
            where=f"{host}:{port}",
            remedy="choose another --port",
        ) from error
    return bound


def make_server(options: Options) -> Server:
    """Return the server after loading and proving every model.

    Raises:
        ArtifactError, StorageError: a file is refused.  UsageError: the receipt key is none.
    """
    key: Any = None
    if options.receipt_key is not None:
        from sevenfold.release import dsse

        key = dsse.load_private_key(options.receipt_key, options.password)
    registry = Registry(options.limits, options.threads, speculate=options.speculate, draft=options.draft)
    for path in options.files:
        registry.load(path)
    hosts = tuple({*LOOPBACK, options.host.lower(), *(name.lower() for name in options.host_names)})
    access = Access(
        keys=options.keys,
        admin_key=options.admin_key,
        hosts=hosts,
        origins=options.origins,
        limits=options.limits,
    )
    lines = JsonLines(_to_stderr) if options.log else None
    recorders = tuple(each for each in (lines, RequestSpans.installed()) if each is not None)
    return Server(
        registry=registry, access=access, signing_key=key, recorders=recorders, hosted=options.hosted
    )


def _to_stderr(line: str) -> None:
    # A closed terminal must not end an answer.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(line)
        sys.stderr.flush()


def _protocol(seconds: int) -> type[H11Protocol]:
    """Return the HTTP/1.1 protocol with a time limit in seconds for the headers."""

    class TimedProtocol(H11Protocol):
        """HTTP/1.1 that closes a connection whose first headers do not arrive."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._late = self.loop.call_later(seconds, self._check)

        def _check(self) -> None:
            # `cycle` is None until a request is complete. The types of uvicorn do not say so.
            if getattr(self, "cycle", None) is None and not self.transport.is_closing():
                self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self._late.cancel()
            super().connection_lost(exc)

    return TimedProtocol


def run(options: Options, server: Server, bound: socket.socket) -> None:
    """Serve until a signal arrives. Then accept no more requests, and let the running ones end."""
    sys.setswitchinterval(SWITCH_SECONDS)
    config = uvicorn.Config(
        make_app(server),
        http=_protocol(options.limits.header_seconds),
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=options.drain_seconds,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    asyncio.run(uvicorn.Server(config).serve(sockets=[bound]))
