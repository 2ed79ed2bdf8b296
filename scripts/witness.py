"""Train what the law fixes and say what came out, as one line of JSON: the golden runs, and the root
of a small model that is made from this repository's own text.

    python scripts/witness.py

Needs what training needs, with any version of Python, PyTorch, NumPy and pyarrow. Ends with 1 where
a golden run gives something else than tests/train/golden.json.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "train")]
PACKAGES = ("torch", "numpy", "pyarrow", "tokenizers")
RECIPE: dict[str, Any] = {
    "recipe": 1,
    "name": "witness",
    "family": "s7",
    "summary": "a small model of this repository's text",
    "model": {
        "d_model": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 16, "d_ffn": 48,
        "vocab_size": 512, "context": 64,
    },
    "tokenizer": {"vocab_size": 512},
    "corpus": {
        "sources": ({"kind": "directory", "path": "text", "licence": "MIT", "include": ("*.py",)},),
        "licences": ("MIT",),
        "holdout": 4,
    },
    "train": {
        "seed": 3, "tokens": 40 * 4 * 64, "batch_sequences": 4, "sequence": 64, "learning_rate": 0.01,
        "init_std": 0.08, "checkpoint_every": 20,
    },
    "quantize": {"eval_windows": 8},
    "seal": {"golden_prompts": ("def ", "import "), "sample_prompts": ("def f(",)},
}  # fmt: skip


def golden(directory: Path) -> list[str]:
    """Names of the golden runs that give something else here."""
    from golden import CASES, digests, promised

    expected = promised()
    return [name for name in CASES if digests(name, directory / name) != expected[name]]


def made(directory: Path) -> str:
    """The root of the small model."""
    from sevenfold import pipeline
    from sevenfold.artifact.reader import read_artifact
    from sevenfold.core.process.log import Silent
    from sevenfold.recipe.schema import Recipe
    from sevenfold.runs.job import Job

    shutil.copytree(ROOT / "src" / "sevenfold" / "core", directory / "text")
    job = Job(recipe=Recipe(**RECIPE), out=directory / "run", recipe_dir=directory, progress=Silent())
    pipeline.make(job)
    return read_artifact(job.out / "model.s7l").root


def main() -> int:
    """Print the line."""
    from sevenfold.model.kernels.operators import isa

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        different = golden(directory / "golden")
        root = made(directory)
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    said = {
        "python": platform.python_version(), "machine": platform.machine(), "instructions": isa(), **versions,
        "golden": different if different else "equal", "root": root,
    }  # fmt: skip
    print(json.dumps(said))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
