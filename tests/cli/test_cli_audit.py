"""`s7 audit`, `s7 lineage` and `s7 diff` as a user meets them: streams, exit
codes, one line per mistake.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from command_line import s7
from sevenfold.runs.job import Job

pytestmark = pytest.mark.subprocess


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("s7: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture(scope="module")
def recipe_file(dense_run: Job) -> Path:
    path = dense_run.recipe_dir / "tiny.yaml"
    path.write_text(yaml.safe_dump(dense_run.recipe.resolved()))
    return path


def test_steps_are_the_same(dense_run: Job) -> None:
    done = s7("audit", dense_run.out, "--steps", "24..30")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        (
            "from train/checkpoint-00000020.safetensors: steps 21..30 executed, 10 steps and 1 trace points"
            " the same"
        ),
        "same bytes: steps 24..30",
    ]
    value = json.loads(s7("audit", dense_run.out, "--steps", "1..2", "--json").stdout)
    assert (value["same"], value["started_from"]) == (True, "seed")


def test_a_difference_is_exit_code_3_and_names_the_step(dense_run: Job, tmp_path: Path) -> None:
    out = Path(shutil.copytree(dense_run.out, tmp_path / "copy"))
    path = out / "train" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[22] = lines[22].replace('"loss":', '"loss":1')
    path.write_text("".join(lines))
    done = s7("audit", out, "--steps", "21..30")
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1] == "differs: train/metrics.jsonl, first step that differs: 23"
    assert "Traceback" not in done.stderr
    done = s7("audit", out, "--steps", "21..30", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["first_step"] == 23


def test_full_is_the_same_and_a_changed_corpus_is_not(
    dense_run: Job, recipe_file: Path, tmp_path: Path
) -> None:
    done = s7("audit", dense_run.out, "--full", "--recipe", recipe_file, "--work", tmp_path / "work")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"same bytes: root {dense_run.manifest('seal').facts['root']}"
    shutil.copytree(dense_run.recipe_dir / "code", tmp_path / "code")
    (tmp_path / "code" / "queue.py").unlink()
    other = Path(shutil.copy(recipe_file, tmp_path / "tiny.yaml"))
    done = s7("audit", dense_run.out, "--full", "--recipe", other, "--work", tmp_path / "other")
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1] == "differs: stage corpus"


@pytest.mark.parametrize("steps", ["5", "9..3", "0..3", "a..b"])
def test_ranges_that_are_none_name_the_allowed_form(steps: str, dense_run: Job) -> None:
    refused(s7("audit", dense_run.out, "--steps", steps), 2, "--steps A..B", steps)


def test_wrong_arguments(dense_run: Job, tmp_path: Path) -> None:
    refused(s7("audit", dense_run.out, "--steps", "30..31"), 2, "beyond the end", "1..30")
    refused(s7("audit", dense_run.out), 2, "--steps A..B", "--full")
    refused(s7("audit", dense_run.out, "--full", "--steps", "1..2"), 2, "--steps A..B", "--full")
    refused(s7("audit", dense_run.out, "--full"), 2, "--recipe", "relative")
    refused(s7("audit", dense_run.out, "--steps", "1..2", "--work", tmp_path), 2, "--work", "--full")
    refused(s7("audit", tmp_path / "none", "--steps", "1..2"), 4, "none", "no such file")
    refused(s7("lineage", tmp_path), 4, "model.s7l")
    refused(s7("diff", dense_run.out, tmp_path / "none.s7l"), 4, "none.s7l")
    text = tmp_path / "text.s7l"
    text.write_text("hello\n")
    refused(s7("diff", dense_run.out, text), 3, "text.s7l")
    refused(s7("lineage", dense_run.out, "--picture", text / "x.svg"), 4, "text.s7l")


def test_lineage_prints_and_draws(dense_run: Job, tmp_path: Path) -> None:
    picture, root = tmp_path / "chain.svg", dense_run.manifest("seal").facts["root"]
    done = s7("lineage", dense_run.out / "model.s7l", "--picture", picture)
    assert done.returncode == 0, done.stderr
    assert root in done.stdout
    assert "PSF-2.0" in done.stdout
    assert root in "".join(ET.parse(picture).getroot().itertext())
    assert json.loads(s7("lineage", dense_run.out, "--json").stdout)["seal"]["root"] == root


def test_diff_says_it_in_the_last_line_and_by_exit_code_when_asked(finished_run: Job, dense_run: Job) -> None:
    done = s7("diff", dense_run.out, finished_run.out, "--exit-code")
    same = finished_run.recipe.name == "tiny-dense"
    assert done.returncode == (0 if same else 3), done.stderr
    assert done.stdout.splitlines()[-1].startswith("same: root" if same else "they differ: ")
    assert s7("diff", dense_run.out, finished_run.out).returncode == 0
    assert json.loads(s7("diff", dense_run.out, finished_run.out, "--json").stdout)["equal"] is same


def test_lineage_and_diff_do_not_need_pytorch(dense_run: Job) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['pyarrow'] = None\n"
        "from sevenfold.cli import app\n"
        "app(sys.argv[1:], standalone_mode=False)"
    )
    for args in (["lineage", dense_run.out], ["diff", dense_run.out, dense_run.out]):
        done = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_killed_the_same_command_goes_on(dense_run: Job, recipe_file: Path, tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    arguments = ["audit", str(dense_run.out), "--full", "--recipe", str(recipe_file)]
    for stop in (signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen(
            [sys.executable, "-m", "sevenfold.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        pattern = "sevenfold/audit-*/train/" + (
            "metrics.jsonl" if stop == signal.SIGINT else "checkpoint-00000020*"
        )
        until = time.monotonic() + 120
        while not list(tmp_path.glob(pattern)) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        process.send_signal(stop)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == (130 if stop == signal.SIGINT else -signal.SIGKILL), stderr
        assert b"Traceback" not in stderr
        assert stdout == b""
    done = s7(*arguments, env=environment)
    assert done.returncode == 0, done.stderr
    assert "audit: goes on in" in done.stderr
    assert "tokenizer: up to date" in done.stderr
    assert "resuming at step" in done.stderr or "train: up to date" in done.stderr
    assert list((tmp_path / "sevenfold").iterdir()) == []


def test_a_step_in_one_file(dense_run: Job, tmp_path: Path) -> None:
    out = tmp_path / "step.s7step"
    done = s7("audit", dense_run.out, "--export-step", "21", out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"written: {out}"
    done = s7("audit", "--check", out)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "yes: step 21 gives what the bundle says")
    data = bytearray(out.read_bytes())
    data[-5] ^= 1
    out.write_bytes(data)
    refused(s7("audit", "--check", out), 3, "its bytes do not have its digest")
    out.write_bytes(data[:-1])
    refused(s7("audit", "--check", out, "--json"), 3, "a damaged step bundle")
    refused(s7("audit", "--check", tmp_path / "none"), 4, "no such file")
    refused(s7("audit", "--check", dense_run.out / "model.s7l"), 3, "a damaged step bundle")


def test_one_thing_at_a_time(dense_run: Job, tmp_path: Path) -> None:
    out = dense_run.out
    refused(s7("audit", out), 2, "one thing at a time")
    refused(s7("audit", out, "--full", "--steps", "1..2"), 2, "one thing at a time")
    refused(s7("audit", out, "--check", tmp_path), 2, "take no RUN")
    refused(s7("audit", "--full"), 2, "take no RUN")
    refused(s7("audit", "--check", tmp_path, "--recipe", "s7/demo-1m"), 2, "--check takes no --recipe")
    refused(s7("audit", out, "--export-step", "0", tmp_path / "x"), 2, "--export-step 0")
    (tmp_path / "x").write_text("mine")
    refused(s7("audit", out, "--export-step", "3", tmp_path / "x"), 4, "no step bundle of s7")


def test_a_dispute_on_the_command_line(dense_run: Job, tmp_path: Path) -> None:
    done = s7("audit", "--dispute", dense_run.out, dense_run.out / "model.s7l")
    assert (done.returncode, done.stdout.splitlines()[-1][:8]) == (0, "nothing:")
    out = Path(shutil.copytree(dense_run.out, tmp_path / "copy"))
    path = out / "train" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[22] = lines[22].replace('"loss":', '"loss":1')
    path.write_text("".join(lines))
    done = s7("audit", "--dispute", dense_run.out, out)
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines()[-1].startswith("step, step 23: from the state after step 20")
    assert done.stdout.splitlines()[-1].endswith("a is upheld")
    assert json.loads(s7("audit", "--dispute", dense_run.out, out, "--json").stdout)["wanted"]
    refused(s7("audit", dense_run.out, "--dispute", out, out), 2, "take no RUN")
    refused(s7("audit", dense_run.out, "--steps", "1..2", "--operators"), 2, "go with --export-step")
