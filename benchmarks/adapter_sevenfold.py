"""Sevenfold's native engine for worker.py. The only place of the comparison that knows its Python interface."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import numpy as np

from sevenfold import __version__
from sevenfold.engine import native
from sevenfold.engine.weights import IntegerModel, load_weights
from sevenfold.quantize.convert import IntTensor, convert
from sevenfold.recipe.schema import ModelSpec
from shapes import Shape, random_weights
from worker import UnableError


def records_and_graph(shape: Shape) -> tuple[list[IntTensor], dict[str, object]]:
    """The shape's random weights, converted as `s7 quantize` does."""
    spec = ModelSpec(
        d_model=shape.d_model, n_layers=shape.n_layers, n_heads=shape.n_heads, n_kv_heads=shape.n_heads,
        head_dim=shape.head_dim, d_ffn=shape.d_ffn, vocab_size=shape.vocab_size, context=shape.context,
        rope_theta=shape.rope_theta, norm_eps=shape.norm_eps, tied=True,
    )  # fmt: skip
    return convert(dict(random_weights(shape)), spec, 64.0, None)


def integer_model(shape: Shape) -> IntegerModel:
    """What the engine loads of them."""
    records, graph = records_and_graph(shape)
    return load_weights({r.name: r for r in records}, graph, "benchmark")


def make_engine(model: IntegerModel, threads: int) -> native.Engine:
    """The native engine on so many threads. Raises UnableError."""
    if reason := native.unavailable():
        raise UnableError(reason)
    if "n_threads" in inspect.signature(native.Engine).parameters:
        return native.Engine(model, n_threads=threads)
    if threads > 1:
        raise UnableError("the native engine of this version has one thread")
    return native.Engine(model)


class Sevenfold:
    """See worker.py."""

    def __init__(self, shape: Shape, threads: int, _directory: Path) -> None:
        self.engine = make_engine(integer_model(shape), threads)
        self.version = f"{__version__} {self.engine.detail}"

    def prefill(self, ids: list[int]) -> tuple[float, list[int]]:
        session = self.engine.session()
        began = time.perf_counter()
        logits = session.forward(np.array(ids), last_only=True)
        seconds = time.perf_counter() - began
        session.close()
        return seconds, [int(np.argmax(logits[0]))]

    def decode(self, ids: list[int], steps: int) -> tuple[float, list[int]]:
        session = self.engine.session()
        session.forward(np.array(ids[:-1]), last_only=True)
        began = time.perf_counter()
        if hasattr(session, "greedy"):
            tokens = [int(t) for t in session.greedy(np.array(ids[-1:]), steps)]
        else:
            tokens = ids[-1:]
            for _ in range(steps):
                tokens.append(int(np.argmax(session.forward(np.array(tokens[-1:]), last_only=True)[0])))
            tokens = tokens[1:]
        seconds = time.perf_counter() - began
        session.close()
        return seconds, tokens

    def batch(self, prompts: list[list[int]], steps: int) -> tuple[float, list[int]]:
        """Greedy steps of all prompts together: seconds of the steps, and the first prompt's tokens."""
        sessions = [self.engine.session() for _ in prompts]
        for session, ids in zip(sessions, prompts, strict=True):
            session.forward(np.array(ids[:-1]), last_only=True)
        last, first = [ids[-1:] for ids in prompts], []
        began = time.perf_counter()
        for _ in range(steps):
            calls = [(s, np.array(t)) for s, t in zip(sessions, last, strict=True)]
            if hasattr(self.engine, "forward_batch"):
                logits = self.engine.forward_batch(calls)
            else:
                logits = [session.forward(ids, last_only=True) for session, ids in calls]
            last = [[int(np.argmax(row[-1]))] for row in logits]
            first += last[0]
        seconds = time.perf_counter() - began
        for session in sessions:
            session.close()
        return seconds, first
