"""Tokens per second and times of the server, beside the bare engine and llama-server, under load.

Each server runs in a process of its own, on the same random weights: ours sealed, llama.cpp's a GGUF
in Q8_0 that `s7 export` writes of it (serving_models.py). The load is a second process
(serve_load.py). Measured for each shape and server:

    load     1, 8 and 32 clients in a closed loop: a prompt of its own, 64 greedy tokens, streamed
    infill   a suggestion of 24 tokens with about 1,000 tokens of context, the prefix cached
    lengths  one client; the time of 8 tokens behind prompts of growing length, up to the context

"engine" is `greedy_batch` of as many sequences, without a server. `overhead` is what the server takes
of that at 8 clients. With `--threads 1` HTTP and the load have the other core.

    python benchmarks/serve.py [--models out/serving] [--shapes 8M 34M] [--clients 1 8 32] \
        [--seconds 8] [--threads 2] [--llama-server PATH | --llama-python PYTHON] \
        [--out benchmarks/results/serve]

The wheel xllamacpp (llama_server.py) has AVX2 kernels at most: run ours with S7_ISA=avx2, too, for a
comparison at one instruction set.
"""

from __future__ import annotations

import argparse
import json
import platform
import socket
import statistics
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

import serving_models
from serve_load import N_TOKENS, percentiles, text
from sevenfold.engine.native import NativeEngine, choose_isa
from sevenfold.engine.session import Model

HERE = Path(__file__).resolve().parent
OVERHEAD_CLIENTS = 8
SUGGESTIONS, SUGGESTION_TOKENS, CONTEXT_WORDS = 60, 24, 420
LENGTHS, EACH = (16, 60, 120, 240, 480, 720, 860), 8
SUFFIX = "\n\nprint(value)\n"


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


class Server:
    """A server in a process of its own."""

    def __init__(self, command: list[str], port: int) -> None:
        self.port = port
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while self._process.poll() is None:
            try:
                connection = HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit(f"the server did not start: {' '.join(command)}")

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(30)

    def load(self, clients: list[int], seconds: float) -> dict[str, Any]:
        """Figures for each number of clients."""
        found = {}
        for n in clients:
            command = [sys.executable, str(HERE / "serve_load.py"), str(self.port), str(n), str(seconds)]
            found[str(n)] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return found

    def times(self, bodies: list[tuple[str, dict[str, Any]]]) -> list[float]:
        """Seconds of each request, one behind the other on one connection."""
        connection, seconds = HTTPConnection("127.0.0.1", self.port, timeout=120), []
        for path, body in bodies:
            began = time.monotonic()
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
            if answer.status != 200:
                raise SystemExit(f"{path} answers {answer.status}: {data[:300]!r}")
            seconds.append(time.monotonic() - began)
        return seconds

    def infill(self) -> dict[str, float]:
        """A suggestion behind each word that is typed; the context stays."""
        context = text(7, CONTEXT_WORDS) + "\n"
        bodies = [
            (
                "/completion",
                {
                    "prompt": f"<|fim_prefix|>{context}{text(i, 3)}<|fim_suffix|>{SUFFIX}<|fim_middle|>",
                    "n_predict": SUGGESTION_TOKENS, "temperature": 0, "cache_prompt": True,
                    "ignore_eos": True,
                },
            )
            for i in range(SUGGESTIONS + 1)
        ]  # fmt: skip
        # The first reads the context.
        return percentiles(self.times(bodies)[1:], "suggestion")

    def lengths(self, tokenizer: Any) -> list[dict[str, float]]:
        """Times by the length of the prompt."""
        found = []
        for n_words in LENGTHS:
            prompts = [text(1000 * n_words + i, n_words) for i in range(EACH)]
            n_tokens = [len(tokenizer.encode(prompt)) for prompt in prompts]
            bodies = [
                ("/completion", {"prompt": prompt, "n_predict": 8, "temperature": 0, "ignore_eos": True})
                for prompt in prompts
            ]
            row = {"tokens": round(statistics.mean(n_tokens)), **percentiles(self.times(bodies), "answer")}
            found.append(row)
        return found


