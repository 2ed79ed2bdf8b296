"""Record what decides the bits of a run besides recipe and data, and differs between machines.

The same values here give the same bytes, for any number of threads. Under
specs/training-arithmetic.md only the name of the law decides, and the other values document the
machine. Each checkpoint holds them. A run may resume under other values. It then prints a note,
because it may round differently from the resumed step on.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from sevenfold.model.kernels.causal import kernel_name
from sevenfold.model.kernels.operators import LAW
from sevenfold.model.linear import backend_name
from sevenfold.recipe.schema import Recipe
from sevenfold.train.arithmetic import OTHER, arithmetic
from sevenfold.train.precision import bf16_kernels

CPU = torch.device("cpu")
_CPU_INFO = Path("/proc/cpuinfo")


def gpu_model(device: torch.device) -> dict[str, str]:
    """Return name and compute capability of the GPU of a run; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    major, minor = torch.cuda.get_device_capability(device)
    return {"gpu": f"{torch.cuda.get_device_name(device)} ({major}.{minor})"}


def tools(device: torch.device = CPU, precision: str = "fp32", law: str = OTHER) -> dict[str, str]:
    """Return what a manifest records: the arithmetic, versions and kinds, nothing that names one
    machine.
    """
    kernels = bf16_kernels(precision, device)
    return {
        "arithmetic": law,
        "torch": torch.__version__,
        "matmul": backend_name(),
        "attention": kernel_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        **gpu_model(device),
        **({"bf16": kernels} if kernels else {}),
    }


def tools_of(recipe: Recipe, device: torch.device = CPU) -> dict[str, str]:
    """Return `tools` for a run of this recipe."""
    train = recipe.train
    return tools(device, train.precision, arithmetic(recipe.model, train, device))


@cache
def cpu_model() -> str:
    """Return the name of the processor; empty where the system does not provide it."""
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def environment(device: torch.device = CPU, precision: str = "fp32", law: str = OTHER) -> dict[str, str]:
    """Return what a checkpoint records: `tools`, the processor and the flags of the kernels."""
    return tools(device, precision, law) | {
        "cpu": cpu_model(),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def is_under_one_law(recorded: Mapping[str, str], here: Mapping[str, str]) -> bool:
    """Return whether both sides used one version of specs/training-arithmetic.md. Then no library
    and no processor decides a bit.
    """
    return here.get("arithmetic") == recorded.get("arithmetic") == LAW


def differences(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Return a line for each value that differs from the recorded one. Values that were not
    recorded are not compared.

    The result is empty when both sides are under one law.
    """
    if is_under_one_law(recorded, here):
        return []
    return [
        f"{name} is {here[name]} here, was {recorded[name]}"
        for name in sorted(here)
        if name in recorded and recorded[name] != here[name]
    ]
