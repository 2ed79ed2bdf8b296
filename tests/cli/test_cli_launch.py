"""`s7 launch` as a user meets it: a script on standard output, JSON, refusals of one line."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sevenfold.cli import app


def s7(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["launch", *words])
    return done.exit_code, done.stdout, done.stderr


def test_a_script_and_the_same_as_json() -> None:
    words = ("s7/moe-140m", "--nodes", "2", "--gpus", "4", "--slurm", "--out", "out/my moe")
    code, script, _ = s7(*words)
    assert code == 0
    assert script.startswith("#!/usr/bin/env bash\n")
    assert script.count("sbatch") == 7  # token files, trunk, four experts, join
    code, text, _ = s7(*words, "--json")
    value = json.loads(text)
    assert value["script"] == script
    trunk = next(step for step in value["steps"] if step["name"] == "trunk")
    assert (trunk["ranks"], trunk["needs"]) == (8, ["prepare"])
    assert trunk["hours"] > 0
    assert trunk["memory"] > 1e9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("slm/2b", "--gpus", "8"), "it does with train.micro_batch_sequences"),
        (("s7/moe-140m", "--nodes", "2"), "--slurm"),
        (("s7/none",), "s7/none"),
    ],
)
def test_a_refusal_is_one_line_with_a_remedy(words: tuple[str, ...], said: str) -> None:
    code, script, line = s7(*words, "--out", "out/x")
    assert code in (2, 4)
    assert script == ""
    assert line.startswith("s7: ")
    assert said in line
    assert line.count("\n") == 1
