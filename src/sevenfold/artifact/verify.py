"""Run the checks V0 to V7 on a file that the reader accepted (specs/verification.md).

The reader has proved bytes, digests and root. These checks test whether the meaning of the bytes
follows the rules. A file with valid hashes can fail each of them. Every check is a function
`check(artifact, replay) -> detail` that raises `_Failed` or `_Skipped`, and it is total over
hostile JSON. Cost: V6 hashes the file once more, on every core, and runs the golden prompts when
`replay` is given. The other checks are O(JSON + tensors).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from sevenfold.artifact import layout
from sevenfold.artifact.binding import NOT_BOUND
from sevenfold.artifact.frames import Lane
from sevenfold.artifact.json_lane import shown
from sevenfold.artifact.pieces.partial import check_everything
from sevenfold.artifact.reader import Artifact, open_artifact
from sevenfold.core.errors import ArtifactError, SevenfoldError
from sevenfold.core.hashing import Json, canonical_json, is_canonical, sha256
from sevenfold.core.merkle import merkle_root

# Characters in the detail of a row.
MAX_DETAIL = 400


@dataclass(frozen=True)
class ReplayRow:
    """The replay of one golden prompt: the sealed and the computed text, which are equal when the
    runs are.
    """

    name: str
    expected: str
    actual: str

    @property
    def ok(self) -> bool:
        """Return whether the run gave the sealed result."""
        return self.expected == self.actual


Replay = Callable[[Artifact], Sequence[ReplayRow]]


@dataclass(frozen=True)
class RuleResult:
    """The result of one check. `status` is "pass", "fail" or "skipped"."""

    id: str
    title: str
    status: str
    detail: str


@dataclass(frozen=True)
class Verification:
    """The results of all checks."""

    path: str
    root: str
    rows: tuple[RuleResult, ...]
    # Remarks for the reader of the table; empty for a sealed file.
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Return whether no check failed. A skipped check has not failed."""
        return all(row.status != "fail" for row in self.rows)

    def as_json(self) -> dict[str, Json]:
        """Return the table as JSON, for scripts."""
        return {
            "path": self.path,
            "root": self.root,
            "ok": self.ok,
            "rows": [
                {"id": row.id, "title": row.title, "status": row.status, "detail": row.detail}
                for row in self.rows
            ],
        } | ({"notes": list(self.notes)} if self.notes else {})


class _Failed(Exception):  # noqa: N818 - control flow: the verdict of a check, with its detail
    pass


class _Skipped(Exception):  # noqa: N818 - same
    pass


def _need(condition: bool, detail: str) -> None:
    if not condition:
        raise _Failed(detail)


def _list_of_objects(owner: dict[str, Json], key: str, where: str) -> list[dict[str, Json]]:
    value = owner.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _Failed(f"{where} has no list of objects {key!r}")
    return value


def _object(owner: dict[str, Json], key: str, where: str) -> dict[str, Json]:
    value = owner.get(key)
    if not isinstance(value, dict):
        raise _Failed(f"{where} has no object {key!r}")
    return value


def _is_digest(value: Json) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _operations(artifact: Artifact) -> list[dict[str, Json]]:
    return _list_of_objects(artifact.graph, "operations", "EDGE graph")


def _writes(operation: dict[str, Json]) -> list[Json]:
    value = operation.get("writes", [])
    return value if isinstance(value, list) else [value]


def _stored(artifact: Artifact) -> list[str]:
    """Return the names of the lanes that are not empty."""
    return sorted({lane.name for lane in artifact.lanes if lane.n_bytes})


def v0_canonical_order(artifact: Artifact, _: Replay | None) -> str:
    """Check V0: tensors by name, lanes by id, EDGE by kind, canonical JSON bytes, no NaN or
    infinity.
    """
    for left, right in pairwise(artifact.records):
        _need(left.encode() < right.encode(), f"FIELD: tensor {right!r} stands after {left!r}")
    for record in artifact.records.values():
        _need(math.isfinite(record.scale), f"FIELD: the scale of {record.name!r} is {record.scale}")
    for before, lane in pairwise(artifact.lanes):
        in_order = layout.file_order(before.id, before.kind) <= layout.file_order(lane.id, lane.kind)
        _need(in_order, f"{lane.where} stands after a lane of a higher id or kind")
    for lane in artifact.lanes:
        if lane.kind:
            _check_canonical(artifact, lane)
    return f"{len(artifact.records)} tensors and {len(artifact.lanes)} lanes in order, JSON canonical"


