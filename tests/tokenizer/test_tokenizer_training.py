"""Training gives the same bytes twice, on any number of threads, and refuses
what it would otherwise ignore.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.tokenizer.codec import END_OF_TEXT, Tokenizer
from sevenfold.tokenizer.train import train_tokenizer

SCRIPT = """
import hashlib, sys, sysconfig
from pathlib import Path
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.tokenizer.train import train_tokenizer
texts = [p.read_text("utf-8") for p in sorted(Path(sysconfig.get_path("stdlib"), "asyncio").glob("*.py"))]
print(hashlib.sha256(train_tokenizer(texts, TokenizerSpec(vocab_size=900))).hexdigest())
"""


def test_same_bytes_on_one_thread_and_on_many_with_any_hash_seed() -> None:
    digests = set()
    for settings in (
        {"RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "1"},
        {"RAYON_NUM_THREADS": "4", "PYTHONHASHSEED": "2"},
        {"TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "3"},
    ):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": ":".join(sys.path), **settings},
            timeout=100,
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_same_bytes_twice_here(texts: list[str], tokenizer_json: bytes) -> None:
    spec = TokenizerSpec(vocab_size=1024, special_tokens=(END_OF_TEXT, "<REASON>"))
    assert (
        hashlib.sha256(train_tokenizer(iter(texts), spec)).digest() == hashlib.sha256(tokenizer_json).digest()
    )


def test_vocabulary_has_exactly_the_size_asked_for(texts: list[str]) -> None:
    for size in (257, 300, 777):
        tokenizer = Tokenizer.from_json(train_tokenizer(texts[:5], TokenizerSpec(vocab_size=size)))
        assert tokenizer.vocab_size == size


def test_a_corpus_that_is_too_small_says_what_it_gives() -> None:
    with pytest.raises(
        StorageError, match=r"too small for tokenizer.vocab_size 4096: it gives 2\d\d entries"
    ) as caught:
        train_tokenizer(["the cat and the hat and the bat"], TokenizerSpec(vocab_size=4096))
    reached = int(str(caught.value).split("it gives ")[1].split()[0])
    assert (
        Tokenizer.from_json(
            train_tokenizer(["the cat and the hat and the bat"], TokenizerSpec(vocab_size=reached))
        ).vocab_size
        == reached
    )


def test_a_corpus_full_of_special_tokens_cannot_teach_one() -> None:
    text = (END_OF_TEXT + "<bos>" + "x y") * 500
    specials = (END_OF_TEXT, "<bos>")
    tokenizer = Tokenizer.from_json(
        train_tokenizer([text], TokenizerSpec(vocab_size=270, special_tokens=specials))
    )
    ids = tokenizer.encode(text)
    assert not {0, 1} & set(ids)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"byte_fallback": False}, "tokenizer.byte_fallback"),
        ({"preserve": ("a b",)}, "tokenizer.preserve"),
        ({"preserve": ("a_b",)}, "tokenizer.preserve"),
        ({"preserve": ("",)}, "tokenizer.preserve"),
    ],
)
def test_settings_that_cannot_hold_are_refused_by_name(settings: dict, where: str) -> None:
    with pytest.raises(UsageError) as caught:
        train_tokenizer(["text"], TokenizerSpec(vocab_size=300, **settings))
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("specials", "match"),
    [
        ((), "one of"),
        (("<eos>", "<pad>"), "one of"),
        ((END_OF_TEXT, "<bos>", "<bos>"), "distinct"),
        ((END_OF_TEXT, "word"), "mistaken"),
        ((END_OF_TEXT, ""), "mistaken"),
        ((END_OF_TEXT, "((("), "mistaken"),
    ],
)
def test_special_tokens_that_cannot_work_are_refused(specials: tuple[str, ...], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        train_tokenizer(["text"], TokenizerSpec(vocab_size=300, special_tokens=specials))


def test_a_vocabulary_too_small_for_the_bytes_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot hold 256 bytes, 2 special tokens"):
        train_tokenizer(["text"], TokenizerSpec(vocab_size=257, special_tokens=(END_OF_TEXT, "<a>")))
