"""Small Llamas that transformers makes, as directories and with what others would change in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from sevenfold.core.process.log import Silent
from sevenfold.export.importer import import_model
from sevenfold.export.proof.parity import FloatReference
from sevenfold.export.source import ExportSource, open_source
from sevenfold.recipe import load_recipe
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.runs.job import Job
from sevenfold.tokenizer.train import train_tokenizer

TEXTS = ["def add(a, b):\n    return a + b\n", "class Node:\n    def __init__(self):\n        pass\n"]
SPECIALS = ("<|endoftext|>", "<s>", "</s>", "<|end|>")
VOCAB = 300
IDS = list(range(4, 300, 7))
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def vocabulary(size: int = VOCAB, pieces: str = "llama3") -> bytes:
    """A tokenizer.json of our form with several special tokens; not all merges
    are there, so ids are dense.
    """
    spec = TokenizerSpec(vocab_size=size, special_tokens=SPECIALS, pieces=pieces)
    return train_tokenizer(iter(_many()), spec)


def _many() -> list[str]:
    return [f"{text}name_{i} = value_{i * 7}(other_{i * 13})\n" for i in range(200) for text in TEXTS]


def template(name: str, ident: int) -> dict[str, Any]:
    """A post-processor that puts one token before a text."""
    token = {"SpecialToken": {"id": name, "type_id": 0}}
    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [token, first],
        "pair": [token, first, second],
        "special_tokens": {name: {"id": name, "ids": [ident], "tokens": [name]}},
    }


def make(directory: Path, *, begin: str | None = None, **changes: Any) -> Path:
    """A Llama that never saw our code, with our form of a tokenizer; weights
    drawn so that logits differ.
    """
    import transformers

    config = transformers.LlamaConfig(**(SHAPE | changes))
    torch.manual_seed(3)
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
    model.save_pretrained(directory)
    value = json.loads(vocabulary(min(config.vocab_size, VOCAB)))
    if begin is not None:
        value["post_processor"] = template(begin, SPECIALS.index(begin))
    (directory / "tokenizer.json").write_text(json.dumps(value))
    return directory


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place; one that is missing begins empty."""
    value = json.loads(path.read_text()) if path.is_file() else {}
    change(value)
    path.write_text(json.dumps(value))


def edit_tensors(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Change the tensors of a safetensors file in place."""
    arrays = load_file(path)
    change(arrays)
    path.unlink()
    save_file(arrays, path, metadata={"format": "pt"})


def theirs(directory: Path, ids: list[int] = IDS) -> np.ndarray:
    """transformers' logits, float32 [T, V]."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def imported(kind: str, path: Path, out: Path, **options: Any) -> ExportSource:
    """The import of a foreign file or directory, opened."""
    import_model(kind, path, out, **options)
    return open_source(out)


def ours(source: ExportSource, ids: list[int] = IDS) -> np.ndarray:
    """Our float model's logits, float32 [T, V]."""
    return FloatReference(source.spec, source.read).logits(ids)


def job_of(imported: Path, code_dir: Path) -> Job:
    """A run of an import's recipe over a small corpus."""
    values = json.loads((imported / "recipe.yaml").read_text())
    source = {"kind": "directory", "path": str(code_dir / "code"), "licence": "PSF-2.0"}
    values["corpus"] |= {"sources": [source], "holdout": 4}
    (imported / "recipe.yaml").write_text(json.dumps(values))
    return Job(
        recipe=load_recipe(imported / "recipe.yaml"),
        out=imported.parent / "run",
        recipe_dir=imported,
        progress=Silent(),
        accept_quality=True,  # the weights are noise
    )
