"""Define every constant of the `.s7l` format and of its rules (specs/artifact.md,
specs/control.md).

Invariant: `ABI` and `POLICY` describe what is stored and what is enforced. Their digests are sealed
into each file (rule V7). An edit here changes the digests and MUST come with a higher format
version.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag

from sevenfold.core.hashing import Json, canonical_json, digest

MAGIC = b"S7LM"
# The version that the writer writes: the published container with a seal.
VERSION = 3
PUBLISHED_EXACT, PUBLISHED_PADDED = (
    1,
    2,
    # Versions of the published contract: exact records in the first, padded records and MoE in the
    # second.
)
VERSIONS_READ = (PUBLISHED_EXACT, PUBLISHED_PADDED, VERSION)

# Magic, version, class, flags, root.
HEADER = struct.Struct(">4sHBB32s")
HEADER_BYTES = HEADER.size
# The seal binds the header bytes before the root.
ROOT_OFFSET = 8
ROOT_BYTES = 32
# Lane id and payload length.
LANE_HEADER = struct.Struct(">BI")
DIGEST_BYTES = 32
LANE_OVERHEAD = LANE_HEADER.size + DIGEST_BYTES


class ModelClass(IntEnum):
    """Byte 6 of the header."""

    DENSE = 0x01
    MOE = 0x02


class Flag(IntFlag):
    """Bits of byte 7 of the header. All others are refused."""

    # Defined by the published contract: records hold INT8 codes.
    INT8 = 0x01
    # Defined by the published contract: the class is MoE.
    MOE = 0x04
    # Defined from version 3 on: FIELD data is padded with zeros to a multiple of 32 bytes (B7).
    PADDED = 0x80


PUBLISHED_FLAGS = Flag.INT8 | Flag.MOE


def header_flags(class_: int, padded: bool) -> int:
    """Return the only valid flags byte of a version 3 header with this class and padding."""
    flags = Flag.INT8 | (Flag.MOE if class_ == ModelClass.MOE else 0) | (Flag.PADDED if padded else 0)
    return int(flags)


class LaneId(IntEnum):
    """First byte of a lane."""

    DICT = 0x01
    FIELD = 0x02
    LANE = 0x03
    EDGE = 0x04
    BATCH = 0x05


# Record: [u16 name_len][name][u8 rank][u32 dims[rank]][f32 scale][i8 data[numel]] (A10).
NAME_LENGTH = struct.Struct(">H")
RANK = struct.Struct(">B")
DIM = struct.Struct(">I")
SCALE = struct.Struct(">f")
PAD_TO = 32
# Records of FP32 training weights: i8 of shape [..., 4], big-endian binary32.
TRAINING_PREFIX = "training."
REQUIRED_TENSORS = ("embedding.weight", "lm_head.weight")

# Every piece (a FIELD record, or the payload of another lane) is hashed in chunks of one size, and
# the seal lists the hashes. The writer starts with this size and doubles it until the list fits its
# lane.
CHUNK_BYTES = 64 << 10
MIN_CHUNK_BYTES = 4 << 10
MAX_CHUNK_BYTES = 16 << 20

# Caps of the reader, checked before anything is allocated.
MAX_LANES = 1024
MAX_LANE_BYTES = (1 << 32) - 1
MAX_DICT_BYTES = 64 << 20
MAX_JSON_BYTES = 16 << 20
MAX_JSON_DEPTH = 32
MAX_TENSORS = 1 << 16
MAX_NAME_BYTES = 255
MAX_RANK = 8

# Memory that grows while a file is read is capped by the size of the file. The caps count bytes of
# JSON; JSON values, as the bytes "[", "{" and "," of all payloads; bytes of payloads with
# characters past ASCII, which take up to four bytes each; and records.
FREE_JSON_BYTES, BYTES_PER_JSON_BYTE = 512 << 10, 4
FREE_JSON_VALUES, BYTES_PER_JSON_VALUE, MAX_JSON_VALUES = 1 << 14, 512, 1 << 19
FREE_WIDE_BYTES, BYTES_PER_WIDE_BYTE = 128 << 10, 8
FREE_TENSORS, BYTES_PER_TENSOR = 1 << 11, 512


def max_json_bytes(n_bytes: int) -> int:
    """Return the bytes of JSON that a file of `n_bytes` may hold."""
    return FREE_JSON_BYTES + n_bytes // BYTES_PER_JSON_BYTE


def max_json_values(n_bytes: int) -> int:
    """Return how many JSON values a file of `n_bytes` may hold."""
    return min(MAX_JSON_VALUES, FREE_JSON_VALUES + n_bytes // BYTES_PER_JSON_VALUE)


def max_wide_bytes(n_bytes: int) -> int:
    """Return how many bytes of JSON payloads with Unicode escapes or characters past ASCII a file
    of `n_bytes` may hold.
    """
    return FREE_WIDE_BYTES + n_bytes // BYTES_PER_WIDE_BYTE


def max_tensors(n_bytes: int) -> int:
    """Return the records that a file of `n_bytes` may hold."""
    return min(MAX_TENSORS, FREE_TENSORS + n_bytes // BYTES_PER_TENSOR)


# Allowed values of `kind` in each EDGE lane, sorted. The seal is the first lane of the file.
EDGE_KINDS = ("control", "graph", "provenance", "seal")
SEAL_KIND = "seal"
TRACE_KIND = "trace"
BATCH_KIND = "gradient_trace"

FOLDS = ("COMPUTE", "CONTROL", "DATA", "STORAGE")
# Each lane belongs to one fold, and only operations of that fold may write it (rule V5).
LANE_FOLDS: Mapping[str, str] = {
    "BATCH": "COMPUTE",
    "DICT": "DATA",
    "EDGE": "CONTROL",
    "FIELD": "COMPUTE",
    "LANE": "STORAGE",
}
# Data lanes hold what training changed. Each carries trace, collapse and seal hashes (rule V3).
DATA_LANES = ("DICT", "FIELD", "BATCH")
PROJECTIONS = ("LANE",)
CONTROL_FIELDS = ("allow", "change", "decide_hash", "policy_hash", "target_fold")
IDENTITY_DIGESTS = ("dataset_root", "recipe_digest", "tokenizer_digest")
IDENTITY_FIELDS = (*IDENTITY_DIGESTS, "code_version", "recipe_name", "training_seed")

# Characters of CM-1: they frame a call, mark a span of its body, or make the next character text.
# The characters of the last group are always text.
SOH, STX, ETX, EOT, SO, SI, DLE = 0x01, 0x02, 0x03, 0x04, 0x0E, 0x0F, 0x10
# How deep spans may be nested.
SHIFT_DEPTH = 15
# TAB, LF, CR.
TEXT_CONTROLS = (0x09, 0x0A, 0x0D)
MAX_HEADER_BYTES = 1024
MAX_BODY_BYTES = 16 << 20

# The integer arithmetic that the stored codes are read by: the version of its page, and
# `core.numbers.tables.law_digest()`. It is a constant so that opening a file computes no tables. A
# test compares the two.
ARITHMETIC_VERSION = 1
ARITHMETIC_TABLES = "73b2f7e5119f5e12147830809a71d9a742e9bc629468a6706a7d9f1af7ea0117"

ABI: Mapping[str, Json] = {
    "header": ["magic:4=S7LM", "version:u16", "class:u8", "flags:u8", "root:32"],
    "version": VERSION,
    "classes": {member.name: int(member) for member in ModelClass},
    "flags": {str(member.name): int(member) for member in Flag},
    "lane": ["id:u8", "length:u32", "payload", "sha256:32"],
    "lanes": {member.name: int(member) for member in LaneId},
    "record": ["name_len:u16", "name", "rank:u8", "dims:u32[rank]", "scale:f32", "data:i8[numel]"],
    "pad_to": PAD_TO,
    "byte_order": "big",
    "root": "pairs-sha256(sha256 per lane): sha256(left || right), odd with itself, none = zeros",
    "leaf": "id:u8 || length:u32 || sha256",
    "json": "utf-8, keys sorted, no spaces, ascii escapes, finite numbers",
    "edge_kinds": list(EDGE_KINDS),
    "seal": ["first lane", "header", "chunk_bytes", "lanes:id,kind,n_bytes,sha256,pieces", "parts"],
    "piece": "name, n_bytes, chunks: sha256 of each chunk, hex; piece root = rfc6962-sha256(chunk digests)",
    "part": "trunk, expert.N, training: rfc6962-sha256(piece roots)",
    "training": [TRAINING_PREFIX, "f32:big-endian, as i8[..., 4]"],
    "required_tensors": list(REQUIRED_TENSORS),
    "arithmetic_tables": ARITHMETIC_TABLES,
    "specs": {"artifact": 3, "arithmetic": ARITHMETIC_VERSION, "control": 2, "verification": 2},
}

POLICY: Mapping[str, Json] = {
    "folds": list(FOLDS),
    "lane_folds": dict(LANE_FOLDS),
    "data_lanes": list(DATA_LANES),
    "projections": list(PROJECTIONS),
    "control_fields": list(CONTROL_FIELDS),
    "identity_fields": sorted(IDENTITY_FIELDS),
    "cm1": {
        "frame": [SOH, STX, ETX, EOT],
        "shift": [SO, SI],
        "shift_depth": SHIFT_DEPTH,
        "literal": DLE,
        "text_controls": list(TEXT_CONTROLS),
        "refused": "Cc",
    },
}


def abi_hash() -> str:
    """Return the hex digest of the format's description (rule V7)."""
    return digest("sevenfold/abi/1", canonical_json(dict(ABI)))


