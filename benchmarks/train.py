"""Training speed: our step and nanoGPT's model and loop, compiled, on the same
shape, data, precision and batch.

A step is what each trainer does between two batches: forward, backward, gradient clipping, Adam
(ours under specs/training-arithmetic.md, where it holds). With it come the share of the roof of
fused multiply-adds (a register loop, in the same run), what each operator of our step takes, and the
most memory that our steps held. `--clock processor` counts processor time: for a busy machine.
Both get the same random ids, take turns in one process, and are compared by model FLOP/s (6 N + 12
L H Q T a token, the formula of nanoGPT, for both), because their blocks differ: ours is gated and
smaller. "ours, not deterministic" is our step without `use_deterministic_algorithms`; "ours,
compiled" (GPU) is the model through torch.compile, so its share is told. Hashes of gradients and
weights, as every 100th step writes them, are timed apart.

    python benchmarks/train.py --nanogpt CHECKOUT [--shape 8M] [--precision fp32] \
        [--threads 2] [--out FILE]
    python benchmarks/train.py --device cuda --gpu-peak 989e12 --shape 228M \
        --precision bf16 --batch 32   # one GPU; also fp8

CHECKOUT holds nanoGPT's `model.py`; without it the peer is left out, and said so. FP8 needs torchao
and a GPU that has it. --gpu-peak is the device's dense peak in the precision, for MFU. The GPU's
part has not been run: no GPU was at hand.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nanogpt import load_nanogpt
from products import FLAGS, roof
from sevenfold.core.process.memory import keep_freed_memory
from sevenfold.model.kernels import operators
from sevenfold.model.kernels.observe import OperatorCall, observing
from sevenfold.model.loss import sequence_losses
from sevenfold.model.transformer import Transformer, count_parameters
from sevenfold.recipe.schema import ModelSpec, TrainSpec
from sevenfold.train import precision as rules
from sevenfold.train.arithmetic import arithmetic
from sevenfold.train.loop import clip_gradients, use_deterministic_kernels
from sevenfold.train.optimizer import update_of
from sevenfold.train.recording.records import CHAIN_START, TRACE_EVERY, trace_row
from shapes import SHAPES, SMALLEST, Shape

CLIP, RATE, BETAS = 1.0, 1e-4, (0.9, 0.95)
# The demo's shape is too small for the engines of shapes.py.
TRAINED = SHAPES | {SMALLEST.name: SMALLEST}
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
# Of one turn.
STEPS = 4
OURS, FREE, COMPILED, PEER = "ours", "ours, not deterministic", "ours, compiled", "nanoGPT, compiled"
Step = Callable[[Tensor], None]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is measured: a shape on a device, `batch` rows of `sequence` tokens."""

    shape: Shape
    precision: str
    device: torch.device
    batch: int
    sequence: int
    clock: str = "wall"

    def train_spec(self) -> TrainSpec:
        """What the trainer's own step is told."""
        values = {
            "seed": 0, "tokens": self.batch * self.sequence, "batch_sequences": self.batch,
            "sequence": self.sequence, "learning_rate": RATE, "betas": BETAS, "precision": self.precision,
        }  # fmt: skip
        return TrainSpec.model_validate(values)

    def autocast(self) -> AbstractContextManager[object]:
        """Products in BF16, unless the precision is FP32."""
        return nullcontext() if self.precision == "fp32" else torch.autocast(self.device.type, torch.bfloat16)

    def flops(self, n_parameters: int) -> float:
        """FLOPs of one step's forward and backward (PaLM, arXiv 2204.02311, appendix B)."""
        shape = self.shape
        attention = 12 * shape.n_layers * shape.n_heads * shape.head_dim * self.sequence
        return float((6 * n_parameters + attention) * self.sequence * self.batch)

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def ours(case: Case, *, compiled: bool = False) -> tuple[Step, Transformer]:
    """Our model and the trainer's step."""
    shape = case.shape
    model = Transformer(
        ModelSpec(
            d_model=shape.d_model,
            n_layers=shape.n_layers,
            n_heads=shape.n_heads,
            n_kv_heads=shape.n_heads,
            head_dim=shape.head_dim,
            d_ffn=shape.d_ffn,
            vocab_size=shape.vocab_size,
            context=case.sequence,
        )
    )
    model.initialize(torch.Generator().manual_seed(0), 0.02)
    model.to(case.device)
    if case.precision == "fp8":
        in_fp8(model, case.device)
    named = dict(model.named_parameters())
    parameters = list(named.values())
    spec = case.train_spec()
    optimizer = update_of(named, spec, arithmetic(model.spec, spec, case.device))
    states = torch.compile(model.hidden) if compiled else model.hidden

    def step(batch: Tensor) -> None:
        optimizer.zero_grad()
        with case.autocast():
            hidden = states(batch[:, :-1])
            losses = sequence_losses(hidden, model.head_weight, batch[:, 1:])
            loss = (losses / (case.batch * case.sequence)).sum()
        loss.backward()
        float(loss.detach())
        clip_gradients(parameters, CLIP)
        optimizer.step(RATE)

    return step, model


