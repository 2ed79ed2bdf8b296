"""Every field of tokenizer.json is obeyed or refused by name; the
encoders agree on what is accepted.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from sevenfold.core.errors import StorageError
from sevenfold.core.hashing import canonical_json
from sevenfold.export.gguf import vocabulary
from sevenfold.tokenizer import codec, native
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.form import read_form

LETTERS = codec.byte_letters()
TEXTS = (
    "the int in 12345 don't  x", " the", "", "a  \n\n b\t", "\u00e9\u00e9 aaa ab", "<|endoftext|> the",
    "e\u0301 \u212b", "\u2581the", "if(x==1){the_in();}", "THE's 1234", "\u00a0the\u3000in",
    "\U0001f642the", "def f(the):\n        int 12\n",
)  # fmt: skip
ABSENT = object()


def base() -> Any:
    names, merges = ["<|endoftext|>", "<pad>", *LETTERS], []
    for word in ("the", " the", "in", " int", "ab", "12", "aaa", "  ", "\u00e9"):
        spelled = "".join(LETTERS[byte] for byte in word.encode())
        for end in range(1, len(spelled)):
            if spelled[: end + 1] not in names:
                names.append(spelled[: end + 1])
                merges.append(f"{spelled[:end]} {spelled[end]}")
    types = [3, 3] + [1] * (len(names) - 2)
    return json.loads(vocabulary.build(names, types, merges, "llama3"))


def put(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(tree: Any) -> None:
        for key in path[:-1]:
            tree = tree[key]
        if value is ABSENT:
            del tree[path[-1]]
        else:
            tree[path[-1]] = value

    return change


def without_some_merges(tree: dict[str, Any], *, ignores: bool) -> None:
    """Leave every third merge out: what is a token whole is then not what merges make."""
    model = tree["model"]
    model["merges"] = [merge for i, merge in enumerate(model["merges"]) if i % 3]
    model["ignore_merges"] = ignores


def special_last(tree: dict[str, Any], *, is_listed: bool) -> None:
    """Give the special tokens the last ids, in the vocabulary or beside it."""
    model, names = tree["model"], [token["content"] for token in tree["added_tokens"]]
    ordinary = sorted(model["vocab"].keys() - {*names}, key=model["vocab"].__getitem__)
    ids = {name: i for i, name in enumerate([*ordinary, *names])}
    model["vocab"] = ids if is_listed else {name: ids[name] for name in ordinary}
    for token in tree["added_tokens"]:
        token["id"] = ids[token["content"]]


STEPS = ("pre_tokenizer", "pretokenizers")
# Accepted: the ids are those of the library, by the native encoder and by the fallback.
OBEYED = {
    "as it is": lambda tree: None,
    "trim_offsets": put(*STEPS, 1, "trim_offsets", value=False),
    "empty prefix": put("model", "continuing_subword_prefix", value=""),
    "empty suffix": put("model", "end_of_word_suffix", value=""),
    "unk_token": put("model", "unk_token", value="<pad>"),
    "fuse_unk": put("model", "fuse_unk", value=True),
    "byte_fallback": put("model", "byte_fallback", value=True),
    "ignore_merges absent": put("model", "ignore_merges", value=ABSENT),
    "merges as text": lambda tree: tree["model"].update(
        merges=[" ".join(m) for m in tree["model"]["merges"]]
    ),
    "a merge twice": lambda tree: tree["model"]["merges"].append(tree["model"]["merges"][0]),
    "another rule": put(*STEPS, 0, "pattern", value={"Regex": r"\s+|\S+"}),
    "normalized": put("added_tokens", 1, "normalized", value=True),
    "ignore_merges": lambda tree: without_some_merges(tree, ignores=True),
    "merges that reach not all": lambda tree: without_some_merges(tree, ignores=False),
    "special tokens last": lambda tree: special_last(tree, is_listed=True),
    "special tokens beside the vocabulary": lambda tree: special_last(tree, is_listed=False),
    "as Llama 3": lambda tree: (without_some_merges(tree, ignores=True), special_last(tree, is_listed=False)),
    "nulls absent": lambda tree: [
        tree.pop(k) for k in ("normalizer", "truncation", "padding", "post_processor")
    ],
}
# Refused: the message names the field.
REFUSED = {
    "use_regex": put(*STEPS, 1, "use_regex", value=True),
    "pretokenizers[1].use_regex": put(*STEPS, 1, "use_regex", value=ABSENT),
    "add_prefix_space": put(*STEPS, 1, "add_prefix_space", value=True),
    "continuing_subword_prefix": put("model", "continuing_subword_prefix", value="##"),
    "end_of_word_suffix": put("model", "end_of_word_suffix", value="</w>"),
    "model.dropout": put("model", "dropout", value=0.5),
    "a special token has the id of another": put("added_tokens", 1, "id", value=7),
    "a special token has the id of another entry": put("added_tokens", 1, "id", value=-1),
    "its ids are not 0 to n-1": put("model", "vocab", "<pad>", value=3),
    "model.wat": put("model", "wat", value=1),
    "wat": put("wat", value=1),
    "version": put("version", value="9.0"),
    "invert": put(*STEPS, 0, "invert", value=True),
    "behavior": put(*STEPS, 0, "behavior", value="Removed"),
    "pattern.String": put(*STEPS, 0, "pattern", value={"String": " "}),
    "pretokenizers[0].wat": put(*STEPS, 0, "wat", value=1),
    "pretokenizers[1].wat": put(*STEPS, 1, "wat", value=1),
    "pre_tokenizer": put("pre_tokenizer", value={"type": "Whitespace"}),
    "normalizer": put("normalizer", value={"type": "Prepend", "prepend": "\u2581"}),
    "decoder.type": put("decoder", value={"type": "Fuse"}),
    "decoder": put("decoder", value=ABSENT),
    "post_processor": put("post_processor", value={"type": "ByteLevel"}),
    "truncation": put("truncation", value={"max_length": 4}),
    "padding": put("padding", value={"pad_id": 1}),
    "lstrip": put("added_tokens", 1, "lstrip", value=True),
    "rstrip": put("added_tokens", 1, "rstrip", value=True),
    "single_word": put("added_tokens", 1, "single_word", value=True),
    "special": put("added_tokens", 1, "special", value=False),
    "added_tokens[1].wat": put("added_tokens", 1, "wat", value=1),
    "model.type": put("model", "type", value="WordPiece"),
    "merges[0]": put("model", "merges", value=[["a"]]),
    "<pad>": put("model", "vocab", "<pad>", value=True),
}


def encoded(data: bytes, *, is_native: bool) -> list[list[int]] | None:
    tokenizer = Tokenizer.from_json(data)
    if not is_native:
        tokenizer.__dict__["_encoder"] = None
    elif tokenizer._encoder is None:
        return None
    return [tokenizer.encode(text) for text in TEXTS]


@pytest.mark.parametrize("name", OBEYED)
def test_what_is_accepted_has_the_ids_of_the_library(name: str) -> None:
    tree = base()
    OBEYED[name](tree)
    data = canonical_json(tree)
    # Without its added tokens the library finds none of them in a text, which is what we promise.
    library = Library.from_str(canonical_json({**tree, "added_tokens": []}).decode())
    expected = [library.encode(text, add_special_tokens=False).ids for text in TEXTS]
    assert encoded(data, is_native=False) == expected
    found = encoded(data, is_native=True)
    if native.library() is not None:
        assert found == (None if name == "another rule" else expected)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_obeyed_is_refused_by_name(name: str) -> None:
    tree = base()
    REFUSED[name](tree)
    with pytest.raises(StorageError) as caught:
        Tokenizer.from_json(canonical_json(tree))
    assert name in caught.value.what
    assert "\n" not in str(caught.value)


def test_a_key_that_stands_twice_is_refused() -> None:
    text = canonical_json(base()).decode()
    with pytest.raises(StorageError, match="version stands twice"):
        Tokenizer.from_json(text.replace('"version":"1.0"', '"version":"1.0","version":"1.0"').encode())


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
PATHS = [
    *((name,) for name in base()),
    *(("model", name) for name in base()["model"]),
    *((*STEPS, 0, name) for name in base()["pre_tokenizer"]["pretokenizers"][0]),
    *((*STEPS, 1, name) for name in base()["pre_tokenizer"]["pretokenizers"][1]),
    *(("added_tokens", 0, name) for name in base()["added_tokens"][0]),
    *(("decoder", name) for name in base()["decoder"]),
]
BASE = base()


@given(st.sampled_from(PATHS), VALUES)
def test_any_value_anywhere_is_read_or_refused_in_one_line(path: tuple[Any, ...], value: Any) -> None:
    tree = copy.deepcopy(BASE)
    put(*path, value=value)(tree)
    said = ""
    try:
        Tokenizer.from_json(canonical_json(tree))
    except StorageError as error:
        said = str(error)
    assert "\n" not in said


def test_the_form_fills_in_defaults_and_pairs() -> None:
    tree = base()
    OBEYED["merges as text"](tree)
    del tree["model"]["ignore_merges"]
    assert read_form(canonical_json(tree)) == read_form(canonical_json(base()))
