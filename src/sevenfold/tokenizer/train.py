"""Training of a byte-level BPE with the `tokenizers` library: the same texts give the same bytes.

The library counts words in parallel and merges the most frequent pair, ties by id; neither depends on threads
(a test holds that). The file is written as canonical JSON, so its bytes do not depend on a hash table's order
either. Cost: 12 MB of Python to 4096 entries in about 3 s and 0.3 GB on two cores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import canonical_json
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.tokenizer.codec import END_OF_TEXT

N_BYTES = 256
MIN_FREQUENCY = 2

# Pieces that no token crosses. `code`, measured on the standard library, 4096 entries, bytes per token of the
# held-out files: line end joined to the indentation after it 3.44; joined to the operator before it 3.36; to
# both 3.58, but then a prompt that ends in `:` or in a line end is cut where training never cuts.
# `llama3` is the rule that llama.cpp names `llama-bpe`: 3.36, and other runtimes cut text the same way.
PIECES = {
    "code": "|".join(
        (
            r"[^\r\n\p{L}\p{N}]?\p{L}+",  # a word, with one mark or space before it: .append, (self, _name
            r"\p{N}{1,3}",  # digits, at most three together
            r" ?[^\s\p{L}\p{N}]+",  # operators and brackets
            r"[\r\n]+[ \t]*",  # line ends with the indentation of the next line
            r"[ \t]+(?!\S)",  # blanks at the end of a line, and all but the last of a run
            r"\s+",
        )
    ),
    "llama3": "|".join(
        (
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
            r"[^\r\n\p{L}\p{N}]?\p{L}+",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    ),
}


def train_bpe(texts: Iterable[str], spec: TokenizerSpec) -> bytes:
    """Train on `texts`; returns the tokenizer file as canonical JSON, of exactly `spec.vocab_size` entries.

    Raises:
        UsageError: the recipe asks for an algorithm or a setting that this version does not build.
        StorageError: the texts do not hold enough repeated pairs for the vocabulary.
    """
    _refuse_unbuilt(spec)
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _pre_tokenizer(spec.pieces)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size,
        min_frequency=MIN_FREQUENCY,
        show_progress=False,
        special_tokens=list(spec.special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    size = tokenizer.get_vocab_size()
    if size != spec.vocab_size:
        raise StorageError(
            f"the corpus is too small for tokenizer.vocab_size {spec.vocab_size}: it gives {size} entries",
            where="tokenizer",
            remedy=f"add text, or set tokenizer.vocab_size and model.vocab_size to at most {size}",
        )
    return canonical_json(json.loads(tokenizer.to_str()))


def _pre_tokenizer(pieces: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(PIECES[pieces]), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _refuse_unbuilt(spec: TokenizerSpec) -> None:
    unbuilt = {
        "tokenizer.algo": spec.algo if spec.algo != "bpe" else None,
        "tokenizer.byte_fallback": None if spec.byte_fallback else "false",
        "tokenizer.preserve": spec.preserve,
        "tokenizer.training_mix": spec.training_mix,
    }
    for where, value in unbuilt.items():
        if value:
            raise UsageError(
                f"{value!r} is planned but not built by this version",
                where=where,
                remedy="this version trains algo: bpe with byte fallback; leave the other settings out",
            )
    specials = spec.special_tokens
    if not specials or specials[0] != END_OF_TEXT or len(set(specials)) != len(specials):
        raise UsageError(
            f"special tokens {list(specials)} must be distinct and begin with {END_OF_TEXT}",
            where="tokenizer.special_tokens",
        )
    if spec.vocab_size < N_BYTES + len(specials):
        raise UsageError(
            f"{spec.vocab_size} entries cannot hold {N_BYTES} bytes and {len(specials)} special tokens",
            where="tokenizer.vocab_size",
        )
    for special in specials:
        # What the pieces always cut, no merge can make: so no text can come to be a special token.
        if len(_pre_tokenizer(spec.pieces).pre_tokenize_str(special)) < 2:
            raise UsageError(
                f"special token {special!r} could be mistaken for a word of the text",
                where="tokenizer.special_tokens",
                remedy="write it with brackets, such as <name>",
            )