def in_fp8(model: nn.Module, device: torch.device) -> None:
    """The trainer's own FP8 projections.

    Ends the program where there are none: a figure of BF16 would be taken for one of FP8.
    """
    obstacle, convert = getattr(rules, "fp8_obstacle", None), getattr(rules, "convert", None)
    if obstacle is None or convert is None:
        raise SystemExit("--precision fp8: this version of the trainer computes fp8 in bf16")
    if why := obstacle(device):
        raise SystemExit(f"--precision fp8: {why}")
    convert(model, "fp8", device)


def nanogpt(checkout: Path, case: Case) -> tuple[Step, int]:
    """nanoGPT's model with its own optimiser and loop, compiled as its train.py does."""
    module, shape = load_nanogpt(checkout), case.shape
    config = module.GPTConfig(
        block_size=case.sequence,
        vocab_size=shape.vocab_size,
        n_layer=shape.n_layers,
        n_head=shape.n_heads,
        n_embd=shape.d_model,
        dropout=0.0,
        bias=False,
    )
    plain = module.GPT(config).to(case.device)
    optimizer = plain.configure_optimizers(0.1, RATE, BETAS, case.device.type)
    model = torch.compile(plain)

    def step(batch: Tensor) -> None:
        with case.autocast():
            _, loss = model(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        loss.backward()
        float(loss.detach())
        torch.nn.utils.clip_grad_norm_(plain.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, plain.get_num_params()


def hash_seconds(step: Step, model: Transformer, batch: Tensor) -> float:
    """Processor time of one trace point: digests of all gradients and weights. The least of three."""
    step(batch)
    times = []
    for _ in range(3):
        began = time.process_time()
        trace_row(dict(model.named_parameters()), 1, CHAIN_START)
        times.append(time.process_time() - began)
    return min(times)


class Stopwatch:
    """Adds up the time of each operator of a step (`sevenfold.model.kernels.observe`)."""

    def __init__(self, clock: str) -> None:
        self.clock, self.began, self.seconds = CLOCKS[clock], 0.0, Counter[str]()

    def begin(self, call: OperatorCall) -> None:  # noqa: ARG002 (an observer is told of each call)
        """Start."""
        self.began = self.clock()

    def end(self, call: OperatorCall) -> None:
        """Stop, and add to the operator; products by their shape, rows x inner x outputs."""
        taken, name = self.clock() - self.began, call.operator
        if name == "matrix_product":
            a, b = call.inputs["a"], call.inputs["b"]
            name = f"product {a.shape[0]} x {a.shape[1]} x {b.shape[1]}"
        self.seconds[name] += taken


def profile(case: Case, step: Step, batch: Tensor) -> dict[str, float]:
    """The share of each operator in our step, the largest first; `besides` is what is none."""
    watch, clock = Stopwatch(case.clock), CLOCKS[case.clock]
    began = clock()
    with observing(watch):
        for _ in range(STEPS):
            step(batch)
    total = clock() - began
    watch.seconds["besides"] = total - watch.seconds.total()
    return {name: seconds / total for name, seconds in watch.seconds.most_common()}


def fma_roof(threads: int) -> float:
    """FLOP/s of fused multiply-adds on registers, of all threads; 0 where it cannot be measured."""
    isa = operators.isa()
    if isa not in FLAGS:
        return 0.0
    with tempfile.TemporaryDirectory() as directory:
        try:
            measure = roof(isa, Path(directory))
        except (OSError, subprocess.CalledProcessError):
            return 0.0
        return max(measure() for _ in range(5)) * 1e9 * threads


def timed(
    case: Case, kinds: dict[str, tuple[Step, bool, int]], batch: Tensor, rounds: int
) -> dict[str, list[float]]:
    """Seconds a step of each, in turns; the first turn, which compiles, is not counted."""
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(rounds + 1):
        for name, (step, deterministic, _) in kinds.items():
            torch.use_deterministic_algorithms(False)
            if deterministic:
                use_deterministic_kernels()
            # The turn before may have cooled what this one needs.
            step(batch)
            case.wait()
            began = CLOCKS[case.clock]()
            for _ in range(STEPS):
                step(batch)
            case.wait()
            if turn:
                n_clocks = torch.get_num_threads() if case.clock == "processor" else 1
                times[name].append((CLOCKS[case.clock]() - began) / STEPS / n_clocks)
    return times


def case_of(args: argparse.Namespace) -> Case:
    """What the options ask for. Ends the program when the device is not here."""
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: PyTorch finds no GPU here; leave --device out to measure the CPU")
    if (
        device.type == "cuda"
        # cuBLAS asks for it before it is deterministic; read when its first product is computed.
    ):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if device.type == "cpu" and args.precision == "fp8":
        raise SystemExit("--precision fp8: a CPU has no FP8 products; use bf16, which fp8 becomes there")
    return Case(
        shape=TRAINED[args.shape],
        precision=args.precision,
        device=device,
        batch=args.batch,
        sequence=args.sequence,
        clock=args.clock,
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Take turns; medians and quartiles of seconds a step."""
    case = case_of(args)
    torch.set_num_threads(args.threads)
    # As the trainer does; it serves the peer, too.
    keep_freed_memory()
    our_step, model = ours(case)
    n_ours = count_parameters(model)
    kinds: dict[str, tuple[Step, bool, int]] = {
        OURS: (our_step, True, n_ours),
        FREE: (our_step, False, n_ours),
    }
    if case.device.type == "cuda":
        kinds[COMPILED] = (ours(case, compiled=True)[0], True, n_ours)
    generator = torch.Generator().manual_seed(1)
    batch = torch.randint(0, case.shape.vocab_size, (case.batch, case.sequence + 1), generator=generator).to(
        case.device
    )
    our_step(batch)
    shares = profile(case, our_step, batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if args.nanogpt:
        peer_step, n_peer = nanogpt(args.nanogpt, case)
        kinds[PEER] = (peer_step, False, n_peer)
    times = timed(case, kinds, batch, args.rounds)
    roof_flops = fma_roof(args.threads) if case.device.type == "cpu" else 0.0
    rows = {}
    for name, (_, _, n_parameters) in kinds.items():
        low, middle, high = statistics.quantiles(times[name], n=4)
        speed = case.flops(n_parameters) / middle
        rows[name] = {
            "n_parameters": n_parameters,
            "seconds": [low, middle, high],
            "tokens_per_second": case.sequence * case.batch / middle,
            "model_gflops": speed / 1e9,
        } | ({"mfu": speed / args.gpu_peak} if args.gpu_peak else {})
    use_deterministic_kernels()
    hashes = hash_seconds(our_step, model, batch)
    device = torch.cuda.get_device_name(case.device) if case.device.type == "cuda" else "cpu"
    return {
        "shape": args.shape, "precision": args.precision, "device": device, "threads": args.threads,
        "clock": args.clock, "isa": operators.isa(), "roof_gflops": roof_flops / 1e9, "profile": shares,
        "peak_bytes": peak, "torch": torch.__version__, "rows": rows, "hash_seconds": hashes,
        "hash_share": hashes / TRACE_EVERY / (rows[OURS]["seconds"][1] * args.threads),
    }  # fmt: skip


def report(result: dict[str, Any]) -> None:
    """Print the rows and what follows from them; add the ratios to the result."""
    rows = result["rows"]
    for name, row in rows.items():
        low, middle, high = (s * 1e3 for s in row["seconds"])
        mfu = f"  MFU {row['mfu']:.1%}" if "mfu" in row else ""
        print(
            f"{name:24} {middle:8.1f} ms [{low:.1f} .. {high:.1f}]  {row['tokens_per_second']:8,.0f} tokens/s"
            f"  {row['model_gflops']:7.1f} model GFLOP/s{mfu}  ({row['n_parameters']:,} parameters)"
        )
    if result["roof_gflops"]:
        result["share_of_roof"] = rows[OURS]["model_gflops"] / result["roof_gflops"]
        print(
            f"roof {result['roof_gflops']:.1f} GFLOP/s; our step reaches {result['share_of_roof']:.0%} of it"
        )
    print("our step:", ", ".join(f"{name} {share:.1%}" for name, share in result["profile"].items()))
    print(f"most memory of our steps: {result['peak_bytes'] / 1e6:.0f} MB")
    result["determinism_cost"] = rows[OURS]["seconds"][1] / rows[FREE]["seconds"][1]
    print(f"determinism costs x{result['determinism_cost']:.3f}")
    print(
        f"hashes of gradients and weights: {result['hash_seconds'] * 1e3:.0f} ms of processor time, "
        f"{result['hash_share']:.3%} of the steps between two trace points"
    )
    if COMPILED in rows:
        result["compiled_gain"] = rows[OURS]["seconds"][1] / rows[COMPILED]["seconds"][1]
        print(f"torch.compile would give x{result['compiled_gain']:.3f}")
    if PEER in rows:
        result["ratio"] = rows[OURS]["model_gflops"] / rows[PEER]["model_gflops"]
        print(f"ours / nanoGPT in model FLOP/s: {result['ratio']:.2f}")
    else:
        print("no --nanogpt: the peer was not measured")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--shape", choices=sorted(TRAINED), default="8M")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp8"), default="fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--gpu-peak", type=float, default=0.0, help="FLOP/s of the device, for MFU")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--sequence", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    result = run(args)
    report(result)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
