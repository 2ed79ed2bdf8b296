"""Spans of a text in a corpus: against a plain search, over kills, damage and hostile texts."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import refusal, said
from sevenfold.core.documents import read_documents
from sevenfold.core.errors import StorageError, UsageError
from sevenfold.core.process.log import Silent
from sevenfold.core.run_files import MANIFEST, SPANS, TRAIN_DOCUMENTS
from sevenfold.corpus.spans import DEFAULT_SPAN, MAX_QUERY, MIN_SPAN, SpanIndex, open_spans
from sevenfold.corpus.suffixes import BLOCK, sorted_suffixes
from sevenfold.runs.job import Job


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("index") / "spans"


@pytest.fixture(scope="module")
def index(dense_run: Job, place: Path) -> SpanIndex:
    return open_spans(dense_run.out, place, Silent())


@pytest.fixture(scope="module")
def texts(dense_run: Job) -> list[str]:
    return [d.text for d in read_documents(dense_run.out / "corpus" / TRAIN_DOCUMENTS)]


@pytest.mark.parametrize("seed", range(60))
def test_suffixes_are_in_order(seed: int) -> None:
    draw = random.Random(seed)
    kinds = [bytes(draw.choice(b"ab") for _ in range(BLOCK)) for _ in range(draw.randint(1, 3))]
    text = b"".join(draw.choice(kinds) for _ in range(draw.randint(1, 60)))
    found = sorted_suffixes(np.frombuffer(text, np.uint8)).tolist()
    assert found == sorted(range(len(text) // BLOCK), key=lambda n: text[n * BLOCK :])


def test_every_planted_span_is_found(index: SpanIndex, texts: list[str]) -> None:
    # A plain search over all documents is the oracle.
    draw, n_found = random.Random(1), 0
    for _ in range(200):
        document = draw.choice(texts).encode()
        n = draw.randint(MIN_SPAN, 400)
        start = draw.randint(0, max(0, len(document) - n))
        planted = document[start : start + n]
        if len(planted) < DEFAULT_SPAN or len(set(planted)) < 8:
            continue
        text = b"\x01<<" + planted + b">>\x01"
        spans = index.find(text, MIN_SPAN)
        covered = {place for span in spans for place in range(span.start, span.end)}
        missed = set(range(3, 3 + len(planted))) - covered
        assert missed <= set(range(3, 3 + BLOCK - 1)), (start, n)
        for span in spans:
            part = text[span.start : span.end]
            assert any(part in other.encode() for other in texts)
            n_found += 1
    assert n_found > 100


def test_a_span_names_its_document_and_line(index: SpanIndex, dense_run: Job) -> None:
    document = next(iter(read_documents(dense_run.out / "corpus" / TRAIN_DOCUMENTS)))
    lines = document.text.splitlines(keepends=True)
    part = "".join(lines[10:14])
    (span, *_) = index.find(part.encode(), 31)
    assert (span.source, span.path, span.document) == (document.source, document.path, document.id)
    assert (span.start, span.line, span.licence) == (0, 11, "PSF-2.0")


def test_a_whole_document_is_one_span(index: SpanIndex, texts: list[str]) -> None:
    for text in texts[:3]:
        data = text.encode()[:MAX_QUERY]
        (span,) = index.find(data)
        assert (span.start, span.end) == (0, len(data))


def test_a_span_ends_with_its_document(index: SpanIndex, texts: list[str]) -> None:
    data = texts[0].encode()[-100:] + bytes(40) + texts[1].encode()[:100]
    spans = index.find(data)
    assert [(span.start, span.end) for span in spans] == [(0, 100), (140, 240)]


def test_what_is_not_in_the_corpus_is_not_found(index: SpanIndex) -> None:
    draw = random.Random(2)
    assert index.find(bytes(draw.choice(b"qxzjkv\n") for _ in range(2000))) == []
    for text in (b"", b"a", b" " * 500, b"-" * 500, b"\0" * 500, b"\xff" * 500):
        assert index.find(text) == []


def test_limits_are_said(index: SpanIndex) -> None:
    with pytest.raises(UsageError, match="or more"):
        index.find(b"x", MIN_SPAN - 1)
    with pytest.raises(UsageError, match="in parts"):
        index.find(bytes(MAX_QUERY + 1))


def bytes_of(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir()}


def test_the_index_is_built_once_and_the_same(
    index: SpanIndex, place: Path, dense_run: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_spans(dense_run.out / "corpus", tmp_path / "again", Silent())
    assert bytes_of(tmp_path / "again") == bytes_of(place)
    monkeypatch.setattr("sevenfold.corpus.spans._build", None)
    assert open_spans(dense_run.out, place, Silent()).root == index.root


def test_an_index_without_all_its_files_is_built_again(index: SpanIndex, place: Path, dense_run: Job) -> None:
    whole = bytes_of(place)
    for name in whole:
        (place / name).write_bytes(whole[name][:-2])
        try:
            open_spans(dense_run.out, place, Silent())
        except StorageError:
            assert name == MANIFEST
            (place / name).unlink()
            open_spans(dense_run.out, place, Silent())
        assert bytes_of(place) == whole


def test_an_altered_text_is_refused(
    index: SpanIndex, dense_run: Job, tmp_path: Path, texts: list[str]
) -> None:
    open_spans(dense_run.out, tmp_path / "other", Silent())
    path = tmp_path / "other" / "text.bin"
    data = bytearray(path.read_bytes())
    data[-BLOCK * 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError, match="was altered"):
        open_spans(dense_run.out, tmp_path / "other", Silent()).find(texts[-1].encode()[:1000])


KILLED = """
import os, signal, sys
from pathlib import Path
from sevenfold.core.process.log import Silent
from sevenfold.corpus import spans
name = sys.argv[3]
real = getattr(spans, name)
def killed(*args, **kwargs):
    if name == "write_json":
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(spans, name, killed)
spans.open_spans(Path(sys.argv[1]), Path(sys.argv[2]), Silent())
"""


@pytest.mark.parametrize("at", ["_write_documents", "sorted_suffixes", "write_bytes", "write_json"])
def test_a_killed_build_is_made_again(
    at: str, place: Path, index: SpanIndex, dense_run: Job, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", KILLED, str(dense_run.out), str(tmp_path / "s"), at]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "s" / MANIFEST).exists()
    open_spans(dense_run.out, tmp_path / "s", Silent())
    assert bytes_of(tmp_path / "s") == bytes_of(place)


@pytest.mark.subprocess
def test_the_verb(dense_run: Job, texts: list[str], tmp_path: Path) -> None:
    run, part = tmp_path / "run", texts[0][100:300]
    shutil.copytree(dense_run.out / "corpus", run / "corpus")
    value: Any = said("trace-output", "-", "--corpus", run, data=part.encode())
    assert value["spans"][0]["text"] == part
    assert (run / SPANS / MANIFEST).is_file()
    assert said("trace-output", "nothing of it", "--corpus", run)["spans"] == []
    assert "no finished corpus" in refusal(4, "trace-output", "x", "--corpus", tmp_path)
    assert "or more" in refusal(2, "trace-output", "x", "--corpus", run, "--least", 3)
