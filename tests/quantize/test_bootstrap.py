"""A11: a sealed file is wired, a header boots as zeros and says so, and nothing runs it as a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sevenfold.artifact import header_only
from sevenfold.artifact.errors import HeaderOnlyError
from sevenfold.core.errors import ArtifactError
from sevenfold.engine import reference
from sevenfold.engine.session import Model, greedy_run
from sevenfold.quantize.bootstrap import ZeroBootstrapWarning, from_s7
from sevenfold.runs.job import Job


def test_a_sealed_file_is_wired_as_the_engine_wires_it(finished_run: Job) -> None:
    path = finished_run.out / "model.s7l"
    model, opened = from_s7(path, finished_run.recipe.model), Model.open(path, backend=reference.NAME)
    ids = opened.golden[0]["ids"]
    assert greedy_run(model, ids, 3) == greedy_run(opened.weights, ids, 3)


def test_a_header_boots_as_zeros_twice_the_same_and_says_so(finished_run: Job, tmp_path: Path) -> None:
    path, spec = tmp_path / "h.s7l", finished_run.recipe.model
    path.write_bytes(header_only(1))
    logits = []
    for _ in range(2):
        with pytest.warns(ZeroBootstrapWarning, match="booted as zeros"):
            model = from_s7(path, spec)
        logits.append(reference.ReferenceEngine(model).session().forward(np.array([0, 1, 2])))
    assert np.array_equal(*logits)
    assert not logits[0].any()
    assert logits[0].shape == (3, spec.vocab_size)


def test_a_header_is_never_run_as_a_model(tmp_path: Path) -> None:
    path = tmp_path / "h.s7l"
    path.write_bytes(header_only(2))
    for allowed in (False, True):
        with pytest.raises(HeaderOnlyError, match="never to be run or served") as caught:
            Model.open(path, allow_anonymous=allowed)
        assert caught.value.exit_code == 3


def test_a_damaged_file_is_not_booted_as_zeros(finished_run: Job, tmp_path: Path) -> None:
    data = (finished_run.out / "model.s7l").read_bytes()
    (tmp_path / "cut.s7l").write_bytes(data[:40])
    with pytest.raises(ArtifactError, match="root"):
        from_s7(tmp_path / "cut.s7l", finished_run.recipe.model)
