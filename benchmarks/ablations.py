"""What each choice of a recipe is worth: held-out bits per byte of short runs that differ in one
choice, at equal processor time.

A variant that changes the cost of a step (shape, vocabulary, batch) gets as many steps as the
base's processor time buys; the time of a step is measured once and kept, so runs may share the
machine, be stopped and go on. The spread of the base over its seeds says what a difference
must exceed to mean anything.

    python benchmarks/ablations.py --recipe s7/demo-1m --steps 300 --out out/ablations
    python benchmarks/ablations.py --recipe s7/stdlib-8m --steps 150 --seeds 7 \
        --only base rate --out out/ablations

Results are merged into benchmarks/results/ablations.json, and drawn beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from quality import advance, share_tokens, train_ours
from sevenfold.core.files import write_bytes, write_json
from sevenfold.pipeline import make
from sevenfold.recipe import load_recipe, resolve_recipe_path
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job
from sevenfold.train.run_builder import training_run

RESULTS = Path(__file__).parent / "results" / "ablations.json"
TIMED_STEPS, TIMED_TURNS = 4, 5

# Dotted recipe keys by variant; a number behind "x" multiplies what the recipe says. The first word
# is the choice, for --only.
ANY: dict[str, dict[str, Any]] = {
    "base": {},
    "rate x0.5": {"train.learning_rate": "x0.5"},
    "rate x2": {"train.learning_rate": "x2"},
    "init x0.5": {"train.init_std": "x0.5"},
    "init x2": {"train.init_std": "x2"},
    "warmup 2 %": {"train.warmup_ratio": 0.02},
    "warmup 16 %": {"train.warmup_ratio": 0.16},
    "floor 10 %": {"train.min_learning_rate_ratio": 0.1},
    "beta2 0.99": {"train.betas": [0.9, 0.99]},
    "beta2 0.9": {"train.betas": [0.9, 0.9]},
    "clip x0.25": {"train.clip_norm": "x0.25"},
    "batch x0.5": {"train.batch_sequences": "x0.5"},
    "batch x2": {"train.batch_sequences": "x2"},
}
# Variants of about as many parameters.
SHAPED: dict[str, dict[str, dict[str, Any]]] = {
    # 1.08M.
    "s7/demo-1m": {
        "heads 4 of 32": {"model.n_heads": 4, "model.n_kv_heads": 4, "model.head_dim": 32},
        "shape 8 x 96": {"model.n_layers": 8, "model.d_model": 96, "model.head_dim": 48, "model.d_ffn": 128},
        "shape 2 x 160": {"model.n_layers": 2, "model.d_model": 160, "model.head_dim": 80,
            "model.d_ffn": 240},
        "shape 3, ffn 320": {"model.n_layers": 3, "model.d_ffn": 320},
        "vocabulary 2048": {"model.vocab_size": 2048, "tokenizer.vocab_size": 2048, "model.n_layers": 6},
        "vocabulary 8192": {"model.vocab_size": 8192, "tokenizer.vocab_size": 8192, "model.d_model": 96,
            "model.head_dim": 48},
    },
    # 8.03M.
    "s7/stdlib-8m": {
        "shape 12 x 256": {"model.n_layers": 12, "model.d_model": 256, "model.n_heads": 4,
            "model.n_kv_heads": 4},
        "shape 5 x 384": {"model.n_layers": 5, "model.d_model": 384, "model.n_heads": 6,
            "model.n_kv_heads": 6, "model.d_ffn": 560},
        "vocabulary 8192": {"model.vocab_size": 8192, "tokenizer.vocab_size": 8192, "model.n_layers": 6},
    },
}  # fmt: skip


def changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with other values at some dotted keys.

    Raises pydantic.ValidationError where a value cannot be.
    """
    tree = recipe.resolved()
    for key, value in changes.items():
        section, name = key.split(".")
        if isinstance(value, str) and value.startswith("x"):
            was = tree[section][name]
            value = type(was)(was * float(value[1:]))
        tree[section][name] = value
    return Recipe.model_validate_json(json.dumps(tree))


def job_of(recipe: Recipe, home: Path, base: Path) -> Job:
    """A job in `home` that reads the token files of the recipe's vocabulary, which are made once."""
    data = home.parent / f"data-{recipe.tokenizer.vocab_size}"
    make(Job(recipe=recipe, out=data, recipe_dir=base), until="tokenizer")
    share_tokens(home, data)
    return Job(recipe=recipe, out=home, recipe_dir=base)


