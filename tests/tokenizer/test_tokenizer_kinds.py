"""Every kind of vocabulary: exact both ways, the same bytes every time, protected symbols whole,
the cache equal to the library.
"""

import hashlib
import json
import os
import re
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sevenfold.core.documents import STEP_MARKERS, SYNTHETIC, Document
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.hashing import canonical_json
from sevenfold.recipe import load_recipe
from sevenfold.recipe.schema import FIM_TOKENS, REASON_TOKENS, Objectives, TokenizerSpec
from sevenfold.recipe.shipped import resolve_recipe_path
from sevenfold.tokenizer import codec, native, spm
from sevenfold.tokenizer.codec import PADDINGS, Tokenizer
from sevenfold.tokenizer.objectives import Sampler
from sevenfold.tokenizer.pieces import PIECES, Cutter, protected_pattern, units
from sevenfold.tokenizer.report import compare, measure, targets
from sevenfold.tokenizer.train import _refuse_impossible, _splits, mixed, train_tokenizer

RUST = ("::", "->", "=>", "..=", "&&", "&mut", "&self", "'a", "'static", "#[", "{", ";")
SLM = ("<bos>", "<eos>", "<pad>", "<scratchpad>", "<REASON>")
SPECS = {
    "bpe": TokenizerSpec(vocab_size=700),
    "bpe-rust": TokenizerSpec(vocab_size=700, preserve=RUST),
    "unigram": TokenizerSpec(
        algo="sentencepiece_unigram", vocab_size=700, special_tokens=SLM, preserve=("_", "::", "()")
    ),
    "spm-bpe": TokenizerSpec(
        algo="sentencepiece_bpe", vocab_size=700, special_tokens=("<unk>", "<s>", "</s>")
    ),
    "spm-bpe-rust": TokenizerSpec(algo="sentencepiece_bpe", vocab_size=700, preserve=RUST),
    "llama3": TokenizerSpec(vocab_size=700, pieces="llama3"),
}
anything = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
code_like = st.lists(
    st.sampled_from(
        ["fn ", "a", "::", "->", " =>", "&mut", "&mutable", "'a", "'a'", "<'a>", " ", "\n", "\r\n", "\t",
            "    ", "12345", "_x",
         "..=", "\u00a0", "\u3000", "\u2028", "\x1c", "\x85", "\x0b", "\x0c", "\u2581", "\U0001f40d", "<bos>",
         "<|endoftext|>",
         "#[", "{", ";", "()"]
    )
).map("".join)  # fmt: skip


@pytest.fixture(scope="module", params=SPECS)
def kind(request: pytest.FixtureRequest, texts: list[str]) -> tuple[str, Tokenizer]:
    return request.param, Tokenizer.from_json(train_tokenizer(texts, SPECS[request.param]))


@settings(max_examples=120, deadline=None)
@given(text=anything | code_like)
@example(text="")
@example(text=" \n \n\t  x  =  1\u00a0 \n")
@example(text="\u2581 a\u2581\u2581b")
def test_every_text_comes_back_and_the_cache_equals_the_library(
    kind: tuple[str, Tokenizer], text: str
) -> None:
    _, tokenizer = kind
    ids = tokenizer.encode(text)
    assert ids == tokenizer._asked([text])[0]
    if tokenizer._known is not None:
        assert ids == tokenizer._known.ids(units(text))
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert not set(ids) & set(range(len(tokenizer.special_tokens)))


def test_any_bytes_can_be_written(kind: tuple[str, Tokenizer]) -> None:
    _, tokenizer = kind
    by_byte = {tokenizer.token_bytes(i): i for i in range(tokenizer.vocab_size)}
    raw = bytes(range(256)) * 2
    assert tokenizer.decode_bytes(by_byte[bytes([byte])] for byte in raw) == raw


