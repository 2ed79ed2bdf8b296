"""Hostile artifacts with valid digests and a valid root: the check itself and
not a hash has to catch them.

`Parts` is a model taken apart; `pack` puts it together by `packing`, whatever it holds.
`ATTACKS` is the table: name -> (the one check it breaks, what it changes). Run this file to
write them all into a directory.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from packing import CHUNK, canonical, leaf, merkle, pack_file, pack_record, piece, sha

from sevenfold.artifact import (
    Artifact,
    Golden,
    Identity,
    ReplayRow,
    SealInput,
    Tensor,
    build_contents,
    layout,
    operation,
)

IDS = {"DICT": 1, "FIELD": 2, "LANE": 3, "EDGE": 4, "BATCH": 5}
LANE_OF = {"trace": 3, "control": 4, "graph": 4, "provenance": 4, "seal": 4, "gradient_trace": 5}
DICTIONARY = b'{"vocab":["a","b","c"]}'
PROMPT_IDS = [1, 0]


def sample_tensor(name: str, dims: tuple[int, ...], start: int) -> Tensor:
    data = (np.arange(np.prod(dims)) * 7 + start) % 255 - 127
    return Tensor(name, dims, 0.015625, data.astype(np.int8).reshape(dims))


def golden_logits(artifact: Artifact) -> str:
    """The test's stand-in for an engine: integers that depend on weights and ids, hashed."""
    embedding, head = artifact.tensors["embedding.weight"].data, artifact.tensors["lm_head.weight"].data
    logits = embedding[PROMPT_IDS].astype(np.int32) @ head.astype(np.int32).T
    return hashlib.sha256(logits.astype(">i4").tobytes()).hexdigest()


def replay(artifact: Artifact) -> list[ReplayRow]:
    """A replay callable over `golden_logits`."""
    return [
        ReplayRow(row["prompt"], row["logits_sha256"], golden_logits(artifact))
        for row in artifact.provenance["golden"]
    ]


def sample_input(*, padded: bool = False, class_: int = 1, logits: str = "", **changes: Any) -> SealInput:
    """A tiny model: vocabulary 3, width 4, one more tensor."""
    tensors = [
        sample_tensor("lm_head.weight", (3, 4), 5),
        sample_tensor("embedding.weight", (3, 4), 1),
        sample_tensor("final_norm.weight", (4,), 90),
    ]
    if not logits:
        by_name = {tensor.name: tensor.data.astype(np.int32) for tensor in tensors}
        product = by_name["embedding.weight"][PROMPT_IDS] @ by_name["lm_head.weight"].T
        logits = hashlib.sha256(product.astype(">i4").tobytes()).hexdigest()
    values: dict[str, Any] = {
        "class_": class_,
        "padded": padded,
        "dictionary": DICTIONARY,
        "tensors": tensors,
        "graph": {
            "d_model": 4,
            "operations": [
                operation("tokenize", "DATA"),
                operation("open_gate", "CONTROL"),
                operation("embed", tensor="embedding.weight"),
                operation("append_kv", writes=["FIELD"]),
                operation("head", tensor="lm_head.weight"),
            ],
        },
        "trace": [{"step": 0, "loss": 2.5}, {"step": 1, "loss": 1.25}],
        "batch": [{"step": 1, "gradient_sha256": "ab" * 32}],
        "identity": Identity(
            recipe_name="tiny",
            recipe_digest="11" * 32,
            dataset_root="22" * 32,
            tokenizer_digest=hashlib.sha256(DICTIONARY).hexdigest(),
            training_seed=7,
            code_version="0.1.0",
            facts={"licences": {"PSF-2.0": 2}},
        ),
        "golden": [Golden(prompt="ba", ids=PROMPT_IDS, n_steps=1, tokens=[2], logits_sha256=logits)],
    }
    return SealInput(**(values | changes))


