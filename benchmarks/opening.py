"""What happens before and around the tokens: the seal, the first token, the memory.

On a sealed file of the 8M shape.

    verification      read a sealed file and check every hash: bytes a second of one core
    first token       `s7 run FILE "def " --max-tokens 1` from the shell, and the call in a process
                      that has it open
    memory            resident bytes of a process that opened the file and filled its context, over
                      weights and KV cache, for each shape; what Python and its libraries take is
                      the same for all, so it is counted apart

Files are made once (random weights, a tokenizer trained on this Python's
standard library) under build/bench.

    python benchmarks/opening.py [--rounds 9] [--out benchmarks/results/opening.json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapter_sevenfold import records_and_graph
from sevenfold.artifact import (
    Golden,
    Identity,
    ModelClass,
    SealInput,
    Tensor,
    build_contents,
    read_artifact,
    verify,
    write_artifact,
)
from sevenfold.core.hashing import sha256
from sevenfold.engine.session import GOLDEN_STEPS, Model, greedy_run, prompt_ids
from sevenfold.engine.weights import load_weights
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.train import train_tokenizer
from shapes import SHAPES, Shape

PROMPT = "def "
# In a process of its own: resident bytes before, with the file open and its context
# filled, and what must be held.
MEMORY = """
import json, sys
import numpy as np
import sevenfold
# What Python and its libraries take is no part of a model.
import sevenfold.engine.session
from sevenfold.engine import native, reference
def resident():
    line = next(x for x in open("/proc/self/status") if x.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
before = resident()
model = sevenfold.Model.open(sys.argv[1])
session = model.engine.session()
session.forward(np.arange(model.context) % model.weights.shape.vocab_size, last_only=True)
held = resident()
needed = sum(t.data.nbytes for t in model.artifact.tensors.values())
kv = getattr(session, "n_bytes", 0)
print(json.dumps({"interpreter": before, "resident": held, "weights": needed, "kv": kv,
                  "context": model.context}))
"""


def sealed_file(directory: Path, shape: Shape) -> Path:
    """The sealed file of a shape, made unless it is there."""
    path = directory / f"{shape.name}.s7l"
    if path.exists():
        return path
    library = Path(sysconfig.get_paths()["stdlib"])
    texts = [p.read_text(encoding="utf-8", errors="ignore") for p in sorted(library.glob("*.py"))]
    dictionary = train_tokenizer(texts, TokenizerSpec(vocab_size=shape.vocab_size))
    records, graph = records_and_graph(shape)
    weights = load_weights({r.name: r for r in records}, graph, str(path))
    ids = prompt_ids(Tokenizer.from_json(dictionary), PROMPT)
    run = greedy_run(weights, ids, GOLDEN_STEPS)
    none = "00" * 32
    contents = build_contents(
        SealInput(
            class_=ModelClass.DENSE,
            padded=False,
            dictionary=dictionary,
            tensors=[Tensor(r.name, r.dims, r.scale, r.data) for r in records],
            graph=graph,
            trace=[{"step": 1, "loss": 1.0}],
            batch=[],
            identity=Identity(
                recipe_name="benchmark",
                recipe_digest=none,
                dataset_root=none,
                tokenizer_digest=sha256(dictionary).hex(),
                training_seed=1,
                code_version="0",
            ),
            golden=[
                Golden(
                    prompt=PROMPT,
                    ids=ids,
                    n_steps=GOLDEN_STEPS,
                    tokens=run.tokens,
                    logits_sha256=run.logits_sha256,
                )
            ],
        )
    )
    directory.mkdir(parents=True, exist_ok=True)
    write_artifact(path, contents)
    return path


def median(rounds: int, action: Callable[[], object]) -> tuple[float, float, float]:
    """Quartiles of the seconds of an action; once before to warm up."""
    action()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, middle, high


def first_token(model: Model) -> None:
    """The call in a process that has the model open."""
    with model.session(PROMPT, max_tokens=1) as session:
        session.step()


def memory(path: Path) -> dict[str, Any]:
    """See MEMORY."""
    done = subprocess.run([sys.executable, "-c", MEMORY, path], capture_output=True, text=True, check=True)
    value = json.loads(done.stdout)
    held = value["weights"] + value["kv"]
    return value | {
        "ratio": value["resident"] / held,
        "ratio_without_interpreter": (value["resident"] - value["interpreter"]) / held,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--models", type=Path, default=Path(__file__).resolve().parent.parent / "build" / "bench"
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    path = sealed_file(args.models, SHAPES["8M"])
    n_bytes, model = path.stat().st_size, Model.open(path)
    s7 = [sys.executable, "-m", "sevenfold.cli", "run", path, PROMPT, "--max-tokens", "1"]
    times = {
        "read and verify": median(args.rounds, lambda: verify(read_artifact(path))),
        "first token, shell": median(
            args.rounds, lambda: subprocess.run(s7, check=True, capture_output=True)
        ),
        "first token, open": median(args.rounds, lambda: first_token(model)),
    }
    value: dict[str, Any] = {
        "backend": f"{model.backend} {model.engine.detail}",
        "n_bytes": n_bytes,
        "seconds": times,
        "verified_bytes_per_second": n_bytes / times["read and verify"][1],
        "memory": {name: memory(sealed_file(args.models, shape)) for name, shape in SHAPES.items()},
    }
    for name, (low, middle, high) in times.items():
        print(f"{name:20} {middle * 1e3:9.1f} ms ({low * 1e3:.1f} to {high * 1e3:.1f})")
    print(f"{'verification':20} {value['verified_bytes_per_second'] / 1e9:9.2f} GB/s of {n_bytes:,} bytes")
    for name, held in value["memory"].items():
        print(
            f"{'memory ' + name:20} {held['resident'] / 1e6:9.1f} MB, of which"
            f" {held['interpreter'] / 1e6:.1f} before opening; weights {held['weights'] / 1e6:.1f}, KV"
            f" {held['kv'] / 1e6:.1f}: {held['ratio']:.2f} of them, {held['ratio_without_interpreter']:.2f}"
            " without the interpreter"
        )
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(value, indent=2) + "\n")


if __name__ == "__main__":
    main()
