"""Stage `train`: turn token files into a float checkpoint, with metrics and a gradient trace.

It reads tokenizer/train.tokens, heldout.tokens, tokenizer.json (and router.json), and writes
model.safetensors, metrics.jsonl and trace.jsonl. Checkpoints and TensorBoard events stay in the
directory as working files and are no outputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from sevenfold.core.errors import StorageError
from sevenfold.core.files import read_bytes, read_json, write_bytes, write_json
from sevenfold.core.hashing import Json, canonical_json
from sevenfold.core.run_files import METRICS, TRACE, TUNE_FACTS, WEIGHTS
from sevenfold.model.transformer import Transformer, count_parameters
from sevenfold.recipe.policy import check_optimizer
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job, StageResult
from sevenfold.runs.pretrained import pretrained_file
from sevenfold.runs.tuning import tuning_facts
from sevenfold.train.checkpoints.trunk import TRUNK, history, parent_weights, write_parent
from sevenfold.train.data.curriculum import context_stages
from sevenfold.train.data.dataset import held_out, load_tokenizer, token_lengths
from sevenfold.train.distributed.ranks import dismiss, here, ranks_recorded
from sevenfold.train.evaluation.evaluate import Score, float_score
from sevenfold.train.evaluation.long_context import Buckets, first_edge
from sevenfold.train.experts import chain_facts, epochs, train_phases
from sevenfold.train.phases import TrainingPhase, training_phases
from sevenfold.train.precision import check_precision, law, used
from sevenfold.train.recording.environment import tools_of
from sevenfold.train.run_builder import build_model, training_run
from sevenfold.train.schedule import n_steps
from sevenfold.train.tuning.gates import tuning_gate

STAGE = "train"


def check_supported(recipe: Recipe) -> None:
    """Refuse what this trainer does not support before any work is done. Raises RecipeError."""
    check_optimizer(recipe)
    context_stages(recipe)
    check_precision(recipe.train.precision)
    training_phases(recipe)


def check_job(job: Job) -> None:
    """Refuse a recipe that `check_supported` refuses, before any stage runs."""
    check_supported(job.recipe)


def fingerprint(job: Job) -> str:
    """Return what decides the bits besides the recipe sections: the order of the data and the
    roundings of BF16.
    """
    mix = canonical_json(job.recipe.corpus.mix).decode() if job.recipe.corpus.mix else ""
    tuned = " ".join(f"tune {tune.model_dump_json()}" for tune in job.recipe.tunings)
    return "".join([mix, *law(job.recipe.train.precision), tuned])


def _trained(job: Job, phases: tuple[TrainingPhase, ...], directory: Path) -> Transformer:
    write_parent(job, directory)
    if phases[0].name:
        model = train_phases(job, phases, directory)
        if job.recipe.tune is not None:
            write_json(directory / TUNE_FACTS, chain_facts(job, phases))
        return model
    if job.recipe.tune is not None:
        write_json(directory / TUNE_FACTS, tuning_facts(job))
    training = training_run(job, directory, phases[0])
    training.train()
    weights = training.weights()
    if training.ranks.is_alone and used(training.spec.precision, training.ranks.device) != "fp8":
        return training.model
    # Published scores are those of the whole model with FP32 products.
    model = build_model(job)
    model.load_state_dict(weights)
    return model


def _imported(job: Job, directory: Path) -> Transformer:
    """Return a model with the weights that `model.pretrained` names. Its histories are empty.

    Raises StorageError.
    """
    model = build_model(job)
    state = load_tensors(read_bytes(pretrained_file(job, WEIGHTS)))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise StorageError(
            "the imported weights do not have the recipe's shape", where=str(job.recipe_dir)
        ) from error
    for name in (METRICS, TRACE):
        write_bytes(directory / name, b"")
    return model


def _history(job: Job, phases: tuple[TrainingPhase, ...], directory: Path, score: Score) -> dict[str, Json]:
    """Return the facts of the run: steps, tokens and loss; for an import, its origin."""
    if job.recipe.model.pretrained:
        # An import has no training loss; this is the held-out loss.
        loss = score.nats / score.n_tokens
        return {"n_steps": 0, "n_tokens": 0, "final_loss": loss, "origin": job.recipe.model.pretrained}
    specs = [phase.spec for phase in phases]
    facts: dict[str, Json] = {
        "n_steps": sum(n_steps(spec) for spec in specs),
        "n_tokens": sum(n_steps(spec) * spec.batch_sequences * spec.sequence for spec in specs),
        "final_loss": _last_losses(directory / METRICS),
    }
    precision, device = job.recipe.train.precision, here().device
    if used(precision, device) != precision:
        facts["precision_used"] = used(precision, device)
    return facts | epochs(job, phases) | history(job)


def _last_losses(path: Path, count: int = 50) -> float:
    losses = [float(json.loads(line)["loss"]) for line in read_bytes(path).splitlines()[-count:]]
    return sum(losses) / len(losses)


def _evaluated(job: Job, model: Transformer) -> tuple[Score, dict[str, Json]]:
    """Return the FP32 score of the held-out windows. It is split by domain where there are several,
    and by position where there is a curriculum.
    """
    lengths, groups = token_lengths(load_tokenizer(job)), held_out(job, job.recipe.train.eval_windows)
    buckets = None
    if job.recipe.context is not None:
        rows = np.concatenate([group.rows for group in groups])
        buckets = Buckets(rows, lengths, first_edge(job.recipe.model), model.document_start)
    scores: dict[str, Score] = {}
    n_before = 0
    for group in groups:
        job.progress.start(f"evaluate FP32 {group.domain}".rstrip(), len(group.rows), "windows")
        watch = None if buckets is None else partial(buckets.add, n_before)
        scores[group.domain], _ = float_score(model, group.rows, lengths, job.progress, group.stack, watch)
        n_before += len(group.rows)
    first, *others = scores.values()
    domains = {name: score.bits_per_byte for name, score in scores.items() if name}
    facts: dict[str, Json] = {"heldout_domains": domains} if domains else {}
    if buckets is not None:
        facts["heldout_bpb_by_position"] = buckets.table()
    if job.recipe.train.eval_windows is not None:
        facts["heldout_windows"] = sum(len(group.rows) for group in groups)
    return sum(others, first), facts


def _tuned(job: Job, phases: tuple[TrainingPhase, ...], state: Mapping[str, torch.Tensor]) -> dict[str, Json]:
    """Return what the seal holds of a tuning. Raises TrainingError: a gate is missed."""
    if not phases[0].name:
        gate = tuning_gate(job, phases[0], parent_weights(job), state)
        return {"heldout_bpb_parent": gate["heldout_bpb_parent"], "tune": tuning_facts(job)}
    tune = read_json(job.directory(STAGE) / TUNE_FACTS)
    return {"heldout_bpb_parent": tune["phases"][0]["heldout_bpb_parent"], "tune": tune}


def run(job: Job) -> StageResult:
    """Train to the end of the token budget, resuming a run that was begun.

    Raises:
        RecipeError: the recipe asks for what this trainer does not do.
        TrainingError, StorageError, KeyboardInterrupt: see `loop.TrainingRun.train`.
    """
    check_supported(job.recipe)
    directory, ranks, phases = job.directory(STAGE), here(), training_phases(job.recipe)
    is_import = bool(job.recipe.model.pretrained)
    model = _imported(job, directory) if is_import else _trained(job, phases, directory)
    # Only the first rank continues here.
    dismiss()
    state = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(directory / WEIGHTS, save_tensors(state))
    score, by_domain = _evaluated(job, model)
    if job.recipe.tune is not None:
        by_domain |= _tuned(job, phases, state)
    tuned = [TUNE_FACTS] if job.recipe.tune else []
    return StageResult(
        outputs=[WEIGHTS, METRICS, TRACE, *([TRUNK] if job.recipe.train.origin else []), *tuned],
        facts={
            "n_parameters": count_parameters(model),
            **_history(job, phases, directory, score),
            "heldout_bpb": score.bits_per_byte,
            "heldout_tokens": score.n_tokens,
            "heldout_bytes": score.n_bytes,
            **by_domain,
            **ranks_recorded(job.recipe.train, ranks),
        },
        tools=tools_of(job.recipe, ranks.device),
    )
