"""What `Model.open` takes beside a sealed file: bundles, and anonymous models
when they are asked for by name.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from sevenfold.artifact import Artifact, parse_artifact, read_artifact, write_artifact
from sevenfold.artifact.bundle import write_bundle
from sevenfold.artifact.errors import AnonymousError
from sevenfold.artifact.writer import Contents
from sevenfold.core.errors import ArtifactError, SevenfoldError
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.core.merkle import paired_root
from sevenfold.engine import session
from sevenfold.engine.session import Model
from sevenfold.runs.job import Job


def complete(model: Model) -> list[int]:
    with model.session("def f(", max_tokens=8) as running:
        return [running.step() for _ in range(8)]


def contents_of(artifact: Artifact) -> Contents:
    return Contents(
        class_=artifact.class_,
        padded=artifact.padded,
        dictionary=artifact.dictionary,
        tensors=list(artifact.tensors.values()),
        graph=artifact.graph,
        control=artifact.control,
        provenance=artifact.provenance,
        trace=artifact.trace,
        batch=artifact.batch,
    )


@pytest.fixture
def sealed(finished_run: Job) -> Path:
    return finished_run.out / "model.s7l"


@pytest.fixture
def anonymous(sealed: Path, tmp_path: Path) -> Path:
    """The same model by a writer that knows tokenizer, tensors and graph only."""
    bare = replace(contents_of(read_artifact(sealed)), control={}, provenance={}, trace={}, batch={})
    write_artifact(tmp_path / "anonymous.s7l", bare)
    return tmp_path / "anonymous.s7l"


def test_a_bundle_runs_like_its_file(sealed: Path, tmp_path: Path) -> None:
    write_bundle(sealed, tmp_path / "bundle")
    assert complete(Model.open(tmp_path / "bundle")) == complete(Model.open(sealed))
    path = tmp_path / "bundle" / "model.safetensors"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        Model.open(tmp_path / "bundle")


def test_an_anonymous_model_is_refused_unless_it_is_asked_for(sealed: Path, anonymous: Path) -> None:
    with pytest.raises(AnonymousError, match="--allow-anonymous") as caught:
        Model.open(anonymous)
    assert caught.value.exit_code == 3
    model = Model.open(anonymous, allow_anonymous=True)
    assert "anonymous" in model.note
    assert complete(model) == complete(Model.open(sealed))
    assert not Model.open(sealed, allow_anonymous=True).note.startswith("anonymous")


def test_a_file_of_another_writer_runs_when_it_has_a_graph(sealed: Path, tmp_path: Path) -> None:
    # Packed by hand: a seal of whole payloads, no provenance.
    held = read_artifact(sealed)
    field = next(lane for lane in held.lanes if lane.name == "FIELD")
    lanes = [(1, held.dictionary), (2, bytes(held.payload(field))), (4, canonical_json(held.graph))]
    size = 1 << 24
    listed: list[Json] = [
        {
            "id": i,
            "kind": "graph" if i == 4 else "",
            "n_bytes": len(p),
            "sha256": hashlib.sha256(p).hexdigest(),
            "pieces": [{"name": "", "n_bytes": len(p), "chunks": hashlib.sha256(p).hexdigest()}],
        }
        for i, p in lanes
    ]
    head = held.header_head
    seal = {"kind": "seal", "header": head.hex(), "chunk_bytes": size, "lanes": listed, "parts": {}}
    lanes = [(4, canonical_json(seal)), *lanes]
    digests = [hashlib.sha256(p).digest() for _, p in lanes]
    body = b"".join(struct.pack(">BI", i, len(p)) + p + d for (i, p), d in zip(lanes, digests, strict=True))
    path = tmp_path / "foreign.s7l"
    path.write_bytes(head + paired_root(digests) + body)
    assert complete(Model.open(path, allow_anonymous=True)) == complete(Model.open(sealed))


@pytest.mark.parametrize("part", ["graph", "dictionary", "tensors"])
def test_an_anonymous_file_without_a_model_is_refused(anonymous: Path, tmp_path: Path, part: str) -> None:
    whole = contents_of(read_artifact(anonymous))
    two = [t for t in whole.tensors if t.name in ("embedding.weight", "lm_head.weight")]
    change = {"graph": {}, "dictionary": b"", "tensors": two}[part]
    write_artifact(tmp_path / "less.s7l", replace(whole, **{part: change}))
    with pytest.raises(ArtifactError, match=r"less\.s7l"):
        Model.open(tmp_path / "less.s7l", allow_anonymous=True)


def test_leave_for_anonymous_models_is_no_leave_for_wrong_ones(sealed: Path, tmp_path: Path) -> None:
    held = contents_of(read_artifact(sealed))
    identity = {**held.provenance["identity"], "training_seed": 99}
    write_artifact(
        tmp_path / "forged.s7l", replace(held, provenance={**held.provenance, "identity": identity})
    )
    with pytest.raises(ArtifactError, match="rule V7"):
        Model.open(tmp_path / "forged.s7l", allow_anonymous=True)


def test_an_anonymous_model_needs_a_backend_that_is_right(
    anonymous: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(name: str) -> str:
        raise SevenfoldError(f"backend {name!r} gives other logits")

    monkeypatch.setattr(session, "self_test", wrong)
    with pytest.raises(SevenfoldError, match="other logits"):
        Model.open(anonymous, backend="reference", allow_anonymous=True)


def test_weights_reach_no_engine_unproved(sealed: Path) -> None:
    data = bytearray(sealed.read_bytes())
    held = parse_artifact(bytes(data))
    data[held.records["lm_head.weight"].offset] ^= 1
    damaged = sealed.parent / "damaged.s7l"
    damaged.write_bytes(data)
    from sevenfold.artifact import open_artifact

    with pytest.raises(ArtifactError, match="FIELD"):
        Model(open_artifact(damaged))
    damaged.unlink()