def test_sizes_and_reserved_ids(kind: tuple[str, Tokenizer]) -> None:
    name, tokenizer = kind
    assert tokenizer.vocab_size == 700
    assert tokenizer.special_tokens == SPECS[name].special_tokens
    assert tokenizer.eot_id in range(len(tokenizer.special_tokens))
    endings = {
        tokenizer.special_tokens.index(end) for end in codec.ENDINGS if end in tokenizer.special_tokens
    }
    assert tokenizer.pad_id not in {*endings, tokenizer.eot_id}
    assert (tokenizer.pad_id is not None) == ("<pad>" in tokenizer.special_tokens)


@pytest.mark.parametrize("name", ["bpe-rust", "spm-bpe-rust", "unigram"])
def test_protected_symbols_are_whole(name: str, texts: list[str]) -> None:
    tokenizer = Tokenizer.from_json(train_tokenizer(texts, SPECS[name]))
    for symbol in SPECS[name].preserve:
        for before, after in (("x", " y"), (" ", "\n"), ("x ", " y"), ("(", ")"), ("<", ">"), ("\n    ", "")):
            tokens = [tokenizer.token_bytes(i).decode() for i in tokenizer.encode(before + symbol + after)]
            assert [t for t in tokens if t.strip() == symbol], (symbol, tokens)
    plain = Tokenizer.from_json(train_tokenizer(texts, SPECS["bpe"]))  # canary: not by luck
    assert len(plain.encode("..=")) > 1


@pytest.mark.parametrize("name", ["bpe-rust", "unigram", "spm-bpe"])
def test_same_bytes_with_any_number_of_threads(name: str, texts: list[str]) -> None:
    once = hashlib.sha256(train_tokenizer(iter(texts), SPECS[name])).hexdigest()
    code = (
        "import sys, json, hashlib; from sevenfold.recipe.schema import TokenizerSpec; "
        "from sevenfold.tokenizer.train import train_tokenizer as t; v = json.load(sys.stdin); "
        "print(hashlib.sha256(t(v['texts'], TokenizerSpec(**{k: tuple(x) if isinstance(x, list) else x "
        "for k, x in v['spec'].items()}))).hexdigest())"
    )
    payload = json.dumps({"texts": texts, "spec": SPECS[name].model_dump(mode="json")})
    for threads, seed in (("1", "1"), ("3", "2")):
        env = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], input=payload, capture_output=True, text=True, env=env, check=True
        )
        assert done.stdout.strip() == once


def test_pieces_are_those_of_the_library(texts: list[str]) -> None:
    for preserve in ((), RUST):
        spec = TokenizerSpec(vocab_size=700, preserve=preserve)
        cutter = Cutter(PIECES["code"], protected_pattern(preserve) if preserve else None)
        for text in [text for text in texts if text.isascii()][:4]:
            expected = [piece for piece, _ in _splits(spec).pre_tokenize_str(text)]
            assert [piece for piece in cutter.pieces(text) if piece] == expected
            assert [p for unit in units(text) for p in cutter.pieces(unit) if p] == expected


@given(anything | code_like)
def test_units_are_the_text(text: str) -> None:
    assert "".join(units(text)) == text


def test_the_cache_is_bounded(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_CACHED", 50)
    monkeypatch.setattr(native, "library", lambda: None)
    tokenizer = Tokenizer.from_json(train_tokenizer(texts, SPECS["bpe"]))
    for text in texts[:5]:
        assert tokenizer.encode(text) == tokenizer._asked([text])[0]
    assert tokenizer._known is not None
    assert len(tokenizer._known.units) <= 50 >= len(tokenizer._known.pieces)


def test_counts_of_pieces_stay_within_their_limit() -> None:
    counts = spm.PieceCounts(limit=10)
    counts.add(["often"] * 5)
    for i in range(100):
        counts.add([f"once{i}"])
    ranked = counts.ranked()
    assert ranked[0] == ("often", 5)
    assert len(ranked) <= 10


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"unk_id": 0}, "model.unk_id"),
        ({"byte_fallback": True}, "model.byte_fallback"),
        ({"type": "WordPiece"}, "WordPiece"),
        ({"vocab": [["<bos>", 0.0]]}, "a special token has the id of another entry"),
        ({"vocab": None}, "not a tokenizer"),
    ],
)
def test_a_damaged_unigram_is_refused(change: dict, match: str, texts: list[str]) -> None:
    value = json.loads(train_tokenizer(texts, SPECS["unigram"]))
    value["model"] |= change
    with pytest.raises(StorageError, match=match):
        Tokenizer.from_json(canonical_json(value))


