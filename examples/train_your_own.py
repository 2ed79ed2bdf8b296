"""Train and seal a small model on a directory of your own source.

python examples/train_your_own.py path/to/source Apache-2.0 out/mine
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml


def write_recipe(source: Path, licence: str, out: Path, tokens: int = 400_000) -> Path:
    """Write a recipe beside the run and return its path. `tokens` is how long it trains."""
    recipe = {
        "recipe": 1,
        "family": "s7",
        "name": "mine",
        "summary": f"Trained on {source.name}.",
        "model": {
            "d_model": 64, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "head_dim": 32, "d_ffn": 128,
            "vocab_size": 1024, "context": 256,
        },
        "tokenizer": {"vocab_size": 1024},
        "corpus": {
            "sources": [{"kind": "directory", "path": str(source.resolve()), "licence": licence,
                    "include": ["**/*.py"]}],
            "licences": [licence],
            "holdout": 5,
        },
        "train": {
            "seed": 1, "tokens": tokens, "batch_sequences": 8, "sequence": 256, "learning_rate": 0.005,
            "warmup_ratio": 0.08, "optimizer": "adam", "precision": "fp32", "init_std": 0.08,
        },
        "seal": {"sample_prompts": ["def "]},
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    path = out / "mine.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return path


def main(source: str, licence: str, out: str) -> int:
    """Write the recipe, make the model, verify it with replay; return the exit code."""
    recipe = write_recipe(Path(source), licence, Path(out))
    s7 = [sys.executable, "-m", "sevenfold"]
    made = subprocess.run([*s7, "make", str(recipe), "--out", out, "--accept-quality"], check=False)
    if made.returncode:
        return made.returncode
    return subprocess.run([*s7, "verify", f"{out}/model.s7l", "--replay"], check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(f"usage: {sys.argv[0]} SOURCE LICENCE OUT")
    sys.exit(main(*sys.argv[1:]))