def _check_canonical(artifact: Artifact, lane: Lane) -> None:
    value = artifact.json[lane.kind]
    if is_canonical(value, artifact.payload(lane)):
        return
    try:
        canonical_json(value)
    except ValueError as error:
        raise _Failed(f"{lane.where}: {error}") from error
    raise _Failed(f"{lane.where}: the {lane.kind} JSON is not in canonical form")


def v1_one_fold(artifact: Artifact, _: Replay | None) -> str:
    """Check V1: every operation of the graph names exactly one known fold."""
    operations = _operations(artifact)
    _need(bool(operations), "EDGE graph has no operations")
    for index, operation in enumerate(operations):
        name, fold = operation.get("op"), operation.get("fold")
        _need(isinstance(name, str) and bool(name), f"operation {index} has no name")
        _need(
            isinstance(fold, str), f"operation {index} ({name}) names {fold!r}, exactly one fold is asked for"
        )
        _need(fold in layout.FOLDS, f"operation {index} ({name}) names the unknown fold {fold!r}")
    return f"{len(operations)} operations, one fold each"


def v2_control_records(artifact: Artifact, _: Replay | None) -> str:
    """Check V2: every state change has one complete control record that allows it."""
    records = _list_of_objects(artifact.control, "records", "EDGE control")
    changes = layout.state_changes(_stored(artifact), _operations(artifact))
    seen: set[str] = set()
    for index, record in enumerate(records):
        where = f"control record {index}"
        _need(sorted(record) == list(layout.CONTROL_FIELDS), f"{where} has the fields {sorted(record)}")
        change, fold, policy = record["change"], record["target_fold"], record["policy_hash"]
        _need(
            isinstance(change, str) and change in changes,
            f"{where} is about {change!r}, which the file does not do",
        )
        _need(change not in seen, f"{where}: {change!r} has a record already")
        _need(record["allow"] is True, f"{where} does not allow {change!r}")
        _need(isinstance(fold, str) and fold in layout.FOLDS, f"{where} has the target fold {fold!r}")
        _need(_is_digest(policy), f"{where} has no policy_hash")
        _need(
            record["decide_hash"] == layout.decide_hash(change, fold, policy),
            f"{where}: decide_hash is not that of {change!r} into {fold}",
        )
        seen.add(change)
    missing = sorted(set(changes) - seen)
    _need(not missing, f"no control record for {missing[0] if missing else ''!r}")
    return f"{len(seen)} state changes, each decided and allowed"


def v3_data_hashes(artifact: Artifact, _: Replay | None) -> str:
    """Check V3: data that training changed carries trace_hash, collapse.hash and, if stored,
    seal_hash.
    """
    entries = _list_of_objects(artifact.provenance, "data", "EDGE provenance")
    lanes = {name: [lane for lane in artifact.lanes if lane.name == name] for name in layout.DATA_LANES}
    trace = next((lane.sha256 for lane in artifact.lanes if lane.name == "LANE"), None)
    recipe = artifact.provenance.get("identity", {})
    recipe = recipe.get("recipe_digest") if isinstance(recipe, dict) else None
    seen: list[Json] = []
    for entry in entries:
        name = entry.get("lane")
        _need(
            isinstance(name, str) and bool(lanes.get(name)),
            f"data entry for {name!r}, which the file does not hold",
        )
        _need(name not in seen, f"data entry for {name} twice")
        seen.append(name)
        leaves = [lane.leaf for lane in lanes[str(name)]]
        collapse = _object(entry, "collapse", f"data entry for {name}").get("hash")
        _need(
            entry.get("trace_hash") == trace and trace is not None,
            f"{name}: trace_hash is not that of the LANE payload",
        )
        _need(collapse == merkle_root(leaves).hex(), f"{name}: collapse.hash is not that of its lanes")
        _need(entry.get("stored") is True, f"{name}: not marked as stored")
        _need(
            entry.get("seal_hash") == layout.seal_hash(str(name), str(trace), str(collapse), str(recipe)),
            f"{name}: seal_hash does not bind the data to this trace and recipe",
        )
    bare = [name for name in _stored(artifact) if name in layout.DATA_LANES and name not in seen]
    _need(not bare, f"{', '.join(bare)}: stored without trace_hash, collapse.hash and seal_hash")
    return f"{', '.join(map(str, seen))} bound to the training trace"


