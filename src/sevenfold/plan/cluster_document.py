"""The figures of the sizing document of S7-MOE-140M, as data, beside ours (requirement B3).

`own` is the same quantity, computed from other figures of the document; `how` says from which.
`ours` is the key path of the quantity in our plan. A figure does not add up when `stated` and `own`
differ by more than its rounding explains.
"""

from __future__ import annotations

from dataclasses import dataclass

MB = 1e6
# The document rounds most figures to two digits.
ROUNDING = 0.03
# For sums of figures that the document prints in full.
EXACT = 0.002


@dataclass(frozen=True)
class Figure:
    """One figure of the document.

    `unit` is one of: parameters, bytes, GPU-hours, hours, GPUs, USD, tokens.
    """

    section: str
    quantity: str
    unit: str
    stated: float
    own: float | None
    how: str
    ours: str | None = None
    tolerance: float = ROUNDING


def _phase_1(part: str) -> str:
    return f"phases.0.memory.{part}"


def _phase_2(part: str) -> str:
    return f"phases.1.memory.{part}"


# One layer of section 8: four 512 x 512 projections and two 512 x 2048 matrices.
LAYER = 4 * 512 * 512 + 2 * 512 * 2048
# GPU-hours that the document's own parameters and tokens need on an A100 (312 TFLOP/s in BF16) at
# 40 % MFU: six FLOPs a token for a trained parameter, two for a frozen one. Its 12,000 and 1,770
# GPU-hours imply an MFU below 1 %.
A100_HOUR = 312e12 * 0.4 * 3600
FLOPS_1 = 6 * (18.9e6 + 2e6) * 50e9 / A100_HOUR
FLOPS_2 = (6 * 28e6 + 2 * 20.9e6) * 59e9 / A100_HOUR

