"""CTranslate2 in int8 for worker.py: the model is made with its own specification
classes, generation is its own loop.
"""

from __future__ import annotations

import time
from pathlib import Path

import ctranslate2
import numpy as np
from ctranslate2.specs import common_spec, transformer_spec

from shapes import Shape, random_weights


def write_model(shape: Shape, directory: Path) -> Path:
    """The shape's random weights as an int8 model, unless it is there."""
    path = directory / f"{shape.name}.ct2"
    if (path / "model.bin").exists():
        return path
    weights = dict(random_weights(shape))
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        shape.n_layers,
        shape.n_heads,
        pre_norm=True,
        activation=common_spec.Activation.SWISH,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
        rotary_base=shape.rope_theta,
        num_heads_kv=shape.n_heads,
        head_dim=shape.head_dim,
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = decoder.projection.weight = weights["embedding.weight"]
    decoder.layer_norm.gamma = weights["final_norm.weight"]
    for index, layer in enumerate(decoder.layer):
        own = {n.removeprefix(f"layers.{index:02d}."): w for n, w in weights.items()}
        attention = layer.self_attention
        attention.layer_norm.gamma, layer.ffn.layer_norm.gamma = (
            own["attn_norm.weight"],
            own["ffn_norm.weight"],
        )
        attention.linear[0].weight = np.concatenate([own[f"attn.{n}_proj.weight"] for n in "qkv"])
        attention.linear[1].weight = own["attn.o_proj.weight"]
        layer.ffn.linear_0.weight = own["ffn.gate_proj.weight"]
        layer.ffn.linear_0_noact.weight = own["ffn.up_proj.weight"]
        layer.ffn.linear_1.weight = own["ffn.down_proj.weight"]
    spec.register_vocabulary([f"t{i}" for i in range(shape.vocab_size)])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "t0"
    spec.config.layer_norm_epsilon = shape.norm_eps
    spec.validate()
    spec.optimize(quantization="int8")
    path.mkdir(parents=True)
    spec.save(str(path))
    return path


class CTranslate2:
    """See worker.py."""

    def __init__(self, shape: Shape, threads: int, directory: Path) -> None:
        self.version = f"{ctranslate2.__version__} int8"
        self.generator = ctranslate2.Generator(
            str(write_model(shape, directory)),
            device="cpu",
            compute_type="int8",
            inter_threads=1,
            intra_threads=threads,
        )

    def _generate(self, ids: list[int], length: int) -> tuple[float, list[int]]:
        prompt = [f"t{i}" for i in ids]
        began = time.perf_counter()
        # A least length keeps it from stopping at an end token.
        (result,) = self.generator.generate_batch(
            [prompt], max_length=length, min_length=length, sampling_topk=1, include_prompt_in_result=False
        )
        return time.perf_counter() - began, result.sequences_ids[0]

    def prefill(self, ids: list[int]) -> tuple[float, list[int]]:
        return self._generate(ids, 1)

    def decode(self, ids: list[int], steps: int) -> tuple[float, list[int]]:
        """Its loop takes prompt and steps together, so the prompt's time,
        measured just before, is taken off.
        """
        alone, _ = self._generate(ids, 1)
        seconds, tokens = self._generate(ids, 1 + steps)
        return seconds - alone, tokens[:steps]
