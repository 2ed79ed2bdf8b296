"""The reference of the harness: read layer by layer it is the same model,
and holds no more than a layer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sevenfold.core.process.log import Silent
from sevenfold.export.proof import parity
from sevenfold.export.proof.parity import FloatReference
from sevenfold.export.run import Request, export
from sevenfold.export.source import ExportSource, open_source
from sevenfold.recipe.schema import ModelSpec
from sevenfold.recipe.sizing import tensors


def random_source(path: Path, *, tied: bool) -> ExportSource:
    trained = open_source(path)
    values = trained.spec.model_dump() | {"tied": tied}
    spec = ModelSpec.model_validate(values)
    rng = {name: np.random.default_rng(i) for i, name in enumerate(tensors(spec))}
    weights = {
        name: rng[name].normal(0, 0.1, dims).astype(np.float32) for name, dims in tensors(spec).items()
    }
    return ExportSource(
        path=path, spec=spec, tokenizer=trained.tokenizer, provenance={}, read=weights.__getitem__
    )


@pytest.mark.parametrize("tied", [True, False])
def test_read_layer_by_layer_it_is_the_same_model(
    llama_run: Path, monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    source, ids = random_source(llama_run, tied=tied), list(range(0, 400, 9))
    whole = FloatReference(source.spec, source.read)
    monkeypatch.setattr(parity, "STREAMED", 0)
    layered = FloatReference(source.spec, source.read)
    assert np.array_equal(whole.logits(ids), layered.logits(ids))
    assert np.array_equal(whole.logits(ids), layered.logits(ids)), "a second time"
    assert all(parameter.is_meta for parameter in layered.model.parameters())
    rows = np.array([ids])
    mine, theirs = whole.importance(rows), layered.importance(rows)
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_a_large_model_is_asked_less_and_fails_as_well(
    llama_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sevenfold.export.proof.transformers_runtime import Transformers

    monkeypatch.setattr(parity, "STREAMED", 0)
    report = export(llama_run, tmp_path / "hf", Request(target="hf"), Silent())
    greedy = next(check for check in report["checks"] if check["name"] == "greedy")
    assert (greedy["status"], greedy["figures"]["tokens"]) == ("pass", 1)
    greedy_of = Transformers.greedy
    monkeypatch.setattr(
        Transformers, "greedy", lambda self, ids, steps: [(greedy_of(self, ids, steps)[0] + 1) % 400]
    )
    with pytest.raises(parity.ParityError, match="token 0 after"):
        export(llama_run, tmp_path / "again", Request(target="hf"), Silent())
    assert not (tmp_path / "again").exists()
