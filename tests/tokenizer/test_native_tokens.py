"""The native encoder: the ids of the library for every text, classes of every code point,
sanitizers; and what is without it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_tokenizer_kinds import SPECS, anything, code_like
from tokenizers import Regex, pre_tokenizers
from tokenizers import Tokenizer as Model

from sevenfold.core.errors import SevenfoldError, UsageError
from sevenfold.core.hashing import canonical_json
from sevenfold.recipe.schema import TokenizerSpec
from sevenfold.tokenizer import native
from sevenfold.tokenizer.codec import Tokenizer, byte_letters
from sevenfold.tokenizer.pieces import PIECES, protected_pattern, protected_symbols
from sevenfold.tokenizer.train import train_tokenizer

SOURCES = Path(__file__).resolve().parents[2] / "native" / "tokens"
CXX = os.environ.get("CXX", "g++").split()
needs_library = pytest.mark.skipif(native.library() is None, reason="native/tokens is not built here")
MORE = {
    "unigram-llama3": TokenizerSpec(algo="sentencepiece_unigram", vocab_size=600, pieces="llama3"),
    "bpe-llama3-rust": TokenizerSpec(vocab_size=700, pieces="llama3", preserve=("::", "->", "&mut", "'a")),
}
ALL = SPECS | MORE
HOSTILE = [
    "", " ", "\n", "\r", "\r\n \t\x0b x", "a" * 5000, "=" * 5000, " " * 5000, "ab" * 3000, "x\u0301" * 300,
    "'S 'll'RE've 'x '\u017f",
    "\u00a0a\u3000 b\u2028\u2029", "\x1c\x1d \x85", "1234567\u0661\u0662\u0663\u0664", "\U0001f40d\U0001f40d",
    "<|endoftext|><bos>",
    "'a'a' 'ab '\u00e9 '_", "::::", " ::", "  ::", "\u00a0::", "&mut&mutx &mut\u00e9 &mut_", "..=...=",
    "\x00" * 70,
    "\u2581 \u2581",
]  # fmt: skip


@pytest.fixture(scope="module", params=ALL)
def kind(request: pytest.FixtureRequest, texts: list[str]) -> Tokenizer:
    return Tokenizer.from_json(train_tokenizer(texts, ALL[request.param]))


@needs_library
@settings(max_examples=150, deadline=None)
@given(
    text=anything
    | code_like
    | st.text("'sSlLrReEvVmMdDtT\u017f\u212a \n\r")
    | st.text("ab=\n ", max_size=300)
)
@example(text="".join(HOSTILE))
def test_ids_are_those_of_the_library(kind: Tokenizer, text: str) -> None:
    assert kind._encoder is not None
    assert kind.encode(text) == kind._asked([text])[0]


@needs_library
def test_ids_are_those_of_the_library_on_real_text(kind: Tokenizer, texts: list[str]) -> None:
    dice = random.Random(5)
    shuffled = ["".join(dice.sample(text, len(text))) for text in texts[:4]]
    ruled = [f"{before}{mark * n}" for mark in "#=-*_" for before in ("", " ", "\n") for n in range(1, 80)]
    wanted = [*HOSTILE, *ruled, *texts, *shuffled, "\n".join(texts[:4])]
    assert kind.encode_batch(wanted) == kind._asked(wanted)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e300, 0.0, width=64), min_size=256, max_size=256))
@example([-(1 / (7 + i)) for i in range(256)])
@example([-1e-05, -5e-324, -1.7e308, -0.0, -1e22, -123456789012345678901.0] + [0.0] * 250)
def test_scores_are_those_that_the_library_reads(scores: list[float]) -> None:
    letters = byte_letters()
    model = {
        "type": "Unigram",
        "unk_id": None,
        "byte_fallback": False,
        "vocab": list(zip(letters, scores, strict=True)),
    }
    file = {"version": "1.0", "model": model} | dict.fromkeys(
        ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    )
    read = json.loads(Model.from_str(canonical_json(file | {"added_tokens": []}).decode()).to_str())["model"][
        "vocab"
    ]
    assert [native.as_read(score) for score in scores] == [score for _, score in read]


@needs_library
def test_canary_another_rank_is_another_text(tokenizer: Tokenizer, texts: list[str]) -> None:
    value = json.loads(tokenizer._data)
    value["model"]["merges"] = value["model"]["merges"][::-1]
    other = Tokenizer.from_json(canonical_json(value))
    assert other.encode(texts[0]) == other._asked(texts[:1])[0] != tokenizer.encode(texts[0])


@needs_library
def test_golden_ids(tokenizer: Tokenizer) -> None:
    by_bytes = {tokenizer.token_bytes(i): i for i in range(2, tokenizer.vocab_size)}
    ids = tokenizer.encode("def f(self):\n        return 1234 == 5\n")
    cut = [
        b"def",
        b" f",
        b"(self",
        b"):",
        b"\n        ",
        b"return",
        b" ",
        b"123",
        b"4",
        b" ==",
        b" ",
        b"5",
        b"\n",
    ]
    assert b"".join(cut) == tokenizer.decode_bytes(ids)
    assert [by_bytes.get(piece) for piece in cut[:6]] == ids[:6]


@needs_library
def test_classes_of_every_code_point() -> None:
    calls = native.library()
    assert calls is not None
    letters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    text = "".join(letters)
    for number, expression in enumerate((r"\p{L}", r"\p{N}", r"\s"), start=1):
        left = "".join(
            p for p, _ in pre_tokenizers.Split(Regex(expression), "removed").pre_tokenize_str(text)
        )
        assert "".join(ch for ch in letters if calls.s7_tokens_class(ord(ch)) != number) == left


@needs_library
@pytest.mark.parametrize("rule", PIECES)
def test_pieces_around_letters_of_all_scripts(rule: str, texts: list[str]) -> None:
    folded = [
        chr(c) for c in range(0xD800) if {*chr(c).casefold()} & {*"stremvld'"}
    ]  # what a contraction may match
    letters = [
        *map(chr, range(0x800)),
        *map(chr, range(0x800, 0xD800, 41)),
        *map(chr, range(0xE000, 0x110000, 997)),
    ]
    text = "".join(f"'{ch} {ch}a{ch}1'{ch}e'l{ch}" for ch in (*folded, *letters))
    tokenizer = Tokenizer.from_json(train_tokenizer(texts[:4], TokenizerSpec(vocab_size=300, pieces=rule)))
    pieces = [p for p, _ in pre_tokenizers.Split(Regex(PIECES[rule]), "isolated").pre_tokenize_str(text)]
    assert tokenizer._encoder is not None
    raw, begin, found = text.encode(), 0, []
    for end in tokenizer._encoder.ends(raw):
        found.append(raw[begin:end].decode())
        begin = end
    assert found == pieces


def test_symbols_are_read_back_from_their_expression() -> None:
    for preserve in (
        SPECS["bpe-rust"].preserve,
        ("|", "\\", "||", "a|", "?", "[]", "'a", "\u00e9x", "(?![", "^", "\\d"),
    ):
        found = protected_symbols(protected_pattern(preserve))
        assert found is not None
        assert sorted(found) == sorted(preserve)
    assert protected_symbols(r"a+|b") is None


def test_a_rule_that_is_not_written_out_goes_to_the_library(tokenizer_json: bytes, texts: list[str]) -> None:
    value = json.loads(tokenizer_json)
    value["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+|\W"
    tokenizer = Tokenizer.from_json(canonical_json(value))
    assert tokenizer._encoder is None
    assert tokenizer.encode(texts[0]) == tokenizer._asked(texts[:1])[0]


def test_without_the_library_the_ids_are_the_same(
    kind: Tokenizer, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    other = Tokenizer.from_json(kind._data)
    assert other._encoder is None
    assert other.encode_batch([*HOSTILE, *texts[:4]]) == kind.encode_batch([*HOSTILE, *texts[:4]])


@needs_library
def test_no_memory_is_said(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tokenizer._encoder is not None
    monkeypatch.setattr(tokenizer._encoder, "_calls", _Refusing())
    with pytest.raises(SevenfoldError, match="no memory to encode a text of 3 bytes"):
        tokenizer.encode("abc")
    with pytest.raises(UsageError, match="surrogate"):
        tokenizer.encode("\ud800")


class _Refusing:
    def s7_tokens_encode(self, *_: object) -> int:
        return -1

    def s7_tokens_close(self, *_: object) -> None:
        pass


# The library under sanitizers.


def _counted(code: str, values: Iterable[float]) -> bytes:
    listed = list(values)
    return struct.pack(f"<q{len(listed)}{code}", len(listed), *listed)


def case(tokenizer: Tokenizer, texts: Sequence[str]) -> bytes:
    """A tokenizer and texts with the library's ids, as tokens_driver.cpp reads them."""
    value = json.loads(tokenizer._data)
    file = native.described(value, tokenizer._findable())
    assert file is not None
    n_bytes = file.ends[file.n_entries - 1]
    n_symbol_bytes = file.symbol_ends[file.n_symbols - 1] if file.n_symbols else 0
    parts = [
        struct.pack("<4i", file.rule, file.n_entries, file.n_symbols, file.whole),
        _counted("I", file.ends[: file.n_entries]), _counted("B", file.bytes[:n_bytes]),
        _counted("d", file.scores[: file.n_entries] if file.scores else ()),
        _counted("i", file.merges[: 3 * file.n_merges]), _counted("I", file.symbol_ends[: file.n_symbols]),
        _counted("B", file.symbols[:n_symbol_bytes]), _counted("B", file.symbol_flags[: file.n_symbols]),
        struct.pack("<q", len(texts)),
    ]  # fmt: skip
    for text, ids in zip(texts, tokenizer._asked(texts), strict=True):
        parts += [_counted("B", text.encode()), _counted("i", ids)]
    return b"".join(parts)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(CXX[0]) is None, reason=f"no {CXX[0]}")
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_clean_under_sanitizers(sanitizer: str, texts: list[str], tmp_path: Path) -> None:
    driver = tmp_path / "driver"
    sources = [Path(__file__).with_name("tokens_driver.cpp"), *SOURCES.glob("*.cpp")]
    flags = ["-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", f"-fsanitize={sanitizer}"]
    subprocess.run(
        [*CXX, *flags, "-fno-sanitize-recover=all", "-I", SOURCES, *sources, "-o", driver], check=True
    )
    for name, spec in ALL.items():
        tokenizer = Tokenizer.from_json(train_tokenizer(texts, spec))
        file = tmp_path / name
        file.write_bytes(case(tokenizer, [*HOSTILE, *texts[:6]]))
        done = subprocess.run([driver, file, "4000"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr[-3000:]) == (0, "ok\n", ""), name


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(CXX[0]) is None, reason=f"no {CXX[0]}")
def test_canary_a_build_with_another_order_of_ties_gives_other_ids(texts: list[str], tmp_path: Path) -> None:
    sources, driver = tmp_path / "tokens", tmp_path / "driver"
    shutil.copytree(SOURCES, sources)
    text = (sources / "merge.cpp").read_text()
    assert text.count("a.at > b.at") == 1
    (sources / "merge.cpp").write_text(text.replace("a.at > b.at", "a.at < b.at"))
    files = [Path(__file__).with_name("tokens_driver.cpp"), *sources.glob("*.cpp")]
    subprocess.run([*CXX, "-std=c++20", "-O1", "-pthread", "-I", sources, *files, "-o", driver], check=True)
    file = tmp_path / "case"
    tokenizer = Tokenizer.from_json(train_tokenizer(texts, TokenizerSpec(vocab_size=700)))
    file.write_bytes(case(tokenizer, ["=" * 61, "-" * 59, "a" * 101]))
    assert (
        subprocess.run([driver, file, "0"], capture_output=True, text=True, check=False).stdout
        == "other ids\n"
    )
