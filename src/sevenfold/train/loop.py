"""The training loop: fixed order, one seed, deterministic kernels; stops cleanly, resumes to the same bits.

Every reduction that crosses rows goes through `ordered_sum`, because PyTorch splits a full-tensor `.sum()` by thread. With that,
one thread and two give the same weights (tests/train).
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor

from sevenfold.core.errors import TrainingError
from sevenfold.core.log import Progress
from sevenfold.core.rng import derive_seed
from sevenfold.model.loss import head_loss
from sevenfold.model.transformer import Transformer
from sevenfold.recipe.schema import TrainSpec
from sevenfold.train.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from sevenfold.train.curriculum import ContextStage, Source, stage_at
from sevenfold.train.records import CHAIN_START, Recorder, Records, is_trace_point, trace_row
from sevenfold.train.schedule import learning_rate, n_steps

_LEAF = 1024
_SMOOTHING = 0.95


def ordered_sum(values: Tensor) -> Tensor:
    """Sum of a 1-D tensor in an order that no thread count changes: rows of 1024, then rows of the sums."""
    while values.numel() > 1:
        padded = torch.nn.functional.pad(values, (0, -values.numel() % _LEAF))
        values = padded.view(-1, _LEAF).sum(1)
    return values.reshape(())


def clip_gradients(parameters: list[Tensor], max_norm: float) -> float:
    """Scale all gradients so that their joint L2 norm is at most `max_norm`; return the norm before."""
    squares = [p.grad.flatten(1).square().sum(1) if p.dim() > 1 else p.grad.square() for p in parameters]
    norm = math.sqrt(float(ordered_sum(torch.cat(squares))))
    if norm > max_norm:
        for p in parameters:
            p.grad.mul_(max_norm / norm)
    return norm


def use_deterministic_kernels() -> None:
    """Ask PyTorch for deterministic kernels, without filling fresh memory (9 % of a step, and decides nothing here)."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Within this block Ctrl-C and SIGTERM set an event, so that a step is never cut in two."""
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


