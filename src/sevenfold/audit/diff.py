"""Compare two sealed files and describe the differences for people (specs/audit.md, "Diff").

Where a seal binds the bytes, equal roots mean equal bytes. Files of the published contract have no
seal, so header and lanes are compared as well. Cost: one pass over the tensors of both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from sevenfold.artifact import Artifact, Tensor, training_values
from sevenfold.core.changes import changes
from sevenfold.core.hashing import Json, finite
from sevenfold.release.statements import recorded_tools

HEADER = ("version", "class_", "flags", "n_bytes")
FACT_SECTIONS = ("recipe", "corpus", "roots", "train", "quantize")


def _lanes(artifact: Artifact) -> dict[str, dict[str, Json]]:
    seen: Counter[str] = Counter()
    lanes = {}
    for lane in artifact.lanes:
        label = f"{lane.name} {lane.kind}".strip()
        seen[label] += 1
        name = label if seen[label] == 1 else f"{label} #{seen[label]}"
        lanes[name] = {"n_bytes": lane.n_bytes, "sha256": lane.sha256}
    return lanes


def _lane_changes(a: Artifact, b: Artifact) -> list[dict[str, Json]]:
    left, right = _lanes(a), _lanes(b)
    names = [*left, *(name for name in right if name not in left)]
    return [
        {"lane": name, "a": left.get(name), "b": right.get(name)}
        for name in names
        if left.get(name) != right.get(name)
    ]


def _tensor_change(a: Tensor | None, b: Tensor | None) -> dict[str, Json] | None:
    row: dict[str, Json] = {
        "dims": [list(t.dims) if t else None for t in (a, b)],
        "scales": [finite(t.scale) if t else None for t in (a, b)],
    }
    if a is None or b is None:
        return {"status": "only in B" if a is None else "only in A", **row}
    if a.dims != b.dims:
        return {"status": "shape", **row}
    if a.training:
        return _float_change(a, b, row)
    distance = np.abs(a.data.astype(np.int16) - b.data.astype(np.int16))
    n_different = int(np.count_nonzero(distance))
    if not n_different and np.float32(a.scale).tobytes() == np.float32(b.scale).tobytes():
        return None
    return {
        "status": "codes" if n_different else "scale",
        **row,
        "n_codes": a.numel,
        "n_different": n_different,
        "largest": int(distance.max(initial=0)),
    }


def _float_change(a: Tensor, b: Tensor, row: dict[str, Json]) -> dict[str, Json] | None:
    left, right = training_values(a), training_values(b)
    # Bits are compared, so NaN equals itself.
    n_different = int(np.count_nonzero(left.view(np.uint32) != right.view(np.uint32)))
    if not n_different:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        largest = float(np.abs(left - right).max(initial=0))
    return {
        "status": "floats",
        **row,
        "n_codes": left.size,
        "n_different": n_different,
        "largest": finite(largest),
    }


def _tensor_changes(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[dict[str, Json]]:
    rows = []
    for name in sorted(a.keys() | b.keys()):
        change = _tensor_change(a.get(name), b.get(name))
        if change:
            rows.append({"name": name, **change})
    return rows


def _identity(artifact: Artifact) -> tuple[dict[str, Json], dict[str, Json]]:
    identity = artifact.provenance.get("identity")
    identity = identity if isinstance(identity, dict) else {}
    facts = identity.get("facts")
    scalars = {key: value for key, value in identity.items() if key != "facts"}
    return scalars, facts if isinstance(facts, dict) else {}


def _tools(artifact: Artifact) -> dict[str, Json]:
    """Return the tools that made the file, if evidence beside it names them."""
    return dict(recorded_tools(artifact.path, artifact.root))


def _golden(artifact: Artifact) -> dict[str, Json]:
    rows = artifact.provenance.get("golden")
    rows = rows if isinstance(rows, list) else []
    return {str(index): row for index, row in enumerate(rows)}


def diff(a: Artifact, b: Artifact) -> dict[str, Json]:
    """Return all differences, by part of the file. `equal` says whether the bytes are equal."""
    (identity_a, facts_a), (identity_b, facts_b) = _identity(a), _identity(b)
    other_a = {k: v for k, v in facts_a.items() if k not in FACT_SECTIONS}
    other_b = {k: v for k, v in facts_b.items() if k not in FACT_SECTIONS}
    hashes = ("abi_hash", "policy_hash")
    return {
        "equal": a.contents_id == b.contents_id,
        "a": {"path": str(a.path), "root": a.root},
        "b": {"path": str(b.path), "root": b.root},
        "header": changes(
            {name.rstrip("_"): getattr(a, name) for name in HEADER},
            {name.rstrip("_"): getattr(b, name) for name in HEADER},
        ),
        "lanes": _lane_changes(a, b),
        "tensors": _tensor_changes(a.tensors, b.tensors),
        **{name: changes(facts_a.get(name, {}), facts_b.get(name, {})) for name in FACT_SECTIONS},
        "tools": changes(_tools(a), _tools(b)),
        "identity": changes(
            {**identity_a, "facts": other_a, **{k: a.provenance.get(k) for k in hashes}},
            {**identity_b, "facts": other_b, **{k: b.provenance.get(k) for k in hashes}},
        ),
        "graph": changes(dict(a.graph), dict(b.graph)),
        "golden": changes(_golden(a), _golden(b)),
    }
