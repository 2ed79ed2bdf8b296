"""Decide whether a run is under specs/training-arithmetic.md, and compute the tables of that page.

Under that law the bits of a run follow from recipe and data alone. Any processor that has the
kernels gives the same bits.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import lru_cache

import torch

from sevenfold.model import native
from sevenfold.model.kernels import operators
from sevenfold.model.kernels.operators import LAW
from sevenfold.recipe.schema import ModelSpec, TrainSpec

OTHER = "aten"


def obstacle(model: ModelSpec, train: TrainSpec, device: torch.device) -> str:
    """Return why a run is not under the law; "" when it is."""
    if device.type not in native.LIBRARIES:
        return f"it is computed on {device.type}"
    if device.type != "cpu" and model.attention != "causal":
        return f"its attention is hybrid, which has no kernels for {device.type}"
    if train.precision != "fp32":
        return f"its precision is {train.precision}"
    if not native.fits(model.head_dim):
        return f"its heads are wider than {native.MAX_HEAD_DIM}"
    if train.reduction == "fast":
        return "its reduction is fast"
    # Draws and tables are made by the CPU's library on any device.
    for kind in ("cpu", device.type):
        if not operators.is_available(kind) or not native.is_available("s7_train_available", kind):
            return f"native/train is not built for {kind}, or it does not run here"
    return ""


def arithmetic(model: ModelSpec, train: TrainSpec, device: torch.device) -> str:
    """Return what defines the floating-point results of a run: the law and its version, or the
    libraries of PyTorch.
    """
    return OTHER if obstacle(model, train, device) else LAW


@lru_cache(maxsize=64)
def half_turn_cosine(numerator: int, denominator: int) -> float:
    """Return cos(pi * numerator / denominator) for 0 <= numerator <= denominator, rounded once to
    binary64, without the cosine of a library.
    """
    if 2 * numerator == denominator:
        return 0.0
    with localcontext() as context:
        context.prec = 40
        # The series converges quickly up to a quarter turn.
        if 2 * numerator > denominator:
            return -half_turn_cosine(denominator - numerator, denominator)
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582")
        square = (pi * numerator / denominator) ** 2
        term = total = Decimal(1)
        for even in range(2, 44, 2):
            term = -term * square / (even * (even - 1))
            total += term
        return float(total)


class Powers:
    """Powers of beta by repeated products in binary64."""

    def __init__(self, beta: float) -> None:
        self.beta, self.step, self.power = beta, 0, 1.0

    def at(self, step: int) -> float:
        """Return beta^step. It is fast when steps ascend."""
        if step < self.step:
            self.step, self.power = 0, 1.0
        for _ in range(step - self.step):
            self.power *= self.beta
        self.step = step
        return self.power
