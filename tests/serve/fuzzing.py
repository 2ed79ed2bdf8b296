"""Mutation of requests and receipts: what comes back must be one of the answers that there are.

python tests/serve/fuzzing.py http|receipt MODEL SECONDS [SEED]
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from editors import REQUESTS

from sevenfold.engine.session import Model
from sevenfold.serve.app import ROUTES, Server, make_app
from sevenfold.serve.guard import Access
from sevenfold.serve.limits import ServerLimits
from sevenfold.serve.receipt_check import verify_answer
from sevenfold.serve.registry import Registry

NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1 << 31, -(1 << 63), 1 << 70, 0.5, -0.0, 1e308, "", "\x00", "\ud800",
    "\ufeff", "a" * 3000, "<|endoftext|>", "<|fim_prefix|>", [], [[]], [""], {}, {"a": {}}, [None],
    [1, "a"], ["\n"], {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
    {"type": "regex", "pattern": "(a+)+b"},
)  # fmt: skip
NAMES = (
    "prompt", "suffix", "stop", "n", "logprobs", "echo", "max_tokens", "n_predict", "temperature", "top_p",
    "top_k", "min_p", "seed", "logit_bias", "response_format", "stream", "stream_options", "messages",
    "tools", "tool_choice", "input_extra", "response_fields", "n_probs", "receipt", "prediction",
    "ignore_eos", "n_cmpl", "tokens", "content", "parse_special", "with_pieces", "t_max_predict_ms",
    "grammar", "json_schema", "model",
)  # fmt: skip
# What a client may be told. 500 is none of them: it means that nobody thought of something.
STATUSES = {200, 400, 401, 403, 404, 405, 408, 413, 415, 429, 501, 503}
VERDICTS = {"ACCEPT", "REJECT", "UNVERIFIABLE", "MALFORMED"}


def mutated(value: Any, rng: random.Random) -> Any:
    """A JSON value with one thing changed."""
    if isinstance(value, dict) and (value or rng.random() < 0.5):
        changed = dict(value)
        name = rng.choice([*changed, rng.choice(NAMES)]) if changed else rng.choice(NAMES)
        kind = rng.random()
        if kind < 0.2:
            changed.pop(name, None)
        elif kind < 0.6 or name not in changed:
            changed[name] = rng.choice(NASTY)
        else:
            changed[name] = mutated(changed[name], rng)
        return changed
    if isinstance(value, list) and value:
        changed_list = list(value)
        place = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.3:
            del changed_list[place]
        elif kind < 0.5:
            changed_list.insert(place, rng.choice(NASTY))
        else:
            changed_list[place] = mutated(value[place], rng)
        return changed_list
    if isinstance(value, str) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return value[:place] + rng.choice(("", "\x00", "\n", "0", "\u00e9", value[::-1])) + value[place + 1 :]
    if type(value) is int and rng.random() < 0.7:
        return value + rng.choice((-1, 1, 1 << 31, -(1 << 40)))
    return rng.choice(NASTY)


def bent(data: bytes, rng: random.Random) -> bytes:
    """Bytes with some changed, cut or doubled."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(changed) + 1)
        kind = rng.random()
        if kind < 0.4 and place < len(changed):
            changed[place] = rng.randrange(256)
        elif kind < 0.6:
            del changed[place : place + rng.randrange(1, 20)]
        else:
            changed[place:place] = rng.choice(
                (b'"', b"\\", b"[" * 40, b"{", b"\xff", b"\x00", b"1e999", b",")
            )
    return bytes(changed)