@dataclass
class Parts:
    """A file taken apart. Change anything; `pack` recomputes what `bind` names, and every digest."""

    dictionary: bytes
    records: list[tuple[bytes, tuple[int, ...], float, bytes]]
    json: dict[str, Any]  # kind -> value
    order: list[str]  # DICT, FIELD and the kinds, in file order
    encode: dict[str, Callable[[Any], bytes]] = field(default_factory=dict)
    seal_patch: Callable[[dict[str, Any]], None] = lambda seal: None
    bind_data: bool = True

    @classmethod
    def sample(cls) -> Parts:
        contents = build_contents(sample_input())
        ordered = sorted(contents.tensors, key=lambda tensor: tensor.name)
        return cls(
            dictionary=contents.dictionary,
            records=[(t.name.encode(), t.dims, t.scale, t.data.tobytes()) for t in ordered],
            json=deepcopy(
                {
                    "trace": contents.trace,
                    "control": contents.control,
                    "graph": contents.graph,
                    "provenance": contents.provenance,
                    "gradient_trace": contents.batch,
                }
            ),
            order=["seal", "DICT", "FIELD", "trace", "control", "graph", "provenance", "gradient_trace"],
        )

    @property
    def operations(self) -> list[dict[str, Any]]:
        return self.json["graph"]["operations"]

    @property
    def records_of_control(self) -> list[dict[str, Any]]:
        return self.json["control"]["records"]

    def allow(self, change: str, fold: str) -> None:
        """Add a complete control record."""
        policy = layout.policy_hash()
        self.records_of_control.append(
            {
                "allow": True,
                "change": change,
                "decide_hash": layout.decide_hash(change, fold, policy),
                "policy_hash": policy,
                "target_fold": fold,
            }
        )

    def payload(self, name: str) -> bytes:
        if name == "DICT":
            return self.dictionary
        if name == "FIELD":
            return b"".join(pack_record(*record) for record in self.records)
        return self.encode.get(name, canonical)(self.json[name])

    def bind(self) -> None:
        """Data hashes as the rule asks for, for what the parts hold now."""
        trace = sha(self.payload("trace")).hex()
        recipe = self.json["provenance"]["identity"].get("recipe_digest")
        of = {"DICT": "DICT", "FIELD": "FIELD", "BATCH": "gradient_trace"}
        for entry in self.json["provenance"]["data"]:
            name = entry["lane"]
            collapse = merkle([leaf(IDS[name], self.payload(of[name]))]).hex()
            entry["trace_hash"], entry["collapse"]["hash"] = trace, collapse
            entry["seal_hash"] = layout.seal_hash(name, trace, collapse, str(recipe))

    def pack(self) -> bytes:
        """The file, all digests, seal and root valid."""
        if self.bind_data:
            self.bind()
        listed = [self.listed(name) for name in self.order if name != "seal"]
        roots = [
            merkle([sha(pack_record(*record))]) for record in self.records
        ]  # every record fits one chunk, and all are trunk
        self.json["seal"] = {
            "kind": "seal",
            "header": "53374c4d00030101",
            "chunk_bytes": CHUNK,
            "lanes": listed,
            "parts": {"trunk": merkle(roots).hex()},
        }
        self.seal_patch(self.json["seal"])
        return pack_file(self.lanes(), version=3)

    def lanes(self) -> list[tuple[int, bytes]]:
        """Ids and payloads in file order; `pack` makes the seal."""
        return [(LANE_OF.get(name, IDS.get(name, 0)), self.payload(name)) for name in self.order]

    def listed(self, name: str) -> dict[str, Any]:
        """What the seal says of a lane."""
        payload = self.payload(name)
        return {
            "id": LANE_OF.get(name, IDS.get(name)),
            "kind": name if name in LANE_OF else "",
            "n_bytes": len(payload),
            "sha256": sha(payload).hex(),
            "pieces": [piece(record[0].decode(), pack_record(*record)) for record in self.records]
            if name == "FIELD"
            else [piece("", payload)],
        }


def _swap_tensors(parts: Parts) -> None:
    parts.records.reverse()


def _scale(value: float) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        name, dims, _, data = parts.records[0]
        parts.records[0] = (name, dims, value, data)

    return change


def _spaced_json(parts: Parts) -> None:
    parts.encode["graph"] = lambda value: json.dumps(value, sort_keys=True).encode()


def _unsorted_json(parts: Parts) -> None:
    parts.json["graph"] = {"operations": parts.operations, "kind": "graph", "d_model": 4}
    parts.encode["graph"] = lambda value: json.dumps(value, separators=(",", ":")).encode()


