"""The load of `serve.py`: N clients in one thread, each of which asks again when its answer has ended.

Sockets and bytes, no HTTP library: the load runs on the same machine as the server and should take
little of it. Every answer is a stream; what is measured is when its pieces come.

    python benchmarks/serve_load.py PORT CLIENTS SECONDS
"""

from __future__ import annotations

import itertools
import json
import random
import re
import selectors
import socket
import statistics
import sys
import time
from typing import Any

WORDS = [
    "def", "return", "import", "class", "self", "value", "list", "for", "in", "range", "if", "else", "print",
    "none", "index", "data",
]  # fmt: skip
N_PROMPT_WORDS, N_TOKENS = 60, 64
ENDS = b"\r\n0\r\n\r\n"
USED = re.compile(rb'"completion_tokens": ?([0-9]+)')


def text(seed: int, n_words: int = N_PROMPT_WORDS) -> str:
    """A prompt that no other request has."""
    rng = random.Random(seed)
    return f"# {seed}\n" + " ".join(rng.choice(WORDS) for _ in range(n_words))


def posted(path: str, data: bytes) -> bytes:
    """A request with a body, on a connection that stays."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def request(path: str, body: dict[str, Any]) -> bytes:
    """A request with JSON."""
    return posted(path, json.dumps(body).encode())


def completion(seed: int, n_words: int = N_PROMPT_WORDS, n_tokens: int = N_TOKENS) -> bytes:
    """A greedy completion of a prompt of its own, streamed."""
    body = {
        "prompt": text(seed, n_words), "max_tokens": n_tokens, "temperature": 0, "stream": True,
        "ignore_eos": True, "stream_options": {"include_usage": True}, "cache_prompt": False,
    }  # fmt: skip
    return request("/v1/completions", body)


class Client:
    """One connection, and the answer that it waits for."""

    def __init__(self, port: int, number: int, selector: selectors.BaseSelector) -> None:
        self._port, self._selector = port, selector
        self.turn = number << 20
        self.data = b""
        self.began = 0.0
        self.times: list[float] = []
        self._connect()

    def _connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self._port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(self.socket, selectors.EVENT_READ, self)

    def close(self) -> None:
        """End the connection."""
        self._selector.unregister(self.socket)
        self.socket.close()

    def ask(self) -> None:
        """Send the next request."""
        self.turn += 1
        self.data, self.times = b"", []
        self.began = time.monotonic()
        try:
            self.socket.sendall(completion(self.turn))
        except OSError:
            self._again()

    def _again(self) -> None:
        """Send it on a new connection: a server may close one behind an answer."""
        self.close()
        self._connect()
        self.socket.sendall(completion(self.turn))

    def take(self) -> bool:
        """Read what came. Return whether the answer has ended."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data and not self.data:
            self._again()
            return False
        if not data:
            raise SystemExit(f"the server closed the connection behind {self.data[-300:]!r}")
        self.data += data
        if b"data: {" in data:
            self.times.append(time.monotonic())
        return self.data.endswith(ENDS)


def percentiles(values: list[float], name: str) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    if len(values) < 2:
        return {}
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {f"{name}_ms_p{p}": round(cuts[p - 1] * 1000, 2) for p in (50, 95, 99)}


def run(port: int, n_clients: int, seconds: float) -> dict[str, float]:
    """Figures of a closed loop."""
    selector = selectors.DefaultSelector()
    clients = [Client(port, i, selector) for i in range(n_clients)]
    for client in clients:
        client.ask()
    began = time.monotonic()
    first: list[float] = []
    between: list[float] = []
    a_token: list[float] = []
    n_tokens, n_left = 0, n_clients
    while n_left:
        for key, _ in selector.select(60):
            waiting: Client = key.data
            if not waiting.take():
                continue
            used = USED.findall(waiting.data)
            if not used or int(used[-1]) != N_TOKENS:
                raise SystemExit(f"{used} tokens came, {N_TOKENS} were asked for: {waiting.data[:300]!r}")
            times = waiting.times
            first.append(times[0] - waiting.began)
            between += [b - a for a, b in itertools.pairwise(times)]
            a_token.append((times[-1] - times[0]) / (N_TOKENS - 1))
            n_tokens += N_TOKENS
            if time.monotonic() - began < seconds:
                waiting.ask()
            else:
                n_left -= 1
                waiting.close()
    return {
        "tokens_per_second": round(n_tokens / (time.monotonic() - began), 1),
        "requests": n_tokens // N_TOKENS,
        **percentiles(first, "first_token"),
        # Times between the events of a stream, each of which may hold several tokens.
        **percentiles(between, "between_events"),
        **percentiles(a_token, "each_token"),
    }


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