def seconds_a_step(job: Job, path: Path) -> float:
    """Median processor seconds of a step, from a file once they were measured."""
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    spec = job.recipe.train
    what = json.dumps([job.recipe.model.model_dump(), spec.batch_sequences, spec.sequence], sort_keys=True)
    if what not in known:
        directory = job.out / "timing"
        directory.mkdir(exist_ok=True)
        run = training_run(job, directory)
        run.start()
        # Compiles.
        advance(run, 2)
        times = []
        for _ in range(TIMED_TURNS):
            began = time.process_time()
            advance(run, TIMED_STEPS)
            times.append((time.process_time() - began) / TIMED_STEPS)
        known[what] = statistics.median(times)
        write_json(path, known)
    return known[what]


def results() -> defaultdict[str, dict[str, Any]]:
    """What was measured before, by recipe and length, then by variant."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return defaultdict(dict, found)


def measure(args: argparse.Namespace) -> None:
    """Every variant and seed that is not known yet; the base takes all seeds, a variant the first."""
    path = resolve_recipe_path(args.recipe)
    recipe = load_recipe(path)
    out = args.out / args.recipe.replace("/", "-")
    base, title = 0.0, f"{args.recipe}, {args.steps} steps of the base"
    for name, changes in (ANY | SHAPED.get(args.recipe, {})).items():
        if args.only and not {name, name.split()[0]} & {"base", *args.only}:
            continue
        other = changed(recipe, changes)
        slug = "".join(c if c.isalnum() else "-" for c in name)
        job = job_of(other, out / slug, path.parent)
        seconds = seconds_a_step(job, out / "steps.json")
        base = base or seconds
        spec = other.train
        n_steps = max(1, round(args.steps * base / seconds))
        for seed in args.seeds if name == "base" else args.seeds[:1]:
            if str(seed) in results()[title].get(name, {}).get("bits_per_byte", {}):
                continue
            tokens = n_steps * spec.batch_sequences * spec.sequence
            run = other.model_copy(update={"train": spec.model_copy(update={"seed": seed, "tokens": tokens})})
            score = train_ours(job_of(run, out / f"{slug}-{seed}-{n_steps}", path.parent))
            # Another process may have written meanwhile.
            known = results()
            entry = known[title].setdefault(name, {"changes": changes, "bits_per_byte": {}})
            entry |= {"steps": n_steps, "seconds_a_step": seconds}
            entry["bits_per_byte"][str(seed)] = score
            write_bytes(RESULTS, json.dumps(known, indent=2).encode() + b"\n")
            print(
                f"{args.recipe} {name:18} seed {seed}: {score:.4f} bits per byte, {n_steps} steps of"
                f" {seconds:.2f} s",
                flush=True,
            )


def show(measured: dict[str, Any]) -> None:
    """Each variant against the base, as a table and as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(measured), figsize=(4.6 * len(measured), 4.6), squeeze=False)
    for axis, (title, variants) in zip(axes[0], sorted(measured.items()), strict=True):
        base = list(variants["base"]["bits_per_byte"].values())
        middle = statistics.mean(base)
        print(f"{title}: base {middle:.4f} [{min(base):.4f} .. {max(base):.4f}], {len(base)} seeds")
        order = sorted(
            variants, key=lambda name: statistics.mean(variants[name]["bits_per_byte"].values()), reverse=True
        )
        for place, name in enumerate(order):
            value = statistics.mean(variants[name]["bits_per_byte"].values())
            print(f"  {name:18} {value:.4f}  {value - middle:+.4f}")
            axis.plot([value], [place], "o", color="#0b6e4f" if name == "base" else "#8d6a9f")
        axis.axvspan(min(base), max(base), color="#0b6e4f", alpha=0.12)
        axis.set_yticks(range(len(order)), order, fontsize=8)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("held-out bits per byte (left is better)", fontsize=8)
        axis.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(RESULTS.with_suffix(".png"), dpi=130)


def main() -> None:
    """Measure what is missing, then show everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", choices=sorted(SHAPED), required=True)
    parser.add_argument("--steps", type=int, default=300, help="of the base; others get its processor time")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument(
        "--only", nargs="+", help="variants, or their first words: rate, init, 'batch x2', ..."
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    measure(args)
    show(results())


if __name__ == "__main__":
    main()
