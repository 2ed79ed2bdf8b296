"""Print the outcome of an audit: what was done, what differs, and the verdict as the last line."""

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


def _reproduce_lines(value: Mapping[str, Json]) -> list[str]:
    given = [f"taken as given: {', '.join(value['given'])}"] if value["given"] else []
    written = [f"statement: {value['statement']}"] if value["statement"] else []
    return [*given, *_full_lines(value), *written]


def _dispute_lines(value: Mapping[str, Json]) -> list[str]:
    lines = []
    if value["agreed_step"] is not None:
        lines.append(f"both have the state after step {value['agreed_step']}")
    operator, elements = value["operator"], value["elements"]
    if operator is not None:
        lines.append(f"operator {operator['name']}{_of(operator)}")
        lines += [f"  input {shown(name)} {shown(hash_)}" for name, hash_ in operator["inputs"].items()]
        for side, outputs in operator["outputs"].items():
            rows = outputs.items() if isinstance(outputs, Mapping) else ()
            lines += [f"  {side}: output {shown(name)} {shown(hash_)}" for name, hash_ in rows]
    if elements is not None:
        lines.append(
            f"output {elements['output']}: {elements['n_different']} elements differ,"
            f" {len(elements['checked'])} asked of the oracle"
        )
        lines += [
            f"  element {row['index']}: here {row['here']}, {elements['told_by']} {row['told']},"
            f" oracle {shown(row['oracle'])}"
            for row in elements["checked"][:3]
        ]
    return [*lines, *(f"wanted of {shown(text)}" for text in value["wanted"])]


def _of(operator: Mapping[str, Json]) -> str:
    return f" of {shown(operator['parameter'])}" if "parameter" in operator else ""


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
    if kind == "dispute":
        upheld = {None: "", "open": "", "neither": "; neither side is upheld"}
        where = "" if value["step"] is None else f", step {value['step']}"
        verdict = upheld.get(value["upheld"], f"; {value['upheld']} is upheld")
        return f"{value['place']}{where}: {shown(value['reason'], 600)}{verdict}"
    if value["same"] and kind == "export-step":
        return f"written: {value['out']}"
    if value["same"] and kind == "check":
        return f"yes: step {value['step']} gives what the bundle says"
    if kind == "check":
        fields = ", ".join(row["field"] for row in value["differences"])
        return f"no: step {value['step']} does not give what the bundle says: {fields}"
    full = kind in ("full", "reproduce")
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
    "reproduce": _reproduce_lines,
    "dispute": _dispute_lines,
}


def audit_lines(value: Mapping[str, Json]) -> list[str]:
    """Return the lines for the terminal."""
    lines = _HEADS[value["audit"]](value)
    return [*lines, *map(_difference, value.get("differences", ())), _verdict(value)]
