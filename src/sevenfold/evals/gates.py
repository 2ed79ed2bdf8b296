"""Read gates (the figures that a model must reach), and make the scorecard of sealed runs (C0).

A gate is met, not met, or not measured. A run counts if its root is that of its content, its model
is the requested one, and it has every item of its set. Nothing else counts as a measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sevenfold.core.errors import QualityError, StorageError
from sevenfold.core.hashing import Json
from sevenfold.evals.run import read_run
from sevenfold.evals.tasks.cards import cards
from sevenfold.recipe.shipped import GATES
from sevenfold.recipe.tables import load_table


class ScoreGate(BaseModel):
    """One gate: a metric of a card, or a measurement that no card makes yet and that `needs`
    describes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str
    requirement: str
    text: str
    card: str = ""
    metric: str = ""
    extract: str = ""
    needs: str = ""
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    at_most: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_whole(self) -> ScoreGate:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a gate has at_least or at_most")
        if bool(self.card) == bool(self.needs):
            raise ValueError("a gate has a card, or says what it needs")
        if self.card and (self.card not in cards() or not self.metric):
            raise ValueError(f"no card {self.card!r}, or no metric")
        return self


class GateFile(BaseModel):
    """A file of gates."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    gates: Literal[1]
    name: str
    summary: str
    rows: list[ScoreGate]

    @model_validator(mode="after")
    def _has_ids_once(self) -> GateFile:
        if len({row.id for row in self.rows}) < len(self.rows):
            raise ValueError("an id appears twice")
        return self


@dataclass(frozen=True, kw_only=True)
class GateState:
    """One row of a scorecard. `run` is the root of the run that measured the figure."""

    id: str
    requirement: str
    text: str
    state: str
    wanted: str
    figure: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    protocol: str = ""
    run: str = ""
    reason: str = ""

    def facts(self) -> Json:
        """Return the row as JSON."""
        return asdict(self)


def load_gates(name: str) -> GateFile:
    """Return the gates of a file, given by its path or by the name of a file that ships.

    Raises:
        RecipeError: the file breaks the schema.  UsageError: no such name.  StorageError.
    """
    return load_table(GateFile, GATES, name, "--gates", "evaluation")


def runs_of(model_root: str, directory: Path) -> tuple[list[Json], list[str]]:
    """Return the runs of a model below a directory, and the reasons why others do not count."""
    found, others = [], []
    for path in sorted(directory.glob("*.eval.json")) if directory.is_dir() else []:
        try:
            run = read_run(path)
        except StorageError as error:
            others.append(str(error))
            continue
        if run["model"]["root"] != model_root:
            others.append(f"{path.name}: of another model ({run['model']['root'][:16]})")
        elif run["task"]["n_items"] != run["task"]["n_in_set"]:
            others.append(f"{path.name}: {run['task']['n_items']} of {run['task']['n_in_set']} items")
        else:
            found.append(run)
    return found, others


def scorecard(gates: GateFile, runs: Sequence[Json]) -> list[GateState]:
    """Return the state of each gate."""
    return [_state(gate, runs) for gate in gates.rows]


def _state(gate: ScoreGate, runs: Sequence[Json]) -> GateState:
    is_least = gate.at_least is not None
    limit = gate.at_least if gate.at_least is not None else gate.at_most
    wanted = f"{'at least' if is_least else 'at most'} {limit:g}"
    reason = gate.needs or f"no run of {gate.card} with {gate.metric}"
    row = GateState(
        id=gate.id,
        requirement=gate.requirement,
        text=gate.text,
        state="not measured",
        wanted=wanted,
        reason=reason,
    )
    for run in runs:
        for score in run["scores"] if run["name"] == gate.card else []:
            if score["metric"] != gate.metric or (gate.extract and score.get("extract") != gate.extract):
                continue
            value = score["value"]
            is_met = value >= limit if is_least else value <= limit
            return replace(
                row,
                state="met" if is_met else "not met",
                figure=value,
                low=score["low"],
                high=score["high"],
                n=score["n"],
                protocol=run["card"]["protocol"],
                run=run["root"],
                reason="",
            )
    return row


def require(states: Sequence[GateState], where: str) -> None:
    """Refuse a scorecard in which a gate is not met. Raises QualityError."""
    if open_gates := [f"{row.id} {row.state}" for row in states if row.state != "met"]:
        raise QualityError(
            f"{len(open_gates)} of {len(states)} gates are not met: {', '.join(open_gates)}",
            where=where,
            remedy="see the scorecard",
        )
