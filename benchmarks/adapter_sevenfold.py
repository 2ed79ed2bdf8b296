"""Sevenfold's native engine for worker.py.

The only place of the comparison that knows its Python interface.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from sevenfold import __version__
from sevenfold.engine import native
from sevenfold.engine.decoding import GreedyDecoder
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


class Sevenfold:
    """See worker.py."""

    def __init__(self, shape: Shape, threads: int, _directory: Path) -> None:
        if reason := native.unavailable():
            raise UnableError(reason)
        self.engine = native.NativeEngine(integer_model(shape), n_threads=threads)
        self.version = f"{__version__} {self.engine.detail}"

    def prefill(self, ids: list[int]) -> tuple[float, list[int]]:
        """The session is opened outside the time, as the peers' is."""
        decoder = GreedyDecoder(self.engine)
        began = time.perf_counter()
        decoder.append(ids)
        token = decoder.step()
        seconds = time.perf_counter() - began
        decoder.close()
        return seconds, [token]

    def decode(self, ids: list[int], steps: int) -> tuple[float, list[int]]:
        """Greedy steps of one sequence, one call for each token: `Session.step` without its gate."""
        decoder = GreedyDecoder(self.engine)
        decoder.append(ids[:-1])
        began = time.perf_counter()
        decoder.append(ids[-1:])
        tokens = [decoder.step() for _ in range(steps)]
        seconds = time.perf_counter() - began
        decoder.close()
        return seconds, tokens

    def batch(self, prompts: list[list[int]], steps: int) -> tuple[float, list[int]]:
        """Greedy steps of all prompts together: the first prompt's tokens."""
        seconds, tokens = self._steps(prompts, steps)
        return seconds, tokens[0]

    def _steps(self, prompts: list[list[int]], steps: int) -> tuple[float, list[list[int]]]:
        calls = []
        for ids in prompts:
            session = self.engine.session()
            session.forward(np.array(ids[:-1]), last_only=True)
            calls.append((session, np.array(ids[-1:])))
        began = time.perf_counter()
        tokens = self.engine.greedy_batch(calls, steps)
        seconds = time.perf_counter() - began
        for session, _ in calls:
            session.close()
        return seconds, tokens
