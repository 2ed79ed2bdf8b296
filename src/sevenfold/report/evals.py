"""Scores of evaluation runs as rows, a page and a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from sevenfold.core.files import write_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.ownership import SOFTWARE
from sevenfold.report.page import document, section, table, tag


def _interval(score: Json) -> str:
    if "upper_bound" in score:
        return f"at most {score['upper_bound']:.4f}"
    return f"{score['low']:.4f} to {score['high']:.4f}"


def score_rows(runs: Sequence[Json]) -> list[list[str]]:
    """Return one row for each score: suite, metric, value, interval, n, ties, protocol."""
    return [
        [
            run["name"],
            score["metric"] + (f" ({score['extract']})" if score.get("extract") else ""),
            f"{score['value']:.4f}",
            _interval(score),
            str(score["n"]),
            str(score.get("n_ties", "")),
            run["card"]["protocol"],
        ]
        for run in runs
        for score in run["scores"]
    ]


def float_rows(runs: Sequence[Json]) -> list[list[str]]:
    """Return one row for each figure of bits per byte that was also measured with the FP32 weights:
    suite, metric, INT8, FP32, and the relative increase.
    """
    rows = []
    for run in runs:
        floats = run["evidence"].get("fp32") or {}
        for score in run["scores"]:
            if exact := floats.get(score["metric"]):
                more = f"{score['value'] / exact - 1:+.3%}"
                rows.append([run["name"], score["metric"], f"{score['value']:.5f}", f"{exact:.5f}", more])
    return rows


def write_page(path: Path, runs: Sequence[Json]) -> None:
    """Write the report page of some runs. Raises StorageError."""
    head = ("suite", "metric", "#value", "95 % interval", "#n", "#ties", "protocol")
    parts = [section("Scores", table(head, score_rows(runs)))]
    if floats := float_rows(runs):
        both = ("suite", "metric", "#INT8", "#FP32", "#INT8 above FP32")
        parts.append(section("The FP32 weights on the same windows", table(both, floats)))
    for run in runs:
        facts = [
            ("root of the run", run["root"]),
            ("model root", run["model"]["root"]),
            ("task root", run["task"]["root"]),
            ("items", f"{run['task']['n_items']} of {run['task']['n_in_set']}"),
            ("decoding law", _inline(run["law"])),
            ("executor", _inline(run["executor"])),
            ("leaks", _inline(run["leaks"])),
        ]
        facts += [
            (f"failures ({rule})", _inline(counts))
            for rule, counts in run.get("failures", {}).items()
            if counts
        ]
        parts.append(section(run["name"], table(("fact", "value"), facts), _samples(run)))
    write_bytes(path, document("Evaluation", tag("h1", "Evaluation"), *parts))


def _inline(value: Json) -> str:
    if not isinstance(value, dict):
        return "none" if value is None else str(value)
    return ", ".join(f"{key} {_inline(item)}" for key, item in value.items())


def _samples(run: Json) -> object:
    """Return the first items with what was extracted and decided."""
    rows = [
        (item["id"], rule, text[:400], verdict, reason)
        for item in run["items"][:20]
        for rule, found in item.get("verdicts", {}).items()
        for text, verdict, reason in found[:1]
    ]
    return table(("item", "rule", "extracted", "verdict", "reason"), rows) if rows else ""


def write_plot(path: Path, runs: Sequence[Json]) -> None:
    """Write the scores with their intervals as a PNG. Raises ImportError, StorageError."""
    from matplotlib.figure import Figure

    rows = [(run, score) for run in runs for score in run["scores"]][::-1]
    figure = Figure(figsize=(8, 1.2 + 0.45 * max(len(rows), 1)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for place, (_, score) in enumerate(rows):
        axes.plot([score["low"], score["high"]], [place, place], color="0.6")
        axes.plot(score["value"], place, "o", color="C0")
    axes.set_yticks(range(len(rows)), [f"{run['name']} {score['metric']}" for run, score in rows], fontsize=8)
    axes.set_xlim(-0.02, max([1.02, *(score["high"] * 1.02 for _, score in rows)]))
    axes.grid(axis="x", alpha=0.3)
    axes.set_title("score, 95 % interval", fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": SOFTWARE})
    write_bytes(path, buffer.getvalue())
