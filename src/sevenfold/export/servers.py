"""Write configurations of GPU servers for an exported model: vLLM and TensorRT-LLM.

These servers run the float model with their own arithmetic. Their answers have no receipts, and
batches may change them. The directory is that of the target `hf`. The files name it by ".", so the
servers must be started inside it.
"""

from __future__ import annotations

from pathlib import Path

from sevenfold.core.files import write_bytes
from sevenfold.core.hashing import Json
from sevenfold.export.hf.hf_directory import DTYPES
from sevenfold.export.source import ExportSource

VLLM, TRTLLM = "vllm.yaml", "trtllm.yaml"
# Listen on loopback, as `s7 serve` does.
HOST, PORT = "127.0.0.1", 8000
# The most alternatives of a token, as in `s7 serve`.
LOGPROBS = 20


def vllm(source: ExportSource, quant: str) -> dict[str, Json]:
    """Return the file for `vllm serve --config`: options of the command line by their long names."""
    return {
        "model": ".",
        "served-model-name": source.name,
        "dtype": DTYPES[quant][1],
        "max-model-len": source.spec.context,
        "max-logprobs": LOGPROBS,
        "seed": 0,
        # Sample only when a request asks for it.
        "generation-config": "vllm",
        "host": HOST,
        "port": PORT,
    }


def trtllm(source: ExportSource, quant: str) -> dict[str, Json]:
    """Return the file for `trtllm-serve --config`: fields of its model arguments."""
    return {"backend": "pytorch", "dtype": DTYPES[quant][1], "max_seq_len": source.spec.context}


def write_configs(source: ExportSource, directory: Path, quant: str) -> None:
    """Write both files beside the model. Raises StorageError."""
    for name, values in ((VLLM, vllm(source, quant)), (TRTLLM, trtllm(source, quant))):
        lines = [f"{key}: {_scalar(value)}\n" for key, value in values.items()]
        write_bytes(directory / name, "".join(lines).encode())


def _scalar(value: Json) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
