"""Conversations, and jobs that tune a sealed model on them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from sevenfold.core.hashing import sha256
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job

SEQUENCE = 96


def lines(count: int = 40) -> bytes:
    """Short pairs, some in the form of messages with two answers."""
    rows: list[dict[str, Any]] = []
    for n in range(count):
        if n % 4:
            rows.append({"instruction": f"Add {n} and 2.", "response": f"{n + 2}"})
        else:
            said = (("user", f"Say {n}."), ("assistant", f"{n}"), ("user", "Again."), ("assistant", f"{n}!"))
            rows.append({"messages": [{"role": role, "content": text} for role, text in said]})
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def tuned(parent: Job, out: Path, data: bytes | None = None, **changes: Any) -> Job:
    """A job that tunes `parent` on a file of conversations beside its recipe; 12 steps."""
    data = lines() if data is None else data
    place = out.parent / f"{out.name}-recipe"
    shutil.copytree(parent.recipe_dir / "code", place / "code", dirs_exist_ok=True)
    (place / "pairs.jsonl").write_bytes(data)
    root = parent.manifest("seal").facts["root"]
    values = parent.recipe.model_dump(by_alias=True) | {"name": "tiny-tuned"}
    values["train"] |= {
        "from": {"name": "tiny-parent", "root": root},
        "tokens": 12 * 5 * SEQUENCE,
        "batch_sequences": 5,
        "sequence": SEQUENCE,
        "packing": "documents",
        "learning_rate": 0.002,
        "checkpoint_every": 5,
    }
    file = {"path": "pairs.jsonl", "sha256": sha256(data).hex(), "licence": "CC0-1.0"}
    values["tune"] = {"files": (file,), "max_bpb_increase": 0.2} | changes
    return replace(
        parent, recipe=Recipe(**values), out=out, recipe_dir=place, trunks=(parent.out / "model.s7l",)
    )
