"""GGUF files: keys, types and tensors as the `gguf` library reads them back;
I2_S against its definition.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.core.errors import SevenfoldError, StorageError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.export.gguf import vocabulary
from sevenfold.export.gguf.gguf_file import layout, read_header, stored_reader, write_gguf
from sevenfold.export.gguf.quants import QUANTS, find_quant, pack, pack_i2_s, type_for, unpack_i2_s
from sevenfold.export.names import deinterleave, interleave
from sevenfold.export.run import Request, export
from sevenfold.export.source import open_source
from sevenfold.recipe.schema import ModelSpec
from sevenfold.recipe.sizing import tensors
from sevenfold.runs.job import Job

LIBRARY = [name for name, quant in QUANTS.items() if quant.maker == "library"]


def test_metadata(llama_run: Path, tmp_path: Path) -> None:
    source = open_source(llama_run)
    write_gguf(source, tmp_path / "x.gguf", find_quant("f16"))
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    keys = {name: field.contents() for name, field in reader.fields.items()}
    wanted = {
        "general.architecture": "llama",
        "general.file_type": 1,
        "llama.context_length": 64,
        "llama.embedding_length": 32,
        "llama.block_count": 2,
        "llama.feed_forward_length": 48,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 1,
        "llama.attention.key_length": 16,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "llama.rope.freq_base": 10000.0,
        "llama.rope.dimension_count": 16,
        "llama.vocab_size": 400,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "sevenfold.tokenizer.pieces": "llama3",
    }
    assert {name: keys.get(name) for name in wanted} == wanted
    assert json.loads(keys["sevenfold.provenance"])["recipe"]["name"] == "tiny-dense"
    tokens, types, merges = (keys[f"tokenizer.ggml.{name}"] for name in ("tokens", "token_type", "merges"))
    assert len(tokens) == len(types) == len(keys["tokenizer.ggml.scores"]) == 400
    assert vocabulary.build(tokens, types, merges, "llama3") == source.tokenizer


def test_the_root_of_a_sealed_run_leaves_with_it(dense_run: Job, tmp_path: Path) -> None:
    source = open_source(dense_run.out)
    write_gguf(source, tmp_path / "x.gguf", find_quant("f32"))
    keys, _ = read_header(tmp_path / "x.gguf")
    assert keys["sevenfold.root"] == dense_run.manifest("seal").facts["root"]


@pytest.mark.parametrize("name", LIBRARY)
def test_tensors_come_back(llama_run: Path, tmp_path: Path, name: str) -> None:
    source = open_source(llama_run)
    plan = write_gguf(source, tmp_path / "x.gguf", find_quant(name))
    read, library = stored_reader(tmp_path / "x.gguf", source.spec), gguf.GGUFReader(tmp_path / "x.gguf")
    assert len(library.tensors) == len(tensors(source.spec))
    for ours in tensors(source.spec):
        want, got = source.read(ours), read(ours)
        worst = np.abs(want - got).max() / np.abs(want).max()
        bound = {"f32": 0, "f16": 1e-3, "bf16": 5e-3, "q8_0": 0.01}.get(plan.types[ours].name, 0.6)
        assert worst <= bound, (ours, plan.types[ours].name, worst)
    by_name = {tensor.name: tensor for tensor in library.tensors}
    stored = gguf.dequantize(by_name["blk.1.attn_q.weight"].data, by_name["blk.1.attn_q.weight"].tensor_type)
    assert np.array_equal(deinterleave(stored, 2), read("layers.01.attn.q_proj.weight"))


def test_types_fall_back_where_rows_do_not_divide() -> None:
    q4 = find_quant("q4_k")
    assert type_for(q4, (64, 512), is_head=False).name == "q4_k"
    assert type_for(q4, (64, 384), is_head=False).name == "q5_0"
    assert type_for(q4, (64, 48), is_head=False).name == "f16"
    assert type_for(q4, (64, 512), is_head=True).name == "q6_k"
    assert type_for(q4, (512,), is_head=False).name == "f32"


def test_every_fallback_ends(llama_run: Path) -> None:
    source = open_source(llama_run)
    for quant in QUANTS.values():
        for kind, shape in zip(
            layout(source, quant).types.values(), tensors(source.spec).values(), strict=True
        ):
            assert shape[-1] % kind.block == 0


def scalar_i2_s(weight: list[float]) -> bytes:
    """The definition, value by value (specs/export.md, section 5), for
    weights that are ternary already.
    """
    scale = max(abs(w) for w in weight)
    out = bytearray(len(weight) // 4)
    for i, w in enumerate(weight):
        code = 1 if abs(w) < 1e-6 else 2 if w > 0 else 0
        block, place = divmod(i, 128)
        out[32 * block + place % 32] |= code << (6 - 2 * (place // 32))
    return bytes(out) + struct.pack("<f", scale) + bytes(28)


@given(st.lists(st.sampled_from([-1, 0, 1]), min_size=256, max_size=256), st.floats(0.125, 8.0, width=32))
def test_i2_s_is_its_definition(codes: list[int], scale: float) -> None:
    weight = (np.array(codes, np.float32) * np.float32(scale)).reshape(2, 128)
    data = pack_i2_s(weight)
    assert data.tobytes() == scalar_i2_s([float(w) for w in weight.reshape(-1)])
    assert np.array_equal(unpack_i2_s(data, (2, 128)), weight)


def test_i2_s_makes_other_weights_ternary_by_their_mean() -> None:
    weight = np.random.default_rng(1).standard_normal((4, 128)).astype(np.float32)
    mean = np.abs(weight.astype(np.float64)).mean()
    want = np.clip(np.round(weight / mean), -1, 1) * np.float32(mean)
    assert np.array_equal(unpack_i2_s(pack_i2_s(weight), (4, 128)), want.astype(np.float32))


def test_turning_rows_is_undone() -> None:
    weight = np.arange(4 * 8 * 3, dtype=np.float32).reshape(32, 3)
    turned = interleave(weight, 4)
    assert turned[:4, 0].tolist() == [0, 12, 3, 15]  # pairs (0, 4), (1, 5) of the first head, side by side
    assert np.array_equal(deinterleave(turned, 4), weight)


def test_llama_cpp_types_need_llama_cpp() -> None:
    with pytest.raises(UsageError, match="make interop"):
        pack(find_quant("q4_k"), np.zeros((1, 256), np.float32), None, None)


def test_code_pieces_are_refused_unless_ids_only(dense_run: Job, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--ids-only"):
        export(dense_run.out, tmp_path / "x.gguf", Request(target="gguf", proven=False), Silent())
    assert not list(tmp_path.iterdir())
    report = export(
        dense_run.out, tmp_path / "x.gguf", Request(target="gguf", proven=False, ids_only=True), Silent()
    )
    assert [check["status"] for check in report["checks"]] == ["pass"]


@pytest.mark.parametrize("cut", [3, 24, 2000, 20000, -1])
def test_a_damaged_file_is_one_line(llama_run: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.gguf"
    write_gguf(open_source(llama_run), path, find_quant("f16"))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StorageError, match="GGUF") as caught:
        read_header(path)
    assert "\n" not in str(caught.value)


def test_a_type_or_a_shape_that_is_not_known_is_one_line(
    llama_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sevenfold.export.gguf import gguf_file as room

    path = tmp_path / "x.gguf"
    write_gguf(open_source(llama_run), path, find_quant("f16"))
    build = room._Header._build_tensors
    for change, words in (
        ({"type_id": 99}, "type 99"),
        ({"shape": ()}, "not inside"),
        ({"shape": (1 << 40,)}, "not inside"),
    ):

        def odd(self, starts, fields, change=change):
            build(self, starts, fields)
            name = next(iter(self.places))
            self.places[name] = dataclasses.replace(self.places[name], **change)

        monkeypatch.setattr(room._Header, "_build_tensors", odd)
        with pytest.raises(StorageError, match=words):
            read_header(path)


HYBRID = {
    "scheme": "hybrid",
    "local_chunk": 8,
    "global_stride": 4,
    "global_tokens": "learned_summaries",
    "streaming_links": "ring",
    "rope_scaling": "none",
    "gqa": 1,
    "kv_quant_bits": 8,
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"moe": {"kind": "token_routed", "experts": ("code", "general")}}, "token-routed experts"),
        (
            {"moe": {"kind": "expert_stacks", "experts": ("a", "b"), "n_layers": 1, "d_ffn": 8}},
            "expert stacks",
        ),
        ({"rope_scaling": {"kind": "yarn", "factor": 2.0}}, "YaRN"),
        ({"attention": HYBRID}, "hybrid attention"),
    ],
)
def test_what_a_llama_cannot_express_is_refused(change: dict, words: str) -> None:
    from sevenfold.export.names import check_expressible

    shape = {"d_model": 8, "n_layers": 1, "n_heads": 1, "n_kv_heads": 1, "head_dim": 8, "d_ffn": 8}
    spec = ModelSpec(**shape, vocab_size=300, context=8, **change)
    with pytest.raises(SevenfoldError, match=words):
        check_expressible(spec)
