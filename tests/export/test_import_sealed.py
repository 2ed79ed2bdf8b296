"""What becomes of an import when it is sealed: scaled rotations as integers, and weights
that no model computes with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import foreign_models as foreign
import numpy as np
import pytest

from sevenfold import pipeline
from sevenfold.artifact import read_artifact
from sevenfold.core.errors import SevenfoldError
from sevenfold.engine.session import Model, prompt_ids
from sevenfold.export import foreign as room
from sevenfold.export.importer import import_model

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SCALINGS = [
    {"rope_type": "default", "rope_theta": 500.0},
    {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0},
    {"rope_type": "llama3", "rope_theta": 500.0, **LLAMA3},
]


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s["rope_type"])
def test_the_sealed_table_turns_as_transformers_does(
    tmp_path: Path, code_dir: Path, scaling: dict[str, Any]
) -> None:
    import torch
    import transformers

    directory = foreign.make(tmp_path / "hf", begin="<s>", rope_parameters=scaling)
    import_model("hf", directory, tmp_path / "in")
    job = foreign.job_of(tmp_path / "in", code_dir)
    pipeline.make(job)
    record = read_artifact(job.out / "model.s7l").tensors["rope.cos_sin"]
    table = np.asarray(record.data).reshape(record.dims).view(">i2")[..., 0].astype(int)
    network = transformers.AutoModelForCausalLM.from_pretrained(directory)
    cos, sin = network.model.rotary_emb(torch.zeros(1), torch.arange(64)[None])
    pairs = table.shape[1]
    for found, wanted in ((table[..., 0], cos), (table[..., 1], sin)):
        assert np.abs(found / 32768 - wanted[0, :, :pairs].numpy()).max() < 2 / 32768

    # The integers answer as the floats do, to the error of 8 bits.
    model = Model.open(job.out / "model.s7l")
    ids = prompt_ids(model.tokenizer, "def add(a, b):")
    with model.session(max_tokens=1) as session:
        session.prefill(ids)
        integers = np.asarray(session.logits, np.float64) / 65536
    floats = foreign.theirs(directory, ids)[-1]
    assert np.corrcoef(integers, floats)[0, 1] > 0.99


def test_weights_that_leave_float32_end_in_one_line(
    tmp_path: Path, code_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = foreign.make(tmp_path / "hf", begin="<s>")
    name = "model.layers.0.mlp.down_proj.weight"
    foreign.edit_tensors(directory / "model.safetensors", lambda a: a[name].fill(3e38))
    monkeypatch.setattr(room, "MAX_WEIGHT", 3.4e38)
    import_model("hf", directory, tmp_path / "in")
    with pytest.raises(SevenfoldError, match=r"not finite|is nan|is inf") as caught:
        pipeline.make(foreign.job_of(tmp_path / "in", code_dir))
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
