"""Short runs on synthetic tokens, one for each thing that a recipe can ask of a
step, and what they have to give.

`golden.json` beside it holds the digests: whoever runs the suite recomputes them. After a
change of specs/training-arithmetic.md, whose version then rises,
`python tests/train/golden.py` writes them anew.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sevenfold.core.hashing import sha256_file
from sevenfold.core.process.log import Silent
from sevenfold.core.run_files import METRICS, TRACE
from sevenfold.model.kernels.operators import LAW
from sevenfold.model.transformer import Transformer
from sevenfold.recipe.schema import ModelSpec, TokenRouted, TrainSpec
from sevenfold.train.data.dataset import TrainingData
from sevenfold.train.data.indexed_tokens import IndexedTokens
from sevenfold.train.data.objectives import Objective
from sevenfold.train.loop import TrainingRun
from sevenfold.train.phases import EXPERTS, TrainingPhase
from sevenfold.train.recording.records import weights_digest

FILE = Path(__file__).with_name("golden.json")
VOCABULARY, SEQUENCE, ROWS = 261, 40, 4
START = 5  # of a document
STACKS = {"kind": "expert_stacks", "experts": ("a", "b"), "n_layers": 1, "d_ffn": 24}
HYBRID = {
    "scheme": "hybrid", "local_chunk": 12, "global_stride": 4, "global_tokens": "learned_summaries",
    "streaming_links": "ring", "gqa": 2, "kv_quant_bits": 8,
}  # fmt: skip
YARN = {"kind": "yarn", "factor": 2.0}
ROUTED = {"kind": "token_routed", "experts": ("a", "b", "c")}


@dataclass(frozen=True)
class Synthetic:
    """Rows that follow from the step alone, by whole numbers; with a mask where `masked`."""

    masked: bool = False
    batch_sequences: int = ROWS
    sequence: int = SEQUENCE

    def batch(self, step: int) -> NDArray[np.int64]:
        found, state = [], 1000 * step + 7 + self.masked
        for _ in range(self.batch_sequences * (self.sequence + 1)):
            state = (1103515245 * state + 12345) % (1 << 31)
            last = found[-1] if found else 0
            token = (state >> 16) % VOCABULARY if state >> 30 else (3 * last + 1) % VOCABULARY
            found.append(START if (state >> 12) % 13 == 0 else token)
        return np.array(found, np.int64).reshape(self.batch_sequences, -1)

    def counted(self, step: int) -> NDArray[np.float32] | None:
        if not self.masked:
            return None
        return (self.batch(step)[:, 1:] % 3 > 0).astype(np.float32)

    def domains(self, _step: int) -> list[str]:
        return [""] * self.batch_sequences


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run: changes of the model's and the training's defaults below."""

    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    terms: tuple[float, ...] = (1.0,)
    stack: int | None = None
    documents: bool = False
    steps: int = 20


CASES = {
    "dense": Case(),
    "gqa": Case(model={"n_kv_heads": 2, "head_dim": 10}),
    "untied": Case(model={"tied": False}, train={"optimizer": "adamw", "weight_decay": 0.1}),
    "routed": Case(model={"moe": ROUTED}, train={"micro_batch_sequences": 2}),
    "stack": Case(model={"moe": STACKS}, stack=1),
    "objectives": Case(terms=(1.0, 0.3, 0.2), train={"micro_batch_sequences": 1}),
    "dropout": Case(model={"dropout": 0.2}, train={"activation_checkpointing": True, "weight_decay": 0.01}),
    "documents": Case(documents=True, train={"packing": "documents"}),
    "hybrid": Case(
        model={"attention": HYBRID | {"rope_scaling": "none"}, "n_kv_heads": 2, "head_dim": 10, "context": 20}
    ),
    "hybrid documents": Case(
        model={
            "attention": HYBRID | {"rope_scaling": "yarn"},
            "n_kv_heads": 2,
            "rope_scaling": YARN,
            "dropout": 0.1,
        },
        documents=True,
        train={"packing": "documents", "activation_checkpointing": True},
    ),
    "long": Case(steps=50),
}


def run_of(case: Case, directory: Path) -> TrainingRun:
    """The run, ready to begin."""
    shape = {
        "d_model": 40, "n_layers": 2, "n_heads": 4, "n_kv_heads": 4, "head_dim": 16, "d_ffn": 56,
        "vocab_size": VOCABULARY, "context": SEQUENCE,
    }  # fmt: skip
    spec = ModelSpec.model_validate(shape | case.model)
    values = {
        "seed": 11, "tokens": case.steps * ROWS * SEQUENCE, "batch_sequences": ROWS, "sequence": SEQUENCE,
        "learning_rate": 0.01, "init_std": 0.1, "checkpoint_every": 1000,
    }  # fmt: skip
    model = Transformer(spec)
    if isinstance(spec.moe, TokenRouted):
        model.expert_of_token = torch.arange(VOCABULARY) % len(spec.moe.experts)
    model.document_start = START if case.documents else None
    objectives = tuple(
        Objective(
            name=f"term{i}",
            weight=weight,
            source=Synthetic(masked=i > 0),
            split=IndexedTokens(path=directory),
        )
        for i, weight in enumerate(case.terms)
    )
    phase = TrainingPhase(
        name="",
        spec=TrainSpec.model_validate(values | case.train),
        mix={},
        trains="all" if case.stack is None else EXPERTS,
        stack=case.stack,
    )
    return TrainingRun(
        model=model,
        phase=phase,
        data=TrainingData(objectives=objectives),
        directory=directory,
        key="golden",
        progress=Silent(),
    )


def digests(name: str, directory: Path) -> dict[str, str]:
    """What a run gives: its law, its records and its weights."""
    directory.mkdir(parents=True, exist_ok=True)
    run = run_of(CASES[name], directory)
    run.train()
    return {
        "arithmetic": run.arithmetic,
        "metrics": sha256_file(directory / METRICS),
        "trace": sha256_file(directory / TRACE),
        "weights": weights_digest(dict(run.model.named_parameters())),
    }


def promised() -> dict[str, dict[str, str]]:
    """The digests of all runs, as the repository holds them."""
    found: dict[str, dict[str, str]] = json.loads(FILE.read_text())
    return found


def main() -> None:
    """Write the file anew. Ends the program where the law is not kept."""
    with tempfile.TemporaryDirectory() as directory:
        found = {name: digests(name, Path(directory) / name) for name in CASES}
    if any(row["arithmetic"] != LAW for row in found.values()):
        raise SystemExit(f"{LAW} is not computed here: build native/train first")
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
