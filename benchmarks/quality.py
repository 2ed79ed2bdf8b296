"""Held-out bits per byte of a recipe and of nanoGPT at equal wall time, on the same tokens: is our
training good, not only fast?

Both get the recipe's own token files, vocabulary, batch and context. nanoGPT's model has about as
many parameters as ours (SHAPES) and the settings its repository gives for small networks (PEER),
compiled, FP32 as its loop does on a CPU. First both are timed in turns on this machine, which
should do nothing else for that minute; from then on time is counted in steps of those lengths, so
that the runs themselves may share the machine, be stopped and go on, and give the same figure.

    python benchmarks/quality.py --nanogpt CHECKOUT --recipe s7/demo-1m --seeds 7 8 9 --out out/quality
    python benchmarks/quality.py --nanogpt CHECKOUT --recipe s7/stdlib-8m \
        --minutes 20 --seeds 7 --out out/quality

CHECKOUT holds nanoGPT's `model.py`. `--minutes` gives our run that length instead of the recipe's
own tokens; `--peer-rate` gives nanoGPT another learning rate than its own, to see how much of the
difference that is. Results are merged into benchmarks/results/quality.json, and drawn beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nanogpt import load_nanogpt
from sevenfold.core.files import write_bytes, write_json
from sevenfold.core.process.log import Silent
from sevenfold.core.run_files import LOCK
from sevenfold.pipeline import exclusive, make
from sevenfold.recipe import load_recipe, resolve_recipe_path
from sevenfold.runs.job import Job
from sevenfold.train.data.dataset import held_out, load_tokenizer, open_data, token_lengths
from sevenfold.train.evaluation.evaluate import float_score, predicted_bytes
from sevenfold.train.loop import Recording, TrainingRun
from sevenfold.train.phases import training_phases
from sevenfold.train.run_builder import training_run
from sevenfold.train.schedule import n_steps

RESULTS = Path(__file__).parent / "results" / "quality.json"
# Of nanoGPT, by recipe: n_layer, n_head, n_embd.
SHAPES = {
    # 1.11M parameters; ours 1.08M.
    "s7/demo-1m": (3, 2, 128),
    # 8.13M; ours 8.03M.
    "s7/stdlib-8m": (9, 4, 256),
}
PEER = {"rate": 1e-3, "floor": 0.1, "warmup": 100, "betas": (0.9, 0.99), "decay": 0.1, "clip": 1.0}
TURNS, TURN_STEPS, SAVE_EVERY = 5, 4, 100


def prepare(recipe: str, out: Path) -> None:
    """Corpus and token files, in `out`/data."""
    path = resolve_recipe_path(recipe)
    make(Job(recipe=load_recipe(path), out=out / "data", recipe_dir=path.parent), until="tokenizer")


def share_tokens(home: Path, data: Path) -> None:
    """Make `home` a run's directory with the token files of another, `data`, beside it."""
    home.mkdir(parents=True, exist_ok=True)
    # A directory with names of a run is a run's only behind its lock.
    (home / LOCK).touch()
    if not (home / "tokenizer").exists():
        (home / "tokenizer").symlink_to(Path("..") / data.name / "tokenizer")


def our_job(recipe: str, out: Path, seed: int, steps: int | None) -> Job:
    """The recipe with another seed and, where `steps` says so, another length; token
    files are those of `out`/data.
    """
    path = resolve_recipe_path(recipe)
    loaded = load_recipe(path)
    tokens = loaded.train.tokens
    if steps is not None:
        tokens = steps * loaded.train.batch_sequences * loaded.train.sequence
    train = loaded.train.model_copy(update={"seed": seed, "tokens": tokens})
    home = out / f"ours-{seed}-{tokens}"
    share_tokens(home, out / "data")
    return Job(recipe=loaded.model_copy(update={"train": train}), out=home, recipe_dir=path.parent)


