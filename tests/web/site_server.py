"""A file server for a page, which can fail in the ways that servers and networks fail."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CSP = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src 'self' data:"
)
TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css",
    ".svg": "image/svg+xml", ".json": "application/json", ".s7l": "application/octet-stream",
}  # fmt: skip
PIECE = 16384


@dataclass
class Faults:
    """What goes wrong with answers that are a model; a test sets it and changes it."""

    has_ranges: bool = True
    # Bytes after which the n-th answer, from an offset on, is cut; None for a whole one.
    cut: Callable[[int, int], int | None] = lambda _, __: None
    # Changes what is sent from an offset on.
    damage: Callable[[int, bytearray], None] = lambda _, __: None
    # Seconds between pieces.
    pause: float = 0.0
    isolated: bool = False
    policy: str = CSP
    # Ranges that were asked for, in order.
    asked: list[tuple[int, int]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, root: Path, faults: Faults, *arguments: Any) -> None:
        self._root, self._faults = root, faults
        super().__init__(*arguments)

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self._root / (self.path.split("?")[0].lstrip("/") or "index.html")
        if not path.is_file():
            self.send_error(404)
            return
        data = bytearray(path.read_bytes())
        begin, end, status = 0, len(data), 200
        is_model = path.suffix == ".s7l"
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if found and self._faults.has_ranges:
            begin, end, status = int(found[1]), min(int(found[2]) + 1, len(data)), 206
        sent = data[begin:end]
        most = None
        if is_model:
            self._faults.asked.append((begin, end))
            self._faults.damage(begin, sent)
            most = self._faults.cut(len(self._faults.asked), begin)
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        for name, value in self._headers(path, len(sent)).items():
            self.send_header(name, value)
        self.end_headers()
        self._send(bytes(sent), len(sent) if most is None else min(most, len(sent)), is_model)

    def _headers(self, path: Path, length: int) -> dict[str, str]:
        headers = {
            "Content-Type": TYPES.get(path.suffix, "application/octet-stream"), "Cache-Control": "no-cache",
            "Content-Length": str(length), "Content-Security-Policy": self._faults.policy,
        }  # fmt: skip
        if self._faults.isolated:
            headers |= {
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Embedder-Policy": "require-corp",
            }
        return headers

    def _send(self, sent: bytes, most: int, is_model: bool) -> None:
        try:
            for at in range(0, most, PIECE):
                self.wfile.write(sent[at : min(at + PIECE, most)])
                if is_model and self._faults.pause:
                    threading.Event().wait(self._faults.pause)
            self.wfile.flush()
        except OSError:
            # The page went away.
            self.close_connection = True
        if most < len(sent):
            self.close_connection = True


class Site:
    """A server of a directory on 127.0.0.1."""

    def __init__(self, root: Path) -> None:
        self.faults = Faults()
        self._root = root
        self._start(0)

    def _start(self, port: int) -> None:
        handler = partial(_Handler, self._root, self.faults)
        self._server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
