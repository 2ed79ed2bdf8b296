"""The training loop, with a fixed order, one seed and deterministic kernels. It stops cleanly and
resumes to the same bits.

Every reduction across rows uses `ordered_sum`, because PyTorch splits a full-tensor `.sum()` by
thread. One thread and two therefore give the same weights (tests/train).

The law of accumulation: the gradient of a step is the sum over its objectives in order, and in each
over micro-batches of `micro_batch_sequences` rows in the order of the data. FP32 is added to FP32.
A product over more rows rounds differently, so the micro-batch is part of the recipe and decides
bits. Who computes a micro-batch, and when, decides nothing. Several ranks (`ranks`, `shards`)
therefore give the weights, the records and the trace of one rank.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn

from sevenfold.core.errors import StorageError, TrainingError
from sevenfold.core.files import write_json
from sevenfold.core.hashing import Json
from sevenfold.core.numbers.floats import sum_in_order
from sevenfold.core.numbers.rng import derive_seed
from sevenfold.core.process.log import Progress
from sevenfold.core.process.memory import keep_freed_memory
from sevenfold.core.run_files import STOPPED
from sevenfold.model.kernels import operators
from sevenfold.model.kernels.operators import LAW
from sevenfold.model.transformer import Transformer
from sevenfold.train.arithmetic import arithmetic
from sevenfold.train.checkpoints.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    save_checkpoint,
    save_shards,
)
from sevenfold.train.data.curriculum import ContextStage, stage_at
from sevenfold.train.data.dataset import TrainingData
from sevenfold.train.data.objectives import metric_fields
from sevenfold.train.distributed.ranks import Ranks, here, ranks_recorded
from sevenfold.train.distributed.shards import ModelShards, gradient, local, row_squares, whole
from sevenfold.train.gradient_step import GradientStep, check_share
from sevenfold.train.optimizer import update_of
from sevenfold.train.phases import TrainingPhase
from sevenfold.train.precision import convert
from sevenfold.train.recording.environment import differences, environment
from sevenfold.train.recording.meters import LossGuard, ThroughputMeter
from sevenfold.train.recording.records import (
    CHAIN_START,
    Recorder,
    Records,
    Unrecorded,
    damaged_record,
    is_trace_point,
    record_digests,
    trace_row,
)
from sevenfold.train.schedule import learning_rate, n_steps

_LEAF = 1024


def ordered_sum(values: Tensor) -> Tensor:
    """Return the sum of a 1-D tensor in an order that no thread count changes: rows of 1024, then
    the sums of the rows.

    In FP32 on the CPU it is the sum of specs/training-arithmetic.md, in binary64.
    """
    if operators.is_taken(values):
        return torch.tensor(operators.total(values.contiguous()), dtype=torch.float64)
    while values.numel() > 1:
        padded = torch.nn.functional.pad(values, (0, -values.numel() % _LEAF))
        values = padded.view(-1, _LEAF).sum(1)
    return values.reshape(())


def clip_gradients(parameters: list[nn.Parameter], max_norm: float, ranks: Ranks | None = None) -> float:
    """Scale all gradients so that their joint L2 norm is at most `max_norm`. Return the norm before
    scaling.
    """
    norm = math.sqrt(float(ordered_sum(row_squares(parameters, ranks or here()))))
    if norm > max_norm:
        for p in parameters:
            own = gradient(p)
            if operators.is_taken(own) and own.is_contiguous():
                operators.scale(own, max_norm / norm, own)
            else:
                own.mul_(max_norm / norm)
    return norm


def use_deterministic_kernels() -> None:
    """Request deterministic kernels from PyTorch, without filling fresh memory, which takes 9 % of
    a step and decides nothing here.
    """
    torch.use_deterministic_algorithms(True)
    # PyTorch creates this attribute when it is imported, and its types do not declare it.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010  (as said)


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM inside the block into an event, so that no step is cut in two."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def request(_signal: int, _frame: FrameType | None) -> None:
        event.set()

    previous = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Where a run writes its records, and where it ends. The defaults are those of training.

    An audit is the same run. Its recorder compares, and it works in a directory without records.

    Attributes:
        recorder: a function of the directory and the step at which the run begins.
        is_bound: whether the directory holds the records that its checkpoints bind.
        last: the last step; None means the end of the token budget.
    """

    recorder: Callable[[Path, int], Recorder] = Records
    is_bound: bool = True
    last: int | None = None


