"""Find the first operator in which two accounts of one step differ (specs/dispute.md).

The report names the operator, its inputs, the results of both sides, the result computed here, and
the exact fractions for the elements that differ. The step is computed again from the common state,
so no corpus is needed. Cost: a step with hashes of all inputs and outputs of its operators.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sevenfold.audit.exact.oracle import Question, element, same
from sevenfold.audit.steps.bundle import StepBundle
from sevenfold.audit.steps.check import CLAIMED, run_of
from sevenfold.audit.steps.transcript import (
    Kept,
    Parting,
    Transcript,
    TranscriptRow,
    find_parting,
    hash_of,
    rows_of,
)
from sevenfold.core.errors import ArtifactError, TrainingError, storage
from sevenfold.core.hashing import Json, finite
from sevenfold.model.kernels.observe import observing
from sevenfold.train.recording.records import Unrecorded

# How many elements the oracle computes. A difference shows in the first ones.
MOST_ELEMENTS = 16
READ = "micro_batch"


@dataclass(frozen=True, kw_only=True)
class DisputeFinding:
    """The result of a dispute.

    Args:
        place: `nothing`, `recipe`, `tokens`, `state`, `step`, `operator` or `claim`.
        step: its number in the phase.
        agreed: the last step whose state both have.
        upheld: `a`, `b`, `neither`, or `open` where more evidence is needed.
        reason: one sentence.
        operator, elements: set for place `operator`.
        wanted: what a side has to provide to continue the dispute.
    """

    place: str
    reason: str
    upheld: str = "open"
    part: str = ""
    step: int | None = None
    agreed: int | None = None
    operator: Mapping[str, Json] | None = None
    elements: Mapping[str, Json] | None = None
    wanted: tuple[str, ...] = ()


def computed_here(bundle: StepBundle, key: str) -> tuple[Transcript, Kept | None]:
    """Return the transcript of the step of a bundle as this machine computes it, and the first call
    with this key.
    """
    transcript = Transcript(lambda _number, row: row.key == key)
    with storage(), tempfile.TemporaryDirectory(prefix="s7-audit-") as name:
        run = run_of(bundle, Path(name))
        # A step that stops with an error is disputed up to that point.
        with observing(transcript), suppress(TrainingError):
            run.advance(Unrecorded())
    return transcript, next(iter(transcript.kept.values()), None)


def _differing(a: Tensor, b: Tensor) -> list[int]:
    """Return the positions at which two tensors of one shape have different bits."""
    bits = {torch.float32: torch.int32, torch.float64: torch.int64}
    kind = bits.get(a.dtype, a.dtype)
    unequal = a.contiguous().view(kind).reshape(-1) != b.contiguous().view(kind).reshape(-1)
    return [int(i) for i in torch.nonzero(unequal).reshape(-1)]


def ask_oracle(kept: Kept, here: Mapping[str, Tensor], told: Mapping[str, Tensor]) -> dict[str, Json] | None:
    """Compare two outputs of a call with exact fractions, where they differ.

    Args:
        kept: the call and its inputs.
        here: its outputs as this machine computes them.
        told: its outputs as a side states them.

    Returns:
        `output`, `n_different`, `checked` (index, both values and that of the oracle), and `agrees`,
        which is `here`, `told`, `neither` or `open`. None when no output differs.
    """
    for name in sorted(here.keys() & told.keys()):
        ours, theirs = here[name], told[name]
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return {"output": name, "n_different": ours.numel(), "checked": [], "agrees": "here"}
        places = _differing(ours, theirs)
        if not places:
            continue
        checked, agreed = [], {"here": 0, "told": 0}
        for index in places[:MOST_ELEMENTS]:
            x, y = (float(tensor.reshape(-1)[index]) for tensor in (ours, theirs))
            found = element(kept.call.operator, Question(kept.inputs, kept.call.settings, name, index))
            agreed["here"] += found is not None and same(found, x)
            agreed["told"] += found is not None and same(found, y)
            oracle = None if found is None else found.hex()
            checked.append({"index": index, "here": _shown(x), "told": _shown(y), "oracle": oracle})
        winner = next((side for side, count in agreed.items() if count == len(checked)), "neither")
        if all(row["oracle"] is None for row in checked):
            winner = "open"
        return {"output": name, "n_different": len(places), "checked": checked, "agrees": winner}
    return None


def _shown(value: float) -> Json:
    shown = finite(value)
    return value.hex() if isinstance(shown, float) else shown


def _told(bundle: StepBundle, number: int, row: TranscriptRow) -> dict[str, Tensor]:
    """Return the outputs of a call in a bundle. Raises ArtifactError where they differ from its
    transcript.
    """
    prefix = f"{number}."
    found = {n.removeprefix(prefix): t for n, t in bundle.kept.items() if n.startswith(prefix)}
    for name, tensor in found.items():
        if hash_of(tensor) != row.outputs.get(name):
            raise ArtifactError(
                f"output {name} of operator {number} is not the one whose hash its transcript holds",
                where=f"step {bundle.facts.step}",
                remedy="ask the side that wrote it for another bundle",
            )
    return found


def dispute_step(a: StepBundle, b: StepBundle) -> DisputeFinding:
    """Return where two accounts of one step from the same state differ first.

    Raises:
        ArtifactError: a transcript is malformed, or a tensor differs from its transcript.
    """
    facts = a.facts
    found = DisputeFinding(place="step", reason="", part=facts.part, step=facts.step, agreed=facts.step - 1)
    lacking = [side for side, bundle in (("a", a), ("b", b)) if bundle.transcript is None]
    if lacking:
        return replace(
            found,
            reason=f"both begin step {facts.step} in one state and end it in different ones",
            wanted=tuple(f"{side}: --export-step {facts.step} OUT --operators" for side in lacking),
        )
    rows_a, rows_b = rows_of(a.transcript or []), rows_of(b.transcript or [])
    parting = find_parting(rows_a, rows_b)
    if parting is None:
        fields = [n for n in CLAIMED if getattr(a.facts.claims, n) != getattr(b.facts.claims, n)]
        return replace(
            found,
            place="claim",
            reason=f"every operator gave the same; the claims differ: {', '.join(fields)}",
        )
    here, kept = computed_here(a, rows_a[parting.a].key)
    if parting.kind == "input":
        return _input_finding(found, parting, rows_a, rows_b, here)
    return _output_finding(found, parting, (a, b), (rows_a, rows_b), here, kept)


def _operator(
    number: Mapping[str, int | None], row: TranscriptRow, outputs: Mapping[str, Json]
) -> dict[str, Json]:
    return {
        "name": row.operator,
        "number": dict(number),
        "settings": dict(row.settings),
        "inputs": dict(row.inputs),
        "outputs": dict(outputs),
    }


def _input_finding(
    found: DisputeFinding,
    parting: Parting,
    rows_a: list[TranscriptRow],
    rows_b: list[TranscriptRow],
    here: Transcript,
) -> DisputeFinding:
    """Return the finding for a call that B never made, because A's inputs are not those of B."""
    row = rows_a[parting.a]
    made_by_b = {value for other in rows_b for value in other.outputs.values()}
    lost = sorted(name for name, value in row.inputs.items() if value not in made_by_b)
    is_here = any(other.key == row.key for other in here.rows)
    theirs = find_parting(here.rows, rows_b) is None
    upheld = "a" if is_here and not theirs else "b" if theirs and not is_here else "neither"
    inputs = f": its {', '.join(lost)} is what no operator of b gave" if lost else ""
    return replace(
        found,
        place="operator",
        upheld=upheld,
        reason=f"b has no call of {row.operator} that was given the same{inputs}",
        operator=_operator({"a": parting.a, "b": None}, row, {"a": dict(row.outputs), "b": None}),
    )