@dataclass(kw_only=True)
class Run:
    """One training run in one directory. `key` names recipe and data; only checkpoints with this key are resumed.

    An audit is the same run with another `recorder`, stopped after step `last`.
    """

    model: Transformer
    spec: TrainSpec
    batches: Source
    directory: Path
    key: str
    progress: Progress
    stages: tuple[ContextStage, ...] = ()  # of a context curriculum; one or none: nothing changes on the way
    recorder: Callable[[Path, int], Recorder] = Records
    last: int | None = None
    step: int = 0
    chain: str = CHAIN_START
    smoothed: float = field(default=float("nan"))

    def __post_init__(self) -> None:
        self.parameters = [p for _, p in sorted(self.model.named_parameters())]
        self.names = {p: n for n, p in self.model.named_parameters()}
        decayed = [p for p in self.parameters if p.dim() > 1]
        plain = [p for p in self.parameters if p.dim() == 1]
        groups = [
            {"params": decayed, "weight_decay": self.spec.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        kind = torch.optim.Adam if self.spec.optimizer == "adam" else torch.optim.AdamW
        self.optimizer = kind(groups, lr=0.0, betas=self.spec.betas, eps=self.spec.eps, fused=True)

    def start(self) -> None:
        """Initialise from the seed, or go on from the newest checkpoint of this run."""
        torch.manual_seed(derive_seed(self.spec.seed, "dropout"))
        checkpoint = latest_checkpoint(self.directory, self.key)
        if checkpoint is None:
            generator = torch.Generator().manual_seed(derive_seed(self.spec.seed, "init"))
            self.model.initialize(generator, self.spec.init_std)
            return
        self.model.load_state_dict(checkpoint.model)
        restore_optimizer(self.optimizer, self.names, checkpoint.optimizer)
        torch.set_rng_state(checkpoint.rng)
        self.step, self.chain = checkpoint.step, checkpoint.chain
        self.progress.note(f"resuming at step {self.step} of {n_steps(self.spec)}")

    def save(self) -> None:
        """Write a checkpoint of the present state."""
        save_checkpoint(
            self.directory,
            Checkpoint(
                key=self.key,
                step=self.step,
                chain=self.chain,
                model=self.model.state_dict(),
                optimizer=optimizer_tensors(self.optimizer, self.names),
                rng=torch.get_rng_state(),
            ),
            self.spec.keep_every,
        )

    def _is_checkpoint(self) -> bool:
        spec = self.spec
        kept = spec.keep_every > 0 and self.step % spec.keep_every == 0
        return kept or self.step % spec.checkpoint_every == 0

    def _gradients(self) -> float:
        """Forward and backward of one step, in micro-batches; returns the mean loss in nats."""
        batch = torch.from_numpy(self.batches.batch(self.step))
        n_tokens = batch.shape[0] * (batch.shape[1] - 1)
        micro = self.spec.micro_batch_sequences or self.spec.batch_sequences
        # Micro batches keep their tokens when a curriculum makes rows longer.
        micro = max(1, micro * self.spec.sequence // (batch.shape[1] - 1))
        self.optimizer.zero_grad()
        total = 0.0
        for rows in batch.split(micro):
            hidden = self.model.hidden(rows[:, :-1])
            loss = head_loss(hidden, self.model.head_weight, rows[:, 1:], n_tokens)
            loss.backward()
            total += float(loss.detach())
        return total

    def _enter_stage(self) -> dict[str, int]:
        """Turn positions as the stage of this step says; what its metrics row adds."""
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

    def _step(self, records: Recorder) -> float:
        stage = self._enter_stage()
        rate = learning_rate(self.spec, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._gradients()
        norm = clip_gradients(self.parameters, self.spec.clip_norm)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"loss {loss}, gradient norm {norm} at step {self.step}",
                where=f"windows at tokens {self.batches.starts(self.step)} of train.tokens",
                remedy="the last checkpoint is intact; lower train.learning_rate or inspect these windows",
            )
        self.optimizer.step()
        self.step += 1
        tokens = self.step * self.spec.batch_sequences * self.spec.sequence
        row = {"step": self.step, "loss": loss, "learning_rate": rate, "grad_norm": norm, "tokens": tokens}
        row |= stage
        records.metric(row)
        if is_trace_point(self.step, n_steps(self.spec)):
            link = trace_row(self.model, self.step, self.chain)
            self.chain = str(link["chain"])
            records.trace(link)
        return loss

    def _report(self, loss: float, first: int, began: float) -> None:
        self.smoothed = (
            loss if math.isnan(self.smoothed) else _SMOOTHING * self.smoothed + (1 - _SMOOTHING) * loss
        )
        elapsed = max(time.monotonic() - began, 1e-9)
        rate = (self.step - first) * self.spec.batch_sequences * self.spec.sequence / elapsed
        self.progress.advance(self.step, loss=self.smoothed, tokens_per_second=rate)

    def train(self) -> None:
        """Run to the end.

        Raises:
            KeyboardInterrupt: after a checkpoint, when a stop was asked for.
            TrainingError: the loss or the gradient is not finite.
            StorageError: a record or a checkpoint cannot be written.
            SevenfoldError: what the recorder raises.
        """
        use_deterministic_kernels()
        self.start()
        self.model.train()
        total, first, began = self.last or n_steps(self.spec), self.step, time.monotonic()
        records = self.recorder(self.directory, self.step)
        self.progress.start("train", total, "steps")
        try:
            with stop_requests() as stop:
                while self.step < total:
                    self._report(self._step(records), first, began)
                    if stop.is_set() or self.step == total or self._is_checkpoint():
                        records.flush()
                        self.save()
                    if stop.is_set():
                        raise KeyboardInterrupt
        finally:
            records.close()
