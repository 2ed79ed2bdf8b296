"""The precision of the forward pass (B2, E3): BF16 products under autocast over FP32 master weights, gradients summed in FP32.

Weights, residual stream, norms, loss and the optimiser stay FP32. A gradient leaves its product in BF16 and is FP32 before it
is added to another, so micro-batches add up in FP32. There is no loss scaling: BF16 has FP32's range. FP16 has not, and is
refused by name.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from sevenfold.core.errors import RecipeError

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp8": torch.bfloat16}
FP8_NOTE = "train.precision fp8: this device has no FP8 products; BF16 is used instead, and recorded"


def check_precision(precision: str) -> None:
    """Refuse what is not trained in. Raises RecipeError."""
    if precision not in PRECISIONS:
        raise RecipeError(
            f"train.precision {precision} is planned but not trained: its range needs loss scaling, which no replay promises",
            where="train.precision",
            remedy="use bf16: the same memory, the range of fp32",
        )


def used(precision: str) -> str:
    """What a precision of the recipe is computed in on this device: `fp8` is `bf16` on a CPU."""
    return "bf16" if precision == "fp8" else precision


def autocast(precision: str) -> AbstractContextManager[object]:
    """Within this block products are computed in the precision."""
    kind = PRECISIONS[precision]
    return nullcontext() if kind is None else torch.autocast("cpu", kind)
