"""Experiments whose criteria are locked before their runs (requirement C18; specs/programme.md).

A table has a date and a digest of its rows. A table that changed afterwards is refused. Results are
sealed runs of `s7 eval`, never figures that somebody typed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sevenfold.core.errors import ArtifactError
from sevenfold.core.hashing import Json, canonical_json, digest
from sevenfold.evals.run import read_run
from sevenfold.evals.tasks.cards import cards
from sevenfold.recipe.shipped import EXPERIMENTS
from sevenfold.recipe.tables import load_table

DEFAULT_TABLE = "slm"


class ExperimentLock(BaseModel):
    """When the table was locked, and the digest of what it said then."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    digest: str


class Experiment(BaseModel):
    """One comparison of B with A, by a metric of a card; `needs` says what no sealed run holds yet."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str
    requirement: str
    question: str
    a: str
    b: str
    card: str = ""
    metric: str = ""
    needs: str = ""
    better: Literal["higher", "lower"]
    margin: float = Field(ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_whole(self) -> Experiment:
        if bool(self.card) == bool(self.needs):
            raise ValueError("an experiment has a card, or says what it needs")
        if self.card and (self.card not in cards() or not self.metric):
            raise ValueError(f"no card {self.card!r}, or no metric")
        return self


class ExperimentFile(BaseModel):
    """A locked table of experiments."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    experiments: Literal[1]
    name: str
    summary: str
    locked: ExperimentLock
    rows: list[Experiment]

    @model_validator(mode="after")
    def _has_ids_once(self) -> ExperimentFile:
        if len({row.id for row in self.rows}) < len(self.rows):
            raise ValueError("an id stands there twice")
        return self


@dataclass(frozen=True, kw_only=True)
class ExperimentState:
    """One row: `state` is passed, failed, undecided or not measured. `low` and `high` bound by how
    much B is better than A.
    """

    id: str
    requirement: str
    question: str
    criterion: str
    state: str
    detail: str
    gain: float | None = None
    low: float | None = None
    high: float | None = None

    def facts(self) -> Json:
        """Return the row as JSON."""
        return asdict(self)


def table_digest(table: ExperimentFile) -> str:
    """Return the digest of a table without its lock."""
    rows = [row.model_dump(mode="json") for row in table.rows]
    return digest("sevenfold/experiments/1", canonical_json([table.name, table.summary, rows]))


def load_experiments(name: str) -> ExperimentFile:
    """Return a table: a path, or the name of one that ships.

    Raises:
        ArtifactError: it was changed after it was locked.
        RecipeError: the file breaks the schema.  UsageError: no such name.  StorageError.
    """
    table = load_table(ExperimentFile, EXPERIMENTS, name)
    found = table_digest(table)
    if found != table.locked.digest:
        raise ArtifactError(
            f"the table {table.name} was changed after it was locked on {table.locked.date}: its digest is"
            f" {found}, the lock says {table.locked.digest or 'nothing'}",
            where=name,
            remedy="restore it, or lock a new table under another name",
        )
    return table


def experiment_states(table: ExperimentFile, results: Path | None) -> list[ExperimentState]:
    """Return the state of every experiment.

    Args:
        results: a directory with `ID.a.eval.json` and `ID.b.eval.json` of each experiment that ran.

    Raises:
        StorageError: a run was altered.
        ArtifactError: a run is none of the card.
    """
    return [_state(row, results) for row in table.rows]


def _state(row: Experiment, results: Path | None) -> ExperimentState:
    state = ExperimentState(
        id=row.id,
        requirement=row.requirement,
        question=row.question,
        criterion=f"{row.metric or 'the figure'} {row.better} by {row.margin:g}",
        state="not measured",
        detail=row.needs or f"s7 eval FILE --suite {row.card}, for A and for B",
    )
    paths = [(results or Path()) / f"{row.id}.{arm}.eval.json" for arm in "ab"]
    if row.needs or results is None or not all(path.is_file() for path in paths):
        return state
    a, b = (_score(path, row) for path in paths)
    if row.better == "lower":
        a, b = b, a
    low, high = b["low"] - a["high"], b["high"] - a["low"]
    said = "passed" if low >= row.margin else "failed" if high < row.margin else "undecided"
    detail = f"{paths[0].name}, {paths[1].name}"
    gain = b["value"] - a["value"]
    return replace(state, state=said, detail=detail, gain=gain, low=low, high=high)


def _score(path: Path, row: Experiment) -> Json:
    run = read_run(path)
    found = [score for score in run["scores"] if score["metric"] == row.metric]
    is_whole = run["task"]["n_items"] == run["task"]["n_in_set"]
    if run["name"] != row.card or not found or not is_whole:
        raise ArtifactError(
            f"no whole run of {row.card} with {row.metric}", where=str(path), remedy="run `s7 eval` again"
        )
    return found[0]
