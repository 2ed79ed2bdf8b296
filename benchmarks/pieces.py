"""What an exportable pre-tokenizer costs: held-out bits per byte of `tokenizer.pieces: llama3`
against `code` at equal bytes.

Both vocabularies are learnt from the recipe's corpus. The runs see the same number of bytes of
training text: `--steps` steps with `code` pieces, and as many steps with `llama3` pieces as hold
the same bytes. A seed decides both runs of a pair, so the figure is the mean of differences over
seeds; the spread stands beside it.

    python benchmarks/pieces.py --recipe s7/demo-1m --steps 300 --seeds 7 8 --out out/pieces

Results are merged into benchmarks/results/pieces.json. A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from ablations import changed
from quality import share_tokens, train_ours
from sevenfold.core.files import write_bytes
from sevenfold.pipeline import make
from sevenfold.recipe import load_recipe, resolve_recipe_path
from sevenfold.runs.job import Job
from sevenfold.train.data.dataset import held_out, load_tokenizer, open_data, token_lengths
from sevenfold.train.phases import training_phases

RESULTS = Path(__file__).parent / "results" / "pieces.json"
BASE, EXPORTABLE = "code", "llama3"


def bytes_per_token(job: Job) -> dict[str, float]:
    """Bytes of text for each token of the training split and of the held-out windows."""
    lengths = token_lengths(load_tokenizer(job))
    training = open_data(job, training_phases(job.recipe)[0]).objectives[0].split.file.tokens
    windows = [group.rows for group in held_out(job)]
    return {
        "training": float(lengths[training[:]].sum() / len(training)),
        "held out": float(sum(lengths[rows].sum() for rows in windows) / sum(rows.size for rows in windows)),
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Both vocabularies, every seed that is not known yet."""
    path = resolve_recipe_path(args.recipe)
    recipe = load_recipe(path)
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    title, n_bytes = f"{args.recipe}, {args.steps} steps of {BASE}", 0.0
    for pieces in (BASE, EXPORTABLE):
        home = args.out / args.recipe.replace("/", "-") / pieces
        other = changed(recipe, {"tokenizer.pieces": pieces})
        data = Job(recipe=other, out=home / "data", recipe_dir=path.parent)
        make(data, until="tokenizer")
        density = bytes_per_token(data)
        per_step = other.train.batch_sequences * other.train.sequence
        n_bytes = n_bytes or args.steps * per_step * density["training"]
        steps = round(n_bytes / per_step / density["training"])
        known = found.get(title, {}).get(pieces, {}).get("bits_per_byte", {})
        if args.only not in (None, pieces):
            continue
        for seed in args.seeds:
            if str(seed) in known:
                continue
            train = other.train.model_copy(update={"seed": seed, "tokens": steps * per_step})
            out = home / f"{seed}-{steps}"
            share_tokens(out, data.out)
            run = Job(recipe=other.model_copy(update={"train": train}), out=out, recipe_dir=path.parent)
            score = train_ours(run)
            # Another process may have written meanwhile.
            found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            written = found.setdefault(title, {}).setdefault(pieces, {"bits_per_byte": {}})
            written |= {"bytes_per_token": density, "steps": steps}
            written["bits_per_byte"][str(seed)] = score
            write_bytes(RESULTS, json.dumps(found, indent=2).encode() + b"\n")
            print(f"{pieces:8} seed {seed}: {score:.4f} bits per byte, {steps} steps", flush=True)
    return found


def show(found: dict[str, Any]) -> None:
    """Print the difference of each length, seed by seed."""
    for title, entry in found.items():
        if {BASE, EXPORTABLE} - set(entry):
            continue
        base, other = entry[BASE]["bits_per_byte"], entry[EXPORTABLE]["bits_per_byte"]
        changes = [100 * (other[seed] / base[seed] - 1) for seed in base if seed in other]
        densities = {name: entry[name]["bytes_per_token"]["held out"] for name in (BASE, EXPORTABLE)}
        print(
            f"{title}: {EXPORTABLE} {statistics.mean(changes):+.2f} % bits per byte"
            f" [{min(changes):+.2f} .. {max(changes):+.2f}], {len(changes)} seeds; bytes per token "
            + ", ".join(f"{name} {value:.3f}" for name, value in densities.items())
        )


def main() -> None:
    """Measure what is missing, then show everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="s7/demo-1m")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8])
    parser.add_argument("--only", choices=(BASE, EXPORTABLE), help="one of the two; the figures are merged")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    show(measure(args))


if __name__ == "__main__":
    main()
