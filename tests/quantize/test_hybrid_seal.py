"""A recipe with hybrid attention goes through all stages: quantised under law version 2, sealed,
verified and run.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sevenfold import pipeline
from sevenfold.artifact import read_artifact, verify
from sevenfold.core.errors import UsageError
from sevenfold.core.files import read_json
from sevenfold.core.run_files import ARTIFACT, QUALITY
from sevenfold.engine import reference
from sevenfold.engine.session import Model, replay
from sevenfold.runs.job import Job

HYBRID = {
    "scheme": "hybrid", "local_chunk": 16, "global_stride": 4, "global_tokens": "learned_summaries",
    "streaming_links": "ring", "rope_scaling": "yarn", "gqa": 2, "kv_quant_bits": 4,
}  # fmt: skip


@pytest.fixture(scope="session")
def hybrid_run(tmp_path_factory: pytest.TempPathFactory, make_job: Callable[..., Job]) -> Job:
    """A whole hybrid run; tests only read it."""
    model = {"n_kv_heads": 1, "attention": HYBRID, "rope_scaling": {"kind": "yarn", "factor": 2.0}}
    job = make_job(tmp_path_factory.mktemp("run") / "hybrid", model=model, train={"packing": "documents"})
    pipeline.make(job)
    return job


def test_the_gate_holds(hybrid_run: Job) -> None:
    quality = read_json(hybrid_run.directory("quantize") / QUALITY)
    assert quality["bpb_increase"] < 0.02


def test_the_file_names_its_law_and_verifies(hybrid_run: Job) -> None:
    artifact = read_artifact(hybrid_run.out / ARTIFACT)
    assert artifact.graph["arithmetic"]["version"] == 2
    assert artifact.graph["attention"] == {
        "window": 16, "stride": 4, "ring": 16, "kv_bits": [4, 6, 8], "document_start": 0,
    }  # fmt: skip
    assert verify(artifact, replay).ok
    rows = replay(artifact)
    # Two prompts in three widths, on each backend.
    assert len(rows) % 6 == 0
    assert all(row.expected == row.actual for row in rows)


def test_it_runs_to_its_context(hybrid_run: Job) -> None:
    model = Model.open(hybrid_run.out / ARTIFACT, backend=reference.NAME)
    assert model.weights.shape.kv_bits == 4
    with model.session("def f(") as session:
        text = "".join(session.generate(20))
    with model.session("def f(") as session:
        assert "".join(session.generate(20)) == text


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_each_allowed_width_is_proved_by_golden_logits(hybrid_run: Job, bits: int) -> None:
    model = Model.open(hybrid_run.out / ARTIFACT, backend=reference.NAME, kv_bits=bits)
    assert model.weights.shape.kv_bits == bits
    assert len({row["logits_sha256"] for row in model.golden}) == 6


def test_another_width_is_refused(hybrid_run: Job) -> None:
    with pytest.raises(UsageError, match="5 bits"):
        Model.open(hybrid_run.out / ARTIFACT, backend=reference.NAME, kv_bits=5)
