"""Sealed models with random weights for the benchmarks of the server, and the same as GGUF in Q8_0.

The shapes are those of `shapes.py` with a longer context, the weights its own; the vocabulary is
trained on the interpreter's standard library. A file that is there is taken as it is.

    python benchmarks/serving_models.py out/serving [--shapes 8M 34M]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
from dataclasses import asdict, replace
from pathlib import Path

from adapter_sevenfold import records_and_graph
from sevenfold.artifact import Golden, Identity, ModelClass, SealInput, Tensor, build_contents, write_artifact
from sevenfold.core.hashing import sha256
from sevenfold.engine.session import greedy_run, prompt_ids
from sevenfold.engine.weights import load_weights
from sevenfold.recipe.schema import Recipe
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.train import train_tokenizer
from shapes import SHAPES, SMALLEST, Shape

CONTEXT = 2048
SPECIALS = ("<|endoftext|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
GOLDEN = "def f("


def recipe(shape: Shape) -> Recipe:
    """What the sealed file says of itself; only its shapes and its vocabulary are used."""
    model = {name: value for name, value in asdict(shape).items() if name != "name"}
    return Recipe.model_validate(
        {
            "recipe": 1, "name": f"serving-{shape.name.lower()}", "family": "s7", "summary": "random weights",
            "model": {**model, "n_kv_heads": shape.n_heads, "tied": True},
            "tokenizer": {
                "vocab_size": shape.vocab_size, "pieces": "llama3", "special_tokens": SPECIALS,
            },
            "corpus": {"sources": ({"kind": "stdlib"},), "licences": ("PSF-2.0",)},
            "train": {
                "seed": 1, "tokens": 8192, "batch_sequences": 1, "sequence": 512, "learning_rate": 0.001,
            },
        }
    )  # fmt: skip


def dictionary(found: Recipe) -> bytes:
    """A vocabulary of the standard library."""
    library = Path(sysconfig.get_paths()["stdlib"])
    texts = (p.read_text(encoding="utf-8", errors="ignore") for p in sorted(library.glob("*.py")))
    return train_tokenizer(texts, found.tokenizer)


def make(name: str, directory: Path) -> Path:
    """The sealed model of a shape."""
    path = directory / f"{name}.s7l"
    if path.exists():
        return path
    directory.mkdir(parents=True, exist_ok=True)
    shape = replace((SHAPES | {SMALLEST.name: SMALLEST})[name], context=CONTEXT)
    records, graph = records_and_graph(shape)
    found = recipe(shape)
    words = dictionary(found)
    tokenizer = Tokenizer.from_json(words, None)
    weights = load_weights({r.name: r for r in records}, graph, name)
    ids = prompt_ids(tokenizer, GOLDEN, "")
    done = greedy_run(weights, ids, 4)
    golden = Golden(
        prompt=GOLDEN, ids=ids, n_steps=4, tokens=done.tokens, logits_sha256=done.logits_sha256, domain=""
    )
    contents = build_contents(
        SealInput(
            class_=ModelClass.DENSE,
            padded=False,
            dictionary=words,
            tensors=[Tensor(r.name, r.dims, r.scale, r.data) for r in records],
            graph=graph,
            trace=[],
            batch=[],
            identity=Identity(
                recipe_name=f"serving-{name}",
                recipe_digest="0" * 64,
                dataset_root="0" * 64,
                tokenizer_digest=sha256(words).hex(),
                training_seed=0,
                code_version="benchmark",
                facts={"family": "benchmark", "recipe": found.resolved()},
            ),
            golden=[golden],
        )
    )
    write_artifact(path, contents)
    return path


def gguf(path: Path) -> Path:
    """The same weights in Q8_0, for llama.cpp."""
    out = path.with_suffix(".q8_0.gguf")
    if not out.exists():
        command = ["export", str(path), "--to", "gguf", "--quant", "q8_0", "--no-parity", "--out", str(out)]
        subprocess.run([sys.executable, "-m", "sevenfold", *command], check=True)
    return out


def main() -> None:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--shapes", nargs="+", default=["8M", "34M"])
    args = parser.parse_args()
    for name in args.shapes:
        path = make(name, args.directory)
        print(path, gguf(path))


if __name__ == "__main__":
    main()
