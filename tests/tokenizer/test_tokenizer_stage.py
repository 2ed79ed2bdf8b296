"""The stage: corpus files in, vocabulary and token files out; the held-out
text comes back byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sevenfold.core.documents import read_documents, write_documents
from sevenfold.core.errors import SevenfoldError, StorageError, UsageError
from sevenfold.core.files import read_json
from sevenfold.core.manifest import hash_outputs, output_root
from sevenfold.runs.job import Job
from sevenfold.tokenizer.codec import END_OF_TEXT, Tokenizer
from sevenfold.tokenizer.index import open_index
from sevenfold.tokenizer.stage import run
from sevenfold.tokenizer.token_file import open_tokens

MakeJob = Callable[..., Job]
MOE = {"moe": {"kind": "token_routed", "experts": ["code", "general"]}}


def test_token_files_hold_the_documents(make_job: MakeJob) -> None:
    job = make_job()
    result = run(job)
    directory = job.directory("tokenizer")
    tokenizer = Tokenizer.from_json((directory / "tokenizer.json").read_bytes())
    assert result.outputs == [
        "tokenizer.json",
        "train.tokens",
        "train.index",
        "heldout.tokens",
        "heldout.index",
    ]
    for split in ("train", "heldout"):
        file = open_tokens(directory / f"{split}.tokens")
        documents = list(read_documents(job.directory("corpus") / f"{split}.parquet"))
        assert file.n_documents == len(documents) == result.facts[f"n_documents_{split}"]
        for index, document in enumerate(documents):
            ids = file.document(index).tolist()
            assert ids[0] == tokenizer.eot_id
            assert tokenizer.decode_bytes(ids[1:]) == document.text.encode()
        known = open_index(directory / f"{split}.tokens", file.n_documents)
        listed = [(known.id(i), known.domains[known.domain_of[i]]) for i in range(known.n_documents)]
        assert listed == [(document.id, document.domain) for document in documents]
        n_bytes = sum(len(d.text.encode()) for d in documents)
        assert result.facts[f"n_tokens_{split}"] == file.n_tokens
        assert result.facts[f"n_bytes_{split}"] == n_bytes
        assert result.facts[f"bytes_per_token_{split}"] == n_bytes / (file.n_tokens - file.n_documents)
    assert result.facts["heldout_round_trip_documents"] == 3
    assert result.facts["vocab_size"] == 512
    assert set(result.tools) == {"tokenizers"}


def test_twice_the_same_root(make_job: MakeJob) -> None:
    roots = set()
    for out in ("first", "first", "second"):
        job = make_job(out=out, model=MOE)
        roots.add(output_root(hash_outputs(job.directory("tokenizer"), run(job).outputs)))
    assert len(roots) == 1


def test_the_vocabulary_does_not_see_the_held_out_text(make_job: MakeJob) -> None:
    vocabularies = set()
    for out, heldout in (("a", ["one\n"]), ("b", ["quite another text\n" * 50])):
        job = make_job(out=out, heldout=heldout)
        run(job)
        vocabularies.add((job.directory("tokenizer") / "tokenizer.json").read_bytes())
    assert len(vocabularies) == 1


def test_router_only_for_a_token_routed_model(make_job: MakeJob) -> None:
    job = make_job(model=MOE)
    result = run(job)
    assert "router.json" in result.outputs
    table = read_json(job.directory("tokenizer") / "router.json")
    assert len(table) == 512
    assert set(table) == {0, 1}
    assert result.facts["n_code_tokens"] == table.count(0)


def test_documents_that_spell_a_special_token_do_not_become_it(make_job: MakeJob, texts: list[str]) -> None:
    hostile = f"a = '{END_OF_TEXT}'\n{END_OF_TEXT}\n"
    job = make_job(train=[*texts[3:20], hostile * 50], heldout=[hostile])
    run(job)
    for split in ("train", "heldout"):
        file = open_tokens(job.directory("tokenizer") / f"{split}.tokens")
        assert (file.tokens == 0).sum() == file.n_documents


def test_canary_a_tokenizer_that_loses_a_byte_fails_the_stage(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Tokenizer.decode_bytes
    monkeypatch.setattr(
        Tokenizer, "decode_bytes", lambda self, ids: honest(self, ids).replace(b"\t", b" ") + b" "
    )
    with pytest.raises(SevenfoldError, match="do not decode to its bytes"):
        run(make_job())


def test_two_sizes_of_vocabulary_are_refused(make_job: MakeJob) -> None:
    with pytest.raises(UsageError, match=r"tokenizer\.vocab_size 512 is not model\.vocab_size 600"):
        run(make_job(model={"vocab_size": 600}))


def test_a_tiny_corpus_is_refused(make_job: MakeJob) -> None:
    with pytest.raises(StorageError, match=r"too small for tokenizer\.vocab_size 512"):
        run(make_job(train=["one two three\n"]))


def test_missing_and_empty_corpus(make_job: MakeJob) -> None:
    job = make_job()
    write_documents(job.directory("corpus") / "heldout.parquet", [])
    with pytest.raises(StorageError, match="no documents to tokenise in the heldout split"):
        run(job)
    (job.directory("corpus") / "train.parquet").unlink()
    with pytest.raises(StorageError, match="no such file"):
        run(job)


def test_progress_ends_at_the_total(make_job: MakeJob) -> None:
    calls: list[tuple[str, int | None]] = []

    class Listener:
        def start(self, stage: str, total: int | None, unit: str) -> None:
            calls.append(("start", total))

        def advance(self, done: int, **fields: float | str) -> None:
            calls.append(("advance", done))

        def note(self, text: str) -> None:
            raise AssertionError(text)

    job = make_job()
    run(Job(recipe=job.recipe, out=job.out, progress=Listener()))
    assert ("start", 20) in calls
    assert calls[-1] == ("advance", 20)
