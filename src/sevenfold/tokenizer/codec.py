"""Encode text to token ids and decode it exactly: BPE or Unigram over bytes.

Every Unicode string is decoded to itself. Invariants:

- The special tokens have the first ids in a vocabulary of ours. In an import they may have any (Llama
  3: the last). One of BEGINNINGS is among them and precedes every document.
- All 256 single bytes are tokens.
- A token is a fixed byte string, so decoding is concatenation and may be split between any two ids.
- A special token has no bytes, and no text encodes to one. The characters `<|endoftext|>` in a
  document or a prompt are ordinary text.

Reserved step markers (`core.documents.STEP_MARKERS`) differ. They stand for their own names, and
`encode_marked` finds them. It is used only for documents that the generators of this project made.

The encoder of `native/tokens` is used where it was built. Without it, known units and pieces
(`pieces`) are looked up in a table, and the `tokenizers` library encodes the new ones. All three
ways give the same ids, which tests check. dev/LOG.md has their speeds. Both libraries are loaded
when the first text is encoded, so a process that only handles token ids never loads them.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property
from itertools import chain
from typing import Any

from sevenfold.core.documents import STEP_MARKERS, SYNTHETIC, Document
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.tokenizer.form import read_form
from sevenfold.tokenizer.native import Encoder, split_rules
from sevenfold.tokenizer.pieces import HAS_UNITS, Cutter, units
from sevenfold.tokenizer.roles import Roles

END_OF_TEXT = "<|endoftext|>"
# The first of these that is reserved precedes every document.
BEGINNINGS = (END_OF_TEXT, "<bos>", "<s>", "<|begin_of_text|>")
ENDINGS = (END_OF_TEXT, "<eos>", "</s>", "<|end_of_text|>")
PADDINGS = ("<pad>", "<|pad|>")
# A longer unit is unlikely to occur again.
MAX_CACHED_LETTERS = 64
MAX_CACHED = 1 << 18


@cache
def byte_letters() -> tuple[str, ...]:
    """Return the vocabulary letter of each byte: the byte itself if it is visible in Latin-1, else
    a letter from U+0100 on.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in visible else chr(next(others)) for byte in range(256))


