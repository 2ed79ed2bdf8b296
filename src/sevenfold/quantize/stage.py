"""Stage `quantize`: turn a float checkpoint into integer records and a graph, and apply the quality
gate (B4).

It writes records.safetensors (int8), scales.json (nominal scale of each record), graph.json and
quality.json. quality.json is also written when the gate refuses the model, so that the figures can
be shown.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors

from sevenfold.core.errors import StorageError
from sevenfold.core.files import read_bytes, read_json, write_bytes, write_json
from sevenfold.core.hashing import Json
from sevenfold.core.run_files import GRAPH, QUALITY, RECORDS, SCALES, WEIGHTS
from sevenfold.engine.weights import IntegerModel, load_weights
from sevenfold.model.transformer import Block, Transformer
from sevenfold.quantize.convert import IntTensor, convert
from sevenfold.quantize.evaluate import integer_score
from sevenfold.quantize.gate import limits_of, pass_gate
from sevenfold.runs.job import Job, StageResult
from sevenfold.train.data.dataset import held_out, load_tokenizer, open_data, token_lengths
from sevenfold.train.evaluation.evaluate import Score, float_score
from sevenfold.train.phases import training_phases
from sevenfold.train.run_builder import build_model

STAGE = "quantize"
CALIBRATION_BATCHES = 4


@torch.no_grad()
def largest_residual(model: Transformer, job: Job) -> float:
    """Return the largest |x| on the residual stream over a few batches of training text. Held-out
    text is never used.
    """
    seen = [0.0]

    def watch(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        seen.append(float(output.abs().max()))

    handles = [block.register_forward_hook(watch) for block in model.modules() if isinstance(block, Block)]
    model.eval()
    for part in training_phases(job.recipe):
        batches = open_data(job, part).batches
        for step in range(CALIBRATION_BATCHES):
            model.hidden(torch.from_numpy(batches.batch(step)[:, :-1]), part.stack)
    for handle in handles:
        handle.remove()
    # A maximum does not show NaN.
    if not all(math.isfinite(value) for value in seen):
        raise StorageError(
            "the residual stream of the float model is not finite on training text",
            where=str(job.directory("train") / WEIGHTS),
            remedy="its weights leave the range of float32: train or import another model",
        )
    return max(seen)


def read_records(directory: Path) -> tuple[dict[str, IntTensor], dict[str, Json]]:
    """Return the records by name and the graph, as this stage wrote them. Raises StorageError."""
    arrays: dict[str, NDArray[np.int8]] = load_arrays(read_bytes(directory / RECORDS))
    scales = read_json(directory / SCALES)
    records = {
        name: IntTensor(name=name, dims=array.shape, scale=scales[name], data=array)
        for name, array in arrays.items()
    }
    return records, read_json(directory / GRAPH)


def _compare(job: Job, model: Transformer, integer: IntegerModel) -> tuple[Score, Score, float]:
    """Return FP32 and INT8 scores on the same held-out windows, each domain through its own stack,
    and the share of equal greedy choices.
    """
    groups = held_out(job, job.recipe.quantize.eval_windows)
    lengths = token_lengths(load_tokenizer(job))
    scores, same = [], []
    for group in groups:
        job.progress.start(
            f"evaluate FP32 on the same windows {group.domain}".rstrip(), len(group.rows), "windows"
        )
        exact, exact_choices = float_score(model, group.rows, lengths, job.progress, group.stack)
        job.progress.start(f"evaluate INT8 {group.domain}".rstrip(), len(group.rows), "windows")
        score, choices = integer_score(integer, group.rows, lengths, job.progress)
        scores.append((exact, score))
        same.append(choices == exact_choices)
    (exact, score), *others = scores
    return (
        sum((pair[0] for pair in others), exact),
        sum((pair[1] for pair in others), score),
        float(np.concatenate(same).mean()),
    )


def check_job(job: Job) -> None:
    """Refuse nothing: the integer law defines every model of a recipe."""


def fingerprint(job: Job) -> str:  # noqa: ARG001 - the protocol of a stage
    """Return "", because recipe sections and input roots decide everything that this stage writes."""
    return ""


def run(job: Job) -> StageResult:
    """Quantise, measure against FP32 on the same held-out windows, and apply the gate.

    Raises:
        QualityError: the gate is not met, and the job does not accept that; the figures stay in
            quality.json.
        StorageError: an input is missing or an output cannot be written.
    """
    directory, spec = job.directory(STAGE), job.recipe.quantize
    model = build_model(job)
    # Causal attention of the law reads a window as one document, so the float model does the same
    # here. Hybrid attention begins anew at the id that begins a document.
    if job.recipe.model.attention == "causal":
        model.document_start = None
    model.load_state_dict(load_tensors(read_bytes(job.directory("train") / WEIGHTS)))
    largest = largest_residual(model, job)
    router = None if model.expert_of_token is None else [int(e) for e in model.expert_of_token]
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    records, graph = convert(state, job.recipe.model, largest, router, model.document_start)

    integer = load_weights({r.name: r for r in records}, graph, str(directory))
    exact, score, agreement = _compare(job, model, integer)
    quality: dict[str, Json] = {
        "bpb_fp32": exact.bits_per_byte,
        "bpb_int": score.bits_per_byte,
        "bpb_increase": score.bits_per_byte / exact.bits_per_byte - 1.0,
        "top1_agreement": agreement,
        "n_eval_tokens": score.n_tokens,
        "largest_residual": largest,
        "residual_exponent": graph["residual_exponent"],
        "gate": limits_of(spec),
    }
    write_json(directory / QUALITY, quality)
    quality["outcome"] = pass_gate(quality, accept=job.accept_quality)
    write_bytes(directory / RECORDS, save_arrays({r.name: r.data for r in records}))
    write_json(directory / SCALES, {r.name: r.scale for r in records})
    write_json(directory / GRAPH, graph)
    write_json(directory / QUALITY, quality)
    return StageResult(
        outputs=[RECORDS, SCALES, GRAPH, QUALITY],
        facts=quality,
        tools={"numpy": np.__version__, "torch": torch.__version__},
    )
