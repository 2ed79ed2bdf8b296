"""Any number of ranks gives the bytes of one: dealt, killed, resumed by
another number, in every family.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from families import OUTPUTS, job_of, mixed_values, objective_values

from sevenfold import pipeline
from sevenfold.core.errors import RecipeError, UsageError
from sevenfold.core.run_files import MANIFEST
from sevenfold.train.checkpoints.checkpoint import (
    checkpoint_path,
    checkpoint_steps,
    latest_checkpoint,
    read_checkpoint,
)
from sevenfold.train.distributed import ranks as ranks_module
from sevenfold.train.distributed.ranks import Ranks
from sevenfold.train.run_builder import training_run

CPU = torch.device("cpu")
ONE_ROW = {"micro_batch_sequences": 1}


def attempts(family: str, source: Path, out: Path, *texts: str, **train: Any) -> list[dict[str, Any]]:
    """Exit codes and seconds of each attempt (`rank_driver`)."""
    driver, changes = Path(__file__).parent / "rank_driver.py", json.dumps({"train": ONE_ROW | train})
    command = [sys.executable, str(driver), family, changes, str(source), str(out), *texts]
    # On a machine that is busy with other work a rank may wait longer for its
    # turn than a lost one is given.
    patience = {} if any("!" in text for text in texts) else {ranks_module.COLLECTIVE_TIMEOUT: "200"}
    done = subprocess.run(
        command, env=os.environ | patience, capture_output=True, text=True, check=False, timeout=540
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    print(done.stderr[-3000:])  # shown when a test fails
    assert len(found) == len(texts), done.stdout + done.stderr
    return found


def written(out: Path) -> dict[str, bytes]:
    """What the stage wrote."""
    return {name: (out / "train" / name).read_bytes() for name in OUTPUTS}


@pytest.fixture(scope="session")
def alone(domain_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with objectives and dropout, a row a micro-batch, on one rank; read only."""
    out = tmp_path_factory.mktemp("ranks") / "alone"
    pipeline.make(job_of(objective_values(), domain_dir, out, train=ONE_ROW), until="train")
    return out


def test_a_rank_is_killed_and_another_number_goes_on(alone: Path, domain_dir: Path, tmp_path: Path) -> None:
    done = attempts("objective", domain_dir, tmp_path, "2:1@13", "3")
    assert done[0]["codes"][1] == -9
    assert done[0]["codes"][0] > 0
    assert done[0]["seconds"] < 30  # the other one has found out
    assert done[1]["codes"] == [0, 0, 0]
    assert written(tmp_path) == written(alone)


@pytest.mark.slow
def test_a_silent_rank_is_found_within_30_seconds(domain_dir: Path, tmp_path: Path) -> None:
    (done,) = attempts("mixed", domain_dir, tmp_path, "2:1!7")
    assert done["codes"][0] == 6
    assert 20 < done["seconds"] < 30


@pytest.mark.slow
def test_killed_and_resumed_by_other_numbers_of_ranks(alone: Path, domain_dir: Path, tmp_path: Path) -> None:
    # Two ranks lose the second in step 8; three lose the first in step 14; two are asked to stop
    # after step 14; one is killed in step 18; two end it. Objectives and dropout: a random stream
    # belongs to a micro-batch, not to a rank.
    done = attempts("objective", domain_dir, tmp_path, "2:1@7", "3:0@13", "2:0+14", "1:0@17", "2")
    codes = [item["codes"] for item in done]
    assert codes[0][1] == codes[1][0] == codes[3][0] == -9
    assert all(code > 0 for code in (codes[0][0], *codes[1][1:]))
    assert codes[2] == [130, 130]
    assert codes[4] == [0, 0]
    assert max(item["seconds"] for item in done) < 30  # a lost rank is found
    assert written(tmp_path) == written(alone)
    last = checkpoint_path(tmp_path / "train", 20)
    assert last.read_bytes() == checkpoint_path(alone / "train", 20).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("change", [{}, {"precision": "bf16"}, {"activation_checkpointing": True}])
