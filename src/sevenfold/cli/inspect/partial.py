"""The modes of `s7 verify` that read less than a whole file: a part, a range of bytes, or a stream."""

from __future__ import annotations

import sys
from pathlib import Path

from sevenfold.artifact import Artifact, StreamVerifier, open_artifact, verify_part, verify_range
from sevenfold.artifact.bundle import is_bundle, open_bundle
from sevenfold.artifact.errors import RootError
from sevenfold.artifact.pieces.stream import check_wanted
from sevenfold.artifact.verify import published_notes
from sevenfold.cli.base import print_json
from sevenfold.core.errors import UsageError
from sevenfold.core.hashing import Json
from sevenfold.report.console import close_progress, make_progress

STREAM_BLOCK = 1 << 20


def open_rooted(path: Path, root: str | None, *, published: bool = False) -> Artifact:
    """Return a sealed file or a bundle. A file of the published contract is returned only when
    `published` is set, or no root is given.

    Raises:
        RootError: the model has another root.
        PublishedError: a root was given, and the file has no seal that binds it.
        UsageError: `published` is set, and the file is sealed.
    """
    artifact = open_bundle(path) if is_bundle(path) else open_artifact(path)
    if published or root is not None:
        check_wanted(artifact.header, published, str(path))
    if root is not None and artifact.root != root.lower():
        raise RootError(
            f"the root is {artifact.root}, but {root} was requested",
            where=str(path),
            remedy="this is another model",
        )
    return artifact


def verify_partly(artifact: Artifact, part: str | None, byte_range: str | None, as_json: bool) -> None:
    """Prove a part, a tensor or a range, and print the result. Raises ArtifactError or UsageError."""
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
            f"{proved.what}: {proved.n_bytes} bytes, {proved.n_chunks} chunks, as sealed under"
            f" {artifact.root}"
        )


def signature_line(signed: dict[str, Json]) -> str:
    """Return the line for a valid signature."""
    return f"signature {signed['path']}: holds, by {signed['by']}"


def verify_published(artifact: Artifact, signed: dict[str, Json], as_json: bool) -> None:
    """Prove a file of the published contract by its own rule, and print what that rule does not
    cover. Raises ArtifactError.
    """
    artifact.prove()
    notes = published_notes(artifact.version, len(artifact.lanes))
    if as_json:
        value: dict[str, Json] = {"path": str(artifact.path), "root": artifact.root, "ok": True}
        print_json(
            {**value, "published": artifact.version, "notes": notes}
            | ({"signature": signed} if signed else {})
        )
    else:
        print("\n".join([f"{artifact.path}: root {artifact.root}", *notes]))
        if signed:
            print(signature_line(signed))


def verify_stream(root: str | None, published: bool, as_json: bool) -> None:
    """Prove standard input block by block, up to the first bad chunk.

    Raises ArtifactError.
    """
    verifier, progress, total = StreamVerifier(root, published=published), make_progress(), None
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
    notes = (
        published_notes(verifier.header.version, verifier.n_lanes) if published and verifier.header else []
    )
    if as_json:
        value: dict[str, Json] = {"path": "-", "root": found, "ok": True, "n_bytes": verifier.n_bytes}
        print_json(value | ({"notes": notes} if notes else {}))
    elif notes:
        print("\n".join([f"{verifier.n_bytes} bytes; root {found}", *notes]))
    else:
        print(f"{verifier.n_bytes} bytes, every chunk as sealed; root {found}")
