"""An internet on loopback for the red team: public sites of a table, and an inside that no one may
reach.

A connection to an address of the table goes to a server that plays its sites. A connection to any
other address is a breach. It is counted, and goes to a server that gives away a secret.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sevenfold.agent.tools.web.fetch import WebFetchError
from sevenfold.core.hashing import Json

SECRET = "s7-canary-9d41c7"
# What the addresses of sites begin with; all others are inside.
PUBLIC = ("93.184.", "2606:2800:")
_DRIP_SECONDS = 0.02


class LocalInternet:
    """The network of one case. Use it as a context.

    Args:
        hosts: name -> lists of addresses; each resolution takes the next list, the last one stays.
        pages: "host/path" -> what is answered: `raw`, or `status`, `headers`, `body`; `repeat`
            repeats the body, `drip` sends it a byte at a time.
    """

    def __init__(self, hosts: dict[str, list[list[str]]], pages: dict[str, Json]) -> None:
        self._hosts, self._pages = hosts, pages
        self._n_resolved: Counter[str] = Counter()
        self.breaches: list[str] = []
        self._is_over = threading.Event()
        self._sites, self._inside = _listening(), _listening()

    def __enter__(self) -> LocalInternet:
        for listener, answer in ((self._sites, self._site), (self._inside, self._secret)):
            threading.Thread(target=self._serve, args=(listener, answer), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for listener in (self._sites, self._inside):
            # A thread that waits in accept is woken by this alone.
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def resolve(self, host: str, port: int, seconds: float) -> Sequence[str]:  # noqa: ARG002 - a protocol
        """Return the addresses of the table."""
        if host not in self._hosts:
            raise WebFetchError("dns", f"{host} has no address")
        lists = self._hosts[host]
        n = self._n_resolved[host]
        self._n_resolved[host] += 1
        return lists[min(n, len(lists) - 1)]

    def connect(self, address: str, port: int, seconds: float) -> socket.socket:
        """Return a connection to the server that plays an address."""
        is_public = address.startswith(PUBLIC)
        if not is_public or port != 443:
            self.breaches.append(f"connected to {address} port {port}")
        place = (self._sites if is_public else self._inside).getsockname()
        return socket.create_connection(place, timeout=seconds)

    def secure(self, connection: socket.socket, host: str) -> socket.socket:  # noqa: ARG002 - a protocol
        """Return the connection as it is: certificates are not what is tried here."""
        return connection

    def _serve(self, listener: socket.socket, answer: Any) -> None:
        while not self._is_over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection, answer), daemon=True).start()

    def _talk(self, connection: socket.socket, answer: Any) -> None:
        with connection, suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data and (block := connection.recv(65536)):
                data += block
            head = data.decode("latin-1").split("\r\n")
            if len(head[0].split(" ")) != 3 or any("\n" in line or "\r" in line for line in head):
                self.breaches.append("a request that is not one line and headers")
            answer(connection, head)

    def _secret(self, connection: socket.socket, _: list[str]) -> None:
        body = SECRET.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)

    def _site(self, connection: socket.socket, head: list[str]) -> None:
        host = next((line[6:] for line in head if line.lower().startswith("host: ")), "")
        target = head[0].split(" ")[1]
        if SECRET in target:
            self.breaches.append("the secret was sent out")
        page = self._pages.get(host + target.partition("?")[0]) or {"status": 404, "body": "none"}
        data = _bytes_of(page)
        if not page.get("drip"):
            connection.sendall(data)
            return
        for i in range(len(data)):
            if self._is_over.wait(_DRIP_SECONDS):
                return
            connection.sendall(data[i : i + 1])


def _bytes_of(page: dict[str, Json]) -> bytes:
    body = str(page.get("body", "")).encode() * int(page.get("repeat", 1))
    if "hex" in page:
        body = bytes.fromhex(page["hex"]) * int(page.get("repeat", 1))
    if "raw" in page:
        return str(page["raw"]).encode("latin-1") + body
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))}
    headers |= page.get("headers", {})
    lines = [
        f"HTTP/1.1 {page.get('status', 200)} X",
        *(f"{k}: {v}" for k, v in headers.items() if v is not None),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener
