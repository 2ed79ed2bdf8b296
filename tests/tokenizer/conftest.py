"""Documents of the standard library, a tokenizer trained on them once,
and a job over a small corpus.
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sevenfold.core.documents import Document, write_documents
from sevenfold.recipe.schema import Recipe, TokenizerSpec
from sevenfold.runs.job import Job
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.train import train_tokenizer

VOCAB_SIZE = 1024


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """About half a megabyte of Python."""
    root = Path(sysconfig.get_path("stdlib"))
    return [
        path.read_text("utf-8")
        for name in ("json", "email", "asyncio")
        for path in sorted((root / name).glob("*.py"))
    ]


@pytest.fixture(scope="session")
def tokenizer_json(texts: list[str]) -> bytes:
    return train_tokenizer(
        texts, TokenizerSpec(vocab_size=VOCAB_SIZE, special_tokens=("<|endoftext|>", "<REASON>"))
    )


@pytest.fixture(scope="session")
def tokenizer(tokenizer_json: bytes) -> Tokenizer:
    return Tokenizer.from_json(tokenizer_json)


@pytest.fixture
def make_job(tmp_path: Path, texts: list[str]) -> Callable[..., Job]:
    """make_job(out="out", model={...}, tokenizer={...}, train=[...], heldout=[...])
    -> Job with a corpus in place.
    """

    def make(
        *,
        out: str = "out",
        model: dict[str, Any] | None = None,
        tokenizer: dict[str, Any] | None = None,
        train: list[str] | None = None,
        heldout: list[str] | None = None,
    ) -> Job:
        shape = {
            "d_model": 8,
            "n_layers": 1,
            "n_heads": 1,
            "n_kv_heads": 1,
            "head_dim": 8,
            "d_ffn": 8,
            "context": 8,
        }
        recipe = {
            "recipe": 1,
            "name": "tiny",
            "family": "s7",
            "summary": "a tokenizer for tests",
            "model": {**shape, "vocab_size": 512, **(model or {})},
            "tokenizer": {"vocab_size": 512, **(tokenizer or {})},
            "corpus": {"sources": [{"kind": "stdlib"}], "licences": ["PSF-2.0"]},
            "train": {"seed": 1, "tokens": 8, "batch_sequences": 1, "sequence": 8, "learning_rate": 0.001},
        }
        job = Job(recipe=Recipe.model_validate_json(json.dumps(recipe)), out=tmp_path / out)
        for split, documents in (("train", train or texts[3:20]), ("heldout", heldout or texts[:3])):
            rows = {hashlib.sha256(t.encode()).hexdigest(): t for t in documents}
            write_documents(
                job.directory("corpus") / f"{split}.parquet",
                (Document(i, t, "code", "stdlib", "x.py") for i, t in sorted(rows.items())),
            )
        return job

    return make
