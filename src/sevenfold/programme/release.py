"""Check a model that ships: one table over everything that a release has to have.

A row is `pass`, `fail` or `open`. Open means that nothing is recorded; the row says the command that
records it. Every row is a function of the sealed file and of the records beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from sevenfold.artifact import Artifact, Verification, verify
from sevenfold.core.errors import (
    ArtifactError,
    QualityError,
    SevenfoldError,
    StorageError,
    UsageError,
)
from sevenfold.core.files import read_bytes
from sevenfold.core.hashing import Json
from sevenfold.core.shipped_models import shipped_models
from sevenfold.corpus.licences import LicencePolicy
from sevenfold.engine.session import replay
from sevenfold.evals import gates
from sevenfold.programme.figures import collect, documents_beside, runs_beside
from sevenfold.programme.risks import load_risks, risk_states, triggered
from sevenfold.release.documents import described, documents_of, kept_sources
from sevenfold.release.signature import check_signature, find_signature
from sevenfold.release.statements import find_statements

PASS, FAIL, OPEN = "pass", "fail", "open"


@dataclass(frozen=True, kw_only=True)
class ReleaseRow:
    """One row of the table. `exit_code` is that of the command line when the row fails."""

    name: str
    requirement: str
    state: str
    detail: str
    exit_code: int

    def facts(self) -> Json:
        """Return the row as JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ReleaseSubject:
    """A model, and what it is checked against.

    Attributes:
        gates, risks: names of shipped tables, or files.
        key: the public key of the signer, where one is to be trusted.
        run: the run directory in which the model was made, where it is at hand.
    """

    artifact: Artifact
    gates: str
    risks: str
    key: Path | None = None
    run: Path | None = None

    @property
    def path(self) -> Path:
        """Return the sealed file."""
        return self.artifact.path

    @property
    def runs(self) -> Path:
        """Return the directory of the sealed evaluation runs."""
        return runs_beside(self.path)

    @cached_property
    def lineage(self) -> dict[str, Json]:
        """Return the lineage, with the SHA-256 of the file."""
        return described(self.artifact)

    @cached_property
    def verification(self) -> Verification:
        """Return V0 to V7, with the golden prompts on every engine of this machine."""
        return verify(self.artifact, replay)


Finding = tuple[str, str]


def _verified(subject: ReleaseSubject) -> Finding:
    failed = [row for row in subject.verification.rows if row.status == "fail" and row.id != "V6"]
    if failed:
        return FAIL, f"{failed[0].id}: {failed[0].detail}"
    return PASS, f"{len(subject.verification.rows)} rules hold, root {subject.artifact.root[:16]}"


def _self_tested(subject: ReleaseSubject) -> Finding:
    (row,) = [row for row in subject.verification.rows if row.id == "V6"]
    return (FAIL if row.status == "fail" else PASS), row.detail


def _indexed(subject: ReleaseSubject) -> Finding:
    rows = [row for row in shipped_models().values() if row.path.resolve() == subject.path.resolve()]
    if not rows:
        return OPEN, "no index of shipped models lists this file: scripts/ship_model.py RUN"
    (row,) = rows
    found = (subject.artifact.root, subject.artifact.n_bytes)
    if (row.root, row.n_bytes) != found:
        return FAIL, f"the index says root {row.root[:16]}, {row.n_bytes} bytes; the file is {found[0][:16]}"
    if not row.licence:
        return FAIL, "the index states no licence of the model"
    return PASS, f"{row.name}: root and bytes as in the index, licence {row.licence}"


def _documented(subject: ReleaseSubject) -> Finding:
    directory = documents_beside(subject.path)
    documents = {f"{subject.path.stem}.{end}": data for end, data in documents_of(subject.lineage).items()}
    missing = [name for name in documents if not (directory / name).is_file()]
    if missing:
        return FAIL, f"not there: {', '.join(missing)}; `s7 model-card FILE --out {directory.name}`"
    stale = [name for name, data in documents.items() if read_bytes(directory / name) != data]
    if stale:
        return FAIL, f"other bytes than the seal gives: {', '.join(stale)}; write them again"
    return PASS, f"{len(documents)} documents have the bytes that the seal gives"


def _licensed(subject: ReleaseSubject) -> Finding:
    policy = LicencePolicy(subject.lineage["corpus"]["licences"])
    sources = [group for group in kept_sources(subject.lineage) if group.get("domain") != "tune"]
    refused = [f"{group.get('source')}: {group.get('licence')}" for group in sources
               if policy.judge(group.get("licence")).reason]  # fmt: skip
    if refused:
        return FAIL, f"{len(refused)} sources have a licence that the recipe does not allow: {refused[0]}"
    if not sources:
        return OPEN, "the file names no source"
    return PASS, f"{len(sources)} sources, each under a licence that the recipe allows"


