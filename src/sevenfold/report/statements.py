"""The statements beside a sealed file, for people: who says what, and whether the signature holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from sevenfold.core.hashing import Json
from sevenfold.report.lineage import shown


def _at(value: Json, *keys: str) -> Json:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _machine(says: Json) -> str:
    machine = _at(says, "machine") or _at(says, "buildDefinition", "internalParameters", "machine")
    wanted = (_at(machine, "processor"), _at(machine, "kernel"), _at(machine, "python"))
    return ", ".join(shown(value, 60) for value in wanted if value) or "a machine that is not named"


def _line(row: Mapping[str, Json]) -> str:
    kind, says = row["kind"], row["says"]
    what = {"provenance": "made on", "reproduction": "made again, the same root, on"}.get(kind)
    text = f"{what} {_machine(says)}" if what else shown(kind, 120)
    given = _at(says, "given")
    if kind == "reproduction" and given:
        text += f"; taken as given: {shown(given, 80)}"
    signers = ", ".join(key[:16] for key in row["signed_by"])
    signature = {
        "holds": f"signed by {', '.join(key[:16] for key in row['checked'])}, which holds",
        "not checked": f"signed by {signers}, not checked: no --statement-key of it",
        "none": "not signed",
    }[row["signature"]]
    return f"statement {shown(PurePath(row['path']).name, 200)}: {text}; {signature}"


def statement_lines(value: Mapping[str, Json], *, is_verified: bool) -> list[str]:
    """Return a line for each statement. The last says what refused ones mean for the file."""
    lines = [_line(row) for row in value["statements"]]
    refused = value["refused_statements"]
    lines += [f"refused {shown(PurePath(r['path']).name, 200)}: {shown(r['why'], 300)}" for r in refused]
    if refused:
        verdict = "is verified" if is_verified else "is not verified"
        lines.append(f"the model {verdict}; statements beside it that are refused: {len(refused)}")
    return lines


def print_statements(value: Mapping[str, Json], *, is_verified: bool) -> None:
    """Print these lines."""
    for line in statement_lines(value, is_verified=is_verified):
        print(line)
