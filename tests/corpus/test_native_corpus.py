"""What the corpus stage has in C++ says what NumPy and tree-sitter say: over real files, damaged
ones, and without the library.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from corpus_runs import with_and_without_library
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.corpus import native
from sevenfold.corpus.document import language_of
from sevenfold.corpus.text import contamination_index, functions, grammars, ngrams
from sevenfold.corpus.text.measures import measure, measure_in_numpy
from sevenfold.runs.job import Job

ROOT = Path(__file__).resolve().parents[2]
TEXTS = Path(__file__).with_name("test_native_texts.py")
needs_library = pytest.mark.skipif(native.library() is None, reason="native/corpus is not built here")
FORGET = (native.library, grammars.reader, functions._roles)
# One text of each language that the repository has none of.
SNIPPETS = {
    "typescript": (
        "import { a } from './b';\n"
        "export class C<T> { private x: number = 1; f(y?: string): T[] { return this.x > 1 ? [] : null!; } "
        "}\n"
    ),
    "java": (
        "package a;\n"
        "import java.util.*;\n"
        "class A<T> extends B {\n"
        "  @Override int f(int x) throws E { return x > 1 ? g(x) : (int) 2L; }\n"
        "}\n"
    ),
    "rust": (
        "use a::b;\n"
        "impl<'a, T: Copy> A<'a, T> {\n"
        "    fn f(&mut self, x: &str) -> Option<T> { match x { \"a\" => None, _ => self.g()?.h::<u8>() } }\n"
        "}\n"
    ),
    "javascript": (
        "import a from 'b';\n"
        "const f = async (x) => { for (const y of x) { await g(`${y}`); } return /a[b]/g.test(x) };\n"
    ),
    "c": (
        "#include <stdio.h>\n"
        "static int f(const char *s) { for (int i = 0; s[i]; i++) if (s[i] == 'a') return i; return -1; }\n"
    ),
    "go": (
        "package a\n"
        "\n"
        "import \"fmt\"\n"
        "\n"
        "func f(x []int) (n int, err error) {\n"
        "\tfor _, y := range x {\n"
        "\t\tn += y\n"
        "\t}\n"
        "\treturn\n"
        "}\n"
    ),
}  # fmt: skip


class Everything(frozenset[int]):
    """A set of shapes that has every shape."""

    def __contains__(self, item: object) -> bool:
        return True


def standard_library(n_bytes: int) -> Iterator[bytes]:
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    random.Random(3).shuffle(files)
    for file in files:
        n_bytes -= file.stat().st_size
        if n_bytes < 0:
            return
        yield file.read_bytes()


def own_texts() -> list[tuple[str, bytes]]:
    files = [
        p
        for room in ("native", "web", "scripts", "interop", "tests/corpus")
        for p in sorted((ROOT / room).rglob("*"))
    ]
    found = [(language_of(p.name), p.read_bytes()) for p in files if language_of(p.name) in grammars.GRAMMARS]
    return [pair for pair in found if len(pair[1]) < 20_000] + [(k, v.encode()) for k, v in SNIPPETS.items()]


def damaged(text: bytes, rng: random.Random) -> bytes:
    """A text with a piece cut out, doubled or replaced."""
    start = rng.randrange(len(text))
    end = min(len(text), start + rng.choice((1, 1, 2, 5, 30)))
    middle = rng.choice(
        (b"", text[start:end] * 2, b"(", b"}", b'"', b"\n", b" = ", b"*", b"else", b"\xc3\xa9")
    )
    return (text[:start] + middle + text[end:]).decode("utf-8", "ignore").encode()


@needs_library
@given(st.binary(max_size=400), st.integers(1, 15), st.integers(4, 64))
@settings(max_examples=200, deadline=None)
def test_words_and_runs_are_those_of_numpy(data: bytes, n: int, block: int) -> None:
    ngrams._tables()  # of the usual block
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngrams, "_BLOCK", block)
        words = ngrams.word_hashes(data)
        assert words.tolist() == ngrams.word_hashes_in_numpy(data).tolist()
    grams = ngrams.ngram_hashes(words, n)
    assert len(grams) == max(len(words) - n + 1, 0)
    if len(words) >= n:
        assert grams.tolist() == ngrams.ngram_hashes_in_numpy(words, n).tolist()
    some = ngrams.Filter(grams[::2])
    assert some.likely(words, n).tolist() == ngrams.unique(some._likely_in_numpy(grams)).tolist()
    assert set(grams[::2].tolist()) <= set(some.likely(words, n).tolist())


def as_numbers(found: native.Measures) -> dict[str, int]:
    return {name: getattr(found, name) for name, *_ in native.Measures._fields_}


@needs_library
@given(st.binary(max_size=300) | st.text("aZ09 \n\t_\u00e9", max_size=300).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_measures_are_those_of_numpy(data: bytes) -> None:
    assert as_numbers(measure(data)) == as_numbers(measure_in_numpy(data))


@needs_library
def test_what_is_clean_has_no_error_and_the_same_nodes() -> None:
    said = Counter()
    for language, text in [*own_texts(), *(("python", text) for text in standard_library(1_500_000))]:
        reader = grammars.reader(language)
        assert reader is not None
        root = grammars.parser(language).parse(text).root_node
        if reader.is_clean(text):
            assert not root.has_error
            assert reader.n_nodes() == root.descendant_count
        said[reader.is_clean(text), root.has_error] += 1
        said[language] += reader.is_clean(text)
    assert not said[True, True]
    assert said[False, False] < 0.05 * said[True, False], said
    assert all(said[language] for language in grammars.GRAMMARS), said


@needs_library
@pytest.mark.parametrize(
    "items",
    ["a((b)) as p, a(c) as s", "(a()) as p, a() as s", "\n    z.Z(B(r)) as e,\n    z.Z(B(x)) as f,\n"],
)
def test_clean_though_two_readings_open_one_hidden_node(items: str) -> None:
    """A list of items, or one that is a tuple: both give the same hidden node another name.

    Such a text killed a worker.
    """
    text = f"with ({items}):\n    pass\n".encode()
    reader = grammars.reader("python")
    assert reader is not None
    assert reader.is_clean(text)
    assert reader.n_nodes() == grammars.parser("python").parse(text).root_node.descendant_count


@needs_library
@pytest.mark.parametrize("n_rounds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_no_damage_is_called_clean(n_rounds: int) -> None:
    rng, said = random.Random(n_rounds), Counter()
    texts = [*own_texts(), *(("python", text[:5000]) for text in standard_library(500_000))]
    for language, text in texts * n_rounds:
        broken = damaged(text[:6000], rng)
        reader = grammars.reader(language)
        assert reader is not None
        has_error = grammars.parser(language).parse(broken).root_node.has_error
        said[reader.is_clean(broken), has_error] += 1
        assert not (reader.is_clean(broken) and has_error), (language, broken)
    assert said[False, True] > 10
    assert said[True, False] > 10


def asks_lexers(language: str) -> native.SyntaxReader:
    """A reader without tables, the oracle of one with them."""
    library = native.library()
    assert library is not None
    return native.SyntaxReader(library, grammars._capsule(language), with_tables=False)


@needs_library
@pytest.mark.parametrize("n_rounds", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_tables_say_what_lexers_say(n_rounds: int) -> None:
    rng, said = random.Random(n_rounds), Counter()
    plain = {language: asks_lexers(language) for language in grammars.GRAMMARS}
    texts = [*own_texts(), *(("python", text[:9000]) for text in standard_library(500_000))]
    # What a table has no room for: letters beyond ASCII, words longer than a look-up, deep
    # indentation, the last bytes.
    odd = (
        f"{'x' * 40} = '\u00e9' if \u00e9t\u00e9 else [1]\n"
        + "".join(f"{' ' * n}if x:\n" for n in range(60))
        + " " * 60
        + "y"
    )
    texts += [("python", odd.encode()), ("python", f"\ufeff{odd}".encode())]
    for language, text in texts * n_rounds:
        for version in (text, damaged(text, rng), text[: rng.randrange(len(text))]):
            found = version.decode("utf-8", "ignore").encode()
            fast, slow = grammars.reader(language), plain[language]
            assert fast is not None
            assert fast.is_clean(found) == slow.is_clean(found), (language, found)
            said[language, slow.is_clean(found)] += 1
            if not slow.is_clean(found):
                continue
            assert fast.n_nodes() == slow.n_nodes()
            if language == "python":
                shapes = fast.find_functions(functions._roles(language), 1)
                assert shapes == slow.find_functions(functions._roles(language), 1)
                assert all(fast.write_function(i) == slow.write_function(i) for i in range(len(shapes)))
    assert all(said[language, clean] for language in grammars.GRAMMARS for clean in (True, False)), said


@needs_library
@pytest.mark.parametrize("language", grammars.GRAMMARS)
def test_noise_is_no_program(language: str) -> None:
    """Bytes of any kind, and texts that nest deeper than any stack."""
    rng = random.Random(language)
    pieces = [
        *"(){}[]<>=+-*/.,:;'\"#\\\n\t @&|!$`",
        "if ",
        "for ",
        "x",
        " y",
        "0x1",
        "def ",
        "f'{",
        "/*",
        "*/",
        "\u00e9",
        "\0",
        'R"(',
    ]
    reader = grammars.reader(language)
    assert reader is not None
    for n in range(300):
        text = "".join(rng.choices(pieces, k=rng.randrange(40))).encode()
        if reader.is_clean(text):
            assert not grammars.parser(language).parse(text).root_node.has_error, text
        reader.is_clean(rng.randbytes(n))
    for deep in (
        b"(" * 100_000,
        b"[" * 100_000,
        b"{" * 100_000,
        b"(" * 50_000 + b"x" + b")" * 50_000,
        b"x=" * 50_000 + b"1",
    ):
        if reader.is_clean(deep):
            assert reader.n_nodes() == grammars.parser(language).parse(deep).root_node.descendant_count


@needs_library
def test_functions_are_those_of_the_tree() -> None:
    n_found = 0
    for text in standard_library(3_000_000):
        found = functions.of_shapes(text, "python", Everything())
        assert found is not None
        nodes = functions.functions(grammars.parser("python").parse(text), "python")
        assert found == {hashed for node in nodes for hashed in functions.forms(node)}
        # Canary: another shape, another answer.
        assert (
            functions.of_shapes(text, "python", {functions.statement_signature(node) for node in nodes})
            == found
        )
        assert functions.of_shapes(text, "python", frozenset()) == set()
        n_found += len(found)
    assert n_found > 500


@needs_library
def test_a_grammar_of_another_version_is_left_to_tree_sitter() -> None:
    layout = (ctypes.c_uint32 * 64)(99)
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    library = native.library()
    assert library is not None
    reader = native.SyntaxReader(library, new(ctypes.addressof(layout), b"tree_sitter.Language", None))
    assert not reader.is_clean(b"x = 1\n")


def test_the_same_root_without_the_library(
    tmp_path: Path, make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sets" / "mbpp").mkdir(parents=True)
    program = (
        "def f(a, b):\n    c = []\n    for x in a:\n        if x in b and x * 2 > 7:\n            c.append(x"
        " + 1)\n        else:\n            b = b - x\n    return sorted(c), b\n"
    )
    (tmp_path / "sets" / "mbpp" / "mbpp.jsonl").write_text(
        json.dumps({"text": "t", "test_list": [], "code": program})
    )
    sha = contamination_index.build(tmp_path / "sets", tmp_path / "eval.s7eh")["sha256"]
    (tmp_path / "a").mkdir()
    for number, text in enumerate(standard_library(700_000)):
        (tmp_path / "a" / f"f{number}.py").write_bytes(text if number % 5 else text + b"\ndef (:\n")
    (tmp_path / "a" / "leak.py").write_text(
        "import os\n\n" + program.replace("(a, b)", "(first, b)").replace("in a:", "in first:")
    )
    steps = {
        "syntax": ["python"], "quality": True, "near_duplicates": {},
        "decontaminate": {"path": "eval.s7eh", "sha256": sha},
    }  # fmt: skip
    source = {"kind": "directory", "path": "a", "licence": "PSF-2.0"}
    said = with_and_without_library(lambda out: make_job([source], out=out, steps=steps), FORGET, monkeypatch)
    assert said[0] == said[1]
    assert said[0][1]["dropped"]["syntax_error"] > 2
    assert said[0][1]["dropped"]["benchmark"] == 1


def test_numpy_takes_an_empty_text() -> None:
    assert ngrams.word_hashes_in_numpy(b"").tolist() == []
    assert np.array_equal(ngrams.word_hashes(b""), ngrams.word_hashes_in_numpy(b""))


UNDER_SANITIZERS = """
import sys
from pathlib import Path
import pytest
from sevenfold.corpus import native
native.LIBRARY = Path(sys.argv[1])
assert native.library() is not None
chosen = " or ".join(
    "damage clean functions words measures hints needles lines plain visits tables noise".split())
sys.exit(pytest.main([*sys.argv[2:], "-q", "-m", "not slow", "-k", chosen]))
"""


@pytest.mark.slow
@needs_library
def test_under_sanitizers(tmp_path: Path) -> None:
    """Texts are hostile and the grammars' tables are read by offset: no access out of
    bounds, no undefined behaviour.
    """
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-UNDEBUG"]
    subprocess.run([ROOT / "native/corpus/build.sh", tmp_path, *flags], check=True)
    asan = subprocess.run(["g++", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
    environment = os.environ | {"LD_PRELOAD": asan.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [sys.executable, "-c", UNDER_SANITIZERS, tmp_path / "libs7corpus.so", __file__, TEXTS],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