class Tokenizer:
    """One vocabulary. Create it with `from_json`. It is immutable."""

    def __init__(
        self,
        data: bytes,
        vocabulary: tuple[bytes, ...],
        specials: Mapping[str, int],
        roles: Roles | None = None,
    ) -> None:
        """Create a tokenizer. `specials` holds the ids by name, in the order of the ids."""
        self._data, self._vocabulary, self._specials, self._roles = data, vocabulary, specials, roles

    @cached_property
    def _model(self) -> Any:
        from tokenizers import Tokenizer as Model

        # Without a list of added tokens, the library cannot find one of them in a text.
        bare = canonical_json({**read_form(self._data), "added_tokens": []}).decode()
        try:
            return Model.from_str(bare)
        except Exception as error:  # the library raises no narrower class
            raise _refusal(error) from error

    @classmethod
    def from_json(cls, data: bytes, roles: Roles | None = None) -> Tokenizer:
        """Load a tokenizer from the bytes of `tokenizer.json` (or of a DICT lane).

        Args:
            roles: what begins and ends a text, where the files of an import decide it; by default
                the names of the special tokens decide.

        Raises:
            StorageError: the bytes are not a byte-level tokenizer of the form that this version
                reads, or a role is not one of its ids.
        """
        try:
            specials, vocabulary = _checked(read_form(data))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _refusal(error) from error
        if roles is not None and roles.largest >= len(vocabulary):
            raise StorageError(
                f"token {roles.largest} has a role, the vocabulary ends at {len(vocabulary) - 1}",
                where="tokenizer.roles",
                remedy="import the model again",
            )
        return cls(data, vocabulary, specials, roles)

    @property
    def vocab_size(self) -> int:
        """Return the number of ids."""
        return len(self._vocabulary)

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Return the names of the special tokens, in the order of their ids."""
        return tuple(self._specials)

    @cached_property
    def _special_names(self) -> dict[int, str]:
        return {token_id: name for name, token_id in self._specials.items()}

    def special_name(self, token_id: int) -> str | None:
        """Return the name of the special token with this id; None for another token."""
        return self._special_names.get(token_id)

    @property
    def eot_id(self) -> int:
        """Return the id that precedes every document: the first reserved one of BEGINNINGS, or the
        one in the roles.
        """
        if self._roles is not None and self._roles.boundary is not None:
            return self._roles.boundary
        return next(self._specials[name] for name in BEGINNINGS if name in self._specials)

    @property
    def pad_id(self) -> int | None:
        """Return the id of the padding token, or None when none is reserved. It always differs from
        the id that ends a document.
        """
        if self._roles is not None:
            return self._roles.pad
        return next((self._specials[name] for name in PADDINGS if name in self._specials), None)

    @property
    def roles(self) -> Roles:
        """Return the ids that begin, end and pad a text: the given roles, else `eot_id` for all but
        padding.
        """
        if self._roles is not None:
            return self._roles
        return Roles(begin=self.eot_id, bos=self.eot_id, ends=(self.eot_id,), pad=self.pad_id)

    def begun(self, ids: list[int]) -> list[int]:
        """Return the ids of a text with the token that precedes a text in training. An empty text
        begins with the token between two documents.
        """
        if self.roles.begin is not None:
            return [self.roles.begin, *ids]
        return ids or [self.eot_id]

    def special_id(self, name: str) -> int:
        """Return the id of a special token.

        Raises UsageError when the vocabulary does not reserve it.
        """
        if name not in self._specials:
            raise UsageError(
                f"the tokenizer has no special token {name}",
                where="tokenizer.special_tokens",
                remedy=f"it has {', '.join(self._specials)}",
            )
        return self._specials[name]

    def domain_id(self, domain: str) -> int:
        """Return the id of the token that a sequence of `domain` begins with (expert stacks).

        Raises UsageError.
        """
        return self.special_id(f"<|{domain}|>")

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens. Raises UsageError when `text` holds a
        lone surrogate.
        """
        if self._encoder is not None:
            try:
                return self._encoder.ids(text.encode())
            except UnicodeEncodeError as error:
                raise _surrogate() from error
        if self._known is not None:
            return self._known.ids(units(text))
        return self._asked([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text; equal to `encode` of each.

        Raises UsageError as `encode` does.
        """
        if self._encoder is None and self._known is None:
            return self._asked(texts)
        return [self.encode(text) for text in texts]

    def encoding_of(self, document: Document) -> Callable[[str], list[int]]:
        """Return the function that encodes the text of a document: `encode_marked` for a document
        of our generators, else `encode`.
        """
        return self.encode_marked if document.source == SYNTHETIC else self.encode

    def encode_marked(self, text: str) -> list[int]:
        """Return the ids of a text in which each reserved marker is one id. Raises UsageError as
        `encode` does.
        """
        if self._marker is None:
            return self.encode(text)
        ids = []
        for i, part in enumerate(self._marker.split(text)):
            ids += [self._specials[part]] if i % 2 else self.encode(part)
        return ids

    @cached_property
    def _marker(self) -> re.Pattern[str] | None:
        reserved = [re.escape(marker) for marker in STEP_MARKERS if marker in self._specials]
        return re.compile(f"({'|'.join(reserved)})") if reserved else None

    @cached_property
    def _encoder(self) -> Encoder | None:
        value = read_form(self._data)
        return Encoder.open(value, self._findable(value["model"]["vocab"]))

    def _findable(self, entries: Json) -> list[bytes]:
        """Return the bytes of every id as the library would find them in a text: a special token is
        an entry of its vocabulary, too, unless it stands in the list of added tokens alone.
        """
        letters = {letter: bytes([byte]) for byte, letter in enumerate(byte_letters())}
        found = list(self._vocabulary)
        listed = entries if isinstance(entries, dict) else {name for name, _ in entries}
        for name, token_id in self._specials.items():
            is_spelled = name in listed and letters.keys() >= {*name}
            found[token_id] = b"".join(letters[letter] for letter in name) if is_spelled else b""
        return found

    @cached_property
    def _known(self) -> _Known | None:
        """Return the table of known units; None when the rule of the file has no units."""
        rules = split_rules(read_form(self._data))
        if rules[-1] not in HAS_UNITS:
            return None
        return _Known(self, Cutter(rules[-1], rules[0] if len(rules) > 1 else None))

    def _asked(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text from the library, on all cores."""
        try:
            encodings = self._model.encode_batch_fast(list(texts), add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            # The TypeError of the library for such a text does not name the cause.
            raise _surrogate() from error
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the ids; bytes that are not UTF-8 become U+FFFD. Raises UsageError for
        an unknown id.
        """
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the exact bytes of the ids. The bytes of a + b are those of a, then those of b.

        Raises UsageError.
        """
        return b"".join(map(self.token_bytes, ids))

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token: the name of a marker, nothing for another special token.
        Raises UsageError for an unknown id.
        """
        if not 0 <= token_id < len(self._vocabulary):
            raise UsageError(f"token id {token_id} is outside 0 to {len(self._vocabulary) - 1}")
        return self._vocabulary[token_id]

    def stream(self) -> TextStream:
        """Return a decoder that takes one id at a time."""
        return TextStream(self)


class TextStream:
    """Decodes ids one by one. A character appears when its last byte has arrived."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token_id: int) -> str:
        """Return the characters that this token completes. Raises UsageError for an unknown id."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def feed_all(self, token_ids: Iterable[int]) -> str:
        """Return the characters that these tokens complete. Raises UsageError for an unknown id."""
        return self._decoder.decode(self._tokenizer.decode_bytes(token_ids))

    def close(self) -> str:
        """Return the rest: U+FFFD when the last character is incomplete, else nothing."""
        return self._decoder.decode(b"", final=True)


class _Known:
    """The ids of units and pieces that were encoded before. New units are cut into pieces, and the
    library encodes all new pieces at once.
    """

    def __init__(self, tokenizer: Tokenizer, cutter: Cutter) -> None:
        self._tokenizer, self._cutter = tokenizer, cutter
        self.units: dict[str, Sequence[int]] = {}
        self.pieces: dict[str, Sequence[int]] = {}

    def ids(self, wanted: list[str]) -> list[int]:
        """Return the concatenated ids of the units."""
        # This asks the table and does not iterate over it.
        new = set(wanted).difference(self.units)
        if new:
            self._learn(new)
        found = list(chain.from_iterable(map(self.units.__getitem__, wanted)))
        for table in (self.units, self.pieces):
            if len(table) > MAX_CACHED:
                table.clear()
        for unit in new:
            if len(unit) > MAX_CACHED_LETTERS:
                self.units.pop(unit, None)
        return found

    def _learn(self, new: set[str]) -> None:
        cut = {unit: self._cutter.pieces(unit) if unit.isascii() else [unit] for unit in new}
        asked = list(set(chain.from_iterable(cut.values())).difference(self.pieces))
        if asked:
            self.pieces.update(zip(asked, self._tokenizer._asked(asked), strict=True))
        known = self.pieces.__getitem__
        for unit, pieces in cut.items():
            self.units[unit] = tuple(chain.from_iterable(map(known, pieces)))


def _surrogate() -> UsageError:
    return UsageError(
        "the text is not valid Unicode: it holds half of a surrogate pair", remedy="remove or replace it"
    )


def _refusal(error: Exception) -> StorageError:
    return StorageError(
        f"not a tokenizer that this version reads: {error}",
        where="tokenizer",
        remedy="make it again with `s7 tokenizer`",
    )


def _checked(value: Json) -> tuple[dict[str, int], tuple[bytes, ...]]:
    """Return the ids of the special tokens and the bytes of every id; ValueError or a lookup error
    when the form is not ours.
    """
    model, letters = value["model"], {letter: byte for byte, letter in enumerate(byte_letters())}
    steps = value["pre_tokenizer"]["pretokenizers"]
    added = sorted(value["added_tokens"], key=lambda token: token["id"])
    specials = {token["content"]: token["id"] for token in added}
    if len(specials) != len(added) or not {*BEGINNINGS} & specials.keys():
        raise ValueError(f"its special tokens {(*specials,)} have not one of {BEGINNINGS} among them")
    names = _NAMES[model["type"]](model, specials, len(steps) > len(("Split", "ByteLevel")))
    if any(not 0 <= i < len(names) or names[i] != name for name, i in specials.items()):
        raise ValueError("a special token has the id of another entry")
    for left, right in model.get("merges", ()):
        if left + right in specials:
            raise ValueError("a merge makes a special token")
    ordinary = [bytes(letters[letter] for letter in name) for name in names if name not in specials]
    if len({*ordinary}) != len(ordinary) or not {bytes([byte]) for byte in range(256)} <= {*ordinary}:
        raise ValueError("its vocabulary lacks a byte")
    rest = iter(ordinary)
    vocabulary = tuple(
        (name.encode() if name in STEP_MARKERS else b"") if name in specials else next(rest) for name in names
    )
    return specials, vocabulary


def _names_of_bpe(model: Json, specials: Mapping[str, int], has_protected: bool) -> list[str]:
    if has_protected and not model["ignore_merges"]:
        raise ValueError("model.ignore_merges is False with protected symbols")
    # Llama 3 lists its special tokens beside the vocabulary, and not in it.
    ids = {**specials, **model["vocab"]}
    names = sorted(ids, key=ids.__getitem__)
    if [ids[name] for name in names] != list(range(len(names))):
        raise ValueError("its ids are not 0 to n-1")
    for left, right in model["merges"]:
        if not {left, right, left + right} <= model["vocab"].keys():
            raise ValueError(f"the merge of {left!r} and {right!r} is not one of entries")
    return names


def _names_of_unigram(model: Json, _specials: Mapping[str, int], _has_protected: bool) -> list[str]:
    if not all(isinstance(score, float) and math.isfinite(score) for _, score in model["vocab"]):
        raise ValueError("a score is no finite number")
    return [name for name, _ in model["vocab"]]


_NAMES = {"BPE": _names_of_bpe, "Unigram": _names_of_unigram}
