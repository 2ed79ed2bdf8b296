"""Check every request before its route: Host, key, type and size of the body, time limits, an id.

The defaults are safe. The server listens on loopback. It answers only to its own host names, so DNS
rebinding reaches nothing. It reflects no Origin. It takes only JSON, which a page of another origin
cannot send without a preflight request.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sevenfold.core.hashing import sha256
from sevenfold.serve.errors import FORBIDDEN, MEDIA_TYPE, TOO_LARGE, UNAUTHORIZED, RequestError
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.operation.records import Record, RequestRecorder

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Routes without a key, because the probe of an orchestrator has none.
OPEN_PATHS = frozenset(("/health", "/ready"))
ADMIN_PREFIX = "/admin/"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
REQUEST_TIMEOUT = 408


@dataclass(frozen=True, kw_only=True)
class Access:
    """The rules of access: which keys, hosts and origins may use which routes."""

    keys: tuple[str, ...] = ()
    admin_key: str = ""
    hosts: tuple[str, ...] = LOOPBACK
    # The origins whose pages may read answers. "*" is never among them.
    origins: tuple[str, ...] = ()
    limits: ServerLimits = field(default_factory=ServerLimits)

    def check_host(self, host: str) -> None:
        """Refuse a host name that is not one of this server. Raises RequestError."""
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name.lower() not in self.hosts:
            raise RequestError(
                f"the host {host!r:.80} is not served here",
                remedy="start the server with --host-name",
                status=FORBIDDEN,
            )

    def check_key(self, path: str, authorization: str) -> str:
        """Return the salt of the caller's cache entries. Raises RequestError for a missing or wrong
        key.
        """
        given = authorization.removeprefix("Bearer ").strip()
        if path.startswith(ADMIN_PREFIX):
            if not self.admin_key or not hmac.compare_digest(given.encode(), self.admin_key.encode()):
                raise RequestError("this route needs the admin key", status=UNAUTHORIZED)
            return ""
        if not self.keys or path in OPEN_PATHS:
            return ""
        # All keys are compared, so the time does not reveal which one was close.
        matches = [hmac.compare_digest(given.encode(), key.encode()) for key in self.keys]
        if not any(matches):
            raise RequestError(
                "the API key is missing or wrong",
                remedy="send Authorization: Bearer KEY",
                status=UNAUTHORIZED,
            )
        return sha256(given.encode()).hex()


class Guard:
    """The outermost middleware of the application."""

    def __init__(self, app: App, access: Access, recorders: Sequence[RequestRecorder] = ()) -> None:
        self._app, self._access, self._recorders = app, access, tuple(recorders)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request to the application, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        record = Record(
            id=f"req-{secrets.token_hex(8)}", method=scope["method"], path=scope["path"], headers=headers
        )
        began = time.monotonic()
        extra = self._extra_headers(headers, record.id)

        async def sender(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        try:
            body = await self._admitted(scope, headers, receive)
            await self._app(scope, _replay(body, receive), sender)
        except RequestError as error:
            await _refuse(sender, error)
        finally:
            if self._recorders:
                record.end(scope, time.monotonic() - began)
                for recorder in self._recorders:
                    recorder.write(record)

    def _extra_headers(self, headers: dict[bytes, str], name: str) -> list[tuple[bytes, bytes]]:
        extra = [(b"x-request-id", name.encode()), (b"x-content-type-options", b"nosniff")]
        origin = headers.get(b"origin", "")
        if origin and origin in self._access.origins:
            extra += [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin")]
        return extra

    async def _admitted(self, scope: Scope, headers: dict[bytes, str], receive: Receive) -> bytes:
        self._access.check_host(headers.get(b"host", ""))
        scope["s7.salt"] = self._access.check_key(scope["path"], headers.get(b"authorization", ""))
        has_body = headers.get(b"content-length", "0") != "0" or b"transfer-encoding" in headers
        if scope["method"] != "POST" or not has_body:
            # Only POST has routes with a body. Without a body the route says what is missing.
            return b""
        kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestError(
                f"the body is {kind or 'of no type'}",
                remedy="send Content-Type: application/json",
                status=MEDIA_TYPE,
            )
        limits = self._access.limits
        if (
            headers.get(b"content-length", "0").isdigit()
            and int(headers.get(b"content-length", "0")) > limits.body_bytes
        ):
            raise _too_large(limits)
        try:
            return await asyncio.wait_for(_body(receive, limits), limits.body_seconds)
        except TimeoutError as error:
            raise RequestError(
                f"the body did not arrive within {limits.body_seconds} s",
                remedy="send it faster",
                status=REQUEST_TIMEOUT,
            ) from error


def _too_large(limits: ServerLimits) -> RequestError:
    return RequestError(
        f"the body has more than {limits.body_bytes} bytes", remedy="send less", status=TOO_LARGE
    )


async def _body(receive: Receive, limits: ServerLimits) -> bytes:
    data = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError("the client disconnected", status=REQUEST_TIMEOUT)
        data += bytes(message.get("body", b""))
        if len(data) > limits.body_bytes:
            raise _too_large(limits)
        if not message.get("more_body"):
            return data


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that returns the body that was read, then what follows it."""
    is_given = False

    async def replayed() -> MutableMapping[str, Any]:
        nonlocal is_given
        if not is_given:
            is_given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed


async def _refuse(send: Send, error: RequestError) -> None:
    data = json.dumps(error.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in error.headers().items()]
    if error.status in (TOO_LARGE, REQUEST_TIMEOUT):
        # The rest of the body is not read, so the connection cannot be used again.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
