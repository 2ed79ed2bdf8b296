"""Measure tokens per second of a model on this machine, and the share of the peak.

Two peaks are measured in the same call. Reading a prompt is limited by arithmetic. Its peak is the
number of 8-bit multiply-adds a second that the instruction set does in registers alone
(`native.peak_rate`). A step of decoding reads every weight and key once. Its peak is the speed at
which NumPy reads a block of that many bytes again and again, from cache or memory. A share near 1
cannot be improved on this machine. Rounds alternate between thread counts, and the result gives
medians and quartiles.

Decoding is measured twice: through `Session.generate`, which `s7 run` and the Python API call
("generate"), and by the loop of the engine without text ("decode").
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sevenfold.core.errors import GateError
from sevenfold.core.hashing import Json
from sevenfold.core.numbers.fixed import Ints
from sevenfold.core.process.log import Progress
from sevenfold.engine import native, reference
from sevenfold.engine.backends import Engine, make_engine
from sevenfold.engine.session import Model
from sevenfold.engine.weights import FeedForwardWeights, IntegerModel

# The numbers of tokens, if the context has room for them.
PROMPT, STEPS = 512, 128
# How often each thread reads its block. The fastest read counts.
READS = 5


@dataclass(frozen=True, kw_only=True)
class Work:
    """The cost of a prompt of `prompt` tokens and of `steps` greedy tokens after it.

    `macs` counts 8-bit multiply-adds of the prompt, with the head for its last token only.
    `n_bytes` counts the weights, keys and values that one step reads, in the middle of the steps.
    """

    prompt: int
    steps: int
    macs: int
    n_bytes: int


def work_of(model: IntegerModel) -> Work:
    """Return the work of the measurement for a model. Raises GateError when the context has no room
    for two tokens.
    """
    shape = model.shape
    if shape.context < 2:
        raise GateError(f"a context of {shape.context} has no room for a prompt and a step")
    prompt = min(PROMPT, max(shape.context * 3 // 4, 1))
    steps = min(STEPS, shape.context - prompt)

    def feed_forward(ffn: FeedForwardWeights) -> int:
        return ffn.gate.weight_IO.size + ffn.up.weight_IO.size + ffn.down.weight_IO.size

    layers = model.layers + (model.stacks[0] if model.stacks else ())
    weights = sum(
        layer.q.weight_IO.size + layer.k.weight_IO.size + layer.v.weight_IO.size + layer.o.weight_IO.size
        # A token uses one of them.
        + feed_forward(layer.experts[0])
        for layer in layers
    )  # fmt: skip
    head = model.head.weight_IO.size
    # The query of a token meets every position up to its own, and the resulting weights meet V.
    attention = len(layers) * shape.n_heads * shape.head_dim * prompt * (prompt + 1)
    held = len(layers) * 2 * shape.n_kv_heads * (shape.head_dim + 6) * (prompt + steps // 2)
    return Work(
        prompt=prompt, steps=steps, macs=weights * prompt + head + attention, n_bytes=weights + head + held
    )


def read_rate(n_bytes: int, n_threads: int) -> float:
    """Return the bytes per second that `n_threads` threads read. Each reads its part of a block of
    `n_bytes`, and the fastest of several rounds counts.
    """
    parts = np.array_split(np.ones(max(n_bytes // 8, n_threads), np.int64), n_threads)
    seconds = []
    for _ in range(READS):
        gate = threading.Barrier(n_threads + 1)
        repeats = max(1, 2**26 // n_bytes)

        def read(part: Ints, gate: threading.Barrier = gate, repeats: int = repeats) -> None:
            gate.wait()
            for _ in range(repeats):
                part.max()
            gate.wait()

        threads = [threading.Thread(target=read, args=(part,)) for part in parts]
        for thread in threads:
            thread.start()
        gate.wait()
        began = time.perf_counter()
        gate.wait()
        seconds.append((time.perf_counter() - began) / repeats)
        for thread in threads:
            thread.join()
    return n_bytes / min(seconds)


def _round(engine: Engine, ids: Ints, steps: int) -> tuple[float, float]:
    """Return the seconds of the prompt and those of the steps after it."""
    session = engine.session()
    began = time.perf_counter()
    token = reference.argmax(session.forward(ids, last_only=True)[0])
    prompt = time.perf_counter() - began
    began = time.perf_counter()
    if isinstance(session, native.NativeSession):
        session.greedy(np.array([token]), steps)
    else:
        for _ in range(steps):
            token = reference.argmax(session.forward(np.array([token]), last_only=True)[0])
    decode = time.perf_counter() - began
    session.close()
    return prompt, decode


def _generated(user: Model, engine: Engine, ids: Sequence[int], steps: int) -> float:
    """Return the seconds of `steps` tokens after the first, as text, through a session of the
    model.
    """
    with user.on(engine).session() as session:
        session.prefill(ids)
        session.step()
        began = time.perf_counter()
        while len(session.tokens) <= steps:
            # An end-of-text token ends one call. The text after it costs the same.
            for _ in session.generate(steps + 1 - len(session.tokens)):
                pass
        return time.perf_counter() - began


def readable_ids(user: Model, n: int) -> list[int]:
    """Return `n` ids, spread over the vocabulary, whose text passes the gate."""
    vocab = user.weights.shape.vocab_size
    good = [i for i in range(vocab) if not _holds_control(user.tokenizer.token_bytes(i))]
    return [good[i * 7919 % len(good)] for i in range(n)]


def _holds_control(text: bytes) -> bool:
    """Return whether a byte is a control character or outside ASCII, so that it may not be in a
    prompt.
    """
    return any(byte < 0x20 or byte > 0x7E for byte in text)


def _row(n_threads: int, phase: str, speeds: list[float], per_token: float, peak: float | None) -> Json:
    """Return the median, the quartiles, and the share of the peak. `per_token` is the cost of a
    token in the unit of the peak.
    """
    several = len(speeds) > 1
    low, middle, high = statistics.quantiles(speeds, n=4, method="inclusive") if several else speeds * 3
    return {
        "threads": n_threads,
        "phase": phase,
        "tokens_per_second": middle,
        "quartiles": [low, high],
        "share_of_roof": middle * per_token / peak if peak else None,
    }


def measure(
    model: IntegerModel,
    backend: str,
    threads: Sequence[int],
    rounds: int,
    progress: Progress,
    user: Model | None = None,
) -> dict[str, Json]:
    """Measure a model on a backend.

    Args:
        threads: the thread counts to compare. The reference always has one thread.
        rounds: at least 1.
        user: the model with its tokenizer. Its sessions are measured as well.

    Returns:
        `work`, `roofs` (by thread count), `rows` (by thread count and phase), in tokens per second.

    Raises:
        GateError: the context is too small.
        SevenfoldError, StorageError: threads or memory are not available.
    """
    work = work_of(model)
    counts = list(threads) if backend == native.NAME else [1]
    engines = {n: make_engine(backend, model, n) for n in counts}
    # Ids are spread over the vocabulary, so that every expert is used.
    ids = np.arange(work.prompt, dtype=np.int64) * 7919 % model.shape.vocab_size
    times: dict[int, list[tuple[float, float]]] = {n: [] for n in counts}
    generated: dict[int, list[float]] = {n: [] for n in counts}
    text = readable_ids(user, work.prompt) if user else []
    progress.start("measure", rounds * len(counts), "rounds")
    for number in range(rounds):
        for n_threads, engine in engines.items():
            if number == 0:
                # The first round warms the caches and is not counted.
                _round(engine, ids, 1)
            times[n_threads].append(_round(engine, ids, work.steps))
            if user and work.steps > 1:
                generated[n_threads].append(_generated(user, engine, text, work.steps - 1))
            progress.advance(sum(len(t) for t in times.values()))
    rows: list[Json] = []
    roofs: list[Json] = []
    for n_threads, engine in engines.items():
        isa = engine.isa if isinstance(engine, native.NativeEngine) else None
        macs = native.peak_rate(isa, n_threads) if isa else None
        n_bytes = read_rate(work.n_bytes, n_threads)
        roofs.append({"threads": n_threads, "isa": isa, "macs_per_second": macs, "bytes_per_second": n_bytes})
        prompt, decode = zip(*times[n_threads], strict=True)
        rows.append(
            _row(n_threads, "prompt", [work.prompt / s for s in prompt], work.macs / work.prompt, macs)
        )
        if seen := generated[n_threads]:
            speeds = [(work.steps - 1) / s for s in seen]
            rows.append(_row(n_threads, "generate", speeds, work.n_bytes, n_bytes))
        rows.append(_row(n_threads, "decode", [work.steps / s for s in decode], work.n_bytes, n_bytes))
    return {
        "work": {"prompt": work.prompt, "steps": work.steps, "macs": work.macs, "bytes": work.n_bytes},
        "roofs": roofs,
        "rows": rows,
    }