def _infinite_json(parts: Parts) -> None:
    parts.encode["trace"] = lambda value: canonical(value).replace(b"2.5", b"1e999")


def _swap_lanes(parts: Parts) -> None:
    parts.order[2], parts.order[3] = parts.order[3], parts.order[2]


def _swap_edges(parts: Parts) -> None:
    parts.order[4], parts.order[5] = parts.order[5], parts.order[4]


def _seal_last(parts: Parts) -> None:
    parts.order.append(parts.order.pop(0))


def _fold(value: Any) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts.operations[2]["fold"] = value

    return change


def _no_fold(parts: Parts) -> None:
    del parts.operations[2]["fold"]


def _no_operations(parts: Parts) -> None:
    parts.operations.clear()
    parts.json["control"]["records"] = [
        r for r in parts.records_of_control if r["change"].startswith("store")
    ]


def _unrecorded_change(parts: Parts) -> None:
    parts.records_of_control.pop()


def _control(**changes: Any) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts.records_of_control[0].update(changes)

    return change


def _incomplete_record(parts: Parts) -> None:
    del parts.records_of_control[0]["decide_hash"]


def _record_for_nothing(parts: Parts) -> None:
    parts.allow("operation 9 erase", "COMPUTE")


def _twice_recorded(parts: Parts) -> None:
    parts.records_of_control.append(dict(parts.records_of_control[0]))


def _data(**changes: Any) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts.bind()
        parts.bind_data = False
        parts.json["provenance"]["data"][0].update(changes)

    return change


def _other_trace(parts: Parts) -> None:
    parts.bind()
    parts.bind_data = False
    parts.json["trace"]["rows"][0]["loss"] = 0.5


def _other_weights(parts: Parts) -> None:
    parts.bind()
    parts.bind_data = False
    name, dims, scale, data = parts.records[1]  # final_norm: not in the stand-in's logits
    parts.records[1] = (name, dims, scale, bytes(len(data)))


def _bare_data(parts: Parts) -> None:
    parts.json["provenance"]["data"].pop()


def _write_projection(parts: Parts) -> None:
    parts.operations.append({"op": "edit_trace", "fold": "STORAGE", "writes": ["LANE"]})
    parts.allow(f"operation {len(parts.operations) - 1} edit_trace", "STORAGE")


def _no_projection(parts: Parts) -> None:
    parts.json["trace"]["projection"] = False


def _undeclared_projection(parts: Parts) -> None:
    parts.json["control"]["projections"] = []


def _rebound(parts: Parts) -> None:
    parts.json["control"]["bindings"]["FIELD"] = "STORAGE"


def _write_other_lane(parts: Parts) -> None:
    parts.operations.append({"op": "grow_vocabulary", "fold": "COMPUTE", "writes": ["DICT"]})
    parts.allow(f"operation {len(parts.operations) - 1} grow_vocabulary", "COMPUTE")


def _write_unknown_lane(parts: Parts) -> None:
    parts.operations.append({"op": "leak", "fold": "COMPUTE", "writes": ["NETWORK"]})
    parts.allow(f"operation {len(parts.operations) - 1} leak", "COMPUTE")


def _other_target(parts: Parts) -> None:
    record = parts.records_of_control[0]
    record["target_fold"] = "STORAGE"
    record["decide_hash"] = layout.decide_hash(record["change"], "STORAGE", record["policy_hash"])


def _golden(**changes: Any) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts.json["provenance"]["golden"][0].update(changes)

    return change


def _no_golden(parts: Parts) -> None:
    parts.json["provenance"]["golden"] = []


def _provenance(**changes: Any) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        parts.json["provenance"].update(changes)

    return change


def _identity(**changes: Any) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        identity = parts.json["provenance"]["identity"]
        identity.update(changes)
        parts.json["provenance"]["meta_hash"] = layout.meta_hash(identity)

    return change


def _unbound_identity(parts: Parts) -> None:
    parts.json["provenance"]["identity"]["training_seed"] = 8


def _other_rules(parts: Parts) -> None:
    record = parts.records_of_control[0]
    record["policy_hash"] = "ee" * 32
    record["decide_hash"] = layout.decide_hash(record["change"], record["target_fold"], "ee" * 32)


