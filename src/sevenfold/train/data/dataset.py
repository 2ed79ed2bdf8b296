"""The training data of a phase, opened from the files of stage `tokenizer` (specs/dataset.md)."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sevenfold.core.errors import StorageError
from sevenfold.core.files import read_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.run_files import HELDOUT_TOKENS, ROUTER, TOKENIZER, TOKENS, TUNE_TOKENS
from sevenfold.recipe.schema import ExpertStacks, Recipe, TuneSpec
from sevenfold.runs.job import Job
from sevenfold.runs.tuning import tuning_file
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.roles import Roles
from sevenfold.train.data.curriculum import StagedBatches, context_stages
from sevenfold.train.data.indexed_tokens import IndexedTokens
from sevenfold.train.data.interleave import MixedBatches
from sevenfold.train.data.objectives import ANSWERS, NEXT, PREFERENCES, Objective
from sevenfold.train.data.packing import SampleBatches
from sevenfold.train.data.windows import Batches, BatchSource, evaluation_starts, window_rows
from sevenfold.train.phases import TrainingPhase


def load_tokenizer(job: Job) -> Tokenizer:
    """Return the run's own tokenizer. Raises StorageError."""
    data = read_bytes(job.directory("tokenizer") / TOKENIZER)
    return Tokenizer.from_json(data, Roles.of(job.recipe.tokenizer.roles))


