"""The outcome of an audit for people: what was done, what differs, and
the verdict as the last line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sevenfold.core.hashing import Json
from sevenfold.report.lineage import shown


def _difference(row: Mapping[str, Json]) -> str:
    step = f", step {row['step']}" if row["step"] is not None else ""
    return (
        f"{shown(row['where'])}{step}: {shown(row['field'])} expected {shown(row['expected'])}, actual"
        f" {shown(row['actual'])}"
    )


def _full_lines(value: Mapping[str, Json]) -> list[str]:
    return [f"stages done again: {', '.join(value['stages']) or 'none'}"]


def _steps_lines(value: Mapping[str, Json]) -> list[str]:
    if value["executed"] is None:
        return ["nothing was executed"] if value["started_from"] is None else []
    first, last = value["executed"]
    compared = value["compared"]
    return [
        f"from {shown(value['started_from'])}: steps {first}..{last} executed, {compared['steps']} steps and"
        f" {compared['trace_points']} trace points the same"
    ]


def _export_lines(value: Mapping[str, Json]) -> list[str]:
    if value["out"] is None:
        return ["nothing was written"]
    return [
        f"from {shown(value['started_from'])}: step {value['step']} in {value['n_bytes']} bytes,"
        f" from state {value['claims']['states'][-1][:16]} to {value['claims']['state_after'][:16]}"
    ]


def _check_lines(value: Mapping[str, Json]) -> list[str]:
    origin, part = value["origin"], f" of {shown(value['part'])}" if value["part"] else ""
    sealed = f", sealed as {origin['sealed_root']}" if origin["sealed_root"] else ""
    return [
        f"step {value['step']}{part}, said to be of {shown(origin['recipe_name'])}, recipe"
        f" {origin['recipe_digest'][:16]}{sealed}",
        f"from state {value['state_before']} to {value['claims']['state_after']}",
    ]


def _verdict(value: Mapping[str, Json]) -> str:
    kind = value["audit"]
    if value["same"] and kind == "export-step":
        return f"written: {value['out']}"
    if value["same"] and kind == "check":
        return f"yes: step {value['step']} gives what the bundle says"
    if kind == "check":
        fields = ", ".join(row["field"] for row in value["differences"])
        return f"no: step {value['step']} does not give what the bundle says: {fields}"
    full = kind == "full"
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


_HEADS: Mapping[str, Callable[[Mapping[str, Json]], list[str]]] = {
    "full": _full_lines,
    "steps": _steps_lines,
    "export-step": _export_lines,
    "check": _check_lines,
}


def audit_lines(value: Mapping[str, Json]) -> list[str]:
    """Return the lines for the terminal."""
    lines = _HEADS[value["audit"]](value)
    return [*lines, *map(_difference, value["differences"]), _verdict(value)]
