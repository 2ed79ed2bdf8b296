"""A small valid recipe of family s7 without a tier, as text and on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

BASE = """\
recipe: 1
name: small
family: s7
summary: a small recipe
model:
  d_model: 32
  n_layers: 2
  n_heads: 2
  n_kv_heads: 2
  head_dim: 16
  d_ffn: 48
  vocab_size: 512
  context: 64
tokenizer:
  vocab_size: 512
corpus:
  sources:
    - kind: stdlib
  licences: [PSF-2.0]
train:
  seed: 1
  tokens: 4096
  batch_sequences: 4
  sequence: 64
  learning_rate: 0.001
"""


@pytest.fixture
def base() -> str:
    return BASE


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a recipe (or any) file into the test's directory and return its path."""

    def write(text: str | bytes, name: str = "small.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write
