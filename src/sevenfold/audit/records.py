"""Read the records of a run, and compare them with a step that is computed again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sevenfold.artifact import Artifact
from sevenfold.core.errors import SevenfoldError
from sevenfold.core.files import read_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.run_files import METRICS, TRACE
from sevenfold.train.recording.records import CHAIN_START, trace_link

METRIC_FIELDS = ("loss", "learning_rate", "grad_norm", "tokens")
# Of steps with pairs of answers.
PAIR_FIELDS = ("margin", "pairs")
TRACE_FIELDS = ("gradient", "weights", "chain")
MISSING = "no such row"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One difference from the records. `step` is None when it concerns a whole file."""

    where: str
    field: str
    expected: Json
    actual: Json
    step: int | None = None

    def as_json(self) -> dict[str, Json]:
        """Return the difference as JSON values."""
        return asdict(self)


class StepDiffersError(SevenfoldError):
    """Ends a replay at the first step that differs. It never leaves this package."""

    exit_code = 3

    def __init__(self, difference: Difference) -> None:
        self.difference = difference
        super().__init__(f"step {difference.step} differs", where=difference.where)


@dataclass(frozen=True, kw_only=True)
class RecordSource:
    """Rows by step. A step that a `complete` source lacks is a difference. Another source holds
    only some of the rows. `optional` fields are compared where either side has them.

    A run of several phases numbers their steps in one sequence. `before` holds the steps and tokens
    of the phases before the one whose rows are compared with this source.
    """

    name: str
    rows: Mapping[int, Mapping[str, Json]]
    fields: tuple[str, ...]
    optional: tuple[str, ...] = ()
    complete: bool
    before: tuple[int, int] | None = None

    def _joined(self, row: Mapping[str, Json]) -> Mapping[str, Json]:
        """Return the row of a phase under the joined numbering. Its link is to the recorded row
        before.
        """
        if self.before is None:
            return row
        step = self.before[0] + row["step"]
        if "chain" not in row:
            return {**row, "step": step, "tokens": self.before[1] + row["tokens"]}
        last = max((number for number in self.rows if number < step), default=0)
        chain = self.rows.get(last, {}).get("chain", CHAIN_START)
        return {**row, "step": step, "chain": trace_link(chain, step, row["gradient"], row["weights"])}

    def check(self, row: Mapping[str, Json]) -> Difference | None:
        """Return how the computed `row` differs from the recorded row of its step."""
        row = self._joined(row)
        step, recorded = row["step"], self.rows.get(row["step"])
        if recorded is None:
            if not self.complete:
                return None
            return Difference(where=self.name, step=step, field="row", expected=MISSING, actual=dict(row))
        others = (name for name in self.optional if name in row or name in recorded)
        for field in (*self.fields, *others):
            expected = recorded.get(field, MISSING)
            # 1 and 1.0, 0.0 and -0.0 are equal in Python and differ in the file.
            actual = row.get(field, MISSING)
            if repr(expected) != repr(actual):
                return Difference(where=self.name, step=step, field=field, expected=expected, actual=actual)
        return None


def _by_step(rows: Json) -> dict[int, Mapping[str, Json]]:
    found: dict[int, Mapping[str, Json]] = {}
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            found.setdefault(row["step"], row)
    return found


def read_rows(path: Path) -> dict[int, Mapping[str, Json]]:
    """Return the rows of a JSONL file by step. A line that is not JSON (incomplete, damaged) is no
    row. Raises StorageError.
    """
    rows = []
    for line in read_bytes(path).splitlines():
        try:
            rows.append(json.loads(line, parse_constant=str))
        except ValueError:
            continue
    return _by_step(rows)


def sealed_sources(artifact: Artifact) -> tuple[list[RecordSource], list[RecordSource]]:
    """Return metrics and trace from the LANE and BATCH lanes. LANE holds only evenly spaced rows."""
    lane = RecordSource(
        name="model.s7l LANE",
        rows=_by_step(artifact.trace.get("rows")),
        fields=METRIC_FIELDS,
        complete=False,
    )
    batch = RecordSource(
        name="model.s7l BATCH", rows=_by_step(artifact.batch.get("rows")), fields=TRACE_FIELDS, complete=True
    )
    return [lane], [batch]


def run_sources(
    out: Path, artifact: Artifact | None, part: str = ""
) -> tuple[list[RecordSource], list[RecordSource]]:
    """Return the sources of the figures of a run, or of a phase of it: metrics.jsonl and LANE;
    trace.jsonl and BATCH.

    Raises:
        StorageError: a file cannot be read.
    """
    directory = "/".join(("train", part)) if part else "train"
    metrics, trace = (
        RecordSource(
            name=f"{directory}/{name}",
            rows=read_rows(out / directory / name),
            fields=fields,
            optional=optional,
            complete=True,
        )
        for name, fields, optional in ((METRICS, METRIC_FIELDS, PAIR_FIELDS), (TRACE, TRACE_FIELDS, ()))
    )
    lane, batch = sealed_sources(artifact) if artifact else ([], [])
    return [metrics, *lane], [trace, *batch]


class Comparison:
    """Replaces the records of a run (`train.recording.records.Recorder`). It compares each row and
    stops at the first difference.
    """

    def __init__(self, metrics: list[RecordSource], trace: list[RecordSource]) -> None:
        self.metrics, self.traces = metrics, trace
        self.n_metrics = self.n_trace = 0

    @staticmethod
    def _check(sources: list[RecordSource], row: Mapping[str, Json]) -> None:
        for source in sources:
            difference = source.check(row)
            if difference:
                raise StepDiffersError(difference)

    def metric(self, row: Json) -> None:
        """Compare the row with what the run recorded. Raises StepDiffersError."""
        self._check(self.metrics, row)
        self.n_metrics += 1

    def trace(self, row: Json) -> None:
        """Compare the row with what the run recorded. Raises StepDiffersError."""
        self._check(self.traces, row)
        self.n_trace += 1

    def flush(self) -> None:
        """Do nothing: no file is written."""

    def close(self) -> None:
        """Do nothing: no file is open."""
