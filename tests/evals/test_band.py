"""The capability band: what generators do not emit, which answers pass, and which do not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from sevenfold.core.documents import Document, write_documents
from sevenfold.core.errors import SevenfoldError, StorageError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.corpus.text import contamination_index, functions
from sevenfold.corpus.text.grammars import parser
from sevenfold.evals import suites
from sevenfold.evals.band import execution, held_out, items, store
from sevenfold.evals.band.draws import ROWS, Revalued
from sevenfold.evals.band.graders import fenced, marked
from sevenfold.evals.grading import graders
from sevenfold.evals.leaks import Corpus, find_leaks
from sevenfold.evals.scoring.scores import sample_scores
from sevenfold.evals.tasks.cards import Item, cards
from sevenfold.sandbox.executor import Sandbox
from sevenfold.sandbox.request import ExecutionRequest
from sevenfold.synthetic import held_out as guard
from sevenfold.synthetic.generate import GenerationReport, GenerationRequest, generate
from sevenfold.synthetic.generators import algorithms, parts, portable, stories
from sevenfold.synthetic.rng import SeededChoices
from sevenfold.synthetic.sample import RESPONSE

N = 3
needs_rust = pytest.mark.skipif(
    shutil.which("bwrap") is None or shutil.which("rustc") is None, reason="bubblewrap or rustc is missing"
)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox() as one:
        yield one
    execution.release()


def judged(family: str, item: Item, text: str) -> str:
    card = cards()[f"band-{family}"]
    return graders.judge(card, item, text, card.extract[0])[1].verdict


def tables() -> dict[str, str]:
    new = guard.skeletons(held_out.FOLDS, held_out.ALGORITHMS, held_out.EVENTS, held_out.RUST_FOLDS)
    return {digest: name for name, digest in new}


def test_the_generators_know_every_skeleton_that_is_held_out() -> None:
    assert set(tables()) == guard.DIGESTS


def test_no_table_of_the_generators_has_a_skeleton_that_is_held_out() -> None:
    own = guard.skeletons(parts.FOLDS, algorithms.ALGORITHMS, stories.EVENTS, portable.FOLDS)
    assert not {digest for _, digest in own} & set(tables())
    guard.refuse()


@pytest.mark.parametrize(
    ("room", "name", "planted"),
    [
        (parts, "FOLDS", held_out.FOLDS[:1]),
        # Other names and another number are the same skeleton.
        (parts, "FOLDS", (replace(held_out.FOLDS[2], code="sum({v}) // len({v}) if {v} else 77"),)),
        (algorithms, "ALGORITHMS", held_out.ALGORITHMS[3:4]),
        (stories, "EVENTS", held_out.EVENTS[:1]),
    ],
)
def test_a_planted_skeleton_stops_the_generators(
    monkeypatch: pytest.MonkeyPatch, room: object, name: str, planted: tuple[object, ...]
) -> None:
    monkeypatch.setattr(room, name, (*getattr(room, name), *planted))
    order = GenerationRequest(counts={"arithmetic": 1}, seed=1, max_per_shape=9)
    with pytest.raises(SevenfoldError, match="held out for evaluation"):
        next(generate(order, GenerationReport()))


@pytest.mark.parametrize("family", ["arithmetic", "word-problems", "rust"])
def test_no_sample_of_a_corpus_has_a_new_skeleton(family: str, box: Sandbox) -> None:
    new = {made.skeleton for made in islice(items.made_of(family, "new-skeleton", box), 150)}
    generators = set(items.FAMILIES[family].generators)
    old = {
        made.skeleton
        for name in generators
        for made in items.attempts(family, name, "seen", range(400), box)
        if made is not None
    }
    assert len(old) > 50
    assert not new & old


def test_a_held_out_function_under_other_names_is_found_by_its_hash(tmp_path: Path, box: Sandbox) -> None:
    (tmp_path / "band").mkdir()
    made = list(islice(items.made_of("functions", "new-skeleton", box), 6))
    rows = [items._item("functions", "new-skeleton", i, one) for i, one in enumerate(made)]
    data = [store.line_of(item) for item in rows]
    (tmp_path / "band" / "a.jsonl").write_bytes(b"".join(data))
    path = tmp_path / "band.s7eh"
    index = contamination_index.read(path, contamination_index.build(tmp_path, path)["sha256"])
    _, known = index.function_hashes
    source = max((one.program for one in made), key=len)
    planted = source.replace("def ", "def other_", 1)
    nodes = functions.functions(parser("python").parse(planted.encode()), "python")
    assert {functions.function_fingerprint(node) for node in nodes} & known
    other = functions.functions(parser("python").parse(b"def f(a):\n    return a + 1\n"), "python")
    assert not {functions.function_fingerprint(node) for node in other} & known


def test_new_values_are_new_numbers_in_the_same_structure() -> None:
    first = SeededChoices(7, "a")
    second = Revalued(7, "a", "b")
    structure, numbers = [], []
    for rng in (first, second):
        numbers.append([rng.between(0, 10_000) for _ in range(5)])
        structure.append([rng.below(10_000) for _ in range(5)])
    assert structure[0] == structure[1]
    assert numbers[0] != numbers[1]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("refactors", "repairs", "tests")]


@pytest.mark.parametrize("family", ["functions", "loops", "arithmetic", "word-problems", *SLOW])
def test_the_references_pass_and_other_answers_do_not(family: str, box: Sandbox) -> None:
    for row in ROWS:
        made = list(islice(items.made_of(family, row, box), N))
        for number, one in enumerate(made):
            item = items._item(family, row, number, one)
            assert item.prompt.endswith(f"{RESPONSE}\n")
            assert judged(family, item, one.response) == "pass", (item.id, one.response)
            assert judged(family, item, "") == "fail"
            assert judged(family, item, "I do not know.") == "fail"
            stranger = made[(number + 1) % N].response
            if stranger != one.response and one.target.get("answer") != made[(number + 1) % N].target.get(
                "answer", ""
            ):
                assert judged(family, item, stranger) == "fail", item.id


@needs_rust
def test_rust_compiles_and_has_the_function_that_was_asked_for(box: Sandbox) -> None:
    for row in ("seen", "new-skeleton"):
        one = next(items.made_of("rust", row, box))
        item = items._item("rust", row, 0, one)
        assert judged("rust", item, one.response) == "pass"
        assert judged("rust", item, one.response.replace("{", "{{", 1)) == "fail"
        assert judged("rust", item, "```rust\npub fn other() {}\n```") == "fail"
        assert judged("rust", item, "") == "fail"


WRONG = {
    "repairs": [
        "```diff\n--- a\n+++ b\n@@ -99 +99 @@\n-x\n+y\n```",
        "```diff\n--- a\n+++ b\n@@\n```",
        "```\n@@",
    ],
    "refactors": ["```python\ndef (\n```", "```python\nx = 1\n```"],
    "tests": [
        "```python\nimport os\nos._exit(0)\n```",
        "```python\nprint('passed')\n```",
        "```python\ndef test_a():\n    pass\n```",
        "```python\ndef check_all():\n    return 'passed'\n```",
    ],
    "functions": ["```python\nraise SystemExit\n```", "```python\nimport os\nos.system('ls')\n```"],
}


@pytest.mark.parametrize("family", WRONG)
def test_what_is_no_answer_fails_without_an_error(family: str, box: Sandbox) -> None:
    one = next(items.made_of(family, "seen", box))
    item = items._item(family, "seen", 0, one)
    for text in WRONG[family]:
        assert judged(family, item, text) == "fail", text
    if family == "refactors":
        given = item.target["given"]
        assert judged(family, item, f"```python\n{given}```") == "fail"


def test_forms_are_looked_at_and_nothing_else(box: Sandbox) -> None:
    for family, form in items.FORMS.items():
        one = next(items.made_of(family, "seen", box))
        item = items._item("format", "seen", 0, one, form)
        assert judged("format", item, one.response) == "pass", family
        assert judged("format", item, f"Sure! {one.response.replace('`', '')[:40]}") == "fail", family


def test_programs_that_run_together_give_what_they_give_alone(box: Sandbox) -> None:
    counting = "n = 0\ndef f(x):\n    global n\n    n += x\n    return n"
    broken = {"a": "def f(x):\n    return 10 // x", "b": "def f(x) re"}
    asked = [
        ExecutionRequest(broken, "f", ("(0,)", "(5,)")),
        ExecutionRequest({"a": "def g():\n    return {'x': 'y' * 3000}"}, "g", ("()",)),
        ExecutionRequest({"a": counting}, "f", ("(1,)", "(1,)")),
    ]
    assert execution.together(asked, box) == [box.run(one) for one in asked]


@pytest.mark.slow
def test_a_program_that_does_not_end_spoils_no_other(box: Sandbox) -> None:
    asked = [
        ExecutionRequest({"a": "def f():\n    return 1"}, "f", ("()",)),
        ExecutionRequest({"a": "def f():\n    while True:\n        pass"}, "f", ("()",)),
    ]
    assert execution.together(asked, box) == [{"a": ["1"]}, {"a": ["!OutOfTime"]}]


def test_the_first_items_are_the_same_however_many_are_asked_for() -> None:
    few, more = items.items_of("arithmetic", 2), items.items_of("arithmetic", 40)
    assert more[: len(few)] == few
    assert [item.target["row"] for item in few] == [*ROWS, *ROWS]
    assert len({item.id for item in more}) == len(more)


def test_rows_have_figures_of_their_own() -> None:
    some = items.items_of("arithmetic", 5)
    verdicts = {item.id: [["", "pass" if item.target["row"] == "seen" else "fail", "", 0.0]] for item in some}
    found = sample_scores(cards()["band-arithmetic"], some, verdicts, "marked", (1,))
    assert [score["metric"] for score in found] == [f"exact_match {row}" for row in ROWS]
    assert [score["value"] for score in found] == [1.0, 0.0, 0.0, 0.0]
    assert {score["n"] for score in found} == {5}
    assert all(1 <= score["n_skeletons"] <= 5 for score in found)


def test_a_corpus_decides_what_was_seen(tmp_path: Path) -> None:
    some = items.items_of("arithmetic", 2)
    seen, valued = some[0], some[1]
    texts = [f"{item.prompt}42\n" for item in (seen, valued)]
    documents = [Document(f"{i}", text, "math", "synthetic", f"a/{i}.md") for i, text in enumerate(texts)]
    write_documents(tmp_path / "train.parquet", documents)
    leaks = find_leaks(some, Corpus(tmp_path / "train.parquet", "root"), Silent())
    # Of the corpus, and in it: kept. New, and in it: dropped. Of the corpus, and not in it: dropped.
    assert seen.id not in leaks.dropped
    assert "the question of" in leaks.dropped[valued.id][0]
    assert leaks.dropped[some[4].id] == ["no document of the corpus begins so"]
    assert set(leaks.dropped) == {valued.id, some[4].id}


def test_a_sandbox_that_loses_known_programs_gives_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def run(self, request: ExecutionRequest) -> dict[str, list[str]]:
            return {key: ["!Lost"] * len(request.inputs) for key in request.sources}

        def close(self) -> None:
            pass

    execution.release()
    monkeypatch.setattr(execution, "Sandbox", Broken)
    item = Item(id="a", prompt="", target={"entry": "f", "calls": ["()"], "results": ["1"]})
    assert judged("functions", item, "```python\ndef f():\n    return 1\n```") == "none"
    execution.release()


def test_suites_are_files_and_bind_their_items(monkeypatch: pytest.MonkeyPatch) -> None:
    band = suites.suites()["band-8m"]
    assert set(band.cards) == {f"band-{name}" for name in items.NAMES} == set(band.roots)
    assert [n for _, n in suites.resolve(["quick"])] == [10, 10, 5, 60, 60]
    with pytest.raises(UsageError, match="no suite"):
        suites.resolve(["band"])
    monkeypatch.setattr(suites, "ITEMS_PER_ROW", 1)
    monkeypatch.setattr(suites, "kept_items", lambda _family, _n, make: make())
    with pytest.raises(StorageError, match="not those of the suite"):
        suites.make_task(cards()["band-arithmetic"], None)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["arithmetic", "word-problems", "rust"])
def test_whole_families_have_the_roots_of_the_suite(
    family: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = suites.make_task(cards()[f"band-{family}"], None)
    assert task.root == suites.suites()["band-8m"].roots[f"band-{family}"]
    # A file that was cut is made again.
    (file,) = (tmp_path / "sevenfold" / "band").iterdir()
    file.write_bytes(file.read_bytes()[:-200])
    assert suites.make_task(cards()[f"band-{family}"], None).root == task.root


def test_extraction_takes_the_first_block_and_the_last_number() -> None:
    assert fenced("a\n```python\nx = 1\n```\n```\ny\n```") == "x = 1\n"
    assert fenced("```python\nx = 1\ny") == "x = 1\ny\n"
    assert fenced("x = 1") == ""
    assert marked("<FINAL> 3 and <FINAL> -4/5") == "-4/5"
    assert marked("</scratchpad>\n12") == "12"
    assert marked("12") == ""
