"""Hugging Face: the auto classes load the directory without our code, and answer as our model does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sevenfold.core.process.log import Silent
from sevenfold.export import run
from sevenfold.export.proof.parity import ParityError
from sevenfold.export.run import Request, export
from sevenfold.export.source import open_source
from sevenfold.export.store import open_tensors
from sevenfold.runs.job import Job


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_parity(llama_run: Path, tmp_path: Path, dtype: str) -> None:
    report = export(llama_run, tmp_path / "hf", Request(target="hf", quant=dtype), Silent())
    found = {(check["runtime"], check["name"]): check["status"] for check in report["checks"]}
    assert set(found.values()) <= {"pass", "measured"}
    assert {name for runtime, name in found if runtime == "transformers"} == {
        "ids",
        "logits",
        "greedy",
        "perplexity",
    }


def test_a_sealed_file_and_code_pieces_leave_exactly(dense_run: Job, tmp_path: Path) -> None:
    report = export(dense_run.out / "model.s7l", tmp_path / "hf", Request(target="hf"), Silent())
    assert {check["status"] for check in report["checks"]} == {"pass"}
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["sevenfold"]["root"] == dense_run.manifest("seal").facts["root"]
    ours, sealed = open_source(dense_run.out), open_source(dense_run.out / "model.s7l")
    for name in ("embedding.weight", "layers.01.ffn.down_proj.weight", "final_norm.weight"):
        want, got = ours.read(name), sealed.read(name)
        assert abs(want - got).max() <= abs(want).max() / 127, name


def test_the_token_before_a_text_is_put_and_never_parsed(llama_run: Path, tmp_path: Path) -> None:
    import transformers

    export(llama_run, tmp_path / "hf", Request(target="hf", proven=False), Silent())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    ours = open_source(llama_run).vocabulary()
    text = "a<|endoftext|>b"
    assert tokenizer(text)["input_ids"] == [0, *ours.encode(text)]
    assert tokenizer.decode(ours.encode(text)) == text


def test_a_wrong_weight_fails_the_export(
    llama_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = run.hf_directory.write_hf

    def wrong(source, out, dtype):
        write(source, out, dtype)
        data = bytearray((out / "model.safetensors").read_bytes())
        data[-1] ^= 1
        (out / "model.safetensors").write_bytes(data)

    monkeypatch.setattr(run.hf_directory, "write_hf", wrong)
    with pytest.raises(ParityError, match="not what was written"):
        export(llama_run, tmp_path / "hf", Request(target="hf"), Silent())
    assert not list(tmp_path.iterdir())


def test_a_runtime_that_answers_otherwise_fails_the_export(
    llama_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sevenfold.export.proof.transformers_runtime import Transformers

    logits = Transformers.logits
    monkeypatch.setattr(Transformers, "logits", lambda self, ids: logits(self, ids) + 2e-4)
    with pytest.raises(ParityError, match="logits: largest difference"):
        export(llama_run, tmp_path / "hf", Request(target="hf"), Silent())
    assert not list(tmp_path.iterdir())


def test_safetensors_hold_all_that_a_reader_needs(llama_run: Path, tmp_path: Path) -> None:
    export(llama_run, tmp_path / "x.safetensors", Request(target="safetensors"), Silent())
    file, source = open_tensors(tmp_path / "x.safetensors"), open_source(llama_run)
    assert json.loads(file.metadata["sevenfold.model"])["d_model"] == 32
    assert file.metadata["sevenfold.tokenizer"].encode() == source.tokenizer
    from safetensors.torch import load_file

    assert torch.equal(
        load_file(tmp_path / "x.safetensors")["final_norm.weight"],
        torch.from_numpy(source.read("final_norm.weight")),
    )
