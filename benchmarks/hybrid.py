"""Cost of hybrid attention in integers by length, at the shape of slm/proxy-10m: processor time of a
decode step, of prefill for each token, bytes of the state, and of a state written and read again.

    python benchmarks/hybrid.py --lengths 1024 8192 65536 --out benchmarks/results/hybrid.json

Weights are random: no figure depends on them. The ring is that of the recipe, whatever the length.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from sevenfold.engine.native import NativeEngine
from sevenfold.engine.states.native_state import read_state, write_state
from sevenfold.engine.weights import load_weights
from sevenfold.model.transformer import Transformer
from sevenfold.quantize.convert import convert
from sevenfold.recipe import load_recipe
from sevenfold.recipe.shipped import recipe_paths

STEPS, ROUNDS, BLOCK = 32, 5, 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lengths", type=int, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    spec = load_recipe(recipe_paths()["slm/proxy-10m"]).model
    longest = max(arguments.lengths) + STEPS * ROUNDS
    rng = np.random.default_rng(0)
    shapes = {name: value.shape for name, value in Transformer(spec).state_dict().items()}
    state = {name: rng.normal(len(dims) == 1, 0.05, dims).astype(np.float32) for name, dims in shapes.items()}
    records, graph = convert(state, spec.model_copy(update={"context": longest}), 8.0)
    graph["attention"]["ring"] = -(-spec.context // graph["attention"]["stride"])
    model = load_weights({record.name: record for record in records}, graph, "random weights")
    engine = NativeEngine(model, n_threads=1)
    ids = rng.integers(1, spec.vocab_size, longest)
    session, rows = engine.session(), []
    began, n_read = time.process_time(), 0
    for length in sorted(arguments.lengths):
        for first in range(n_read, length, BLOCK):
            session.forward(ids[first : min(first + BLOCK, length)], last_only=True)
        prefill = time.process_time() - began
        n_read, steps = length, []
        for _ in range(ROUNDS):
            other = session.fork()
            start = time.process_time()
            other.greedy(ids[:1], STEPS)
            steps.append((time.process_time() - start) / STEPS)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "state"
            write_state(path, session, "00" * 32)
            held = read_state(path, engine, "00" * 32)
            n_file = path.stat().st_size
        rows.append(
            {
                "length": length,
                "prefill_us_per_token": 1e6 * prefill / length,
                "step_ms": 1e3 * min(steps),
                "state_bytes": session.n_bytes,
                "file_bytes": n_file,
                "same_after_reading": held.greedy(ids[:1], 4) == session.fork().greedy(ids[:1], 4),
            }
        )
    found = {"isa": engine.isa, "load": os.getloadavg()[0], "kv_bits": model.shape.kv_bits, "rows": rows}
    arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