@pytest.mark.parametrize("family", ["mixed", "stack", "objective"])
def test_one_rank_two_and_three(
    family: str, change: dict[str, Any], domain_dir: Path, tmp_path: Path
) -> None:
    found = []
    for number in ("1", "2", "3"):
        (done,) = attempts(family, domain_dir, tmp_path / number, number, **change)
        assert not any(done["codes"])
        found.append(written(tmp_path / number))
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_a_fast_reduction_is_recorded(domain_dir: Path, tmp_path: Path) -> None:
    attempts("mixed", domain_dir, tmp_path, "2:0@11", "2", reduction="fast")
    manifest = json.loads((tmp_path / "train" / "manifest.json").read_bytes())
    assert manifest["facts"]["n_ranks"] == 2
    assert read_checkpoint(checkpoint_path(tmp_path / "train", 20)).environment["n_ranks"] == "2"
    alone = job_of(mixed_values(), domain_dir, tmp_path / "alone", train=ONE_ROW)
    pipeline.make(alone, until="train")
    # Another order of the same sums: near, and not promised to be equal.
    losses = [
        json.loads((out / "train" / "metrics.jsonl").read_text().splitlines()[-1])["loss"]
        for out in (tmp_path, alone.out)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.fixture(scope="module")
def killed(domain_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two ranks that was killed in step 12: checkpoints of steps 5
    and 10 are shards; read only.
    """
    out = tmp_path_factory.mktemp("ranks") / "killed"
    attempts("mixed", domain_dir, out, "2:1@11")
    return out / "train"


@pytest.fixture
def sharded(killed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(killed, tmp_path / "train"))


def test_a_damaged_shard_falls_back_to_the_checkpoint_before(sharded: Path) -> None:
    assert checkpoint_steps(sharded) == [5, 10]
    newest = checkpoint_path(sharded, 10)
    assert newest.is_dir()
    key = read_checkpoint(newest).key
    for shard in sorted(newest.glob("shard-*")):
        data = bytearray(shard.read_bytes())
        data[-1] ^= 1
        shard.write_bytes(data)
        found = latest_checkpoint(sharded, key)
        assert found is not None
        assert found.step == 5
        data[-1] ^= 1
        shard.write_bytes(data)
    found = latest_checkpoint(sharded, key)
    assert found is not None
    assert found.step == 10
    shard.unlink()
    assert latest_checkpoint(sharded, key).step == 5  # type: ignore[union-attr]
    (checkpoint_path(sharded, 5) / MANIFEST).write_text("{")
    assert latest_checkpoint(sharded, key) is None


def test_half_a_checkpoint_is_absent(sharded: Path) -> None:
    newest = checkpoint_path(sharded, 10)
    key = read_checkpoint(newest).key
    newest.rename(newest.with_name(f".{newest.name}.partial"))  # as a kill before the rename leaves it
    assert latest_checkpoint(sharded, key).step == 5  # type: ignore[union-attr]
    assert not list(sharded.glob(".*.partial"))


def test_more_ranks_than_micro_batches_are_refused(domain_dir: Path, tmp_path: Path) -> None:
    job = job_of(mixed_values(), domain_dir, tmp_path, train={"micro_batch_sequences": 2})
    pipeline.make(job, until="tokenizer")
    ranks_module._joined = Ranks(device=CPU, rank=1, size=3)  # a follower: it announces nothing
    try:
        with pytest.raises(RecipeError, match=r"2 micro-batches, so 1 of 3 ranks.*at most 1"):
            training_run(job, tmp_path)
    finally:
        ranks_module._joined = None


def test_rows_of_ranks_are_whole_and_apart() -> None:
    for n_rows in (0, 1, 2, 5, 7, 400):
        for size in (1, 2, 3, 8):
            found = [
                list(range(n_rows))[Ranks(device=CPU, rank=r, size=size).rows(n_rows)] for r in range(size)
            ]
            assert [row for part in found for row in part] == list(range(n_rows))
            chunks = torch.arange(n_rows).chunk(size) if n_rows else ()
            assert [part for part in found if part] == [chunk.tolist() for chunk in chunks]


def test_a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ranks_module.DEVICE, "tpu")
    with pytest.raises(UsageError, match="S7_DEVICE=tpu"):
        ranks_module.local_device()
    monkeypatch.setenv(ranks_module.DEVICE, "cpu")
    assert ranks_module.local_device() == CPU