def _output_finding(
    found: DisputeFinding,
    parting: Parting,
    bundles: tuple[StepBundle, StepBundle],
    rows: tuple[list[TranscriptRow], list[TranscriptRow]],
    here: Transcript,
    kept: Kept | None,
) -> DisputeFinding:
    """Return the finding for a call that both made with different results."""
    numbers = {"a": parting.a, "b": parting.b or 0}
    told = {side: own[numbers[side]] for side, own in zip("ab", rows, strict=True)}
    row = told["a"]
    computed = next((r for r in here.rows if r.key == row.key), None)
    outputs: dict[str, Json] = {side: dict(own.outputs) for side, own in told.items()}
    outputs["here"] = dict(computed.outputs) if computed else None
    operator = _operator(numbers, row, outputs)
    found = replace(found, place="operator", operator=operator)
    if row.operator == READ:
        return _rows_finding(found, rows, told)
    upheld = [side for side, own in told.items() if computed and dict(own.outputs) == dict(computed.outputs)]
    others = [side for side in "ab" if side not in upheld]
    kind = " and ".join(upheld) or "neither"
    found = replace(
        found,
        upheld=upheld[0] if upheld else "neither",
        reason=f"{row.operator} was given the same by both; what it gives here is what {kind} says",
    )
    for side in others:
        bundle = bundles["ab".index(side)]
        values = _told(bundle, numbers[side], told[side])
        if not values:
            want = f"{side}: --export-step {bundle.facts.step} OUT --operator {numbers[side]}"
            found = replace(found, wanted=(*found.wanted, want))
        elif kept is not None:
            found = _judged(found, side, ask_oracle(kept, kept.outputs, values))
    return found


def _judged(found: DisputeFinding, side: str, elements: Mapping[str, Json] | None) -> DisputeFinding:
    """Return the finding with the verdict of the oracle, which outranks the kernels of this
    machine.
    """
    if elements is None:
        return found
    named = {**elements, "told_by": side}
    if elements["agrees"] == "told":
        reason = f"{found.reason}; exact fractions agree with {side}, so the kernels here are wrong"
        return replace(found, upheld=side, reason=reason, elements=named)
    if elements["agrees"] == "here":
        return replace(found, reason=f"{found.reason}; exact fractions agree with it", elements=named)
    return replace(found, elements=named)


def _rows_finding(
    found: DisputeFinding,
    rows: tuple[list[TranscriptRow], list[TranscriptRow]],
    told: Mapping[str, TranscriptRow],
) -> DisputeFinding:
    """Return the finding for a micro-batch, which is read from the data; the order of the data
    decides.
    """
    number = told["a"].settings.get("number")
    twins = [r for r in rows[1] if r.operator == READ and dict(r.outputs) == dict(told["a"].outputs)]
    order = f"; b computes these rows as micro-batch {twins[0].settings.get('number')}" if twins else ""
    return replace(
        found,
        reason=f"micro-batch {number} has other rows{order}; recipe and token files say which are right",
    )
