"""Runs under specs/training-arithmetic.md: golden digests, and no result of a step
that another library computed.
"""

from __future__ import annotations

import builtins
import functools
import math
import operator
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import CASES, Case, digests, promised, run_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sevenfold import pipeline
from sevenfold.artifact.reader import open_artifact
from sevenfold.model.kernels import operators
from sevenfold.model.kernels.operators import ISAS, LAW
from sevenfold.recipe.schema import HybridAttentionSpec
from sevenfold.runs.job import Job
from sevenfold.train import gradient_step, loop
from sevenfold.train.arithmetic import obstacle
from sevenfold.train.recording.environment import CPU
from sevenfold.train.recording.records import Unrecorded

needs_kernels = pytest.mark.skipif(not operators.is_available(), reason="native/train is not built here")
# Views, copies, allocation, filling with a constant, and reading: they round nothing.
EXACT = {
    "_local_scalar_dense", "_reshape_alias", "_to_copy", "_unsafe_view", "alias", "as_strided",
    "cat", "clone", "constant_pad_nd", "copy_", "detach", "embedding", "empty", "empty_like",
    "empty_strided", "expand", "fill_", "full", "index_select", "item", "lift_fresh",
    "new_empty", "new_empty_strided", "new_zeros", "ones", "ones_like", "select", "slice",
    "split", "split_with_sizes", "squeeze", "stack", "t", "transpose", "unbind", "unsqueeze",
    "view", "zeros", "zeros_like",
}  # fmt: skip


class Watch(TorchDispatchMode):
    """Counts the operators of PyTorch that give floating-point numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(isinstance(t, Tensor) and t.is_floating_point() for t in tree_leaves(out)):
            self.computed[func.overloadpacket.__name__] += 1
        return out


@needs_kernels
@pytest.mark.parametrize("name", sorted(CASES))
def test_no_number_of_a_step_comes_from_another_library(name: str, tmp_path: Path) -> None:
    run = run_of(CASES[name], tmp_path)
    assert run.arithmetic == LAW
    loop.use_deterministic_kernels()
    with Watch() as watch:
        run.start()
        run.model.train()
        for _ in range(2):
            run.advance(Unrecorded())
    assert watch.computed
    assert sorted(set(watch.computed) - EXACT) == []


@needs_kernels
def test_the_watch_sees_what_a_library_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(CASES["dense"], tmp_path)
    monkeypatch.setattr(operators, "is_taken", lambda _x: False)
    with Watch() as watch:
        run.start()
        run.gradients.run(run.step)
    assert {"mul", "addmm", "mm", "_fused_rms_norm", "rsqrt", "exp_", "silu"} & (set(watch.computed) - EXACT)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within this block PyTorch, and so the kernels, have that many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@needs_kernels
@pytest.mark.parametrize("name", sorted(CASES))
def test_golden_runs_give_what_the_repository_promises(name: str, tmp_path: Path) -> None:
    assert digests(name, tmp_path) == promised()[name]


@needs_kernels
@pytest.mark.parametrize("isa", ISAS[1:])
def test_every_instruction_set_gives_the_same(
    isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S7_ISA", isa)
    if not operators.is_available():
        pytest.skip(f"no {isa} here")
    with threads(1 if isa == "scalar" else 3):
        assert digests("dropout", tmp_path) == promised()["dropout"]


@needs_kernels
@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS[1:])
@pytest.mark.parametrize("name", sorted(CASES))
def test_every_golden_run_on_every_instruction_set(
    name: str, isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S7_ISA", isa)
    if not operators.is_available():
        pytest.skip(f"no {isa} here")
    assert digests(name, tmp_path) == promised()[name]


@needs_kernels
def test_a_process_that_flushes_subnormals_gives_the_same(tmp_path: Path) -> None:
    try:
        torch.set_flush_denormal(True)
        assert digests("gqa", tmp_path) == promised()["gqa"]
    finally:
        torch.set_flush_denormal(False)


@needs_kernels
def test_swapped_micro_batches_give_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original: Callable[..., list[Any]] = gradient_step.micro_batches
    monkeypatch.setattr(gradient_step, "micro_batches", lambda *args: original(*args)[::-1])
    assert digests("objectives", tmp_path)["weights"] != promised()["objectives"]["weights"]


def compensated(iterable: Iterable[Any], /, start: Any = 0) -> Any:
    """What `sum` gives since Python 3.12, and more exactly: floats lose nothing on the way."""
    items = list(iterable)
    if items and all(type(item) is float for item in items):
        return math.fsum([start, *items])
    return functools.reduce(operator.add, items, start)


@needs_kernels
def test_a_sum_that_compensates_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What PyTorch imports late looks at `sum` itself.
    loop.use_deterministic_kernels()
    monkeypatch.setattr(builtins, "sum", compensated)
    assert digests("objectives", tmp_path / "plain") == promised()["objectives"]
    # A canary: the loss of several terms shows it.
    monkeypatch.setattr(loop, "sum_in_order", compensated)
    assert digests("objectives", tmp_path / "canary")["metrics"] != promised()["objectives"]["metrics"]


@needs_kernels
@pytest.mark.slow
def test_no_version_of_python_decides_the_root(
    dense_run: Job, make_job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtins, "sum", compensated)
    job = make_job(tmp_path / "run")
    pipeline.make(job)
    assert open_artifact(job.out / "model.s7l").root == open_artifact(dense_run.out / "model.s7l").root


def test_what_is_not_under_the_law_is_named() -> None:
    def why(model: dict[str, Any] | None = None, device: torch.device = CPU, **train: Any) -> str:
        case = run_of(Case(), Path(os.devnull))
        spec = case.model.spec.model_copy(update=model or {})
        return obstacle(spec, case.spec.model_copy(update=train), device)

    assert "bf16" in why(precision="bf16")
    assert "cuda" in why(device=torch.device("cuda"))
    assert not why({"attention": HybridAttentionSpec.model_construct()})
    assert "wider" in why({"head_dim": 272})
    assert "fast" in why(reduction="fast")