def v4_projections(artifact: Artifact, _: Replay | None) -> str:
    """Check V4: every projection is declared, and no operation writes one."""
    declared = artifact.control.get("projections")
    _need(declared == list(layout.PROJECTIONS), f"EDGE control declares the projections {declared!r}")
    if "LANE" in _stored(artifact):
        _need(
            artifact.trace.get("projection") is True, "the LANE payload does not say that it is a projection"
        )
    for index, operation in enumerate(_operations(artifact)):
        written = [name for name in _writes(operation) if name in layout.PROJECTIONS]
        _need(
            not written, f"operation {index} ({operation.get('op')}) writes {written}, which is a projection"
        )
    return f"{', '.join(layout.PROJECTIONS)} is written by no operation{_mode_note(artifact.path)}"


def _mode_note(path: Path) -> str:
    try:
        writable = path.stat().st_mode & 0o222
    except OSError:
        return ""
    return "; note: the file itself is writable (sealed files are 0444)" if writable else ""


def v5_fold_lane_map(artifact: Artifact, _: Replay | None) -> str:
    """Check V5: lanes are bound to folds by the fixed map, and an operation writes only lanes of
    its own fold.
    """
    bindings = artifact.control.get("bindings")
    _need(
        bindings == dict(layout.LANE_FOLDS),
        f"EDGE control binds {bindings!r}, the map is {dict(layout.LANE_FOLDS)}",
    )
    operations = _operations(artifact)
    for index, operation in enumerate(operations):
        for name in _writes(operation):
            fold = layout.LANE_FOLDS.get(name) if isinstance(name, str) else None
            _need(
                fold is not None,
                f"operation {index} ({operation.get('op')}) writes the unknown lane {name!r}",
            )
            _need(
                fold == operation.get("fold"),
                f"operation {index} ({operation.get('op')}) of fold {operation.get('fold')!r} writes {name}, "
                f"which is bound to {fold}",
            )
    changes = layout.state_changes(_stored(artifact), operations)
    for record in _list_of_objects(artifact.control, "records", "EDGE control"):
        change, target = record.get("change"), record.get("target_fold")
        bound = changes.get(change) if isinstance(change, str) else None
        _need(
            bound is None or target == bound, f"{change!r} targets {target!r}, its lane is bound to {bound}"
        )
    return f"{len(layout.LANE_FOLDS)} lanes bound as the map says"


def v6_replay(artifact: Artifact, replay: Replay | None) -> str:
    """Check V6: the bytes give the same chunks, parts and root, and the golden prompts give the
    same logits.
    """
    try:
        again = check_everything(artifact)
    except ArtifactError as error:
        raise _Failed(str(error)) from error
    golden = _list_of_objects(artifact.provenance, "golden", "EDGE provenance")
    _need(bool(golden), "no golden logits travel with the model")
    for index, row in enumerate(golden):
        _check_golden(index, row)
    if replay is None:
        raise _Skipped(f"{again}: the same; {len(golden)} golden prompts not replayed (--replay runs them)")
    try:
        rows = replay(artifact)
    except SevenfoldError as error:
        raise _Failed(f"the golden prompts cannot be replayed: {error}") from error
    _need(len(rows) >= len(golden), f"{len(rows)} of {len(golden)} golden prompts were replayed")
    for result in rows:
        _need(result.ok, f"{result.name}: sealed {result.expected}, replayed {result.actual}")
    return f"{again}: the same; {len(rows)} golden replays, logits the same bit for bit"


def _check_golden(index: int, row: dict[str, Json]) -> None:
    where = f"golden prompt {index}"
    steps, tokens, ids = row.get("n_steps"), row.get("tokens"), row.get("ids")
    _need(isinstance(row.get("prompt"), str), f"{where} has no text")
    _need(_is_ids(ids) and bool(ids), f"{where} has no token ids")
    _need(type(steps) is int and steps >= 1, f"{where} has the step count {steps!r}")
    _need(isinstance(tokens, list) and len(tokens) == steps, f"{where} has not one token for each step")
    _need(_is_ids(tokens), f"{where} has tokens that are no ids")
    _need(_is_digest(row.get("logits_sha256")), f"{where} has no logits_sha256")


