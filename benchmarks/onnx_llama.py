"""A model with the random weights of a shape as transformers.js takes it: ONNX, dynamic INT8 ("q8").

It runs in an environment of its own, which has `onnx` and `onnxruntime`; `web.py` calls it.

    PYTHON benchmarks/onnx_llama.py DIRECTORY SHAPE

DIRECTORY gets config.json and onnx/model_quantized.onnx. The graph is that of the published exports
of Llama: fused norms and GroupQueryAttention with its rotation, projections as MatMulInteger. Only
the logits of the last position are computed, which published exports do for all.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from shapes import SHAPES, SMALLEST, Shape, random_weights

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
CONTEXT = 2048


class Graph:
    """Nodes and constants that are put together in order."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, inputs: list[str], outputs: list[str], domain: str = "", **given: Any) -> str:
        """Add a node; returns its first output."""
        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **given))
        return outputs[0]

    def product(self, name: str, x: str, weight: NDArray[np.float32]) -> str:
        """Add x times a weight of [out, in]."""
        return self.node("MatMul", [x, self.constant(f"{name}.w", np.ascontiguousarray(weight.T))], [name])


def rotations(shape: Shape) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """cos and sin of each position and pair, [CONTEXT, head_dim / 2]."""
    rates = shape.rope_theta ** (-np.arange(0, shape.head_dim, 2) / shape.head_dim)
    angles = np.outer(np.arange(CONTEXT), rates)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def attention(graph: Graph, shape: Shape, layer: int, x: str, weights: dict[str, NDArray[np.float32]]) -> str:
    """Add attention of one layer with its cache."""
    at, n = f"layers.{layer:02d}.attn", f"a{layer}"
    q, k, v = (graph.product(f"{n}.{p}", x, weights[f"{at}.{p}_proj.weight"]) for p in "qkv")
    past = [f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"]
    present = [f"present.{layer}.key", f"present.{layer}.value"]
    joined = graph.node(
        "GroupQueryAttention", [q, k, v, *past, "keys", "total", "cos", "sin"], [f"{n}.out", *present],
        domain="com.microsoft", num_heads=shape.n_heads, kv_num_heads=shape.n_heads, do_rotary=1,
    )  # fmt: skip
    return graph.product(f"{n}.o", joined, weights[f"{at}.o_proj.weight"])


def feed_forward(graph: Graph, layer: int, x: str, weights: dict[str, NDArray[np.float32]]) -> str:
    """Add SwiGLU of one layer."""
    at, n = f"layers.{layer:02d}.ffn", f"f{layer}"
    gate = graph.product(f"{n}.gate", x, weights[f"{at}.gate_proj.weight"])
    up = graph.product(f"{n}.up", x, weights[f"{at}.up_proj.weight"])
    sigmoid = graph.node("Sigmoid", [gate], [f"{n}.sigmoid"])
    silu = graph.node("Mul", [gate, sigmoid], [f"{n}.silu"])
    hidden = graph.node("Mul", [silu, up], [f"{n}.hidden"])
    return graph.product(f"{n}.down", hidden, weights[f"{at}.down_proj.weight"])


def lengths(graph: Graph) -> None:
    """Add what attention asks of the mask: the last key of each sequence, and the length of all."""
    graph.constant("axis", np.array([1], np.int64))
    graph.constant("one", np.array([1], np.int64))
    graph.constant("second", np.array(1, np.int64))
    counted = graph.node("ReduceSum", ["attention_mask", "axis"], ["counted"], keepdims=0)
    last = graph.node("Sub", [counted, "one"], ["last"])
    graph.node("Cast", [last], ["keys"], to=TensorProto.INT32)
    length = graph.node(
        "Gather", [graph.node("Shape", ["attention_mask"], ["mask_shape"]), "second"], ["length"]
    )
    graph.node("Cast", [length], ["total"], to=TensorProto.INT32)


def model_of(shape: Shape) -> onnx.ModelProto:
    """The model in FP32."""
    weights, graph = dict(random_weights(shape)), Graph()
    for name, table in zip(("cos", "sin"), rotations(shape), strict=True):
        graph.constant(name, table)
    ones = graph.constant("gain", np.ones(shape.d_model, np.float32))
    lengths(graph)
    graph.constant("embedding", weights["embedding.weight"])
    skip = graph.node("Gather", ["embedding", "input_ids"], ["x0"])
    x = graph.node(
        "SimplifiedLayerNormalization", [skip, ones], ["n0"], axis=-1, epsilon=shape.norm_eps, stash_type=1
    )

    def joined(name: str, added: str) -> tuple[str, str]:
        """The norm of the sum of the residual and what a block adds, and that sum."""
        outputs = [f"{name}.normed", "", "", f"{name}.sum"]
        graph.node(
            "SkipSimplifiedLayerNormalization", [added, skip, ones], outputs,
            domain="com.microsoft", epsilon=shape.norm_eps,
        )  # fmt: skip
        return outputs[0], outputs[3]

    for layer in range(shape.n_layers):
        x, skip = joined(f"j{layer}", attention(graph, shape, layer, x, weights))
        x, skip = joined(f"k{layer}", feed_forward(graph, layer, x, weights))
    graph.constant("end", np.array([-1], np.int64))
    tail = graph.node("Gather", [x, "end"], ["tail"], axis=1)
    head = graph.product("head", tail, weights["embedding.weight"])
    graph.node("Identity", [head], ["logits"])
    cache = [shape.n_heads, "past_sequence_length", shape.head_dim]
    inputs = [
        helper.make_tensor_value_info(n, INT64, ["batch_size", f"{n}_length"])
        for n in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", FLOAT, ["batch_size", 1, shape.vocab_size])]
    for layer in range(shape.n_layers):
        for what in ("key", "value"):
            name = f"past_key_values.{layer}.{what}"
            inputs.append(helper.make_tensor_value_info(name, FLOAT, ["batch_size", *cache]))
            outputs.append(helper.make_tensor_value_info(f"present.{layer}.{what}", FLOAT, None))
    return helper.make_model(
        helper.make_graph(graph.nodes, "llama", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9,
    )


def configuration(shape: Shape) -> dict[str, Any]:
    """What transformers.js reads beside the model."""
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": shape.d_model,
        "num_hidden_layers": shape.n_layers, "num_attention_heads": shape.n_heads,
        "num_key_value_heads": shape.n_heads, "head_dim": shape.head_dim,
        "intermediate_size": shape.d_ffn, "vocab_size": shape.vocab_size,
        "max_position_embeddings": CONTEXT, "eos_token_id": None, "pad_token_id": 0,
    }  # fmt: skip


def main() -> None:
    """Write the files of one shape."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("shape", choices=[SMALLEST.name, *SHAPES])
    args = parser.parse_args()
    shape = replace((SHAPES | {SMALLEST.name: SMALLEST})[args.shape], context=CONTEXT)
    (args.directory / "onnx").mkdir(parents=True, exist_ok=True)
    plain = args.directory / "onnx" / "model.onnx"
    onnx.save(model_of(shape), plain)
    # Types behind an operator of ONNX Runtime's own are not inferred.
    types = {"DefaultTensorType": FLOAT}
    quantized = plain.with_name("model_quantized.onnx")
    quantize_dynamic(plain, quantized, weight_type=QuantType.QInt8, per_channel=True, extra_options=types)
    plain.unlink()
    (args.directory / "config.json").write_text(json.dumps(configuration(shape)))
    (args.directory / "generation_config.json").write_text("{}")


if __name__ == "__main__":
    main()
