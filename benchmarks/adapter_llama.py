"""llama.cpp in Q8_0 for worker.py: the model is written with its own `gguf` package, the
loop is native (llama_loop.cpp).
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

import gguf
import numpy as np

from shapes import Shape, random_weights
from worker import UnableError

# peers.sh builds one for each instruction set; a machine without one of ours has "native".
ISA_VARIABLE = "S7_ISA"
NAMES = {
    "attn.q_proj": "attn_q", "attn.k_proj": "attn_k", "attn.v_proj": "attn_v", "attn.o_proj": "attn_output",
    "ffn.gate_proj": "ffn_gate", "ffn.up_proj": "ffn_up", "ffn.down_proj": "ffn_down",
    "attn_norm": "attn_norm", "ffn_norm": "ffn_norm",
}  # fmt: skip


def tensor_name(name: str) -> str:
    """GGUF's name of one of our tensors."""
    if name.startswith("layers."):
        _, layer, rest = name.split(".", 2)
        return f"blk.{int(layer)}.{NAMES[rest.removesuffix('.weight')]}.weight"
    return {"embedding.weight": "token_embd.weight", "final_norm.weight": "output_norm.weight"}[name]


def write_model(shape: Shape, directory: Path) -> Path:
    """The shape's random weights in Q8_0, unless they are there.

    Without `output.weight` the head is the embedding.
    """
    path = directory / f"{shape.name}.q8_0.gguf"
    if path.exists():
        return path
    unfinished = path.with_suffix(f".{os.getpid()}")
    writer = gguf.GGUFWriter(unfinished, "llama")
    writer.add_vocab_size(shape.vocab_size)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.d_model)
    writer.add_block_count(shape.n_layers)
    writer.add_feed_forward_length(shape.d_ffn)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    kind = gguf.GGMLQuantizationType.Q8_0
    for name, weight in random_weights(shape):
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            # This architecture turns neighbours, not halves.
            halves = weight.reshape(shape.n_heads, 2, shape.head_dim // 2, shape.d_model)
            weight = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weight.shape)
        if weight.ndim == 2:
            writer.add_tensor(tensor_name(name), gguf.quants.quantize(weight, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor_name(name), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(path)
    return path


class LlamaCpp:
    """See worker.py."""

    def __init__(self, shape: Shape, threads: int, directory: Path) -> None:
        isa = os.environ.get(ISA_VARIABLE, "native")
        loop = Path(sys.prefix) / f"libllama_loop-{isa}.so"
        if not loop.exists():
            raise UnableError(f"it was not built for {isa}: `make bench-peers`")
        self.loop = ctypes.CDLL(str(loop))
        self.loop.loop_open.restype = ctypes.c_void_p
        self.loop.loop_version.restype = self.loop.loop_system.restype = ctypes.c_char_p
        path = write_model(shape, directory)
        handle = self.loop.loop_open(str(path).encode(), threads, shape.context)
        if handle is None:
            raise UnableError(f"llama.cpp does not load {path.name}")
        self.handle = ctypes.c_void_p(handle)
        built_for = [
            part.split(" = ")[0].split()[-1] for part in self.loop.loop_system().decode().split("|")[:-1]
        ]
        release = self.loop.loop_version().decode()
        self.version = f"llama.cpp of llama-cpp-python {release} Q8_0 ({', '.join(built_for)})"

    def _read(self, ids: list[int]) -> int:
        token = self.loop.loop_read(self.handle, (ctypes.c_int32 * len(ids))(*ids), len(ids))
        if token < 0:
            raise RuntimeError("llama_decode failed")
        return int(token)

    def prefill(self, ids: list[int]) -> tuple[float, list[int]]:
        began = time.perf_counter()
        token = self._read(ids)
        return time.perf_counter() - began, [token]

    def decode(self, ids: list[int], steps: int) -> tuple[float, list[int]]:
        self._read(ids[:-1])
        out = (ctypes.c_int32 * steps)()
        began = time.perf_counter()
        done = self.loop.loop_steps(self.handle, ids[-1], steps, out)
        return time.perf_counter() - began, list(out[:done])
