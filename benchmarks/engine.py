"""Tokens per second of the integer engine: the reference and the native backend, in one process, on the same work.

Random weights through the converter, in the shapes of two recipes; one thread. Prefill is 512 ids in one call, decode is greedy
steps after them. Rounds alternate between the engines, so a slow moment hits all; medians and quartiles. The logits of
every engine are compared with the first one's, and a difference fails the process.

    python benchmarks/engine.py [--rounds 5] [--shapes s7/demo-1m s7/code-8m] [--out benchmarks/results/engine.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold.core.errors import SevenfoldError
from sevenfold.engine import native, reference
from sevenfold.engine.weights import IntegerModel, load_weights
from sevenfold.quantize.convert import convert
from sevenfold.recipe import load_recipe, resolve_recipe_path
from sevenfold.recipe.schema import ModelSpec

PREFILL = 512


def random_model(spec: ModelSpec) -> IntegerModel:
    """Weights of a recipe's shape from a fixed seed."""
    rng = np.random.default_rng(1)
    d, q, kv = spec.d_model, spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (spec.vocab_size, d), "final_norm.weight": (d,)}
    if not spec.tied:
        shapes["lm_head.weight"] = (spec.vocab_size, d)
    for index in range(spec.n_layers):
        base = f"layers.{index:02d}."
        shapes |= {f"{base}attn_norm.weight": (d,), f"{base}ffn_norm.weight": (d,)}
        shapes |= {f"{base}attn.q_proj.weight": (q, d), f"{base}attn.o_proj.weight": (d, q)}
        shapes |= {f"{base}attn.{name}_proj.weight": (kv, d) for name in "kv"}
        shapes |= {f"{base}ffn.{name}_proj.weight": (spec.d_ffn, d) for name in ("gate", "up")}
        shapes[f"{base}ffn.down_proj.weight"] = (d, spec.d_ffn)
    state = {
        name: (rng.normal(0, 0.05, dims) if len(dims) == 2 else np.ones(dims)).astype(np.float32)
        for name, dims in shapes.items()
    }
    records, graph = convert(state, spec, 64.0, None)
    return load_weights({r.name: r for r in records}, graph, "benchmark")


def one_round(engine: Any, ids: np.ndarray, n_decode: int) -> tuple[float, float, list[bytes]]:
    """Seconds of a prefill, seconds of the decode after it, and every row of logits."""
    session = engine.session()
    start = time.perf_counter()
    logits = session.forward(ids, last_only=True)[0]
    prefill, rows = time.perf_counter() - start, [logits.tobytes()]
    start = time.perf_counter()
    for _ in range(n_decode):
        logits = session.forward(np.array([np.argmax(logits)]), last_only=True)[0]
        rows.append(logits.tobytes())
    decode = time.perf_counter() - start
    session.close()
    return prefill, decode, rows


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    """Rows of the table for one recipe's shape."""
    spec = load_recipe(resolve_recipe_path(name)).model
    spec = spec.model_copy(update={"context": max(spec.context, PREFILL + 128)})
    model = random_model(spec)
    engines: dict[str, Any] = {"reference": reference.Engine(model)}
    if native.unavailable() is None:
        engines |= {f"native {isa}": native.Engine(model, isa) for isa in native.instruction_sets()}
    ids = np.random.default_rng(2).integers(0, spec.vocab_size, PREFILL)
    times: dict[str, list[tuple[float, float]]] = {engine: [] for engine in engines}
    first: list[bytes] = []
    for _ in range(rounds):
        for label, engine in engines.items():
            n_decode = 128 if label != "reference" else 16
            prefill, decode, rows = one_round(engine, ids, n_decode)
            first = first or rows
            if rows[: len(first)] != first:
                raise SevenfoldError(f"{label} gives other logits than the reference on {name}")
            times[label].append((PREFILL / prefill, n_decode / decode))
    table = []
    for label, pairs in times.items():
        for phase, values in zip(("prefill", "decode"), zip(*pairs, strict=True), strict=True):
            low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
            table.append(
                {"shape": name, "engine": label, "phase": phase, "median": middle, "quartiles": [low, high]}
            )
    return table


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", default=["s7/demo-1m", "s7/code-8m"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = [row for name in args.shapes for row in measure(name, args.rounds)]
    for row in rows:
        low, high = row["quartiles"]
        print(
            f"{row['shape']:14} {row['engine']:16} {row['phase']:8} {row['median']:10.0f} tok/s ({low:.0f} to {high:.0f})"
        )
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"machine": platform.processor(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
