"""Tokens per second of the server, beside the bare engine and llama-server, under closed-loop load.

Each server runs in a process of its own, on the same weights (ours sealed, the peer's a GGUF in Q8_0
of the same model, `s7 export gguf`). The load is a second process: N clients, each of which sends its
next request when the one before has ended. Every prompt is another text, so no cache helps.

    python benchmarks/serve.py out/demo/model.s7l [--clients 1 8 32] [--seconds 10] \
        [--llama-server PATH --gguf FILE] [--out benchmarks/results/serve.json]

The engine's line is `greedy_batch` of as many sequences, without a server. Times to the first token
are those of a stream, at the client.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold.engine.native import NativeEngine
from sevenfold.engine.session import Model

WORDS = [
    "def", "return", "import", "class", "self", "value", "list", "for", "in", "range", "if", "else", "print",
    "none", "index", "data",
]  # fmt: skip
N_PROMPT_WORDS, N_TOKENS = 60, 64


def text(seed: int) -> str:
    """A prompt that no other request has."""
    rng = random.Random(seed)
    return f"# {seed}\n" + " ".join(rng.choice(WORDS) for _ in range(N_PROMPT_WORDS))


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


class Load:
    """N clients in a closed loop for some seconds."""

    def __init__(self, port: int, clients: int, seconds: float) -> None:
        self.port, self.clients, self.until = port, clients, time.monotonic() + seconds
        self.first: list[float] = []
        self.between: list[float] = []
        self.n_tokens = self.n_requests = 0
        self._lock = threading.Lock()

    def run(self) -> dict[str, float]:
        """Return the figures of the loop."""
        began = time.monotonic()
        threads = [threading.Thread(target=self._client, args=(i,)) for i in range(self.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - began
        first = statistics.quantiles(self.first, n=100)
        return {
            "tokens_per_second": round(self.n_tokens / seconds, 1),
            "requests": self.n_requests,
            "first_token_ms_p50": round(first[49] * 1000, 2),
            "first_token_ms_p95": round(first[94] * 1000, 2),
            "first_token_ms_p99": round(first[98] * 1000, 2),
        }

    def _client(self, number: int) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        for turn in range(1 << 30):
            if time.monotonic() > self.until:
                return
            self._request(connection, number << 20 | turn)

    def _request(self, connection: HTTPConnection, seed: int) -> None:
        body = {
            "prompt": text(seed), "max_tokens": N_TOKENS, "temperature": 0, "stream": True,
            "ignore_eos": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        began, first, used = time.monotonic(), 0.0, 0
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"the server answers {answer.status}: {answer.read()[:300]!r}")
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            first = first or time.monotonic() - began
            if usage := json.loads(line[6:]).get("usage"):
                used = usage["completion_tokens"]
        if used != N_TOKENS:
            raise SystemExit(f"{used} tokens came, {N_TOKENS} were asked for")
        with self._lock:
            self.first.append(first)
            self.n_tokens += used
            self.n_requests += 1


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server is healthy. Raises SystemExit when it ends instead."""
    while process.poll() is None:
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("the server did not start")


def measure(command: list[str], port: int, clients: list[int], seconds: float) -> dict[str, Any]:
    """Figures of one server for each number of clients; the load runs in a process of its own."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        found = {}
        for n in clients:
            load = [sys.executable, __file__, "--load", str(port), str(n), str(seconds)]
            found[str(n)] = json.loads(subprocess.run(load, capture_output=True, check=True).stdout)
        return found
    finally:
        process.terminate()
        process.wait(30)


def bare(path: Path, clients: list[int], threads: int) -> dict[str, float]:
    """Tokens per second of the engine alone: a prompt each, then greedy steps of all together."""
    model = Model.open(path, n_threads=threads)
    engine = model.engine
    if not isinstance(engine, NativeEngine):
        raise SystemExit("the native engine is not here")
    found = {}
    for n in clients:
        prompts = [
            np.array(model.tokenizer.begun(model.tokenizer.encode(text(i))), np.int64) for i in range(n)
        ]
        rounds = []
        for _ in range(5):
            sessions = [engine.session() for _ in prompts]
            began = time.monotonic()
            engine.greedy_batch(list(zip(sessions, prompts, strict=True)), N_TOKENS)
            rounds.append(n * N_TOKENS / (time.monotonic() - began))
            for session in sessions:
                session.close()
        found[str(n)] = round(statistics.median(rounds), 1)
    return found


def main() -> None:
    if sys.argv[1:2] == ["--load"]:
        port, clients, seconds = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
        print(json.dumps(Load(port, clients, seconds).run()))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    port = free_port()
    command = [sys.executable, "-m", "sevenfold", "serve", str(args.file), "--port", str(port)]
    threads = ["--threads", str(args.threads)]
    found: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "instruction_set": Model.open(args.file, n_threads=args.threads).engine.detail,
        "engine": bare(args.file, args.clients, args.threads),
        "sevenfold": measure([*command, *threads], port, args.clients, args.seconds),
    }
    if args.llama_server and args.gguf:
        port = free_port()
        peer = [str(args.llama_server), "-m", str(args.gguf), "--port", str(port), "-np", "32", *threads]
        found["llama-server"] = measure(peer, port, args.clients, args.seconds)
    text_ = json.dumps(found, indent=1)
    print(text_)
    if args.out:
        args.out.write_text(text_ + "\n")


if __name__ == "__main__":
    main()
