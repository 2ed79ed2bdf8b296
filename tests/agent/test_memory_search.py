"""A question and a root determine the answer: filters, ties, weights, hops, limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from memories import FILES, remember, write_files

from sevenfold.agent.memory import MemoryQuery, MemorySearch, native, open_memory, scan
from sevenfold.agent.memory.features import names_in, query_features, stem, words_of
from sevenfold.core.errors import UsageError


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> MemorySearch:
    folder = tmp_path_factory.mktemp("search")
    remember(folder / "memory", write_files(folder / "source"), "main", trust=8, time=1_700_000_000)
    other = {
        "pkg/old.py": b"def parse_rows(text):\n    return [row for row in text]\n",
        "a/x.md": b"# Notes\n",
    }
    remember(folder / "memory", write_files(folder / "old", other), "old", trust=0, time=1_000_000_000)
    return MemorySearch(open_memory(folder / "memory"))


def paths(search: MemorySearch, text: str, **how: object) -> list[str]:
    return [hit.entry.path for hit in search.ask(MemoryQuery(text=text, **how))]  # type: ignore[arg-type]


def test_the_right_text_comes_first(search: MemorySearch) -> None:
    assert paths(search, "Where is `write_table` defined?", hops=1)[0] == "pkg/tables.py"
    assert "pkg/tables.py" in paths(search, "Show code that calls `open_text`.", hops=1)[:2]
    assert paths(search, "a palette of colours", hops=1)[0] == "README.md"
    (hit,) = search.ask(MemoryQuery(text="Where is `save_text` defined?", k=1, hops=1))
    text = FILES["pkg/texts.py"].decode().split("\n")
    first, last = hit.lines
    assert "\n".join(text[first - 1 : last]) == hit.text.decode().rstrip("\n")
    assert "def save_text" in "\n".join(text[hit.best_lines[0] - 1 : hit.best_lines[1]])


def test_filters(search: MemorySearch) -> None:
    text = "parse the rows of a table"
    assert set(paths(search, text, paths=("pkg/*.py",))) == {"pkg/tables.py", "pkg/texts.py", "pkg/old.py"}
    assert paths(search, text, languages=("rust",)) == ["pkg/rows.rs"]
    assert paths(search, text, licences=("MIT",)) == ["pkg/tables.py"]
    assert set(paths(search, text, sources=("old",))) <= {"pkg/old.py", "a/x.md"}
    assert paths(search, text, until=1_500_000_000)[0] == "pkg/old.py"
    assert "pkg/tables.py" not in paths(search, text, until=1_500_000_000)
    assert "pkg/old.py" not in paths(search, text, since=1_500_000_000)
    assert paths(search, text, sources=("nobody",)) == []
    with pytest.raises(UsageError, match="leaves its source"):
        paths(search, text, paths=("../x",))


def test_trust_and_recency_weigh(search: MemorySearch) -> None:
    def scores(**how: object) -> dict[str, int]:
        hits = search.ask(MemoryQuery(text="`parse_rows` defined", hops=1, **how))  # type: ignore[arg-type]
        return {hit.entry.path: hit.score for hit in hits}

    now = scores()
    # Trust 8 and today: 256 + 3 * 16. Trust 0 and 23 years: 256.
    assert now["pkg/rows.rs"] % (256 + 48) == 0
    assert now["pkg/old.py"] % 256 == 0
    later = scores(now=4_000_000_000)
    assert later["pkg/rows.rs"] == now["pkg/rows.rs"] // (256 + 48) * (256 + 24)
    assert later["pkg/old.py"] == now["pkg/old.py"]


def test_a_hop_follows_the_calls_of_a_named_definition(search: MemorySearch) -> None:
    question = "What does `read_table` hand its work to?"
    one = search.ask(MemoryQuery(text=question, k=3, hops=1))
    two = search.ask(MemoryQuery(text=question, k=3, hops=2))
    assert [hit.hop for hit in one] == [1] * len(one)
    assert [hit.hop for hit in two][-1] == 2
    assert two[-1].entry.path in {"pkg/texts.py", "pkg/rows.rs", "pkg/old.py"}
    assert two[0] == one[0]
    plain = "read the rows of a table"
    assert search.ask(MemoryQuery(text=plain, hops=2)) == search.ask(MemoryQuery(text=plain, hops=1))


def test_ties_are_broken_by_id_and_order_of_additions_does_not_matter(tmp_path: Path) -> None:
    one = write_files(tmp_path / "one", {f"a{i}.txt": b"same words here, number %d\n" % i for i in range(6)})
    two = write_files(tmp_path / "two", {"b.txt": b"other words\n"})
    base = write_files(tmp_path / "base", {"c.txt": b"third text\n"})
    answers = []
    for name, order in (("x", (one, two)), ("y", (two, one))):
        for source in (base, *order):
            remember(tmp_path / name, source, source.name)
        found = MemorySearch(open_memory(tmp_path / name)).ask(MemoryQuery(text="same words"))
        answers.append([hit.value(with_text=True) for hit in found])
    assert answers[0] == answers[1]
    tied = [hit["chunk"] for hit in answers[0] if hit["score"] == answers[0][1]["score"]]
    assert tied == sorted(tied)


def test_the_answer_without_the_library_is_the_same(
    search: MemorySearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = MemoryQuery(text="What does `read_table` hand its work to?")
    with_it = [hit.value() for hit in search.ask(query)]
    monkeypatch.setattr(scan, "library", lambda: None)
    assert scan.engine_name() == "numpy"
    assert [hit.value() for hit in search.ask(query)] == with_it
    assert native.ABI == 1


def test_one_changed_code_changes_the_answer(search: MemorySearch) -> None:
    query = MemoryQuery(text="a palette of colours", hops=1)
    before = search.ask(query)[0]
    rows = search.memory.vectors()
    place = int(np.abs(rows.astype(int)).sum(1).argmax())
    held = rows[place].copy()
    rows.flags.writeable = True
    rows[:] = np.where(rows == 127, 126, rows)
    assert search.ask(query)[0].score != before.score
    search.memory._vectors = None
    assert np.array_equal(search.memory.vectors()[place], held)
    assert search.ask(query)[0] == before


@pytest.mark.parametrize(
    "wrong",
    [
        *({"text": " "}, {"text": "x" * 70_000}, {"k": 0}, {"k": 65}, {"hops": 0}, {"hops": 3}),
        *({"text": "\ud800"}, {"since": 5, "until": 4}),
    ],
)
def test_questions_outside_the_limits(search: MemorySearch, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        search.ask(MemoryQuery(**{"text": "x", **wrong}))  # type: ignore[arg-type]


def test_overlapping_chunks_are_not_repeated(tmp_path: Path) -> None:
    body = b"".join(b"def name_%d(a):\n    return other_%d(a) + %d\n\n\n" % (i, i, i) for i in range(2500))
    remember(tmp_path / "memory", write_files(tmp_path / "source", {"big.py": body}), chunk_tokens=6000)
    search = MemorySearch(open_memory(tmp_path / "memory"))
    blob = search.blobs[0]
    shared = int(blob.chunks[1][0])
    start, end, _ = blob.spans[shared].tolist()
    name = blob.text[start:end].split(b"(")[0].split()[-1].decode()
    hits = search.ask(MemoryQuery(text=f"Where is `{name}` defined?", hops=1))
    holds = [f"def {name}(".encode() in hit.text for hit in hits]
    assert holds.count(True) == 1
    assert holds[0]


def test_words_and_names() -> None:
    assert words_of(b"readHTMLFile_2") == [b"read", b"html", b"file", b"2"]
    assert stem(b"copies") == b"cop"
    assert stem(b"writing") == stem(b"writes") == stem(b"write") == b"writ"
    assert stem(b"class") == b"class"
    assert names_in(b"does `run` call readFile or open_text, and why?") == [b"run", b"readFile", b"open_text"]
    assert query_features(b"the of a") == {}