@dataclass(kw_only=True)
class TrainingRun:
    """The training of one phase in one directory.

    `step` counts the steps that are done, and `chain` is the last link of the trace.

    Attributes:
        data: the objectives, with their rows.
        key: names recipe and data; only checkpoints with this key are resumed.
        stages: the stages of a context curriculum; with one or none, the sequence never changes.
        base: initial weights, either those of a sealed parent, or those of the phase before, which
            this phase does not change. The others are initialised from the seed.
        branch: for a recipe with `train.from`, a function that writes the state of the trunk into a
            directory as a checkpoint with a key.
    """

    model: Transformer
    phase: TrainingPhase
    data: TrainingData
    directory: Path
    key: str
    progress: Progress
    stages: tuple[ContextStage, ...] = ()
    base: Mapping[str, Tensor] = field(default_factory=dict)
    ranks: Ranks = field(default_factory=here)
    meter: ThroughputMeter = field(default_factory=ThroughputMeter)
    recording: Recording = Recording()
    branch: Callable[[Path, str], None] | None = None
    step: int = field(default=0, init=False)
    chain: str = field(default=CHAIN_START, init=False)

    def __post_init__(self) -> None:
        spec = self.spec = self.phase.spec
        trained = self.phase.trained(name for name, _ in self.model.named_parameters())
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in trained)
        check_share(self.data.objectives, spec, self.ranks)
        convert(self.model, spec.precision, self.ranks.device)
        self.arithmetic = arithmetic(self.model.spec, spec, self.ranks.device)
        self.shards = ModelShards(self.model, self.ranks, spec.reduction)
        named = {n: p for n, p in sorted(self.model.named_parameters()) if p.requires_grad}
        self.parameters, self.names = list(named.values()), {p: n for n, p in named.items()}
        self.model.recompute = spec.activation_checkpointing
        self.gradients = GradientStep(
            model=self.model,
            shards=self.shards,
            phase=self.phase,
            objectives=self.data.objectives,
            row_tokens=spec.sequence if self.stages else 0,
            reference=self._reference(),
        )
        self.optimizer = update_of(named, spec, self.arithmetic)
        self.guard = LossGuard(spike=spec.spike)

    def _reference(self) -> Transformer | None:
        """Return a model with the weights that the run begins with, which is not trained, where pairs
        of answers are compared with it.
        """
        if all(objective.preferences is None for objective in self.data.objectives):
            return None
        model = Transformer(self.model.spec)
        model.expert_of_token, model.document_start = self.model.expert_of_token, self.model.document_start
        model.load_state_dict(dict(self.base))
        model.requires_grad_(False)
        convert(model, self.spec.precision, self.ranks.device)
        return model.to(self.ranks.device).eval()

    def _state(self) -> dict[str, Tensor]:
        """Return the rows of this rank of the weights of this run: those that it trains, or all
        weights of the model.
        """
        if self.phase.is_partial:
            return {name: parameter.detach() for parameter, name in self.names.items()}
        return self.model.state_dict()

    def weights(self) -> dict[str, Tensor]:
        """Return the whole weights of this run on the CPU of the first rank, and nothing on the
        others.

        A collective.
        """
        return self._gathered(self._state())

    def moments(self) -> dict[str, Tensor]:
        """Return the whole state of the optimiser in the form of `weights`."""
        return self._gathered(self.optimizer.tensors())

    def _gathered(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parts = ((name, whole(tensor)) for name, tensor in tensors.items())
        return {name: tensor.cpu() for name, tensor in parts if self.ranks.is_first}

    def environment(self) -> dict[str, str]:
        """Return what a checkpoint records besides the state: the environment, and the number of
        ranks where it decides bits.
        """
        recorded = {name: str(value) for name, value in ranks_recorded(self.spec, self.ranks).items()}
        return environment(self.ranks.device, self.spec.precision, self.arithmetic) | recorded

    @torch.no_grad()
    def _initialize(self) -> None:
        key = derive_seed(self.spec.seed, "init")
        if self.arithmetic == LAW:
            drawn = self.model.drawn(key, self.spec.init_std)
        else:
            drawn = self.model.initial(torch.Generator().manual_seed(key), self.spec.init_std)
        for name, value in drawn:
            self.shards.put(self.model.get_parameter(name), self.base.get(name, value))

    def _damaged_record(self, bound: Mapping[str, Json]) -> str | None:
        return damaged_record(self.directory, bound) if self.recording.is_bound else None

    def take(self, checkpoint: Checkpoint | None) -> None:
        """Set weights, moments and step from a checkpoint. Without one, initialise from the seed.

        Frozen weights are initialised, or taken from `base`, in both cases. Raises StorageError when
        a run that goes on from a trunk has no checkpoint, because it cannot begin from the seed.
        """
        if checkpoint is None and self.spec.trunk:
            raise StorageError(
                f"the state of {self.spec.trunk.name} that this run continues is missing",
                where=str(self.directory),
                remedy="run `s7 train` again: it takes the state from the trunk's run",
            )
        if checkpoint is None or self.phase.is_partial:
            self._initialize()
        if checkpoint is None:
            return
        with torch.no_grad():
            for name, rows in checkpoint.model.items():
                local(self.model.get_parameter(name)).copy_(rows)
        self.optimizer.restore(checkpoint.optimizer)
        self.step, self.chain = checkpoint.step, checkpoint.chain

    def _latest(self) -> Checkpoint | None:
        return latest_checkpoint(
            self.directory, self.key, self.ranks, note=self.progress.note, damaged_record=self._damaged_record
        )

    def start(self) -> None:
        """Initialise from the seed or the trunk, or resume from the newest checkpoint of this run."""
        checkpoint = self._latest()
        if checkpoint is None and self.branch is not None:
            if self.ranks.is_first:
                self.branch(self.directory, self.key)
            # The first rank has written the files of the trunk now.
            self.ranks.barrier()
            checkpoint = self._latest()
        self.take(checkpoint)
        if checkpoint is None:
            return
        torch.set_rng_state(checkpoint.rng)
        self.guard.losses[:] = checkpoint.losses
        self.progress.note(f"resuming at step {self.step} of {n_steps(self.spec)}")
        for line in differences(checkpoint.environment, self.environment()):
            self.progress.note(f"warning: {line}; from step {self.step + 1} on the bits may differ")

    def save(self, *, is_last: bool = False) -> None:
        """Write a checkpoint: a file for one rank, a directory for several.

        The last checkpoint of a run is always a file.
        """
        state, moments = self._state(), self.optimizer.tensors()
        as_file = is_last or self.ranks.is_alone
        if as_file:
            state, moments = self._gathered(state), self._gathered(moments)
        checkpoint = Checkpoint(
            key=self.key,
            step=self.step,
            chain=self.chain,
            model=state,
            optimizer=moments,
            rng=torch.get_rng_state(),
            seed=self.spec.seed,
            losses=tuple(self.guard.losses),
            environment=self.environment(),
            records=record_digests(self.directory) if self.ranks.is_first else {},
        )
        if not as_file:
            save_shards(self.directory, checkpoint, self.ranks, self.spec.keep_every, self.spec.first_step)
            return
        if self.ranks.is_first:
            save_checkpoint(self.directory, checkpoint, self.spec.keep_every, self.spec.first_step)
        self.ranks.barrier()

    def _is_checkpoint(self) -> bool:
        spec = self.spec
        kept = spec.keep_every > 0 and self.step % spec.keep_every == 0
        return kept or self.step % spec.checkpoint_every == 0

    def _enter_stage(self) -> dict[str, Json]:
        """Set the position scaling of this step, and return the fields that it adds to the metrics."""
        if len(self.stages) < 2:
            return {}
        stage = stage_at(self.stages, self.step)
        scaling = stage.rope_scaling
        if self.step == stage.first_step or self.model.rope.scaling != scaling:
            self.progress.note(
                f"step {self.step}: {stage.batch_sequences} sequences of {stage.sequence} tokens, "
                f"RoPE scaling {scaling.kind}, factor {scaling.factor:g}"
            )
        if self.model.rope.scaling != scaling:
            self.model.rope.use(scaling)
        return {"sequence": stage.sequence}

    def advance(self, records: Recorder) -> Json:
        """Run one step, record it and return its row of metrics. A collective.

        Raises:
            TrainingError: the loss or the gradient is not finite, or the loss jumped.
            SevenfoldError: what the recorder raises.
        """
        stage = self._enter_stage()
        rate = learning_rate(self.spec, self.step)
        parts = self.gradients.run(self.step)
        norm = clip_gradients(self.parameters, self.spec.clip_norm, self.ranks)
        loss = sum_in_order(part.objective.weight * part.loss for part in parts)
        reason = self.guard.judge(loss, norm)
        if reason:
            self._stop(reason, loss, norm)
        self.optimizer.step(rate)
        self.step += 1
        tokens = self.step * self.spec.batch_sequences * self.spec.sequence
        row = {"step": self.step, "loss": loss, "learning_rate": rate, "grad_norm": norm, "tokens": tokens}
        row |= stage
        row |= metric_fields(parts, self.step - 1)
        records.metric(row)
        if is_trace_point(self.step, n_steps(self.spec)):
            link = trace_row({n: p for p, n in self.names.items()}, self.step, self.chain)
            self.chain = str(link["chain"])
            records.trace(link)
            # The first rank has computed its hashes.
            self.ranks.barrier()
        return row

    def _stop(self, reason: str, loss: float, norm: float) -> None:
        """Report the documents of the step and stop.

        Weights and checkpoints stay as before the step.
        """
        rows = self.data.documents_of(self.step)
        path = self.directory / STOPPED
        report = {"step": self.step, "reason": reason, "loss": repr(loss), "grad_norm": repr(norm)}
        if self.ranks.is_first:
            write_json(path, report | {"rows": rows})
        documents = list(dict.fromkeys(document for row in rows for document in row["documents"]))
        more = f" and {len(documents) - 3} others" if len(documents) > 3 else ""
        raise TrainingError(
            f"{reason} at step {self.step}",
            where=f"documents {', '.join(documents[:3])}{more}" if documents else "train",
            remedy=f"the last checkpoint is intact; {path} names all of the batch;"
            " lower train.learning_rate, or drop them",
        )

    def train(self) -> None:
        """Run to the end.

        Raises:
            KeyboardInterrupt: a stop was requested; a checkpoint is written first.
            TrainingError: the loss or the gradient is not finite, or the loss jumped.
            StorageError: a record or a checkpoint cannot be written.
            SevenfoldError: what the recorder raises.
        """
        use_deterministic_kernels()
        keep_freed_memory()
        self.start()
        self.model.train()
        total = self.recording.last or n_steps(self.spec)
        records = self.recording.recorder(self.directory, self.step) if self.ranks.is_first else Unrecorded()
        # Opening the records takes the first rank some time.
        self.ranks.barrier()
        self.progress.start(f"train{self.phase.path}", total, "steps")
        self.meter.begin(self.step)
        try:
            with stop_requests() as stop:
                while self.step < total:
                    self.meter.report(self.progress, self.advance(records))
                    is_stopped = self.ranks.any(stop.is_set())
                    if is_stopped or self.step == total or self._is_checkpoint():
                        records.flush()
                        self.save(is_last=self.step == total)
                    if is_stopped:
                        raise KeyboardInterrupt
                # A stop requested after the last step must not be lost with the handler of this
                # block.
                if stop.is_set():
                    raise KeyboardInterrupt
        finally:
            records.close()