def _is_ids(value: Json) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def v7_formats_and_rules(artifact: Artifact, _: Replay | None) -> str:
    """Check V7: abi_hash, policy_hash and meta_hash are those of this format, these rules and this
    identity (D6).
    """
    provenance = artifact.provenance
    _need(bool(provenance), "no provenance: an anonymous model (rule D6)")
    abi, policy = layout.abi_hash(), layout.policy_hash()
    _need(
        provenance.get("abi_hash") == abi,
        f"abi_hash is {provenance.get('abi_hash')!r}, this format's is {abi}",
    )
    _need(
        provenance.get("policy_hash") == policy,
        f"policy_hash is {provenance.get('policy_hash')!r}, these rules' is {policy}",
    )
    for record in _list_of_objects(artifact.control, "records", "EDGE control"):
        _need(
            record.get("policy_hash") == policy,
            f"the record of {record.get('change')!r} was made under other rules",
        )
    identity = _object(provenance, "identity", "EDGE provenance")
    _check_identity(identity)
    _need(
        identity["tokenizer_digest"] == sha256(artifact.dictionary).hex(),
        "tokenizer_digest is not the SHA-256 of the DICT payload",
    )
    try:
        meta = layout.meta_hash(identity)
    except ValueError as error:
        raise _Failed(f"identity: {error}") from error
    _need(provenance.get("meta_hash") == meta, "meta_hash is not that of the identity")
    return (
        f"recipe {identity['recipe_name']} {identity['recipe_digest'][:12]}, code {identity['code_version']}"
    )


def _check_identity(identity: dict[str, Json]) -> None:
    for name in layout.IDENTITY_DIGESTS:
        _need(_is_digest(identity.get(name)), f"identity: {name} is {identity.get(name)!r}, not a SHA-256")
    for name in ("code_version", "recipe_name"):
        value = identity.get(name)
        _need(isinstance(value, str) and bool(value), f"identity: {name} is {value!r}")
    seed = identity.get("training_seed")
    _need(type(seed) is int and seed >= 0, f"identity: training_seed is {seed!r}")


@dataclass(frozen=True)
class VerificationRule:
    """One row of the table in specs/verification.md."""

    id: str
    title: str
    run: Callable[[Artifact, Replay | None], str]


CHECKS = (
    VerificationRule("V0", "canonical order", v0_canonical_order),
    VerificationRule("V1", "one fold per operation", v1_one_fold),
    VerificationRule("V2", "control records", v2_control_records),
    VerificationRule("V3", "data hashes", v3_data_hashes),
    VerificationRule("V4", "read-only projections", v4_projections),
    VerificationRule("V5", "fold to lane map", v5_fold_lane_map),
    VerificationRule("V6", "replay", v6_replay),
    VerificationRule("V7", "formats and rules", v7_formats_and_rules),
)


def run_check(check: VerificationRule, artifact: Artifact, replay: Replay | None = None) -> RuleResult:
    """Return the result of one check. Nothing in the file makes it raise."""
    if artifact.header_only:
        return RuleResult(
            check.id,
            check.title,
            "fail",
            "a header-only file: it holds nothing to check (zero bootstrap, A11)",
        )
    if artifact.published and check.id != "V0":
        return RuleResult(
            check.id,
            check.title,
            "fail",
            f"a version {artifact.version} file of the published contract: it has no seal, so nothing binds"
            " what this rule reads",
        )
    try:
        status, detail = "pass", check.run(artifact, replay)
    except _Failed as error:
        status, detail = "fail", str(error)
    except _Skipped as error:
        status, detail = "skipped", str(error)
    return RuleResult(check.id, check.title, status, shown(detail, MAX_DETAIL))


def published_notes(version: int, n_lanes: int) -> list[str]:
    """Return what a correct root of a published file proves, and what it does not."""
    holds = "the digest of every lane holds, and so does the root over them"
    said = (
        f"published contract, version {version}:"
        f" {holds if n_lanes else 'no lanes, and the root is that of none'}"
    )
    return [said, *(f"not bound: {text}" for text in NOT_BOUND)]


def verify(artifact: Artifact, replay: Replay | None = None) -> Verification:
    """Run V0 to V7.

    Args:
        artifact: an artifact of the reader; it is proved here if it was only opened.
        replay: runs the golden prompts and returns one row for each prompt (and backend). Without
            it V6 does not run them.

    Raises:
        ArtifactError: a FIELD payload was changed, or its records are malformed.
    """
    with ThreadPoolExecutor(1) as pool:
        # The digest of a lane is one chain, so it has a thread of its own beside those of V6.
        proved = pool.submit(artifact.prove)
        try:
            rows = tuple(run_check(check, artifact, replay) for check in CHECKS)
        finally:
            # An error of this proof takes precedence over what a check found in unproved bytes.
            proved.result()
    notes = published_notes(artifact.version, len(artifact.lanes)) if artifact.published else []
    return Verification(str(artifact.path), artifact.root, rows, tuple(notes))


def verify_file(path: Path | str, replay: Replay | None = None) -> Verification:
    """Read a file and run V0 to V7.

    Raises:
        ArtifactError: the reader refuses the file (the message names the lane and the offset).
        StorageError: the file cannot be read.
    """
    return verify(open_artifact(path), replay)
