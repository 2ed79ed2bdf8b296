"""Weights of a foreign directory: which file counts, which tensors, which numbers; and what a
directory is that is no model.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_models as foreign
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sevenfold.core.errors import SevenfoldError
from sevenfold.export.importer import import_model

TOLERANCE = 4e-5
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
HEAD, EMBEDDING, NORM = "lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.make(tmp_path_factory.mktemp("plain") / "hf")


@pytest.fixture
def model(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "hf"))


def refused(model: Path, words: str, **options: Any) -> SevenfoldError:
    out = model.parent / "in"
    with pytest.raises(SevenfoldError, match=words) as caught:
        import_model("hf", model, out, **options)
    assert caught.value.exit_code in (2, 4)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    assert not list(model.parent.glob(".in*"))
    return caught.value


def same(model: Path, **options: Any) -> Any:
    source = foreign.imported("hf", model, model.parent / "in", **options)
    rows = source.spec.vocab_size
    assert np.abs(foreign.theirs(model)[:, :rows] - foreign.ours(source)).max() < TOLERANCE
    return source


@pytest.mark.parametrize("differs", [True, False])
def test_a_head_beside_a_tied_embedding_is_never_dropped(model: Path, differs: bool) -> None:
    """transformers unties a head that differs; one that is equal is the embedding."""
    foreign.edit(model / "config.json", lambda v: v.update(tie_word_embeddings=True))
    if not differs:
        foreign.edit_tensors(model / WEIGHTS, lambda a: a.update({HEAD: a[EMBEDDING].copy()}))
    assert same(model).spec.tied is not differs


def test_a_tied_model_may_hold_the_head_alone(model: Path) -> None:
    foreign.edit(model / "config.json", lambda v: v.update(tie_word_embeddings=True))
    foreign.edit_tensors(model / WEIGHTS, lambda a: a.pop(EMBEDDING))
    assert same(model).spec.tied


def shards(model: Path, change: Callable[[dict[str, Any], dict[str, Any], dict[str, str]], object]) -> None:
    """Two files and an index in place of one; `change` gets the tensors of both and the weight map."""
    arrays = load_file(model / WEIGHTS)
    names = sorted(arrays)
    first, second = ({n: arrays[n] for n in part} for part in (names[:9], names[9:]))
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    placed = {name: files[name in second] for name in names}
    (model / WEIGHTS).unlink()
    change(first, second, placed)
    for file, part in zip(files, (first, second), strict=True):
        save_file(part, model / file, metadata={"format": "pt"})
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": placed}))


def test_shards_answer_as_one_file(model: Path) -> None:
    shards(model, lambda _first, _second, _placed: None)
    same(model)


def test_the_weight_map_decides_between_two_tensors_of_one_name(model: Path) -> None:
    right = foreign.theirs(model)
    stale = np.zeros(foreign.SHAPE["hidden_size"], np.float32)
    shards(model, lambda first, _second, _placed: first.update({NORM: stale}))
    source = foreign.imported("hf", model, model.parent / "in")
    assert np.abs(right - foreign.ours(source)).max() < TOLERANCE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f, s, p: f.update({"model.extra": s[NORM]}), "model.extra"),
        (lambda f, s, p: p.update({NORM: "model-00001-of-00002.safetensors"}), "does not hold it"),
        (lambda f, s, p: p.update({"model.extra": "model-00001-of-00002.safetensors"}), "model.extra"),
        (lambda f, s, p: p.update({"model.extra": "model-00003-of-00003.safetensors"}), "shard model-00003"),
        (lambda f, s, p: p.update({NORM: "../model.safetensors"}), "own directory"),
        (lambda f, s, p: p.update({NORM: 3}), "weight_map"),
        (lambda f, s, p: (s.pop(NORM), p.pop(NORM)), NORM),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_named(model: Path, change: Any, words: str) -> None:
    shards(model, change)
    refused(model, words)


def test_one_file_counts_before_an_index_as_in_transformers(model: Path) -> None:
    arrays = load_file(model / WEIGHTS)
    shards(model, lambda first, second, _: [a.fill(0.5) for a in (*first.values(), *second.values())])
    save_file(arrays, model / WEIGHTS, metadata={"format": "pt"})
    same(model)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -1e30])
@pytest.mark.parametrize("name", [NORM, EMBEDDING, "model.layers.1.mlp.down_proj.weight"])
def test_a_weight_that_is_no_sensible_number_is_refused_by_its_tensor(
    model: Path, name: str, value: float
) -> None:
    foreign.edit_tensors(model / WEIGHTS, lambda a: a[name].flat.__setitem__(5, value))
    refused(model, name)


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.int8])
def test_a_type_that_is_not_read_is_named_with_its_tensor(model: Path, dtype: type) -> None:
    foreign.edit_tensors(model / WEIGHTS, lambda a: a.update({NORM: a[NORM].astype(dtype)}))
    error = refused(model, NORM)
    assert {np.float64: "F64", np.int64: "I64", np.int8: "I8"}[dtype] in str(error)


def test_a_buffer_that_is_computed_is_skipped(model: Path) -> None:
    buffers = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": np.ones(4) for i in range(2)}
    foreign.edit_tensors(model / WEIGHTS, lambda a: a.update(buffers))
    same(model)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.mlp.gate_proj.weight_scale",
    ],
)
def test_a_tensor_too_many_is_named(model: Path, name: str) -> None:
    foreign.edit_tensors(model / WEIGHTS, lambda a: a.update({name: np.ones(32, np.float32)}))
    refused(model, name)


@pytest.mark.parametrize("name", [NORM, HEAD, "model.layers.1.self_attn.v_proj.weight"])
def test_a_tensor_too_few_is_named(model: Path, name: str) -> None:
    foreign.edit_tensors(model / WEIGHTS, lambda a: a.pop(name))
    refused(model, f"{name}.*missing")


@pytest.mark.parametrize("tied", [False, True])
def test_rows_without_a_token_are_cut_when_that_is_asked(tmp_path: Path, tied: bool) -> None:
    model = foreign.make(tmp_path / "hf", vocab_size=320, tie_word_embeddings=tied)
    error = refused(model, "320 rows, its tokenizer 300 entries: 20 rows are padding")
    assert "--cut-padding" in str(error)
    assert same(model, cut_padding=True).spec.vocab_size == 300


def test_a_token_without_a_row_is_refused(tmp_path: Path) -> None:
    model = foreign.make(tmp_path / "hf")
    (model / "tokenizer.json").write_bytes(foreign.vocabulary(301))
    refused(model, "301 entries, the model 300", cut_padding=True)


def test_a_size_of_the_config_that_is_not_the_embeddings_is_refused(model: Path) -> None:
    foreign.edit(model / "config.json", lambda v: v.update(vocab_size=299))
    refused(model, f"{HEAD}|{EMBEDDING}")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"pytorch_model.bin": b"x", WEIGHTS: None}, "pytorch_model.bin, a pickle"),
        ({"adapter_config.json": b'{"base_model_name_or_path": "a/b"}'}, "adapter of 'a/b', beside"),
        (
            {"adapter_config.json": b"{}", WEIGHTS: None, "config.json": None},
            "an adapter of .*, without its base",
        ),
        ({WEIGHTS: None}, "neither model.safetensors nor"),
        ({"config.json": None}, "no config.json"),
        ({"tokenizer.json": None}, "the tokenizer is missing"),
        ({"tokenizer.json": None, "tokenizer.model": b"IQ== 0\n"}, "a tiktoken vocabulary"),
        ({"tokenizer.json": None, "tokenizer.model": b"\n\x0e\n\x05<unk>"}, "a SentencePiece model"),
        ({"tokenizer.json": None, "spiece.model": b"\n"}, "a SentencePiece model"),
        ({"tokenizer.json": None, "tekken.json": b"{}"}, "a Tekken vocabulary"),
        ({"tokenizer.json": None, "vocab.json": b"{}"}, "an older form of a byte-level BPE"),
        ({"config.json": b"{"}, "not valid JSON"),
        ({"config.json": b"[]"}, "not a JSON object"),
        ({WEIGHTS: b"version https://git-lfs.github.com/spec/v1\n"}, "not a safetensors file"),
    ],
)
def test_a_directory_that_is_no_model_is_named_as_what_it_is(
    model: Path, files: dict[str, bytes | None], words: str
) -> None:
    for name, data in files.items():
        (model / name).unlink(missing_ok=True)
        if data is not None:
            (model / name).write_bytes(data)
    error = refused(model, words)
    assert "delete" not in str(error)


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_a_lone_sentencepiece_model_is_refused_because_no_form_keeps_its_ids(
    model: Path, algorithm: str
) -> None:
    """The three facts of the reason, asked of the library; a command that converts would not help."""
    sentencepiece = pytest.importorskip("sentencepiece")
    lines = ["the cat sat on the mat", "a cat and a mat", "the the the"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(model / "tokenizer"), model_type=algorithm,
        vocab_size=290, byte_fallback=True, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.vocab").unlink()
    error = refused(model, r"a SentencePiece model \(tokenizer.model\)")
    assert "no conversion keeps its ids" in str(error)
    asked = sentencepiece.SentencePieceProcessor(model_file=str(model / "tokenizer.model"))
    # A text gets a blank before it, so its ids are not those of its bytes.
    assert asked.encode("the") == asked.encode(" the")
    # A byte has two ids: the letter, and the byte that stands in for a character that is unknown.
    assert {asked.id_to_piece(i) for i in range(asked.get_piece_size())} >= {"t", "<0x74>"}


def test_a_tiktoken_vocabulary_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    model = foreign.make(tmp_path / "a b")
    (model / "tokenizer.json").rename(model / "aside.json")
    (model / "tokenizer.model").write_bytes(b"IQ== 0\n")
    remedy = refused(model, "a tiktoken vocabulary").remedy or ""
    program, directory = remedy[remedy.index("python -c ") :].removeprefix("python -c ").rsplit('" ', 1)
    assert shlex.split(directory) == [str(model)]
    compile(program.removeprefix('"'), "remedy", "exec")


def test_a_path_that_is_no_directory_is_one_line(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such directory")
