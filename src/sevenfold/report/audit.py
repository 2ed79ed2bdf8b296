"""The outcome of an audit for people: what was done, what differs, and
the verdict as the last line.
"""

from __future__ import annotations

from collections.abc import Mapping

from sevenfold.core.hashing import Json
from sevenfold.report.lineage import shown


def _difference(row: Mapping[str, Json]) -> str:
    step = f", step {row['step']}" if row["step"] is not None else ""
    return (
        f"{shown(row['where'])}{step}: {shown(row['field'])} expected {shown(row['expected'])}, actual"
        f" {shown(row['actual'])}"
    )


def _steps_lines(value: Mapping[str, Json]) -> list[str]:
    if value["executed"] is None:
        return ["nothing was executed"] if value["started_from"] is None else []
    first, last = value["executed"]
    compared = value["compared"]
    return [
        f"from {shown(value['started_from'])}: steps {first}..{last} executed, {compared['steps']} steps and"
        f" {compared['trace_points']} trace points the same"
    ]


def _verdict(value: Mapping[str, Json]) -> str:
    full = value["audit"] == "full"
    if value["same"]:
        if full:
            return f"same bytes: root {value['actual_root']}"
        steps = f"steps {value['asked'][0]}..{value['asked'][1]}"
        if value["compared"]["trace_points"]:
            return f"same bytes: {steps}"
        return f"same figures: {steps}; no trace point among them, so weights and gradients were not compared"
    first = value["differences"][0]
    where = f"stage {value['first_stage']}" if full and value["first_stage"] else shown(first["where"])
    step = "" if value["first_step"] is None else f", first step that differs: {value['first_step']}"
    return f"differs: {where}{step}"


def audit_lines(value: Mapping[str, Json]) -> list[str]:
    """Return the lines for the terminal."""
    if value["audit"] == "full":
        lines = [f"stages done again: {', '.join(value['stages']) or 'none'}"]
    else:
        lines = _steps_lines(value)
    return [*lines, *map(_difference, value["differences"]), _verdict(value)]
