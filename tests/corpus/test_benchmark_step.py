"""Decontamination: planted copies (plain, reformatted, renamed) leave, the hash file is
sealed, and ordinary code stays.
"""

from __future__ import annotations

import bz2
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from sevenfold.core.errors import StorageError
from sevenfold.corpus.sources import SourceDocument, SourceOrigin
from sevenfold.corpus.steps.decontaminate import benchmark
from sevenfold.corpus.steps.working_document import StepSettings, WorkingDocument
from sevenfold.corpus.text import contamination_index, functions
from sevenfold.corpus.text.grammars import parser
from sevenfold.corpus.text.ngrams import ngram_hashes, word_hashes
from sevenfold.recipe.corpus_schema import Decontamination, StepsSpec

PROMPT = (
    'def close_pairs(numbers: list, threshold: float) -> bool:\n    """Tell whether any two of the numbers'
    ' given here stand closer to each other than the threshold."""\n'
)
SOLUTION = (
    "    for i, a in enumerate(numbers):\n        for j, b in enumerate(numbers):\n            if i != j:\n"
    "                distance = abs(a - b)\n                if distance < threshold:\n"
    "                    return True\n    return False\n"
)
TEST = "def check(candidate):\n    assert candidate([1.0, 2.0], 0.5) == False\n"
QUESTION = (
    "Janet has sixteen ducks that lay one egg a day each; she eats three and sells the others for two"
    " dollars."
)
# The same function: other names, no annotations, no documentation, brackets and line
# ends elsewhere, a comment.
RENAMED = (
    "def near(xs, eps):\n  for p, x in enumerate(xs):\n    for q, y in enumerate(xs):\n      # not itself\n  "
    "    if (p != q):\n        gap = abs(\n            x - y)\n        if gap < eps:\n          return True\n"
    "  return False\n"
)
OTHER = (
    "def far(xs, eps):\n    for p, x in enumerate(xs):\n        for q, y in enumerate(xs):\n            if p"
    " != q:\n                gap = abs(x + y)\n                if gap > eps:\n                    return"
    " True\n    return False\n"
)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory laid out as the real one, with a few tasks."""
    root = tmp_path_factory.mktemp("eval")
    row = {"prompt": PROMPT, "canonical_solution": SOLUTION, "test": TEST}
    files = {
        "humaneval/HumanEval.jsonl.gz": gzip.compress(json.dumps(row).encode(), mtime=0),
        "gsm8k/test.jsonl": json.dumps({"question": QUESTION, "answer": "26"}).encode(),
        "gsm8k/train.jsonl": json.dumps({"question": "x " * 50, "answer": ""}).encode(),
        "mmlu/test/a.csv": b"question,choice0,answer\nshort,a,0\n",
        "hellaswag/val.txt.bz2": bz2.compress(
            b"A man sits on a roof.\n1\nfirst ending\nhe pulls up tiles one after the other all day\nthird\n"
            b"fourth\n"
        ),
    }  # fmt: skip
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture(scope="module")
def hashes(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> contamination_index.ContaminationIndex:
    path = tmp_path_factory.mktemp("hashes") / "eval.s7eh"
    return contamination_index.read(path, contamination_index.build(sets, path)["sha256"])


def outcome(
    hashes: contamination_index.ContaminationIndex, data: str, path: str = "a.py", hits: int = 1
) -> tuple[str | None, WorkingDocument]:
    spec = StepsSpec(decontaminate=Decontamination(path="x", sha256="0" * 64, hits=hits))
    origin = SourceOrigin(source="t", version="", licence="MIT", licence_evidence="", domain="code")
    found = SourceDocument(origin, path, len(data), "", data.encode())
    text = WorkingDocument(found, data.encode(), found.language, "code")
    return benchmark(text, StepSettings(spec, 1, hashes)), text


@pytest.mark.parametrize(
    ("planted", "how"),
    [
        (PROMPT + SOLUTION, "13-grams"),
        ((PROMPT + SOLUTION).replace("    ", "\t").replace(", ", " ,").replace("\n", "\r\n"), "13-grams"),
        (" ".join(PROMPT.upper().split()), "13-grams"),
        (RENAMED, "functions"),
        ("x = 1\n\nclass A:\n    " + RENAMED.replace("\n", "\n    "), "functions"),
    ],
)
def test_a_planted_copy_is_caught(
    hashes: contamination_index.ContaminationIndex, planted: str, how: str
) -> None:
    around = "import os\n\n\ndef listing(path):\n    return sorted(os.listdir(path))\n\n\n"
    reason, text = outcome(hashes, around + planted)
    assert reason == "benchmark"
    assert ("humaneval", how) in {(f.kind, f.detail) for f in text.findings}
    assert outcome(hashes, around)[0] is None


def test_prose_sets_and_hits(hashes: contamination_index.ContaminationIndex) -> None:
    reason, text = outcome(hashes, f"Once upon a time. {QUESTION} And so on.", "a.md")
    assert (reason, text.findings[0].kind) == ("benchmark", "gsm8k")
    assert outcome(hashes, QUESTION, "a.md", hits=9)[0] == "benchmark"
    assert outcome(hashes, QUESTION, "a.md", hits=10)[0] is None
    assert (
        outcome(hashes, "A man sits on a roof. He pulls up tiles one after the other all day", "a.md")[0]
        == "benchmark"
    )
    assert outcome(hashes, "x " * 50, "a.md")[0] is None  # GSM8K's training part may be trained on
    assert outcome(hashes, OTHER)[0] is None


def test_a_row_of_numbers_is_no_ngram(hashes: contamination_index.ContaminationIndex) -> None:
    assert len(contamination_index.ngrams(b"0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1")) == 0
    assert (
        len(contamination_index.ngrams(b"[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]")) == 0
    )  # ascending numbers are everybody's
    assert len(contamination_index.ngrams(QUESTION.encode())) == len(QUESTION.split()) - 12


def test_the_hash_of_a_function_forgets_names_and_layout_and_nothing_else() -> None:
    def whole(source: str) -> int | None:
        (node,) = functions.functions(parser("python").parse(source.encode()), "python")
        return functions.function_fingerprint(node)

    assert whole(RENAMED) == whole(PROMPT + SOLUTION) != None  # noqa: E711 - both at once
    assert whole(RENAMED) != whole(OTHER)
    swapped = RENAMED.replace("if (p != q)", "if (p != p)")
    assert whole(swapped) != whole(RENAMED)


def test_small_functions_are_everybodys() -> None:
    source = "def __init__(self, a, b, c):\n    self.a = a\n    self.b = b\n    self.c = c\n"
    assert all(
        functions.function_fingerprint(n) is None
        for n in functions.functions(parser("python").parse(source.encode()), "python")
    )


def test_the_same_sets_give_the_same_file_and_it_holds_no_text(sets: Path, tmp_path: Path) -> None:
    facts = [contamination_index.build(sets, tmp_path / name) for name in ("a", "b")]
    data = (tmp_path / "a").read_bytes()
    assert data == (tmp_path / "b").read_bytes()
    assert facts[0]["sha256"] == facts[1]["sha256"]
    assert b"Janet" not in data
    rows = {row["name"]: row for row in facts[0]["sets"]}
    assert rows["mmlu"]["n_items_too_short"] == rows["mmlu"]["n_items"] == 2
    assert rows["humaneval"]["n_functions"] == 1


@pytest.mark.parametrize("place", [0, 5, 40, -1])
def test_a_changed_file_is_refused(sets: Path, tmp_path: Path, place: int) -> None:
    path = tmp_path / "eval"
    expected = contamination_index.build(sets, path)["sha256"]
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match="the recipe names"):
        contamination_index.read(path, expected)


def test_missing_and_broken_sets(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no evaluation set found"):
        contamination_index.build(tmp_path, tmp_path / "out")
    (tmp_path / "humaneval").mkdir()
    (tmp_path / "humaneval" / "x.jsonl.gz").write_bytes(gzip.compress(b"{}"))
    with pytest.raises(StorageError, match="not the evaluation set humaneval"):
        contamination_index.build(tmp_path, tmp_path / "out")


def test_filtered_lookup_is_membership() -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(0, 1 << 63, 5000, dtype=np.uint64)
    grams = ngram_hashes(words, contamination_index.NGRAM)
    known = np.unique(np.concatenate([grams[::7], rng.integers(0, 1 << 63, 5000, dtype=np.uint64)]))
    table = contamination_index.ContaminationIndex({"a": {"ngrams": known}}, "")
    assert set(table.common_ngrams(words).tolist()) == set(grams[::7].tolist())
    assert len(table.common_ngrams(words[:12])) == 0


def test_ngrams_of_words_do_not_see_punctuation_or_case() -> None:
    assert word_hashes(b"Foo(bar, BAZ_1)").tolist() == word_hashes(b"foo bar\n\tbaz_1;").tolist()
    assert len(set(word_hashes("a b ab ba a\u0062 \u00e4 \u00f6 1 _".encode()).tolist())) == 8
    words = word_hashes(b" ".join(b"w%d" % i for i in range(20)))
    assert len(ngram_hashes(words, 13)) == 8
    assert len(ngram_hashes(words[:12], 13)) == 0


@pytest.mark.slow
def test_the_real_sets(tmp_path: Path) -> None:
    root = Path(os.environ.get("SEVENFOLD_DATA", Path(__file__).parents[3] / "shared" / "data")) / "eval"
    if not root.is_dir():
        pytest.skip("no evaluation sets under $SEVENFOLD_DATA")
    facts = contamination_index.build(root, tmp_path / "eval")
    known = contamination_index.read(tmp_path / "eval", facts["sha256"])
    # The band is made by this project, and lies in no directory of sets.
    assert set(known.sets) == set(contamination_index.SETS) - {"band"}
    tasks = [
        json.loads(line)
        for line in gzip.decompress((root / "humaneval" / "HumanEval.jsonl.gz").read_bytes()).splitlines()
    ]
    caught = [outcome(known, task["prompt"] + task["canonical_solution"])[0] for task in tasks]
    assert caught == ["benchmark"] * 164
    ours = Path(contamination_index.__file__).read_text()
    assert outcome(known, ours)[0] is None