def test_too_little_text_is_said() -> None:
    with pytest.raises(StorageError, match="learns no vocabulary"):
        train_tokenizer(["the cat"], TokenizerSpec(algo="sentencepiece_unigram", vocab_size=4000))


@pytest.mark.parametrize(
    "name", ["slm/2b", "m31r/200m", "llama/1.5b", "s7/code-8m", "s7/math-8m", "s7/moe-140m"]
)
def test_shipped_recipes_ask_for_what_can_be_built(name: str) -> None:
    _refuse_impossible(load_recipe(resolve_recipe_path(name)).tokenizer)


def documents() -> list[Document]:
    return [
        Document(
            f"{i:064x}", "def f(x):\n    return x_y\n" * (i + 1), ("code", "math")[i % 2], "s", f"{i}.py"
        )
        for i in range(8)
    ]


def test_a_mix_is_kept_and_what_it_lacks_is_named() -> None:
    texts = list(mixed(lambda: iter(documents()), {"code": 0.25, "math": 0.75}))
    size = {d.text: (d.domain, len(d.text)) for d in documents()}
    by_domain = {
        domain: sum(size[text][1] for text in texts if size[text][0] == domain) for domain in ("code", "math")
    }
    assert by_domain["math"] == sum(len(d.text) for d in documents() if d.domain == "math")
    assert by_domain["code"] < by_domain["math"]
    with pytest.raises(StorageError, match="no document of domain 'text'"):
        list(mixed(lambda: iter(documents()), {"code": 0.5, "text": 0.5}))
    with pytest.raises(UsageError, match=r"add up to 0\.9"):
        list(mixed(lambda: iter(documents()), {"code": 0.9}))


def test_the_report_measures_and_sets_side_by_side(texts: list[str]) -> None:
    small = Tokenizer.from_json(train_tokenizer(texts, TokenizerSpec(vocab_size=300)))
    large = Tokenizer.from_json(train_tokenizer(texts, SPECS["bpe"]))
    held = [*documents(), Document("f" * 64, "\U0001f40d = '\u4e2d'", "text", "s", "a.md")]
    a, b = measure(small, held), measure(large, held)
    assert a["all"]["round_trip"] == b["all"]["round_trip"] == 1.0
    assert a["all"]["n_bytes"] == sum(len(d.text.encode()) for d in held)
    assert b["all"]["bytes_per_token"] > a["all"]["bytes_per_token"]
    assert set(a["domains"]) == {"code", "math", "text"}
    assert set(a["extensions"]) == {"py", "md"}
    assert a["domains"]["text"]["oov"] > 0 == a["domains"]["code"]["oov"]
    states = {row["target"]: row["state"] for row in targets(b, a)}
    assert states["tokens/line on code"] == "met"
    assert states["round trip of bytes"] == "met"
    assert {row["state"] for row in targets(b, None)} >= {"not measured", "not met"}
    assert all(
        row["b_over_a"] > 1
        for row in compare(a, b)
        if row["figure"] == "bytes_per_token" and row["group"] == "all"
    )
    with pytest.raises(StorageError, match="no documents"):
        measure(small, [])


