"""Trains a hybrid model on needles and measures recall by distance, up to 16 times its window.

    python benchmarks/needles.py --out out/needles                       # 120k parameters
    python benchmarks/needles.py --out out/none --scores even            # an ablation
    python benchmarks/needles.py --out out/proxy --shape slm/proxy-10m   # the proxy's own shape

The first takes some minutes on one core. A run that was stopped goes on.

Writes needles.json and needles.png beside the checkpoints. Same machine and PyTorch, same figures.
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from sevenfold.core.hashing import canonical_json, digest
from sevenfold.model import hybrid
from sevenfold.model.transformer import Transformer, count_parameters
from sevenfold.recipe import load_recipe, resolve_recipe_path
from sevenfold.recipe.schema import HybridAttentionSpec, ModelSpec
from sevenfold.train.checkpoints.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from sevenfold.train.evaluation.needles import NeedleWindows, answers, haystacks, recall, start_mimetic
from sevenfold.train.loop import clip_gradients, use_deterministic_kernels

WINDOW, LONG = 64, 1152
# Steps, tokens in a window, windows, needles, distances drawn in training: short, then long.
STAGES = (
    (450, 256, 8, 5, [(3, 63), (72, 250), (72, 250)]),
    (150, LONG, 2, 14, [(3, 63), (72, 1100), (72, 1100)]),
)
DISTANCES = (8, 32, 62, 80, 128, 192, 256, 384, 512, 640, 768, 896, 1024)
# Learning rate.
PEAK = {"tiny": 0.004, "slm/proxy-10m": 0.001}
INIT_STD = {"tiny": 0.1, "slm/proxy-10m": 0.05}
WARMUP, SAVE_EVERY = 20, 25


def model_spec(shape: str, stride: int) -> ModelSpec:
    """The shape of that name, with rows as long as the questions need and nothing recomputed."""
    if shape != "tiny":
        return load_recipe(resolve_recipe_path(shape)).model.model_copy(update={"context": LONG})
    return ModelSpec(
        d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=32, d_ffn=128, vocab_size=320, context=LONG,
        attention=HybridAttentionSpec(
            scheme="hybrid", local_chunk=WINDOW, global_stride=stride, global_tokens="learned_summaries",
            streaming_links="ring", rope_scaling="none", gqa=2, kv_quant_bits=8,
        ),
    )  # fmt: skip


class Training:
    """The run: state, one step, checkpoints."""

    def __init__(self, out: Path, options: argparse.Namespace) -> None:
        self.out, self.n_steps = out, sum(stage[0] for stage in STAGES)
        self.seed, self.peak = options.seed, PEAK[options.shape]
        self.model = Transformer(model_spec(options.shape, options.stride))
        self.model.initialize(torch.Generator().manual_seed(self.seed), INIT_STD[options.shape])
        if options.start == "mimetic":
            start_mimetic(self.model)
        named = sorted(self.model.named_parameters())
        self.parameters = [p for _, p in named]
        self.names = {p: n for n, p in named}
        self.optimizer = torch.optim.Adam(self.parameters, lr=0.0, betas=(0.9, 0.95), fused=True)
        asked = [options.shape, options.seed, options.stride, options.start, options.scores, STAGES]
        self.key = digest("sevenfold/needles/1", canonical_json(asked))
        self.step = 0
        found = latest_checkpoint(out, self.key)
        if found:
            self.model.load_state_dict(found.model)
            restore_optimizer(self.optimizer, self.names, found.optimizer)
            self.step = found.step

    def rate(self) -> float:
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.step / self.n_steps))
        return self.peak * min(1.0, (self.step + 1) / WARMUP) * decay

    def train_step(self) -> tuple[float, float]:
        """Loss and share of right answers of one step."""
        _, sequence, n_windows, n_needles, distances = STAGES[0] if self.step < STAGES[0][0] else STAGES[1]
        drawn = haystacks(
            np.random.default_rng([self.seed, self.step]), n_windows, sequence, n_needles, distances
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        target = torch.from_numpy(drawn.answer)
        logits = answers(self.model, drawn)
        loss = F.cross_entropy(logits, target)
        self.optimizer.zero_grad()
        loss.backward()
        clip_gradients(self.parameters, 1.0)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach()), float((logits.argmax(-1) == target).float().mean())

    def save(self) -> None:
        state = optimizer_tensors(self.optimizer, self.names)
        save_checkpoint(
            self.out,
            Checkpoint(
                key=self.key, step=self.step, chain="", model=self.model.state_dict(), optimizer=state,
                rng=torch.get_rng_state(), seed=self.seed,
            ),
        )  # fmt: skip


def alone(model: Transformer, n_windows: int, seed: int) -> list[dict[str, float]]:
    """Recall of the only needle of a haystack, at each distance."""
    rows = []
    for distance in DISTANCES:
        drawn = [
            haystacks(np.random.default_rng([seed, distance, part, 1]), 4, LONG, 1, [(distance, distance)])
            for part in range(n_windows // 4)
        ]
        rows.append({"distance": distance, **total([recall(model, d) for d in drawn])})
        print(rows[-1], flush=True)
    return rows


def crowded(model: Transformer, n_windows: int, seed: int) -> list[dict[str, float]]:
    """Recall where twelve needles and their questions share a haystack, by ranges of distance."""
    drawn = [
        haystacks(np.random.default_rng([seed, part, 2]), 4, LONG, 12, [(3, 63), (72, 1100), (72, 1100)])
        for part in range(n_windows // 4)
    ]
    rows = []
    for low, high in pairwise((1, WINDOW, 128, 256, 512, LONG)):
        counts = []
        for d in drawn:
            chosen = (d.distance >= low) & (d.distance < high)
            part = {n: getattr(d, n)[chosen] for n in ("row", "column", "distance", "answer")}
            counts.append(recall(model, NeedleWindows(ids=d.ids, **part)))
        rows.append({"least": low, "below": high, **total(counts)})
        print(rows[-1], flush=True)
    return rows


def total(counts: list[tuple[int, int]]) -> dict[str, float]:
    right, asked = (sum(column) for column in zip(*counts, strict=True))
    return {"right": right, "asked": asked, "recall": right / max(1, asked)}


def draw(single: list[dict[str, float]], many: list[dict[str, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(1, WINDOW, color="0.92")
    axes.annotate("local window", (7, 0.05), color="0.4")
    axes.axhline(0.99, color="0.6", linewidth=0.8, linestyle="--")
    axes.plot([r["distance"] for r in single], [r["recall"] for r in single], marker="o", markersize=4)
    middle = [math.sqrt(max(r["least"], 6) * r["below"]) for r in many]
    axes.plot(middle, [r["recall"] for r in many], marker="s", markersize=4, color="0.45")
    axes.annotate("one needle", (90, single[3]["recall"] - 0.07), color="C0")
    axes.annotate("twelve needles", (90, many[1]["recall"] - 0.1), color="0.45")
    axes.set(xlabel="distance of the needle (tokens)", ylabel="exact recall", ylim=(0, 1.03), xscale="log")
    axes.set_xticks([8, 64, 128, 256, 512, 1024], labels=["8", "64", "128", "256", "512", "1024"])
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shape", choices=sorted(PEAK), default="tiny")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--stride", type=int, default=8, help="of the tiny shape")
    parser.add_argument("--start", choices=("mimetic", "plain"), default="mimetic")
    parser.add_argument("--scores", choices=("learned", "even", "short"), default="learned")
    parser.add_argument("--windows", type=int, default=120, help="haystacks for each distance")
    options = parser.parse_args()
    # Ablation: a plain mean, without its length restored.
    if options.scores == "short":
        hybrid._mean = lambda weight, x: (weight.unsqueeze(-2) @ x).squeeze(-2)
    options.out.mkdir(parents=True, exist_ok=True)
    use_deterministic_kernels()
    run = Training(options.out, options)
    # Ablation: nothing is learned about which position counts.
    if options.scores == "even":
        for block in run.model.layers.values():
            block.attn.summary_proj.weight.requires_grad_(False).zero_()
        run.parameters = [p for p in run.parameters if p.requires_grad]
    while run.step < run.n_steps:
        loss, right = run.train_step()
        if run.step % 25 == 0:
            print(f"step {run.step}: loss {loss:.3f}, right {right:.2f}", flush=True)
        if run.step % SAVE_EVERY == 0 or run.step == run.n_steps:
            run.save()
    single, many = (measure(run.model, options.windows, options.seed) for measure in (alone, crowded))
    beyond = [r for r in single if r["distance"] > WINDOW]
    result = {
        "parameters": count_parameters(run.model), "shape": options.shape, "seed": options.seed,
        "window": WINDOW, "stride": options.stride, "steps": run.n_steps,
        "start": options.start, "scores": options.scores, "torch": torch.__version__,
        "one_needle": single, "twelve_needles": many, "worst_beyond_window": min(r["recall"] for r in beyond),
        "recall_beyond_window": sum(r["right"] for r in beyond) / sum(r["asked"] for r in beyond),
    }  # fmt: skip
    (options.out / "needles.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(single, many, options.out / "needles.png")


if __name__ == "__main__":
    main()
