"""The tokenizer of web/ gives the ids that Python gives, and the text of ids."""

from __future__ import annotations

import json
import random
import re
import struct
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from embed_models import KINDS, TEXTS, dictionary

from sevenfold.core.errors import StorageError
from sevenfold.tokenizer.codec import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
ODD = [
    "", " ", "\n", "\r\n\r\n \t", "\t\t x", "\u00a0\u2003 x", "a\u0301e\u0301", "\U0001f600\u200d\U0001f469",
    "it's IT'S I'll we'Re '\u017f 's", "12345678901", "\u0661\u0662\u0663\u0664", "<|endoftext|>",
    "<bos><THINK>",
    "\ufeffbom", "\x00\x01\x1f\x7f\x80", "x" * 300, "()" * 200, "\u4e16\u754c" * 80, " " * 100 + "x",
    "a->b 'a| fn fn_ fnx |", "\ud7ff\ue000\uffff", "\U0010ffff",
]  # fmt: skip
Tokenize = Callable[[str, list[str]], list[list[object]]]


def texts(count: int) -> list[str]:
    """Cut from real texts and from noise."""
    rng, whole = random.Random(11), "".join(TEXTS)
    alphabet = "def (x):\n\t  ->'a|fn_1239\u00e9\u00df\u4e16\u0301\U0001f600\u00a0."
    found = list(ODD)
    while len(found) < count:
        start = rng.randrange(len(whole))
        found.append(whole[start : start + rng.randint(1, 60)])
        found.append("".join(rng.choices(alphabet, k=rng.randint(1, 20))))
    return found


def library_lines(count: int) -> list[str]:
    """Lines of Python's standard library."""
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        found += path.read_text(encoding="utf-8", errors="ignore").splitlines(keepends=True)
        if len(found) >= count:
            return found[:count]
    return found


@pytest.fixture
def tokenize(node: Callable[..., str], tmp_path: Path) -> Tokenize:
    """tokenize(kind, texts) -> [ids, text] of each."""

    def run(kind: str, wanted: list[str]) -> list[list[object]]:
        (tmp_path / "dict").write_bytes(dictionary(kind))
        (tmp_path / "texts").write_text(json.dumps(wanted))
        node("tools/tokenize", tmp_path / "dict", tmp_path / "texts", tmp_path / "lines")
        return [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]

    return run


def same(tokenize: Tokenize, kind: str, wanted: list[str]) -> None:
    tokenizer = Tokenizer.from_json(dictionary(kind))
    for text, row in zip(wanted, tokenize(kind, wanted), strict=True):
        ids = tokenizer.encode(text)
        assert row == [ids, tokenizer.decode(ids)], (kind, text)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("roles", "stacks")])
def test_ids_and_texts(kind: str, tokenize: Tokenize) -> None:
    same(tokenize, kind, texts(300))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "llama3", "unigram", "protected"])
def test_ids_of_twenty_thousand_lines(kind: str, tokenize: Tokenize) -> None:
    lines = library_lines(20_000)
    assert len(lines) == 20_000
    same(tokenize, kind, lines)


def test_half_a_surrogate_pair_is_refused(tokenize: Tokenize) -> None:
    assert tokenize("plain", ["\ud83d", "x"])[0] is None


def changed_files(count: int) -> list[bytes]:
    """Tokenizer files with one value changed, removed or added."""
    rng = random.Random(5)
    files = []
    kinds = ["plain", "unigram", "protected", "as Llama 3", "unigram, last"]
    for _ in range(count):
        value = json.loads(dictionary(rng.choice(kinds)))
        model = value["model"]
        owner = rng.choice(
            [value, model, value["decoder"], value["pre_tokenizer"], value["added_tokens"][0],
             value["pre_tokenizer"]["pretokenizers"][0], value["pre_tokenizer"]["pretokenizers"][-1]]
        )  # fmt: skip
        key = rng.choice(list(owner))
        new = rng.choice([None, True, False, 0, 1.5, "", "x", [], {}, ["a", "b"]])
        if rng.random() < 0.3:
            owner[rng.choice(["extra", "use_regex", "dropout", "id"])] = new
        elif rng.random() < 0.5:
            owner[key] = new
        else:
            del owner[key]
        files.append(json.dumps(value).encode())
    return files


def test_of_changed_files_the_same_are_read(node: Callable[..., str], tmp_path: Path) -> None:
    files = changed_files(120)
    packed = tmp_path / "files"
    packed.write_bytes(b"".join(struct.pack(">I", len(data)) + data for data in files))
    node("tools/dictionaries", packed, tmp_path / "lines")
    expected = []
    for data in files:
        try:
            Tokenizer.from_json(data)
            expected.append("taken")
        except StorageError:
            expected.append("refused")
    assert (tmp_path / "lines").read_text().splitlines() == expected
    assert {*expected} == {"taken", "refused"}


def test_classes_of_code_points_are_those_of_the_native_encoder() -> None:
    header = (ROOT / "native" / "tokens" / "classes.h").read_text(encoding="utf-8")
    source = (ROOT / "web" / "src" / "tokenizer" / "classes.ts").read_text(encoding="utf-8")
    for name in ("LETTERS", "NUMBERS", "SPACES"):
        listed = re.search(rf"constexpr Run {name}\[\] = \{{(.*?)\n\}};", header, re.DOTALL)
        packed = re.search(rf"const {name} =\s(.*?);", source, re.DOTALL)
        assert listed
        assert packed
        runs = [(int(a, 16), int(b, 16)) for a, b in re.findall(r"\{0x(\w+), 0x(\w+)\}", listed[1])]
        at, found = 0, []
        for run in "".join(re.findall(r'"([^"]*)"', packed[1])).split():
            gap, _, more = run.partition(".")
            first = at + int(gap, 36)
            at = first + (int(more, 36) if more else 0)
            found.append((first, at))
        assert found == runs