MATH = ("<|endoftext|>", "<REASON>", "<THINK>", "<FINAL>", "<scratchpad>", "</scratchpad>")
STEPS = "### Response:\n<REASON> Add.\n<THINK> 1 + 2 = 3\n<FINAL> 3\n"


def made(text: str, source: str = SYNTHETIC) -> Document:
    return Document("a" * 64, text, "math", source, "arithmetic/000001.md")


def test_markers_are_tokens_where_our_generators_wrote_them(texts: list[str]) -> None:
    tokenizer = Tokenizer.from_json(
        train_tokenizer(texts, TokenizerSpec(vocab_size=400, special_tokens=MATH))
    )
    for text in (
        STEPS,
        "<scratchpad>\n1 + 1 = 2\n</scratchpad>\n2\n",
        "<REASON><REASON>",
        "<THINK",
        "no marker",
    ):
        ids = tokenizer.encoding_of(made(text))(text)
        marked = [MATH[i] for i in ids if i < len(MATH)]
        assert marked == re.findall(r"<REASON>|<THINK>|<FINAL>|</?scratchpad>", text)
        assert tokenizer.decode(ids) == text == tokenizer.decode(tokenizer.encode(text))
        stream = tokenizer.stream()
        assert "".join(map(stream.feed, ids)) + stream.close() == text
        for other in (tokenizer.encode(text), tokenizer.encoding_of(made(text, "jsonl:a"))(text)):
            assert not set(other) & set(range(len(MATH))), "anybody else's text is text"
    assert tokenizer.encode_marked("<|endoftext|>") == tokenizer.encode("<|endoftext|>"), "no marker"
    plain = Tokenizer.from_json(train_tokenizer(texts, TokenizerSpec(vocab_size=400)))
    assert plain.encoding_of(made(STEPS))(STEPS) == plain.encode(STEPS), (
        "nothing is reserved, so nothing is marked"
    )


def test_samples_of_the_objectives_hold_markers_as_tokens(texts: list[str]) -> None:
    specials = (*MATH, *FIM_TOKENS, *REASON_TOKENS)
    tokenizer = Tokenizer.from_json(
        train_tokenizer(texts, TokenizerSpec(vocab_size=400, special_tokens=specials))
    )
    text = f"### Instruction:\n1 + 2?\n### Reasoning:\nAdd them.\n{STEPS}"
    for source, expected in ((SYNTHETIC, 3), ("jsonl:a", 0)):
        sampler = Sampler(tokenizer=tokenizer, objectives=Objectives(fim=0.3, cot=0.2), seed=3, room=4000)
        (sample,) = sampler.cot([made(text, source)])
        marks = [i for i in (*sample.context, *sample.targets) if 1 <= i < len(MATH)]
        assert len(marks) == expected
        whole = list(sampler.fim([made(STEPS * 9, source)]))
        assert any(1 <= i < len(MATH) for s in whole for i in (*s.context, *s.targets)) == bool(expected)


@pytest.mark.parametrize("name", ["s7/code-8m", "s7/general-8m", "s7/math-8m", "m31r/200m", "llama/1.5b"])
def test_families_reserve_chat_and_their_objectives(name: str) -> None:
    recipe = load_recipe(resolve_recipe_path(name))
    needed = {"<|user|>", "<|assistant|>", *recipe.train.objectives.special_tokens()}
    needed |= {"s7/math-8m": set(STEP_MARKERS)}.get(name, set(FIM_TOKENS))
    assert needed <= {*recipe.tokenizer.special_tokens}


@pytest.mark.parametrize("padding", PADDINGS)
def test_padding_cannot_stand_for_the_end(padding: str) -> None:
    with pytest.raises(UsageError, match=r"<\|endoftext\|>, <bos>, <s>, <\|begin_of_text\|> among them"):
        train_tokenizer(["a"], TokenizerSpec(vocab_size=300, special_tokens=(padding,)))
    assert not {*PADDINGS} & {*codec.BEGINNINGS, *codec.ENDINGS}
