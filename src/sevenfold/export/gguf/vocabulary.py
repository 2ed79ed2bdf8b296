"""Convert our tokenizer file to the entries of a GGUF header, and back to the same bytes.

llama.cpp knows pre-tokenizers only by name (`tokenizer.ggml.pre`). `llama3` pieces are its
`llama-bpe`. None of its names splits text like `code` pieces (specs/export.md, section 4). A file
with `code` pieces therefore names the rule in a key of ours, and is only for callers that encode
text themselves.
"""

from __future__ import annotations

import gguf

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.export.source import KEY
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.form import read_form
from sevenfold.tokenizer.pieces import PIECES
from sevenfold.tokenizer.roles import Roles

PRE = "llama-bpe"
PIECES_KEY = f"{KEY}.tokenizer.pieces"
# Set when a piece that is a token is never split, whatever the merges are.
WHOLE_KEY = f"{KEY}.tokenizer.whole_pieces"
_NORMAL, _CONTROL = int(gguf.TokenType.NORMAL), int(gguf.TokenType.CONTROL)


def _form(tokenizer: bytes) -> Json:
    try:
        return read_form(tokenizer)
    except ValueError as error:
        raise StorageError(f"not a tokenizer that can be exported: {error}", where="tokenizer") from error


def pieces_of(tokenizer: bytes) -> str:
    """Return the rule of `PIECES` by which a tokenizer file splits text.

    Raises StorageError when it is none of them.
    """
    value = _form(tokenizer)
    steps = value["pre_tokenizer"]["pretokenizers"]
    if value["model"]["type"] != "BPE" or len(steps) != len(("Split", "ByteLevel")):
        kind = (
            "protected symbols"
            if value["model"]["type"] == "BPE"
            else f"a {value['model']['type']} model over bytes"
        )
        raise StorageError(
            f"its tokenizer has {kind}, which no other runtime reads in the same way",
            where="tokenizer",
            remedy="export a model with tokenizer.algo bpe and no tokenizer.preserve",
        )
    pattern = steps[0].get("pattern", {}).get("Regex")
    found = [
        name for name, known in PIECES.items() if known == pattern and steps[0]["behavior"] == "Isolated"
    ]
    if not found:
        raise StorageError("its tokenizer splits text by an unknown rule", where="tokenizer")
    return found[0]


def lists(tokenizer: bytes) -> tuple[list[str], list[int], list[str]]:
    """Return the tokens, their types and the merges in the form of GGUF."""
    value = _form(tokenizer)
    specials = {token["content"]: token["id"] for token in value["added_tokens"]}
    ids = {**specials, **value["model"]["vocab"]}
    tokens = sorted(ids, key=ids.__getitem__)
    types = [_CONTROL if token in specials else _NORMAL for token in tokens]
    return tokens, types, [" ".join(pair) for pair in value["model"]["merges"]]


def add_to(writer: gguf.GGUFWriter, tokenizer: bytes, roles: Roles | None = None) -> None:
    """Write the keys of the vocabulary: model, pre-tokenizer, tokens, scores, types, merges,
    special tokens.

    Args:
        roles: the tokens that begin and end a text; by default those that the names of the
            vocabulary imply.

    Raises:
        UsageError: the format has no key for these roles.
    """
    tokens, types, merges = lists(tokenizer)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE)
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    _add_roles(writer, roles or Tokenizer.from_json(tokenizer).roles)
    writer.add_string(PIECES_KEY, pieces_of(tokenizer))
    if _form(tokenizer)["model"]["ignore_merges"]:
        writer.add_bool(WHOLE_KEY, True)


def _add_roles(writer: gguf.GGUFWriter, roles: Roles) -> None:
    # A runtime chooses a token itself when the file names no end.
    writers = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    if not 1 <= len(roles.ends) <= len(writers):
        raise UsageError(
            f"{len(roles.ends)} tokens end a text; a GGUF file names 1 to {len(writers)}",
            where="tokenizer.roles",
            remedy="--to hf writes all of them",
        )
    bos = roles.bos if roles.begin is None else roles.begin
    if bos is not None:
        writer.add_bos_token_id(bos)
    for add, token in zip(writers, roles.ends, strict=False):
        add(token)
    # Never the id that ends a text, because a runtime would treat the end as padding.
    if roles.pad is not None:
        writer.add_pad_token_id(roles.pad)
    writer.add_add_bos_token(roles.begin is not None)
    writer.add_add_eos_token(False)


def build(
    tokens: list[str], types: list[int], merges: list[str], pieces: str, *, takes_whole: bool = False
) -> bytes:
    """Return the tokenizer file of these lists, with the bytes that the trainer of this project
    writes for them.

    Args:
        tokens: the names by id.
        types: the type of each token.
        merges: "left right", in order.
        pieces: the name of the rule that splits text.
        takes_whole: whether a piece that is a token is never split, whatever the merges are.

    Raises:
        StorageError: they are not a byte-level BPE of the form that this version reads.
    """
    if pieces not in PIECES:
        raise StorageError(f"text is split by {pieces!r}, which is not known here", where=PIECES_KEY)
    specials = {i: tokens[i] for i, kind in enumerate(types) if kind == _CONTROL}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    byte_level = {"add_prefix_space": False, "trim_offsets": True, "type": "ByteLevel", "use_regex": False}
    value: Json = {
        "added_tokens": [{**flags, "id": i, "content": token} for i, token in specials.items()],
        "decoder": {"add_prefix_space": True, "trim_offsets": True, "type": "ByteLevel", "use_regex": True},
        "model": {
            "byte_fallback": False,
            "continuing_subword_prefix": None,
            "dropout": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "ignore_merges": takes_whole,
            "merges": [merge.split(" ") for merge in merges],
            "type": "BPE",
            "unk_token": None,
            "vocab": {token: i for i, token in enumerate(tokens)},
        },
        "normalizer": None,
        "padding": None,
        "post_processor": None,
        "pre_tokenizer": {
            "pretokenizers": [
                {
                    "behavior": "Isolated",
                    "invert": False,
                    "pattern": {"Regex": PIECES[pieces]},
                    "type": "Split",
                },
                byte_level,
            ],
            "type": "Sequence",
        },
        "truncation": None,
        "version": "1.0",
    }
    data = canonical_json(value)
    Tokenizer.from_json(data)
    return data


def stray_tokens(tokenizer: bytes) -> list[int]:
    """Return the ids whose text does not encode to them. llama.cpp does not split a piece that is a
    token, but we merge.

    No vocabulary seen so far has such ids. An export with them would answer differently, so it is
    refused.
    """
    ours = Tokenizer.from_json(tokenizer)
    texts: dict[int, str] = {}
    for token in range(ours.vocab_size):
        if ours.special_name(token) is not None:
            continue
        try:
            texts[token] = ours.token_bytes(token).decode()
        except UnicodeDecodeError:
            # A piece of a text consists of whole characters.
            continue
    encoded = ours.encode_batch(list(texts.values()))
    return [token for token, ids in zip(texts, encoded, strict=True) if ids != [token]]
