"""Stage `train`: token files to a float checkpoint, with metrics and a gradient trace.

Reads tokenizer/train.tokens, heldout.tokens, tokenizer.json (and router.json); writes model.safetensors, metrics.jsonl,
trace.jsonl. Checkpoints and TensorBoard events stay in the directory as working files, not outputs.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from sevenfold.core.errors import RecipeError, StorageError
from sevenfold.core.files import read_bytes, write_bytes
from sevenfold.core.hashing import Json, digest
from sevenfold.model.causal import kernel_name
from sevenfold.model.linear import backend_name
from sevenfold.model.transformer import Transformer, count_parameters
from sevenfold.recipe.job import Job, StageResult
from sevenfold.recipe.pretrained import pretrained_file
from sevenfold.recipe.schema import ExpertStacks, Recipe, TokenRouted
from sevenfold.tokenizer.codec import Tokenizer
from sevenfold.tokenizer.shards import open_tokens
from sevenfold.train.batches import Batches, evaluation_starts
from sevenfold.train.curriculum import ContextStage, StagedBatches, context_stages
from sevenfold.train.evaluate import Score, float_score, windows
from sevenfold.train.long_context import Buckets, first_edge
from sevenfold.train.loop import Run
from sevenfold.train.records import METRICS, TRACE
from sevenfold.train.schedule import n_steps

STAGE = "train"
WEIGHTS = "model.safetensors"


def check_supported(recipe: Recipe) -> None:
    """Refuse what this trainer does not do yet, by name, before any work is done. Raises RecipeError."""
    spec, train = recipe.model, recipe.train
    unsupported = [
        (isinstance(spec.moe, ExpertStacks), "model.moe.kind expert_stacks"),
        (train.precision != "fp32", f"train.precision {train.precision}"),
        (train.objectives.fim > 0 or train.objectives.cot > 0, "train.objectives fim and cot"),
        (bool(train.phases), "train.phases"),
    ]
    missing = [name for is_asked, name in unsupported if is_asked]
    if missing:
        raise RecipeError(
            f"this version plans but does not train: {', '.join(missing)}",
            where=recipe.name,
            remedy="`s7 plan` sizes it; train a dense or token-routed FP32 recipe",
        )
    context_stages(recipe)


def token_lengths(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """UTF-8 bytes of each token id; 0 for special tokens."""
    return np.array([len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)], np.int64)


def read_router(job: Job) -> torch.Tensor | None:
    """Expert of each token id, int64 [V], for token-routed recipes. Raises StorageError."""
    if not isinstance(job.recipe.model.moe, TokenRouted):
        return None
    return torch.tensor(json.loads(read_bytes(job.directory("tokenizer") / "router.json")), dtype=torch.int64)


def load_tokenizer(job: Job) -> Tokenizer:
    """The run's own tokenizer. Raises StorageError."""
    return Tokenizer.from_json(read_bytes(job.directory("tokenizer") / "tokenizer.json"))


def held_out_rows(job: Job, n_windows: int | None = None) -> NDArray[np.int64]:
    """Windows of the held-out stream, [n, sequence + 1]: all, or evenly spaced ones."""
    sequence = context_stages(job.recipe)[-1].sequence
    held = open_tokens(job.directory("tokenizer") / "heldout.tokens").tokens
    return windows(held, evaluation_starts(len(held), sequence, n_windows), sequence)


def build_model(job: Job) -> Transformer:
    """A model of the recipe's shape with its router in place; weights not set."""
    model = Transformer(job.recipe.model)
    model.expert_of_token = read_router(job)
    model.recompute = job.recipe.train.activation_checkpointing
    if job.recipe.train.packing == "documents":
        model.document_start = load_tokenizer(job).eot_id
    return model


def tools() -> dict[str, str]:
    """What decides the bits of a run beside the recipe and the data."""
    return {
        "torch": torch.__version__,
        "matmul": backend_name(),
        "attention": kernel_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
    }


def training_run(job: Job, directory: Path) -> Run:
    """The run that the recipe and the token files of `job` define, with its files in `directory`. Raises StorageError."""
    spec, train_path = job.recipe.train, job.directory("tokenizer") / "train.tokens"
    tokens, stages = open_tokens(train_path).tokens, context_stages(job.recipe)

    def source(stage: ContextStage) -> Batches:
        return Batches(tokens=tokens, sequence=stage.sequence, batch_sequences=stage.batch_sequences)

    return Run(
        model=build_model(job),
        spec=spec,
        batches=StagedBatches(stages, source),
        stages=stages,
        directory=directory,
        key=_run_key(job, train_path),
        progress=job.progress,
    )


def _run_key(job: Job, train_tokens: Path) -> str:
    recipe = job.recipe
    sections = [recipe.model.model_dump_json(), recipe.train.model_dump_json()]
    if recipe.context is not None:
        sections.append(recipe.context.model_dump_json())
    return digest("sevenfold/run/1", *sections, job.manifest("tokenizer").root, train_tokens.name)


def _trained(job: Job, directory: Path) -> Transformer:
    training = training_run(job, directory)
    training.train()
    return training.model


def _imported(job: Job, directory: Path) -> Transformer:
    """A model with the weights that `model.pretrained` names; its histories are empty. Raises StorageError."""
    model = build_model(job)
    state = load_tensors(read_bytes(pretrained_file(job, WEIGHTS)))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise StorageError(
            "the imported weights are not of the recipe's shape", where=str(job.recipe_dir)
        ) from error
    for name in (METRICS, TRACE):
        write_bytes(directory / name, b"")
    return model


def _history(job: Job, directory: Path, score: Score) -> dict[str, Json]:
    """What the run did: steps, tokens, loss; of an import, where it comes from."""
    spec = job.recipe.train
    if job.recipe.model.pretrained:
        loss = score.nats / score.n_tokens  # there is no training loss; this is the held-out one
        return {"n_steps": 0, "n_tokens": 0, "final_loss": loss, "origin": job.recipe.model.pretrained}
    return {
        "n_steps": n_steps(spec),
        "n_tokens": n_steps(spec) * spec.batch_sequences * spec.sequence,
        "final_loss": _last_losses(directory / METRICS),
    }


def _last_losses(path: Path, count: int = 50) -> float:
    losses = [float(json.loads(line)["loss"]) for line in read_bytes(path).splitlines()[-count:]]
    return sum(losses) / len(losses)


def run(job: Job) -> StageResult:
    """Train, or go on training, to the end of the token budget.

    Raises:
        RecipeError: the recipe asks for what this trainer does not do.
        TrainingError, StorageError, KeyboardInterrupt: see `loop.Run.train`.
    """
    check_supported(job.recipe)
    directory = job.directory(STAGE)
    model = _imported(job, directory) if job.recipe.model.pretrained else _trained(job, directory)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(directory / WEIGHTS, save_tensors(state))

    rows = held_out_rows(job)
    job.progress.start("evaluate FP32", len(rows), "windows")
    lengths = token_lengths(load_tokenizer(job))
    buckets = Buckets(rows, lengths, first_edge(job.recipe.model), model.document_start)
    score, _ = float_score(model, rows, lengths, job.progress, buckets)
    by_position = {} if job.recipe.context is None else {"heldout_bpb_by_position": buckets.table()}
    return StageResult(
        outputs=[WEIGHTS, METRICS, TRACE],
        facts={
            "n_parameters": count_parameters(model),
            **_history(job, directory, score),
            "heldout_bpb": score.bits_per_byte,
            "heldout_tokens": score.n_tokens,
            "heldout_bytes": score.n_bytes,
            **by_position,
        },
        tools=tools(),
    )
