"""The sealed artifact: `.s7l` writer, total reader, verifier, and the CM-1 gate.

Invariant: imports numpy and `sevenfold.core` only, so that a base install can open and verify a file.
"""

from __future__ import annotations

from sevenfold.artifact.assemble import Golden, Identity, SealInput, build_contents, operation
from sevenfold.artifact.control import Frame, Gate, frame, parse, visible_text
from sevenfold.artifact.layout import Flag, LaneId, ModelClass
from sevenfold.artifact.reader import Artifact, Lane, parse_artifact, read_artifact
from sevenfold.artifact.records import Tensor
from sevenfold.artifact.verify import CHECKS, ReplayRow, Row, Verification, run_check, verify, verify_file
from sevenfold.artifact.writer import Contents, Sealed, header_only, write_artifact

__all__ = [
    "Tensor",
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
    "read_artifact",
    "parse_artifact",
    "Verification",
    "Row",
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
