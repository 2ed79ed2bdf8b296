"""`--to vllm-config`: a model that Transformers reads, and options that the servers have."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from sevenfold.core.process.log import Silent
from sevenfold.export.run import Request, export
from sevenfold.export.servers import TRTLLM, VLLM

# Of `vllm serve --help` and of the arguments of a model of TensorRT-LLM, as their pages list them.
VLLM_OPTIONS = {
    "model", "served-model-name", "dtype", "max-model-len", "max-logprobs", "seed", "generation-config",
    "host", "port",
}  # fmt: skip
TRTLLM_FIELDS = {"backend", "dtype", "max_seq_len"}


def test_the_servers_files_describe_the_model_beside_them(llama_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "served"
    export(llama_run, out, Request(target="vllm-config", quant="bf16", proven=False), Silent())
    config = json.loads((out / "config.json").read_text())
    vllm = yaml.safe_load((out / VLLM).read_text())
    trtllm = yaml.safe_load((out / TRTLLM).read_text())
    assert vllm.keys() == VLLM_OPTIONS
    assert trtllm.keys() == TRTLLM_FIELDS
    assert vllm["dtype"] == trtllm["dtype"] == config["torch_dtype"] == "bfloat16"
    assert vllm["max-model-len"] == trtllm["max_seq_len"] == config["max_position_embeddings"]
    # Started inside the directory: no path of the machine that exported it, and loopback alone.
    assert vllm["model"] == "."
    assert vllm["host"] == "127.0.0.1"
    assert (out / "model.safetensors").is_file()
    plain = tmp_path / "plain"
    export(llama_run, plain, Request(target="hf", quant="bf16", proven=False), Silent())
    names = {path.name for path in plain.iterdir()}
    assert {path.name for path in out.iterdir()} == names | {VLLM, TRTLLM}
    assert all((plain / name).read_bytes() == (out / name).read_bytes() for name in names)