FIGURES = (
    Figure("title", "model size", "parameters", 140e6, 133e6, "section 2 totals 133M", "parameters.total"),
    Figure(
        "2", "embedding", "parameters", 18.9e6, 36864 * 512, "36864 x 512", "components.embedding.parameters"
    ),
    Figure(
        "2", "embedding, FP32", "bytes", 75.5 * MB, 4 * 18.9e6, "4 x 18.9M", "components.embedding.fp32_bytes"
    ),
    Figure(
        "2",
        "trunk layers (6)",
        "parameters",
        2e6,
        6 * LAYER,
        "6 layers of section 8",
        "parameters.trunk_layers",
    ),
    Figure("2", "trunk layers, FP32", "bytes", 8 * MB, 4 * 2e6, "4 x 2M"),
    Figure("2", "one expert", "parameters", 28e6, 8 * LAYER, "8 layers of section 8", "parameters.expert"),
    Figure("2", "one expert, FP32", "bytes", 112 * MB, 4 * 28e6, "4 x 28M"),
    Figure(
        "2",
        "total",
        "parameters",
        133e6,
        (18.9 + 2 + 4 * 28 + 0.1) * 1e6,
        "sum of the column",
        "parameters.total",
    ),
    Figure("2", "total, FP32", "bytes", 532 * MB, 4 * 133e6, "4 x 133M", "totals.fp32_bytes"),
    Figure(
        "2", "total, INT8", "bytes", 133 * MB, 141 * MB, "section 8: grand total 141 MB", "totals.int8_bytes"
    ),
    Figure(
        "3",
        "trunk and embedding, FP32",
        "bytes",
        83 * MB,
        (75.5 + 8) * MB,
        "75.5 + 8 MB",
        "totals.trunk_fp32_bytes",
    ),
    Figure("3", "gradients", "bytes", 166 * MB, 83 * MB, "one FP32 copy of 83 MB", _phase_1("gradients")),
    Figure(
        "3",
        "optimiser (AdamW)",
        "bytes",
        250 * MB,
        166 * MB,
        "two FP32 moments of 83 MB",
        _phase_1("optimizer"),
    ),
    Figure(
        "3",
        "activations",
        "bytes",
        8e9,
        None,
        "64 sequences a GPU, BF16",
        "phases.0.activations_at_stated_batch",
    ),
    Figure(
        "3",
        "memory per GPU",
        "bytes",
        12e9,
        (83 + 166 + 250) * MB + 8e9,
        "sum of its parts",
        _phase_1("total"),
    ),
    Figure("3", "GPUs", "GPUs", 8, 4 * 2, "4 nodes x 2", "phases.0.gpus"),
    Figure("3", "GPU-hours", "GPU-hours", 12000, 8 * 1500, "8 x 1500 h", "phases.0.gpu_hours"),
    Figure(
        "3",
        "GPU-hours, from FLOPs",
        "GPU-hours",
        12000,
        FLOPS_1,
        "6 x 20.9M x 50B at 40 % MFU",
        "phases.0.gpu_hours",
    ),
    Figure(
        "4",
        "tokens of all experts",
        "tokens",
        59e9,
        (20 + 15 + 12 + 12) * 1e9,
        "sum of the column",
        "phases.1.tokens",
    ),
    Figure(
        "4", "optimiser", "bytes", 336 * MB, 224 * MB, "two FP32 moments of 112 MB", _phase_2("optimizer")
    ),
    Figure(
        "4",
        "activations",
        "bytes",
        4e9,
        None,
        "64 sequences a GPU, BF16",
        "phases.1.activations_at_stated_batch",
    ),
    Figure(
        "4",
        "memory per GPU",
        "bytes",
        8e9,
        (112 + 83 + 112 + 336) * MB + 4e9,
        "sum of its parts",
        _phase_2("total"),
    ),
    Figure("4", "GPUs", "GPUs", 16, 4 * 4, "4 pools x 4", "phases.1.gpus"),
    Figure("4", "GPUs of a node", "GPUs", 4, 2, "section 3: 2 GPUs a node"),
    Figure(
        "4", "GPU-hours", "GPU-hours", 1770, 600 + 450 + 360 + 360, "sum of the pools", "phases.1.gpu_hours"
    ),
    Figure(
        "4",
        "GPU-hours, from FLOPs",
        "GPU-hours",
        1770,
        FLOPS_2,
        "6 x 28M + 2 x 20.9M, 59B",
        "phases.1.gpu_hours",
    ),
    Figure("4", "wall time", "hours", 150, 600 / 4, "the slowest pool, 600 / 4", "phases.1.wall_hours"),
    Figure(
        "6", "GPU-hours", "GPU-hours", 14000, 12000 + 1770 + 200, "sum of the column", "training.gpu_hours"
    ),
    Figure(
        "6",
        "wall time",
        "hours",
        21 * 24,
        12000 / 8 + 150 + 200 / 4,
        "12000/8 + 150 + 200/4 h",
        "training.wall_hours",
    ),
    Figure("6", "peak GPUs", "GPUs", 16, max(8, 16), "the larger phase", "training.peak_gpus"),
    Figure("6", "cost at 2.50 USD/h", "USD", 35000, 14000 * 2.5, "14000 x 2.50", "training.cost"),
    Figure("8", "one expert layer, INT8", "bytes", 3136e3, LAYER, "sum of the tensors", None, EXACT),
    Figure(
        "8",
        "one expert layer, as printed",
        "bytes",
        3136e3,
        (4 * 262 + 2 * 1024) * 1e3,
        "sum of the printed KB",
        None,
        EXACT,
    ),
    Figure("8", "one expert, INT8", "bytes", 24.8 * MB, 8 * LAYER, "8 layers", "parameters.expert"),
    Figure(
        "8", "four experts, INT8", "bytes", 99.2 * MB, 4 * 24.8 * MB, "4 x 24.8 MB", "parameters.all_experts"
    ),
    Figure(
        "8",
        "trunk layers (6), INT8",
        "bytes",
        24 * MB,
        6 * LAYER,
        "6 layers of 3.1 MB",
        "parameters.trunk_layers",
    ),
    Figure(
        "8", "trunk layers, against section 2", "bytes", 24 * MB, 2 * MB, "section 2: 2M, so 2 MB in INT8"
    ),
    Figure(
        "8",
        "embedding, INT8",
        "bytes",
        18 * MB,
        75.5 * MB / 4,
        "section 2: 75.5 MB / 4",
        "components.embedding.int8_bytes",
    ),
    Figure(
        "8",
        "grand total, INT8",
        "bytes",
        141 * MB,
        (99.2 + 24 + 18) * MB,
        "99.2 + 24 + 18",
        "totals.int8_bytes",
    ),
)
