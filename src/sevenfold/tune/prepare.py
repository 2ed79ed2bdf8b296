"""Write the samples of a tuning run into its directory, before stage `train` (specs/tune.md).

The recipe and the token files decide every byte. Conversations that are left out are counted by
reason. Memory: one conversation, and 32 bytes for each, by which repetitions are found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sevenfold.core.documents import Document, read_documents
from sevenfold.core.errors import StorageError
from sevenfold.core.files import read_bytes, write_json
from sevenfold.core.hashing import Json, sha256, sha256_file
from sevenfold.core.run_files import DOCUMENTS, TOKENIZER, TUNE, TUNE_FACTS, TUNE_TOKENS
from sevenfold.recipe.schema import TuneFile, TuneSpec
from sevenfold.runs.job import Job
from sevenfold.tokenizer.chat.template import TEMPLATES
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.index import index_path
from sevenfold.tokenizer.objectives import ObjectiveSample, write_samples
from sevenfold.tokenizer.roles import Roles
from sevenfold.tune.conversations import (
    ConversationError,
    LongConversationError,
    check,
    of_document,
    of_lines,
)
from sevenfold.tune.samples import AnswerCutter


def prepare(job: Job) -> None:
    """Cut the samples; nothing for a recipe without `tune`.

    Raises:
        ConversationError: a conversation of a file is refused, with its line.
        StorageError: a file does not have the SHA-256 of the recipe, or no sample is left.
    """
    tune = job.recipe.tune
    if tune is None:
        return
    directory, tokenizer = job.directory(TUNE), tokenizer_of(job)
    cutter = AnswerCutter(
        tokenizer=tokenizer, template=TEMPLATES[tune.template], room=job.recipe.train.sequence
    )
    left_out, sources = Counter[str](), list[Json]()

    def samples() -> Iterator[ObjectiveSample]:
        for number, file in enumerate(tune.files):
            yield from _of_file(job, tune, file, f"tune.files[{number}]", cutter, left_out, sources)
        if tune.domains:
            yield from _of_corpus(job, tune, cutter, left_out, sources)

    job.progress.start("tune: samples", None, "samples")
    path = directory / TUNE_TOKENS
    write_samples(path, samples(), tokenizer.vocab_size, job.progress)
    if not cutter.counts["samples"]:
        raise StorageError(
            f"no conversation is left; left out: {dict(left_out)}",
            where="tune",
            remedy="name domains that hold instructions, or a file",
        )
    facts: dict[str, Json] = {
        "template": cutter.template.as_json(),
        "pretraining": tune.pretraining,
        "counts": dict(sorted(cutter.counts.items())),
        "left_out": dict(sorted(left_out.items())),
        "sources": sources,
        "files": {name.name: sha256_file(name) for name in (path, index_path(path))},
    }
    write_json(directory / TUNE_FACTS, facts)


def tokenizer_of(job: Job) -> Tokenizer:
    """Return the tokenizer of the run. Raises StorageError."""
    data = read_bytes(job.directory("tokenizer") / TOKENIZER)
    return Tokenizer.from_json(data, Roles.of(job.recipe.tokenizer.roles))


def _of_file(
    job: Job,
    tune: TuneSpec,
    file: TuneFile,
    key: str,
    cutter: AnswerCutter,
    left_out: Counter[str],
    sources: list[Json],
) -> Iterator[ObjectiveSample]:
    path = job.recipe_dir / file.path
    data = read_bytes(path)
    if sha256(data).hex() != file.sha256:
        raise StorageError(
            f"its SHA-256 is {sha256(data).hex()}, the recipe names {file.sha256}",
            where=str(path),
            remedy=f"restore that file, or correct {key}.sha256",
        )
    specials, seen, before = cutter.tokenizer.special_tokens, dict[str, int](), cutter.counts["samples"]
    n_bytes = 0
    for number, conversation in of_lines(data, file.path):
        where = f"{file.path}:{number}"
        check(conversation, cutter.template, specials, where)
        if conversation.id in seen:
            raise ConversationError(
                f"it repeats line {seen[conversation.id]}", where=where, remedy="leave one of them out"
            )
        seen[conversation.id] = number
        document = Document(conversation.id, "", "tune", file.path, str(number))
        try:
            made = list(cutter.cut(conversation, document, where))
        except LongConversationError:
            if tune.too_long == "refuse":
                raise
            left_out["too_long"] += 1
            continue
        n_bytes += sum(len(text.encode()) for _, text in conversation.turns)
        yield from made
    sources.append(
        {
            "path": file.path,
            "sha256": file.sha256,
            "licence": file.licence,
            "n_conversations": len(seen),
            "n_samples": cutter.counts["samples"] - before,
            "n_bytes": n_bytes,
        }
    )


def _of_corpus(
    job: Job, tune: TuneSpec, cutter: AnswerCutter, left_out: Counter[str], sources: list[Json]
) -> Iterator[ObjectiveSample]:
    before, n_seen = cutter.counts["samples"], 0
    # In such documents the markers of steps are one token each, and they are allowed.
    specials = [name for name in cutter.tokenizer.special_tokens if name.startswith("<|")]
    for document in read_documents(job.directory("corpus") / DOCUMENTS["train"]):
        if document.domain not in tune.domains:
            continue
        n_seen += 1
        conversation = of_document(document.text)
        if conversation is None:
            left_out["other_form"] += 1
            continue
        encode = cutter.tokenizer.encoding_of(document)
        try:
            check(conversation, cutter.template, specials, document.path)
            yield from list(cutter.cut(conversation, document, document.path, encode=encode))
        except LongConversationError:
            left_out["too_long"] += 1
        except ConversationError:
            left_out["refused"] += 1
    sources.append(
        {
            "domains": list(tune.domains),
            "corpus": job.manifest("corpus").root,
            "n_conversations": n_seen,
            "n_samples": cutter.counts["samples"] - before,
        }
    )
