"""A server on loopback for tests, and a client that sends one request at a time."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import uvicorn

from sevenfold.serve.app import Server, make_app
from sevenfold.serve.guard import Access
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.registry import Registry


@dataclass
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def events(self) -> list[Any]:
        """The events of a stream, its end left out."""
        lines = [line for line in self.data.decode().split("\n\n") if line]
        assert lines[-1] == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@dataclass
class Client:
    """Sends one request on a connection of its own."""

    port: int
    server: Server

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            given = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, given, answer.read())
        finally:
            connection.close()

    def post(self, path: str, value: Any, **headers: str) -> Reply:
        sent = {"Content-Type": "application/json", **headers}
        return self.send("POST", path, json.dumps(value).encode(), sent)

    def get(self, path: str, **headers: str) -> Reply:
        return self.send("GET", path, None, headers)


def serving(
    paths: list[Path],
    *,
    speculate: str = "auto",
    draft: Path | None = None,
    recorders: tuple[Any, ...] = (),
    **changes: Any,
) -> Iterator[Client]:
    """A server on a free port; closed afterwards."""
    access = Access(**{"limits": ServerLimits(body_seconds=5, cache_bytes=4 << 20), **changes})
    registry = Registry(access.limits, 1, speculate=speculate, draft=draft)
    for path in paths:
        registry.load(path)
    server = Server(registry=registry, access=access, recorders=recorders)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    program = uvicorn.Server(uvicorn.Config(make_app(server), log_level="critical", lifespan="on"))
    thread = threading.Thread(target=lambda: asyncio.run(program.serve(sockets=[bound])), daemon=True)
    thread.start()
    while not program.started:
        time.sleep(0.01)
    yield Client(bound.getsockname()[1], server)
    program.should_exit = True
    thread.join(30)
    bound.close()
    assert not thread.is_alive()
