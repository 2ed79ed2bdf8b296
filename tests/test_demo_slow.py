"""demo-1m itself: the quality and the root that it promises; the same root after kills and on one
thread. Minutes each.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sevenfold.artifact import read_artifact, verify
from sevenfold.core.manifest import read_manifest
from sevenfold.engine.session import replay

pytestmark = pytest.mark.slow
DEMO = Path(__file__).resolve().parent.parent / "recipes" / "s7" / "demo-1m.yaml"
# The same shape on text that needs no network.
OFFLINE = DEMO.with_name("stdlib-1m.yaml")


def make(recipe: Path, out: Path, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sevenfold.cli", "make", str(recipe), "--out", str(out)]
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def short_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """stdlib-1m with 40 steps."""
    path = tmp_path_factory.mktemp("recipe") / "short.yaml"
    base = os.path.relpath(OFFLINE, path.parent)
    path.write_text(f"extends: {base}\nname: short\ntrain:\n  tokens: {40 * 4096}\n  checkpoint_every: 5\n")
    return path


@pytest.fixture(scope="module")
def straight(short_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The artifact of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("straight")
    assert make(short_recipe, out).wait(timeout=600) == 0
    return (out / "model.s7l").read_bytes()


def test_demo_learns_and_its_integers_cost_nothing(tmp_path: Path) -> None:
    assert make(DEMO, tmp_path).wait(timeout=2400) == 0
    train, quality = read_manifest(tmp_path / "train"), read_manifest(tmp_path / "quantize")
    assert train is not None
    assert quality is not None
    assert train.facts["heldout_bpb"] <= 1.65
    assert abs(quality.facts["bpb_increase"]) <= 0.002
    assert quality.facts["top1_agreement"] >= 0.975
    assert 800_000 <= train.facts["n_parameters"] <= 1_300_000
    result = verify(read_artifact(tmp_path / "model.s7l"), replay)
    assert [row.status for row in result.rows] == ["pass"] * 8
    assert len(json.loads((tmp_path / "completions.json").read_bytes())) == 3
    assert (tmp_path / "report.html").stat().st_size > 20_000


def test_killed_at_three_random_steps_gives_the_same_artifact(
    short_recipe: Path, straight: bytes, tmp_path: Path
) -> None:
    for _ in range(3):
        process = make(short_recipe, tmp_path)
        metrics = tmp_path / "train" / "metrics.jsonl"
        while not metrics.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(random.uniform(0.5, 6.0))
        process.kill()
        process.wait()
    assert make(short_recipe, tmp_path).wait(timeout=600) == 0
    assert (tmp_path / "model.s7l").read_bytes() == straight


def test_one_thread_gives_the_same_artifact(short_recipe: Path, straight: bytes, tmp_path: Path) -> None:
    assert make(short_recipe, tmp_path, OMP_NUM_THREADS="1").wait(timeout=600) == 0
    assert (tmp_path / "model.s7l").read_bytes() == straight
