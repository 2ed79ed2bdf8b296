"""A foreign GGUF file: each key is read or refused by name, every byte has its place,
and the answer is llama.cpp's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_models as foreign
import gguf as library
import numpy as np
import pytest

from sevenfold.core.errors import SevenfoldError
from sevenfold.core.process.log import Silent
from sevenfold.export.gguf import gguf_file
from sevenfold.export.gguf.rope_factors import NAME, scaling_of
from sevenfold.export.gguf.vocabulary import lists
from sevenfold.export.importer import import_model
from sevenfold.export.names import foreign_names, interleave, n_rotated
from sevenfold.export.proof import runtimes
from sevenfold.export.run import Request, export
from sevenfold.export.source import ExportSource, open_source
from sevenfold.tokenizer.roles import Roles

TOLERANCE = 2e-4  # absolute; llama.cpp sums in another order
Change = Callable[["Maker"], object]


class Maker:
    """A GGUF file as a converter would write it, with what a test
    changes: keys, tensors, vocabulary.
    """

    def __init__(self, source: ExportSource) -> None:
        spec, names = source.spec, foreign_names(source.spec, "gguf")
        self.tensors: dict[str, np.ndarray] = {}
        for ours, theirs in names.items():
            values, heads = source.read(ours), n_rotated(ours, spec)
            self.tensors[theirs] = interleave(values, heads) if heads else values
        self.tokens, self.types, self.merges = lists(source.tokenizer)
        self.keys: dict[str, Any] = {
            "llama.context_length": spec.context,
            "llama.embedding_length": spec.d_model,
            "llama.block_count": spec.n_layers,
            "llama.feed_forward_length": spec.d_ffn,
            "llama.attention.head_count": spec.n_heads,
            "llama.attention.head_count_kv": spec.n_kv_heads,
            "llama.attention.layer_norm_rms_epsilon": 1e-6,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.add_bos_token": True,
        }
        self.architecture = "llama"

    def write(self, path: Path, endian: Any = library.GGUFEndian.LITTLE) -> Path:
        writer = library.GGUFWriter(path, self.architecture, endianess=endian)
        for key, value in self.keys.items():
            _add(writer, key, value)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("llama-bpe")
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        for name, values in self.tensors.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path


def _add(writer: library.GGUFWriter, key: str, value: Any) -> None:
    adders = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
    }
    adders.get(type(value), writer.add_array)(key, value)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ExportSource:
    folder = tmp_path_factory.mktemp("gguf")
    return foreign.imported("hf", foreign.make(folder / "hf", begin="<s>"), folder / "in")


def llama_cpp(path: Path) -> np.ndarray:
    with runtimes.llama_cpp() as runtime:
        assert runtime is not None
        runtime.open(path, 64)
        return runtime.logits(foreign.IDS)


def refused(path: Path, words: str, **options: Any) -> SevenfoldError:
    out = path.parent / "in"
    with pytest.raises(SevenfoldError, match=words) as caught:
        import_model("gguf", path, out, **options)
    assert caught.value.exit_code in (2, 4)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    return caught.value


def factors(spec: Any, factor: float, low: float, high: float, original: int) -> np.ndarray:
    """The divisors that llama.cpp's converter writes, in its own words: by wavelength."""
    wavelengths = 2 * np.pi * spec.rope_theta ** (np.arange(0, spec.head_dim, 2) / spec.head_dim)
    found = []
    for wavelength in wavelengths:
        if wavelength < original / high:
            found.append(1.0)
        elif wavelength > original / low:
            found.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(found, np.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: None,
        lambda m: m.keys.update({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}),
        lambda m: m.keys.update({"llama.rope.scaling.factor": 2.0}),
        lambda m: m.keys.update({"llama.rope.scale_linear": 4.0}),
        lambda m: m.keys.update({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 2.0}),
        lambda m: m.keys.update({"llama.rope.freq_base": 500.0}),
        lambda m: m.keys.update({"llama.attention.causal": True, "llama.expert_count": 0}),
        lambda m: m.keys.update({"llama.attention.head_count_kv": [2, 2]}),
        lambda m: m.tensors.pop("output.weight"),
        lambda m: m.tensors.update({NAME: np.array([1.0, 1.5, 8.0, 8.0], np.float32)}),
        lambda m: m.tensors.update({NAME: np.full(4, 3.0, np.float32)}),
    ],
)
def test_what_is_read_answers_as_llama_cpp_does(
    base: ExportSource, tmp_path: Path, interop: None, change: Change
) -> None:
    maker = Maker(base)
    change(maker)
    path = maker.write(tmp_path / "x.gguf")
    source = foreign.imported("gguf", path, tmp_path / "in")
    assert np.abs(llama_cpp(path) - foreign.ours(source)).max() < TOLERANCE


