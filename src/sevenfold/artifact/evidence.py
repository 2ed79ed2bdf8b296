"""What made a sealed file, told beside it and not in it (specs/artifact.md, "Evidence").

A root follows from recipe, data, laws and formats. Versions of libraries and kinds of machines
decide none of its bytes where a law says so, so they stand in a file of their own, which names the
root. Nothing binds that file: it is a statement of whoever wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from sevenfold.core.errors import StorageError
from sevenfold.core.files import read_bytes, write_json
from sevenfold.core.hashing import Json

SUFFIX = ".evidence.json"
VERSION = 1
MOST_BYTES = 1 << 20


def evidence_path(artifact: Path) -> Path:
    """Return where the evidence of a sealed file stands."""
    return artifact.with_name(artifact.name + SUFFIX)


def _read(path: Path) -> dict[str, Json] | None:
    """Return the evidence at `path`; None for a file that is something else."""
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return None
    try:
        value = json.loads(read_bytes(path))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get("evidence") == VERSION else None


def write_evidence(artifact: Path, root: str, tools: Mapping[str, Mapping[str, str]]) -> None:
    """Say which tools made the file with this root, by stage.

    Raises:
        StorageError: it cannot be written, or something else stands there.
    """
    path = evidence_path(artifact)
    if path.exists() and _read(path) is None:
        raise StorageError(
            "this file is not evidence that s7 wrote, and is not replaced",
            where=str(path),
            remedy="move it away",
        )
    stages: dict[str, Json] = {stage: dict(named) for stage, named in tools.items()}
    write_json(path, {"evidence": VERSION, "root": root, "tools": stages})


def recorded_tools(artifact: Path, root: str) -> dict[str, dict[str, str]]:
    """Return the tools that made the file, by stage; nothing where no
    evidence of this root is beside it.

    A file that is not evidence is passed over: it is no part of what is proved.
    """
    value = _read(evidence_path(artifact))
    tools = value.get("tools") if value is not None and value.get("root") == root else None
    if not isinstance(tools, dict):
        return {}
    return {
        stage: {name: version for name, version in named.items() if isinstance(version, str)}
        for stage, named in tools.items()
        if isinstance(named, dict)
    }
