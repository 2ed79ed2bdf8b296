"""The engine in WebAssembly gives the logits and the cache of the reference, bit for bit, for every
shape, both packings, one thread and two, wherever a prompt is cut.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embed_models import seal_input
from tiny_models import EXTREMES, SHAPES, Tiny, ids, tiny

from sevenfold.artifact import ModelClass, Tensor, build_contents, write_artifact
from sevenfold.engine import reference

Runs = list[dict[str, Any]]
Digests = list[list[str]]


def seal(path: Path, small: Tiny, *, padded: bool) -> Path:
    """Write a file whose FIELD and graph are those of a tiny model; only those are read here."""
    is_moe = small.load().shape.n_experts > 1
    contents = replace(
        seal_input("plain"),
        class_=ModelClass.MOE if is_moe else ModelClass.DENSE,
        padded=padded,
        tensors=[Tensor(r.name, r.dims, r.scale, r.data) for r in small.records.values()],
        graph=small.graph,
    )
    write_artifact(path, build_contents(contents))
    return path


def expected(small: Tiny, runs: Runs) -> Digests:
    """Return the digests of the reference, a prompt at once."""
    weights = small.load()
    found = []
    for run in runs:
        cache = reference.Cache(weights.shape)
        logits = reference.forward(weights, np.array(run["ids"], np.int64), cache)
        held = hashlib.sha256()
        for layer in cache.layers:
            for codes, m, e in ((layer.k, layer.k_m, layer.k_e), (layer.v, layer.v_m, layer.v_e)):
                held.update(np.ascontiguousarray(codes[: cache.length]).astype(np.int8).tobytes())
                held.update(
                    m[: cache.length].astype(">i4").tobytes() + e[: cache.length].astype(">i4").tobytes()
                )
        found.append([hashlib.sha256(logits.astype(">i4").tobytes()).hexdigest(), held.hexdigest()])
    return found


def runs_of(small: Tiny, cuts: list[list[int]]) -> Runs:
    shape = small.load().shape
    prompt = ids(min(24, shape.context), shape.vocab_size).tolist()
    depth = shape.n_layers + shape.stack_layers
    return [{"ids": prompt, "cuts": cut, "n_layers": depth} for cut in cuts]


@pytest.fixture
def digests(node: Callable[..., str], tmp_path: Path) -> Callable[..., Digests]:
    """digests(small, runs, padded, threads) -> those of the engine in Node.js."""

    def run(small: Tiny, runs: Runs, *, padded: bool = True, threads: int = 1) -> Digests:
        path = seal(tmp_path / f"{len(list(tmp_path.iterdir()))}.s7l", small, padded=padded)
        (tmp_path / "runs").write_text(json.dumps(runs))
        node("tools/logits", path, tmp_path / "runs", tmp_path / "lines", threads)
        return [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]

    return run


EVERY_CUT = [[cut] for cut in range(1, 24)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_wherever_a_prompt_is_cut(shape: str, digests: Callable[..., Digests]) -> None:
    small = tiny(shape)
    runs = runs_of(small, [[], *EVERY_CUT, list(range(1, 24))])
    wanted = expected(small, runs[:1]) * len(runs)
    assert digests(small, runs, padded=shape != "dense") == wanted


@pytest.mark.parametrize("shape", ["dense", "moe", "stacks"])
def test_two_threads(shape: str, digests: Callable[..., Digests]) -> None:
    small = tiny(shape)
    runs = runs_of(small, [[], [7], list(range(1, 24))])
    assert digests(small, runs, threads=2) == expected(small, runs[:1]) * len(runs)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTREMES)
def test_extremes(name: str, digests: Callable[..., Digests]) -> None:
    small = tiny("gqa", EXTREMES[name])
    runs = runs_of(small, [[], [11]])
    for padded in (False, True):
        assert digests(small, runs, padded=padded) == expected(small, runs[:1]) * 2


def test_another_code_gives_other_logits(digests: Callable[..., Digests]) -> None:
    # The comparison can fail.
    def change(records: dict[str, Any], _: dict[str, Any]) -> None:
        data = records["layers.00.attn.q_proj.weight"].data
        data.reshape(-1)[0] ^= 1

    small = tiny("dense")
    runs = runs_of(small, [[]])
    assert digests(small.changed(change), runs) != expected(small, runs)
