"""Text to token ids and back, exactly: byte-level BPE, so every Unicode string comes back as it went in.

Invariants. Ids 0 to k-1 are the special tokens, <|endoftext|> first; all 256 single bytes are tokens; a token
is a fixed byte string, so decoding is concatenation and may be cut between any two ids. A special token has
no bytes, and no text encodes to one: the characters `<|endoftext|>` in a document or a prompt are ordinary
text. Cost: encoding about 2 MB/s a core (the library's); decoding is a table look-up. The library is loaded by
the first text that is encoded: a process that is given token ids never holds it (9 MB at 4096 entries).
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from typing import Any

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json, canonical_json

END_OF_TEXT = "<|endoftext|>"


@cache
def byte_letters() -> tuple[str, ...]:
    """The letter for each byte in the vocabulary: itself if visible in Latin-1, else from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in visible else chr(next(others)) for byte in range(256))


class Tokenizer:
    """One vocabulary. Make it with `from_json`; it does not change afterwards."""

    def __init__(self, data: bytes, vocabulary: tuple[bytes, ...], specials: tuple[str, ...]) -> None:
        self._data, self._vocabulary, self._specials = data, vocabulary, specials

    @cached_property
    def _model(self) -> Any:
        from tokenizers import Tokenizer as Model

        # Without its list of added tokens the library cannot find one of them in a text.
        bare = canonical_json({**json.loads(self._data), "added_tokens": []}).decode()
        try:
            return Model.from_str(bare)
        except Exception as error:  # the library raises no narrower class
            raise _refusal(error) from error

    @classmethod
    def from_json(cls, data: bytes) -> Tokenizer:
        """Load a tokenizer from the bytes of `tokenizer.json` (or of a DICT lane).

        Raises:
            StorageError: the bytes are not a byte-level BPE of the form that this version writes.
        """
        try:
            specials, vocabulary = _checked(json.loads(data))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _refusal(error) from error
        return cls(data, vocabulary, specials)

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return len(self._vocabulary)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Names of the special tokens; the id of each is its place."""
        return self._specials

    @property
    def eot_id(self) -> int:
        """Id of <|endoftext|>, which precedes every document."""
        return self._specials.index(END_OF_TEXT)

    def special_id(self, name: str) -> int:
        """Id of a special token. Raises UsageError when the vocabulary does not reserve it."""
        if name not in self._specials:
            raise UsageError(
                f"the tokenizer has no special token {name}",
                where="tokenizer.special_tokens",
                remedy=f"it has {', '.join(self._specials)}",
            )
        return self._specials.index(name)

    def domain_id(self, domain: str) -> int:
        """Id of the token that a sequence of `domain` begins with (expert stacks). Raises UsageError."""
        return self.special_id(f"<|{domain}|>")

    def encode(self, text: str) -> list[int]:
        """Ids of a text; never a special token's. Raises UsageError when `text` holds a lone surrogate."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, on all cores; equal to `encode` of each. Raises UsageError as `encode` does."""
        try:
            encodings = self._model.encode_batch_fast(list(texts), add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            # The library's own TypeError for such a text does not name the cause.
            raise UsageError(
                "the text is not valid Unicode: it holds half of a surrogate pair",
                remedy="remove or replace it",
            ) from error
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids; bytes that are not UTF-8 become U+FFFD. Raises UsageError for an unknown id."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Bytes of the ids, exactly; the bytes of a + b are those of a, then of b. Raises UsageError."""
        return b"".join(map(self.token_bytes, ids))

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes that a token stands for; none for a special token. Raises UsageError for an unknown id."""
        if not 0 <= token_id < len(self._vocabulary):
            raise UsageError(f"token id {token_id} is outside 0 to {len(self._vocabulary) - 1}")
        return self._vocabulary[token_id]

    def stream(self) -> TextStream:
        """A decoder that takes one id at a time."""
        return TextStream(self)


class TextStream:
    """Text from ids one by one: a character appears when its last byte has come."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        """Characters that this token completes. Raises UsageError for an unknown id."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def close(self) -> str:
        """What is left: U+FFFD when the last character was not complete, else nothing."""
        return self._decoder.decode(b"", final=True)


def _refusal(error: Exception) -> StorageError:
    return StorageError(
        f"not a tokenizer that this version reads: {error}",
        where="tokenizer",
        remedy="make it again with `s7 tokenizer`",
    )


def _checked(value: Json) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    """Special tokens and the bytes of every id; ValueError or a lookup error when the form is not ours."""
    model, letters = value["model"], {letter: byte for byte, letter in enumerate(byte_letters())}
    form = (
        model["type"],
        value["normalizer"],
        value["post_processor"],
        value["truncation"],
        value["padding"],
    )
    if form != ("BPE", None, None, None, None) or model["dropout"] is not None or model["ignore_merges"]:
        raise ValueError(f"its form is {form}; expected a plain BPE")
    steps = [step["type"] for step in value["pre_tokenizer"]["pretokenizers"]]
    if steps != ["Split", "ByteLevel"] or value["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"]:
        raise ValueError(f"its pre-tokenizer is {steps}; expected Split, ByteLevel without a prefix space")
    added = sorted(value["added_tokens"], key=lambda token: token["id"])
    specials = tuple(token["content"] for token in added)
    if [token["id"] for token in added] != list(range(len(added))) or specials[:1] != (END_OF_TEXT,):
        raise ValueError(f"its special tokens {specials} are not the first ids, {END_OF_TEXT} first")
    names = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if [model["vocab"][name] for name in names] != list(range(len(names))) or tuple(
        names[: len(added)]
    ) != specials:
        raise ValueError("its ids are not 0 to n-1 with the special tokens first")
    for left, right in model["merges"]:
        if not {left, right, left + right} <= model["vocab"].keys():
            raise ValueError(f"the merge of {left!r} and {right!r} is not one of entries")
        if left + right in specials:
            raise ValueError("a merge makes a special token")
    vocabulary = tuple(bytes(letters[letter] for letter in name) for name in names[len(added) :])
    if len({*vocabulary}) != len(vocabulary) or not {bytes([byte]) for byte in range(256)} <= {*vocabulary}:
        raise ValueError("its vocabulary lacks a byte")
    return specials, (b"",) * len(added) + vocabulary