def token_lengths(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Return the number of UTF-8 bytes of each token id, int64 [V]; 0 for special tokens."""
    return np.array([len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)], np.int64)


def read_router(job: Job) -> torch.Tensor | None:
    """Return the expert of each token id, int64 [V], of a recipe with experts. Raises StorageError."""
    if job.recipe.model.moe is None:
        return None
    return torch.tensor(json.loads(read_bytes(job.directory("tokenizer") / ROUTER)), dtype=torch.int64)


def leads(job: Job) -> dict[str, int]:
    """Return the token that every window of a domain begins with, or None. Expert stacks need it,
    because the first id of a sequence chooses the stack.
    """
    moe = job.recipe.model.moe
    if not isinstance(moe, ExpertStacks):
        return {}
    tokenizer = load_tokenizer(job)
    return {expert: tokenizer.domain_id(expert) for expert in moe.experts}


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The objectives of a phase, with their rows. The first is the next token where there is one."""

    objectives: tuple[Objective, ...]

    @property
    def batches(self) -> BatchSource:
        """Return the rows of the first objective."""
        return self.objectives[0].source

    def documents_of(self, step: int) -> list[Json]:
        """Return the documents of each row of a step."""
        return [
            {
                "objective": objective.name,
                "row": row,
                "domain": domain,
                "documents": objective.split.documents(domain, start, stop),
            }
            for objective in self.objectives
            for row, (domain, start, stop) in enumerate(objective.source.spans(step))
        ]


def _split(job: Job, name: str) -> IndexedTokens:
    return IndexedTokens(path=job.directory("tokenizer") / TOKENS[name])


def open_data(job: Job, phase: TrainingPhase) -> TrainingData:
    """Return the training data of a phase.

    An objective of weight w has w rows for each row of next tokens, but at least one, so that a token
    has about the same weight in each objective.

    Raises:
        StorageError: a file is missing, or a domain has less than a window.
    """
    split, spec = _split(job, "train"), phase.spec
    if phase.tune is not None:
        return _tuning(job, phase.tune, split, phase)
    objectives = [Objective(name=NEXT, weight=1.0, source=_windows(job, split, phase), split=split)]
    for name, weight in (("fim", spec.objectives.fim), ("cot", spec.objectives.cot)):
        if weight:
            samples = _split(job, name)
            source = SampleBatches(
                file=samples.file,
                sequence=spec.sequence,
                batch_sequences=max(1, round(weight * spec.batch_sequences)),
                end=load_tokenizer(job).eot_id,
            )
            objectives.append(Objective(name=name, weight=weight, source=source, split=samples))
    return TrainingData(objectives=tuple(objectives))


def _tuning(job: Job, tune: TuneSpec, split: IndexedTokens, phase: TrainingPhase) -> TrainingData:
    """Return the rows of a tuning run: windows of the corpus, and samples of which only the answers
    count in the loss.

    The weight of each kind of rows is its share of the rows.
    """
    spec, preferences = phase.spec, phase.preferences
    n_windows = round(tune.pretraining * spec.batch_sequences)
    n_samples = spec.batch_sequences - n_windows
    samples = IndexedTokens(path=tuning_file(job, TUNE_TOKENS, phase.name))
    answers = SampleBatches(
        file=samples.file,
        sequence=spec.sequence,
        batch_sequences=n_samples,
        end=load_tokenizer(job).eot_id,
        is_paired=preferences is not None,
    )
    own = Objective(
        name=PREFERENCES if preferences else ANSWERS,
        weight=n_samples / spec.batch_sequences,
        source=answers,
        split=samples,
        preferences=preferences,
    )
    if not n_windows:
        return TrainingData(objectives=(own,))
    windows = _cut(job, split, phase, spec.sequence, n_windows)
    text = Objective(name=NEXT, weight=n_windows / spec.batch_sequences, source=windows, split=split)
    return TrainingData(objectives=(text, own))


def _windows(job: Job, split: IndexedTokens, phase: TrainingPhase) -> BatchSource:
    """Return the windows of a phase. Each stage of a curriculum cuts its own windows."""
    spec = phase.spec
    if job.recipe.context is None:
        return _cut(job, split, phase, spec.sequence, spec.batch_sequences)
    return StagedBatches(
        context_stages(job.recipe),
        lambda stage: _cut(job, split, phase, stage.sequence, stage.batch_sequences),
    )


def _cut(
    job: Job, split: IndexedTokens, phase: TrainingPhase, sequence: int, batch_sequences: int
) -> Batches | MixedBatches:
    first = leads(job)
    if not phase.mix:
        return Batches(tokens=split.file, sequence=sequence, batch_sequences=batch_sequences)
    streams = {
        domain: Batches(
            tokens=split.domain(domain),
            sequence=sequence,
            batch_sequences=batch_sequences,
            domain=domain,
            lead=first.get(domain),
        )
        for domain, share in phase.mix.items()
        if share > 0
    }
    return MixedBatches(streams=streams, mix=phase.mix, sequence=sequence, batch_sequences=batch_sequences)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Windows of held-out text that one stack scores. rows: int64 [n, sequence + 1]."""

    domain: str
    stack: int | None
    rows: NDArray[np.int64]


def held_out(job: Job, n_windows: int | None = None) -> list[HeldOut]:
    """Return all windows of the held-out split, or `n_windows` evenly spaced ones. They are grouped by
    domain where the recipe has a mix.

    With expert stacks each window begins with the token of its domain, as in training. A domain whose
    held-out text is shorter than a window is left out. Raises StorageError when there is no window at
    all.
    """
    recipe, sequence = job.recipe, context_stages(job.recipe)[-1].sequence
    split = _split(job, "heldout")
    if not recipe.corpus.mix:
        rows = window_rows(
            split.file.tokens, evaluation_starts(split.file.n_tokens, sequence, n_windows), sequence
        )
        return [HeldOut(domain="", stack=None, rows=rows)]
    first, found = leads(job), []
    share = None if n_windows is None else max(1, n_windows // len(recipe.corpus.mix))
    for domain in sorted(recipe.corpus.mix):
        tokens = split.domain(domain)
        if len(tokens) <= sequence:
            continue
        rows = window_rows(tokens, evaluation_starts(len(tokens), sequence, share), sequence)
        if domain in first:
            rows = np.concatenate((np.full((len(rows), 1), first[domain], np.int64), rows[:, :-1]), axis=1)
        found.append(HeldOut(domain=domain, stack=stack_of(recipe, domain), rows=rows))
    if not found:
        raise StorageError(
            f"no domain has {sequence + 1} held-out tokens, which one window needs",
            where=f"tokenizer/{HELDOUT_TOKENS}",
            remedy="lower corpus.holdout (one document in N is held out) or add documents",
        )
    return found


def stack_of(recipe: Recipe, domain: str) -> int | None:
    """Return the expert stack of a domain; None without stacks."""
    moe = recipe.model.moe
    return moe.experts.index(domain) if isinstance(moe, ExpertStacks) else None
