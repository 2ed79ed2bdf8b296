"""The shaders of web/law on a WebGPU adapter, through `wgpu`: one call for an operation, and
a whole forward pass of them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import wgpu

from sevenfold.core.numbers import fixed
from sevenfold.core.numbers.fixed import Ints, Scale
from sevenfold.engine.ops import Norm, QuantizedLinear
from sevenfold.engine.weights import IntegerModel, Layer

LAW = Path(__file__).resolve().parents[2] / "web" / "law"
Array = np.ndarray[Any, Any]
LANES = 64


def tables() -> Array:
    """The fixed tables, one after the other, as the prelude reads them."""
    return np.concatenate([fixed.exp2_table(), fixed.sigmoid_table(), fixed.rsqrt_table()]).astype(np.uint32)


def pack(codes: Ints) -> Array:
    """Codes [..., n] as words [..., ceil(n / 4)], lowest byte first, padded with zeros."""
    padded = np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, -codes.shape[-1] % 4)])
    return np.ascontiguousarray(padded.astype(np.int8)).view(np.uint32)


def unpack(words: Array, n: int) -> Ints:
    """Codes [..., n] of words; what is behind them must be zeros."""
    raw = np.ascontiguousarray(words).view(np.int8).astype(np.int64)
    assert not raw[..., n:].any(), "padding that is not zero"
    return raw[..., :n]


def pack_rows(m: Ints, s: Ints) -> Array:
    return (m << 16 | s).astype(np.uint32)


def pack_scale(scale: Scale) -> Array:
    return np.stack([scale.m, scale.e], axis=-1).astype(np.int32)


def scale_of(pairs: Array) -> Scale:
    return Scale(pairs[..., 0].astype(np.int64), pairs[..., 1].astype(np.int64))


def words(n: int) -> int:
    return -(-n // 4)


class Device:
    """An adapter. `source` gives the text of an operation, so that a test can spoil it."""

    def __init__(self) -> None:
        self.device = wgpu.gpu.request_adapter_sync().request_device_sync()
        self.tables = tables()
        self.edits: dict[str, tuple[str, str]] = {}
        self.compiled: dict[str, tuple[Any, Any, list[bool]]] = {}

    def source(self, name: str) -> str:
        text = "\n".join((LAW / f"{part}.wgsl").read_text() for part in ("prelude", name))
        old, new = self.edits.get(name, ("", ""))
        assert old in text
        return text.replace(old, new, 1) if old else text

    def compile(self, text: str, entry: str) -> tuple[Any, Any, list[bool]]:
        """Pipeline, layout, and which bindings are written."""
        if text not in self.compiled:
            modes = re.findall(r"@binding\((\d)\) var<storage, (\w+)>", text)
            assert [int(number) for number, _ in modes] == list(range(len(modes)))
            written = [mode == "read_write" for _, mode in modes]
            kinds = (wgpu.BufferBindingType.read_only_storage, wgpu.BufferBindingType.storage)
            layout = self.device.create_bind_group_layout(
                entries=[
                    {
                        "binding": number,
                        "visibility": wgpu.ShaderStage.COMPUTE,
                        "buffer": {"type": kinds[writes]},
                    }
                    for number, writes in enumerate(written)
                ]
            )
            pipeline = self.device.create_compute_pipeline(
                layout=self.device.create_pipeline_layout(bind_group_layouts=[layout]),
                compute={"module": self.device.create_shader_module(code=text), "entry_point": entry},
            )
            self.compiled[text] = pipeline, layout, written
        return self.compiled[text]

    def run(
        self, text: str, entry: str, groups: tuple[int, ...], sizes: list[int], *arrays: Array
    ) -> list[Array]:
        """Dispatch; gives what the bindings hold that the shader writes.

        Outputs are passed as arrays of their shape.
        """
        pipeline, layout, written = self.compile(text, entry)
        held = [self.tables, np.array(sizes, np.int64).astype(np.int32), *arrays]
        assert len(held) == len(written)
        assert all(array.dtype.itemsize == 4 for array in held)
        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC
        buffers = [
            self.device.create_buffer_with_data(data=np.ascontiguousarray(array), usage=usage)
            for array in held
        ]
        group = self.device.create_bind_group(
            layout=layout,
            entries=[{"binding": i, "resource": {"buffer": b}} for i, b in enumerate(buffers)],
        )
        encoder = self.device.create_command_encoder()
        compute = encoder.begin_compute_pass()
        compute.set_pipeline(pipeline)
        compute.set_bind_group(0, group)
        compute.dispatch_workgroups(*groups)
        compute.end()
        self.device.queue.submit([encoder.finish()])
        return [
            np.frombuffer(self.device.queue.read_buffer(buffer), array.dtype).reshape(array.shape)
            for buffer, array, writes in zip(buffers, held, written, strict=True)
            if writes
        ]

    # One method for an operation: NumPy in, NumPy out, as the reference has it.

    def embed(self, ids: Ints, codes_VD: Ints, m_V: Ints, s_V: Ints) -> Ints:
        shape = (ids.size, codes_VD.shape[1])
        inputs = (ids.astype(np.uint32), pack(codes_VD), pack_rows(m_V, s_V), np.zeros(shape, np.int32))
        return self.run(self.source("embed"), "embed", (ids.size,), [shape[1]], *inputs)[0].astype(np.int64)

    def rms_norm(self, x_TD: Ints, norm: Norm) -> tuple[Ints, Scale]:
        n, d = x_TD.shape
        sizes = [d, norm.exponent, norm.eps >> 32, norm.eps & 0xFFFFFFFF]
        inputs = (x_TD.astype(np.int32), norm.gain_D.astype(np.int32))
        outputs = (np.zeros((n, words(d)), np.uint32), np.zeros((n, 2), np.int32))
        codes, scale = self.run(self.source("rms_norm"), "rms_norm", (n,), sizes, *inputs, *outputs)
        return unpack(codes, d), scale_of(scale)

    def linear(self, codes_TI: Ints, layer: QuantizedLinear) -> Ints:
        (n, i), o = codes_TI.shape, layer.row_m_O.size
        inputs = (
            pack(codes_TI),
            pack(layer.codes_OI.astype(np.int64)),
            pack_rows(layer.row_m_O, layer.row_s_O),
        )
        groups = (-(-o // LANES), n)
        out = self.run(self.source("linear"), "linear", groups, [i, o], *inputs, np.zeros((n, o), np.int32))
        return out[0].astype(np.int64)

    def heads(
        self,
        y_THE: Ints,
        cos_sin_CP2: Ints,
        token: Scale,
        exponent: int,
        first: int,
        turn: bool,
        score: Scale | None,
    ) -> tuple[Ints, Scale]:
        n, heads, width = y_THE.shape
        extra = [int(score.m), int(score.e)] if score else [0, 0]
        # In int16, as models hold it, a shift by 16 leaves nothing.
        cos_sin_CP2 = cos_sin_CP2.astype(np.int64)
        table = (cos_sin_CP2[..., 0] << 16 | cos_sin_CP2[..., 1] & 0xFFFF) & 0xFFFFFFFF
        inputs = (y_THE.astype(np.int32), table.astype(np.uint32), pack_scale(token))
        outputs = (np.zeros((n, heads, words(width)), np.uint32), np.zeros((n, heads, 2), np.int32))
        sizes = [width, heads, exponent, first, int(turn), *extra, 0]
        codes, scale = self.run(self.source("heads"), "heads", (heads, n), sizes, *inputs, *outputs)
        return unpack(codes, width), scale_of(scale)

    def attention(
        self, q: tuple[Ints, Scale], k: tuple[Ints, Scale], v: tuple[Ints, Scale], n_past: int
    ) -> tuple[Ints, Ints]:
        """o [T, H, E] and its exponents [T, H], from q [T, H, E] and k, v [S, K, E]."""
        (n, heads, width), (n_keys, n_kv, _) = q[0].shape, k[0].shape
        sizes = [width, heads, n_kv, n_keys, n_past]
        inputs = (pack(q[0]), pack_scale(q[1]), pack(k[0]), pack_scale(k[1]))
        groups = (-(-n_keys // LANES), heads, n)
        table = np.zeros((n, heads, n_keys), np.int32)
        scores = self.run(self.source("scores"), "score", groups, sizes, *inputs, table)[0]
        held = (scores, pack_scale(v[1]), np.zeros((n, heads), np.uint32), np.zeros((n, heads), np.int32))
        weights, totals, low = self.run(self.source("weights"), "weigh", (heads, n), sizes, *held)
        held = (weights, pack(v[0]), totals, np.zeros(q[0].shape, np.int32))
        o = self.run(self.source("values"), "gather", (width, heads, n), sizes, *held)[0]
        return o.astype(np.int64), low.astype(np.int64)

    def join(self, o_THE: Ints, low_TH: Ints) -> tuple[Ints, Scale]:
        n, heads, width = o_THE.shape
        outputs = (np.zeros((n, words(heads * width)), np.uint32), np.zeros((n, 2), np.int32))
        inputs = (o_THE.astype(np.int32), low_TH.astype(np.int32))
        codes, scale = self.run(self.source("join"), "join", (n,), [width, heads], *inputs, *outputs)
        return unpack(codes, heads * width), scale_of(scale)

    def swiglu(self, gate_TF: Ints, up_TF: Ints, token: Scale, gate_e: int, up_e: int) -> tuple[Ints, Scale]:
        n, f = gate_TF.shape
        outputs = (np.zeros((n, words(f)), np.uint32), np.zeros((n, 2), np.int32))
        inputs = (gate_TF.astype(np.int32), up_TF.astype(np.int32), pack_scale(token))
        experts = np.zeros(n, np.uint32)
        held = (*inputs, *outputs, experts)
        codes, scale = self.run(self.source("swiglu"), "swiglu", (n,), [f, gate_e, up_e], *held)
        return unpack(codes, f), scale_of(scale)

    def add_residual(self, x_TD: Ints, y_TD: Ints, token: Scale, exponent: int, fraction: int) -> Ints:
        n, d = x_TD.shape
        experts = np.zeros(n, np.uint32)
        inputs = (y_TD.astype(np.int32), pack_scale(token), x_TD.astype(np.int32), experts)
        sizes = [d, fraction, exponent]
        out = self.run(self.source("residual"), "add_residual", (-(-d // LANES), n), sizes, *inputs)
        return out[0].astype(np.int64)

    def head(self, y_TV: Ints, token: Scale, exponent: int) -> Ints:
        n, v = y_TV.shape
        inputs = (y_TV.astype(np.int32), pack_scale(token), np.zeros((n, v), np.int32))
        out = self.run(self.source("head"), "head", (-(-v // LANES), n), [v, exponent], *inputs)
        return out[0].astype(np.int64)

    def argmax(self, logits_TV: Ints) -> Ints:
        n, v = logits_TV.shape
        out = self.run(
            self.source("argmax"), "argmax", (n,), [v], logits_TV.astype(np.int32), np.zeros(n, np.uint32)
        )
        return out[0].astype(np.int64)


@cache
def device() -> Device:
    return Device()


def _feed_forward(gpu: Device, layer: Layer, x_TD: Ints, experts_T: Ints, fraction: int) -> Ints:
    codes, token = gpu.rms_norm(x_TD, layer.ffn_norm)
    out = x_TD.copy()
    for index, ffn in enumerate(layer.experts):
        mine = np.nonzero(experts_T == index)[0]
        if mine.size:
            t = Scale(token.m[mine], token.e[mine])
            gate, up = gpu.linear(codes[mine], ffn.gate), gpu.linear(codes[mine], ffn.up)
            hidden, scale = gpu.swiglu(gate, up, t, ffn.gate.exponent, ffn.up.exponent)
            y = gpu.linear(hidden, ffn.down)
            out[mine] = gpu.add_residual(x_TD[mine], y, scale, ffn.down.exponent, fraction)
    return out


def forward(gpu: Device, model: IntegerModel, ids: Ints) -> tuple[Ints, list[tuple[tuple[Ints, Scale], ...]]]:
    """Logits [T, V] of a prompt at once, and the keys and values of each layer; shaders
    only between ids and logits.
    """
    s, n = model.shape, ids.size
    x = gpu.embed(ids, model.embedding_VD.astype(np.int64), model.embedding_m_V, model.embedding_s_V)
    experts, layers, cache = model.router_V[ids], model.layers, []
    if model.stacks:
        layers, experts = layers + model.stacks[int(experts[0])], np.zeros_like(ids)
    score = Scale(np.array(s.score_m), np.array(s.score_e))
    for layer in layers:
        codes, token = gpu.rms_norm(x, layer.attn_norm)

        def cut(
            projection: QuantizedLinear, heads: int, turn: bool, extra: Scale | None = None
        ) -> tuple[Ints, Scale]:
            y = gpu.linear(codes, projection).reshape(n, heads, s.head_dim)  # noqa: B023  (called now)
            exponent = projection.exponent
            return gpu.heads(y, model.rope_CP2, token, exponent, 0, turn, extra)  # noqa: B023  (as above)

        q, k = cut(layer.q, s.n_heads, True, score), cut(layer.k, s.n_kv_heads, True)
        v = cut(layer.v, s.n_kv_heads, False)
        cache.append((k, v))
        joined, scale = gpu.join(*gpu.attention(q, k, v, 0))
        x = gpu.add_residual(x, gpu.linear(joined, layer.o), scale, layer.o.exponent, s.residual_exponent)
        x = _feed_forward(gpu, layer, x, experts, s.residual_exponent)
    codes, token = gpu.rms_norm(x, model.final_norm)
    return gpu.head(gpu.linear(codes, model.head), token, model.head.exponent), cache
