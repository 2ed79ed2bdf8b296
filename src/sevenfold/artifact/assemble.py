"""Assemble the contents of a file: control records, data hashes and provenance.

The caller gives the tensors, the graph and the provenance of the model. This module computes
everything else that rules V2 to V7 require. Cost: one SHA-256 pass over the tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sevenfold.artifact import layout
from sevenfold.artifact.errors import ContentsError
from sevenfold.artifact.json_lane import encode_json
from sevenfold.artifact.records import Tensor
from sevenfold.artifact.writer import Contents, LanePlan, plan_fields, plan_json, plan_lane
from sevenfold.core.hashing import Json
from sevenfold.core.merkle import merkle_root


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The origin of the model (D6).

    Every digest has 64 hex digits. `facts` has no fixed keys; it holds sources and licences.
    """

    recipe_name: str
    recipe_digest: str
    dataset_root: str
    tokenizer_digest: str
    training_seed: int
    code_version: str
    facts: Mapping[str, Json] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        """Return the JSON object that is sealed under `identity`."""
        return {
            "recipe_name": self.recipe_name,
            "recipe_digest": self.recipe_digest,
            "dataset_root": self.dataset_root,
            "tokenizer_digest": self.tokenizer_digest,
            "training_seed": self.training_seed,
            "code_version": self.code_version,
            "facts": dict(self.facts),
        }


@dataclass(frozen=True, kw_only=True)
class Golden:
    """One prompt whose logits travel with the model (specs/verification.md).

    Args:
        prompt: the text.
        ids: its token ids.
        n_steps: greedy steps taken.
        tokens: the n_steps token ids that came out.
        logits_sha256: hex SHA-256 over the integer logits of these steps
            (layout: specs/arithmetic.md).
        domain: whose expert stack ran ("" for a model without stacks).
        kv_bits: bits of the cached codes (0 for a model without a choice).
    """

    prompt: str
    ids: Sequence[int]
    n_steps: int
    tokens: Sequence[int]
    logits_sha256: str
    domain: str = ""
    kv_bits: int = 0

    def as_json(self) -> dict[str, Json]:
        """Return the JSON object that is sealed under `golden`."""
        return {
            "prompt": self.prompt,
            "ids": list(self.ids),
            "n_steps": self.n_steps,
            "tokens": list(self.tokens),
            "logits_sha256": self.logits_sha256,
            **({"domain": self.domain} if self.domain else {}),
            **({"kv_bits": self.kv_bits} if self.kv_bits else {}),
        }


@dataclass(frozen=True, kw_only=True)
class SealInput:
    """The values that only the sealing stage knows.

    Args:
        class_: layout.ModelClass.DENSE or MOE.
        padded: True pads records to 32 bytes (B7); False keeps them exact (A10).
        dictionary: the DICT payload, which is the bytes of the tokenizer file.
        tensors: INT8 tensors, in any order.
        graph: the architecture, with "operations"; see `operation`.
        trace: rows of the training trace (step, loss, ...); every number is finite.
        batch: rows of the gradient trace; may be empty.
        identity: the origin of the model.
        golden: prompts with the logits that they gave; at least one.
    """

    class_: int
    padded: bool
    dictionary: bytes
    tensors: Sequence[Tensor]
    graph: Mapping[str, Json]
    trace: Sequence[Json]
    batch: Sequence[Json]
    identity: Identity
    golden: Sequence[Golden]
    lane_limit: int = layout.MAX_LANE_BYTES


def operation(op: str, fold: str = "COMPUTE", writes: Iterable[str] = (), **facts: Json) -> dict[str, Json]:
    """Return one operation of the graph: its name, its fold (V1), the lanes that it writes (V5),
    and further facts.
    """
    return {**facts, "op": op, "fold": fold, "writes": list(writes)}


def build_contents(model: SealInput) -> Contents:
    """Return the contents of the file.

    Raises:
        ContentsError: a tensor, a graph or a JSON value that cannot be sealed.
    """
    operations = model.graph.get("operations")
    if not isinstance(operations, list) or not all(isinstance(item, dict) for item in operations):
        raise ContentsError("`operations` is not a list of objects", where="graph", remedy="see `operation`")
    trace: dict[str, Json] = {"kind": layout.TRACE_KIND, "projection": True, "rows": list(model.trace)}
    batch: dict[str, Json] = {"kind": layout.BATCH_KIND, "rows": list(model.batch)}
    data = {
        "DICT": [plan_lane(layout.LaneId.DICT, [("", [model.dictionary])])] if model.dictionary else [],
        "FIELD": plan_fields(model.tensors, padded=model.padded, limit=model.lane_limit),
        "BATCH": plan_json(layout.LaneId.BATCH, layout.BATCH_KIND, batch),
    }
    trace_hash = plan_json(layout.LaneId.LANE, layout.TRACE_KIND, trace)[0].sha256.hex()
    present = [*(name for name, lanes in data.items() if lanes), "LANE", "EDGE"]
    identity = model.identity.as_json()
    encode_json(identity, "identity")
    return Contents(
        class_=model.class_,
        padded=model.padded,
        dictionary=model.dictionary,
        tensors=model.tensors,
        graph={**model.graph, "kind": "graph"},
        control=control_payload(present, operations),
        provenance={
            "kind": "provenance",
            "identity": identity,
            "abi_hash": layout.abi_hash(),
            "policy_hash": layout.policy_hash(),
            "meta_hash": layout.meta_hash(identity),
            "data": [
                data_entry(name, data[name], trace_hash, model.identity.recipe_digest)
                for name in sorted(data)
                if data[name]
            ],
            "golden": [golden.as_json() for golden in model.golden],
        },
        trace=trace,
        batch=batch,
        lane_limit=model.lane_limit,
    )


def control_payload(lanes: Sequence[str], operations: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Return the payload of EDGE control: bindings, projections, and a record for every state
    change.
    """
    policy = layout.policy_hash()
    return {
        "kind": "control",
        "bindings": dict(layout.LANE_FOLDS),
        "projections": list(layout.PROJECTIONS),
        "records": [
            {
                "allow": True,
                "change": change,
                "decide_hash": layout.decide_hash(change, str(fold), policy),
                "policy_hash": policy,
                "target_fold": fold,
            }
            for change, fold in layout.state_changes(lanes, operations).items()
        ],
    }


def data_entry(name: str, lanes: Sequence[LanePlan], trace_hash: str, recipe_digest: str) -> dict[str, Json]:
    """Return the hashes that rule V3 requires of the lanes called `name`."""
    collapse = merkle_root([lane.leaf for lane in lanes]).hex()
    return {
        "lane": name,
        "stored": True,
        "trace_hash": trace_hash,
        "collapse": {"hash": collapse},
        "seal_hash": layout.seal_hash(name, trace_hash, collapse, recipe_digest),
    }