def bare(path: Path, clients: list[int], threads: int) -> dict[str, float]:
    """Tokens per second of the engine alone: a prompt each, then greedy steps of all together."""
    model = Model.open(path, n_threads=threads)
    engine = model.engine
    if not isinstance(engine, NativeEngine):
        raise SystemExit("the native engine is not here")
    found = {}
    for n in clients:
        rounds = []
        for number in range(max(3, 40 // n)):
            prompts = [
                np.array(model.tokenizer.begun(model.tokenizer.encode(text(number << 8 | i))), np.int64)
                for i in range(n)
            ]
            sessions = [engine.session() for _ in prompts]
            began = time.monotonic()
            engine.greedy_batch(list(zip(sessions, prompts, strict=True)), N_TOKENS)
            rounds.append(n * N_TOKENS / (time.monotonic() - began))
            for session in sessions:
                session.close()
        found[str(n)] = round(statistics.median(rounds), 1)
    return found


def commands(sealed: Path, args: argparse.Namespace, port: int) -> dict[str, list[str]]:
    """How each server is started on one shape."""
    threads = ["--threads", str(args.threads)]
    ours = [
        sys.executable,
        "-m",
        "sevenfold",
        "serve",
        str(sealed),
        "--port",
        str(port),
        "--no-log",
        *threads,
    ]
    found = {"sevenfold": ours}
    program = [str(args.llama_server)] if args.llama_server else []
    if args.llama_python:
        program = [str(args.llama_python), str(HERE / "llama_server.py")]
    if program:
        gguf = serving_models.gguf(sealed)
        slots = max(args.clients)
        found["llama-server"] = [
            *program, "-m", str(gguf), "--port", str(port), "-np", str(slots), *threads,
            # The context is shared out among the slots.
            "-c", str(slots * serving_models.CONTEXT),
        ]  # fmt: skip
    return found


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Figures of one shape."""
    sealed = serving_models.make(name, args.models)
    tokenizer = Model.open(sealed).tokenizer
    found: dict[str, Any] = {"engine": bare(sealed, args.clients, args.threads)}
    for who in commands(sealed, args, 0):
        port = free_port()
        server = Server(commands(sealed, args, port)[who], port)
        try:
            found[who] = {
                "load": server.load(args.clients, args.seconds),
                "infill": server.infill(),
                "lengths": server.lengths(tokenizer),
            }
        finally:
            server.close()
        print(name, who, json.dumps(found[who]["load"]), file=sys.stderr, flush=True)
    at = str(OVERHEAD_CLIENTS)
    if at in found["engine"]:
        rate = found["sevenfold"]["load"][at]["tokens_per_second"]
        found["overhead"] = round(1 - rate / found["engine"][at], 3)
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """The times by length as a picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(found["shapes"]), figsize=(5 * len(found["shapes"]), 3.6), squeeze=False
    )
    for axis, (name, shape) in zip(axes[0], found["shapes"].items(), strict=True):
        for who in ("sevenfold", "llama-server"):
            rows = shape.get(who, {}).get("lengths", [])
            if rows:
                values = [row["answer_ms_p95"] for row in rows]
                axis.plot([row["tokens"] for row in rows], values, marker="o", label=who)
        axis.set_title(f"{name}: 8 tokens behind a prompt, p95")
        axis.set_xlabel("tokens of the prompt")
        axis.set_ylabel("ms")
        axis.set_ylim(bottom=0)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure what is asked for, print it, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, default=Path("out/serving"))
    parser.add_argument("--shapes", nargs="+", default=["8M", "34M"])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--llama-server", type=Path, help="a llama-server that was built here")
    parser.add_argument("--llama-python", type=Path, help="or an interpreter that has xllamacpp")
    parser.add_argument("--out", type=Path, help="without a suffix: .json and .png are written")
    args = parser.parse_args()
    found: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "threads": args.threads,
        "isa": choose_isa(),
        "shapes": {name: measure(name, args) for name in args.shapes},
    }
    text_ = json.dumps(found, indent=1)
    print(text_)
    if args.out:
        args.out.with_suffix(".json").write_text(text_ + "\n", encoding="utf-8")
        draw(found, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
