"""Text to ids and back is exact for every string, and no text becomes a special token."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Model

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import canonical_json
from sevenfold.tokenizer.codec import END_OF_TEXT, Tokenizer, byte_letters

anything = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
code_like = st.lists(
    st.sampled_from(
        [
            "def",
            " ",
            "\n",
            "\r\n",
            "\t",
            "    ",
            "12345",
            "(x):",
            "_a",
            "\x00",
            "\x0c",
            "\ufeff",
            "\U0001f40d",
            "<|",
            END_OF_TEXT,
        ]
    )
).map("".join)


@settings(max_examples=300, deadline=None)
@given(anything | code_like)
@example("")
@example("<REASON>" + END_OF_TEXT * 3)
@example(" \n \n\t  x  =  1")
def test_round_trip_of_any_string(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert not set(ids) & {0, 1}


@pytest.mark.parametrize(
    "text", [END_OF_TEXT, "<REASON>", f"a{END_OF_TEXT}b", f"{END_OF_TEXT}\n" * 5, " <REASON> "]
)
def test_the_literal_text_of_a_special_token_is_ordinary_text(tokenizer: Tokenizer, text: str) -> None:
    for ids in (tokenizer.encode(text), tokenizer.encode_batch(["x", text])[1]):
        assert tokenizer.eot_id not in ids
        assert 1 not in ids
        assert tokenizer.decode(ids) == text


def test_canary_the_library_alone_would_let_a_text_inject_a_special_token(tokenizer_json: bytes) -> None:
    assert Model.from_str(tokenizer_json.decode()).encode(f"a{END_OF_TEXT}b").ids.count(0) == 1


def test_batch_equals_one_by_one(tokenizer: Tokenizer, texts: list[str]) -> None:
    sample = [*texts[:5], "", "\U0001f40d"]
    assert tokenizer.encode_batch(sample) == [tokenizer.encode(text) for text in sample]


def test_canonical_json_loads_to_the_same_ids(
    tokenizer: Tokenizer, tokenizer_json: bytes, texts: list[str]
) -> None:
    assert canonical_json(json.loads(tokenizer_json)) == tokenizer_json
    shuffled = json.dumps(dict(reversed(json.loads(tokenizer_json).items())), indent=2).encode()
    for data in (tokenizer_json, shuffled):
        assert Tokenizer.from_json(data).encode(texts[0]) == tokenizer.encode(texts[0])
    assert Model.from_str(tokenizer_json.decode()).encode(texts[0]).ids == tokenizer.encode(texts[0])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 1023)))
def test_decoding_is_concatenation_and_streams(tokenizer: Tokenizer, ids: list[int]) -> None:
    raw = tokenizer.decode_bytes(ids)
    assert raw == b"".join(tokenizer.token_bytes(i) for i in ids)
    assert raw == tokenizer.decode_bytes(ids[: len(ids) // 2]) + tokenizer.decode_bytes(ids[len(ids) // 2 :])
    stream = tokenizer.stream()
    assert "".join(map(stream.feed, ids)) + stream.close() == tokenizer.decode(ids)


def test_a_character_appears_when_its_last_byte_has_come(tokenizer: Tokenizer) -> None:
    snake = "\U0001f40d".encode()
    single = {tokenizer.token_bytes(i): i for i in range(tokenizer.vocab_size)}
    stream = tokenizer.stream()
    assert [stream.feed(single[bytes([byte])]) for byte in snake] == ["", "", "", "\U0001f40d"]
    assert stream.close() == ""
    stream.feed(single[snake[:1]])
    assert stream.close() == "\ufffd"


def test_any_byte_string_is_reachable(tokenizer: Tokenizer) -> None:
    single = {tokenizer.token_bytes(i): i for i in range(tokenizer.vocab_size)}
    raw = bytes(range(256)) + b"\xff\xfe\xc0"
    assert tokenizer.decode_bytes(single[bytes([byte])] for byte in raw) == raw


def test_special_tokens_come_first_and_have_no_bytes_but_markers(tokenizer: Tokenizer) -> None:
    assert tokenizer.special_tokens == (END_OF_TEXT, "<REASON>")
    assert tokenizer.eot_id == 0
    assert tokenizer.decode([0, 1, 0]) == "<REASON>", "a marker stands for its name"
    tokens = [tokenizer.token_bytes(i) for i in range(2, tokenizer.vocab_size)]
    assert len(set(tokens)) == len(tokens) == 1022
    assert b"" not in tokens


def test_digits_stay_in_groups_of_three(tokenizer: Tokenizer) -> None:
    tokens = [tokenizer.token_bytes(i).decode("latin-1") for i in range(tokenizer.vocab_size)]
    assert max(sum(c.isascii() and c.isdigit() for c in token) for token in tokens) <= 3


def test_a_line_end_keeps_the_indentation_after_it(tokenizer: Tokenizer) -> None:
    assert b"\n        " in {tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)}


@pytest.mark.parametrize("token_id", [-1, 1024, 10**9])
def test_an_unknown_id_is_refused(tokenizer: Tokenizer, token_id: int) -> None:
    for call in (tokenizer.token_bytes, tokenizer.stream().feed):
        with pytest.raises(UsageError, match="outside 0 to 1023"):
            call(token_id)
    with pytest.raises(UsageError, match="outside 0 to 1023"):
        tokenizer.decode([5, token_id])


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_a_lone_surrogate_is_refused(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(UsageError, match="surrogate"):
        tokenizer.encode(text)


def changed(data: bytes, **changes: object) -> bytes:
    return json.dumps({**json.loads(data), **changes}).encode()


def with_model(data: bytes, **changes: object) -> bytes:
    return changed(data, model={**json.loads(data)["model"], **changes})


def bad_files(data: bytes) -> dict[str, bytes]:
    value = json.loads(data)
    vocab, merges = value["model"]["vocab"], value["model"]["merges"]
    moved = {**vocab, "a": vocab["b"]}
    renamed = {("\u6f22" if name == "a" else name): i for name, i in vocab.items()}
    without_a_byte = {name if name != "\u0100" else "zzzzq": i for name, i in vocab.items()}
    return {
        "empty": b"",
        "not JSON": data[:-1],
        "not an object": b"[]",
        "no model": b"{}",
        "another model": with_model(data, type="Unigram"),
        "dropout": with_model(data, dropout=0.1),
        "normaliser": changed(data, normalizer={"type": "Lowercase"}),
        "post-processor": changed(data, post_processor={"type": "ByteLevel", "trim_offsets": True}),
        "truncation": changed(data, truncation={"max_length": 3}),
        "pre-tokenizer": changed(
            data, pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}]}
        ),
        "no special tokens": changed(data, added_tokens=[]),
        "special tokens elsewhere": changed(data, added_tokens=[{**value["added_tokens"][0], "id": 7}]),
        "ids twice": with_model(data, vocab=moved),
        "letter that is no byte": with_model(data, vocab=renamed),
        "a byte missing": with_model(data, vocab=without_a_byte),
        "merge of nothing known": with_model(data, merges=[["\u6f22", "\u6f22"], *merges]),
        "merge into a special token": with_model(data, merges=[*merges, ["<|endo", "ftext|>"]]),
    }


@pytest.mark.parametrize(
    "name", list(bad_files(b'{"model":{"vocab":{"a":0,"b":1},"merges":[]},"added_tokens":[{}]}'))
)
def test_a_file_of_another_form_is_refused(tokenizer_json: bytes, name: str) -> None:
    with pytest.raises(StorageError, match="not a tokenizer that this version reads"):
        Tokenizer.from_json(bad_files(tokenizer_json)[name])


def test_byte_letters_are_a_bijection_and_the_library_agrees() -> None:
    from tokenizers import pre_tokenizers

    assert len(set(byte_letters())) == 256
    assert set(byte_letters()) == set(pre_tokenizers.ByteLevel.alphabet())


def test_importing_the_codec_is_light() -> None:
    heavy = {"pyarrow", "torch", "tokenizers", "numpy", "license_expression", "pydantic"}
    script = f"import sys, sevenfold.tokenizer.codec; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={"PYTHONPATH": ":".join(sys.path)}, timeout=60
    )
