"""Figures of a model by name: from its seal, its sealed evaluation runs, and its training records.

Risks and experiments are queries over these figures. A figure that no record holds is missing, which
the reader shows as "not measured".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sevenfold.artifact import Artifact
from sevenfold.core.hashing import Json
from sevenfold.core.run_files import STOPPED
from sevenfold.evals.gates import runs_of
from sevenfold.release.documents import count, kept_sources
from sevenfold.release.lineage import lineage
from sevenfold.report.runs import read_metrics

# Steps whose mean a loss is compared with.
WINDOW = 20


@dataclass(frozen=True, kw_only=True)
class RecordedFigure:
    """One figure and the record that holds it.

    Attributes:
        record: root or name of the record.
        low, high: the 95 % interval, where the record has one.
    """

    value: float
    record: str
    low: float | None = None
    high: float | None = None


Figures = Mapping[str, RecordedFigure]


def collect(artifact: Artifact, runs: Path, run: Path | None = None) -> dict[str, RecordedFigure]:
    """Return every figure that is recorded for a model.

    Args:
        artifact: the sealed file.
        runs: directory of sealed evaluation runs.
        run: the run directory in which the model was made, where it is at hand.

    Raises:
        ArtifactError: the file does not say where it comes from.
    """
    found = _sealed(artifact)
    for sealed in runs_of(artifact.root, runs)[0]:
        found |= _evaluated(sealed)
    if run is not None:
        found |= _trained(run)
    return found


def _sealed(artifact: Artifact) -> dict[str, RecordedFigure]:
    value = lineage(artifact)
    quality = value["quantisation"]["figures"]
    quality = quality if isinstance(quality, dict) else {}
    named = {
        **{f"quality.{name}": figure for name, figure in quality.items()},
        **{f"training.{name}": value["training"][name] for name in ("final_loss", "heldout_bpb", "n_tokens")},
        "data.unlicensed": sum(1 for group in kept_sources(value) if not group.get("licence")),
        "data.sources": len(kept_sources(value)),
        "data.train_documents": _sum(value, "train"),
    }
    return {
        name: RecordedFigure(value=float(figure), record=f"seal {artifact.root[:16]}")
        for name, figure in named.items()
        if type(figure) in (int, float)
    }


def _sum(value: Mapping[str, Json], split: str) -> int:
    counts = [count(group, split)[0] for group in kept_sources(value)]
    return sum(n for n in counts if type(n) is int)


def _evaluated(run: Mapping[str, Json]) -> dict[str, RecordedFigure]:
    record = f"run {run['root'][:16]}"
    found = {
        f"eval.{run['name']}.{score['metric']}": RecordedFigure(
            value=score["value"], record=record, low=score["low"], high=score["high"]
        )
        for score in reversed(run["scores"])
    }
    leaks = run["leaks"]
    if leaks["checked"]:
        n = len(leaks["dropped"])
        found[f"eval.{run['name']}.leaked_items"] = RecordedFigure(value=n, record=record)
    return found


def largest_jump(losses: Sequence[float]) -> float:
    """Return by how much a loss exceeds the mean of the `WINDOW` losses before it, at most; 0.0 for
    fewer losses.
    """
    jumps = [losses[i] - sum(losses[i - WINDOW : i]) / WINDOW for i in range(WINDOW, len(losses))]
    return max(jumps, default=0.0)


def _trained(run: Path) -> dict[str, RecordedFigure]:
    losses = [float(row["loss"]) for row in read_metrics(run)]
    if not losses:
        return {}
    stopped = sum(1 for _ in (run / "train").glob(f"**/{STOPPED}"))
    record = f"{len(losses)} steps of training"
    return {
        "train.largest_jump": RecordedFigure(value=largest_jump(losses), record=record),
        "train.stopped": RecordedFigure(value=stopped, record=record),
    }


def runs_beside(file: Path) -> Path:
    """Return the directory of the sealed evaluation runs of a file: `eval/` in its folder of
    documents where there is one, else beside it.
    """
    return documents_beside(file) / "eval"


def documents_beside(file: Path) -> Path:
    """Return the directory of the documents of a file: the folder of its name, or its own."""
    folder = file.with_suffix("")
    return folder if folder.is_dir() else file.parent
