"""Write the samples of a tuning run into its directory, before stage `train` (specs/tune.md).

The recipe and the token files decide every byte. Conversations that are left out are counted by
reason. Memory: one conversation, and 32 bytes for each, by which repetitions are found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial

from sevenfold.core.documents import Document, read_documents
from sevenfold.core.errors import StorageError, storage
from sevenfold.core.files import read_bytes, write_json
from sevenfold.core.hashing import Json, sha256, sha256_file
from sevenfold.core.run_files import DOCUMENTS, HELDOUT_TOKENS, TOKENIZER, TUNE_FACTS, TUNE_TOKENS
from sevenfold.corpus.text.contamination_index import ContaminationIndex, read
from sevenfold.corpus.text.ngrams import word_hashes
from sevenfold.recipe.schema import PreferenceSpec, TuneFile, TunePhase, TuneSpec
from sevenfold.runs.job import Job
from sevenfold.runs.tuning import tuning_directory
from sevenfold.tokenizer.chat.template import TEMPLATES
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.index import index_path
from sevenfold.tokenizer.objectives import ObjectiveSample, write_samples
from sevenfold.tokenizer.roles import Roles
from sevenfold.tune.conversations import (
    Conversation,
    ConversationError,
    LongConversationError,
    Preference,
    check,
    of_document,
    of_lines,
    pairs_of_lines,
)
from sevenfold.tune.samples import AnswerCutter

# Of a line: its number, its digest, its texts, and how its samples are cut.
_Line = tuple[int, str, list[bytes], Callable[[Document, str], list[ObjectiveSample]]]


def prepare(job: Job) -> None:
    """Cut the samples of each phase; nothing for a recipe without `tune`.

    Raises:
        ConversationError: a conversation of a file is refused, with its line.
        StorageError: a file does not have the SHA-256 of the recipe, or no sample is left.
    """
    for number, tune in enumerate(job.recipe.tunings):
        phase = tune.name if isinstance(tune, TunePhase) else ""
        tokenizer, room = tokenizer_of(job), job.recipe.train.sequence
        cutter = AnswerCutter(tokenizer=tokenizer, template=TEMPLATES[tune.template], room=room)
        key = f"tune[{number}]" if phase else "tune"
        _Cutting(job=job, tune=tune, phase=phase, key=key, cutter=cutter).write()


def tokenizer_of(job: Job) -> Tokenizer:
    """Return the tokenizer of the run. Raises StorageError."""
    data = read_bytes(job.directory("tokenizer") / TOKENIZER)
    return Tokenizer.from_json(data, Roles.of(job.recipe.tokenizer.roles))


@dataclass(kw_only=True)
class _Cutting:
    """The samples of one phase."""

    job: Job
    tune: TuneSpec
    phase: str
    # Of the phase in the recipe.
    key: str
    cutter: AnswerCutter
    left_out: Counter[str] = field(default_factory=Counter)
    sources: list[Json] = field(default_factory=list)
    held_out: list[ObjectiveSample] = field(default_factory=list)

    @property
    def preferences(self) -> PreferenceSpec | None:
        return self.tune.preferences if isinstance(self.tune, TunePhase) else None

    def write(self) -> None:
        """Write the samples, then what is said of them."""
        directory, counts = tuning_directory(self.job, self.phase), self.cutter.counts
        with storage(directory):
            directory.mkdir(parents=True, exist_ok=True)
        self.job.progress.start(f"tune{'/' if self.phase else ''}{self.phase}: samples", None, "samples")
        paths = [directory / TUNE_TOKENS]
        vocab_size = self.cutter.tokenizer.vocab_size
        write_samples(paths[0], self._samples(), vocab_size, self.job.progress)
        if counts["samples"] == len(self.held_out):
            raise StorageError(
                f"no conversation is left; left out: {dict(self.left_out)}",
                where=self.key,
                remedy="name domains that hold instructions, or a file",
            )
        if self.preferences is not None:
            if not self.held_out:
                raise StorageError(
                    f"none of {counts['pairs']} pairs is held out, so nothing can be measured",
                    where=f"{self.key}.preferences.holdout",
                    remedy="add pairs of other prompts, or lower it",
                )
            paths.append(directory / HELDOUT_TOKENS)
            write_samples(paths[1], iter(self.held_out), vocab_size, self.job.progress)
            counts["heldout_pairs"] = len(self.held_out) // 2
        facts: dict[str, Json] = {
            "template": self.cutter.template.as_json(),
            "pretraining": self.tune.pretraining,
            "counts": dict(sorted(counts.items())),
            "left_out": dict(sorted(self.left_out.items())),
            "sources": self.sources,
            "files": {name.name: sha256_file(name) for path in paths for name in (path, index_path(path))},
        }
        write_json(directory / TUNE_FACTS, facts)

    def _samples(self) -> Iterator[ObjectiveSample]:
        for number, file in enumerate(self.tune.files):
            yield from self._of_file(file, f"{self.key}.files[{number}]")
        if self.tune.domains:
            yield from self._of_corpus()

    def _of_file(self, file: TuneFile, key: str) -> Iterator[ObjectiveSample]:
        path = self.job.recipe_dir / file.path
        data = read_bytes(path)
        if sha256(data).hex() != file.sha256:
            raise StorageError(
                f"its SHA-256 is {sha256(data).hex()}, the recipe names {file.sha256}",
                where=str(path),
                remedy=f"restore that file, or correct {key}.sha256",
            )
        seen, before, n_bytes = dict[str, int](), self.cutter.counts["samples"], 0
        lines_of = self._conversations if self.preferences is None else self._pairs
        for number, name, texts, cut in lines_of(data, file.path):
            where = f"{file.path}:{number}"
            if name in seen:
                raise ConversationError(
                    f"it repeats line {seen[name]}", where=where, remedy="leave one of them out"
                )
            seen[name] = number
            if self._is_evaluated(b"\n".join(texts)):
                self.left_out["evaluation"] += 1
                continue
            try:
                made = cut(Document(name, "", "tune", file.path, str(number)), where)
            except LongConversationError:
                if self.tune.too_long == "refuse":
                    raise
                self.left_out["too_long"] += 1
                continue
            n_bytes += sum(map(len, texts))
            yield from made
        self.sources.append(
            {
                "path": file.path,
                "sha256": file.sha256,
                "licence": file.licence,
                "n_conversations": len(seen),
                "n_samples": self.cutter.counts["samples"] - before,
                "n_bytes": n_bytes,
            }
        )

    @cached_property
    def _known(self) -> ContaminationIndex | None:
        """Return the hashes of evaluation sets that the corpus is kept free of."""
        wanted = self.job.recipe.corpus.steps.decontaminate
        return None if wanted is None else read(self.job.recipe_dir / wanted.path, wanted.sha256)

    def _is_evaluated(self, text: bytes) -> bool:
        """Return whether a text shares as many 13-grams with them as a document may not."""
        wanted = self.job.recipe.corpus.steps.decontaminate
        if wanted is None or self._known is None:
            return False
        return len(self._known.common_ngrams(word_hashes(text))) >= wanted.hits

    def _conversations(self, data: bytes, path: str) -> Iterator[_Line]:
        specials = self.cutter.tokenizer.special_tokens
        for number, conversation in of_lines(data, path):
            check(conversation, self.cutter.template, specials, f"{path}:{number}")
            yield number, conversation.id, _texts(conversation), partial(self._whole, conversation)

    def _whole(self, conversation: Conversation, document: Document, where: str) -> list[ObjectiveSample]:
        return list(self.cutter.cut(conversation, document, where))

    def _pairs(self, data: bytes, path: str) -> Iterator[_Line]:
        specials = self.cutter.tokenizer.special_tokens
        for number, pair in pairs_of_lines(data, path):
            for side in (pair.chosen, pair.rejected):
                check(side, self.cutter.template, specials, f"{path}:{number}")
            texts = [*_texts(pair.chosen), *_texts(pair.rejected)]
            yield number, pair.id, texts, partial(self._pair, pair)

    def _pair(self, pair: Preference, document: Document, where: str) -> list[ObjectiveSample]:
        """Return the samples of a pair, chosen first; none when its prompt is held out."""
        samples = self.cutter.cut_pair(pair, document, where)
        self.cutter.counts[f"kind_{pair.kind or 'none'}"] += 1
        if self.preferences is not None and int(pair.prompt_id[:16], 16) % self.preferences.holdout == 0:
            self.held_out.extend(samples)
            return []
        return list(samples)

    def _of_corpus(self) -> Iterator[ObjectiveSample]:
        cutter, before, n_seen = self.cutter, self.cutter.counts["samples"], 0
        # The markers of steps are one token each in such documents, and no mistake.
        specials = [name for name in cutter.tokenizer.special_tokens if name.startswith("<|")]
        for document in read_documents(self.job.directory("corpus") / DOCUMENTS["train"]):
            if document.domain not in self.tune.domains:
                continue
            n_seen += 1
            conversation = of_document(document.text)
            if conversation is None:
                self.left_out["other_form"] += 1
                continue
            encode = cutter.tokenizer.encoding_of(document)
            try:
                check(conversation, cutter.template, specials, document.path)
                yield from list(cutter.cut(conversation, document, document.path, encode=encode))
            except LongConversationError:
                self.left_out["too_long"] += 1
            except ConversationError:
                self.left_out["refused"] += 1
        self.sources.append(
            {
                "domains": list(self.tune.domains),
                "corpus": self.job.manifest("corpus").root,
                "n_conversations": n_seen,
                "n_samples": cutter.counts["samples"] - before,
            }
        )


def _texts(conversation: Conversation) -> list[bytes]:
    return [text.encode() for _, text in conversation.turns]
