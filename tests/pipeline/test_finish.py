"""The end of a run: one opened file is verified, completed and described."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sevenfold.artifact import Artifact, reader
from sevenfold.core.run_files import ARTIFACT, COMPLETIONS, VERIFICATION
from sevenfold.pipeline import finish
from sevenfold.runs.job import Job


def test_the_sealed_file_is_opened_once(
    dense_run: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(dense_run, out=Path(shutil.copytree(dense_run.out, tmp_path / "run")))
    opened: list[Path] = []
    original = reader.open_artifact

    def counting(path: Path | str) -> Artifact:
        opened.append(Path(path))
        return original(path)

    # Every way to a sealed file goes through this function, whoever imported it before.
    for module in ("sevenfold.artifact.reader", "sevenfold.artifact", "sevenfold.engine.session"):
        monkeypatch.setattr(f"{module}.open_artifact", counting)
    summary = finish.finish(job)
    assert opened == [job.out / ARTIFACT]
    assert summary["root"] == job.manifest("seal").facts["root"]
    assert len(json.loads((job.out / COMPLETIONS).read_bytes())) == len(job.recipe.seal.sample_prompts)
    assert all(row["status"] != "fail" for row in json.loads((job.out / VERIFICATION).read_bytes())["rows"])
