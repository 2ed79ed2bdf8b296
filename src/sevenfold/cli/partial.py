"""What `s7 verify` does with less than a whole file: a part, a range of bytes, or a stream."""

from __future__ import annotations

import sys
from pathlib import Path

from sevenfold.artifact import Artifact, StreamVerifier, open_artifact, verify_part, verify_range
from sevenfold.artifact.bundle import is_bundle, open_bundle
from sevenfold.artifact.errors import RootError
from sevenfold.cli.base import print_json
from sevenfold.core.errors import UsageError
from sevenfold.report.console import close_progress, make_progress

STREAM_BLOCK = 1 << 20


def open_rooted(path: Path, root: str | None) -> Artifact:
    """A sealed file or a bundle. Raises RootError when it is not the model of that root."""
    artifact = open_bundle(path) if is_bundle(path) else open_artifact(path)
    if root is not None and artifact.root != root.lower():
        raise RootError(
            f"the root is {artifact.root}, {root} was asked for",
            where=str(path),
            remedy="this is another model",
        )
    return artifact


def verify_partly(artifact: Artifact, part: str | None, byte_range: str | None, as_json: bool) -> None:
    """Prove a part, a tensor or a range and say so. Raises ArtifactError, UsageError."""
    if byte_range is None:
        proved = verify_part(artifact, part or "")
    else:
        first, _, last = byte_range.partition("..")
        if not (first.isdecimal() and last.isdecimal() and len(byte_range) < 40):
            raise UsageError(f"--range {byte_range}", remedy="two byte offsets: --range 0..65536")
        proved = verify_range(artifact, int(first), int(last))
    if as_json:
        value = {"path": str(artifact.path), "root": artifact.root, "ok": True}
        print_json({**value, "what": proved.what, "n_bytes": proved.n_bytes, "n_chunks": proved.n_chunks})
    else:
        print(
            f"{proved.what}: {proved.n_bytes} bytes, {proved.n_chunks} chunks, as sealed under {artifact.root}"
        )


def verify_stream(root: str | None, as_json: bool) -> None:
    """Prove what comes on standard input, block by block; stops at the first bad chunk. Raises ArtifactError."""
    verifier, progress, total = StreamVerifier(root), make_progress(), None
    try:
        while block := sys.stdin.buffer.read(STREAM_BLOCK):
            verifier.update(block)
            if total is None and verifier.n_bytes_total:
                total = verifier.n_bytes_total
                progress.start("verify", total, "bytes")
            if total is not None:
                progress.advance(verifier.n_bytes)
        found = verifier.finish()
    finally:
        close_progress(progress)
    if as_json:
        print_json({"path": "-", "root": found, "ok": True, "n_bytes": verifier.n_bytes})
    else:
        print(f"{verifier.n_bytes} bytes, every chunk as sealed; root {found}")