@pytest.mark.parametrize(
    "keys",
    [
        {"llama.attention.causal": False},
        {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0},
        {"llama.rope.scaling.factor": 4.0, "llama.rope.scale_linear": 2.0},
        {"llama.expert_count": 8},
        {"llama.expert_used_count": 2},
        {"llama.attention.sliding_window": 16},
        {"llama.attention.scale": 0.5},
        {"llama.attention.clamp_kqv": 8.0},
        {"llama.attention.max_alibi_bias": 8.0},
        {"llama.logit_scale": 0.5},
        {"llama.residual_scale": 0.5},
        {"llama.embedding_scale": 12.0},
        {"llama.final_logit_softcapping": 30.0},
        {"llama.use_parallel_residual": True},
        {"llama.rope.dimension_count": 4},
        {"llama.attention.value_length": 4},
        {"llama.vocab_size": 301},
        {"llama.attention.head_count_kv": [2, 1]},
        {"llama.feed_forward_length": [48, 40]},
        {"llama.a_key_of_tomorrow": 1},
        {"llama.attention.layer_norm_rms_epsilon": "x"},
        {"llama.context_length": True},
        {"tokenizer.ggml.add_eos_token": True},
        {"tokenizer.ggml.add_bos_token": 3},
        {"tokenizer.ggml.eos_token_id": 300},
    ],
)
def test_a_key_that_changes_the_answer_is_named(
    base: ExportSource, tmp_path: Path, keys: dict[str, Any]
) -> None:
    maker = Maker(base)
    maker.keys.update(keys)
    refused(maker.write(tmp_path / "x.gguf"), next(iter(keys)).split(".")[-1])


@pytest.mark.parametrize(
    "name",
    [
        "llama.context_length",
        "llama.embedding_length",
        "llama.block_count",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.bos_token_id",
    ],
)
def test_a_key_that_is_missing_is_named(base: ExportSource, tmp_path: Path, name: str) -> None:
    maker = Maker(base)
    maker.keys.pop(name)
    refused(maker.write(tmp_path / "x.gguf"), f"{name} is missing")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"split.no": 0, "split.count": 2, "split.tensors.count": 21}, "shard 1 of 2 of a split file"),
        ({"split.no": 1, "split.count": 2, "split.tensors.count": 21}, "shard 2 of 2"),
        ({"general.type": "adapter", "adapter.type": "lora"}, "type 'adapter'"),
    ],
)
def test_a_file_that_is_no_whole_model_is_named_as_what_it_is(
    base: ExportSource, tmp_path: Path, keys: dict[str, Any], words: str
) -> None:
    maker = Maker(base)
    maker.keys.update(keys)
    refused(maker.write(tmp_path / "x.gguf"), words)


def test_another_architecture_is_named(base: ExportSource, tmp_path: Path) -> None:
    maker = Maker(base)
    maker.architecture = "qwen2"
    refused(maker.write(tmp_path / "x.gguf"), "architecture 'qwen2'")


def test_a_big_endian_file_is_named(base: ExportSource, tmp_path: Path) -> None:
    refused(Maker(base).write(tmp_path / "x.gguf", library.GGUFEndian.BIG), "big-endian")


