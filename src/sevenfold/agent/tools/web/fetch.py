"""Fetch one page: every host, address and redirect checked, every byte and second counted.

A name is resolved once. All its addresses have to be public, and the connection goes to the one that
was checked, so a name that answers differently a moment later (DNS rebinding) changes nothing.
Compressed bodies are refused, so nothing can inflate. There are no cookies, no proxies of the
environment, no method but GET, and no request that holds anything but the URL.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urljoin

from sevenfold.agent.tools.web.addresses import AddressError, AllowList, WebAddress, check_address, read_url

PORT = 443
USER_AGENT = "sevenfold-agent"
REDIRECTS = (301, 302, 303, 307, 308)
HTML_TYPES = ("text/html", "application/xhtml+xml")
TEXT_TYPES = (*HTML_TYPES, "text/plain", "text/markdown", "text/csv", "application/json")


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """Bounds of one fetch, redirects included. Seconds are of the clock."""

    seconds: float = 10.0
    head_bytes: int = 16 << 10
    body_bytes: int = 256 << 10
    redirects: int = 3


class WebFetchError(AddressError):
    """A fetch that failed or was ended. `reason` is a word of specs/tools.md."""


class Network(Protocol):
    """What a fetch needs of the machine."""

    def resolve(self, host: str, port: int, seconds: float) -> Sequence[str]:
        """Return the addresses of a name. Raises WebFetchError."""

    def connect(self, address: str, port: int, seconds: float) -> socket.socket:
        """Return a connection to an address. Raises OSError."""

    def secure(self, connection: socket.socket, host: str) -> socket.socket:
        """Return the connection with TLS, the certificate checked for the name. Raises OSError."""


class SystemNetwork:
    """The network of this machine."""

    def resolve(self, host: str, port: int, seconds: float) -> Sequence[str]:
        """Return the addresses of a name, in the resolver's order. Raises WebFetchError."""
        answers: queue.Queue[list[Any] | OSError] = queue.Queue()

        def ask() -> None:
            try:
                answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except OSError as error:
                answers.put(error)

        # The resolver has no limit of time of its own.
        threading.Thread(target=ask, daemon=True).start()
        try:
            found = answers.get(timeout=seconds)
        except queue.Empty:
            raise WebFetchError("time", f"{host} was not resolved in time") from None
        if isinstance(found, OSError):
            raise WebFetchError("dns", f"{host} has no address")
        return [str(entry[4][0]) for entry in found]

    def connect(self, address: str, port: int, seconds: float) -> socket.socket:
        """Return a connection to an address. Raises OSError."""
        return socket.create_connection((address, port), timeout=seconds)

    def secure(self, connection: socket.socket, host: str) -> socket.socket:
        """Return the connection with TLS, the certificate checked for the name. Raises OSError."""
        return ssl.create_default_context().wrap_socket(connection, server_hostname=host)


@dataclass(frozen=True, kw_only=True)
class WebPage:
    """What came back: where from, its type, its bytes."""

    url: str
    content_type: str
    charset: str
    body: bytes


class _Bounded(io.RawIOBase):
    """The bytes of a connection until a time and a number. `allow` raises the number."""

    def __init__(self, connection: socket.socket, deadline: float, n_bytes: int) -> None:
        self._connection, self._deadline, self._left = connection, deadline, n_bytes
        self._reason = "headers"

    def readable(self) -> bool:
        return True

    def allow(self, n_bytes: int) -> None:
        """Let so many bytes of a body come, besides what is buffered already."""
        self._left, self._reason = n_bytes, "size"

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise WebFetchError("time", "it did not come in time")
        if self._left <= 0:
            raise WebFetchError(self._reason, "it is larger than it may be")
        self._connection.settimeout(left)
        n = self._connection.recv_into(memoryview(buffer)[: min(len(buffer), self._left)])
        self._left -= n
        return n

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return the stream that `http.client` reads: a socket's method of this name does it there."""
        return io.BufferedReader(self, 4096)