def policy_hash() -> str:
    """Return the hex digest of the rules' description (rules V2 and V7)."""
    return digest("sevenfold/policy/1", canonical_json(dict(POLICY)))


def meta_hash(identity: Json) -> str:
    """Return the hex digest of the origin of the model (rule V7). Raises ValueError when it has no
    canonical form.
    """
    return digest("sevenfold/meta/1", canonical_json(identity))


def decide_hash(change: str, target_fold: str, policy: str) -> str:
    """Return the hex digest of one decision to allow `change` (rule V2)."""
    return digest("sevenfold/decide/1", change, target_fold, policy, "allow")


def seal_hash(lane: str, trace: str, collapse: str, recipe_digest: str) -> str:
    """Return the hex digest that binds stored data to the run that made it (rule V3)."""
    return digest("sevenfold/seal/1", lane, trace, collapse, recipe_digest)


def store_change(lane: str) -> str:
    """Return the name of the state change "this lane was stored" in the control records."""
    return f"store {lane}"


def operation_change(index: int, name: str) -> str:
    """Return the name of the state change "operation `index` of the graph writes a lane"."""
    return f"operation {index} {name}"


def state_changes(lanes: Sequence[str], operations: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Return every state change that needs a control record (rule V2), with its fold.

    Args:
        lanes: names of the lanes of the file that are not empty.
        operations: the operations of the graph; one with a non-empty `writes` changes state.
    """
    changes: dict[str, Json] = {store_change(name): LANE_FOLDS[name] for name in sorted(set(lanes))}
    for index, operation in enumerate(operations):
        if operation.get("writes"):
            changes[operation_change(index, str(operation.get("op")))] = operation.get("fold")
    return changes


def lane_leaf(lane_id: int, n_bytes: int, sha256: bytes) -> bytes:
    """Return the leaf of a lane in `collapse.hash` (rule V3): its five header bytes and the digest
    of its payload.
    """
    return LANE_HEADER.pack(lane_id, n_bytes) + sha256


def file_order(lane_id: int, kind: str) -> tuple[bool, int, str]:
    """Return the sort key of a lane: the seal first, then by id, EDGE by kind (rule V0)."""
    return kind != SEAL_KIND, lane_id, kind


_EXPERT = re.compile(r"(?:^|\.)experts\.(\d+)\.")


def part_of(name: str) -> str:
    """Return the part of the model that a tensor belongs to: `trunk`, `expert.N` or `training`."""
    if name.startswith(TRAINING_PREFIX):
        return "training"
    found = _EXPERT.search(name)
    return f"expert.{found[1]}" if found else "trunk"


def padded_bytes(numel: int, padded: bool) -> int:
    """Return the bytes that `numel` i8 values take in a FIELD record."""
    return -(-numel // PAD_TO) * PAD_TO if padded else numel