def moved(path: Path, change: Callable[[list[int]], object]) -> None:
    """Change the offsets of the tensors in a file, in place."""
    reader = library.GGUFReader(path, "r")
    fields = [tensor.field for tensor in reader.tensors]
    offsets = [int(field.parts[5][0]) for field in fields]
    change(offsets)
    places = [field.offset + sum(part.nbytes for part in field.parts[:5]) for field in fields]
    del reader
    data = bytearray(path.read_bytes())
    for place, offset in zip(places, offsets, strict=True):
        struct.pack_into("<Q", data, place, offset)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda o: o.__setitem__(3, o[2]), "overlaps"),
        (lambda o: o.__setitem__(3, o[3] - 32), "overlaps"),
        (lambda o: o.__setitem__(3, o[3] + 4), "not aligned"),
        (lambda o: o.__setitem__(3, 1 << 40), "is not inside"),
        (lambda o: o.__setitem__(3, (1 << 64) - 32), "is not inside|cut or damaged"),
    ],
)
def test_a_tensor_at_a_wrong_place_is_refused(
    base: ExportSource, tmp_path: Path, change: Callable[[list[int]], object], words: str
) -> None:
    path = Maker(base).write(tmp_path / "x.gguf")
    moved(path, change)
    refused(path, words)


def test_a_tensor_that_stands_twice_is_refused(base: ExportSource, tmp_path: Path) -> None:
    path = Maker(base).write(tmp_path / "x.gguf")
    data = path.read_bytes()
    assert data.count(b"blk.1.attn_norm.weight") == 1
    path.write_bytes(data.replace(b"blk.1.attn_norm.weight", b"blk.0.attn_norm.weight"))
    refused(path, "blk.0.attn_norm.weight appears twice")


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_weight_that_is_no_sensible_number_is_refused_by_its_tensor(
    base: ExportSource, tmp_path: Path, value: float
) -> None:
    maker = Maker(base)
    maker.tensors["blk.1.ffn_up.weight"] = maker.tensors["blk.1.ffn_up.weight"].copy()
    maker.tensors["blk.1.ffn_up.weight"][0, 0] = value
    refused(maker.write(tmp_path / "x.gguf"), "blk.1.ffn_up.weight")


@pytest.mark.parametrize(
    "name", ["blk.0.attn_q.bias", "blk.0.attn_q_norm.weight", "rope_factors_long.weight"]
)
def test_a_tensor_too_many_is_named(base: ExportSource, tmp_path: Path, name: str) -> None:
    maker = Maker(base)
    maker.tensors[name] = np.ones(32, np.float32)
    refused(maker.write(tmp_path / "x.gguf"), name)


def test_unused_tokens_are_cut_when_that_is_asked(base: ExportSource, tmp_path: Path, interop: None) -> None:
    maker = Maker(base)
    maker.tokens += [f"[PAD{i}]" for i in range(300, 320)]
    maker.types += [5] * 20
    for name in ("token_embd.weight", "output.weight"):
        maker.tensors[name] = np.concatenate([maker.tensors[name], np.ones((20, 32), np.float32)])
    path = maker.write(tmp_path / "x.gguf")
    assert "--cut-padding" in str(refused(path, "20 rows are padding"))
    source = foreign.imported("gguf", path, tmp_path / "in", cut_padding=True)
    assert source.spec.vocab_size == 300
    assert np.abs(llama_cpp(path)[:, :300] - foreign.ours(source)).max() < TOLERANCE


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda k: None, Roles(begin=1, bos=1, ends=(2,), pad=None)),
        (lambda k: k.pop("tokenizer.ggml.add_bos_token"), Roles(begin=1, bos=1, ends=(2,), pad=None)),
        (
            lambda k: k.update({"tokenizer.ggml.add_bos_token": False}),
            Roles(begin=None, bos=1, ends=(2,), pad=None),
        ),
        (
            lambda k: k.update({"tokenizer.ggml.eot_token_id": 3, "tokenizer.ggml.padding_token_id": 0}),
            Roles(begin=1, bos=1, ends=(2, 3), pad=0),
        ),
    ],
)
def test_what_begins_and_ends_a_text_is_read_as_llama_cpp_reads_it(
    base: ExportSource,
    tmp_path: Path,
    interop: None,
    change: Callable[[dict[str, Any]], object],
    wanted: Roles,
) -> None:
    maker = Maker(base)
    change(maker.keys)
    path = maker.write(tmp_path / "x.gguf")
    assert foreign.imported("gguf", path, tmp_path / "in").vocabulary().roles == wanted
    with runtimes.llama_cpp() as runtime:
        assert runtime is not None
        runtime.open(path, 64)
        found = runtime.ask("roles")
    assert found["adds_bos"] == (wanted.begin is not None)
    assert (found["bos"], found["eos"]) == (wanted.bos, wanted.ends[0])
    assert {*wanted.ends} <= {*found["ends"]}


