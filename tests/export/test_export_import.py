"""Bringing a model in: the same bytes out again, its origin in the recipe,
and families that refuse it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sevenfold import pipeline
from sevenfold.core.errors import PolicyError, SevenfoldError
from sevenfold.core.process.log import Silent
from sevenfold.export.importer import import_model
from sevenfold.export.run import Request, export
from sevenfold.recipe import load_recipe
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job


def write(source: Path, out: Path, target: str, dtype: str) -> dict[str, bytes]:
    export(source, out, Request(target=target, quant=dtype, proven=False), Silent())
    return {f.name: f.read_bytes() for f in out.iterdir()} if out.is_dir() else {"": out.read_bytes()}


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("target", ["hf", "gguf"])
def test_a_round_trip_is_byte_identical(llama_run: Path, tmp_path: Path, target: str, dtype: str) -> None:
    first = write(llama_run, tmp_path / "a", target, dtype)
    import_model(target, tmp_path / "a", tmp_path / "in")
    assert write(tmp_path / "in", tmp_path / "b", target, dtype) == first


def test_an_import_is_quantised_and_sealed_with_its_origin(
    llama_run: Path, tmp_path: Path, code_dir: Path
) -> None:
    write(llama_run, tmp_path / "a", "gguf", "f32")
    report = import_model("gguf", tmp_path / "a", tmp_path / "in")
    values = json.loads((tmp_path / "in" / "recipe.yaml").read_text())
    source = {"kind": "directory", "path": str(code_dir / "code"), "licence": "PSF-2.0"}
    values["corpus"] |= {"sources": [source], "holdout": 4}
    (tmp_path / "in" / "recipe.yaml").write_text(json.dumps(values))
    job = Job(
        recipe=load_recipe(tmp_path / "in" / "recipe.yaml"),
        out=tmp_path / "run",
        recipe_dir=tmp_path / "in",
        progress=Silent(),
    )
    pipeline.make(job)
    from sevenfold.artifact import read_artifact

    facts = read_artifact(tmp_path / "run" / "model.s7l").provenance["identity"]["facts"]
    assert facts["train"]["origin"] == report["pretrained"] == facts["recipe"]["model"]["pretrained"]
    (tmp_path / "in" / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(SevenfoldError, match="the recipe names sha256"):
        pipeline.make(job, force="tokenizer")


def test_a_family_that_forbids_external_weights_refuses_by_rule(llama_run: Path, tmp_path: Path) -> None:
    write(llama_run, tmp_path / "a", "hf", "f32")
    path = tmp_path / "a" / "config.json"
    config = json.loads(path.read_text())
    config["sevenfold"]["recipe"]["family"] = "m31r"
    path.write_text(json.dumps(config))
    with pytest.raises(PolicyError, match=r"D\d"):
        import_model("hf", tmp_path / "a", tmp_path / "in")
    assert not (tmp_path / "in").exists()
    base = load_recipe(Path("recipes/m31r/60m.yaml"))
    with pytest.raises(PolicyError) as caught:
        import_model("hf", tmp_path / "a", tmp_path / "in", base)
    assert "D2.pretrained" in str(caught.value)


def foreign(directory: Path, **changes: object) -> Path:
    """A Llama that never saw our code, but for the tokenizer file."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        **changes,
    )
    torch.manual_seed(3)
    transformers.LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("scaling", [None, {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}])
def test_a_model_of_transformers_answers_the_same_here(
    llama_run: Path, tmp_path: Path, scaling: dict | None
) -> None:
    import transformers

    directory = foreign(tmp_path / "hf", **({"rope_parameters": scaling} if scaling else {}))
    (directory / "tokenizer.json").write_bytes((llama_run / "tokenizer" / "tokenizer.json").read_bytes())
    import_model("hf", directory, tmp_path / "in")
    from sevenfold.export.proof.parity import FloatReference
    from sevenfold.export.source import open_source

    source = open_source(tmp_path / "in")
    assert source.spec.tied is False
    ids = list(range(0, 400, 9))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(directory)(torch.tensor([ids])).logits[0]
    ours = FloatReference(source.spec, source.read).logits(ids)
    assert abs(theirs.detach().numpy() - ours).max() < 1e-5
    recipe = Recipe.model_validate_json((tmp_path / "in" / "recipe.yaml").read_bytes())
    assert recipe.model.pretrained is not None
    assert recipe.model.pretrained.startswith("sha256:")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
            "rope scaling 'dynamic'",
        ),
    ],
)
def test_what_is_no_llama_of_ours_is_one_line(tmp_path: Path, changes: dict, words: str) -> None:
    with pytest.raises(SevenfoldError, match=words) as caught:
        import_model("hf", foreign(tmp_path / "hf", **changes), tmp_path / "in")
    assert "\n" not in str(caught.value)


def test_a_missing_tokenizer_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SevenfoldError, match="the tokenizer is missing"):
        import_model("hf", foreign(tmp_path / "hf"), tmp_path / "in")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("config.json", "rope_scaling"), "yes"),
        (("config.json", "num_attention_heads"), "four"),
        (("config.json", "rope_theta"), [1]),
        (("config.json", "hidden_size"), None),
        (("config.json", "sevenfold", "recipe", "seal"), "no"),
        (("config.json", "sevenfold", "root"), float("nan")),
        (("tokenizer.json", "model", "merges"), 3),
        (("tokenizer.json", "pre_tokenizer"), []),
        (("tokenizer.json", "model", "vocab", "!"), float("inf")),
    ],
)
def test_a_value_of_another_type_is_one_line(
    llama_run: Path, tmp_path: Path, place: tuple[str, ...], value: object
) -> None:
    write(llama_run, tmp_path / "a", "hf", "f32")
    path = tmp_path / "a" / place[0]
    content = inner = json.loads(path.read_text())
    for key in place[1:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(SevenfoldError) as caught:
        import_model("hf", tmp_path / "a", tmp_path / "in")
    assert caught.value.exit_code in (2, 4)
    assert "\n" not in str(caught.value)
    assert [f.name for f in tmp_path.iterdir()] == ["a"]


def test_keys_of_another_type_are_one_line(
    llama_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sevenfold.export.gguf import gguf_file

    write(llama_run, tmp_path / "a", "gguf", "f32")
    keys, places = gguf_file.read_header(tmp_path / "a")
    needed = [f"llama.{name}" for name in ("block_count", "embedding_length", "rope.freq_base")]
    for name in [*needed, *(f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "merges"))]:
        for odd in ([[1]], "x", -1):
            monkeypatch.setattr(gguf_file, "read_header", lambda _, wrong={name: odd}: (keys | wrong, places))
            with pytest.raises(SevenfoldError) as caught:
                import_model("gguf", tmp_path / "a", tmp_path / "in")
            assert "\n" not in str(caught.value), name
    assert [f.name for f in tmp_path.iterdir()] == ["a"]
