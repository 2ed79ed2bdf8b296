"""Kinds of tokenizers that no other runtime reads as we do are refused by name;
padding is never the end of a text.
"""

import inspect
from pathlib import Path

import pytest

from sevenfold.core.errors import StorageError
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.tokenizer.train import train_tokenizer

TEXTS = [Path(inspect.__file__).read_text(encoding="utf-8")]


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        (TokenizerSpec(vocab_size=270, preserve=("::",)), "protected symbols"),
        (TokenizerSpec(algo="sentencepiece_unigram", vocab_size=400), "a Unigram model"),
    ],
)
def test_refused_by_name(spec: TokenizerSpec, match: str) -> None:
    vocabulary = pytest.importorskip("sevenfold.export.gguf.vocabulary", reason="gguf is not installed")
    with pytest.raises(StorageError, match=match):
        vocabulary.pieces_of(train_tokenizer(TEXTS, spec))
    assert vocabulary.pieces_of(train_tokenizer(TEXTS, TokenizerSpec(vocab_size=270))) == "code"


@pytest.mark.parametrize("padding", [(), ("<pad>",)])
def test_padding_is_its_own_token_or_none(padding: tuple[str, ...]) -> None:
    vocabulary = pytest.importorskip("sevenfold.export.gguf.vocabulary", reason="gguf is not installed")
    said: dict[str, object] = {}

    class Writer:
        def __getattr__(self, name: str):
            return lambda *values: said.setdefault(name, values)

    spec = TokenizerSpec(vocab_size=270, special_tokens=("<|endoftext|>", *padding))
    vocabulary.add_to(Writer(), train_tokenizer(TEXTS, spec))
    assert said["add_eos_token_id"] == (0,)
    assert said.get("add_pad_token_id") == ((1,) if padding else None)