SCALINGS = [
    (8.0, 1.0, 4.0, 8192),
    (32.0, 1.0, 4.0, 8192),
    (8.0, 1.0, 4.0, 4096),
    (4.0, 1.0, 32.0, 2000),
    (5.5, 0.7, 3.3, 12345),
    (8.0, 1.0, 1.01, 8192),
]


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(("head_dim", "theta"), [(64, 5e5), (128, 5e5), (64, 1e4)])
def test_divisors_of_llama3_are_read_back(
    base: ExportSource, scaling: tuple[float, float, float, int], head_dim: int, theta: float
) -> None:
    spec = base.spec.model_copy(update={"head_dim": head_dim, "rope_theta": theta})
    wanted = factors(spec, *scaling)
    found = scaling_of(wanted, head_dim, theta, "x")
    assert found is not None
    from sevenfold.export.gguf.rope_factors import divisors
    from sevenfold.recipe.schema import RopeScaling

    again = divisors(spec.model_copy(update={"rope_scaling": RopeScaling(**found)}))
    assert np.abs(again / wanted - 1).max() < 2e-6
    if scaling[1:3] == (1.0, 4.0) and ((wanted > 1.0001) & (wanted < scaling[0] * 0.9999)).sum() > 1:
        assert (found["factor"], found["original_context"]) == (scaling[0], scaling[3])


@pytest.mark.parametrize(
    "values", [[1.0, 9.0, 2.0, 9.0], [0.5, 1.0, 1.0, 8.0], [1.0, np.nan, 8.0, 8.0], [1.0, np.inf, 8.0, 8.0]]
)
def test_divisors_of_another_scaling_are_refused_by_name(
    base: ExportSource, tmp_path: Path, values: list[float]
) -> None:
    maker = Maker(base)
    maker.tensors[NAME] = np.array(values, np.float32)
    refused(maker.write(tmp_path / "x.gguf"), f"{NAME}.*Llama 3")


LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


@pytest.mark.parametrize("target", ["hf", "gguf"])
@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "llama3", "rope_theta": 500.0, **LLAMA3},
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0},
    ],
)
def test_a_scaled_model_leaves_with_parity_and_comes_back(
    tmp_path: Path, interop: None, target: str, scaling: dict[str, Any]
) -> None:
    directory = foreign.make(tmp_path / "hf", begin="<s>", rope_parameters=scaling)
    first = foreign.imported("hf", directory, tmp_path / "in")
    out = tmp_path / f"out.{target}"
    report = export(tmp_path / "in", out, Request(target=target), Silent())
    checks = {(c["runtime"], c["name"]): c["status"] for c in report["checks"]}
    assert "fail" not in checks.values()
    runtime = "llama.cpp" if target == "gguf" else "transformers"
    assert checks[runtime, "logits"] == "pass"
    assert target == "hf" or checks["go", "logits"] == "pass"
    again = foreign.imported(target, out, tmp_path / "again")
    assert again.spec == first.spec
    assert np.array_equal(foreign.ours(again), foreign.ours(first))


def test_the_export_of_llama3_says_it_in_keys_and_divisors(tmp_path: Path) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 500.0, **LLAMA3}
    directory = foreign.make(tmp_path / "hf", begin="<s>", rope_parameters=rope)
    foreign.imported("hf", directory, tmp_path / "in")
    export(tmp_path / "in", tmp_path / "x.gguf", Request(target="gguf", proven=False), Silent())
    keys, places = gguf_file.read_header(tmp_path / "x.gguf")
    assert not any("rope.scaling" in key for key in keys)
    found = gguf_file.read_stored(tmp_path / "x.gguf", NAME, places[NAME])
    wanted = factors(open_source(tmp_path / "in").spec, 8.0, 1.0, 4.0, 32)
    assert np.abs(found / wanted - 1).max() < 1e-6
