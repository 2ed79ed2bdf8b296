"""Stage `tokenizer`: learn a vocabulary from the training documents, and write token files, indexes
and the router.

Each document becomes the token that begins a text (<|endoftext|>) and its tokens, in the order of
the corpus files. Every held-out document is decoded again and compared byte for byte. Memory: the
word counts of the trainer, and one batch of documents. Formats: specs/dataset.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from sevenfold.core.documents import Document, count_rows, read_documents
from sevenfold.core.errors import SevenfoldError, StorageError, UsageError
from sevenfold.core.files import read_bytes, write_bytes, write_json
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.core.run_files import DOCUMENTS, ROUTER, TOKENIZER, TOKENS
from sevenfold.recipe.schema import ExpertStacks, TokenRouted
from sevenfold.runs.job import Job, StageResult
from sevenfold.runs.parent import parent_file
from sevenfold.runs.pretrained import pretrained_file
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.index import index_path, write_index
from sevenfold.tokenizer.objectives import Sampler, write_samples
from sevenfold.tokenizer.roles import Roles
from sevenfold.tokenizer.router import CODE_EXPERT, router_table, stack_table
from sevenfold.tokenizer.token_file import write_tokens
from sevenfold.tokenizer.train import mixed, train_tokenizer

BATCH_DOCUMENTS = 64


def check_job(job: Job) -> None:
    """Refuse a vocabulary whose size is not that of the model. Raises UsageError."""
    recipe = job.recipe
    wanted, needed = recipe.tokenizer.vocab_size, recipe.model.vocab_size
    if wanted != needed:
        raise UsageError(
            f"tokenizer.vocab_size {wanted} is not model.vocab_size {needed}",
            where="recipe",
            remedy="set both to the same number",
        )


def run(job: Job) -> StageResult:
    """Train the tokenizer, or use that of an import or of a sealed parent, and tokenise the corpus.

    Raises:
        StorageError: the corpus is missing, empty or too small, or a file cannot be written.
        UsageError: the recipe requires a tokenizer or router that this version does not build.
    """
    check_job(job)
    recipe, directory = job.recipe, job.directory("tokenizer")
    paths = {split: job.directory("corpus") / name for split, name in DOCUMENTS.items()}
    n_documents = {split: count_rows(path) for split, path in paths.items()}
    for split, path in paths.items():
        if n_documents[split] == 0:
            raise StorageError(f"no documents to tokenise in the {split} split", where=str(path))
    job.progress.start("tokenizer", None, "documents")
    if recipe.train.parent:
        data = read_bytes(parent_file(job, TOKENIZER))
    elif recipe.model.pretrained:
        data = read_bytes(pretrained_file(job, TOKENIZER))
    else:
        texts = mixed(lambda: read_documents(paths["train"]), recipe.tokenizer.training_mix)
        data = train_tokenizer(texts, recipe.tokenizer)
    tokenizer = Tokenizer.from_json(data, Roles.of(recipe.tokenizer.roles))
    write_bytes(directory / TOKENIZER, data)
    outputs = [TOKENIZER]
    facts: dict[str, Json] = {"vocab_size": tokenizer.vocab_size}
    job.progress.start("tokenizer", sum(n_documents.values()), "documents")
    counts: dict[str, _Count] = {}
    for split in DOCUMENTS:
        name = TOKENS[split]
        done = sum(count.n_documents for count in counts.values())
        counts[split] = count = _Count()
        write_tokens(
            directory / name,
            _encoded(job, tokenizer, read_documents(paths[split]), count, done, check=split == "heldout"),
            tokenizer.vocab_size,
        )
        index = index_path(directory / name)
        write_index(index, count.documents)
        outputs += [name, index.name]
        facts |= count.facts(split)
    facts["heldout_round_trip_documents"] = counts["heldout"].n_documents
    made, figures = _objectives(job, tokenizer, paths["train"])
    outputs += made
    facts |= figures
    if isinstance(recipe.model.moe, TokenRouted):
        table = router_table(tokenizer, recipe.model.moe)
        write_json(directory / ROUTER, table.tolist())
        outputs.append(ROUTER)
        facts["n_code_tokens"] = int((table == CODE_EXPERT).sum())
    if isinstance(recipe.model.moe, ExpertStacks):
        write_json(directory / ROUTER, stack_table(tokenizer, recipe.model.moe).tolist())
        outputs.append(ROUTER)
    return StageResult(outputs=outputs, facts=facts, tools=_tools(recipe.tokenizer.algo))


def _tools(algo: str) -> dict[str, str]:
    names = ("tokenizers", "sentencepiece") if algo.startswith("sentencepiece") else ("tokenizers",)
    return {name: version(name) for name in names}


def fingerprint(job: Job) -> str:
    """Return what decides the files besides the recipe sections: the root of a sealed parent, and what
    the samples of the objectives are cut by; "" without both.
    """
    train = job.recipe.train
    parent = f"parent {train.parent.root} " if train.parent else ""
    if not train.objectives.special_tokens():
        return parent
    decides = [train.objectives.model_dump(mode="json"), train.seed, train.sequence]
    return parent + canonical_json(decides).decode()


def _objectives(job: Job, tokenizer: Tokenizer, path: Path) -> tuple[list[str], dict[str, Json]]:
    """Write the samples of each weighted objective as token files with indexes. Return names and
    counts.
    """
    train, outputs = job.recipe.train, []
    sampler = Sampler(tokenizer=tokenizer, objectives=train.objectives, seed=train.seed, room=train.sequence)
    for name, weight, cut in (
        ("fim", train.objectives.fim, sampler.fim),
        ("cot", train.objectives.cot, sampler.cot),
    ):
        if weight:
            target = job.directory("tokenizer") / TOKENS[name]
            job.progress.start(f"tokenizer {name}", None, "samples")
            write_samples(target, cut(read_documents(path)), tokenizer.vocab_size, job.progress)
            outputs += [target.name, index_path(target).name]
    return outputs, {f"n_{name}": count for name, count in sorted(sampler.counts.items())}


@dataclass
class _Count:
    n_documents: int = 0
    n_bytes: int = 0
    n_lines: int = 0
    # The <|endoftext|> of each document is not counted.
    n_tokens: int = 0
    # Id and domain.
    documents: list[tuple[str, str]] = field(default_factory=list)

    def facts(self, split: str) -> dict[str, Json]:
        return {
            f"n_documents_{split}": self.n_documents,
            f"n_bytes_{split}": self.n_bytes,
            f"n_tokens_{split}": self.n_tokens + self.n_documents,
            f"bytes_per_token_{split}": self.n_bytes / self.n_tokens,
            f"tokens_per_line_{split}": self.n_tokens / max(1, self.n_lines),
        }


def _encoded(
    job: Job, tokenizer: Tokenizer, documents: Iterator[Document], count: _Count, done: int, *, check: bool
) -> Iterator[list[int]]:
    while batch := list(islice(documents, BATCH_DOCUMENTS)):
        for document in batch:
            ids = tokenizer.encoding_of(document)(document.text)
            raw = document.text.encode()
            if check and tokenizer.decode_bytes(ids) != raw:
                raise SevenfoldError(
                    "its tokens do not decode to its bytes",
                    where=f"{document.source}: {document.path} ({document.id})",
                )
            count.documents.append((document.id, document.domain))
            count.n_documents += 1
            count.n_bytes += len(raw)
            count.n_lines += document.text.count("\n")
            count.n_tokens += len(ids)
            yield [tokenizer.eot_id, *ids]
        job.progress.advance(done + count.n_documents)
