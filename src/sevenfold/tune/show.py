"""Show the rows of a step of a tuning run, and which of their tokens count in the loss."""

from __future__ import annotations

from dataclasses import dataclass

from sevenfold.core.errors import UsageError
from sevenfold.core.hashing import Json
from sevenfold.runs.job import Job
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.train.data.dataset import open_data
from sevenfold.train.phases import training_phases
from sevenfold.train.schedule import n_steps
from sevenfold.tune.prepare import tokenizer_of


@dataclass(frozen=True, kw_only=True)
class ShownRow:
    """A row of a step: pairs of (text, whether its tokens count in the loss), in order. `n_counted`
    is the number of tokens that count.
    """

    objective: str
    runs: tuple[tuple[str, bool], ...]
    n_counted: int
    n_tokens: int

    def as_json(self) -> dict[str, Json]:
        """Return the row as a JSON object."""
        return {
            "objective": self.objective,
            "n_tokens": self.n_tokens,
            "n_counted": self.n_counted,
            "runs": [{"text": text, "loss": counted} for text, counted in self.runs],
        }


def show_batch(job: Job, step: int) -> list[ShownRow]:
    """Return the rows of a step, from 1, the steps of all phases counted one after another. The
    samples have to be cut.

    Raises UsageError: the recipe has no tuning, or no such step.
    """
    if job.recipe.tune is None:
        raise UsageError("the recipe has no section tune", where=job.recipe.name)
    phases = training_phases(job.recipe)
    total = sum(n_steps(phase.spec) for phase in phases)
    if not 1 <= step <= total:
        raise UsageError(f"--show-batch {step}", remedy=f"the run has steps 1 to {total}")
    while step > n_steps(phases[0].spec):
        step, phases = step - n_steps(phases[0].spec), phases[1:]
    data, tokenizer = open_data(job, phases[0]), tokenizer_of(job)
    rows = []
    for objective in data.objectives:
        ids, counted = objective.source.batch(step - 1), objective.source.counted(step - 1)
        for number, row in enumerate(ids):
            # A target is one position after the input that predicts it.
            marks = [False, *([True] * (len(row) - 1) if counted is None else (counted[number] > 0).tolist())]
            runs: list[tuple[list[int], bool]] = []
            for token, mark in zip(row.tolist(), marks, strict=True):
                if not runs or runs[-1][1] != mark:
                    runs.append(([], mark))
                runs[-1][0].append(token)
            texts = tuple((_text(tokenizer, tokens), mark) for tokens, mark in runs)
            rows.append(
                ShownRow(objective=objective.name, runs=texts, n_counted=sum(marks), n_tokens=len(row))
            )
    return rows


def _text(tokenizer: Tokenizer, tokens: list[int]) -> str:
    """Return the text of tokens. Special tokens are shown by their names."""
    text, plain = "", list[int]()
    for token in [*tokens, None]:
        name = None if token is None else tokenizer.special_name(token)
        if token is not None and name is None:
            plain.append(token)
            continue
        text, plain = text + tokenizer.decode(plain) + (name or ""), []
    return text