class Fetcher:
    """Fetches pages of an allow-list."""

    def __init__(
        self, allowed: AllowList, limits: FetchLimits | None = None, network: Network | None = None
    ) -> None:
        self.allowed = allowed
        self.limits = limits or FetchLimits()
        self._network = network or SystemNetwork()

    def fetch(self, url: str) -> WebPage:
        """Return a page, behind its redirects.

        Raises:
            AddressError: a URL, a host or an address that is not allowed, also behind a redirect.
            WebFetchError: it failed, or was ended by a limit.
        """
        deadline = time.monotonic() + self.limits.seconds
        address = self._read(url)
        for _ in range(self.limits.redirects + 1):
            page, location = self._exchange(address, deadline)
            if page is not None:
                return page
            address = self._read(urljoin(address.text(), location))
        raise WebFetchError("redirects", f"more than {self.limits.redirects} redirects")

    def _read(self, url: str) -> WebAddress:
        """Return a URL that may be fetched. Raises AddressError."""
        address = read_url(url)
        self.allowed.check(address.host)
        return address

    def _exchange(self, address: WebAddress, deadline: float) -> tuple[WebPage | None, str]:
        """Return a page and "", or None and where the server redirects to."""
        try:
            with contextlib.closing(self._connected(address, deadline)) as connection:
                return self._asked(connection, address, deadline)
        except TimeoutError as error:
            raise WebFetchError("time", "it did not come in time") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise WebFetchError("protocol", f"the fetch failed: {type(error).__name__}") from error

    def _connected(self, address: WebAddress, deadline: float) -> socket.socket:
        """Return a connection to an address that was checked."""
        found = self._network.resolve(address.host, PORT, _left(deadline))
        if not found:
            raise WebFetchError("dns", f"{address.host} has no address")
        for one in found:
            check_address(one)
        connection = self._network.connect(found[0], PORT, _left(deadline))
        try:
            connection.settimeout(_left(deadline))
            return self._network.secure(connection, address.host)
        except BaseException:
            connection.close()
            raise

    def _asked(
        self, connection: socket.socket, address: WebAddress, deadline: float
    ) -> tuple[WebPage | None, str]:
        request = (
            f"GET {address.target} HTTP/1.1\r\nHost: {address.host}\r\nUser-Agent: {USER_AGENT}\r\n"
            f"Accept: {', '.join(TEXT_TYPES)}\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
        )
        connection.settimeout(_left(deadline))
        connection.sendall(request.encode("ascii"))
        source = _Bounded(connection, deadline, self.limits.head_bytes)
        answer: Any = http.client.HTTPResponse(source, method="GET")  # type: ignore[arg-type]  # makefile
        answer.begin()
        if answer.status in REDIRECTS:
            return None, answer.headers.get("Location", "")
        if answer.status != 200:
            raise WebFetchError("status", f"the server answered {answer.status}")
        self._check_head(answer.headers)
        # The first bytes may be in the buffer already.
        source.allow(self.limits.body_bytes + 1)
        body = answer.read(self.limits.body_bytes + 1)
        if len(body) > self.limits.body_bytes:
            raise WebFetchError("size", f"more than {self.limits.body_bytes} bytes")
        if answer.length:
            raise WebFetchError("protocol", "the body ends before its length")
        kind = answer.headers.get_content_type()
        charset = answer.headers.get_content_charset("utf-8")
        return WebPage(url=address.text(), content_type=kind, charset=charset, body=body), ""

    def _check_head(self, headers: Any) -> None:
        if headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise WebFetchError("encoding", "a compressed body, which was not asked for")
        # `get_content_type` would call a missing type text/plain.
        if headers.get("Content-Type", "").partition(";")[0].strip().lower() not in TEXT_TYPES:
            raise WebFetchError("type", f"{headers.get('Content-Type', 'no type')!a:.80} is no text")
        for name in ("Content-Length", "Content-Type", "Transfer-Encoding"):
            if len(headers.get_all(name, [])) > 1:
                raise WebFetchError("protocol", f"{name} stands there twice")
        length = headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdecimal()) or len(length) > 19:
            raise WebFetchError("protocol", "the length is no number")
        if int(length) > self.limits.body_bytes:
            raise WebFetchError("size", f"more than {self.limits.body_bytes} bytes")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise WebFetchError("time", "it did not come in time")
    return left
