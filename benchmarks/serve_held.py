"""A server at twice its capacity for a while: nothing lost, nothing leaked, no answer that differs.

Beside each other run clients of six kinds: orderly ones, whose every answer is compared with the same
request asked alone; ones that send a prompt nobody sent before; slow readers; ones that leave in the
queue, in the prompt and in the answer; senders of malformed bodies; and ones that send their headers a
byte at a time. The anonymous memory of the server is read all the time.

    python benchmarks/serve_held.py MODEL [--seconds 300] [--unique 100000] [--out FILE]

Ends with 1 where an answer differs, a request is lost, the server is not idle at the end, or its
memory in the last quarter is more than 5 % over that in the second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from serve import free_port
from serve_load import posted, request, text

N_EXPECTED, N_TOKENS, GROWTH = 24, 16, 1.05
# Clients of each kind; the server runs 8 sequences and lets 16 wait.
KINDS = {"orderly": 20, "unique": 16, "slow": 4, "leaving": 12, "malformed": 4, "dripping": 4}
PARALLEL, QUEUE = 8, 16
MALFORMED = (
    b"", b"{", b"[]", b'{"prompt": 1}', b'{"prompt": "a", "n": 1000}', b"\xff", b"[" * 200,
    b'{"prompt": "\\ud800"}', b'{"prompt": "a", "prompt": "b"}',
)  # fmt: skip


def body(number: int, *, stream: bool = False) -> dict[str, Any]:
    """One of the requests whose answers are compared: of several kinds."""
    kinds: tuple[dict[str, Any], ...] = (
        {}, {"logprobs": 2}, {"stop": ["\n"]}, {"n": 2}, {"temperature": 0.8, "seed": number},
    )  # fmt: skip
    value = {"prompt": text(number, 10 + number), "max_tokens": N_TOKENS, "temperature": 0}
    return value | kinds[number % len(kinds)] | ({"stream": True} if stream else {})


class Held:
    """What the clients share."""

    def __init__(self, port: int, seconds: float, n_unique: int) -> None:
        self.port, self.until, self.n_unique = port, time.monotonic() + seconds, n_unique
        self.expected: dict[int, Any] = {}
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.next_unique = 0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the server."""
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)

    async def answer(self, data: bytes, pause: float = 0.0) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            await writer.drain()
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 120)
            whole = b""
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    whole = await reader.readexactly(int(line.split(b":")[1]))
            while b"chunked" in head and not whole.endswith(b"0\r\n\r\n"):
                await asyncio.sleep(pause)
                whole += await asyncio.wait_for(reader.read(64 if pause else 1 << 16), 120)
            return int(head.split(b" ", 2)[1]), whole
        finally:
            writer.close()

    async def whole(self, data: bytes) -> dict[str, Any]:
        """The answer of a request that is asked again while the queue is full."""
        while True:
            status, data_ = await self.answer(data)
            if status == 200:
                return json.loads(data_)
            self.counts[f"answered {status}"] += 1
            if status not in (429, 503):
                raise SystemExit(f"status {status}: {data_[:300]!r}")
            await asyncio.sleep(0.05 + random.random() * 0.1)

    async def orderly(self) -> None:
        number = random.randrange(N_EXPECTED)
        said = choices(await self.whole(request("/v1/completions", body(number))))
        if said != self.expected[number]:
            self.faults.append(f"request {number} gave {said}, alone {self.expected[number]}")

    async def unique(self) -> None:
        if self.next_unique >= self.n_unique:
            await asyncio.sleep(0.1)
            return
        self.next_unique += 1
        value = {"prompt": text(1_000_000 + self.next_unique, 20), "max_tokens": 1, "logprobs": 1}
        await self.whole(request("/v1/completions", value))

    async def slow(self) -> None:
        await self.answer(
            request("/v1/completions", body(random.randrange(N_EXPECTED), stream=True)), pause=0.05
        )

    async def leaving(self) -> None:
        _, writer = await self.connect()
        value = body(random.randrange(N_EXPECTED), stream=random.random() < 0.5) | {"max_tokens": 200}
        writer.write(request("/v1/completions", value))
        await writer.drain()
        await asyncio.sleep(random.choice((0, 0.001, 0.01, 0.05, 0.2)))
        writer.close()
        await asyncio.sleep(0.1)

    async def malformed(self) -> None:
        data = random.choice(MALFORMED)
        status, _ = await self.answer(posted("/v1/completions", data))
        if status not in (400, 429):
            self.faults.append(f"{data!r} is answered {status}")
        await asyncio.sleep(0.02)

    async def dripping(self) -> None:
        _, writer = await self.connect()
        try:
            for byte in b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" * 4:
                if time.monotonic() > self.until:
                    break
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.3)
        except OSError:
            self.counts["cut off"] += 1
        finally:
            writer.close()

    async def client(self, kind: str) -> None:
        while time.monotonic() < self.until:
            try:
                await getattr(self, kind)()
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                if kind in ("orderly", "unique"):
                    self.faults.append(f"a request of {kind} was lost: {error!r}")
            self.counts[kind] += 1


