"""Shared small runs: a few real files, a vocabulary of 400, models that train in seconds."""

from __future__ import annotations

import os
import signal
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from sevenfold import pipeline
from sevenfold.core.process.log import Silent
from sevenfold.recipe.schema import Recipe
from sevenfold.runs.job import Job

# No test asserts a time: a busy machine is not a defect. In CI hypothesis loads its own profile (no
# deadline, the same examples).
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if not os.environ.get("CI"):
    settings.load_profile("house")
# A shell's background jobs ignore Ctrl-C, and so would every program that a
# test starts and interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MODULES = [
    "json/decoder",
    "json/encoder",
    "textwrap",
    "shlex",
    "bisect",
    "heapq",
    "queue",
    "sched",
    "csv",
    "fnmatch",
    "glob",
    "stat",
    "types",
    "copy",
]
SHAPES: dict[str, dict[str, Any]] = {
    "dense": {},
    "moe": {"moe": {"kind": "token_routed", "experts": ("code", "general")}, "n_kv_heads": 1},
}


def recipe_values(shape: str = "dense") -> dict[str, Any]:
    """A recipe that trains in about two seconds, as plain values."""
    model = {
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 2,
        "n_kv_heads": 2,
        "head_dim": 16,
        "d_ffn": 48,
        "vocab_size": 400,
        "context": 64,
    }
    return {
        "recipe": 1,
        "name": f"tiny-{shape}",
        "family": "s7",
        "summary": "a test",
        "model": model | SHAPES[shape],
        "tokenizer": {"vocab_size": 400},
        "corpus": {
            "sources": ({"kind": "directory", "path": "code", "licence": "PSF-2.0", "include": ("*.py",)},),
            "licences": ("PSF-2.0",),
            "holdout": 4,
        },
        "train": {
            "seed": 3,
            "tokens": 30 * 4 * 64,
            "batch_sequences": 4,
            "sequence": 64,
            "learning_rate": 0.01,
            "init_std": 0.08,
            "checkpoint_every": 10,
        },
        "quantize": {"eval_windows": 8, "max_bpb_increase": 0.02},
        "seal": {"golden_prompts": ("def ", "import "), "sample_prompts": ("def f(",)},
    }


def write_code(directory: Path) -> None:
    """A small corpus of real code."""
    (directory / "code").mkdir(parents=True)
    library = Path(sysconfig.get_paths()["stdlib"])
    for name in MODULES:
        text = (library / f"{name}.py").read_text(encoding="utf-8")
        (directory / "code" / f"{name.replace('/', '_')}.py").write_text(text, encoding="utf-8")


@pytest.fixture(scope="session")
def code_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory that holds `code/`."""
    directory = tmp_path_factory.mktemp("source")
    write_code(directory)
    return directory


@pytest.fixture(scope="session")
def make_job(code_dir: Path) -> Callable[..., Job]:
    """make_job(out, shape="dense", **changes of sections) -> Job."""

    def build(out: Path, shape: str = "dense", **changes: dict[str, Any]) -> Job:
        values = recipe_values(shape)
        for section, change in changes.items():
            values[section] = values[section] | change
        return Job(recipe=Recipe(**values), out=out, recipe_dir=code_dir, progress=Silent())

    return build


@pytest.fixture(scope="session", params=["dense", "moe"])
def finished_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, make_job: Callable[..., Job]
) -> Job:
    """A whole run, once per shape; tests only read it."""
    job = make_job(tmp_path_factory.mktemp("run") / request.param, request.param)
    pipeline.make(job)
    return job


@pytest.fixture(scope="session")
def dense_run(tmp_path_factory: pytest.TempPathFactory, make_job: Callable[..., Job]) -> Job:
    """A whole dense run; tests only read it."""
    job = make_job(tmp_path_factory.mktemp("run") / "dense")
    pipeline.make(job)
    return job