def _proved_origin(subject: ReleaseSubject) -> Finding:
    found, refused = find_statements(subject.path, subject.artifact.root)
    if refused:
        return FAIL, f"{refused[0].path.name}: {refused[0].why}"
    kinds = sorted({statement.kind for statement in found})
    if not kinds:
        return OPEN, "no statement lies beside the file: `s7 reproduce FILE` makes one"
    return PASS, f"{len(found)} statements: {', '.join(kinds)}"


def _quality(subject: ReleaseSubject) -> Finding:
    figures = subject.lineage["quantisation"]["figures"]
    outcome = figures.get("outcome") if isinstance(figures, dict) else None
    if outcome is None:
        return OPEN, "the seal holds no quality gate"
    state = PASS if outcome == "met" else FAIL
    return state, f"integers against FP32: {outcome}, {figures.get('bpb_increase'):+.5f} of bits per byte"


def _gated(subject: ReleaseSubject) -> Finding:
    named = gates.load_gates(subject.gates)
    states = gates.scorecard(named, gates.runs_of(subject.artifact.root, subject.runs)[0])
    if failed := [row for row in states if row.state == "not met"]:
        return FAIL, f"{named.name}: {failed[0].id} is {failed[0].figure:.4f}, wanted {failed[0].wanted}"
    if unmeasured := [row for row in states if row.state != "met"]:
        return OPEN, f"{named.name}: {len(unmeasured)} of {len(states)} gates are not measured: `s7 eval`"
    return PASS, f"{named.name}: {len(states)} gates are met"


def _risked(subject: ReleaseSubject) -> Finding:
    figures = collect(subject.artifact, subject.runs, subject.run)
    states = risk_states(load_risks(subject.risks), figures)
    if hit := triggered(states):
        return FAIL, f"{hit[0].id} ({hit[0].trigger}, found {hit[0].figure:g}): {hit[0].then}"
    unmeasured = [row.id for row in states if row.state == "not measured"]
    if unmeasured:
        return OPEN, f"none of {len(states)} is triggered; not measured: {', '.join(unmeasured)}"
    return PASS, f"none of {len(states)} risks is triggered"


def _signed(subject: ReleaseSubject) -> Finding:
    path = find_signature(subject.path)
    if not path.exists():
        state = OPEN if subject.key is None else FAIL
        return state, "not signed: `s7 sign FILE --key KEY`"
    if subject.key is None:
        return OPEN, f"{path.name} is there and was not checked: give --key PUB"
    check_signature(subject.path, path, subject.key)
    return PASS, f"{path.name} holds for {subject.key.name}"


Check = Callable[[ReleaseSubject], Finding]
_REFUSED, _POOR = ArtifactError.exit_code, QualityError.exit_code
# Name, requirement, exit code of a failure, check. The order is that of the table.
CHECKS: tuple[tuple[str, str, int, Check], ...] = (
    ("verify", "B6", _REFUSED, _verified),
    ("self-test", "B6", _REFUSED, _self_tested),
    ("index", "C20", _REFUSED, _indexed),
    ("documents", "C16", _REFUSED, _documented),
    ("licences", "A5", _REFUSED, _licensed),
    ("provenance", "D6", _REFUSED, _proved_origin),
    ("quality", "B4", _POOR, _quality),
    ("gates", "C0", _POOR, _gated),
    ("risks", "C19", _POOR, _risked),
    ("signature", "C16", _REFUSED, _signed),
)


def release_table(subject: ReleaseSubject) -> list[ReleaseRow]:
    """Return every row of the table. A check that is refused is a row that fails.

    Raises:
        UsageError: a library, a table or a key is missing.
    """
    rows = []
    for name, requirement, exit_code, check in CHECKS:
        try:
            state, detail = check(subject)
        except (UsageError, StorageError):
            raise
        except SevenfoldError as error:
            state, detail, exit_code = FAIL, str(error), error.exit_code
        rows.append(
            ReleaseRow(
                name=name,
                requirement=requirement,
                state=state,
                detail=" ".join(detail.split()),
                exit_code=exit_code,
            )
        )
    return rows


def require_release(rows: Sequence[ReleaseRow], where: str, *, is_strict: bool = False) -> None:
    """Refuse a table with a row that fails, or, if strict, with one that is open.

    Raises:
        ArtifactError: the file, a document or a statement is refused.
        QualityError: a gate or a risk decides; or, if strict, a row is open.
    """
    for code, error in ((_REFUSED, ArtifactError), (_POOR, QualityError)):
        if failed := [row for row in rows if row.state == FAIL and row.exit_code == code]:
            said = "; ".join(f"{row.name}: {row.detail}" for row in failed)
            raise error(said, where=where, remedy="see the table")
    if is_strict and (open_rows := [row.name for row in rows if row.state == OPEN]):
        raise QualityError(
            f"{len(open_rows)} rows are open: {', '.join(open_rows)}",
            where=where,
            remedy="record what they name",
        )
