"""The stage: planted documents leave under their names, the rest comes out in
content-hash order, the same each time.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from splits import split_of

from sevenfold.core.documents import Document, read_documents, read_rows
from sevenfold.core.errors import RecipeError, SevenfoldError, StorageError
from sevenfold.core.manifest import hash_outputs, output_root
from sevenfold.corpus import shards, stage
from sevenfold.corpus.archives import Fault
from sevenfold.corpus.ledger import LEDGER_COLUMNS, REASONS
from sevenfold.corpus.stage import fingerprint, run
from sevenfold.corpus.steps.table import STEPS
from sevenfold.runs.job import Job

TREE = {"kind": "directory", "path": "tree", "licence": "MIT"}
MakeJob = Callable[..., Job]


def plant(base: Path, files: dict[str, bytes], root: str = "tree") -> None:
    for name, data in files.items():
        path = base / root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def good_files(n: int = 40) -> dict[str, bytes]:
    return {f"d{i % 3}/f{i}.py": f"def f{i}():\n\treturn {i}\n".encode() for i in range(n)}


def ledger(job: Job) -> list[dict[str, Any]]:
    rows = read_rows(job.directory("corpus") / "ledger.parquet", LEDGER_COLUMNS)
    return [dict(zip(LEDGER_COLUMNS, row, strict=True)) for row in rows]


def kept(job: Job) -> dict[str, list[Document]]:
    return {
        split: list(read_documents(job.directory("corpus") / f"{split}.parquet"))
        for split in ("train", "heldout")
    }


def root_of(job: Job) -> str:
    return output_root(hash_outputs(job.directory("corpus"), run(job).outputs))


PLANTED = {
    "unreadable": b'{"text": 1, "l": "MIT"}',
    "too_large": json.dumps({"text": "x" * 2001, "l": "MIT"}).encode(),
    "licence_unknown": b'{"text": "whose is this", "l": "see file"}',
    "licence_not_allowed": b'{"text": "copyleft", "l": "GPL-3.0-only AND MIT"}',
    "empty": b'{"text": " \\n", "l": "MIT"}',
    "too_small": b'{"text": "ab", "l": "MIT"}',
    "not_utf8": b'{"text": "half \\ud800 pair", "l": "MIT"}',
    "forbidden_control": b'{"text": "bell \\u0007", "l": "MIT"}',
    "duplicate": b'{"text": "def f3():\\n\\treturn 3\\n", "l": "MIT"}',
}


ARCHIVE_FAULTS = set(get_args(Fault)) - {"too_large"}  # planted in test_archives.py


def test_every_reason_without_a_step_to_switch_on_has_a_planted_document() -> None:
    switched = {reason for step in STEPS if step.name != "decode" for reason in step.reasons}
    elsewhere = switched | {"near_duplicate", "perplexity"} | ARCHIVE_FAULTS
    assert list(PLANTED) == [reason for reason in REASONS if reason not in elsewhere]
    assert set(REASONS) >= ARCHIVE_FAULTS


def test_planted_documents_leave_under_their_names(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path, good_files())
    (tmp_path / "bad.jsonl").write_bytes(b"\n".join(PLANTED.values()))
    job = make_job(
        [TREE, {"kind": "jsonl", "path": "bad.jsonl", "licence_key": "l"}], min_bytes=3, max_bytes=2000
    )
    facts = run(job).facts
    assert facts["dropped"] == dict.fromkeys(PLANTED, 1)
    rows = [row for row in ledger(job) if row["source"] == "jsonl:bad.jsonl"]
    assert [row["reason"] for row in rows] == list(PLANTED)
    assert {row["status"] for row in rows} == {"dropped"}
    assert facts["n_seen"] == 49
    assert facts["n_kept"] == 40 == facts["n_train"] + facts["n_heldout"]


def test_in_is_kept_plus_drops_per_source_and_licence(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path, good_files())
    lines = [
        json.dumps({"text": f"text {i % 5}", "l": ["MIT", "GPL-3.0-only", "?"][i % 3]}) for i in range(30)
    ]
    (tmp_path / "more.jsonl").write_text("\n".join(lines))
    job = make_job([TREE, {"kind": "jsonl", "path": "more.jsonl", "licence_key": "l"}])
    groups = run(job).facts["groups"]
    assert {(g["source"], g["licence"]) for g in groups} == {
        ("directory:tree", "MIT"),
        ("jsonl:more.jsonl", "MIT"),
        ("jsonl:more.jsonl", "GPL-3.0-only"),
        ("jsonl:more.jsonl", "?"),
    }
    for group in groups:
        parts = [group["train"], group["heldout"], *group["dropped"].values()]
        for figure in ("n_documents", "n_bytes"):
            assert group["seen"][figure] == sum(part[figure] for part in parts)
    assert sum(group["seen"]["n_documents"] for group in groups) == len(ledger(job)) == 70


def test_documents_are_whole_in_hash_order_and_split_by_hash(tmp_path: Path, make_job: MakeJob) -> None:
    files = good_files() | {
        "crlf.py": b"a = 1\r\nb\r",
        "bom.py": b"\xef\xbb\xbfx\n",
        "formfeed.py": b"a\n\x0cb\n",
        "wide.txt": "\u6f22\U0001f40d\u0301".encode(),
    }
    plant(tmp_path, files)
    job = make_job([TREE])
    run(job)
    both = kept(job)
    for split, documents in both.items():
        assert [d.id for d in documents] == sorted(d.id for d in documents)
        assert {split_of(d.id, 4) for d in documents} == {split}
    texts = {d.path: d.text.encode() for d in both["train"] + both["heldout"]}
    assert texts == files
    assert all(d.id == hashlib.sha256(files[d.path]).hexdigest() for d in both["train"])


def test_same_root_twice_in_any_file_system_order_and_from_another_place(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = good_files() | {"copy_of_f3.py": good_files()["d0/f3.py"]}
    plant(tmp_path, files)
    job = make_job([TREE])
    roots = {root_of(job), root_of(job)}
    walk = os.walk

    def backwards(top, **options):
        for directory, subdirectories, names in walk(top, **options):
            subdirectories.reverse()
            yield directory, subdirectories, names[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    roots.add(root_of(make_job([TREE], out="second")))
    (tmp_path / "elsewhere").mkdir()
    plant(tmp_path / "elsewhere", dict(reversed(files.items())))
    os.utime(tmp_path / "elsewhere" / "tree" / "copy_of_f3.py", (0, 0))
    moved = Job(recipe=job.recipe, out=tmp_path / "third", recipe_dir=tmp_path / "elsewhere")
    roots.add(root_of(moved))
    assert len(roots) == 1


def test_first_of_duplicates_in_canonical_order_is_kept(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path, good_files() | {"z.py": b"same\n", "a.py": b"same\n"})
    plant(tmp_path, {"0.py": b"same\n"}, root="later")
    job = make_job([TREE, {**TREE, "path": "later"}])
    run(job)
    same = {row["path"]: row["reason"] for row in ledger(job) if row["n_bytes"] == 5}
    assert same == {"a.py": "", "z.py": "duplicate", "0.py": "duplicate"}


def test_an_unlicensed_first_copy_does_not_take_a_licensed_one_with_it(
    tmp_path: Path, make_job: MakeJob
) -> None:
    plant(tmp_path, good_files())
    plant(tmp_path, {"a.py": b"same\n"}, root="first")
    plant(tmp_path, {"b.py": b"same\n"})
    job = make_job([{**TREE, "path": "first", "licence": "GPL-3.0-only"}, TREE])
    run(job)
    assert {row["path"]: row["reason"] for row in ledger(job) if row["n_bytes"] == 5} == {
        "a.py": "licence_not_allowed",
        "b.py": "",
    }


def test_gzip_figure_is_all_documents_in_one_stream(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path, good_files())
    job = make_job([TREE])
    facts = run(job).facts
    text = b"".join(d.text.encode() for d in kept(job)["heldout"])
    assert facts["heldout_gzip_bpb"] == 8 * len(gzip.compress(text, compresslevel=9, mtime=0)) / len(text)
    assert facts["bytes_heldout"] == len(text)


def test_fingerprint_follows_the_content_and_nothing_else(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path, good_files())
    job = make_job([TREE])
    before = fingerprint(job)
    os.utime(tmp_path / "tree" / "d0" / "f3.py", (0, 0))
    (tmp_path / "unrelated.py").write_text("x")
    assert fingerprint(job) == before
    seen = {before}
    for name, data in {"d0/f3.py": b"changed\n", "new.py": b"new\n", "d0/f0.py": b""}.items():
        plant(tmp_path, {name: data})
        seen.add(fingerprint(job))
    (tmp_path / "tree" / "new.py").rename(tmp_path / "tree" / "renamed.py")
    seen.add(fingerprint(job))
    assert len(seen) == 5


def test_no_files_found(tmp_path: Path, make_job: MakeJob) -> None:
    (tmp_path / "tree").mkdir()
    with pytest.raises(StorageError, match="no corpus files found"):
        run(make_job([TREE]))


def test_everything_dropped_says_under_which_reasons(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path, {"a.py": b"a\n", "b.py": b"\xff", "c.py": b""})
    with pytest.raises(StorageError, match=r"3 seen, all dropped \(3 licence_not_allowed\)"):
        run(make_job([{**TREE, "licence": "GPL-3.0-only"}]))
    assert not list((tmp_path / "out" / "corpus").glob("*.parquet"))


@pytest.mark.parametrize(("wanted", "missing"), [("train", "heldout"), ("heldout", "train")])
def test_a_corpus_without_one_of_the_splits_is_refused(
    tmp_path: Path, make_job: MakeJob, wanted: str, missing: str
) -> None:
    texts = (f"text {i}\n".encode() for i in range(100))
    one = next(t for t in texts if split_of(hashlib.sha256(t).hexdigest(), 4) == wanted)
    plant(tmp_path, {"a.py": one})
    with pytest.raises(StorageError, match=f"no {missing} document: 1 kept"):
        run(make_job([TREE]))


def test_a_mix_is_the_trainers_and_changes_no_document(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path, good_files())
    facts = [run(make_job([TREE], mix=mix)).facts for mix in ({}, {"code": 1.0})]
    assert facts[0].pop("mix") == {}
    assert facts[1].pop("mix") == {"code": 1.0}
    assert facts[0] == facts[1]


def test_an_allow_list_with_a_typo_is_refused(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path, good_files())
    with pytest.raises(RecipeError, match="'MITT' is not one SPDX licence"):
        run(make_job([TREE], licences=["MITT"]))


def test_a_pinned_source_is_refused(make_job: MakeJob) -> None:
    with pytest.raises(StorageError, match="no such lock"):
        run(make_job([{"kind": "lock", "path": "corpus.lock.json"}]))


def test_an_unwritable_place_leaves_no_partial_file(tmp_path: Path, make_job: MakeJob) -> None:
    plant(tmp_path, good_files())
    (tmp_path / "out").write_text("a file where the directory should be")
    with pytest.raises(StorageError):
        run(make_job([TREE]))


def test_canary_a_document_lost_between_deciding_and_writing_fails_the_stage(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, good_files())
    honest = stage._counted

    def loses_one(*arguments):
        documents = honest(*arguments)
        next(documents)
        _, count = arguments
        count.n_documents -= 1
        yield from documents

    monkeypatch.setattr(stage, "_counted", loses_one)
    with pytest.raises(SevenfoldError, match="in the ledger"):
        run(make_job([TREE]))


def test_canary_a_source_document_that_never_reaches_the_ledger_fails_the_stage(
    tmp_path: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, good_files())
    honest = shards.cut

    def forgets_one(documents, *rest):
        return honest((item for item in documents if item[0].path != "d0/f3.py"), *rest)

    monkeypatch.setattr(shards, "cut", forgets_one)
    with pytest.raises(SevenfoldError, match="in the ledger"):
        run(make_job([TREE]))


def test_the_standard_library_is_kept_almost_whole(make_job: MakeJob) -> None:
    job = make_job([{"kind": "stdlib"}], licences=["PSF-2.0"], holdout=20)
    result = run(job)
    facts = result.facts
    assert facts["n_kept"] > 0.95 * facts["n_seen"] > 400
    assert 1.8 < facts["heldout_gzip_bpb"] < 2.2
    assert {row["licence"] for row in ledger(job)} == {"PSF-2.0"}
    assert fingerprint(job) == fingerprint(job)
    assert result.tools["python"] == platform.python_version()
    assert "python_version" not in facts  # facts are sealed: what computed them is not
