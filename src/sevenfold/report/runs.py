"""Runs beside each other: what is in a directory of runs, and the loss of two of them over the
tokens they saw.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sevenfold.core.changes import changes
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.files import read_bytes, read_json, write_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.manifest import read_manifest
from sevenfold.core.run_files import METRICS, RECIPE, STAGES
from sevenfold.report.plots import overlay, smooth

POINTS = 20
_DEPTH = 2


def find_runs(directory: Path) -> list[Path]:
    """Run directories in `directory` and up to two levels below, by name. Raises StorageError."""
    if not directory.is_dir():
        raise StorageError(
            "no such directory", where=str(directory), remedy="name a directory that holds runs"
        )
    found = {
        path.parent
        for depth in range(_DEPTH + 1)
        for path in directory.glob("/".join(["*"] * depth + [RECIPE]))
    }
    return sorted(found)


def read_metrics(run: Path) -> list[dict[str, Json]]:
    """Return the rows of a run's metrics, of the whole run or of its parts in the order of their
    names; a torn last line is left out.
    """
    whole = run / "train" / METRICS
    paths = [whole] if whole.is_file() else sorted((run / "train").glob(f"**/{METRICS}"))
    rows = []
    for path in paths:
        for line in read_bytes(path).splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                break
            rows.append(row)
    return rows


def describe(run: Path) -> dict[str, Json]:
    """Return one run: recipe, how far it is, its figures.

    Raises StorageError for a damaged manifest.
    """
    recipe = read_json(run / RECIPE)
    done = [stage for stage in STAGES if read_manifest(run / stage) is not None]
    rows = read_metrics(run)
    train, quantize = read_manifest(run / "train"), read_manifest(run / "quantize")
    seal = read_manifest(run / "seal")
    return {
        "run": str(run),
        "recipe": recipe["name"],
        "stages": done,
        "steps": len(rows),
        "tokens": rows[-1]["tokens"] if rows else 0,
        "loss": rows[-1]["loss"] if rows else None,
        "heldout_bpb": train.facts["heldout_bpb"] if train else None,
        "bpb_increase": quantize.facts["bpb_increase"] if quantize else None,
        "root": seal.facts["root"] if seal else None,
    }


def _at(rows: Sequence[dict[str, Json]], losses: Sequence[float], tokens: float) -> float | None:
    """Return the smoothed loss at the last step that had seen at most `tokens`."""
    before = [loss for row, loss in zip(rows, losses, strict=True) if row["tokens"] <= tokens]
    return before[-1] if before else None


def compare(a: Path, b: Path) -> dict[str, Json]:
    """Return two runs: keys of the recipe that differ, and smoothed losses
    at the same numbers of tokens.

    Raises:
        UsageError: a run has no metrics yet.
        StorageError: it is no run.
    """
    runs = []
    for path in (a, b):
        rows = read_metrics(path)
        if not rows:
            raise UsageError(f"{path} has no training metrics yet", remedy="train it first")
        runs.append((path, read_json(path / RECIPE), rows, smooth([row["loss"] for row in rows])))
    (_, recipe_a, rows_a, smooth_a), (_, recipe_b, rows_b, smooth_b) = runs
    most = min(rows_a[-1]["tokens"], rows_b[-1]["tokens"])
    points = []
    for i in range(1, POINTS + 1):
        tokens = most * i // POINTS
        loss_a, loss_b = _at(rows_a, smooth_a, tokens), _at(rows_b, smooth_b, tokens)
        if loss_a is not None and loss_b is not None:
            points.append({"tokens": tokens, "a": loss_a, "b": loss_b, "difference": loss_b - loss_a})
    return {
        "a": describe(a),
        "b": describe(b),
        "recipe": changes(recipe_a, recipe_b),
        "losses": points,
        "same": rows_a == rows_b,
    }


def write_overlay(path: Path, a: Path, b: Path) -> None:
    """Write the loss curves of both runs as a PNG. Raises StorageError;
    ImportError without matplotlib.
    """
    curves = []
    for run in (a, b):
        rows = read_metrics(run)
        curves.append((str(run), [row["tokens"] for row in rows], smooth([row["loss"] for row in rows])))
    write_bytes(path, overlay(curves))