def _chunk_forged(parts: Parts) -> None:
    parts.seal_patch = lambda seal: seal["lanes"][1]["pieces"][1].update(chunks="ee" * 32)


def _piece_renamed(parts: Parts) -> None:
    parts.seal_patch = lambda seal: seal["lanes"][1]["pieces"][1].update(name="expert")


def _part_forged(parts: Parts) -> None:
    parts.seal_patch = lambda seal: seal["parts"].update(trunk="ee" * 32)


def _part_invented(parts: Parts) -> None:
    parts.seal_patch = lambda seal: seal["parts"].update({"expert.7": "ee" * 32})


ATTACKS: dict[str, tuple[str, Callable[[Parts], None]]] = {
    "tensors_out_of_order": ("V0", _swap_tensors),
    "nan_scale": ("V0", _scale(float("nan"))),
    "infinite_scale": ("V0", _scale(float("inf"))),
    "json_with_spaces": ("V0", _spaced_json),
    "json_keys_unsorted": ("V0", _unsorted_json),
    "json_infinite_number": ("V0", _infinite_json),
    "lanes_out_of_order": ("V0", _swap_lanes),
    "edges_out_of_order": ("V0", _swap_edges),
    "seal_not_first": ("V0", _seal_last),
    "two_folds": ("V1", _fold(["COMPUTE", "STORAGE"])),
    "unknown_fold": ("V1", _fold("NETWORK")),
    "no_fold": ("V1", _no_fold),
    "no_operations": ("V1", _no_operations),
    "change_without_record": ("V2", _unrecorded_change),
    "record_denies": ("V2", _control(allow=False)),
    "record_allows_with_text": ("V2", _control(allow="true")),
    "forged_decide_hash": ("V2", _control(decide_hash="ee" * 32)),
    "incomplete_record": ("V2", _incomplete_record),
    "record_for_nothing": ("V2", _record_for_nothing),
    "change_recorded_twice": ("V2", _twice_recorded),
    "trace_swapped": ("V3", _other_trace),
    "weights_swapped": ("V3", _other_weights),
    "forged_seal_hash": ("V3", _data(seal_hash="ee" * 32)),
    "not_marked_stored": ("V3", _data(stored=False)),
    "data_without_hashes": ("V3", _bare_data),
    "operation_writes_projection": ("V4", _write_projection),
    "trace_is_no_projection": ("V4", _no_projection),
    "projection_not_declared": ("V4", _undeclared_projection),
    "lane_rebound": ("V5", _rebound),
    "operation_writes_other_fold": ("V5", _write_other_lane),
    "operation_writes_unknown_lane": ("V5", _write_unknown_lane),
    "record_targets_other_fold": ("V5", _other_target),
    "golden_logits_forged": ("V6", _golden(logits_sha256="ee" * 32)),
    "golden_tokens_missing": ("V6", _golden(tokens=[])),
    "no_golden_logits": ("V6", _no_golden),
    "chunk_hash_forged": ("V6", _chunk_forged),
    "record_renamed_in_seal": ("V6", _piece_renamed),
    "sub_root_forged": ("V6", _part_forged),
    "part_without_records": ("V6", _part_invented),
    "other_abi": ("V7", _provenance(abi_hash="ee" * 32)),
    "other_policy": ("V7", _provenance(policy_hash="ee" * 32)),
    "identity_not_bound": ("V7", _unbound_identity),
    "anonymous": ("V7", _identity(recipe_name="")),
    "other_tokenizer": ("V7", _identity(tokenizer_digest="33" * 32)),
    "no_dataset_root": ("V7", _identity(dataset_root=None)),
    "seed_is_text": ("V7", _identity(training_seed="7")),
    "record_under_other_rules": ("V7", _other_rules),
}


def build(name: str) -> bytes:
    """The bytes of one attack."""
    parts = Parts.sample()
    ATTACKS[name][1](parts)
    return parts.pack()


def main(directory: str) -> None:
    """Write every attack into `directory`, to try other readers on."""
    out = Path(directory)
    out.mkdir(parents=True, exist_ok=True)
    for name, (check, _) in ATTACKS.items():
        (out / f"{check.lower()}_{name}.s7l").write_bytes(build(name))


if __name__ == "__main__":
    main(sys.argv[1])
