"""The precision of the forward pass (B2, C5, E3): products in BF16 under autocast, master weights
and gradient sums in FP32.

Weights, residual stream, norms, loss and the optimiser stay FP32. A gradient leaves its product in
BF16 and is converted to FP32 before it is added to another, so micro-batches are added in FP32.
There is no loss scaling, because BF16 has the range of FP32. FP16 does not, so it is refused.
On a CPU with AVX512-BF16, our own kernels compute the operations between the products
(`model.kernels.bf16`). Elsewhere PyTorch does, with other bits, and the run says so.

FP8 is BF16 with the products of the projections of the layers in FP8 by torchao. There is one scale
for each tensor, from its largest element, so nothing is carried from step to step. The GPU kernels
require both sides of a weight in multiples of 16. The embedding and the head are not converted.
Where the device has no FP8 products, or torchao is missing, the run uses BF16, and manifests say
so.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch
from torch import nn

from sevenfold.core.errors import RecipeError
from sevenfold.model.kernels import bf16
from sevenfold.model.linear import Linear

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp8": torch.bfloat16}
# The version of the roundings of the BF16 path on the CPU. Raise it when they change.
LAW_BF16 = "bf16/3"
# Compute capability of the first GPUs with FP8 products.
FP8_CAPABILITY = (8, 9)
FP8_MULTIPLE = 16


def check_precision(precision: str) -> None:
    """Refuse a precision that this version cannot train in. Raises RecipeError."""
    if precision not in PRECISIONS:
        raise RecipeError(
            f"train.precision {precision} is planned but not trained: its range needs loss scaling, which no"
            " replay promises",
            where="train.precision",
            remedy="use bf16: the same memory, the range of fp32",
        )


def fp8_obstacle(device: torch.device) -> str:
    """Return why this device does not compute in FP8; "" when it does."""
    if device.type != "cuda":
        return "a CPU has no FP8 products"
    capability = torch.cuda.get_device_capability(device)
    if capability < FP8_CAPABILITY:
        return f"this GPU (compute capability {capability[0]}.{capability[1]}) has no FP8 products"
    return "" if find_spec("torchao") else "torchao is not installed (pip install 'sevenfold[fp8]')"


def used(precision: str, device: torch.device) -> str:
    """Return the precision that a device computes in for a precision of the recipe."""
    return "bf16" if precision == "fp8" and fp8_obstacle(device) else precision


def fallback_notes(precision: str, device: torch.device) -> list[str]:
    """Return notes for a precision that is replaced by another, or computed without its own
    kernels.
    """
    notes = []
    if used(precision, device) != precision:
        notes.append(
            f"train.precision {precision}: {fp8_obstacle(device)}; BF16 is used instead, and recorded"
        )
    if bf16_kernels(precision, device) == "aten":
        notes.append(
            "BF16 without our kernels (no AVX512-BF16 here, S7_ISA forbids it, or native/train was not"
            " built): PyTorch computes it, slower and with other bits"
        )
    return notes


def bf16_kernels(precision: str, device: torch.device) -> str:
    """Return which kernels compute between the BF16 products of a run on the CPU: s7 or aten; ""
    for any other run.
    """
    if device.type != "cpu" or used(precision, device) != "bf16":
        return ""
    return "s7" if bf16.is_available() else "aten"


def law(precision: str) -> list[str]:
    """Return what a precision adds to the key of a run; nothing for FP32."""
    return [] if PRECISIONS[precision] is None else [LAW_BF16]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Compute the products of this block in the precision."""
    kind = PRECISIONS[precision]
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


def fp8_projections(model: nn.Module) -> dict[str, Linear]:
    """Return the names of the projections to convert to FP8: those of the layers with both sides in
    multiples of 16, never the head.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Linear)
        and ".layers." in f".{name}"
        and all(side % FP8_MULTIPLE == 0 for side in module.weight.shape)
    }


def convert(model: nn.Module, precision: str, device: torch.device) -> None:
    """Convert the products of a model to its precision, before it is sharded. The names of weights
    stay.
    """
    if used(precision, device) == "fp8":
        to_fp8(model)


def to_fp8(model: nn.Module, *, emulate: bool = False) -> None:
    """Replace each of `fp8_projections` by the FP8 projection of torchao. `emulate` rounds as FP8
    does, on any device.
    """
    from torchao.float8 import Float8LinearConfig
    from torchao.float8.float8_linear import Float8Linear

    config = Float8LinearConfig(emulate=emulate)
    for name, module in fp8_projections(model).items():
        n_out, n_in = module.weight.shape
        plain = nn.Linear(n_in, n_out, bias=False, device="meta")
        plain.weight = module.weight
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, Float8Linear.from_float(plain, config=config))