def choices(answer: dict[str, Any]) -> list[Any]:
    """What must be the same: texts, reasons, log-probabilities."""
    return [[c["text"], c["finish_reason"], c["logprobs"]] for c in answer["choices"]]


def anonymous_kb(pid: int) -> int:
    """Anonymous memory of a process, in kB, what is swapped out included."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "VmSwap")))


async def watch(held: Held, pid: int) -> list[int]:
    """The memory of the server, ten times a second."""
    seen = []
    while time.monotonic() < held.until:
        seen.append(anonymous_kb(pid))
        await asyncio.sleep(0.1)
    return seen


async def hold(held: Held, pid: int) -> list[int]:
    """Run all clients. Return the memory of the server."""
    for number in range(N_EXPECTED):
        held.expected[number] = choices(await held.whole(request("/v1/completions", body(number))))
    clients = [held.client(kind) for kind, n in KINDS.items() for _ in range(n)]
    watching = asyncio.create_task(watch(held, pid))
    await asyncio.gather(*clients)
    memory = await watching
    for _ in range(100):
        _, data = await held.answer(b"GET /slots HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if not any(slot["is_processing"] for slot in json.loads(data)):
            return memory
        await asyncio.sleep(0.1)
    held.faults.append("a sequence runs on though nobody waits for it")
    return memory


def main() -> None:
    """Start a server, hold it, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--unique", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    port = free_port()
    command = [
        sys.executable, "-m", "sevenfold", "serve", str(args.model), "--port", str(port), "--no-log",
        "--parallel", str(PARALLEL), "--queue", str(QUEUE), "--cache-mb", "16",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while "listening" not in process.stderr.readline():
            if process.poll() is not None:
                raise SystemExit("the server did not start")
        held = Held(port, args.seconds, args.unique)
        memory = asyncio.run(hold(held, process.pid))
    finally:
        process.terminate()
        process.wait(60)
    quarter = max(1, len(memory) // 4)
    before, after = (statistics.median(part) for part in (memory[quarter : 2 * quarter], memory[-quarter:]))
    if after > GROWTH * before:
        held.faults.append(f"memory grew from {before / 1024:.1f} to {after / 1024:.1f} MiB")
    found = {
        "seconds": args.seconds,
        "counts": dict(sorted(held.counts.items())),
        "unique_prompts": held.next_unique,
        "anonymous_mib": {"second_quarter": round(before / 1024, 1), "last_quarter": round(after / 1024, 1)},
        "exit": process.returncode,
        "faults": held.faults[:20],
    }
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    # uvicorn drains, and then ends by the signal that it got.
    raise SystemExit(bool(held.faults) or process.returncode not in (0, -signal.SIGTERM))


if __name__ == "__main__":
    main()
