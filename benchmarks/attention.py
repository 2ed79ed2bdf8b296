"""Cost of one attention layer by length: hybrid (the shape of slm/proxy-10m) and
causal, forward, one thread.

    python benchmarks/attention.py --out benchmarks/results/attention.json

Processor time, the least of a few rounds, and the scores that the rule
of specs/attention.md counts.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from sevenfold.model.transformer import Transformer
from sevenfold.recipe import load_recipe
from sevenfold.recipe.schema import ModelSpec
from sevenfold.recipe.shipped import recipe_paths
from sevenfold.recipe.sizing import kv_entries, mean_attended

LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768)
LONGEST_CAUSAL = 16384
ROUNDS = 3


def seconds(spec: ModelSpec, length: int) -> float:
    """Least processor time of one layer's attention over `length` tokens."""
    attention = Transformer(spec.model_copy(update={"n_layers": 1})).layers["00"].attn
    generator = torch.Generator().manual_seed(0)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=generator)
    x = torch.randn(1, length, spec.d_model, generator=generator)
    times = []
    with torch.no_grad():
        for _ in range(ROUNDS):
            start = time.process_time()
            attention(x)
            times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    hybrid = load_recipe(recipe_paths()["slm/proxy-10m"]).model
    causal = hybrid.model_copy(update={"attention": "causal"})
    rows = []
    for length in LENGTHS:
        row = {
            "length": length,
            "hybrid_seconds": seconds(hybrid, length),
            "hybrid_keys": mean_attended(hybrid, length),
            "hybrid_cache": kv_entries(hybrid, length),
            "causal_seconds": seconds(causal, length) if length <= LONGEST_CAUSAL else None,
            "causal_keys": mean_attended(causal, length),
        }
        rows.append(row)
        print(row, flush=True)
    out.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
