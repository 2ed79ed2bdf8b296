"""FP32 products of training on one core, beside PyTorch's own and the roof of
fused multiply-adds, in turns.

Processor time of one thread, so that other work on the machine is not counted; the best of the
rounds of each. The roof is a loop on registers alone, compiled here and run between two
products. x86-64 with a g++.

    python benchmarks/products.py [--isa avx2] [--rounds 7] [--out FILE]

Shapes are rows x inner x outputs of demo-1m, 8M and 30M: forward (a weight by rows of outputs),
slope of the input, slope of the weight (the inner index is the token).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sevenfold.core.process.memory import keep_freed_memory
from sevenfold.model.kernels import operators

FORWARD, INPUT, WEIGHT = "forward", "input slope", "weight slope"
SHAPES = (
    (FORWARD, 4096, 320, 448),
    (FORWARD, 4096, 320, 960),
    (FORWARD, 4096, 448, 320),
    (FORWARD, 512, 320, 4096),
    (FORWARD, 4096, 128, 384),
    (FORWARD, 4096, 512, 1280),
    (INPUT, 512, 4096, 320),
    (INPUT, 4096, 384, 128),
    (INPUT, 4096, 1280, 512),
    (WEIGHT, 320, 4096, 448),
    (WEIGHT, 4096, 512, 320),
    (WEIGHT, 128, 4096, 384),
    (WEIGHT, 1280, 4096, 512),
)
ROUNDS_OF_ROOF = 2_000_000
FLAGS = {"avx2": ["-mavx2", "-mfma"], "avx512": ["-mavx512f", "-mfma"]}
FLOATS = {"avx2": 8, "avx512": 16}


def roof(isa: str, directory: Path) -> Callable[[], float]:
    """A function that measures GFLOP/s of the register loop."""
    source, library = Path(__file__).with_name("fma_roof.cpp"), directory / "roof.so"
    command = ["g++", "-std=c++20", "-O2", "-shared", "-fPIC", *FLAGS[isa], str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    function = ctypes.CDLL(str(library)).fma_roof
    function.argtypes, function.restype = (ctypes.c_long, ctypes.c_float), ctypes.c_float

    def measure() -> float:
        began = time.process_time()
        function(ROUNDS_OF_ROOF, 1.0)
        return ROUNDS_OF_ROOF * 24 * FLOATS[isa] / (time.process_time() - began) * 1e-9

    return measure


def operands(kind: str, m: int, k: int, n: int) -> tuple[Tensor, Tensor]:
    """a [m, k] and b [k, n], each with the strides that a step has."""
    a, b = torch.randn(m, k), torch.randn(k, n)
    if kind == FORWARD:
        return a, b.t().contiguous().t()
    return (a.t().contiguous().t(), b) if kind == WEIGHT else (a, b)


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measured(
    pair: tuple[Tensor, Tensor], flops: float, measure: Callable[[], float], rounds: int
) -> dict[str, float]:
    """The best GFLOP/s of our product, PyTorch's and the roof, in turns."""
    a, b = pair
    ours, theirs = (torch.empty(len(a), b.shape[1]) for _ in range(2))
    kinds = {
        "roof": measure,
        "ours": lambda: flops / seconds(lambda: operators.matrix_product(a, b, ours)),
        "pytorch": lambda: flops / seconds(lambda: torch.mm(a, b, out=theirs)),
    }
    best = dict.fromkeys(kinds, 0.0)
    for _ in range(rounds):
        for name, one in kinds.items():
            best[name] = max(best[name], one())
    return best


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all shapes. Ends the program where the kernels are missing."""
    if args.isa:
        os.environ["S7_ISA"] = args.isa
    isa = operators.isa()
    if isa not in FLAGS:
        raise SystemExit(
            f"no kernels with AVX2 or AVX-512 here (S7_ISA={args.isa or 'unset'}); build native/train"
        )
    keep_freed_memory()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        measure = roof(isa, Path(directory))
        for kind, m, k, n in SHAPES:
            best = measured(operands(kind, m, k, n), 2e-9 * m * k * n, measure, args.rounds)
            share = best["ours"] / best["roof"]
            rows.append({"kind": kind, "shape": [m, k, n], "gflops": best, "share_of_roof": share})
            print(
                f"{kind:13} {m:5} x {k:5} x {n:5}  ours {best['ours']:6.1f}  PyTorch {best['pytorch']:6.1f}  "
                f"roof {best['roof']:6.1f}  share {share:.2f}"
            )
    return {"isa": isa, "rounds": args.rounds, "rows": rows}


def main() -> None:
    """Parse, measure, and write what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--isa", choices=sorted(FLAGS), help="the instruction set; the widest if not given")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="also write the figures here, as JSON")
    args = parser.parse_args()
    value = run(args)
    if args.out:
        args.out.write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
