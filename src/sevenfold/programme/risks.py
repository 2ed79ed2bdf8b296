"""The register of risks: each trigger is a query over recorded figures (requirement C19)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sevenfold.core.hashing import Json
from sevenfold.programme.figures import Figures
from sevenfold.recipe.shipped import RISKS
from sevenfold.recipe.tables import load_table

DEFAULT = "models"


class Risk(BaseModel):
    """One risk. It is triggered when its figure is above or below the bound."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str
    requirement: str
    text: str
    figure: str
    above: float | None = Field(default=None, allow_inf_nan=False)
    below: float | None = Field(default=None, allow_inf_nan=False)
    measure: str
    mitigation: str

    @model_validator(mode="after")
    def _has_one_bound(self) -> Risk:
        if (self.above is None) == (self.below is None):
            raise ValueError(f"risk {self.id!r} has above or below")
        return self

    @property
    def trigger(self) -> str:
        """Return the query in words."""
        side, bound = ("above", self.above) if self.above is not None else ("below", self.below)
        return f"{self.figure} {side} {bound:g}"

    def is_triggered_by(self, value: float) -> bool:
        """Return whether a value is beyond the bound."""
        return (self.above is not None and value > self.above) or (
            self.below is not None and value < self.below
        )


class RiskFile(BaseModel):
    """A file of risks."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    risks: Literal[1]
    name: str
    summary: str
    rows: list[Risk]

    @model_validator(mode="after")
    def _has_ids_once(self) -> RiskFile:
        if len({row.id for row in self.rows}) < len(self.rows):
            raise ValueError("an id stands there twice")
        return self


@dataclass(frozen=True, kw_only=True)
class RiskState:
    """One row of the register: `state` is triggered, quiet or not measured. `then` is the mitigation
    of a triggered risk, or the command that measures one.
    """

    id: str
    requirement: str
    text: str
    state: str
    trigger: str
    figure: float | None
    record: str
    then: str

    def facts(self) -> Json:
        """Return the row as JSON."""
        return asdict(self)


def load_risks(name: str) -> RiskFile:
    """Return a register: a path, or the name of one that ships.

    Raises:
        RecipeError: the file breaks the schema.  UsageError: no such name.  StorageError.
    """
    return load_table(RiskFile, RISKS, name)


def risk_states(risks: RiskFile, figures: Figures) -> list[RiskState]:
    """Return the state of every risk."""
    return [_state(risk, figures) for risk in risks.rows]


def _state(risk: Risk, figures: Figures) -> RiskState:
    found = figures.get(risk.figure)
    if found is None:
        state, then = "not measured", risk.measure
    elif risk.is_triggered_by(found.value):
        state, then = "triggered", risk.mitigation
    else:
        state, then = "quiet", ""
    return RiskState(
        id=risk.id,
        requirement=risk.requirement,
        text=risk.text,
        state=state,
        trigger=risk.trigger,
        figure=None if found is None else found.value,
        record="" if found is None else found.record,
        then=then,
    )


def triggered(states: Sequence[RiskState]) -> list[RiskState]:
    """Return the risks that are triggered."""
    return [row for row in states if row.state == "triggered"]
