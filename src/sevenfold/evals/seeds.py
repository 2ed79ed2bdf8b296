"""Run one task under several seeds of one law, and seal one run over the runs of the seeds.

A sampled score varies with its seed. The run over the seeds has the mean of each score, the scores
of the seeds, their spread, and the Wilson interval of the mean over items.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from sevenfold.core.errors import UsageError
from sevenfold.core.hashing import Json
from sevenfold.core.numbers.intervals import DIGITS
from sevenfold.core.process.log import Progress
from sevenfold.evals.decoding.decoder import EvaluationDecoder
from sevenfold.evals.leaks import Leaks
from sevenfold.evals.run import FORMAT, EvaluationSettings, evaluate, sealed
from sevenfold.evals.scoring import statistics
from sevenfold.evals.tasks.cards import Task, run_key


def evaluate_seeds(
    decoder: EvaluationDecoder,
    task: Task,
    out: Path,
    settings: EvaluationSettings,
    n_seeds: int,
    leaks: Leaks,
    progress: Progress,
) -> Json:
    """Run a task under `n_seeds` seeds, beginning with that of the law, and seal a run over them.

    The run of a seed is `OUT/seed-SEED/NAME.eval.json`, and the run over them is
    `OUT/NAME.eval.json`. A card whose answers are not drawn is run once.

    Raises:
        UsageError: several seeds of a greedy law.  NoVerdictError, SandboxError: as `evaluate`.
    """
    if task.card.kind != "generate" or n_seeds == 1:
        return evaluate(decoder, task, out, settings, leaks, progress)
    if settings.law.is_greedy:
        raise UsageError(
            f"{n_seeds} seeds at temperature 0",
            where="--seeds",
            remedy="greedy answers are the same for every seed: give --temperature",
        )
    seeds = [settings.law.seed + i for i in range(n_seeds)]
    runs = []
    for seed in seeds:
        chosen = replace(settings, law=replace(settings.law, seed=seed))
        runs.append(evaluate(decoder, task, out / f"seed-{seed}", chosen, leaks, progress))
    law = {key: value for key, value in runs[0]["law"].items() if key != "seed"} | {"seeds": seeds}
    first = runs[0]
    body: dict[str, Json] = {
        "eval": FORMAT,
        **{key: first[key] for key in ("name", "card", "task", "data", "model", "leaks", "executor")},
        "law": law,
        "key": run_key(first["model"]["root"], task.root, law),
        "runs": [{"seed": seed, "root": run["root"]} for seed, run in zip(seeds, runs, strict=True)],
        "items": [],
        "scores": over_seeds([run["scores"] for run in runs]),
    }
    return sealed(body, first["evidence"], out / f"{task.card.name}.eval.json")


def over_seeds(scores: Sequence[Sequence[Json]]) -> list[Json]:
    """Return each score as the mean over the seeds, with the score of each seed and their spread.

    `sd` is the sample standard deviation over seeds, `spread` the largest minus the smallest.
    """
    found = []
    for rows in zip(*scores, strict=True):
        shares = [Fraction(row["exact"]) for row in rows]
        values = [float(share) for share in shares]
        middle = math.fsum(values) / len(values)
        variance = math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)
        kept = {key: rows[0][key] for key in ("metric", "extract", "n_skeletons") if key in rows[0]}
        if mended := [row["first_failures_mended"] for row in rows if "first_failures_mended" in row]:
            kept["first_failures_mended"] = mended
        found.append({
            **kept,
            **statistics.figure(statistics.mean(shares), int(rows[0]["n"])),
            "by_seed": [round(value, DIGITS) for value in values],
            "sd": round(math.sqrt(variance), DIGITS),
            "spread": round(max(values) - min(values), DIGITS),
        })  # fmt: skip
    return found
