"""What `s7 launch` writes, executed: torchrun with gloo, pools side by side, and a rank
that is killed while it trains.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from families import OUTPUTS, job_of, mixed_values, stack_values

from sevenfold import pipeline
from sevenfold.train.distributed.ranks import COLLECTIVE_TIMEOUT

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]


def launched(values: dict[str, Any], source: Path, out: Path, shims: Path, gpus: int) -> Path:
    """The script for a recipe; its words are found in the directory `shims`."""
    recipe = source / f"{values['name']} it's.yaml"
    recipe.write_text(yaml.safe_dump(job_of(values, source, out).recipe.resolved()))
    shims.mkdir()
    for name, module in (("s7", "sevenfold.cli"), ("torchrun", "torch.distributed.run")):
        (shims / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (shims / name).chmod(0o755)
    command = [
        sys.executable,
        "-m",
        "sevenfold.cli",
        "launch",
        str(recipe),
        "--out",
        str(out),
        "--gpus",
        str(gpus),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    script = shims / "run.sh"
    script.write_text(done.stdout)
    return script


def start(script: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PATH": f"{script.parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment[COLLECTIVE_TIMEOUT] = "200"  # the machine may be busy with other work
    return subprocess.Popen(
        ["bash", str(script)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def written(out: Path) -> dict[str, bytes]:
    return {name: (out / "train" / name).read_bytes() for name in OUTPUTS}


def worker(out: Path, rank: int) -> int | None:
    """Process id of a rank of the run, from the environment that torchrun gave it."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"RANK={rank}".encode() in variables and str(out).encode() in words and b"train" in words:
            return int(process.name)
    return None


def test_phases_and_pools_give_the_bytes_of_one_process(domain_dir: Path, tmp_path: Path) -> None:
    values = stack_values()
    values["train"]["micro_batch_sequences"] = 1
    values["train"]["phases"][1]["n_pools"] = 2
    job = job_of(values, domain_dir, tmp_path / "alone")
    pipeline.make(job)
    script = launched(values, domain_dir, tmp_path / "out", tmp_path / "bin", 4)
    assert "pool_1 &" in script.read_text()
    process = start(script)
    said, _ = process.communicate(timeout=540)
    assert process.returncode == 0, said
    assert written(tmp_path / "out") == written(tmp_path / "alone")
    assert (tmp_path / "out" / "model.s7l").read_bytes() == (tmp_path / "alone" / "model.s7l").read_bytes()


def test_torchrun_starts_again_after_a_kill(domain_dir: Path, tmp_path: Path) -> None:
    values = mixed_values()
    values["train"] |= {"micro_batch_sequences": 1, "tokens": 60 * 4 * 64, "checkpoint_every": 10}
    pipeline.make(job_of(values, domain_dir, tmp_path / "alone"), until="train")
    out = tmp_path / "out"
    script = launched(values, domain_dir, out, tmp_path / "bin", 2)
    text = script.read_text()
    assert "--max-restarts" in text
    script.write_text("\n".join(text.splitlines()[:-1]))  # without quantising and sealing
    process = start(script)
    try:
        limit = time.monotonic() + 300
        while not list(out.glob("train/checkpoint-*.sharded")):
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.05)
        victim, survivor = worker(out, 1), worker(out, 0)
        assert victim is not None
        assert survivor is not None
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        while Path(f"/proc/{survivor}").exists():
            assert time.monotonic() < killed + 30  # the loss is found, and the group has ended
            time.sleep(0.05)
        said, _ = process.communicate(timeout=400)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said
    assert "resuming at step" in said
    assert written(out) == written(tmp_path / "alone")
