"""Forecast and measured speed of training: `s7 plan` beside whole steps of the
same recipe on this machine, and the ratio of both by recipe.

Forecast: `sevenfold.train.rehearsal`, as `s7 plan` and `s7 train --dry-run` use it. Measured:
whole steps of the recipe's own batch on random tokens (gradients of all micro-batches, clipping,
update). Both are taken in turns, so that a busy machine is busy for both; objectives beside the
next token are left out of both. With `--clock process`, which takes one thread, time is that of the
processor, and what other programs take is in neither.

    python benchmarks/plan.py [--recipes s7/demo-1m,s7/code-8m] [--steps 2] [--rounds 2] [--clock wall]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sevenfold import pipeline  # noqa: F401  (settles how PyTorch's threads wait, before it is loaded)
from sevenfold.plan.calculator import measure_cpu, training_rate
from sevenfold.plan.cost import phase_cost, phases_of
from sevenfold.recipe import load_recipe, resolve_recipe_path
from sevenfold.recipe.schema import Objectives, Recipe
from sevenfold.train.phases import training_phases
from sevenfold.train.recording.records import Unrecorded
from sevenfold.train.rehearsal import RehearsedShape, measure_training, rehearsal, step_flops

RECIPES = "s7/demo-1m,s7/base-8m,s7/stdlib-8m,s7/code-8m,s7/moe-8m,slm/proxy-10m"
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"process": time.process_time, "wall": time.perf_counter}


def forecast(recipe: Recipe, clock: Clock) -> float:
    """Tokens per second that `s7 plan` says of the first part."""
    cpu = measure_training(recipe, measure_cpu(), clock)
    return training_rate(recipe, phase_cost(recipe, phases_of(recipe)[0]), cpu)


def measured(recipe: Recipe, n_steps: int, clock: Clock) -> float:
    """Tokens per second of `n_steps` whole steps, after one."""
    part = training_phases(recipe)[0]
    spec = part.spec
    sample = RehearsedShape(
        model=recipe.model,
        rows=spec.batch_sequences,
        sequence=spec.sequence,
        flops_per_token=step_flops(recipe.model, part, spec.sequence),
    )
    with tempfile.TemporaryDirectory() as name:
        run = rehearsal(recipe, part, sample, Path(name), spec.micro_batch_sequences)
        run.advance(Unrecorded())
        began = clock()
        for _ in range(n_steps):
            run.advance(Unrecorded())
        return n_steps * spec.batch_sequences * spec.sequence / (clock() - began)


def main() -> None:
    """Print a line for each recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", default=RECIPES)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="process")
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    if options.clock == "process":
        import torch  # behind `pipeline`

        torch.set_num_threads(1)  # two that wait for each other take time that no step needs
    print(f"{'recipe':16} {'forecast':>12} {'measured':>12} {'forecast / measured':>20}  of each round")
    for name in options.recipes.split(","):
        recipe = load_recipe(resolve_recipe_path(name))
        train = recipe.train.model_copy(update={"objectives": Objectives()})
        recipe = recipe.model_copy(update={"train": train})
        pairs = [
            (forecast(recipe, clock), measured(recipe, options.steps, clock)) for _ in range(options.rounds)
        ]
        said, found = (statistics.median(column) for column in zip(*pairs, strict=True))
        each = ", ".join(f"{a / b:.2f}" for a, b in pairs)
        print(f"{name:16} {said:10,.0f}/s {found:10,.0f}/s {said / found:20.2f}  {each}", flush=True)


if __name__ == "__main__":
    main()
