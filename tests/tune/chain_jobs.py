"""A tuning in two phases: answers, then pairs of answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuning_jobs import tuned

from sevenfold.core.hashing import sha256
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job

# That of the parent's context: a row holds both answers of a pair.
SEQUENCE = 128
KINDS = ("correctness", "brevity", "tool_choice", "harmlessness")


def pairs(count: int = 48) -> bytes:
    """Pairs of answers, one in seven after two turns."""
    rows: list[dict[str, Any]] = []
    for n in range(count):
        answers = {"chosen": f"{n + 2}", "rejected": f"no {n}", "kind": KINDS[n % 4]}
        if n % 7:
            rows.append({"instruction": f"{n}+2?", **answers})
        else:
            said = (("user", f"Say {n}."), ("assistant", f"{n}"), ("user", "+2?"))
            rows.append({"messages": [{"role": role, "content": text} for role, text in said], **answers})
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def chained(parent: Job, out: Path, data: bytes | None = None, **preferences: Any) -> Job:
    """A job of 6 steps of answers and 8 of pairs; `preferences` changes the loss of pairs."""
    data = pairs() if data is None else data
    first = tuned(parent, out)
    (first.recipe_dir / "choices.jsonl").write_bytes(data)
    values = first.recipe.model_dump(by_alias=True)
    values["train"] |= {"tokens": 14 * 5 * SEQUENCE, "sequence": SEQUENCE}
    file = {"path": "choices.jsonl", "sha256": sha256(data).hex(), "licence": "CC0-1.0"}
    values["tune"] = (
        values["tune"] | {"name": "answers", "tokens": 6 * 5 * SEQUENCE},
        {
            "name": "choices",
            "tokens": 8 * 5 * SEQUENCE,
            "learning_rate": 0.001,
            "files": (file,),
            "too_long": "leave_out",
            "pretraining": 0.0,
            "max_bpb_increase": 0.5,
            "preferences": {"beta": 0.5, "holdout": 4, "min_win_increase": -1.0} | preferences,
        },
    )
    return replace(first, recipe=Recipe(**values))
