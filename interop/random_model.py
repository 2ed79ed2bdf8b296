"""A model of a recipe's shape with random weights, for parity that needs no
training: random_model.py RECIPE OUT

Written like an import (origin.json, model.safetensors, tokenizer.json), one tensor at a time. The
vocabulary is a byte-level BPE of the recipe's size over the interpreter's library, cut as llama.cpp
cuts (`llama3`), whatever the recipe asks of its tokenizer.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import numpy as np

from sevenfold.core.files import write_bytes, write_json
from sevenfold.core.run_files import ORIGIN, TOKENIZER, WEIGHTS
from sevenfold.export.proof.parity_corpus import library_text
from sevenfold.export.store import Floats, write_tensors
from sevenfold.recipe import load_recipe, resolve_recipe_path
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.recipe.sizing import tensors
from sevenfold.tokenizer.train import train_tokenizer

STD = 0.02


def main(name: str, out: Path) -> None:
    """Write the directory."""
    recipe = load_recipe(resolve_recipe_path(name))
    shapes = tensors(recipe.model)

    def read(tensor: str) -> Floats:
        if len(shapes[tensor]) == 1:
            return np.ones(shapes[tensor], np.float32)
        rng = np.random.default_rng(zlib.crc32(tensor.encode()))
        return rng.standard_normal(shapes[tensor], np.float32) * np.float32(STD)

    text = library_text(20_000_000)
    size = recipe.model.vocab_size
    write_bytes(out / TOKENIZER, train_tokenizer([text], TokenizerSpec(vocab_size=size, pieces="llama3")))
    write_tensors(out / WEIGHTS, shapes, read, "F32", {})
    provenance = {"name": f"{recipe.name} (random weights)", "recipe": recipe.resolved()}
    write_json(out / ORIGIN, {"model": recipe.model.model_dump(mode="json"), "provenance": provenance})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