class HttpFuzz:
    """Sends requests to the application itself, in a loop of its own."""

    def __init__(self, path: Path) -> None:
        registry = Registry(ServerLimits(cache_bytes=4 << 20), 1, speculate="always")
        registry.load(path)
        self.server = Server(registry=registry, access=Access(limits=registry.limits, admin_key="admin"))
        self._app = make_app(self.server)
        self.counts: dict[int, int] = {}

    def requests(self, rng: random.Random) -> Iterator[tuple[str, str, list[tuple[bytes, bytes]], bytes]]:
        """Requests without end."""
        bodies = [asked.body | {"max_tokens": 4, "n_predict": 4} for asked in REQUESTS]
        bodies += [{"content": "a <b>"}, {"tokens": [5, 6]}, {"messages": [{"role": "user", "content": "a"}]}]
        while True:
            method, path, _ = rng.choice(ROUTES)
            if path.startswith("/admin/re") or path in ("/admin/canary", "/admin/shadow"):
                # They open files: that is the work of other tests.
                continue
            if method == "POST" and rng.random() < 0.6:
                path = rng.choice(REQUESTS).path
            body: Any = rng.choice(bodies)
            for _ in range(rng.randrange(4)):
                body = mutated(body, rng)
            data = json.dumps(body).encode("utf-8", "surrogatepass")
            if rng.random() < 0.25:
                data = bent(data, rng)
            headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
            if rng.random() < 0.1:
                headers[rng.randrange(2)] = (
                    rng.choice((b"host", b"origin", b"content-length")),
                    bent(b"a:1", rng),
                )
            if path.startswith("/admin"):
                headers.append((b"authorization", b"Bearer admin"))
            if rng.random() < 0.03:
                method, path = (
                    rng.choice(("PUT", "HEAD", "TRACE")),
                    "/" + rng.choice(("..", "v1//", "%00", "a" * 999)),
                )
            yield method, path.replace("{name:path}", "x").replace("{id}", "x"), headers, data

    async def send(self, method: str, path: str, headers: list[tuple[bytes, bytes]], data: bytes) -> int:
        """The status of one request. AssertionError for an answer that there is not."""
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http",
            "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2), "headers": headers,
        }  # fmt: skip
        given, status, parts = False, 0, []

        async def receive() -> dict[str, Any]:
            nonlocal given
            if given:
                await asyncio.sleep(3600)
            given = True
            return {"type": "http.request", "body": data, "more_body": False}

        async def take(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                parts.append(message.get("body", b""))

        await asyncio.wait_for(self._app(scope, receive, take), 60)
        whole = b"".join(parts)
        assert status in STATUSES, (status, path, data, whole[:300])
        if status >= 400 and method != "HEAD":
            assert json.loads(whole)["error"]["message"], (path, data)
        return status

    async def run(self, n: int, seconds: float, seed: int) -> int:
        """Send up to `n` requests, for so many seconds at most. Return how many."""
        rng, began, done = random.Random(seed), time.monotonic(), 0
        for request in self.requests(rng):
            if done >= n or time.monotonic() - began > seconds:
                break
            status = await self.send(*request)
            self.counts[status] = self.counts.get(status, 0) + 1
            done += 1
        scheduler = self.server.registry.find("").scheduler
        assert scheduler.n_running == scheduler.n_waiting == 0
        return done


def receipts(model: Model, seed: int) -> Iterator[tuple[bytes, bool]]:
    """(receipt, whether it still says the same) without end."""
    from together import run, scheduling

    from sevenfold.serve import receipt as form
    from sevenfold.serve.batching.request import Finished, Generation

    ids = tuple(model.tokenizer.begun(model.tokenizer.encode("def f(")))
    generation = Generation(ids=ids, max_tokens=6, receipt=True)
    with scheduling(model, ServerLimits()) as scheduler:
        (events,) = run(scheduler, [generation])
    (finished,) = [event for event in events if isinstance(event, Finished)]
    good = form.make(model.artifact.root, generation, 0, finished)
    rng = random.Random(seed)
    whole = json.dumps(good).encode()
    yield whole, True
    while True:
        kind = rng.random()
        if kind < 0.4:
            changed = json.loads(whole)
            statement = json.loads(base64.b64decode(changed["envelope"]["payload"]))
            for _ in range(rng.randrange(1, 3)):
                statement = mutated(statement, rng)
            try:
                text = json.dumps(
                    statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False
                ).encode()
            except UnicodeEncodeError:
                continue
            changed["envelope"]["payload"] = base64.b64encode(text).decode()
            data = json.dumps(changed).encode()
        elif kind < 0.7:
            data = json.dumps(mutated(json.loads(whole), rng)).encode()
        else:
            data = bent(whole, rng)
        yield data, says_the_same(data, good)


def says_the_same(data: bytes, good: dict[str, Any]) -> bool:
    """Whether what changed leaves the receipt true.

    It may be a form of JSON, base64 or hex, a signature, or a part of the request from which the same
    answer follows, such as top_k where nothing is drawn.
    """
    try:
        value = json.loads(data.decode())
        value["envelope"]["signatures"] = good["envelope"]["signatures"]
        said = [json.loads(base64.b64decode(each["envelope"]["payload"])) for each in (value, good)]
        for statement in said:
            statement["predicate"]["sampling"] = {}
            statement["predicate"]["request"] |= {"stops": [], "biases": [], "ignore_end": False}
        value["envelope"]["payload"] = good["envelope"]["payload"]
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    # As text, because true is not 1.
    return json.dumps([value, said[0]], sort_keys=True) == json.dumps([good, said[1]], sort_keys=True)


def fuzz_receipts(model: Model, n: int, seconds: float, seed: int) -> int:
    """Check up to `n` receipts, for so many seconds at most. Return how many."""
    began, done = time.monotonic(), 0
    for data, is_same in receipts(model, seed):
        if done >= n or time.monotonic() - began > seconds:
            break
        verdict = verify_answer(data, model)
        assert verdict.word in VERDICTS, data
        assert verdict.word != "ACCEPT" or is_same, data
        done += 1
    return done


def main() -> None:
    """Run one target and say how much was done."""
    kind, path, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else 0
    began = time.process_time()
    if kind == "http":
        fuzz = HttpFuzz(path)
        done = asyncio.run(fuzz.run(1 << 60, seconds, seed))
        fuzz.server.registry.close()
        print(dict(sorted(fuzz.counts.items())))
    else:
        done = fuzz_receipts(Model.open(path, n_threads=1), 1 << 60, seconds, seed)
    print(f"{kind}: {done} cases, {(time.process_time() - began) / 60:.1f} minutes of processor time")


if __name__ == "__main__":
    main()
