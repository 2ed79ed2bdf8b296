"""The golden runs by the kernels of a GPU: on one where it is there, and by the same text on the
processor.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from golden import CASES, digests, promised, run_of

from sevenfold.model import native
from sevenfold.model.kernels import operators
from sevenfold.model.kernels.operators import LAW
from sevenfold.train.arithmetic import arithmetic, obstacle
from sevenfold.train.distributed.ranks import DEVICE

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "model"))
from emulated_gpu import BUILD, CXX, NAME, EmulatedGpu, use_emulated_gpu  # noqa: E402  (of another folder)

GPU = torch.device("cuda")
# Hybrid attention has no kernels for GPUs.
CAUSAL = sorted(name for name, case in CASES.items() if "attention" not in case.model)

needs_kernels = pytest.mark.skipif(not operators.is_available(), reason="native/train is not built here")
needs_gpu = pytest.mark.skipif(
    not (torch.cuda.is_available() and operators.is_available("cuda")), reason="no GPU, or no `make cuda`"
)


@needs_kernels
@pytest.mark.slow
@pytest.mark.parametrize("name", CAUSAL)
def test_the_text_of_the_gpu_gives_the_golden_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_emulated_gpu(monkeypatch)
    assert digests(name, tmp_path) == promised()[name]


@needs_gpu
@pytest.mark.parametrize("name", CAUSAL)
def test_a_gpu_gives_the_golden_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEVICE, "cuda")
    assert digests(name, tmp_path) == promised()[name]


@needs_kernels
def test_a_run_on_a_gpu_is_under_the_law_where_its_kernels_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, hybrid = (run_of(CASES[name], tmp_path) for name in ("dense", "hybrid"))
    monkeypatch.setitem(native.LIBRARIES, "cuda", tmp_path / "none.so")
    native.library.cache_clear()
    try:
        assert "not built for cuda" in obstacle(dense.model.spec, dense.phase.spec, GPU)
    finally:
        native.library.cache_clear()
    use_emulated_gpu(monkeypatch)
    assert arithmetic(dense.model.spec, dense.phase.spec, GPU) == LAW
    assert "hybrid" in obstacle(hybrid.model.spec, hybrid.phase.spec, GPU)
    assert "xpu" in obstacle(dense.model.spec, dense.phase.spec, torch.device("xpu"))


# What a compiler does by itself unless it is told not to, and an order of another's making.
CANARIES = {
    "contraction": ("build.sh", "-ffp-contract=off -Wall", "-ffp-contract=fast -mavx2 -Wall"),
    "heads from the last": (
        "attention.cu",
        "* heads.n_queries + query;",
        "* heads.n_queries + (heads.n_queries - 1 - query);",
    ),
    "another tree": (
        "row_sum.h",
        "pair(row[lane], row[lane + half])",
        "pair(row[2 * lane], row[2 * lane + 1])",
    ),
}


@needs_kernels
@pytest.mark.slow
@pytest.mark.parametrize("name", CANARIES)
def test_a_text_that_breaks_the_law_is_seen(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, before, after = CANARIES[name]
    shutil.copytree(BUILD.parents[1], tmp_path / "train")
    path = tmp_path / "train" / "cuda" / file
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))
    subprocess.run(
        [path.with_name("build.sh"), tmp_path], env=os.environ | {"S7_EMULATED": "1", "CXX": CXX}, check=True
    )
    broken = EmulatedGpu(tmp_path / NAME)
    monkeypatch.setattr(native, "library", lambda _kind="cpu": broken)
    assert digests("gqa", tmp_path / "run") != promised()["gqa"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here")
def test_nvcc_makes_what_the_law_wants(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "cuda.sh", sys.executable, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 instructions that the law forbids" in done.stdout
