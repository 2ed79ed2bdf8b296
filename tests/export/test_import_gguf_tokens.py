"""The vocabulary of a foreign GGUF file: every key and every type of token
is obeyed or refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_models as foreign
import pytest
from gguf import GGUFWriter
from test_import_gguf import Maker, refused

from sevenfold.core.errors import StorageError, UsageError
from sevenfold.export.gguf import vocabulary
from sevenfold.export.gguf.tokens import adds_bos, read_tokenizer
from sevenfold.export.source import ExportSource
from sevenfold.tokenizer.codec import Tokenizer

GGML = "tokenizer.ggml."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ExportSource:
    folder = tmp_path_factory.mktemp("gguf-tokens")
    return foreign.imported("hf", foreign.make(folder / "hf", begin="<s>"), folder / "in")


def header(source: ExportSource) -> dict[str, Any]:
    tokens, types, merges = vocabulary.lists(source.tokenizer)
    lists = {"tokens": tokens, "token_type": types, "merges": merges}
    return {f"{GGML}{name}": value for name, value in {**lists, "model": "gpt2", "pre": "llama-bpe"}.items()}


def put(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda keys: keys.update({name if "." in name else GGML + name: value})


def put_item(name: str, place: int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(keys: dict[str, Any]) -> None:
        keys[GGML + name] = [*keys[GGML + name]]
        keys[GGML + name][place] = value

    return change


def without_a_merge(keys: dict[str, Any]) -> None:
    keys[f"{GGML}merges"] = keys[f"{GGML}merges"][:-1]


@pytest.mark.parametrize(
    "change",
    [
        *(put("pre", name) for name in ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral")),
        *(put(name, False) for name in ("add_space_prefix", "remove_extra_whitespaces")),
        put("scores", [0.0]),
        *(
            put(f"{name}_token_id", 0)
            for name in ("unknown", "seperator", "cls", "mask", "fim_pre", "fim_suf", "fim_mid")
        ),
    ],
)
def test_what_changes_no_id_is_read(base: ExportSource, change: Callable[[dict[str, Any]], None]) -> None:
    keys = header(base)
    change(keys)
    assert read_tokenizer(keys, base.spec.vocab_size, "x.gguf") == base.tokenizer


REFUSED = {
    "add_space_prefix": put("add_space_prefix", True),
    "add_space_prefix is 0": put("add_space_prefix", 0),
    "remove_extra_whitespaces": put("remove_extra_whitespaces", True),
    "precompiled_charsmap": put("precompiled_charsmap", [1, 2]),
    "normalizer.lowercase": put(f"{GGML}normalizer.lowercase", True),
    "fim_pad_token_id": put("fim_pad_token_id", 0),
    "fim_rep_token_id": put("fim_rep_token_id", 0),
    "fim_sep_token_id": put("fim_sep_token_id", 0),
    "a_key_of_tomorrow": put("a_key_of_tomorrow", 0),
    r"token_type\[299\] is USER_DEFINED": put_item("token_type", 299, 4),
    r"token_type\[299\] is UNKNOWN": put_item("token_type", 299, 2),
    r"token_type\[298\] is UNUSED": put_item("token_type", 298, 5),
    r"token_type\[299\] is BYTE": put_item("token_type", 299, 6),
    r"token_type\[299\] is 9": put_item("token_type", 299, 9),
    "a merge makes a special token": put_item("token_type", 299, 3),
    "pre is 'code'": put("pre", "code"),
    "pre is 'gpt-2'": put("pre", "gpt-2"),
    "pre is 'default'": put("pre", "default"),
    "pre is missing": lambda keys: keys.pop(f"{GGML}pre"),
    "pre is 3": put("pre", 3),
    r"pre is \['llama3'\]": put("pre", ["llama3"]),
    "model is 'llama'": put("model", "llama"),
    "model is None": lambda keys: keys.pop(f"{GGML}model"),
    r"tokens\[299\] is 7": put_item("tokens", 299, 7),
    r"token_type\[299\] is True": put_item("token_type", 299, True),
    r"merges\[0\] is 7": put_item("merges", 0, 7),
    r"model.merges\[0\]": put_item("merges", 0, "a b c"),
    "merge of": put_item("merges", 0, "zzz zzz"),
    "tokens is missing": lambda keys: keys.pop(f"{GGML}tokens"),
    "merges is 'a b'": put("merges", "a b"),
    "token_type has 1 entries": put("token_type", [1]),
    "ids": lambda keys: put_item("tokens", 299, keys[f"{GGML}tokens"][298])(keys),
    "pieces is 3": put(vocabulary.PIECES_KEY, 3),
    "pieces is ''|split by ''": put(vocabulary.PIECES_KEY, ""),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_can_change_an_id_is_refused_by_name(base: ExportSource, words: str) -> None:
    keys = header(base)
    REFUSED[words](keys)
    with pytest.raises((StorageError, UsageError), match=words) as caught:
        read_tokenizer(keys, base.spec.vocab_size, "x.gguf")
    assert "\n" not in str(caught.value)


def test_a_whole_file_with_a_user_defined_token_is_refused(base: ExportSource, tmp_path: Path) -> None:
    maker = Maker(base)
    maker.types[-1] = 4
    refused(maker.write(tmp_path / "x.gguf"), r"token_type\[299\] is USER_DEFINED")


def test_a_whole_file_with_a_key_that_is_not_obeyed_is_refused(base: ExportSource, tmp_path: Path) -> None:
    maker = Maker(base)
    maker.keys[f"{GGML}add_space_prefix"] = True
    refused(maker.write(tmp_path / "x.gguf"), "add_space_prefix is True")


def test_a_token_that_no_merge_reaches_is_taken_whole_as_llama_cpp_does(base: ExportSource) -> None:
    keys = header(base)
    without_a_merge(keys)
    data = read_tokenizer(keys, base.spec.vocab_size, "x.gguf")
    assert vocabulary.stray_tokens(data) == []
    # What is exported of it says so, and comes back as the same bytes.
    writer = GGUFWriter(None, "llama")
    vocabulary.add_to(writer, data)
    again = {name: value.value for table in writer.kv_data for name, value in table.items()}
    assert read_tokenizer(again, base.spec.vocab_size, "x.gguf") == data


def test_our_own_rule_may_leave_tokens_that_no_merge_reaches(base: ExportSource) -> None:
    keys = header(base)
    without_a_merge(keys)
    keys[vocabulary.PIECES_KEY] = "code"
    assert Tokenizer.from_json(read_tokenizer(keys, base.spec.vocab_size, "x.gguf")).vocab_size == 300


def test_every_name_of_the_rule_puts_bos_before_a_text(base: ExportSource) -> None:
    keys = header(base)
    assert adds_bos(keys)
    put("pre", "llama3")(keys)
    assert adds_bos(keys)
    put("pre", "gpt-2")(keys)
    assert not adds_bos(keys)
