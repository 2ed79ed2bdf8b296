"""Configurations of servers on a GPU for an exported model: vLLM and TensorRT-LLM.

They run the float model, on their own arithmetic: an answer of theirs has no receipt, and batches
may change it. The directory is that of the target `hf`; the files name it by ".", so the servers are
started inside it.
"""

from __future__ import annotations

from pathlib import Path

from sevenfold.core.files import write_bytes
from sevenfold.core.hashing import Json
from sevenfold.export.hf.hf_directory import DTYPES
from sevenfold.export.source import ExportSource

VLLM, TRTLLM = "vllm.yaml", "trtllm.yaml"
# Loopback, as `s7 serve` has it.
HOST, PORT = "127.0.0.1", 8000
# Alternatives beside a token, as `s7 serve` bounds them.
LOGPROBS = 20


def vllm(source: ExportSource, quant: str) -> dict[str, Json]:
    """Return what `vllm serve --config` reads: options of the command line by their long names."""
    return {
        "model": ".",
        "served-model-name": source.name,
        "dtype": DTYPES[quant][1],
        "max-model-len": source.spec.context,
        "max-logprobs": LOGPROBS,
        "seed": 0,
        # Nothing is drawn that a request does not ask for.
        "generation-config": "vllm",
        "host": HOST,
        "port": PORT,
    }


def trtllm(source: ExportSource, quant: str) -> dict[str, Json]:
    """Return what `trtllm-serve --config` reads: fields of its arguments of a model."""
    return {"backend": "pytorch", "dtype": DTYPES[quant][1], "max_seq_len": source.spec.context}


def write_configs(source: ExportSource, directory: Path, quant: str) -> None:
    """Write both files beside the model. Raises StorageError."""
    for name, values in ((VLLM, vllm(source, quant)), (TRTLLM, trtllm(source, quant))):
        lines = [f"{key}: {_scalar(value)}\n" for key, value in values.items()]
        write_bytes(directory / name, "".join(lines).encode())


def _scalar(value: Json) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
