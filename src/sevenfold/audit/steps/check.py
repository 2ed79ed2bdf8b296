"""`s7 audit --check BUNDLE`: compute the step of a bundle again and compare it with the claims of
the bundle.

No corpus, tokenizer or run is needed. Cost: one step, and two hashes of weights and moments.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sevenfold.audit.records import Difference
from sevenfold.audit.steps.bundle import Batch, StepBundle, read_bundle
from sevenfold.core.errors import TrainingError, storage
from sevenfold.core.hashing import Json
from sevenfold.core.process.log import Progress, Silent
from sevenfold.model.transformer import Transformer
from sevenfold.train.checkpoints.checkpoint import Checkpoint, state_root
from sevenfold.train.data.curriculum import ContextStage
from sevenfold.train.data.dataset import TrainingData
from sevenfold.train.data.indexed_tokens import IndexedTokens
from sevenfold.train.data.objectives import Objective
from sevenfold.train.loop import Recording, TrainingRun, use_deterministic_kernels
from sevenfold.train.phases import EXPERTS, TrainingPhase
from sevenfold.train.recording.records import Unrecorded, trace_row
from sevenfold.train.tuning.preferences import pairs_of

CLAIMED = ("loss", "learning_rate", "grad_norm", "gradient", "weights", "chain", "state_after")


@dataclass(frozen=True)
class GivenRows:
    """The rows of one step, whatever step number is requested."""

    rows: Batch

    @property
    def batch_sequences(self) -> int:
        """Return the number of rows."""
        return self.rows.ids.shape[0]

    @property
    def sequence(self) -> int:
        """Return the number of tokens of a row, without the target of the last."""
        return self.rows.ids.shape[1] - 1

    def batch(self, _step: int) -> NDArray[np.int64]:
        """Return int64 [rows, T + 1]."""
        ids: NDArray[np.int64] = self.rows.ids.numpy()
        return ids

    def counted(self, _step: int) -> NDArray[np.float32] | None:
        """Return float32 [rows, T], or None when all targets count."""
        counted: NDArray[np.float32] | None = None if self.rows.counted is None else self.rows.counted.numpy()
        return counted

    def domains(self, _step: int) -> list[str]:
        """Return no domain, because domains take no part in a step."""
        return [""] * self.batch_sequences

    def spans(self, _step: int) -> list[tuple[str, int, int]]:
        """Return nothing, because a bundle does not say where its rows come from."""
        return []

    def items(self, _step: int) -> list[int]:
        """Return 0, 1, 2 and so on: a bundle does not say which pairs these are."""
        counted = self.counted(0)
        return [] if counted is None else list(range(len(pairs_of(counted))))

    def epochs(self, _n_steps: int) -> dict[str, float]:
        """Return nothing, because a bundle holds no corpus."""
        return {}


def run_of(bundle: StepBundle, directory: Path) -> TrainingRun:
    """Return the run of a bundle in the state before its step. Nothing is written to `directory`."""
    facts = bundle.facts
    model = Transformer(facts.model)
    model.expert_of_token, model.document_start = bundle.router, facts.document_start
    objectives = tuple(
        Objective(
            name=term.name,
            weight=term.weight,
            source=GivenRows(rows),
            split=IndexedTokens(path=directory / "none"),
            preferences=term.preferences,
        )
        for term, rows in zip(facts.terms, bundle.batch, strict=True)
    )
    stage = ContextStage(
        first_step=0,
        sequence=facts.train.sequence,
        batch_sequences=facts.train.batch_sequences,
        rope_scaling=facts.rope_scaling,
    )
    phase = TrainingPhase(
        name=facts.part,
        # The losses of earlier steps are unknown here, so a jump of the loss is not judged.
        spec=facts.train.model_copy(update={"spike": 0.0}),
        mix={},
        trains=EXPERTS if facts.trains == "expert" else facts.trains,
        stack=facts.stack,
    )
    run = TrainingRun(
        model=model,
        phase=phase,
        data=TrainingData(objectives=objectives),
        directory=directory,
        key="",
        progress=Silent(),
        stages=(stage,) if facts.is_curriculum else (),
        base=bundle.base,
        recording=Recording(is_bound=False),
    )
    use_deterministic_kernels()
    run.take(
        Checkpoint(
            key="",
            step=facts.step - 1,
            chain=facts.chain,
            # A run writes over the tensors that it begins from, and a bundle may be used again.
            model={name: tensor.clone() for name, tensor in bundle.model.items()},
            optimizer={name: tensor.clone() for name, tensor in bundle.optimizer.items()},
            rng=torch.get_rng_state(),
            seed=facts.train.seed,
        )
    )
    model.rope.use(facts.rope_scaling)
    model.train()
    return run


def computed_claims(run: TrainingRun) -> dict[str, Json]:
    """Run the next step of a run and return everything that a bundle claims of it. Raises
    TrainingError.
    """
    step, chain = run.step + 1, run.chain
    row: dict[str, Json] = run.advance(Unrecorded())
    link = trace_row({name: parameter for parameter, name in run.names.items()}, step, chain)
    return row | link | {"state_after": state_root(run.step, run.weights(), run.moments())}


def differences_of(bundle: StepBundle, actual: dict[str, Json], where: str) -> list[Difference]:
    """Return each claim of a bundle that differs from the computed value."""
    claims, step = bundle.facts.claims, bundle.facts.step
    return [
        Difference(where=where, step=step, field=name, expected=getattr(claims, name), actual=actual[name])
        for name in CLAIMED
        if repr(getattr(claims, name)) != repr(actual[name])
    ]


def check_step(path: Path, progress: Progress) -> dict[str, Json]:
    """Compute the step of the bundle at `path` again.

    Returns:
        The outcome: `same`, and each claim that does not hold.

    Raises:
        StepBundleError: the bundle is refused.
        StorageError: it cannot be read.
    """
    progress.note(f"audit: reads {path}")
    bundle = read_bundle(path)
    facts = bundle.facts
    progress.note(f"audit: computes step {facts.step} of {facts.part or 'the run'} again")
    with storage(), tempfile.TemporaryDirectory(prefix="s7-audit-") as name:
        try:
            actual = computed_claims(run_of(bundle, Path(name)))
            differences = differences_of(bundle, actual, path.name)
        except TrainingError as error:
            loss = facts.claims.loss
            differences = [
                Difference(where=path.name, step=facts.step, field="loss", expected=loss, actual=error.what)
            ]
    return {
        "audit": "check",
        "path": str(path),
        "same": not differences,
        "step": facts.step,
        "part": facts.part,
        "origin": facts.origin.model_dump(mode="json"),
        "state_before": facts.claims.states[-1],
        "claims": facts.claims.model_dump(mode="json", exclude={"states"}),
        "differences": [difference.as_json() for difference in differences],
        "first_step": facts.step if differences else None,
        "warnings": [],
    }
