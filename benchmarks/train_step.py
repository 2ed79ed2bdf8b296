"""One training step of demo-1m: ours against the plain loop, in one process, on the same model and batch.

The peer is what a short PyTorch loop does: `F.linear` for every product, `F.cross_entropy` on the whole logits, the same
fused Adam. Also: our step with PyTorch filling fresh memory. Steps alternate, so a slow moment hits all; medians and quartiles.

    python benchmarks/train_step.py [--steps 20] [--threads 2] [--out benchmarks/results/train_step.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from sevenfold.model import linear
from sevenfold.model.loss import head_loss
from sevenfold.model.transformer import Transformer
from sevenfold.recipe import load_recipe, resolve_recipe_path


def plain_loss(model: Transformer, ids: Tensor, targets: Tensor) -> Tensor:
    """Forward as a short loop writes it."""
    ours, linear.Linear.forward = linear.Linear.forward, lambda self, x: F.linear(x, self.weight)  # type: ignore[method-assign]  # the peer's product
    try:
        logits = F.linear(model.hidden(ids), model.head_weight)
    finally:
        linear.Linear.forward = ours  # type: ignore[method-assign]  # ours again
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def our_loss(model: Transformer, ids: Tensor, targets: Tensor) -> Tensor:
    """Forward as the trainer does it."""
    return head_loss(model.hidden(ids), model.head_weight, targets, targets.numel())


def seconds(step: Callable[[], None]) -> float:
    """One step, timed."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print; write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = load_recipe(resolve_recipe_path("s7/demo-1m"))
    model = Transformer(recipe.model)
    model.initialize(torch.Generator().manual_seed(0), 0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    shape = (recipe.train.batch_sequences, recipe.train.sequence + 1)
    batch = torch.randint(0, recipe.model.vocab_size, shape, generator=torch.Generator().manual_seed(1))

    def step(loss: Callable[[Transformer, Tensor, Tensor], Tensor]) -> None:
        optimizer.zero_grad()
        loss(model, batch[:, :-1], batch[:, 1:]).backward()
        optimizer.step()

    kinds: dict[str, tuple[Callable[[Transformer, Tensor, Tensor], Tensor], bool, bool]] = {
        "ours": (our_loss, True, False),
        "ours, memory filled": (our_loss, True, True),
        "plain": (plain_loss, False, False),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for index in range(args.steps + 2):
        for name, (loss, deterministic, fill) in kinds.items():
            torch.use_deterministic_algorithms(deterministic)
            torch.utils.deterministic.fill_uninitialized_memory = fill
            taken = seconds(lambda loss=loss: step(loss))
            if index >= 2:  # the first two warm up
                times[name].append(taken)
    tokens = batch[:, 1:].numel()
    rows = {}
    for name, values in times.items():
        quartiles = statistics.quantiles(values, n=4)
        ratio = statistics.median(p / v for p, v in zip(times["plain"], values, strict=True))
        rows[name] = {
            "median_s": quartiles[1],
            "quartiles_s": quartiles,
            "tokens_per_second": tokens / quartiles[1],
            "speed_over_plain": ratio,
        }
        low, middle, high = (q * 1e3 for q in quartiles)
        rate = tokens / quartiles[1]
        print(f"{name:20} {middle:7.1f} ms [{low:.1f} .. {high:.1f}]  {rate:8,.0f} tokens/s  x{ratio:.2f}")
    result = {
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": args.threads,
        "rows": rows,
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
