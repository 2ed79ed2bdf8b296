"""What decides the bits of a run beside the recipe and the data, and is
not the same on every machine.

The same bytes are promised on the same values of these, whatever the number of threads. Under
specs/training-arithmetic.md the name of the law is the one that decides, and the others are
evidence of who computed. They stand in each checkpoint: going on under others is allowed, and said,
because the run may then round differently from the resumed step on.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from sevenfold.model.causal import kernel_name
from sevenfold.model.linear import backend_name
from sevenfold.model.operators import LAW
from sevenfold.recipe.schema import Recipe
from sevenfold.train.arithmetic import OTHER, arithmetic
from sevenfold.train.precision import bf16_kernels

CPU = torch.device("cpu")
_CPU_INFO = Path("/proc/cpuinfo")


def gpu_model(device: torch.device) -> dict[str, str]:
    """Name and compute capability of the GPU that a run is computed on; nothing on a CPU."""
    if device.type != "cuda":
        return {}
    major, minor = torch.cuda.get_device_capability(device)
    return {"gpu": f"{torch.cuda.get_device_name(device)} ({major}.{minor})"}


def tools(device: torch.device = CPU, precision: str = "fp32", law: str = OTHER) -> dict[str, str]:
    """Return what a manifest records: what defines the arithmetic, versions and kinds, nothing that
    names one machine.
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
    """Return `tools` of a run of this recipe."""
    train = recipe.train
    return tools(device, train.precision, arithmetic(recipe.model, train, device))


@cache
def cpu_model() -> str:
    """Return the processor's name; empty where the system does not tell."""
    if _CPU_INFO.is_file():
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def environment(device: torch.device = CPU, precision: str = "fp32", law: str = OTHER) -> dict[str, str]:
    """Return `tools`, the processor and the flags of the kernels: what a checkpoint records."""
    return tools(device, precision, law) | {
        "cpu": cpu_model(),
        "deterministic": str(torch.are_deterministic_algorithms_enabled()),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def is_under_one_law(recorded: Mapping[str, str], here: Mapping[str, str]) -> bool:
    """Return whether both sides computed by one version of specs/training-arithmetic.md: then no
    library and no processor decides a bit.
    """
    return here.get("arithmetic") == recorded.get("arithmetic") == LAW


def differences(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Return a line for each value that is not the recorded one; what was
    not recorded is not compared.

    Under one law on both sides there is no line.
    """
    if is_under_one_law(recorded, here):
        return []
    return [
        f"{name} is {here[name]} here, was {recorded[name]}"
        for name in sorted(here)
        if name in recorded and recorded[name] != here[name]
    ]
