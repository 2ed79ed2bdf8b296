"""Training speed on the CPU: our step and nanoGPT's model and loop, compiled, on the same shape, data, precision and batch.

A step is what each trainer does between two batches: forward, backward, gradient clipping, Adam. Both get the same random ids, take
turns in one process, and are compared by model FLOP/s (6 N + 12 L H Q T a token, the formula of nanoGPT, for both), because their
blocks differ: ours is gated and smaller. "ours, not deterministic" is our step without `use_deterministic_algorithms`.

    python benchmarks/train.py --nanogpt CHECKOUT [--shape 8M] [--threads 2] [--rounds 7] [--out benchmarks/results/train.json]

CHECKOUT holds nanoGPT's `model.py`; without it the peer is left out, and said so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sevenfold.model.loss import head_loss
from sevenfold.model.transformer import Transformer, count_parameters
from sevenfold.recipe.schema import ModelSpec
from sevenfold.train.loop import clip_gradients, use_deterministic_kernels
from sevenfold.train.precision import autocast
from shapes import SHAPES, Shape

SEQUENCE, BATCH, CLIP = 512, 8, 1.0
STEPS = 4  # of one turn
Step = Callable[[Tensor], None]


def model_flops(n_parameters: int, shape: Shape) -> float:
    """FLOPs of one step's forward and backward (PaLM, arXiv 2204.02311, appendix B)."""
    per_token = 6 * n_parameters + 12 * shape.n_layers * shape.n_heads * shape.head_dim * SEQUENCE
    return float(per_token * SEQUENCE * BATCH)


def ours(shape: Shape, precision: str) -> tuple[Step, int]:
    """Our model and the trainer's step."""
    model = Transformer(
        ModelSpec(
            d_model=shape.d_model,
            n_layers=shape.n_layers,
            n_heads=shape.n_heads,
            n_kv_heads=shape.n_heads,
            head_dim=shape.head_dim,
            d_ffn=shape.d_ffn,
            vocab_size=shape.vocab_size,
            context=SEQUENCE,
        )
    )
    model.initialize(torch.Generator().manual_seed(0), 0.02)
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=1e-4, betas=(0.9, 0.95), fused=True)

    def step(batch: Tensor) -> None:
        optimizer.zero_grad()
        with autocast(precision):
            hidden = model.hidden(batch[:, :-1])
            loss = head_loss(hidden, model.head_weight, batch[:, 1:], BATCH * SEQUENCE)
        loss.backward()
        float(loss.detach())
        clip_gradients(parameters, CLIP)
        optimizer.step()

    return step, count_parameters(model)


def nanogpt(checkout: Path, shape: Shape, precision: str) -> tuple[Step, int]:
    """nanoGPT's model with its own optimiser and loop, compiled as its train.py does."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{checkout} holds no model.py")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.GPTConfig(
        block_size=SEQUENCE,
        vocab_size=shape.vocab_size,
        n_layer=shape.n_layers,
        n_head=shape.n_heads,
        n_embd=shape.d_model,
        dropout=0.0,
        bias=False,
    )
    plain = module.GPT(config)
    optimizer = plain.configure_optimizers(0.1, 1e-4, (0.9, 0.95), "cpu")
    model = torch.compile(plain)

    def step(batch: Tensor) -> None:
        with autocast(precision):
            _, loss = model(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        loss.backward()
        float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, plain.get_num_params()


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Take turns; medians and quartiles of seconds a step."""
    torch.set_num_threads(args.threads)
    shape = SHAPES[args.shape]
    our_step, n_ours = ours(shape, args.precision)
    kinds: dict[str, tuple[Step, bool, int]] = {"ours": (our_step, True, n_ours)}
    kinds["ours, not deterministic"] = (our_step, False, n_ours)
    if args.nanogpt:
        peer_step, n_peer = nanogpt(args.nanogpt, shape, args.precision)
        kinds["nanoGPT, compiled"] = (peer_step, False, n_peer)
    batch = torch.randint(
        0, shape.vocab_size, (BATCH, SEQUENCE + 1), generator=torch.Generator().manual_seed(1)
    )
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(args.rounds + 1):
        for name, (step, deterministic, _) in kinds.items():
            torch.use_deterministic_algorithms(False)
            if deterministic:
                use_deterministic_kernels()
            step(batch)  # the turn before may have cooled what this one needs
            began = time.perf_counter()
            for _ in range(STEPS):
                step(batch)
            if turn:  # the first turn compiles
                times[name].append((time.perf_counter() - began) / STEPS)
    rows = {}
    for name, (_, _, n_parameters) in kinds.items():
        low, middle, high = statistics.quantiles(times[name], n=4)
        flops = model_flops(n_parameters, shape)
        rows[name] = {
            "n_parameters": n_parameters,
            "seconds": [low, middle, high],
            "tokens_per_second": SEQUENCE * BATCH / middle,
            "model_gflops": flops / middle / 1e9,
        }
    return {
        "shape": args.shape,
        "precision": args.precision,
        "threads": args.threads,
        "torch": torch.__version__,
        "rows": rows,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="8M")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result = run(args)
    rows = result["rows"]
    for name, row in rows.items():
        low, middle, high = (s * 1e3 for s in row["seconds"])
        print(
            f"{name:24} {middle:8.1f} ms [{low:.1f} .. {high:.1f}]  {row['tokens_per_second']:8,.0f} tokens/s"
            f"  {row['model_gflops']:7.1f} model GFLOP/s  ({row['n_parameters']:,} parameters)"
        )
    result["determinism_cost"] = rows["ours"]["seconds"][1] / rows["ours, not deterministic"]["seconds"][1]
    print(f"determinism costs x{result['determinism_cost']:.3f}")
    peer = rows.get("nanoGPT, compiled")
    if peer:
        result["ratio"] = rows["ours"]["model_gflops"] / peer["model_gflops"]
        print(f"ours / nanoGPT in model FLOP/s: {result['ratio']:.2f}")
    else:
        print("no --nanogpt: the peer was not measured")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