class Peer:
    """nanoGPT: its model, its optimiser, its schedule, its way to draw a batch."""

    def __init__(self, job: Job, args: argparse.Namespace, seed: int, total: int) -> None:
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(False)
        layers, heads, width = SHAPES[args.recipe]
        module = load_nanogpt(args.nanogpt)
        spec = job.recipe.train
        self.size, self.sequence, self.total, self.step = spec.batch_sequences, spec.sequence, total, 0
        self.peak = args.peer_rate
        self.plain = module.GPT(
            module.GPTConfig(
                block_size=self.sequence,
                vocab_size=job.recipe.model.vocab_size,
                n_layer=layers,
                n_head=heads,
                n_embd=width,
                dropout=0.0,
                bias=False,
            )
        )
        self.optimizer = self.plain.configure_optimizers(PEER["decay"], self.peak, PEER["betas"], "cpu")
        self.model = torch.compile(self.plain)
        self.tokens = np.asarray(
            open_data(job, training_phases(job.recipe)[0]).objectives[0].split.file.tokens
        )
        self.draws = torch.Generator().manual_seed(seed)

    def rate(self) -> float:
        if self.step < PEER["warmup"]:
            return self.peak * (self.step + 1) / (PEER["warmup"] + 1)
        ratio = (self.step - PEER["warmup"]) / max(1, self.total - PEER["warmup"])
        floor = self.peak * PEER["floor"]
        return floor + 0.5 * (1 + math.cos(math.pi * min(1.0, ratio))) * (self.peak - floor)

    def batch(self) -> Tensor:
        """int64 [B, T + 1] from random places."""
        starts = torch.randint(len(self.tokens) - self.sequence, (self.size,), generator=self.draws)
        rows = [self.tokens[s : s + self.sequence + 1].astype(np.int64) for s in starts.tolist()]
        return torch.from_numpy(np.stack(rows))

    def train_step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        batch = self.batch()
        _, loss = self.model(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.plain.parameters(), PEER["clip"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def resume(self, path: Path) -> None:
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.plain.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.draws.set_state(state["draws"])
            self.step = state["step"]

    def save(self, path: Path) -> None:
        state = {
            "model": self.plain.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "draws": self.draws.get_state(),
            "step": self.step,
        }
        torch.save(state, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    @torch.no_grad()
    def bits_per_byte(self, rows: NDArray[np.int64], lengths: NDArray[np.int64]) -> float:
        self.plain.eval()
        nats = 0.0
        for start in range(0, len(rows), 8):
            batch = torch.from_numpy(rows[start : start + 8])
            logits, _ = self.plain(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
            nats += float(F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum"))
        return nats / math.log(2) / predicted_bytes(rows, lengths)


def calibrate(args: argparse.Namespace, out: Path) -> dict[str, list[float]]:
    """Quartiles of seconds a step of ours (the trainer's own loop, records and all) and of
    nanoGPT, in turns; kept in a file.
    """
    path = out / "steps.json"
    if path.exists():
        found: dict[str, list[float]] = json.loads(path.read_text())
        return found
    job = our_job(args.recipe, out, 0, 10_000)
    run = training_run(job, out / "timing")
    (out / "timing").mkdir(exist_ok=True)
    run.start()
    peer = Peer(job, args, 0, 10_000)
    turns: dict[str, Callable[[], None]] = {
        "ours": lambda: advance(run, TURN_STEPS),
        "nanoGPT": lambda: [peer.train_step() for _ in range(TURN_STEPS)] and None,
    }
    times: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(TURNS + 1):
        for name, act in turns.items():
            began = time.perf_counter()
            act()
            # The first turn compiles.
            if turn:
                times[name].append((time.perf_counter() - began) / TURN_STEPS)
    result = {name: statistics.quantiles(values, n=4) for name, values in times.items()}
    write_json(path, result)
    return result


def advance(run: TrainingRun, steps: int) -> None:
    """Go on for some steps, without the checkpoint that ends a run."""
    run.recording = Recording(last=run.step + steps)
    run.start, run.save = (lambda: None), (lambda **_: None)  # type: ignore[method-assign] # no resume
    run.train()


def train_ours(job: Job) -> float:
    """Train to the end, or go on; bits per byte."""
    directory = job.out / "train"
    directory.mkdir(exist_ok=True)
    with exclusive(job.out):
        run = training_run(job, directory)
        run.train()
    (group,) = held_out(job)
    score, _ = float_score(run.model, group.rows, token_lengths(load_tokenizer(job)), Silent())
    return score.bits_per_byte


def train_peer(job: Job, args: argparse.Namespace, seed: int, total: int, home: Path) -> float:
    """Train to the end, or go on; bits per byte."""
    home.mkdir(parents=True, exist_ok=True)
    peer = Peer(job, args, seed, total)
    peer.resume(home / "state.pt")
    while peer.step < total:
        peer.train_step()
        if peer.step % SAVE_EVERY == 0 or peer.step == total:
            peer.save(home / "state.pt")
            print(f"  nanoGPT, seed {seed}: step {peer.step} of {total}", flush=True)
    (group,) = held_out(job)
    return peer.bits_per_byte(group.rows, token_lengths(load_tokenizer(job)))


def known() -> dict[str, Any]:
    """What was measured before, by recipe."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def measure(args: argparse.Namespace) -> None:
    """All runs of a recipe that are not there yet."""
    out = args.out / args.recipe.replace("/", "-")
    prepare(args.recipe, out)
    seconds = calibrate(args, out)
    ours, theirs = seconds["ours"][1], seconds["nanoGPT"][1]
    steps = None if args.minutes is None else int(args.minutes * 60 / ours)
    total = n_steps(our_job(args.recipe, out, 0, steps).recipe.train)
    peer_total = int(total * ours / theirs)
    entry = {
        "minutes": total * ours / 60,
        "seconds_a_step": seconds,
        "steps": {"ours": total, "nanoGPT": peer_total},
        "ours": {},
        "nanoGPT": {},
    }
    is_default = args.peer_rate == PEER["rate"]
    title = args.recipe if is_default else f"{args.recipe}, nanoGPT at {args.peer_rate:g}"
    suffix = "" if is_default else f"-{args.peer_rate:g}"
    for label, sides in ((args.recipe, ("ours",)), (title, ("ours", "nanoGPT"))):
        before = known().get(label, {})
        if before.get("steps") == entry["steps"]:
            entry |= {side: before[side] for side in sides}
    for seed in args.seeds:
        job = our_job(args.recipe, out, seed, total)
        for name, act in (
            ("ours", lambda job=job: train_ours(job)),
            (
                "nanoGPT",
                lambda job=job, seed=seed: train_peer(
                    job, args, seed, peer_total, out / f"nanogpt-{seed}-{peer_total}{suffix}"
                ),
            ),
        ):
            if str(seed) not in entry[name]:
                score = act()
                # Another process may have added its seeds meanwhile.
                written = known().get(title, {})
                if written.get("steps") == entry["steps"]:
                    entry |= {side: written[side] for side in ("ours", "nanoGPT")}
                entry[name][str(seed)] = score
                print(
                    f"{title} {name} seed {seed}: {entry[name][str(seed)]:.4f} bits per byte",
                    flush=True,
                )
                write_bytes(RESULTS, json.dumps(known() | {title: entry}, indent=2).encode() + b"\n")


def show(results: dict[str, Any]) -> None:
    """Mean and spread of each recipe, as a table and as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(results), figsize=(3.6 * len(results), 3.4), squeeze=False, sharey=True
    )
    for axis, (recipe, entry) in zip(axes[0], sorted(results.items()), strict=True):
        for place, name in enumerate(("ours", "nanoGPT")):
            values = list(entry[name].values())
            spread = f"{min(values):.4f} .. {max(values):.4f}"
            print(
                f"{recipe:32} {name:8} {statistics.mean(values):.4f} bits per byte  [{spread}], {len(values)}"
                " seeds"
            )
            axis.plot([place] * len(values), values, "o", color=("#0b6e4f", "#8d6a9f")[place], alpha=0.7)
        axis.set_xticks([0, 1], ["Sevenfold", "nanoGPT"])
        axis.set_xlim(-0.6, 1.6)
        axis.set_title(f"{recipe}\n{entry['minutes']:.0f} min on two cores", fontsize=9)
        axis.set_ylabel("held-out bits per byte (lower is better)", fontsize=8)
        axis.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    figure.savefig(RESULTS.with_suffix(".png"), dpi=130)


def main() -> None:
    """Measure what is missing, then show everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nanogpt", type=Path, required=True)
    parser.add_argument("--recipe", choices=sorted(SHAPES), required=True)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--peer-rate", type=float, default=PEER["rate"], help="nanoGPT's learning rate")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only-timing", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.only_timing:
        out = args.out / args.recipe.replace("/", "-")
        prepare(args.recipe, out)
        print(json.dumps(calibrate(args, out)))
        return
    measure(args)
    show(known())


if __name__ == "__main__":
    main()
