"""The sealed artifact: `.s7l` writer, total reader, verifier, and the CM-1 gate.

Invariant: it imports only numpy and `sevenfold.core`, so that a base install can open and verify a
file.
"""

from __future__ import annotations

from sevenfold.artifact.assemble import Golden, Identity, SealInput, build_contents, operation
from sevenfold.artifact.control import Frame, Gate, frame, parse, visible_text
from sevenfold.artifact.frames import Lane
from sevenfold.artifact.layout import Flag, LaneId, ModelClass
from sevenfold.artifact.pieces.partial import Proved, verify_part, verify_range
from sevenfold.artifact.pieces.stream import StreamVerifier
from sevenfold.artifact.reader import Artifact, open_artifact, parse_artifact, read_artifact
from sevenfold.artifact.records import Tensor, TensorRecord, training_tensor, training_values
from sevenfold.artifact.verify import (
    CHECKS,
    ReplayRow,
    RuleResult,
    Verification,
    run_check,
    verify,
    verify_file,
)
from sevenfold.artifact.writer import Contents, Sealed, header_only, write_artifact

__all__ = [
    "TensorRecord",
    "Tensor",
    "training_tensor",
    "training_values",
    "Contents",
    "Sealed",
    "write_artifact",
    "header_only",
    "SealInput",
    "Identity",
    "Golden",
    "operation",
    "build_contents",
    "Artifact",
    "Lane",
    "open_artifact",
    "read_artifact",
    "parse_artifact",
    "Proved",
    "verify_part",
    "verify_range",
    "StreamVerifier",
    "Verification",
    "RuleResult",
    "ReplayRow",
    "CHECKS",
    "run_check",
    "verify",
    "verify_file",
    "Gate",
    "Frame",
    "frame",
    "parse",
    "visible_text",
    "LaneId",
    "ModelClass",
    "Flag",
]
